"""Could the difference be chance? Intervals, tests and power, by groups of queries: what hangs together is drawn, or swapped, together.

Queries that share a document or nearly their text are not independent; to draw them singly would make intervals too narrow. Tests compare
with scipy.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from homing.data import Floats, Ints
from homing.measures.formulas import average_precision_of_counts

LEAST_GROUPS = 6  # with fewer, even the rarest of 2**groups signs is too common for a test at 5 %, and an interval is too narrow
POWER = 0.8
_BLOCK = 1 << 20  # numbers at once, so that they stay near the processor


def resample(units: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    """How often each unit (group of queries) is drawn in each resample; shape (resamples, units), every row sums to `units`.

    Source: Efron 1979; for retrieval, Sakai 2006; by clusters, Field and Welsh 2007.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // max(units, 1))
    share = np.full(units, 1.0 / units)
    blocks = [generator.multinomial(units, share, min(rows, resamples - at)).astype(np.uint16) for at in range(0, resamples, rows)]
    return np.concatenate(blocks)


def totals(weights: NDArray[Any], values: NDArray[Any]) -> Floats:
    """`weights` @ `values` in double precision, so many rows at a time that a copy of the weights in that precision never stands whole.

    Shapes: `weights` (draws, units), `values` (units,) or (units, columns); returns (draws,) or (draws, columns). A column's totals do not
    depend on the others.
    """
    columns = [np.ascontiguousarray(column, dtype=np.float64) for column in (values.T if values.ndim > 1 else values[None])]
    found, rows = np.empty((len(weights), len(columns))), max(1, _BLOCK // max(weights.shape[1], 1))
    for at in range(0, len(weights), rows):
        some = weights[at : at + rows].astype(np.float64)
        for place, column in enumerate(columns):
            found[at : at + rows, place] = some @ column
    return found if values.ndim > 1 else found[:, 0]


def percentile_interval(values: Floats, units: int) -> tuple[float, float]:
    """The 95 % interval of a value from its resamples, NaN left out; NaN twice where nothing is left, and for too few units.

    `units`: how many were drawn from. Resamples of n vary by (n - 1) / n of what they should, and n values tell roughly how far values
    vary. So more than the middle 95 % of a few units' resamples is taken, as Student's t takes more than the normal distribution. Source:
    Hesterberg 2015, What Teachers Should Know about the Bootstrap (the expanded percentile interval).
    """
    from scipy.special import ndtr, stdtrit

    values = values[~np.isnan(values)]
    if not len(values) or units < LEAST_GROUPS:
        return float("nan"), float("nan")
    outside = ndtr(stdtrit(units - 1, 0.025) * math.sqrt(units / (units - 1)))
    low, high = np.quantile(values, [outside, 1 - outside])
    return float(low), float(high)


def signs(units: int, resamples: int, seed: int) -> NDArray[np.bool_]:
    """Whether each unit's two models are swapped, in each draw; shape (resamples, units)."""
    bits = np.random.default_rng(seed).integers(0, 256, (resamples, (units + 7) // 8), dtype=np.uint8)
    return np.unpackbits(bits, axis=1, count=units).astype(bool)


def randomisation_p(swaps: NDArray[np.bool_], difference: Floats, unit: Ints) -> float:
    """The two-sided p-value of a mean paired difference: how often swapping the two models of units at random gives one as large.

    Shapes: `swaps` (resamples, units), `difference` and `unit` (queries,). The observed arrangement counts as one of them, so that p is
    never 0. Source: Fisher 1935; for retrieval, Smucker, Allan and Carterette 2007.
    """
    sums = np.bincount(unit, difference, swaps.shape[1])
    drawn = sums.sum() - 2 * totals(swaps, sums)
    return _share_as_large(drawn, float(sums.sum()))


def randomisation_p_of_ap(swaps: NDArray[np.bool_], scores: Floats, others: Floats, relevant: NDArray[np.bool_], unit: Ints) -> float:
    """The same for the difference in average precision of pooled pairs; shapes (pairs,), `swaps` (resamples, units).

    Scores of two models have different scales, so that it is the ranks among all pairs that are swapped: a model's own AP does not
    change by that.
    """
    ranks = _ranks(scores), _ranks(others)
    steps = np.unique(np.concatenate([each[relevant] for each in ranks]))  # where precision counts, under either model
    places: list[NDArray[np.intp]] = [np.searchsorted(steps, each) for each in ranks]

    def counts(some: NDArray[np.bool_]) -> tuple[csr_array, Floats]:
        """How many of some pairs a swap of each unit brings to each step, and how many are there without, under each model."""
        step, owner = np.concatenate((places[1][some], places[0][some])), np.tile(unit[some], 2)
        sign = np.repeat([1.0, -1.0], some.sum())
        kept: NDArray[np.bool_] = step < len(steps)
        moved = csr_array((sign[kept], (step[kept], owner[kept])), shape=(len(steps), swaps.shape[1]))
        return moved, np.stack([np.bincount(each[some], minlength=len(steps) + 1)[:-1] for each in places], axis=1).astype(np.float64)

    sides = [counts(some) for some in (relevant, np.ones(len(relevant), dtype=bool))]
    drawn, block = np.empty(len(swaps)), max(4, _BLOCK // max(len(steps), swaps.shape[1]))
    for at in range(0, len(swaps), block):
        swapped = np.ascontiguousarray(swaps[at : at + block].T, dtype=np.float64)
        moves = [moved @ swapped for moved, _ in sides]
        one, other = (
            average_precision_of_counts(*(there[:, [model]] + sign * move for (_, there), move in zip(sides, moves, strict=True)))
            for model, sign in ((0, 1), (1, -1))
        )
        drawn[at : at + block] = one - other
    one, other = (average_precision_of_counts(*(there[:, [model]] for _, there in sides)) for model in (0, 1))
    return _share_as_large(drawn, float((one - other)[0]))


def _share_as_large(drawn: Floats, observed: float) -> float:
    return float((1 + (np.abs(drawn) >= abs(observed) - 1e-12 * max(1.0, abs(observed))).sum()) / (len(drawn) + 1))


def _ranks(scores: Floats) -> NDArray[np.int64]:
    """The place of each score from the best, equal ones at the last of theirs; shape (pairs,)."""
    ascending = np.sort(scores)
    places: NDArray[np.int64] = len(scores) - 1 - np.searchsorted(ascending, scores, side="left")
    return places


def holm(p_values: Mapping[Any, float]) -> dict[Any, float]:
    """Each p-value adjusted so that the chance of one false finding among them all stays below the level. Source: Holm 1979."""
    adjusted: dict[Any, float] = {}
    highest = 0.0
    for place, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        highest = max(highest, min(1.0, p_values[key] * (len(p_values) - place)))
        adjusted[key] = highest
    return {key: adjusted[key] for key in p_values}


def detectable(error: float, groups: int) -> float:
    """The smallest true difference that a two-sided t-test at 5 % on another such test set finds with the chance POWER.

    `error`: its standard error, as so many groups tell it: the fewer, the more roughly, and the larger is the quantile that the other test
    set is to exceed. Both together make it a noncentral t. Source: Cohen 1988; Johnson and Welch 1940, on the noncentral t.
    """
    from scipy.special import nctdtrit, stdtrit

    return float(nctdtrit(groups - 1, stdtrit(groups - 1, 0.975), POWER) * error)


def needed(queries: int, error: float, groups: int, worthwhile: float) -> int:
    """How many queries would find a difference of `worthwhile`, where groups stay as large as they are.

    The error falls with the root of the number of groups. Source: Sakai 2016, Topic set size design, for the paired t-test.
    """
    enough = bisect_left(
        range(LEAST_GROUPS, 1 << 40), True, key=lambda count: detectable(error * math.sqrt(groups / count), count) <= worthwhile
    )
    return math.ceil(queries * (LEAST_GROUPS + enough) / groups)
