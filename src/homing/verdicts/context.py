"""What a verdict is to be read with: how the base was asked, other seeds, fewer judgments, other data, a new index, looks at the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from homing.measures.evaluations import Interval


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
class Shortened:
    """Embeddings cut to their first `dimension` numbers: nDCG@10 on test of the base and the tuned model, and the latter's difference to
    the tuned model's whole embeddings, paired."""

    dimension: int
    base: Interval
    tuned: Interval
    difference: Interval


@dataclass(frozen=True)
class Point:
    """A training on a share of the judgments: how many `queries` it saw, and what it reached on test."""

    share: float
    queries: int
    measures: Mapping[str, Interval]


@dataclass(frozen=True)
class Forecast:
    """What `factor` times the judgments would bring over all of today's, by the fitted curve; `tells`: the interval is above 0."""

    measure: str
    factor: float
    gain: Interval
    tells: bool

    @property
    def falls(self) -> bool:
        """Whether more judgments made it clearly worse: then a power law, which nears its end from below, says nothing of more still."""
        return self.gain.high < 0


@dataclass(frozen=True)
class LearningCurve:
    """Trainings on nested shares of the judgments, the least first, all of them last; and what more would bring, nothing where all had time
    for about as many queries."""

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

    def __str__(self) -> str:
        before, *_, after = self.values.values()
        return f"{self.name} ({self.queries:,} queries) nDCG@10 {before:.4f} to {after:.4f} ({self.difference.signed})"


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
    shortened: tuple[Shortened, ...] = ()

    def plain(self) -> dict[str, Any]:
        """All of it as dictionaries, lists and numbers: what metrics.json holds under `context`, with None there for what is no number."""
        return asdict(self)

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
                tuple(Forecast(**{**each, "gain": Interval.of(each["gain"])}) for each in curve["forecasts"]),
            ),
            tuple(General(**{**each, "difference": Interval.of(each["difference"])}) for each in plain.get("general", ())),
            None if again is None else Reindexing(**again),
            plain.get("looks"),
            None if anew is None else Anew(anew["values"], _intervals(anew["differences"])),
            tuple(Shortened(each["dimension"], **_intervals(each, "base", "tuned", "difference")) for each in plain.get("shortened", ())),
        )  # fmt: skip


def _intervals(plain: Mapping[str, Any], *names: str) -> dict[str, Interval]:
    """The intervals under these names, or under all."""
    return {name: Interval.of(plain[name]) for name in names or plain}
