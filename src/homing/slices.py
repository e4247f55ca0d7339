"""Where a model gained and where it got worse: test queries by length, language, positives, words in common."""

from __future__ import annotations

from dataclasses import dataclass

from homing.data import Ints
from homing.evaluations import Interval


@dataclass(frozen=True, eq=False)
class Slice:
    """Some of the test queries: what they have in common, and what a model gained on them over another.

    `by` names the property, `label` its value or range. `queries`, shape (queries,), are their positions; `difference` is that of
    `measure`, paired, of the last model against the first. `worse`: its interval lies below 0, Holm-adjusted over all slices.
    """

    by: str
    label: str
    queries: Ints
    measure: str
    before: float
    after: float
    difference: Interval
    worse: bool = False
