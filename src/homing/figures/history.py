"""Charts over the course of something: the steps of training, shares of what was learned, shares of the judgments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from homing.data import Floats
from homing.figures.canvas import LINE, TONES, Line, canvas, spread, ticks, write
from homing.figures.chart import Chart


def history(name: str, title: str, lines: Sequence[Line], across: str = "step") -> Chart:
    """Values over the steps of training, or over what `across` says.

    Several lines are labelled at their ends; a marked point is labelled with its value.
    """
    figure, axes = canvas(330, 200)
    for line in lines:
        mean = running_mean(line.y) if line.noisy else None
        style: Any = (0, (3, 2)) if line.dashed else "solid"
        dots = "o" if len(line.x) < 16 else ""
        if mean is not None:
            axes.plot(line.x, line.y, color=TONES[line.tone], linewidth=0.8, alpha=0.35)
        axes.plot(
            line.x, line.y if mean is None else mean, color=TONES[line.tone], linewidth=1.8, linestyle=style, marker=dots, markersize=3.5
        )
    axes.margins(x=0.02, y=0.16)
    low, high = axes.get_ylim()
    if 0 < low < 0.4 * high:
        axes.set_ylim(0.0, high)
    ticks(axes, whole=across == "step")
    for line in lines:
        for mark in line.marks:
            axes.plot([mark.x], [mark.y], marker="o", markersize=7, color=TONES[line.tone], markeredgewidth=0)
            low, high = axes.get_xlim()
            near = 0.15 * (high - low)
            side = "left" if mark.x < low + near else "right" if mark.x > high - near else "center"
            rise = 0.04 * (axes.get_ylim()[1] - axes.get_ylim()[0])
            write(axes, mark.x, mark.y + rise, f"{mark.y:.3f}", line.tone, ha=side, va="bottom", size=12)
    if len(lines) > 1:
        low, high = axes.get_ylim()
        ends = spread([float(line.y[-1]) for line in lines], (high - low) * LINE / 150)
        for line, y in zip(lines, ends, strict=True):
            write(axes, 1.02, y, line.label, line.tone, across=True, ha="left", va="center", size=11)
    axes.set_xlabel(across)
    rows = [[line.label, float(x), float(y)] for line in lines for x, y in zip(line.x, line.y, strict=True)]
    return Chart.of(figure, name, title, ("line", across, "value"), rows)


def running_mean(values: Floats) -> Floats | None:
    """The mean over a tenth of the points around each, or None where there are too few points to smooth; shapes (points,)."""
    if len(values) < 40:
        return None
    half = len(values) // 20
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.minimum(np.arange(len(values)) + half + 1, len(values))
    starts = np.maximum(np.arange(len(values)) - half, 0)
    mean: Floats = (total[ends] - total[starts]) / (ends - starts)
    return mean
