"""What an evaluation found, and what it comes to: the types that evaluating fills and that the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from homing.data import Dataset, Floats, Ints
from homing.measures import average_precision
from homing.significance import percentile_interval, resample
from homing.thresholds import f1

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


LABELS = {"nDCG@10": "nDCG@10 over the corpus", "AP": "AP over judged pairs", "F1": "F1 at the dev-chosen threshold"}
DECISIVE = ("nDCG@10", "AP")
BLOCK = 64


def samples(evaluation: Evaluation, draws: Floats) -> dict[str, tuple[float, Floats]]:
    """Each compared measure with its value and its bootstrap values; `draws` (resamples, judged test queries) is shared by all models.

    The threshold stays the one that dev chose. Measures that dev or test cannot give (no judged non-relevant pair) are left out.
    """
    qrels = evaluation.test.qrels
    judged = qrels.queries
    place = np.searchsorted(judged, evaluation.queries)
    counts = draws[:, place]
    drawn = counts.sum(axis=1)
    found: dict[str, tuple[float, Floats]] = {}
    for name, values in evaluation.per_query.items():
        means = np.divide(counts @ values, drawn, out=np.full(len(draws), np.nan), where=drawn > 0)
        found[name] = float(values.mean()), means
    relevant = qrels.relevance > 0
    if relevant.all():
        return found
    owner = np.searchsorted(judged, qrels.query)
    scores = evaluation.test_scores
    resampled = [average_precision(scores, relevant, draws[at : at + BLOCK][:, owner]) for at in range(0, len(draws), BLOCK)]
    found["AP"] = float(average_precision(scores, relevant)[0]), np.concatenate(resampled)
    if evaluation.threshold is not None:
        called = scores >= evaluation.threshold
        hits, calls, relevants = (np.bincount(owner, part, len(judged)) for part in (called & relevant, called, relevant))
        found["F1"] = float(f1(hits.sum(), calls.sum(), relevants.sum())), f1(draws @ hits, draws @ calls, draws @ relevants)
        for name, total in (("precision", calls), ("recall", relevants)):
            of = draws @ total
            values = np.divide(draws @ hits, of, out=np.full(len(draws), np.nan), where=of > 0)
            found[name] = float(hits.sum() / total.sum()) if total.sum() else float("nan"), values
    return found


def interval(value: float, values: Floats) -> Interval:
    """A value with the percentile interval of its resampled values."""
    return Interval(value, *percentile_interval(values))


def compare(evaluations: Sequence[Evaluation], resamples: int = 1000, seed: int = 42) -> Verdict:
    """The verdict on the last model against the first, and the paired difference of every model against the first.

    *gained*: the intervals of both nDCG@10 and AP lie above 0 (nDCG@10 alone, where no non-relevant pair is judged); *lost*: one lies
    below 0 and none above; *mixed*: one above, one below; *undecided*: anything else. F1 is shown, but doesn't decide.
    """
    first, last = evaluations[0], evaluations[-1]
    draws = resample(len(first.test.qrels.queries), resamples, seed)
    base = samples(first, draws)
    differences = []
    for other in evaluations[1:]:
        its = samples(other, draws)
        measures = {
            name: interval(its[name][0] - base[name][0], its[name][1] - base[name][1]) for name in LABELS if name in its and name in base
        }
        differences.append(Difference(other.name, first.name, measures))
    if not differences:
        return Verdict("undecided", f"{first.name} alone was measured: there is nothing to compare it with.", ())
    decisive = [differences[-1].measures[name] for name in DECISIVE if name in differences[-1].measures]
    above, below = [each.low > 0 for each in decisive], [each.high < 0 for each in decisive]
    outcome: Outcome = "undecided"
    if all(above):
        outcome = "gained"
    elif any(above) and any(below):
        outcome = "mixed"
    elif any(below):
        outcome = "lost"
    return Verdict(outcome, _sentence(outcome, first, last, differences[-1]), tuple(differences), _notes(evaluations))


def _sentence(outcome: Outcome, first: Evaluation, last: Evaluation, difference: Difference) -> str:
    figures = ", ".join(
        f"{name} {first.measures[name].value:.4f} to {last.measures[name].value:.4f} "
        f"({gain.value:+.4f}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f})"
        for name, gain in difference.measures.items()
        if name in DECISIVE
    )
    openings = {
        "gained": f"{last.name} is better than {first.name}",
        "lost": f"{last.name} is worse than {first.name}, keep {first.name}",
        "mixed": f"{last.name} is better than {first.name} in one measure and worse in another",
        "undecided": f"These test queries do not show that {last.name} is better than {first.name}",
    }
    return f"{openings[outcome]}: {figures}; {len(last.queries):,} test queries."


def _notes(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    last = evaluations[-1]
    qrels = last.test.qrels
    notes = [
        "Retrieval is over a closed pool: every document of the data; an unjudged one counts as not relevant.",
        "The intervals resample test queries; another training seed would add to them.",
    ]
    without = len(qrels.queries) - len(last.queries)
    if without:
        notes.append(f"{without} test queries have no relevant document: they count in F1 and AP, not in the rankings.")
    if last.threshold is None:
        notes.append("No non-relevant pair is judged in dev or in test: there is no AP and no F1.")
    if len(last.queries) < 100:
        notes.append(f"Only {len(last.queries)} test queries: small differences cannot be seen.")
    return tuple(notes)
