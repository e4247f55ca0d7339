"""What every chart is drawn on: colours by name, axes, text, and the way from matplotlib to a fragment of a page.

A drawing carries no colours and no fonts of its own: strokes and fills are CSS variables (`TONES`), text is text. The page
decides what light and dark look like. Same arrays in, same bytes out. Matplotlib is loaded by the first chart, without pyplot.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

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
STYLES: tuple[Any, ...] = ((0, (5, 2)), "solid", (0, (8, 2, 1.5, 2)), (0, (1.5, 1.5)), (0, (10, 3)), (0, (4, 1.5, 1.5, 1.5, 1.5, 1.5)))
LINE = 15.0
"""Height of a line of text, in the units of the drawing."""


@dataclass(frozen=True)
class Mark:
    """A point of a line that matters: what was `chosen`, what would have been `best`, what was `borrowed` from another model."""

    x: float
    y: float
    kind: Literal["chosen", "best", "borrowed"] = "chosen"


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart; shapes of `x` and `y`: (points,).

    `label` is written at the line; a `noisy` line is drawn faintly under its running mean.
    """

    label: str
    x: Floats
    y: Floats
    tone: str = "ink"
    marks: tuple[Mark, ...] = ()
    noisy: bool = False
    dashed: bool = False


def series(position: int) -> str:
    """The tone of the model at this position."""
    return f"series-{position % SERIES}"


def canvas(width: int, height: int) -> tuple[Figure, Axes]:
    """A figure of this size in points, with one pair of axes without frame or background."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(TONES["muted"])
    axes.tick_params(length=0, pad=5, labelsize=11, labelcolor=TONES["muted"])
    axes.yaxis.labelpad = 12  # a narrow page writes larger
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=TONES["muted"], size=11)
    return figure, axes


def ticks(axes: Axes, below: float | None = None, at: Sequence[float] | None = None, whole: bool = False) -> None:
    """A few round ticks on the value axis, none above `below`, or those given; with hairlines. `whole`: x counts."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    low, high = axes.get_ylim()
    values = MaxNLocator(5).tick_values(low, high if below is None else below) if at is None else at
    axes.yaxis.set_major_locator(FixedLocator([value for value in values if low <= value <= (below or high)]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole))
    axes.grid(axis="y", color=TONES["rule"], linewidth=1)
    axes.set_axisbelow(True)


def write(axes: Axes, x: float, y: float, text: str, tone: str, *, across: bool = False, **style: Any) -> None:
    """Text at a point; `across` counts x in shares of the width. Never read as a formula."""
    place = axes.get_yaxis_transform() if across else axes.transData
    axes.text(x, y, text, color=TONES[tone], transform=place, parse_math=False, **style)


def spread(values: Sequence[float], gap: float) -> list[float]:
    """The same values in the same order, pushed apart until no two are nearer than `gap`."""
    order = sorted(range(len(values)), key=lambda position: values[position])
    placed = list(values)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + gap)
    shift = (sum(placed) - sum(values)) / max(len(values), 1)
    return [value - shift for value in placed]


def drawn(figure: Figure, name: str) -> tuple[float, float, str]:
    """Width, height and inside of the drawing's `<svg>`: no prologue, no metadata, no style; its ids its own, its colours the page's."""
    from matplotlib import rc_context

    written = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "svg.id": None}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the font that measures the text may lack a glyph; the font that shows it is the reader's
        figure.savefig(written, format="svg")
    text = written.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]*>", lambda tag: _for_page(tag[0], name), body)
    width, height = figure.get_size_inches() * 72
    return float(width), float(height), re.sub(r"\s*\n\s*", "\n", body)


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
