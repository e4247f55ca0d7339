"""A chart as it stands in a page."""

from __future__ import annotations

from dataclasses import dataclass

from homing.figures.chart import Chart
from homing.reporting.language import Phrase


@dataclass(frozen=True)
class Figure:
    """A chart with its caption, and what there is to say of it."""

    caption: Phrase
    chart: Chart
    note: Phrase | None = None
