"""The charts of an evaluation, from the scores of its pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homing.figures import deciding
from homing.figures.canvas import Line, Mark, series
from homing.figures.chart import Chart
from homing.measures.evaluations import Evaluation
from homing.measures.thresholds import best_threshold, f1_of_all, precision_recall, precision_recall_curve
from homing.reporting.models import base_and_tuned
from homing.reporting.passages import printable

POINTS = 100
"""Points of a precision-recall curve that are drawn: as many along recall, and as many from its beginning, where it jumps."""


def label(name: str) -> str:
    """A name short enough for a chart: the end of a path."""
    name = printable(name).rstrip("/").rsplit("/", 1)[-1]
    return name if len(name) <= 22 else f"{name[:10]}…{name[-11:]}"


def f1_chart(evaluations: Sequence[Evaluation], *, stale: bool = True) -> Chart | None:
    """F1 against threshold with what dev chose, test's own best and, where `stale`, the first model's threshold on the tuned one."""
    shown = [(place, e) for place, e in enumerate(evaluations) if e.kind == "model" and e.decidable]
    if not shown:
        return None
    lines = []
    for place, e in shown:
        grid, values = e.curve
        marks = [Mark(*best_threshold(e.test_scores, e.relevant), "best")]
        if stale and (point := borrowed(evaluations, e)) is not None:
            marks.append(Mark(*point, "borrowed"))
        if e.threshold is not None and "F1" in e.measures:
            marks.append(Mark(e.threshold, e.measures["F1"].value))
        lines.append(Line(label(e.name), grid, values, series(place), tuple(marks)))
    span = _span([e for _, e in shown])
    low, high = max(span[0], min(float(line.x[0]) for line in lines)), min(span[1], max(float(line.x[-1]) for line in lines))
    if low >= high:
        low, high = float(lines[0].x[0]), float(lines[0].x[-1])
    said = [f"{line.label}: {mark.y:.3f} at {mark.x:.3f}" for line in lines for mark in line.marks if mark.kind == "chosen"]
    title = f"F1 on test against the threshold{': ' if said else ''}{'; '.join(said)}"
    return deciding.f1_curves("f1", title, lines, (low, high), f1_of_all(shown[0][1].relevant))


def borrowed(evaluations: Sequence[Evaluation], evaluation: Evaluation) -> tuple[float, float] | None:
    """The first model's threshold, and F1 of the last model at it; None for any other model, and where nothing was chosen."""
    first, last = base_and_tuned(evaluations)
    if evaluation is not last or last is first or first.threshold is None or not last.decidable:
        return None
    return first.threshold, last.f1_under(first.threshold)


def precision_recall_chart(evaluations: Sequence[Evaluation]) -> Chart | None:
    """Precision against recall at every threshold, with the points that are in use."""
    lines = []
    for place, e in enumerate(evaluations):
        if not e.decidable:
            continue
        relevant = e.relevant
        precision, recall, _ = precision_recall_curve(e.test_scores, relevant)
        keep = np.unique(np.append(np.searchsorted(recall, np.linspace(0, recall[-1], POINTS)), np.arange(min(POINTS, len(recall)))))
        marks = []
        if e.threshold is not None and (e.test_scores >= e.threshold).any():
            at, of_all = precision_recall(e.test_scores, relevant, e.threshold)
            marks.append(Mark(of_all, at))
        lines.append(Line(label(e.name), recall[keep], precision[keep], series(place), tuple(marks)))
    if not lines:
        return None
    return deciding.precision_recall("precision-recall", "Precision against recall on test", lines, float(relevant.mean()))


def reliability_chart(evaluations: Sequence[Evaluation]) -> Chart | None:
    """What calibration promised and what came, for the models that were calibrated."""
    lines = [
        Line(label(e.name), e.reliability.promised, e.reliability.came, series(place))
        for place, e in enumerate(evaluations)
        if e.kind == "model" and e.reliability is not None
    ]
    return deciding.reliability("reliability", "Share of relevant pairs against the promised probability", lines) if lines else None


def distribution_charts(evaluations: Sequence[Evaluation]) -> list[tuple[str, Chart]]:
    """For each model its name, and how its scores of relevant and of other pairs lie, all on one scale; BM25 has another one."""
    models = [(place, e) for place, e in enumerate(evaluations) if e.kind == "model"]
    if not any(np.isfinite(e.test_scores).any() for _, e in models):
        return []
    span = _span([e for _, e in models])
    panels = []
    for place, e in models:
        relevant, finite = e.relevant, np.isfinite(e.test_scores)
        title = f"Scores of relevant and of non-relevant pairs under {label(e.name)}"
        sides = e.test_scores[relevant & finite], e.test_scores[~relevant & finite]
        panels.append((e.name, deciding.distribution(f"scores-{place}", title, *sides, span, e.threshold)))
    return panels


def _span(evaluations: Sequence[Evaluation]) -> tuple[float, float]:
    """Where the scores of all models lie on test, a little wider."""
    scores = np.concatenate([e.test_scores[np.isfinite(e.test_scores)] for e in evaluations])
    low, high = float(scores.min()), float(scores.max())
    room = max((high - low) * 0.02, 0.01)
    return low - room, high + room
