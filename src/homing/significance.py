"""Intervals by the paired bootstrap: queries are drawn with replacement, the same draws for every model."""

from __future__ import annotations

import numpy as np

from homing.data import Floats


def resample(units: int, resamples: int, seed: int) -> Floats:
    """How often each unit (query) is drawn in each resample; shape (resamples, units), every row sums to `units`.

    Source: Efron 1979; for retrieval, Sakai 2006.
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(units, np.full(units, 1.0 / units), size=resamples).astype(np.float64)


def percentile_interval(values: Floats) -> tuple[float, float]:
    """The middle 95 % of resampled values, NaN left out; NaN twice where nothing is left."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
