"""A verdict in words: its sentence, its notes, and the causes of no gain that lie in the test itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from homing.measures.evaluations import Evaluation, Interval
from homing.measures.resampling import independent
from homing.measures.significance import LEAST_GROUPS
from homing.verdicts.causes import Cause
from homing.verdicts.context import Context
from homing.verdicts.differences import DECISIVE, JUDGED_ONLY, Difference, Power, judged_alike, ranks, standing, value

TOO_SMALL = "the test is too small to show a gain"
KEPT = "On dev nothing that was learned beat the base by more than the standard error: the model's directory holds the base."
APART = "what the two models find is judged to different shares"
_BORROWED = 0.005  # F1 that the other model's threshold may cost before it is worth a word
_AGAIN = "no training is needed for it (homing split RUN/dataset --test FILE, of old and new ones)."


def too_small(last: Evaluation, power: Power | None) -> Cause:
    """The cause of no gain that comes before all others: a test that could not have shown one."""
    if power is None:
        evidence = (
            f"Groups of its queries that share no relevant document: {independent(last)}. Fewer than {LEAST_GROUPS} can show nothing."
        )
        more = f"Judge test queries with other relevant documents, some hundred in all, and evaluate again: {_AGAIN}"
    else:
        evidence = (
            f"It shows a difference in nDCG@10 of {power.detectable:.3f} or more (in four of five draws), not one of {power.worthwhile:g}."
        )
        more = _more_queries(power)
    return Cause(TOO_SMALL, 1.0, evidence, more)


def _more_queries(power: Power) -> str:
    return f"Judge more test queries, about {power.needed:,} in all, and evaluate again: {_AGAIN}"


def judged_apart(first: Evaluation, last: Evaluation, difference: Difference) -> Cause:
    """The cause of no gain where nDCG@10 may not rank the two models, or is sure of it with the unjudged documents alone."""
    before, after = (value(each, "Judged@10") for each in (first, last))
    gain, alone = (difference.measures.get(name) for name in ("nDCG@10", JUDGED_ONLY))
    read = ""
    if gain is not None and alone is not None:
        read = f" With unjudged documents as not relevant it differs by {gain.signed}, over judged documents alone by {alone.signed}."
    return Cause(
        APART, 1.0,
        f"Judged@10 is {before:.2f} for {first.name} and {after:.2f} for {last.name}: nDCG@10 does not decide between them.{read}",
        f"Judge the first ten documents of {first.name} and of {last.name} for the test queries (homing audit RUN --test lists them, the "
        "likeliest first; --top says how many), and evaluate again: no training is needed for it.",
    )  # fmt: skip


def scales_apart(last: Evaluation, difference: Difference) -> Cause:
    """The cause where each query's documents are clearly in a better order, and the scores of different queries do not show it."""
    gain, pooled = (difference.measures[name] for name in DECISIVE)
    return Cause(
        "the order within a query is better, scores over all queries are not", 1.0,
        f"nDCG@10 differs by {gain.signed}, AP over the pairs of all queries by {pooled.signed}.",
        f"If documents are only ranked within a query, that is enough: deploy {last.name}. For one threshold over all queries judge more "
        "test queries, or train with --cross-query 0.1.",
    )  # fmt: skip


def seeds_apart(last: Evaluation, difference: Difference) -> Cause:
    """The cause where this one model is clearly better, and the mean over seeds is not."""
    return Cause(
        "other seeds do not bear it out", 1.0,
        f"{last.name} alone differs by {_each(difference.measures)}, the mean over seeds by {_each(difference.of_seeds)}.",
        "Train under more --seeds: the fewer there are, the wider the interval of their mean.",
    )  # fmt: skip


def not_ahead(rival: Evaluation, difference: Difference, power: Power | None, *, worse: bool, blind: bool) -> Cause:
    """Why a model that gained is not deployed: it is not clearly better than this rival."""
    name = f"it does worse than {rival.name}" if worse else f"it is not shown to be better than {rival.name}"
    evidence, more = f"Against {rival.name}: {_each(difference.measures)}.", "Train for longer, or on more judgments."
    if blind and not worse and power is not None:
        evidence += f" These test queries show a difference in nDCG@10 of {power.detectable:.3f} or more, not one of {power.worthwhile:g}."
        more = _more_queries(power)
    return Cause(name, 1.0, evidence, more)


def unmoved(last: Evaluation, deployed: Evaluation) -> str:
    """The note on a model that is the one in use: what training went on from stayed the best on dev."""
    return (
        f"{last.name} scores every pair as {deployed.name} does: it is the same model, and dev liked nothing better that was learned since."
    )


def on_the_last(first: Evaluation, last: Evaluation, between: Sequence[str]) -> str:
    """The note on models `between` the first and the last, on which there is no verdict."""
    return (
        f"The verdict is on {last.name}, the model given last. The table and the differences to {first.name} have {', '.join(between)} "
        "too; for a verdict on another, give it last."
    )


def better_fused(difference: Difference) -> str:
    """The note on a model to deploy that is clearly better when BM25 helps it."""
    return f"{difference.name} is better still: nDCG@10 {difference.measures['nDCG@10'].signed} over {difference.against} alone."


def _each(gains: Mapping[str, Interval]) -> str:
    return ", ".join(f"{name} {gains[name].signed}" for name in DECISIVE if name in gains)


def _gain(name: str, before: float, gain: Interval, doubt: float | None) -> str:
    interval = "" if math.isnan(gain.low) else f", 95% interval {gain.low:+z.4f} to {gain.high:+z.4f}"
    chance = "" if doubt is None else f", p {doubt:.3f}"
    return f"{name} {before:.4f} to {before + gain.value:.4f} ({gain.value:+z.4f}{interval}{chance})"


def without_training(action: str, chosen: str, untrained: Difference | None) -> bool:
    """Whether what is advised is the best that needs no training, in the base's place. `untrained`: the model against that."""
    return action == "keep the base" and untrained is not None and chosen == untrained.against


def advice(action: str, chosen: str, untrained: Difference | None) -> str:
    """The end of the verdict's sentence: what to do. `untrained`: the model against the best that needs no training."""
    if without_training(action, chosen, untrained):
        return f"use {chosen}, which needs no training."
    return {"deploy": f"deploy {chosen}.", "keep the base": f"keep {chosen}.", "label more": "label more before you decide."}[action]


def sentence(
    outcome: str, action: str, chosen: str, first: Evaluation, last: Evaluation, difference: Difference, untrained: Difference | None,
    deployed: Difference | None, context: Context, half: tuple[str, str] | None = None,
) -> str:  # fmt: skip
    figures = ", ".join(
        _gain(name, value(first, name), gain, difference.doubt(name)) for name, gain in difference.measures.items() if name in DECISIVE
    )
    figures += "" if context.seeds is None else f"; mean over {len(context.seeds.seeds)} seeds {_each(difference.of_seeds)}"
    openings = {
        "gained": f"{last.name} is better than {first.name}",
        "lost": f"{last.name} is worse than {first.name}",
        "mixed": f"{last.name} is better than {first.name} in one measure and worse in another",
        "undecided": f"These test queries do not show that {last.name} is better than {first.name}"
        if half is None
        else f"These test queries show that {last.name} is better than {first.name} in {half[0]}, and do not show it in {half[1]}",
    }
    beside = ""
    for other, what in ((untrained, ", the best that needs no training,"), (deployed, "")):
        if other is not None:
            gain = other.measures["nDCG@10"]
            beside += f"; against {other.against}{what} nDCG@10 {gain.signed}"
    return f"{openings[outcome]}: {figures}{beside}; {len(last.queries):,} test queries: {advice(action, chosen, untrained)}"


def notes(
    first: Evaluation, last: Evaluation, context: Context, difference: Difference | None = None, power: Power | None = None,
    best: Evaluation | None = None, untrained: Difference | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """What to know about the verdict, a sentence or two each. `difference`: the last model against the first; `untrained`: against `best`,
    the best that needs no training."""
    return (
        "Retrieval is over a closed pool: every document of the data; an unjudged one counts as not relevant.",
        *_of_intervals(last, context),
        *_of_unjudged(last, first, difference),
        *_of_unjudged(last, best, untrained),
        *_of_the_best(last, best, untrained),
        *_of_thresholds(first, last, difference),
        *_of_the_test(last, power),
    )


def _of_intervals(last: Evaluation, context: Context) -> Iterator[str]:
    if independent(last) < LEAST_GROUPS:
        return
    parts = 0 if last.groups is None else len(np.unique(last.groups))
    drawn = "test queries"
    if 0 < parts < len(last.test.qrels.queries):
        drawn = f"{parts:,} groups of test queries that hang together"
    they = "they" if context.seeds is None else "but for the mean over seeds they"
    yield f"The intervals resample {drawn}; {they}" + " leave out that another training seed gives another model."


def _of_unjudged(last: Evaluation, other: Evaluation | None, difference: Difference | None) -> Iterator[str]:
    """Whether nDCG@10 ranks two models that find judged documents to different shares."""
    if other is None or difference is None or judged_alike(last, other):
        return
    alone, before, after = difference.measures.get(JUDGED_ONLY), value(other, "Judged@10"), value(last, "Judged@10")
    if alone is not None and ranks(difference, last, other):
        yield (
            f"Judged@10 is {before:.2f} for {other.name} and {after:.2f} for {last.name}; over judged documents alone nDCG@10 differs "
            f"by {alone.signed}: it says the same."
        )
    else:
        yield (
            f"Judged@10 is {before:.2f} for {other.name} and {after:.2f} for {last.name}: with so different shares of judged documents "
            "nDCG@10 does not rank these two"
            + ("" if alone is None else f"; over judged documents alone it differs by {alone.signed}")
            + ". Judge the first ten of both."
        )


def _of_the_best(last: Evaluation, best: Evaluation | None, untrained: Difference | None) -> Iterator[str]:
    if best is not None and untrained is not None and standing(untrained, last, best) == -1:
        yield f"{best.name}, which needs no training, does better on these queries than {last.name}: use it instead, or beside a model."


def _of_thresholds(first: Evaluation, last: Evaluation, difference: Difference | None) -> Iterator[str]:
    borrowed = None if difference is None else difference.borrowed
    if borrowed is not None and first.threshold is not None and borrowed < value(last, "F1") - _BORROWED:
        yield (
            f"At {first.name}'s threshold ({first.threshold:.4f}) {last.name} would have F1 {borrowed:.4f} instead of "
            f"{value(last, 'F1'):.4f}: a new model needs its new threshold. Lower scores are no worse scores."
        )
    if last.background is not None and last.background.helps:
        yield (
            f"Taking off the mean score of a query's nearest documents ({last.background.neighbours} of them) before the threshold gives "
            f"F1 {last.background.f1.value:.4f} on test instead of {value(last, 'F1'):.4f}; on dev it gains "
            f"{last.background.dev_f1 - last.background.dev_f1_without:+.4f}."
        )


def _of_the_test(last: Evaluation, power: Power | None) -> Iterator[str]:
    """What the test set lacks: queries without a relevant document, non-relevant pairs, groups, queries."""
    without = len(last.test.qrels.queries) - len(last.queries)
    if without:
        yield f"{without} test queries have no relevant document: they count in F1 and AP, not in the rankings."
    if last.relevant.all():
        yield "No non-relevant pair is judged in test: there is no AP and no F1."
    elif last.threshold is None and last.has_scores:
        yield "The judged pairs of dev are all relevant, or none is: there is no threshold and no F1."
    if independent(last) < LEAST_GROUPS:
        yield (
            f"Groups of test queries that hang together: only {independent(last)}. No difference can be shown, however large, and there "
            "are no intervals."
        )
    elif power is None and len(last.queries) < 100:
        yield f"Only {len(last.queries)} test queries: small differences cannot be seen."
