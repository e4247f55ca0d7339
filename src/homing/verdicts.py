"""What evaluations come to: the last model against the first and against the best that needs no training, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from homing.causes import Cause
from homing.context import Context
from homing.data import Floats
from homing.evaluations import Evaluation, Interval
from homing.measures import average_precision
from homing.significance import percentile_interval, resample
from homing.slices import Slice
from homing.thresholds import f1

__all__ = [
    "Action",
    "Cause",
    "Context",
    "Difference",
    "Evaluation",
    "Interval",
    "Outcome",
    "Power",
    "Slice",
    "Verdict",
    "compare",
    "interval",
    "samples",
]

Outcome = Literal["gained", "lost", "mixed", "undecided"]


@dataclass(frozen=True)
class Difference:
    """A model against another: `measures` maps nDCG@10, AP, F1 to the paired difference.

    `p_values` holds, for nDCG@10 and AP, the p-value of the paired randomisation test by group, `adjusted` the same after Holm's
    adjustment over all models of the verdict. `borrowed` is the F1 that the model has at the threshold of the other one: what a service
    gets that keeps its old threshold.
    """

    name: str
    against: str
    measures: dict[str, Interval]
    p_values: Mapping[str, float] = field(default_factory=dict)
    adjusted: Mapping[str, float] = field(default_factory=dict)
    borrowed: float | None = None


@dataclass(frozen=True)
class Power:
    """What this test set can tell of `measure`: `detectable` is the smallest true difference that it would show in four of five draws.

    `worthwhile`: the difference that the user names as worth having; `needed`: the test queries that would show it as surely, where
    groups stay as large as they are. `units` are groups of queries.
    """

    measure: str
    queries: int
    units: int
    detectable: float
    worthwhile: float
    needed: int


Action = Literal["deploy", "keep the base", "label more"]


@dataclass(frozen=True)
class Verdict:
    """The comparison in one word, one sentence, one action, and the numbers behind it.

    `differences`: each model against the first; `untrained`: the last model against the best that needs no training (the base, BM25,
    or both fused), None where that is the first model alone. `causes`, the likeliest first, are there where nothing was gained.
    `ranked`: whether nDCG@10 may rank the models (not where Judged@10 differs by more than .05). `deployed`: the last model against the
    one named `deployed`, where that was measured. `context`: what the run measured beside its test set.
    """

    outcome: Outcome
    sentence: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()
    action: Action = "keep the base"
    untrained: Difference | None = None
    deployed: Difference | None = None
    causes: tuple[Cause, ...] = ()
    power: Power | None = None
    slices: tuple[Slice, ...] = ()
    ranked: bool = True
    context: Context = field(default_factory=Context)


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
