"""Charts as SVG text: arrays in, one fragment for a page out.

A fragment carries no colours and no fonts of its own: strokes and fills are CSS variables (`TONES`), text is text. The page
decides what light and dark look like. Same arrays in, same bytes out. Matplotlib is loaded by the first chart, without pyplot.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from homing.data import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TONES = {
    "ink": "#1d2227",
    "muted": "#616a74",
    "rule": "#dfe3e8",
    "series-0": "#5d6875",
    "series-1": "#0068a8",
    "series-2": "#c24f00",
    "series-3": "#8a4fa3",
    "series-4": "#2a93c9",
    "series-5": "#8c6d1f",
    "relevant": "#00795a",
    "other": "#b65a00",
}
"""Each colour by its CSS variable, as the light page has it; no two may be equal, since the value stands for the name."""

_NAMES = {value: name for name, value in TONES.items()}
SERIES = 6
_STYLES: tuple[Any, ...] = ((0, (5, 2)), "solid", (0, (8, 2, 1.5, 2)), (0, (1.5, 1.5)), (0, (10, 3)), (0, (4, 1.5, 1.5, 1.5, 1.5, 1.5)))
_LINE = 15.0
"""Height of a line of text, in the units of the drawing."""


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart; shapes of `x` and `y`: (points,).

    `label` is written at the line, `mark` is a point on it that matters; a `noisy` line is drawn faintly under its running mean.
    """

    label: str
    x: Floats
    y: Floats
    tone: str = "ink"
    mark: tuple[float, float] | None = None
    noisy: bool = False
    dashed: bool = False


def series(position: int) -> str:
    """The tone of the model at this position."""
    return f"series-{position % SERIES}"


def f1_curves(name: str, title: str, lines: Sequence[Line], span: tuple[float, float], floor: float | None = None) -> str:
    """F1 against threshold, one line a model; its mark, the threshold in use, is flagged. `floor`: F1 of calling everything relevant."""
    figure, axes = _canvas(440, 400)
    top = max([float(np.nanmax(line.y)) for line in lines] + [floor or 0.0, 0.05])
    flagged = [(*line.mark, line) for line in lines if line.mark is not None]
    height = top * 1.04 / (1 - _LINE * (len(flagged) + 0.6) / 350)
    axes.set_xlim(*span)
    axes.set_ylim(0, height)
    _ticks(axes, below=top * 1.04)
    for position, line in enumerate(lines):
        axes.plot(line.x, line.y, color=TONES[line.tone], linewidth=2, linestyle=_STYLES[position % SERIES])
    if floor is not None:
        axes.axhline(floor, color=TONES["muted"], linewidth=1, linestyle=(0, (1, 3)))
        _text(axes, 0.0, floor - height * 0.008, "all called relevant", "muted", across=True, ha="left", va="top", size=11)
    # Flags all point to the emptier side; the nearer a flag stands to that side, the lower it hangs, so that no pole crosses a text.
    left = bool(flagged) and sum(flag[0] for flag in flagged) / len(flagged) > (span[0] + span[1]) / 2
    flagged.sort(key=lambda flag: flag[0], reverse=not left)
    for level, (x, y, line) in enumerate(flagged):
        at = height * (1 - _LINE * (len(flagged) - level) / 350)
        axes.vlines(x, 0, at + height * 0.03, color=TONES[line.tone], linewidth=1, linestyle=(0, (2, 2)))
        axes.plot([x], [y], marker="o", markersize=6, color=TONES[line.tone], markeredgewidth=0)
        offset = (span[1] - span[0]) * 0.012 * (-1 if left else 1)
        _text(axes, x + offset, at, f"{line.label}  {y:.3f}", line.tone, ha="right" if left else "left", va="bottom", size=12)
    axes.set_xlabel("threshold")
    axes.set_ylabel("F1 on test")
    return _svg(figure, name, title)


def distribution(
    name: str, title: str, relevant: Floats, other: Floats, span: tuple[float, float], threshold: float | None = None, bins: int = 44
) -> str:
    """How the scores of relevant and of other pairs lie, each as a share of its kind; shapes (relevant pairs,), (other pairs,)."""
    figure, axes = _canvas(440, 190)
    edges = np.linspace(span[0], span[1], bins + 1)
    top = 0.0
    for scores, tone, opacity, style in ((other, "other", 0.16, (0, (3, 1.5))), (relevant, "relevant", 0.3, "solid")):
        if len(scores):
            share = np.histogram(np.clip(scores, *span), edges)[0] / len(scores)
            top = max(top, float(share.max()))
            axes.stairs(share, edges, fill=True, color=TONES[tone], alpha=opacity, linewidth=0)
            axes.stairs(share, edges, color=TONES[tone], linewidth=1.5, linestyle=style)
    axes.set_xlim(*span)
    height = (top or 1.0) / (1 - _LINE * 2.3 / 140)
    axes.set_ylim(0, height)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if threshold is not None and span[0] <= threshold <= span[1]:
        axes.vlines(threshold, 0, height * (1 - _LINE * 1.1 / 140), color=TONES["ink"], linewidth=1, linestyle=(0, (2, 2)))
        right = threshold < (span[0] + 3 * span[1]) / 4
        x = threshold + (span[1] - span[0]) * (0.01 if right else -0.01)
        text = f"threshold {threshold:.3f}"
        _text(axes, x, height * (1 - _LINE * 1.9 / 140), text, "ink", ha="left" if right else "right", va="bottom", size=11)
    on_right = not len(other) or not len(relevant) or float(np.mean(relevant)) >= float(np.mean(other))
    for scores, text, tone, right in ((relevant, "relevant", "relevant", on_right), (other, "not relevant", "other", not on_right)):
        if len(scores):
            _text(axes, 1.0 if right else 0.0, height, text, tone, across=True, ha="right" if right else "left", va="top", size=12)
    axes.set_xlabel("score")
    return _svg(figure, name, title)


def history(name: str, title: str, lines: Sequence[Line], across: str = "step") -> str:
    """Values over the steps of training, or over what `across` says.

    Several lines are labelled at their ends; a marked point is labelled with its value.
    """
    figure, axes = _canvas(330, 200)
    for line in lines:
        mean = _running_mean(line.y) if line.noisy else None
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
    _ticks(axes)
    for line in lines:
        if line.mark is not None:
            x, y = line.mark
            axes.plot([x], [y], marker="o", markersize=7, color=TONES[line.tone], markeredgewidth=0)
            low, high = axes.get_xlim()
            side = "left" if x < low + 0.15 * (high - low) else "right" if x > high - 0.15 * (high - low) else "center"
            _text(axes, x, y + 0.04 * (axes.get_ylim()[1] - axes.get_ylim()[0]), f"{y:.3f}", line.tone, ha=side, va="bottom", size=12)
    if len(lines) > 1:
        low, high = axes.get_ylim()
        ends = _spread([float(line.y[-1]) for line in lines], (high - low) * _LINE / 150)
        for line, y in zip(lines, ends, strict=True):
            _text(axes, 1.02, y, line.label, line.tone, across=True, ha="left", va="center", size=11)
    axes.set_xlabel(across)
    return _svg(figure, name, title)


def _canvas(width: int, height: int) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(TONES["muted"])
    axes.tick_params(length=0, pad=5, labelsize=11, labelcolor=TONES["muted"])
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=TONES["muted"], size=11)
    return figure, axes


def _ticks(axes: Axes, below: float | None = None) -> None:
    """A few round ticks on the value axis, with hairlines, none above `below`."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    low, high = axes.get_ylim()
    ticks = [tick for tick in MaxNLocator(5).tick_values(low, high if below is None else below) if low <= tick <= (below or high)]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=axes.get_xlim()[1] > 10))
    axes.grid(axis="y", color=TONES["rule"], linewidth=1)
    axes.set_axisbelow(True)


def _text(axes: Axes, x: float, y: float, text: str, tone: str, *, across: bool = False, **style: Any) -> None:
    """Text at a point; `across` counts x in shares of the width. Never read as a formula."""
    place = axes.get_yaxis_transform() if across else axes.transData
    axes.text(x, y, text, color=TONES[tone], transform=place, parse_math=False, **style)


def _running_mean(values: Floats) -> Floats | None:
    """The mean over a tenth of the points around each, or None where there are too few points to smooth."""
    if len(values) < 40:
        return None
    half = len(values) // 20
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.minimum(np.arange(len(values)) + half + 1, len(values))
    starts = np.maximum(np.arange(len(values)) - half, 0)
    mean: Floats = (total[ends] - total[starts]) / (ends - starts)
    return mean


def _spread(values: Sequence[float], gap: float) -> list[float]:
    """The same values in the same order, pushed apart until no two are nearer than `gap`."""
    order = sorted(range(len(values)), key=lambda position: values[position])
    placed = list(values)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + gap)
    shift = (sum(placed) - sum(values)) / max(len(values), 1)
    return [value - shift for value in placed]


def _svg(figure: Figure, name: str, title: str) -> str:
    """The drawing as a fragment for a page: no prologue, no metadata, no style of its own; its ids its own, its colours the page's."""
    from matplotlib import rc_context

    written = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "svg.id": None}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the font that measures the text may lack a glyph; the font that shows it is the reader's
        figure.savefig(written, format="svg")
    text = written.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]*>", lambda tag: _for_page(tag[0], name), body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    width, height = figure.get_size_inches() * 72
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}" data-figure="{escape(name)}">{body}</svg>'


def _for_page(tag: str, name: str) -> str:
    """One tag of a drawing with the page's fonts and colours, and with ids that no other drawing of the page has."""
    tag = re.sub(r'(<g|<use) id="[^"]*"', r"\1", tag)
    tag = re.sub(r' id="', f' id="{name}-', tag)
    tag = re.sub(r"url\(#", f"url(#{name}-", tag)
    tag = re.sub(r'xlink:href="#', f'href="#{name}-', tag)
    tag = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", tag)
    tag = re.sub(r"font-family: [^;\"]*; ", "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    return re.sub(r"#[0-9a-f]{6}\b", lambda colour: f"var(--{_NAMES[colour[0]]})" if colour[0] in _NAMES else colour[0], tag)
