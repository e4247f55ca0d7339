"""What evaluations come to: the last model against the first and against the best that needs no training, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Literal

from homing.arguments import demand
from homing.measures.evaluations import Evaluation, fusion
from homing.measures.resampling import LEAST_GROUPS
from homing.verdicts.causes import CHANCE, PROMPT, SHORT, UNREAD, Cause, Circumstances, likely_causes
from homing.verdicts.context import Context
from homing.verdicts.differences import (
    DECISIVE,
    JUDGED_ONLY,
    Comparison,
    Difference,
    Power,
    adjusted,
    contradictory,
    groups,
    one_of_two,
    ranks,
    same,
    standing,
    value,
)
from homing.verdicts.slices import Slice, slices
from homing.verdicts.wording import better_fused, judged_apart, not_ahead, notes, scales_apart, seeds_apart, sentence, too_small, unmoved

Outcome = Literal["gained", "lost", "mixed", "undecided"]
Action = Literal["deploy", "keep the base", "label more"]


@dataclass(frozen=True)
class Verdict:
    """The comparison in one word, one sentence, one action, and the numbers behind it.

    `differences`: each model against the first; `untrained`: the last model against the best that needs no training (the base, BM25,
    or both fused), None where that is the first model alone. `causes`, the likeliest first: why nothing was gained, or why what
    gained is not to be deployed.
    `ranked`: whether nDCG@10 may rank the models (not where Judged@10 differs by more than .05, unless nDCG@10 over judged documents alone
    says the same). `deployed`: the last model against the one named `deployed`, where that was measured. `context`: what the run measured
    beside its test set. `chosen`: what to deploy or to keep; the last model fused with BM25, where only both together are worth it; or the
    best that needs no training, where none is in use and that is clearly better than the first model.
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
    chosen: str = ""


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
    test set; with several seeds in it, the interval of their mean's difference to the first must leave out 0 as well.

    Raises SettingError where the evaluations are not all of one test set, or two have one name.
    """
    demand(list | tuple, evaluations=evaluations)
    demand(Evaluation, **{f"evaluations[{place}]": each for place, each in enumerate(evaluations)})
    context = context or Context()
    models = [each for each in evaluations if each.kind == "model"] or list(evaluations)
    first, last = models[0], models[-1]
    comparison = Comparison(evaluations, resamples, seed)
    found = [comparison.difference(each, first, tested=each.kind == first.kind) for each in evaluations if each is not first]
    differences = adjusted(found)
    if last is first:
        alone = f"{first.name} alone was measured: there is nothing to compare it with."
        return Verdict("undecided", alone, differences, notes(first, first, context), context=context)
    if context.seeds is not None:
        of_seeds = context.seeds.differences
        differences = tuple(replace(each, of_seeds=of_seeds) if each.name == last.name else each for each in differences)
    difference = next(each for each in differences if each.name == last.name)
    ranked = ranks(difference, last, first)
    outcome = _outcome(difference, ranked)
    power = comparison.power(last, first, worthwhile)
    others = {name for each in models[1:] for name in (each.name, fusion(each.name))}
    best = max((each for each in evaluations if each.name not in others), key=lambda each: value(each, "nDCG@10"))
    deployed = next((each for each in models[1:-1] if each.name == "deployed"), None)
    untrained = _rival(comparison, last, best, in_use=False) if best is not first else None
    in_use = _rival(comparison, last, deployed, in_use=True) if deployed is not None else None
    rivals = [each for each in (untrained, in_use) if each is not None]
    standings = [each.stands for each in rivals if each.stands is not None]
    fused = any(each != 1 for each in standings) and deployed is None and _wins_with_words(comparison, evaluations, first, last, best)
    blind = groups(last) < LEAST_GROUPS or (power is not None and power.detectable > power.worthwhile)
    apart = outcome == "undecided" and not ranked and contradictory(difference)
    unchanged = deployed is not None and same(last, deployed)  # no label tells a model from itself
    action = _action(outcome, standings, fused, not unchanged and (blind or apart or any(each.unranked for each in rivals)))
    kept = deployed or (best if standing(comparison.difference(best, first, tested=False), best, first) == 1 else first)
    chosen = kept.name if action != "deploy" else fusion(last.name) if fused else last.name
    half = one_of_two(difference, ranked) if outcome == "undecided" else None
    if outcome == "gained":
        held = [each for each in rivals if each.stands in (0, -1)] if action != "deploy" else []
        causes = tuple(_held_up_by(each, comparison, last, worthwhile, blind=action == "label more") for each in held)
    else:
        causes = likely_causes(first, last, circumstances, context.instructions)
    if outcome == "undecided" and _outcome(replace(difference, of_seeds={}), ranked) == "gained":
        causes = (seeds_apart(last, difference), *causes)
    elif apart:
        causes = _with_tests(judged_apart(first, last, difference), causes)
    elif half is not None and half[0] == "nDCG@10":
        causes = _with_tests(scales_apart(last, difference), causes)
    elif outcome == "undecided" and blind:
        causes = _with_tests(too_small(last, power), causes)
    against_best, against_deployed = (None if each is None else each.difference for each in (untrained, in_use))
    said = [unmoved(last, deployed)] if deployed is not None and unchanged else []
    if chosen == last.name:
        said += _better_still(comparison, evaluations, last)
    said += notes(first, last, context, difference, power, best, against_best)
    return Verdict(
        outcome, sentence(outcome, action, chosen, first, last, difference, against_best, against_deployed, context, half), differences,
        tuple(said), action, against_best, against_deployed, causes, power, slices(first, last, comparison.draws, columns, seed), ranked,
        context, chosen,
    )  # fmt: skip


@dataclass(frozen=True)
class _Rival:
    """What the last model is to beat beside the first. `stands`: as `standing` has it. `unranked`: it stands at 0 because nothing ranks the
    two, and first documents of both are to be judged."""

    evaluation: Evaluation
    difference: Difference
    stands: int | None
    unranked: bool = False


def _rival(comparison: Comparison, last: Evaluation, other: Evaluation, *, in_use: bool) -> _Rival:
    """How the last model stands against this one. Where nothing ranks the two, and the last is ahead in one reading of nDCG@10, one that is
    not in use is left out."""
    difference = comparison.difference(last, other, tested=in_use)
    stands = standing(difference, last, other)
    ahead = 1 in (difference.sign("nDCG@10"), difference.sign(JUDGED_ONLY))
    unranked = stands is None and (in_use or not ahead)
    return _Rival(other, difference, 0 if unranked else stands, unranked)


def _held_up_by(rival: _Rival, comparison: Comparison, last: Evaluation, worthwhile: float, *, blind: bool) -> Cause:
    """Why a model that gained is not to be deployed yet."""
    other, difference = rival.evaluation, rival.difference
    if rival.unranked:
        return judged_apart(other, last, difference)
    return not_ahead(other, difference, comparison.power(last, other, worthwhile), worse=rival.stands == -1, blind=blind)


def _better_still(comparison: Comparison, evaluations: Sequence[Evaluation], last: Evaluation) -> list[str]:
    """The note on BM25 beside the last model, where the two are clearly better than the model alone."""
    fused = next((each for each in evaluations if each.kind == "fused" and each.name == fusion(last.name)), None)
    over = comparison.difference(fused, last, tested=False) if fused is not None else None
    return [better_fused(over)] if fused is not None and over is not None and standing(over, fused, last) == 1 else []


def _with_tests(cause: Cause, causes: tuple[Cause, ...]) -> tuple[Cause, ...]:
    """The cause that lies in the test comes before all others, but for what costs no labels to mend: a base that cannot read the texts,
    judgments that are chance to it, a prompt that does not suit it, a training that was too short."""
    place = len(list(takewhile(lambda each: each.name in (CHANCE, PROMPT, SHORT, UNREAD), causes)))
    return (*causes[:place], cause, *causes[place:])


def _outcome(difference: Difference, ranked: bool) -> Outcome:
    signs = [difference.sign(name) for name in DECISIVE if name in difference.measures and (ranked or name == "AP")]
    if 1 in signs and -1 in signs:
        return "mixed"
    if -1 in signs:
        return "lost"
    return "gained" if ranked and all(sign == 1 for sign in signs) else "undecided"


def _action(outcome: Outcome, standings: Sequence[int], fused: bool, blind: bool) -> Action:
    """Deploy what gained over the base, and is clearly better than each other rival by its `standings`, or wins `fused` with BM25.

    Where nothing is clear yet, and the labels could not have shown a difference worth having (`blind`: too few, or of other documents than
    these), more come first; else what is in use is kept.
    """
    if outcome == "gained" and (fused or all(each == 1 for each in standings)):
        return "deploy"
    unclear = outcome == "undecided" or (outcome == "gained" and -1 not in standings)
    return "label more" if unclear and blind else "keep the base"


def _wins_with_words(
    comparison: Comparison, evaluations: Sequence[Evaluation], first: Evaluation, last: Evaluation, best: Evaluation
) -> bool:
    """Whether the last model fused with BM25 is clearly better than the first one so, and than the best that needs no training."""
    by_name = {each.name: each for each in evaluations if each.kind == "fused"}
    ours, theirs = (by_name.get(fusion(each.name)) for each in (last, first))
    if ours is None or theirs is None:
        return False
    return all(standing(comparison.difference(ours, each, tested=False), ours, each) == 1 for each in (theirs, best))
