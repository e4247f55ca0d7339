"""Charts about deciding by a threshold: F1, precision and recall, how scores lie, how far a probability can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from homing.data import Floats
from homing.figures.canvas import LINE, STYLES, TONES, Line, canvas, ticks, write
from homing.figures.chart import Chart


def f1_curves(name: str, title: str, lines: Sequence[Line], span: tuple[float, float], floor: float | None = None) -> Chart:
    """F1 against threshold, one line a model; the threshold in use is flagged. `floor`: F1 of calling everything relevant."""
    figure, axes = canvas(440, 400)
    top = max([float(np.nanmax(line.y)) for line in lines] + [floor or 0.0, 0.05])
    flagged = [(mark.x, mark.y, line) for line in lines for mark in line.marks if mark.kind == "chosen"]
    height = top * 1.04 / (1 - LINE * (len(flagged) + 0.6) / 350)
    axes.set_xlim(*span)
    axes.set_ylim(0, height)
    ticks(axes, below=top * 1.04)
    for position, line in enumerate(lines):
        axes.plot(line.x, line.y, color=TONES[line.tone], linewidth=2, linestyle=STYLES[position % len(STYLES)])
    if floor is not None:
        axes.axhline(floor, color=TONES["muted"], linewidth=1, linestyle=(0, (1, 3)))
        write(axes, 0.0, floor - height * 0.008, "all called relevant", "muted", across=True, ha="left", va="top", size=11)
    # Flags all point to the emptier side; the nearer a flag stands to that side, the lower it hangs, so that no pole crosses a text.
    left = bool(flagged) and sum(flag[0] for flag in flagged) / len(flagged) > (span[0] + span[1]) / 2
    flagged.sort(key=lambda flag: flag[0], reverse=not left)
    for level, (x, y, line) in enumerate(flagged):
        at = height * (1 - LINE * (len(flagged) - level) / 350)
        axes.vlines(x, 0, at + height * 0.03, color=TONES[line.tone], linewidth=1, linestyle=(0, (2, 2)))
        offset = (span[1] - span[0]) * 0.012 * (-1 if left else 1)
        write(axes, x + offset, at, f"{line.label}  {y:.3f}", line.tone, ha="right" if left else "left", va="bottom", size=12)
    for line in lines:
        _mark(axes, line)
    axes.set_xlabel("threshold")
    axes.set_ylabel("F1 on test")
    rows = [[line.label, "curve", float(x), float(y)] for line in lines for x, y in zip(line.x, line.y, strict=True)]
    rows += [[line.label, mark.kind, float(mark.x), float(mark.y)] for line in lines for mark in line.marks]
    return Chart.of(figure, name, title, ("model", "point", "threshold", "F1"), rows)


def precision_recall(name: str, title: str, lines: Sequence[Line], share: float) -> Chart:
    """Precision (y) against recall (x), one line a model; behind it where F1 is equal, and the `share` of relevant pairs."""
    figure, axes = canvas(440, 400)
    _unit_square(axes)
    across = np.linspace(0.01, 1, 200)
    for f1 in (0.2, 0.4, 0.6, 0.8):
        seen = across > f1 / (2 - f1)
        axes.plot(across[seen], f1 * across[seen] / (2 * across[seen] - f1), color=TONES["rule"], linewidth=1)
        write(axes, 1.01, f1 / (2 - f1), f"F1 {f1:g}", "muted", across=True, ha="left", va="center", size=10)
    axes.axhline(share, color=TONES["muted"], linewidth=1, linestyle=(0, (1, 3)))
    write(axes, 0.0, share - 0.008, "all called relevant", "muted", across=True, ha="left", va="top", size=11)
    for position, line in enumerate(lines):
        axes.plot(line.x, line.y, color=TONES[line.tone], linewidth=2, linestyle=STYLES[position % len(STYLES)])
    for line in lines:
        _mark(axes, line)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    rows = [[line.label, "curve", float(x), float(y)] for line in lines for x, y in zip(line.x, line.y, strict=True)]
    rows += [[line.label, mark.kind, float(mark.x), float(mark.y)] for line in lines for mark in line.marks]
    return Chart.of(figure, name, title, ("model", "point", "recall", "precision"), rows)


def distribution(
    name: str, title: str, relevant: Floats, other: Floats, span: tuple[float, float], threshold: float | None = None, bins: int = 44
) -> Chart:
    """How the scores of relevant and of other pairs lie, each as a share of its kind; shapes (relevant pairs,), (other pairs,)."""
    figure, axes = canvas(440, 190)
    edges = np.linspace(span[0], span[1], bins + 1)
    shares = {}
    for scores, tone, opacity, style in ((other, "other", 0.16, (0, (3, 1.5))), (relevant, "relevant", 0.3, "solid")):
        shares[tone] = np.histogram(np.clip(scores, *span), edges)[0] / max(len(scores), 1)
        if len(scores):
            axes.stairs(shares[tone], edges, fill=True, color=TONES[tone], alpha=opacity, linewidth=0)
            axes.stairs(shares[tone], edges, color=TONES[tone], linewidth=1.5, linestyle=style)
    axes.set_xlim(*span)
    top = max(float(share.max()) for share in shares.values())
    height = (top or 1.0) / (1 - LINE * 2.3 / 140)
    axes.set_ylim(0, height)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if threshold is not None and span[0] <= threshold <= span[1]:
        axes.vlines(threshold, 0, height * (1 - LINE * 1.1 / 140), color=TONES["ink"], linewidth=1, linestyle=(0, (2, 2)))
        right = threshold < (span[0] + 3 * span[1]) / 4
        x = threshold + (span[1] - span[0]) * (0.01 if right else -0.01)
        text = f"threshold {threshold:.3f}"
        write(axes, x, height * (1 - LINE * 1.9 / 140), text, "ink", ha="left" if right else "right", va="bottom", size=11)
    on_right = not len(other) or not len(relevant) or float(np.mean(relevant)) >= float(np.mean(other))
    for scores, text, tone, right in ((relevant, "relevant", "relevant", on_right), (other, "not relevant", "other", not on_right)):
        if len(scores):
            write(axes, 1.0 if right else 0.0, height, text, tone, across=True, ha="right" if right else "left", va="top", size=12)
    axes.set_xlabel("score")
    rows = [[*map(float, row)] for row in zip(edges[:-1], edges[1:], shares["relevant"], shares["other"], strict=True)]
    return Chart.of(figure, name, title, ("from", "to", "share of relevant pairs", "share of other pairs"), rows)


def reliability(name: str, title: str, lines: Sequence[Line]) -> Chart:
    """The share of relevant pairs that came (y) against the promised probability (x), up to the highest; on the diagonal they agree."""
    figure, axes = canvas(440, 400)
    reach = min(1.0, 1.15 * max(float(max(line.x.max(), line.y.max())) for line in lines))
    axes.set_xlim(0, reach)
    axes.set_ylim(0, reach)
    ticks(axes)
    axes.plot([0, 1], [0, 1], color=TONES["muted"], linewidth=1, linestyle=(0, (1, 3)))
    for position, line in enumerate(lines):
        axes.plot(line.x, line.y, color=TONES[line.tone], linewidth=1.8, marker="o", markersize=5, linestyle=STYLES[position % len(STYLES)])
    axes.set_xlabel("probability promised")
    axes.set_ylabel("share relevant")
    rows = [[line.label, float(x), float(y)] for line in lines for x, y in zip(line.x, line.y, strict=True)]
    return Chart.of(figure, name, title, ("model", "probability promised", "share relevant"), rows)


def _unit_square(axes: Any) -> None:
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.01)
    ticks(axes, at=(0, 0.2, 0.4, 0.6, 0.8, 1))


def _mark(axes: Any, line: Line) -> None:
    """The points that matter: full where chosen, a ring for the best in hindsight, a cross for what was borrowed."""
    for mark in line.marks:
        tone = TONES[line.tone]
        if mark.kind == "best":
            axes.plot([mark.x], [mark.y], marker="o", markersize=8, color=tone, markerfacecolor="none", markeredgewidth=1.5)
        elif mark.kind == "borrowed":
            axes.plot([mark.x], [mark.y], marker="x", markersize=8, color=tone, markeredgewidth=2)
        else:
            axes.plot([mark.x], [mark.y], marker="o", markersize=6, color=tone, markeredgewidth=0)
