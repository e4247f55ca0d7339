"""What evaluations come to: the last model against the first and against the best that needs no training, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from homing.arguments import demand
from homing.causes import Cause, Circumstances, likely_causes
from homing.context import Context
from homing.data import Floats
from homing.evaluations import Evaluation, Interval, fusion
from homing.resampling import Draws, draw, interval, samples, units
from homing.significance import detectable, holm, needed, randomisation_p, randomisation_p_of_ap, signs
from homing.slices import Slice, slices
from homing.thresholds import f1

Outcome = Literal["gained", "lost", "mixed", "undecided"]


@dataclass(frozen=True)
class Difference:
    """A model against another: `measures` maps nDCG@10, AP, F1 to the paired difference, and where Judged@10 of the two is too different
    also nDCG@10 over judged documents alone.

    `p_values` holds, for the same without F1, the p-value of the paired randomisation test by group, `adjusted` the same after Holm's
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
    `ranked`: whether nDCG@10 may rank the models (not where Judged@10 differs by more than .05, unless nDCG@10 over judged documents alone
    says the same). `deployed`: the last model against the
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


DECISIVE = ("nDCG@10", "AP")
JUDGED_ONLY = "nDCG(judged_only=True)@10"
COMPARED = (*DECISIVE, "F1", JUDGED_ONLY)
LEVEL = 0.05
NOISE = 1e-9  # a standard error below it is rounding
LEAST_GROUPS = 6  # with fewer, even the rarest of 2**groups signs is too common for a test at 5 %
JUDGED_APART = 0.05  # Judged@10 of two models may differ by so much
BORROWED = 0.005  # F1 that the other model's threshold may cost before it is worth a word


class _Comparison:
    """Evaluations of one test set under the same draws."""

    def __init__(self, evaluations: Sequence[Evaluation], resamples: int, seed: int) -> None:
        self.draws: Draws = draw(evaluations[0], resamples, seed)
        self.samples = {each.name: samples(each, self.draws) for each in evaluations}
        first = evaluations[0]
        judged = first.test.qrels.queries
        self.unit = units(first.groups, len(judged))
        self.of_query = self.unit[np.searchsorted(judged, first.queries)]
        self.of_pair = self.unit[np.searchsorted(judged, first.test.qrels.query)]
        self.swaps = signs(self.draws.shape[1], resamples, seed)

    def gain(self, other: Evaluation, first: Evaluation, measure: str) -> Floats:
        """The difference in a measure under each draw, the one of the test set first."""
        return np.asarray(self.samples[other.name][measure] - self.samples[first.name][measure])

    def difference(self, other: Evaluation, first: Evaluation, *, tested: bool = True) -> Difference:
        shared = [name for name in COMPARED if name in self.samples[other.name] and name in self.samples[first.name]]
        if _judged_alike(other, first):
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
        measures = {name: interval(self.gain(other, first, name)) for name in shared}
        return Difference(other.name, first.name, measures, p_values, dict(p_values), borrowed)


def compare(
    evaluations: Sequence[Evaluation], resamples: int = 1000, seed: int = 42, worthwhile: float = 0.02, *,
    circumstances: Circumstances | None = None, columns: Mapping[str, Sequence[str]] | None = None, context: Context | None = None,
) -> Verdict:  # fmt: skip
    """The verdict on the last model against the first, and the paired difference of everything else against the first.

    *gained*: nDCG@10 and AP are both higher (nDCG@10 alone, where no non-relevant pair is judged), by an interval above 0 and a
    randomisation test at 5 %, Holm-adjusted over the models; *lost*: one is lower in that sense and none higher; *mixed*: one higher,
    one lower; *undecided*: anything else. F1 is shown, but doesn't decide. Where Judged@10 differs by more than .05, nDCG@10 is read twice,
    with unjudged documents as not relevant and without them: the first favours the model whose documents are judged, the second the other
    one (Sakai 2008, CIKM). Where the two don't say the same, nDCG@10 doesn't decide either, and nothing is called gained.

    `worthwhile`: the smallest difference in nDCG@10 that matters to the user. `circumstances`: what is known of the training, for the
    causes of no gain. `columns`: values of each query by position, for slices of the user's own. `context`: what was measured beside the
    test set; with several seeds in it, the last model's difference to the first is that of their mean, with the seed's variation in its
    interval.
    """
    demand(list | tuple, evaluations=evaluations)
    demand(Evaluation, **{f"evaluations[{place}]": each for place, each in enumerate(evaluations)})
    context = context or Context()
    models = [each for each in evaluations if each.kind == "model"] or list(evaluations)
    first, last = models[0], models[-1]
    comparison = _Comparison(evaluations, resamples, seed)
    found = [comparison.difference(each, first, tested=each.kind == "model") for each in evaluations if each is not first]
    differences = _adjusted(found)
    if last is first:
        sentence = f"{first.name} alone was measured: there is nothing to compare it with."
        return Verdict("undecided", sentence, differences, _notes(first, first, context), context=context)
    differences = tuple(_over_seeds(each, context) if each.name == last.name else each for each in differences)
    difference = next(each for each in differences if each.name == last.name)
    ranked = _ranks(difference, last, first)
    outcome = _outcome(difference, ranked)
    power = _power(comparison, first, last, worthwhile)
    others = {name for each in models[1:] for name in (each.name, fusion(each.name))}
    best = max((each for each in evaluations if each.name not in others), key=lambda each: _value(each, "nDCG@10"))
    untrained = comparison.difference(last, best, tested=False) if best is not first else None
    both = _with_words(evaluations, first, last)
    deployed = next((each for each in models[1:-1] if each.name == "deployed"), None)
    against_deployed = comparison.difference(last, deployed) if deployed is not None else None
    fused = comparison.difference(*both, tested=False) if both is not None and _judged_alike(*both) else None
    rival = untrained if untrained is not None and _ranks(untrained, last, best) else None
    blind = _groups(last) < LEAST_GROUPS or (power is not None and power.detectable > power.worthwhile)
    apart = outcome == "undecided" and (not ranked or _outcome(difference, ranked, DECISIVE) == "gained")
    action = _action(outcome, rival, fused, against_deployed, blind or apart)
    causes = likely_causes(first, last, circumstances) if outcome != "gained" else ()
    if apart:
        causes = (_judged_apart(first, last, difference), *causes)
    elif outcome == "undecided" and blind:
        causes = (_too_small(last, power), *causes)
    return Verdict(
        outcome, _sentence(outcome, action, first, last, difference, untrained, against_deployed, context), differences,
        _notes(first, last, context, difference, power, best, untrained), action, untrained, against_deployed, causes, power,
        slices(first, last, comparison.draws, columns, seed), ranked, context,
    )  # fmt: skip


def _over_seeds(difference: Difference, context: Context) -> Difference:
    """The difference of the mean over seeds, where there are several."""
    if context.seeds is None:
        return difference
    of_mean = context.seeds.differences
    return replace(difference, measures={name: of_mean.get(name, value) for name, value in difference.measures.items()})


def _value(evaluation: Evaluation, measure: str) -> float:
    return evaluation.measures[measure].value if measure in evaluation.measures else float("nan")


def _groups(evaluation: Evaluation) -> int:
    """How many parts of the queries that are ranked vary independently of each other."""
    if evaluation.groups is None:
        return len(evaluation.queries)
    return len(np.unique(evaluation.groups[np.searchsorted(evaluation.test.qrels.queries, evaluation.queries)]))


def _judged_alike(one: Evaluation, other: Evaluation) -> bool:
    """Whether about the same share of what the two rank first is judged."""
    return not abs(_value(one, "Judged@10") - _value(other, "Judged@10")) > JUDGED_APART


def _ranks(difference: Difference, one: Evaluation, other: Evaluation) -> bool:
    """Whether nDCG@10 may rank the two: they are judged alike, or it says the same whatever the unjudged documents are worth."""
    if _judged_alike(one, other):
        return True
    if JUDGED_ONLY not in difference.measures:
        return False
    readings = difference.measures["nDCG@10"], difference.measures[JUDGED_ONLY]
    return min(each.low for each in readings) > 0 or max(each.high for each in readings) < 0


def _adjusted(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Holm's adjustment over the models, measure by measure."""
    by_measure = {name: holm({each.name: each.p_values[name] for each in differences if name in each.p_values}) for name in COMPARED}
    return tuple(replace(each, adjusted={name: by_measure[name][each.name] for name in each.p_values}) for each in differences)


def _outcome(difference: Difference, ranked: bool, names: Sequence[str] = (*DECISIVE, JUDGED_ONLY)) -> Outcome:
    decisive = [name for name in names if name in difference.measures and (ranked or name == "AP")]
    clear = [difference.adjusted.get(name, 1.0) < LEVEL for name in decisive]
    above = [sure and difference.measures[name].low > 0 for name, sure in zip(decisive, clear, strict=True)]
    below = [sure and difference.measures[name].high < 0 for name, sure in zip(decisive, clear, strict=True)]
    if any(above) and any(below):
        return "mixed"
    if any(below):
        return "lost"
    return "gained" if ranked and all(above) else "undecided"


def _power(comparison: _Comparison, first: Evaluation, last: Evaluation, worthwhile: float) -> Power | None:
    """None where the two models ranked every query alike, or where there are too few groups to tell how differences vary."""
    error = float(np.std(comparison.gain(last, first, "nDCG@10")[1:], ddof=1))
    if not error > NOISE or _groups(last) < LEAST_GROUPS:
        return None
    queries = len(first.queries)
    return Power("nDCG@10", queries, len(np.unique(comparison.of_query)), detectable(error), worthwhile, needed(queries, error, worthwhile))


def _too_small(last: Evaluation, power: Power | None) -> Cause:
    """The cause of no gain that comes before all others: a test that could not have shown one."""
    if power is None:
        evidence = f"Its queries are in {_groups(last)} groups; no difference can be shown with fewer than {LEAST_GROUPS}."
        more = "Judge more test queries, some hundred in all, and evaluate again: no training is needed for it."
    else:
        evidence = (
            f"It shows a difference in nDCG@10 of {power.detectable:.3f} or more (in four of five draws), not one of {power.worthwhile:g}."
        )
        more = f"Judge more test queries, about {power.needed:,} in all, and evaluate again: no training is needed for it."
    return Cause("the test is too small to show a gain", 1.0, evidence, more)


def _judged_apart(first: Evaluation, last: Evaluation, difference: Difference) -> Cause:
    """The cause of no gain where nDCG@10 may not rank the two models, or is sure of it with the unjudged documents alone."""
    before, after = (_value(each, "Judged@10") for each in (first, last))
    gain, alone = (difference.measures.get(name) for name in ("nDCG@10", JUDGED_ONLY))
    read = ""
    if gain is not None and alone is not None:
        read = f" With unjudged documents as not relevant it differs by {_signed(gain)}, over judged documents alone by {_signed(alone)}."
    return Cause(
        "what the two models find is judged to different shares", 1.0,
        f"Judged@10 is {before:.2f} for {first.name} and {after:.2f} for {last.name}: nDCG@10 does not decide between them.{read}",
        f"Judge the first ten documents of {first.name} and of {last.name} for the test queries, and evaluate again: "
        "no training is needed for it.",
    )  # fmt: skip


def _with_words(evaluations: Sequence[Evaluation], first: Evaluation, last: Evaluation) -> tuple[Evaluation, Evaluation] | None:
    """The last and the first model, each fused with BM25."""
    by_name = {each.name: each for each in evaluations if each.kind == "fused"}
    last_too, first_too = (by_name.get(fusion(each.name)) for each in (last, first))
    return (last_too, first_too) if last_too is not None and first_too is not None else None


def _action(outcome: Outcome, untrained: Difference | None, fused: Difference | None, deployed: Difference | None, blind: bool) -> Action:
    """Deploy what is clearly better than the base, and than what needs no training, alone or each fused with BM25.

    Where the labels could not have shown a difference worth having (`blind`: too few, or of other documents than these), more come first;
    else the base is kept.
    """
    if outcome == "gained":
        rivals = [each.measures["nDCG@10"] for each in (untrained, deployed) if each is not None]
        if all(each.low > 0 for each in rivals) or (fused is not None and fused.measures["nDCG@10"].low > 0 and deployed is None):
            return "deploy"
        return "keep the base" if any(each.high < 0 for each in rivals) or not blind else "label more"
    return "label more" if outcome == "undecided" and blind else "keep the base"


def _signed(gain: Interval) -> str:
    return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"


def _gain(name: str, before: float, after: float, gain: Interval) -> str:
    return f"{name} {before:.4f} to {after:.4f} ({gain.value:+.4f}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f})"


def _sentence(
    outcome: Outcome, action: Action, first: Evaluation, last: Evaluation, difference: Difference, untrained: Difference | None,
    deployed: Difference | None, context: Context,
) -> str:  # fmt: skip
    figures = ", ".join(
        _gain(name, _value(first, name), _value(first, name) + gain.value, gain)
        for name, gain in difference.measures.items()
        if name in DECISIVE
    )
    figures += "" if context.seeds is None else f", means of {len(context.seeds.seeds)} seeds"
    openings = {
        "gained": f"{last.name} is better than {first.name}",
        "lost": f"{last.name} is worse than {first.name}",
        "mixed": f"{last.name} is better than {first.name} in one measure and worse in another",
        "undecided": f"These test queries do not show that {last.name} is better than {first.name}",
    }
    actions = {
        "deploy": f"deploy {last.name}",
        "keep the base": f"keep {first.name if deployed is None else deployed.against}",
        "label more": "label more before you decide",
    }
    beside = ""
    for other, what in ((untrained, ", the best that needs no training,"), (deployed, "")):
        if other is not None:
            gain = other.measures["nDCG@10"]
            beside += f"; against {other.against}{what} nDCG@10 {_signed(gain)}"
    return f"{openings[outcome]}: {figures}{beside}; {len(last.queries):,} test queries: {actions[action]}."


def _notes(
    first: Evaluation, last: Evaluation, context: Context, difference: Difference | None = None, power: Power | None = None,
    best: Evaluation | None = None, untrained: Difference | None = None,
) -> tuple[str, ...]:  # fmt: skip
    qrels = last.test.qrels
    groups = "test queries" if last.groups is None else f"{len(np.unique(last.groups)):,} groups of test queries that hang together"
    notes = [
        "Retrieval is over a closed pool: every document of the data; an unjudged one counts as not relevant.",
        f"The intervals resample {groups}; "
        + ("they" if context.seeds is None else "but for the mean over seeds they")
        + " leave out that another training seed gives another model.",
    ]
    for other, its in ((first, difference), (best, untrained)):
        if other is None or its is None or _judged_alike(last, other):
            continue
        alone, before, after = its.measures.get(JUDGED_ONLY), _value(other, "Judged@10"), _value(last, "Judged@10")
        if alone is not None and _ranks(its, last, other):
            notes.append(
                f"Judged@10 is {before:.2f} for {other.name} and {after:.2f} for {last.name}; over judged documents alone nDCG@10 differs "
                f"by {_signed(alone)}: it says the same."
            )
        else:
            notes.append(
                f"Judged@10 is {before:.2f} for {other.name} and {after:.2f} for {last.name}: with so different shares of judged documents "
                "nDCG@10 does not rank these two"
                + ("" if alone is None else f"; over judged documents alone it differs by {_signed(alone)}")
                + ". Judge the first ten of both."
            )
        break
    if power is not None and power.detectable > power.worthwhile:
        notes.append(
            f"This test set shows a difference in nDCG@10 of {power.detectable:.3f} or more (in four of five draws); to see "
            f"{power.worthwhile:g}, about {power.needed:,} test queries are needed, and there are {power.queries:,}."
        )
    borrowed = None if difference is None else difference.borrowed
    if borrowed is not None and first.threshold is not None and borrowed < _value(last, "F1") - BORROWED:
        notes.append(
            f"At {first.name}'s threshold ({first.threshold:.4f}) {last.name} would have F1 {borrowed:.4f} instead of "
            f"{_value(last, 'F1'):.4f}: a new model needs its new threshold. Lower scores are no worse scores."
        )
    if last.background is not None and last.background.helps:
        notes.append(
            f"Taking off a query's mean score to its {last.background.neighbours} nearest documents before the threshold gives F1 "
            f"{last.background.f1.value:.4f} on test; on dev it gains {last.background.dev_f1 - last.background.dev_f1_without:+.4f}."
        )
    without = len(qrels.queries) - len(last.queries)
    if without:
        notes.append(f"{without} test queries have no relevant document: they count in F1 and AP, not in the rankings.")
    if last.threshold is None:
        notes.append("No non-relevant pair is judged in dev or in test: there is no AP and no F1.")
    if _groups(last) < LEAST_GROUPS:
        notes.append(f"Test queries in only {_groups(last)} groups: no difference can be shown, however large.")
    elif len(last.queries) < 100:
        notes.append(f"Only {len(last.queries)} test queries: small differences cannot be seen.")
    return tuple(notes)
