"""A chart: its drawing for a page, the same as a file of its own, and the numbers behind it."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape, unescape
from io import StringIO
from typing import TYPE_CHECKING

from homing.figures.canvas import TONES, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONTS = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, 'Noto Sans CJK SC', 'Noto Sans SC', 'PingFang SC', 'Microsoft YaHei', sans-serif"
MARGIN = 10
"""Room around a drawing that stands alone, for what hangs over its edges."""
_WORDS = re.compile(r"(<text[^>]*>)([^<]*)(</text>)")


def plain(text: str) -> str:
    """Mark-up for a text as it is."""
    return escape(text, quote=False)


@dataclass(frozen=True, eq=False)
class Chart:
    """A drawing, and its numbers as the rows of a table.

    `name` is the chart's id in a page and its file's name, `title` what is read aloud. `body` is what stands between the tags of an
    `<svg>` of `width` by `height`, its colours CSS variables (`canvas.TONES`), its words English.
    """

    name: str
    title: str
    width: float
    height: float
    body: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]

    @classmethod
    def of(cls, figure: Figure, name: str, title: str, columns: tuple[str, ...], rows: Sequence[Sequence[object]]) -> Chart:
        """What was drawn on a canvas, as a chart."""
        return cls(name, title, *drawn(figure, name), columns, rows)

    def fragment(self, words: Callable[[str], str] = plain, title: str | None = None) -> str:
        """The drawing for a page. `words` gives the mark-up that stands for each text of the drawing."""
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(title or self.title)}" '
            f'data-figure="{escape(self.name)}">{_translated(self.body, words)}</svg>'
        )

    def standalone(self, words: Callable[[str], str] = plain, title: str | None = None) -> str:
        """The drawing as a file of its own: light colours, named fonts, a white ground."""
        body = re.sub(r"var\(--([\w-]+)\)", lambda found: TONES[found[1]], _translated(self.body, words))
        width, height = self.width + 2 * MARGIN, self.height + 2 * MARGIN
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-MARGIN} {-MARGIN} {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" font-family="{FONTS}"><title>{escape(title or self.title)}</title>'
            f'<rect x="{-MARGIN}" y="{-MARGIN}" width="100%" height="100%" fill="#ffffff"/>{body}</svg>\n'
        )

    def csv(self) -> str:
        """The numbers behind the drawing under their names, with every digit that a double has."""
        out = StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([repr(float(cell)) if isinstance(cell, float) else cell for cell in row] for row in self.rows)
        return out.getvalue()


def _translated(body: str, words: Callable[[str], str]) -> str:
    return _WORDS.sub(lambda found: found[1] + words(unescape(found[2])) + found[3], body)
