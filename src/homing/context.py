"""What a verdict is to be read with: how the base was asked, other seeds, fewer judgments, other data, a new index, looks at the test."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from homing.evaluations import Interval
from homing.progress import duration


@dataclass(frozen=True)
class Tried:
    """A prompt tried on the untrained base: nDCG@10 of dev queries under it."""

    prompt: str
    ndcg: float


@dataclass(frozen=True)
class Instructions:
    """Prompts tried on the base, the run's own first; `chosen` did best on `queries` dev queries over `documents` documents."""

    queries: int
    documents: int
    tried: tuple[Tried, ...]
    chosen: str

    @property
    def own(self) -> str:
        """The prompt that the run was given, and the tuned model was trained under."""
        return self.tried[0].prompt


@dataclass(frozen=True)
class Seeds:
    """The same training under several seeds. `values`: each seed's figure on test, by measure, in the order of `seeds`.

    The first seed's model is the one that is handed over. `deviations`: the standard deviation between seeds. `differences`: the mean of
    the seeds against the base, their intervals over seeds and groups of test queries.
    """

    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]
    deviations: Mapping[str, float]
    differences: Mapping[str, Interval]


@dataclass(frozen=True)
class Anew:
    """The same training begun with the base, where the run's own went on from an adapter: `values`, its figures on test by measure.

    `differences`: the run's own model against it, paired.
    """

    values: Mapping[str, float]
    differences: Mapping[str, Interval]

    @property
    def better(self) -> Literal["going on", "beginning anew", "neither"]:
        """Which of the two is clearly better in one measure, and in none clearly worse."""
        above, below = (any(test(each) for each in self.differences.values()) for test in (_above, _below))
        return "neither" if above == below else "going on" if above else "beginning anew"


def _above(difference: Interval) -> bool:
    return difference.low > 0


def _below(difference: Interval) -> bool:
    return difference.high < 0


@dataclass(frozen=True)
class Point:
    """A training on a share of the judgments: `queries` of train, and what it reached on test."""

    share: float
    queries: int
    measures: Mapping[str, Interval]


@dataclass(frozen=True)
class Forecast:
    """What `factor` times the judgments would bring over all of today's, by the fitted curve; `tells`: the interval leaves 0 out."""

    measure: str
    factor: float
    gain: Interval
    tells: bool


@dataclass(frozen=True)
class LearningCurve:
    """Trainings on nested shares of the judgments, the least first, all of them last; and what more would bring."""

    points: tuple[Point, ...]
    forecasts: tuple[Forecast, ...]


@dataclass(frozen=True)
class General:
    """A set outside the domain: nDCG@10 of each model by name, and the tuned model's difference to the base."""

    name: str
    queries: int
    documents: int
    values: Mapping[str, float]
    difference: Interval


@dataclass(frozen=True)
class Reindexing:
    """What embedding the corpus again takes here: its tokens (counted on a sample), and the rate that was measured."""

    documents: int
    tokens: int
    tokens_per_second: float

    @property
    def seconds(self) -> float:
        return self.tokens / self.tokens_per_second


@dataclass(frozen=True)
class Context:
    """All of it; what was not asked for is None or empty. `looks`: how many tuned models this test set has measured, this one included.

    `reindexing` is None where the index of the base stays valid (queries alone were trained, or the base is kept).
    """

    instructions: Instructions | None = None
    seeds: Seeds | None = None
    curve: LearningCurve | None = None
    general: tuple[General, ...] = ()
    reindexing: Reindexing | None = None
    looks: int | None = None
    anew: Anew | None = None

    def plain(self) -> dict[str, Any]:
        """What metrics.json holds under `context`; an interval's end that there isn't is None."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Context:
        """A context from what `plain` gave, also by way of JSON. Raises KeyError or TypeError for anything else."""
        instructions, seeds, curve, again, anew = (plain.get(name) for name in ("instructions", "seeds", "curve", "reindexing", "anew"))
        return cls(
            None if instructions is None else Instructions(
                **{**instructions, "tried": tuple(Tried(**each) for each in instructions["tried"])}
            ),
            None if seeds is None else Seeds(
                tuple(seeds["seeds"]), {name: tuple(values) for name, values in seeds["values"].items()}, seeds["deviations"],
                _intervals(seeds["differences"]),
            ),
            None if curve is None else LearningCurve(
                tuple(Point(each["share"], each["queries"], _intervals(each["measures"])) for each in curve["points"]),
                tuple(Forecast(**{**each, "gain": _interval(each["gain"])}) for each in curve["forecasts"]),
            ),
            tuple(General(**{**each, "difference": _interval(each["difference"])}) for each in plain.get("general", ())),
            None if again is None else Reindexing(**again),
            plain.get("looks"),
            None if anew is None else Anew(anew["values"], _intervals(anew["differences"])),
        )  # fmt: skip


def sentences(context: Context) -> tuple[str, ...]:
    """What the context comes to, a sentence or two each, for the terminal."""
    parts = (
        _asked(context.instructions), _over_seeds(context.seeds), _begun(context.anew), _more(context.curve), _outside(context.general)
    )  # fmt: skip
    return (*(said for said in parts if said), *_again(context.reindexing), *_looked(context.looks))


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
        f"{name} {value + found.differences[name].value:.4f} against {value:.4f} "
        f"({found.differences[name].value:+.4f} [{found.differences[name].low:+.4f}, {found.differences[name].high:+.4f}])"
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
    said = []
    for name in dict.fromkeys(each.measure for each in found.forecasts):
        values = ", ".join(f"{point.measures[name].value:.4f}" for point in found.points)
        each = next(each for each in found.forecasts if each.measure == name)
        gain = f"{each.gain.value:+.4f} [{each.gain.low:+.4f}, {each.gain.high:+.4f}]"
        told = (
            f"{each.factor:g} times the judgments would bring about {gain}"
            if each.tells
            else f"what more would bring cannot be told ({gain})"
        )
        said.append(f"{name} {values}: {told}")
    return f"Trained on the judgments of {queries} queries, {'; '.join(said)}. By a power law; other seeds are not in the intervals."


def _outside(found: tuple[General, ...]) -> str:
    said = []
    for each in found:
        before, *_, after = each.values.values()
        gain = f"{each.difference.value:+.4f} [{each.difference.low:+.4f}, {each.difference.high:+.4f}]"
        said.append(f"{each.name} ({each.queries:,} queries) nDCG@10 {before:.4f} to {after:.4f} ({gain})")
    return f"Outside the domain: {'; '.join(said)}." if said else ""


def _again(found: Reindexing | None) -> Iterator[str]:
    if found is not None:
        yield (
            f"A new model means a new index: all {found.documents:,} documents must be embedded again, about {duration(found.seconds)} "
            f"on this machine ({found.tokens:,} tokens at {found.tokens_per_second:,.0f} a second)."
        )


def _looked(looks: int | None) -> Iterator[str]:
    if looks is not None and looks > 1:
        yield (
            f"This test set has measured {looks} tuned models by now. Whoever chooses among them by it fits it a little: keep another set, "
            "unseen, for the last word."
        )
    elif looks is not None:
        yield "This is the first tuned model that this test set has measured."


def _intervals(plain: Mapping[str, Any]) -> dict[str, Interval]:
    return {name: _interval(each) for name, each in plain.items()}


def _interval(plain: Mapping[str, Any]) -> Interval:
    return Interval(**{name: math.nan if value is None else value for name, value in plain.items()})


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
