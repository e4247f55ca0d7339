"""Which of the evaluated models a page is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homing.figures.canvas import series
from homing.measures.evaluations import Evaluation
from homing.reporting.passages import printable


@dataclass(frozen=True)
class Model:
    """A model's name and the tone it has in every chart."""

    name: str
    tone: str


def shown(evaluations: Sequence[Evaluation]) -> list[Model]:
    """The models as the page names and colours them."""
    return [Model(printable(e.name), series(place)) for place, e in enumerate(evaluations)]


def base_and_tuned(evaluations: Sequence[Evaluation]) -> tuple[Evaluation, Evaluation]:
    """The one to beat, which is the first, and the one that the verdict is on: the last that is a model, not BM25 nor fused with it."""
    return evaluations[0], next((e for e in reversed(evaluations) if e.kind == "model"), evaluations[-1])
