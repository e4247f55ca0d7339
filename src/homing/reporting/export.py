"""Charts as files: each as SVG for a slide, and the numbers behind it as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from homing.errors import InputError
from homing.figures.chart import Chart
from homing.reporting.language import Language, Phrase
from homing.reporting.page import drawing


def export(charts: Sequence[tuple[Phrase, Chart]], directory: Path, language: Language) -> None:
    """Write NAME.svg and NAME.csv for each chart, over files of these names and leaving others alone.

    Raises InputError where a file stands in the directory's place.
    """
    if directory.exists() and not directory.is_dir():
        raise InputError("a file stands where the figures should go", where=str(directory), remedy="Name a directory.")
    directory.mkdir(parents=True, exist_ok=True)
    for title, chart in charts:
        (directory / f"{chart.name}.svg").write_text(drawing(chart, title, language), encoding="utf-8")
        (directory / f"{chart.name}.csv").write_text(chart.csv(), encoding="utf-8-sig")  # with the mark that Excel asks for
