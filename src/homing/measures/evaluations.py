"""What an evaluation found: the types that evaluating fills and that verdicts and reports read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from homing.data import Dataset, Floats, Ints, Run
from homing.measures.calibration import Reliability
from homing.measures.decision import Decision
from homing.measures.thresholds import NAMED, cosines, f1_curve


def fusion(name: str) -> str:
    """What a model's run fused with BM25's is called."""
    return f"{name} + BM25"


def same_test(first: Evaluation, other: Evaluation) -> bool:
    """Whether two evaluations judged the same pairs in the same way over the same corpus."""
    a, b = first.test, other.test
    same = all(np.array_equal(getattr(a.qrels, name), getattr(b.qrels, name)) for name in ("query", "document", "relevance"))
    return same and all((one.ids, one.texts) == (other.ids, other.texts) for one, other in ((a.queries, b.queries), (a.corpus, b.corpus)))


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval (percentile bootstrap over groups of queries); `low` and `high` are NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    @classmethod
    def of(cls, plain: Mapping[str, float | None]) -> Interval:
        """An interval from its numbers by name, as JSON has them: None for what is no number."""
        return cls(**{name: float("nan") if number is None else float(number) for name, number in plain.items()})

    @property
    def signed(self) -> str:
        """A difference as a sentence has it: `+0.0100 [+0.0010, +0.0190]`, the value alone where there is no interval."""
        return f"{self.value:+z.4f}" + ("" if math.isnan(self.low) else f" [{self.low:+z.4f}, {self.high:+z.4f}]")


@dataclass(frozen=True)
class Returned:
    """How many documents of the whole corpus a test query gets back at a threshold: mean, quantiles, and the share that gets none."""

    threshold: float
    mean: float
    median: float
    p90: float
    nothing: float


@dataclass(frozen=True)
class Trade:
    """Precision at a wanted recall, or the reverse: the threshold reaches `level` of `wanted` on dev; what it gives on test."""

    wanted: Literal["precision", "recall"]
    level: float
    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Background:
    """Deciding after a query's background (the mean score of its `neighbours` nearest documents) is taken off its scores.

    `threshold` is chosen on dev, where it reaches `dev_f1`, and without the offset `dev_f1_without`. `helps`: whether that is a gain
    beyond its standard error on dev. `f1` is that of test.
    """

    neighbours: int
    threshold: float
    dev_f1: float
    dev_f1_without: float
    helps: bool
    f1: Interval


@dataclass(frozen=True, repr=False)
class Speed:
    """What encoding took. `kept`: embeddings were there from before, so that the seconds are not those of encoding."""

    documents: int
    document_seconds: float
    queries: int
    query_seconds: float
    dimension: int
    kept: bool = False


Row = Literal["model", "bm25", "fused"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one model (or BM25, or a model fused with it: `kind`) did on dev and test.

    Shapes: `dev_scores` (judgments of dev.qrels,) and `test_scores` (judgments of test.qrels,): cosine or inner product of every judged
    (query, candidate) in the order of the qrels' columns; NaN throughout where pairs have no score of their own (`fused`). `queries`
    (queries,): the test queries with a relevant document, the rows of each array in `per_query` (measures as ir_measures names them over
    the whole corpus, and `list nDCG`, `list RR`, `list F1` over the judged list). `measures`: the same names averaged, and over all
    judged test pairs pooled `AP`, `ROC AUC`, and `F1`, `precision`, `recall` at `threshold`; over the retrieved top k `retrieval F1`,
    `retrieval precision`, `retrieval recall` at the threshold that dev chose for a retrieval.

    `threshold` is what dev chose (`thresholds.bagged_threshold`), and `dev_f1` the F1 that it has there; they and `F1` are absent (None, no
    key) where dev or test holds no judged non-relevant pair. `test_best` is the threshold and F1 that test itself would have chosen.
    `curve` maps a grid of thresholds to (F1 on test), shapes (grid,) and (grid,). `groups`, shape (judged test queries,): what is drawn
    together, in the order of test.qrels.queries.
    `found` is the retrieval behind the measures, its rows those of `queries`. `decision` is what goes into the model's directory,
    `reliability` its calibration on test. `bare`: measures of queries sent without their prompt. `cost`: what an endpoint counted.
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
    kind: Row = "model"
    groups: Ints | None = None
    found: Run | None = None
    decision: Decision | None = None
    test_best: tuple[float, float] | None = None
    reliability: Reliability | None = None
    trades: tuple[Trade, ...] = ()
    returned: Mapping[str, Returned] = field(default_factory=dict)
    background: Background | None = None
    bare: Mapping[str, Interval] = field(default_factory=dict)
    speed: Speed | None = None
    cost: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {self.measures[name].value:.4f}" for name in ("nDCG@10", "AP", "F1") if name in self.measures)
        return f"Evaluation({self.name!r}, {len(self.queries):,} test queries: {shown})"

    @property
    def relevant(self) -> NDArray[np.bool_]:
        """Whether each judged test pair is relevant, shape (judgments,)."""
        return np.asarray(self.test.qrels.relevance > 0)

    @property
    def has_scores(self) -> bool:
        """Whether judged pairs have scores of their own."""
        return bool(np.isfinite(self.test_scores).all())

    @property
    def decidable(self) -> bool:
        """Whether there is a threshold to speak of: judged test pairs of both kinds, with scores."""
        return bool(self.relevant.any() and not self.relevant.all() and self.has_scores)

    @property
    def f1_at(self) -> dict[float, float]:
        """F1 on test at each of the `NAMED` thresholds, which are cosines. Empty for other scores, and where nothing is decidable."""
        if self.kind != "model" or not self.decidable or not cosines(self.test_scores):
            return {}
        return {at: self.f1_under(at) for at in NAMED}

    def f1_under(self, threshold: float) -> float:
        """F1 on test where every pair that scores so much, or more, is called relevant."""
        return float(f1_curve(self.test_scores, self.relevant, np.array([threshold]))[0])
