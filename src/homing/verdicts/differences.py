"""One model against another, measured on the same queries: paired differences, and what such queries can tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from homing.data import Floats
from homing.errors import SettingError
from homing.measures.evaluations import Evaluation, Interval, same_test
from homing.measures.resampling import Draws, draw, independent, interval, samples, units
from homing.measures.significance import LEAST_GROUPS, detectable, holm, needed, randomisation_p, randomisation_p_of_ap, signs
from homing.measures.thresholds import f1

DECISIVE = ("nDCG@10", "AP")
JUDGED_ONLY = "nDCG(judged_only=True)@10"
COMPARED = (*DECISIVE, "F1", JUDGED_ONLY)
LEVEL = 0.05
_NOISE = 1e-9  # a standard error below it is rounding
_JUDGED_APART = 0.05  # Judged@10 of two models may differ by so much


@dataclass(frozen=True)
class Difference:
    """A model against another: `measures` maps nDCG@10, AP, F1 to the paired difference, and where Judged@10 of the two is too different
    also nDCG@10 over judged documents alone.

    `p_values` holds, for the same without F1, the p-value of the paired randomisation test by group, `adjusted` the same after Holm's
    adjustment over all models of the verdict. `borrowed` is the F1 that the model has at the threshold of the other one: what a service
    gets that keeps its old threshold. `of_seeds`, where the training was done under several seeds: the same differences of their mean, with
    the variation between seeds in the intervals; `measures` and p-values are those of the one model.
    """

    name: str
    against: str
    measures: dict[str, Interval]
    p_values: Mapping[str, float] = field(default_factory=dict)
    adjusted: Mapping[str, float] = field(default_factory=dict)
    borrowed: float | None = None
    of_seeds: Mapping[str, Interval] = field(default_factory=dict)

    def sign(self, measure: str) -> int:
        """1 where the model is clearly better, -1 where it is clearly worse, else 0.

        Clearly: the interval leaves out 0, where it was tested, so does the test at 5 %, and where there are several seeds, so does the
        interval of their mean, on the same side.
        """
        if measure not in self.measures or not self.adjusted.get(measure, 0.0) < LEVEL:
            return 0
        found = [each[measure] for each in (self.measures, self.of_seeds) if measure in each]
        return all(each.low > 0 for each in found) - all(each.high < 0 for each in found)

    def doubt(self, measure: str) -> float | None:
        """The p-value where the interval leaves out 0 and the test does not bear it out, so that it is not clear; else None."""
        found, p = self.measures[measure], self.adjusted.get(measure)
        return p if (found.low > 0 or found.high < 0) and p is not None and p >= LEVEL else None


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


class Comparison:
    """Evaluations of one test set under the same draws. Raises SettingError where they are of several, or two have one name."""

    def __init__(self, evaluations: Sequence[Evaluation], resamples: int, seed: int) -> None:
        names = [each.name for each in evaluations]
        if len(set(names)) < len(names):
            raise SettingError(
                "two evaluations have the same name", got=", ".join(names),
                remedy="Give one of them another: Model(..., name=...), or dataclasses.replace(evaluation, name=...).",
            )  # fmt: skip
        if other := next((each for each in evaluations if not same_test(evaluations[0], each)), None):
            raise SettingError(
                "the evaluations are of different test sets", got=f"{evaluations[0].name} and {other.name}",
                remedy="Evaluate the models together: homing.evaluate([...], dev, test).",
            )  # fmt: skip
        self.draws: Draws = draw(evaluations[0], resamples, seed)
        self.samples = {each.name: samples(each, self.draws) for each in evaluations}
        first = evaluations[0]
        judged = first.test.qrels.queries
        self.unit = units(first.groups, len(judged))
        self.of_query = self.unit[np.searchsorted(judged, first.queries)]
        self.of_pair = self.unit[np.searchsorted(judged, first.test.qrels.query)]
        self.swaps = signs(self.draws.shape[1], resamples, seed)

    def gain(self, other: Evaluation, first: Evaluation, measure: str) -> Floats:
        """The difference in a measure under each draw, the one of the test set first; shape (draws,)."""
        return np.asarray(self.samples[other.name][measure] - self.samples[first.name][measure])

    def difference(self, other: Evaluation, first: Evaluation, *, tested: bool = True) -> Difference:
        shared = [name for name in COMPARED if name in self.samples[other.name] and name in self.samples[first.name]]
        scored = other.has_scores and first.has_scores  # of a fusion it is that of its first ranks, where --measures names it
        if judged_alike(other, first) or not scored:
            shared = [name for name in shared if name != JUDGED_ONLY]
        p_values = {}
        for name in ("nDCG@10", JUDGED_ONLY):
            if tested and name in shared:
                p_values[name] = randomisation_p(self.swaps, other.per_query[name] - first.per_query[name], self.of_query)
        if tested and "AP" in shared:
            p_values["AP"] = randomisation_p_of_ap(self.swaps, other.test_scores, first.test_scores, other.relevant, self.of_pair)
        borrowed = None
        if first.threshold is not None and other.has_scores and other.kind == first.kind:
            called, relevant = other.test_scores >= first.threshold, other.relevant
            borrowed = float(f1((called & relevant).sum(), called.sum(), relevant.sum()))
        measures = {name: interval(self.gain(other, first, name), independent(first)) for name in shared}
        return Difference(other.name, first.name, measures, p_values, dict(p_values), borrowed)

    def power(self, other: Evaluation, first: Evaluation, worthwhile: float) -> Power | None:
        """None where the two models ranked every query alike, or where there are too few groups to tell how differences vary."""
        drawn, groups = self.gain(other, first, "nDCG@10")[1:], independent(first)
        if groups < LEAST_GROUPS or not (error := float(np.std(drawn, ddof=1))) > _NOISE:
            return None
        queries = len(first.queries)
        error *= math.sqrt(groups / (groups - 1))  # resamples of n vary by (n - 1) / n of what they should
        more = needed(queries, error, groups, worthwhile)
        return Power("nDCG@10", queries, groups, detectable(error, groups), worthwhile, more)


def adjusted(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Holm's adjustment over the models, measure by measure."""
    by_measure = {name: holm({each.name: each.p_values[name] for each in differences if name in each.p_values}) for name in COMPARED}
    return tuple(replace(each, adjusted={name: by_measure[name][each.name] for name in each.p_values}) for each in differences)


def value(evaluation: Evaluation, measure: str) -> float:
    return evaluation.measures[measure].value if measure in evaluation.measures else float("nan")


def judged_alike(one: Evaluation, other: Evaluation) -> bool:
    """Whether about the same share is judged of what the two find among the first ten, or of the ten places.

    A model that finds fewer than ten documents, as BM25 does where few share a word with a short query, has a larger share of fewer: where
    as many are judged of both, nobody's judgments favour it.
    """
    found, of_ten = value(one, "Judged@10") - value(other, "Judged@10"), _unfilled(one) - _unfilled(other)
    return not min(abs(found), abs(found - of_ten)) > _JUDGED_APART


def _unfilled(evaluation: Evaluation) -> float:
    """By how much Judged@10 would be lower, if the places where nothing was found counted as not judged."""
    if evaluation.found is None or "Judged@10" not in evaluation.per_query:
        return 0.0
    empty = 1 - (evaluation.found.document[:, :10] >= 0).sum(axis=1) / 10
    return float((evaluation.per_query["Judged@10"] * empty).mean())


def ranks(difference: Difference, one: Evaluation, other: Evaluation) -> bool:
    """Whether nDCG@10 may rank the two: they are judged alike, or it clearly says the same whatever the unjudged documents are worth."""
    return judged_alike(one, other) or difference.sign("nDCG@10") == difference.sign(JUDGED_ONLY) != 0


def same(one: Evaluation, other: Evaluation) -> bool:
    """Whether two models score every judged test pair alike, as one and the same does, and find the same."""
    return np.array_equal(one.test_scores, other.test_scores) and np.array_equal(one.per_query["nDCG@10"], other.per_query["nDCG@10"])


def one_of_two(difference: Difference, ranked: bool) -> tuple[str, str] | None:
    """The one decisive measure that is clearly better, and the other one, which is not shown to be; None where it is both or neither."""
    better = [name for name in DECISIVE if name in difference.measures and difference.sign(name) == 1 and (ranked or name == "AP")]
    other = [name for name in DECISIVE if name in difference.measures and name not in better]
    return (better[0], other[0]) if better and other else None


def standing(difference: Difference, one: Evaluation, other: Evaluation) -> int | None:
    """1 where the one is clearly better than the other, -1 where it is clearly worse, 0 where neither is shown.

    By nDCG@10 where that ranks the two, else by AP, which asks judged pairs alone; None where AP shows nothing then.
    """
    return difference.sign("nDCG@10") if ranks(difference, one, other) else difference.sign("AP") or None


def contradictory(difference: Difference) -> bool:
    """Whether nDCG@10 is clear with the unjudged documents or without them, and doesn't say the same both times."""
    return difference.sign("nDCG@10") != difference.sign(JUDGED_ONLY)
