"""The variation between trainings, put into an interval: seeds and groups of test queries are both drawn."""

from __future__ import annotations

import numpy as np

from homing.data import Floats
from homing.measures.evaluations import Interval
from homing.measures.significance import percentile_interval, resample


def over_seeds(values: Floats, drawn: Floats, groups: int, seed: int) -> Interval:
    """The mean over seeds, with an interval over seeds and test queries.

    Each resample draws groups of queries (`drawn`, done already) and, independently of them, seeds: every model answers every query, so
    that the two are crossed (the pigeonhole bootstrap, Owen 2007, Annals of Applied Statistics 1(2)). Drawn from n seeds, their mean
    varies by (n - 1) / n of what it should; with the two or three that one can pay for that matters, so that the drawn seeds' distance to
    the mean is stretched by sqrt(n / (n - 1)) (Davison and Hinkley 1997, Bootstrap Methods, 3.8).

    Shapes: `values` (seeds,), `drawn` (resamples, seeds), each seed's value under the same draws of queries, from so many
    `groups`. At least two seeds.
    """
    if not len(drawn):
        return Interval(float(values.mean()))
    seeds = len(values)
    shares = resample(seeds, len(drawn), seed) / seeds
    mean = drawn.mean(axis=1)
    stretched = mean + np.sqrt(seeds / (seeds - 1)) * ((shares * drawn).sum(axis=1) - mean)
    return Interval(float(values.mean()), *percentile_interval(stretched, groups))
