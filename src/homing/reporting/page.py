"""The page: a template filled in, one file that needs nothing but a browser, written whole or not at all."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from homing.errors import InputError
from homing.figures.canvas import TONES
from homing.figures.chart import Chart
from homing.manifest import replaced
from homing.reporting import phrases
from homing.reporting.language import TAGS, Language, Phrase, translated
from homing.reporting.passages import printable

TEMPLATES = Path(__file__).parent / "template"
SHARED = Path(__file__).parents[1] / "template"  # with the page of homing audit


def filled(template: str, title: Phrase, language: Language, **values: Any) -> str:
    """The template's page with these values, opening in `language`. The same values give the same bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    world = Environment(
        loader=FileSystemLoader([TEMPLATES, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    world.filters["say"] = _said
    world.filters["one"] = lambda phrase: _one(phrase, language)
    world.filters["drawn"] = lambda chart, caption: _drawn(chart, caption, language)
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    return world.get_template(template).render(
        t=phrases, tones=TONES, language=language, tag=TAGS[language], tags=TAGS, title=title, script=Markup(script), script_digest=digest,
        **values,
    )  # fmt: skip


def drawing(chart: Chart, title: Phrase, language: Language) -> str:
    """A chart as a file of its own, its words in one language."""
    return chart.standalone(lambda text: str(escape(_one(translated(text, phrases.DRAWN), language))), _one(title, language))


def write(page: str, out: Path | str) -> Path:
    """Write the page to `out` and return its path. Raises InputError where a directory stands there."""
    path = Path(out)
    if path.is_dir():
        raise InputError("a directory stands where the report should be written", where=str(path), remedy="Name a file, like report.html.")
    with replaced(path) as file:
        file.write(page)
    return path


_MINUS = re.compile(r"(?<![\w-])-(?=\d)")
"""A minus sign as sentences for a terminal have it, where the tables of the page have a real one."""


def _said(value: Phrase | str, element: str = "span", **values: object) -> Markup:
    """A phrase in both languages, or a text as it is, as mark-up."""
    if not isinstance(value, Phrase):
        return escape(printable(value))
    return Phrase(*(_MINUS.sub("−", printable(text)) for text in value)).markup(element, **values)


def _drawn(chart: Chart, caption: Phrase, language: Language) -> Markup:
    return Markup(chart.fragment(lambda text: str(translated(text, phrases.DRAWN).markup("tspan")), _one(caption, language)))


def _one(phrase: Phrase, language: Language) -> str:
    return printable(getattr(phrase, language))
