"""The head of the page: the verdict in a sentence, what to do, and the differences it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from homing.measures.evaluations import Evaluation, Interval
from homing.reporting import phrases
from homing.reporting.language import Phrase
from homing.reporting.models import base_and_tuned
from homing.reporting.numbers import NONE, between, count, duration, number, percent, precise, signed
from homing.reporting.sentences import in_both
from homing.reporting.tables import clear
from homing.retrievers.fused import K
from homing.verdicts.causes import UNLABELLED
from homing.verdicts.differences import DECISIVE, Difference, contradictory, one_of_two
from homing.verdicts.verdict import Verdict
from homing.verdicts.wording import APART, KEPT, TOO_SMALL, advice, without_training


@dataclass(frozen=True)
class Tile:
    """The difference in one measure, the two values behind it, and the place of its interval on a scale around zero, in percent."""

    measure: str
    value: str
    interval: str
    before: str
    after: str
    sign: str
    whisker: Whisker | None


@dataclass(frozen=True)
class Whisker:
    """An interval on a line whose middle is zero: left and right end and the value, in percent of its width."""

    left: str
    right: str
    at: str


@dataclass(frozen=True)
class Tiles:
    """The differences between two models."""

    title: Phrase
    tiles: list[Tile]


@dataclass(frozen=True)
class Header:
    """What stands above everything else. The verdict's sentence is `claim`, after a colon its `evidence`, and then `action`."""

    outcome: Phrase
    claim: Phrase
    evidence: Phrase | None
    action: Phrase | None
    remarks: list[Phrase]
    differences: list[Tiles]
    notes: list[Phrase]
    facts: list[tuple[Phrase, str]]


def header(evaluations: Sequence[Evaluation], verdict: Verdict) -> Header:
    """The head of a report on these evaluations."""
    first, last = base_and_tuned(evaluations)
    ours = own(verdict, last)
    told = ours is not None and any(map(between, ours.measures.values()))
    pairs = [(ours, phrases.AGAINST if told else phrases.AGAINST_ALONE), (verdict.deployed, phrases.AGAINST_DEPLOYED)]
    if verdict.untrained is not None and verdict.untrained.against != first.name:
        pairs.append((verdict.untrained, phrases.AGAINST_UNTRAINED))
    shown = [Tiles(title.format(last=each.name, first=each.against), tiles(each, evaluations)) for each, title in pairs if each is not None]
    alone = last is first
    claim, _, evidence = verdict.sentence.removesuffix(f": {advice(verdict.action, verdict.chosen, verdict.untrained)}").partition(": ")
    chinese_claim, _, chinese_evidence = _sentence(evaluations, verdict).partition("：")
    return Header(
        outcome=phrases.OUTCOMES[verdict.outcome],
        claim=Phrase(f"{claim}:" if evidence else claim, f"{chinese_claim}：" if chinese_evidence else chinese_claim),
        evidence=Phrase(f"{evidence.rstrip('.')}.", f"{chinese_evidence.rstrip('。')}。") if evidence or chinese_evidence else None,
        action=None if alone else _action(verdict),
        remarks=[] if alone else _remarks(evaluations, verdict, ours),
        differences=shown,
        notes=[in_both(note) for note in verdict.notes if alone or note != KEPT],
        facts=_facts(first),
    )


def _action(verdict: Verdict) -> Phrase:
    what = phrases.USE_UNTRAINED if without_training(verdict.action, verdict.chosen, verdict.untrained) else phrases.ACTIONS[verdict.action]
    return what.format(chosen=verdict.chosen)


def own(verdict: Verdict, last: Evaluation) -> Difference | None:
    """The difference that the verdict is about: that of this model against the first."""
    return next((each for each in verdict.differences if each.name == last.name), None)


def tiles(difference: Difference, evaluations: Sequence[Evaluation]) -> list[Tile]:
    """The differences of one model, on one scale."""
    by_name = {e.name: e.measures for e in evaluations}
    scale = reach(difference.measures.values())
    found = []
    for measure, gain in difference.measures.items():
        before, after = (by_name.get(name, {}).get(measure) for name in (difference.against, difference.name))
        found.append(
            Tile(
                measure,
                signed(gain.value),
                between(gain, signed),
                "" if before is None else number(before.value),
                "" if after is None else number(after.value),
                clear(difference, measure),
                whisker(gain, scale),
            )
        )
    return found


def whisker(interval: Interval, scale: float) -> Whisker | None:
    """Where an interval lies on a scale that goes from -scale to scale; None where there is none."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return None
    left, right, at = (f"{50 + 50 * max(-1.0, min(1.0, end / scale)):.2f}" for end in (interval.low, interval.high, interval.value))
    return Whisker(left, right, at)


def reach(intervals: Iterable[Interval]) -> float:
    """How far from zero a scale must go to show all of these."""
    ends = [abs(end) for each in intervals for end in (each.value, each.low, each.high) if math.isfinite(end)]
    return max([*ends, 1e-9]) * 1.08


def _sentence(evaluations: Sequence[Evaluation], verdict: Verdict) -> str:
    """The verdict's sentence in Chinese, from its parts."""
    first, last = base_and_tuned(evaluations)
    difference = own(verdict, last)
    if difference is None:
        return in_both(verdict.sentence).zh
    opening = phrases.SENTENCES[verdict.outcome].zh.format(first=first.name, last=last.name)
    if verdict.outcome == "undecided" and (half := one_of_two(difference, verdict.ranked)):
        opening = phrases.ONE_OF_TWO.zh.format(first=first.name, last=last.name, better=half[0], other=half[1])
    measured = []
    for name, gain in difference.measures.items():
        if name in DECISIVE and name in first.measures:
            before, doubt = first.measures[name].value, difference.doubt(name)
            measured.append(
                phrases.MEASURED.zh.format(
                    measure=name,
                    before=number(before, 4),
                    after=number(before + gain.value, 4),
                    gain=precise(gain.value),
                    interval=phrases.INTERVAL.zh.format(interval=between(gain, precise)) if between(gain) else "",
                    chance="" if doubt is None else f"，p {number(doubt)}",
                )
            )
    seeds = verdict.context.seeds
    parts = ["，".join(measured)] if measured else []
    if seeds is not None:
        means = [(name, difference.of_seeds[name]) for name in DECISIVE if name in difference.of_seeds]
        said_of = "，".join(f"{name} {_whole(gain)}" for name, gain in means)
        parts.append(phrases.MEAN_OF_SEEDS.zh.format(n=len(seeds.seeds), gains=said_of))
    for other, said in ((verdict.untrained, phrases.AGAINST_UNTRAINED_TOO), (verdict.deployed, phrases.AGAINST_TOO)):
        if other is not None and "nDCG@10" in other.measures:
            parts.append(said.zh.format(other=other.against, gain=_whole(other.measures["nDCG@10"])))
    parts.append(phrases.TEST_QUERIES.zh.format(n=count(len(last.queries))))
    return f"{opening}：{'；'.join(parts)}"


def _whole(gain: Interval) -> str:
    """A difference with its interval, where there is one."""
    return f"{precise(gain.value)} {between(gain, precise)}".rstrip()


def _remarks(evaluations: Sequence[Evaluation], verdict: Verdict, difference: Difference | None) -> list[Phrase]:
    found = [in_both(KEPT)] if KEPT in verdict.notes else []
    if verdict.action != "label more" and any(each.kind == "fused" and each.name == verdict.chosen for each in evaluations):
        found.append(phrases.FUSING.format(chosen=verdict.chosen, k=K))
    if not verdict.ranked and difference is not None and contradictory(difference):
        found.append(phrases.UNRANKED)
    if verdict.action == "label more" and verdict.causes and (likeliest := verdict.causes[0]).name in UNLABELLED:
        found.append(phrases.BEFORE_LABELS.with_phrase("experiment", in_both(likeliest.experiment)))
    power = verdict.power
    wants = (cause for cause in verdict.causes if cause.name in (APART, TOO_SMALL) or verdict.outcome == "gained")
    asked = next(wants, None) if verdict.action == "label more" else None
    if asked is not None and (asked.name != TOO_SMALL or power is None):
        found.append(in_both(asked.experiment))  # which labels
    elif power is not None and verdict.outcome == "undecided":
        values = {
            "measure": power.measure, "detectable": number(power.detectable), "worthwhile": f"{power.worthwhile:g}",
            "needed": count(power.needed), "queries": count(power.queries),
        }  # fmt: skip
        more = power.needed > power.queries and verdict.action == "label more"
        found.append((phrases.POWER_MORE if more else phrases.POWER).format(**values))
    again = verdict.context.reindexing
    if again is not None and verdict.action == "deploy":
        found.append(phrases.REEMBED_TIME.format(documents=count(again.documents), time=duration(again.seconds)))
    if verdict.action == "deploy":
        found += [
            phrases.FORGOT.format(set=each.name, gain=signed(each.difference.value), interval=between(each.difference, signed))
            for each in verdict.context.general
            if each.difference.high < 0
        ]
    return found


def _facts(evaluation: Evaluation) -> list[tuple[Phrase, str]]:
    """What the numbers were measured on."""
    relevant = evaluation.relevant
    return [
        (phrases.FACTS["queries"], count(len(evaluation.queries))),
        (phrases.FACTS["documents"], count(len(evaluation.test.corpus))),
        (phrases.FACTS["pairs"], count(len(relevant))),
        (phrases.FACTS["share"], percent(float(relevant.mean())) if len(relevant) else NONE),
    ]
