"""What an evaluation found, and what it comes to: the types that evaluating fills and that the report shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from homing.data import Dataset, Floats, Ints

Outcome = Literal["gained", "lost", "mixed", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval (percentile bootstrap over queries); `low` and `high` are NaN where none was computed."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one model did on dev and test.

    Shapes: `dev_scores` (judgments of dev.qrels,) and `test_scores` (judgments of test.qrels,): cosine or inner product of every judged
    (query, candidate) in the order of the qrels' columns. `queries` (queries,): the test queries with a relevant document, the rows of
    each array in `per_query` (keys `nDCG@10`, `R@10`, `R@100`, `RR@10` over the whole corpus; `list nDCG`, `list RR` over the judged list).
    `measures`: the same names averaged, and `AP`, `ROC AUC` over all judged test pairs, `F1`, `precision`, `recall` at `threshold`.
    `threshold` maximises F1 on dev; it and `F1` are absent (None, no key) where dev or test holds no judged non-relevant pair.
    `curve` maps a grid of thresholds to (F1 on test), shapes (grid,) and (grid,).
    """

    name: str
    digest: str
    prompts: dict[str, str]
    dev: Dataset
    test: Dataset
    dev_scores: Floats
    test_scores: Floats
    queries: Ints
    per_query: dict[str, Floats]
    measures: dict[str, Interval]
    threshold: float | None
    dev_f1: float | None
    curve: tuple[Floats, Floats]
    seconds: float


@dataclass(frozen=True)
class Difference:
    """A model against the first one: `measures` maps nDCG@10, AP, F1 to the paired difference."""

    name: str
    against: str
    measures: dict[str, Interval]


@dataclass(frozen=True)
class Verdict:
    """The comparison in one word, one sentence, and the numbers behind it."""

    outcome: Outcome
    sentence: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()
