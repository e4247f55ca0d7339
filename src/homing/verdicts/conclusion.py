"""What is concluded of the last model, one conclusion from another: from the differences to the outcome, the action and the causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Literal

from homing.measures.evaluations import Evaluation, fusion
from homing.measures.resampling import independent
from homing.measures.significance import LEAST_GROUPS
from homing.verdicts import wording
from homing.verdicts.causes import UNLABELLED, Cause, Circumstances, likely_causes
from homing.verdicts.context import Context
from homing.verdicts.differences import (
    DECISIVE,
    JUDGED_ONLY,
    Comparison,
    Difference,
    Power,
    adjusted,
    contradictory,
    one_of_two,
    ranks,
    same,
    standing,
    value,
)

Outcome = Literal["gained", "lost", "mixed", "undecided"]
Action = Literal["deploy", "keep the base", "label more"]


@dataclass(frozen=True)
class Rival:
    """What the last model is to beat beside the first. `stands`: as `standing` has it. `unranked`: it stands at 0 because nothing ranks the
    two, and first documents of both are to be judged."""

    evaluation: Evaluation
    difference: Difference
    stands: int | None
    unranked: bool = False


@dataclass(frozen=True, eq=False)
class Conclusion:
    """The last of the models among `evaluations` against the first, step by step; all but `differences` asks for two models."""

    evaluations: Sequence[Evaluation]
    comparison: Comparison
    worthwhile: float
    circumstances: Circumstances | None
    context: Context

    @cached_property
    def models(self) -> list[Evaluation]:
        """What is compared: models, or where there is none among them, whatever there is."""
        return [each for each in self.evaluations if each.kind == "model"] or list(self.evaluations)

    @property
    def first(self) -> Evaluation:
        return self.models[0]

    @property
    def last(self) -> Evaluation:
        return self.models[-1]

    @cached_property
    def deployed(self) -> Evaluation | None:
        """The model in use, where that was measured."""
        return next((each for each in self.models[1:-1] if each.name == "deployed"), None)

    @cached_property
    def best(self) -> Evaluation:
        """The best that needs no training, by nDCG@10 on test: the first model, BM25, or the two fused."""
        trained = {name for each in self.models[1:] for name in (each.name, fusion(each.name))}
        return max((each for each in self.evaluations if each.name not in trained), key=lambda each: value(each, "nDCG@10"))

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """Everything else against the first model; those of the last model with the seeds' mean, where there are several."""
        compare, first = self.comparison.difference, self.first
        found = adjusted([compare(each, first, tested=each.kind == first.kind) for each in self.evaluations if each is not first])
        if self.context.seeds is None:
            return found
        of_seeds = self.context.seeds.differences
        return tuple(replace(each, of_seeds=of_seeds) if each.name == self.last.name else each for each in found)

    @cached_property
    def difference(self) -> Difference:
        """The last model against the first."""
        return next(each for each in self.differences if each.name == self.last.name)

    @cached_property
    def ranked(self) -> bool:
        """Whether nDCG@10 may rank the two."""
        return ranks(self.difference, self.last, self.first)

    @cached_property
    def outcome(self) -> Outcome:
        return _outcome(self.difference, self.ranked)

    @cached_property
    def half(self) -> tuple[str, str] | None:
        """The one decisive measure that gained and the other one, where that alone leaves it undecided."""
        return one_of_two(self.difference, self.ranked) if self.outcome == "undecided" else None

    @cached_property
    def apart(self) -> bool:
        """Whether it is undecided because what the two find is judged to different shares, and the two readings of it disagree."""
        return self.outcome == "undecided" and not self.ranked and contradictory(self.difference)

    @cached_property
    def power(self) -> Power | None:
        return self.comparison.power(self.last, self.first, self.worthwhile)

    @cached_property
    def blind(self) -> bool:
        """Whether the test set is too small to show a difference worth having."""
        return independent(self.last) < LEAST_GROUPS or (self.power is not None and self.power.detectable > self.power.worthwhile)

    @cached_property
    def untrained(self) -> Rival | None:
        """The best that needs no training, where that is not the first model."""
        return None if self.best is self.first else self._rival(self.best, in_use=False)

    @cached_property
    def in_use(self) -> Rival | None:
        """The model in use, where that was measured."""
        return None if self.deployed is None else self._rival(self.deployed, in_use=True)

    @cached_property
    def rivals(self) -> list[Rival]:
        return [each for each in (self.untrained, self.in_use) if each is not None]

    def _rival(self, other: Evaluation, *, in_use: bool) -> Rival:
        """How the last model stands against this one. Where nothing ranks the two, and the last is ahead in one reading of nDCG@10, one
        that is not in use is left out."""
        difference = self.comparison.difference(self.last, other, tested=in_use)
        stands = standing(difference, self.last, other)
        ahead = 1 in (difference.sign("nDCG@10"), difference.sign(JUDGED_ONLY))
        unranked = stands is None and (in_use or not ahead)
        return Rival(other, difference, 0 if unranked else stands, unranked)

    @cached_property
    def unmoved(self) -> bool:
        """Whether the last model is the one in use: no label tells a model from itself."""
        return self.deployed is not None and same(self.last, self.deployed)

    @cached_property
    def beats_rivals(self) -> bool:
        return all(each.stands in (1, None) for each in self.rivals)

    @cached_property
    def fused(self) -> bool:
        """Whether the last model is worth it only together with BM25: it does not beat the best that needs no training, but fused it is
        clearly better than the first model fused, and than that best."""
        if self.beats_rivals or self.deployed is not None:
            return False
        ours, theirs = self._fused(self.last), self._fused(self.first)
        return ours is not None and theirs is not None and self._better(ours, theirs) and self._better(ours, self.best)

    def _fused(self, model: Evaluation) -> Evaluation | None:
        """The model fused with BM25, where that was measured."""
        return next((each for each in self.evaluations if each.kind == "fused" and each.name == fusion(model.name)), None)

    def _better(self, one: Evaluation, other: Evaluation) -> bool:
        return standing(self.comparison.difference(one, other, tested=False), one, other) == 1

    @cached_property
    def action(self) -> Action:
        """Deploy what gained over the base, and is clearly better than each rival, alone or fused with BM25. Where nothing is clear yet,
        a rival that is clearly better included, and the labels could not have shown a difference worth having (too few, or of other
        documents than these), more come first; else what is in use is kept."""
        if self.outcome == "gained" and (self.fused or self.beats_rivals):
            return "deploy"
        unclear = self.outcome in ("undecided", "gained") and not any(each.stands == -1 for each in self.rivals)
        unable = self.blind or self.apart or any(each.unranked for each in self.rivals)
        return "label more" if unclear and unable and not self.unmoved else "keep the base"

    @cached_property
    def chosen(self) -> str:
        """The name of what is to be used: what is to be deployed, or what is kept."""
        if self.action == "deploy":
            return fusion(self.last.name) if self.fused else self.last.name
        return (self.deployed or (self.best if self._better(self.best, self.first) else self.first)).name

    @cached_property
    def causes(self) -> tuple[Cause, ...]:
        """Why nothing was gained, the likeliest first, or why what gained is not to be deployed."""
        if self.outcome == "gained":
            return tuple(self._held_up_by(each) for each in self.rivals if self.action != "deploy" and each.stands in (0, -1))
        lexical = next((each for each in self.evaluations if each.kind == "bm25"), None)
        causes = likely_causes(self.first, self.last, self.circumstances, self.context.instructions, lexical)
        if self.outcome != "undecided":
            return causes
        if _outcome(replace(self.difference, of_seeds={}), self.ranked) == "gained":
            return (wording.seeds_apart(self.last, self.difference), *causes)
        if self.apart:
            return _with_tests(wording.judged_apart(self.first, self.last, self.difference), causes)
        if self.half is not None and self.half[0] == "nDCG@10":
            return _with_tests(wording.scales_apart(self.last, self.difference), causes)
        wants = self.blind and self.action == "label more"
        return _with_tests(wording.too_small(self.last, self.power), causes) if wants else causes

    def _held_up_by(self, rival: Rival) -> Cause:
        """Why a model that gained is not to be deployed yet."""
        other, difference = rival.evaluation, rival.difference
        if rival.unranked:
            return wording.judged_apart(other, self.last, difference)
        power = self.comparison.power(self.last, other, self.worthwhile)
        return wording.not_ahead(other, difference, power, worse=rival.stands == -1, blind=self.action == "label more")

    @cached_property
    def notes(self) -> tuple[str, ...]:
        said = [wording.unmoved(self.last, self.deployed)] if self.deployed is not None and self.unmoved else []
        if between := [each.name for each in self.models[1:-1] if each is not self.deployed]:
            said.append(wording.on_the_last(self.first, self.last, between))
        fused = self._fused(self.last) if self.chosen == self.last.name else None
        if fused is not None and self._better(fused, self.last):
            said.append(wording.better_fused(self.comparison.difference(fused, self.last, tested=False)))
        untrained = None if self.untrained is None else self.untrained.difference
        return (*said, *wording.notes(self.first, self.last, self.context, self.difference, self.power, self.best, untrained))

    @cached_property
    def sentence(self) -> str:
        untrained, in_use = (None if each is None else each.difference for each in (self.untrained, self.in_use))
        return wording.sentence(
            self.outcome, self.action, self.chosen, self.first, self.last, self.difference, untrained, in_use, self.context, self.half
        )


def _outcome(difference: Difference, ranked: bool) -> Outcome:
    signs = [difference.sign(name) for name in DECISIVE if name in difference.measures and (ranked or name == "AP")]
    if 1 in signs and -1 in signs:
        return "mixed"
    if -1 in signs:
        return "lost"
    return "gained" if ranked and all(sign == 1 for sign in signs) else "undecided"


def _with_tests(cause: Cause, causes: tuple[Cause, ...]) -> tuple[Cause, ...]:
    """The cause that lies in the test comes before all others, but for what costs no labels to mend, where that is the likeliest."""
    place = len(list(takewhile(lambda each: each.name in UNLABELLED, causes)))
    return (*causes[:place], cause, *causes[place:])
