"""What each stage's result depends on: equal values, equal result. So it is known what a change redoes, before anything starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from homing.digests import file_digest
from homing.general import SETS
from homing.manifest import key
from homing.runs.work import Work
from homing.training.session import deciding

_DIGEST = re.compile("[0-9a-f]{32,}")
AFTER: dict[str, tuple[str, ...]] = {
    "check": (), "split": (), "mine": ("split",), "train": ("split", "mine"), "merge": ("train",), "seed": ("split",),
    "share": ("split", "mine"), "start": ("split", "mine"), "evaluate": ("split", "merge"), "report": ("train", "evaluate"),
}  # fmt: skip


def after(stage: str, stages: tuple[str, ...]) -> tuple[str, ...]:
    """The stages whose results this one is made from."""
    further = tuple(each for each in stages if " " in each) if stage == "evaluate" else ()
    return (*AFTER[stage.split()[0]], *further)


def depends(work: Work) -> dict[str, dict[str, Any]]:
    """What each stage depends on, by name: settings, digests, and the keys of the stages before it."""
    recipe = work.recipe
    data = {
        "data": work.data,
        "format": recipe.format,
    }
    base = {"model": work.base.digest}
    mining = {"mining": asdict(recipe.mining), "judgments": [file_digest(Path(path)) for path in recipe.judgments]}
    if recipe.mining.retriever not in ("list", "bm25"):
        mining |= base
    training = {**base, "training": deciding(recipe.training), **work.beside}
    own: dict[str, dict[str, Any]] = {
        "check": {**data, **base},
        "split": {**data, "splitting": asdict(recipe.splitting)},
        "mine": mining,
        "train": training,
        "merge": {},
        "seed": {**training, **mining},
        "share": training,
        "start": {name: value for name, value in training.items() if name != "start"},
        "evaluate": {
            **base,
            "evaluating": asdict(recipe.evaluating),
            "baseline": None if work.deployed is None else work.deployed.digest,
            "instructions": None if recipe.instructions is None else file_digest(Path(recipe.instructions)),
            "general": recipe.general if recipe.general in SETS or recipe.general is None else file_digest(Path(recipe.general)),
        },
        "report": {"reporting": asdict(recipe.reporting)},
    }
    found: dict[str, dict[str, Any]] = {}
    for stage in work.stages:
        before = after(stage, work.stages)
        found[stage] = {**own[stage.split()[0]], **{f"stage {each}": key(found[each]) for each in before}}
        if " " in stage:
            found[stage]["of"] = stage
    return found


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed between two `depends` of a stage, in words."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    stages = [name.removeprefix("stage ") for name in changed if name.startswith("stage ")]
    words = []
    for name in changed:
        if isinstance(now.get(name), Mapping) and isinstance(before.get(name), Mapping):
            words += [_change(each, before[name].get(each), value) for each, value in now[name].items() if before[name].get(each) != value]
        elif not name.startswith("stage "):
            words.append(f"{name} changed")
    if words:
        return "again: " + ", ".join(words)[:200]
    return f"again: after {stages[0]}" if stages else "again"


def _change(name: str, before: object, now: object) -> str:
    """A setting with both its values; a digest, which tells a reader nothing, without them."""
    if any(isinstance(value, str) and _DIGEST.fullmatch(value) for value in (before, now)):
        return f"{name} changed"
    old, new = ("none" if value in (None, "") else f"{value:.4g}" if isinstance(value, float) else value for value in (before, now))
    return f"{name} {old} -> {new}"
