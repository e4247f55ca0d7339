"""How it was made, from what a run leaves: the data as it was checked, the recipe, times, versions, digests."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homing.checks import MANY_UNKNOWN
from homing.reporting import phrases
from homing.reporting.language import Phrase
from homing.reporting.numbers import count, duration, percent

PATHS = ("data", "dev", "test", "corpus", "model", "teacher", "general", "baseline", "start", "instructions", "judgments")
"""Settings that hold a path, or several: of it, a page without texts shows the end."""
COLUMNS = "evaluating.slice_by"
"""Names columns of the data; a page without texts has it not."""


@dataclass(frozen=True)
class Counts:
    """What the splits hold, what leaks between them, and what was seen and mended on the way in."""

    rows: list[tuple[Phrase, list[str]]]
    leaks: list[Phrase]
    split_by: Phrase | None
    remarks: list[tuple[Phrase, str]]


@dataclass(frozen=True)
class Made:
    """What is known of how a model was made; empty where nothing is."""

    stages: list[tuple[Phrase, str, str]] = field(default_factory=list)
    recipe: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


def made(run: Path | None, *, texts: bool) -> Made:
    """What the directory of a run says of itself; without `texts`, no path but for its last part."""
    if run is None:
        return Made()
    manifest = _json(run / "manifest.json")
    said = tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8")) if (run / "recipe.toml").is_file() else {}
    stages = [
        (phrases.STAGE_NAMES.get(name, Phrase(name, name)), duration(each["seconds"]), f"{each['peak_memory_bytes'] / 1e9:.1f} GB")
        for name, each in manifest.get("stages", {}).items()
    ]
    versions = {name: str(value) for name, value in manifest.get("versions", {}).items()}
    versions |= {name: str(manifest[name]) for name in ("device", "dtype") if name in manifest}
    return Made(
        stages,
        {name: _shown(name, value, texts) for name, value in _flat(said).items() if texts or name != COLUMNS},
        versions,
        {name: _shown(name, value, texts) for name, value in _flat(manifest.get("digests", {})).items()},
    )


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def flat(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings by their dotted names, as text; without what is None."""
    return {name: _shown(name, value, True) for name, value in _flat(values).items() if value is not None}


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return found


def _shown(name: str, value: Any, texts: bool) -> str:
    if name in PATHS and not texts:
        return ", ".join(Path(str(each)).name for each in (value if isinstance(value, list) else [value]))
    return json.dumps(value, ensure_ascii=False).strip('"')


def counts(checked: Mapping[str, Any]) -> Counts:
    """What a check of the splits found, for the page."""
    rows = []
    for side, part in checked.get("sides", {}).items():
        share = part["positives"] / part["judgments"] if part["judgments"] else float("nan")
        numbers = [count(part[name]) for name in ("queries", "judgments", "positives")]
        rows.append((phrases.SIDES.get(side, Phrase(side, side)), [*numbers, percent(share)]))
    leaks = []
    for leak in checked.get("leaks", ()):
        if leak["queries"] or leak["near_queries"] or leak["positives"]:
            sides = phrases.SIDES[leak["first"]], phrases.SIDES[leak["second"]]
            values = {"queries": count(leak["queries"]), "near": count(leak["near_queries"]), "positives": count(leak["positives"])}
            leaks.append(phrases.LEAK.with_phrase("first", sides[0]).with_phrase("second", sides[1]).format(**values))
    seen = {**{name: checked.get(name) for name in phrases.COUNTS}, **checked.get("notes", {})}
    remarks = [(phrases.COUNTS[name], count(value)) for name, value in seen.items() if name in phrases.COUNTS and value]
    for kind, lengths in (checked.get("lengths") or {}).items():
        if lengths["cut"] > 0:
            name = phrases.CUT.with_phrase("kind", phrases.KINDS[kind]).format(length=checked["max_length"])
            remarks.append((name, percent(lengths["cut"])))
        if lengths["unknown"] >= MANY_UNKNOWN:
            remarks.append((phrases.UNKNOWN.with_phrase("kind", phrases.KINDS[kind]), percent(lengths["unknown"])))
    if checked.get("removed"):
        remarks.append((phrases.REMOVED, count(checked["removed"])))
    return Counts(rows, leaks, phrases.SPLIT_BY.get(checked.get("by") or ""), remarks)
