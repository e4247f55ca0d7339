"""What was measured beside the verdict's own test, in English sentences for a terminal; `beside` has it as tables in both languages."""

from __future__ import annotations

from collections.abc import Iterator

from homing.verdicts.context import Anew, Context, General, Instructions, LearningCurve, Seeds, Shortened


def sentences(context: Context) -> tuple[str, ...]:
    """What the context comes to, a sentence or two each, for the terminal."""
    parts = (
        _asked(context.instructions), _over_seeds(context.seeds), _begun(context.anew), _more(context.curve), _cut(context.shortened),
        _outside(context.general),
    )  # fmt: skip
    return (*(said for said in parts if said), *_looked(context.looks))


def _asked(found: Instructions | None) -> str:
    if found is None:
        return ""
    tried = f"of {len(found.tried)} prompts tried on the base (nDCG@10 over {found.queries:,} dev queries)"
    if found.chosen == found.own:
        return f"The base is compared as it does best: {tried}, none does better than the run's own."
    best = next(each for each in found.tried if each.prompt == found.chosen)
    return (
        f"The base is compared as it does best: {tried}, {found.chosen!r} does best, {best.ndcg:.4f} against {found.tried[0].ndcg:.4f} "
        "under the run's own."
    )


def _over_seeds(found: Seeds | None) -> str:
    if found is None:
        return ""
    said = "; ".join(
        f"{name} {', '.join(f'{value:.4f}' for value in values)} (standard deviation {found.deviations[name]:.4f})"
        for name, values in found.values.items()
    )
    return (
        f"Seeds {', '.join(map(str, found.seeds))}: {said}. The intervals of their mean's difference to the base hold the seed's "
        f"variation. The model is that of seed {found.seeds[0]}."
    )


def _begun(found: Anew | None) -> str:
    if found is None:
        return ""
    said = "; ".join(
        f"{name} {value + found.differences[name].value:.4f} against {value:.4f} ({found.differences[name].signed})"
        for name, value in found.values.items()
    )
    conclusions = {
        "going on": "going on from it is better here",
        "beginning anew": "beginning anew is better here, leave --from out",
        "neither": "these queries show no difference, and beginning anew is the one that a recipe repeats",
    }
    return f"Going on from the old adapter, against the same training begun with the base: {said}: {conclusions[found.better]}."


def _more(found: LearningCurve | None) -> str:
    if found is None:
        return ""
    queries = ", ".join(f"{point.queries:,}" for point in found.points)
    if not found.forecasts:
        return f"Trainings on shares of the judgments had time for {queries} queries: that tells nothing of more. Train for longer."
    said = []
    for name in dict.fromkeys(each.measure for each in found.forecasts):
        values = ", ".join(f"{point.measures[name].value:.4f}" for point in found.points)
        each = next(each for each in found.forecasts if each.measure == name)
        if each.falls:
            told = "it fell as they grew, so that nothing is forecast; first try a lower learning rate, and read some judgments again"
        elif each.tells:
            told = f"{each.factor:g} times the judgments would bring about {each.gain.signed}"
        else:
            told = f"what more would bring cannot be told ({each.gain.signed})"
        said.append(f"{name} {values}: {told}")
    law = "" if all(each.falls for each in found.forecasts) else " By a power law; other seeds are not in the intervals."
    return f"Trained on the judgments of {queries} queries, {'; '.join(said)}.{law}"


def _cut(found: tuple[Shortened, ...]) -> str:
    said = "; ".join(f"{each.dimension} numbers nDCG@10 {each.tuned.value:.4f} ({each.difference.signed})" for each in found)
    return f"The tuned model's embeddings cut to their first {said}." if said else ""


def _outside(found: tuple[General, ...]) -> str:
    return f"Outside the domain: {'; '.join(map(str, found))}." if found else ""


def _looked(looks: int | None) -> Iterator[str]:
    if looks is not None and looks > 1:
        yield (
            f"This test set has measured {looks} tuned models by now. Whoever chooses among them by it fits it a little: keep another set, "
            "unseen, for the last word."
        )
    elif looks is not None:
        yield "This is the first tuned model that this test set has measured."
