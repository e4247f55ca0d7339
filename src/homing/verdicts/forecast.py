"""What more judgments would bring: a power law through trainings on shares of them, with the test set's uncertainty carried along."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from homing.data import Floats
from homing.measures.evaluations import Interval
from homing.measures.significance import percentile_interval
from homing.verdicts.context import Forecast

FACTORS = (2.0, 4.0)
LEAST_ERROR = 1e-6


def forecast(measure: str, queries: NDArray[np.integer], values: Floats, drawn: Floats, groups: int) -> list[Forecast]:
    """The gain that `FACTORS` times the training queries would bring over all of today's; none where the last point has less than twice
    as many as the first.

    The error 1 - value is taken for a power of the queries, 1 - value = exp(a) queries^b, fitted by least squares to the logarithms
    (Hestness et al. 2017, arXiv 1712.00409; Viering and Loog 2023, The Shape of Learning Curves, find power laws to fit best). The same is
    done for each resample of the test set. What the interval leaves out: that the curve may have another shape, and the trainings' seeds.

    Shapes: `queries` (points,), `values` (points,), at the most 1, `drawn` (resamples, points): the same
    points under each resample of the test set, from so many `groups`.
    """
    if queries[-1] < 2 * queries[0]:
        return []
    slope, level = _fit(queries, values[None])
    slopes, levels = _fit(queries, drawn)
    found = []
    for factor in FACTORS:
        low, high = percentile_interval(_gain(slopes, levels, float(queries[-1]), factor), groups)
        value = float(_gain(slope, level, float(queries[-1]), factor)[0])
        found.append(Forecast(measure, factor, Interval(value, low, high), bool(low > 0)))
    return found


def _fit(queries: NDArray[np.integer], values: Floats) -> tuple[Floats, Floats]:
    """Slope and level of each row's line through (log queries, log error); shapes (rows,)."""
    at = np.log(queries.astype(np.float64))
    error = np.log(np.maximum(1.0 - values, LEAST_ERROR))
    centred = at - at.mean()
    slope: Floats = (error @ centred) / (centred @ centred)
    return slope, error.mean(axis=1) - slope * at.mean()


def _gain(slope: Floats, level: Floats, queries: float, factor: float) -> Floats:
    now, then = (np.exp(level + slope * np.log(each)) for each in (queries, factor * queries))
    gain: Floats = now - then
    return gain
