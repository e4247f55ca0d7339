"""homing.json: what a directory of Homing's says of itself, a model's or an adapter's, beside the files that other programs read.

A model's has `merged`, `evaluated` and `dimensions` (written by `shipping.origin`), `decision` (`measures.decision`) and `documents`
(`encoders.pair`); an adapter's the conventions of its training (`encoders.tuning`), its `scale` and what it was to `train` (`training`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from homing.errors import ModelError
from homing.manifest import write_json

FILE = "homing.json"


def read(directory: Path) -> dict[str, Any]:
    """What the directory's homing.json says, empty where there is none. Raises ModelError where it cannot be read."""
    file = directory / FILE
    if not file.is_file():
        return {}
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(said, dict):
            raise ValueError(f"a {type(said).__name__}")
        return said
    except (OSError, ValueError) as error:
        raise ModelError(
            "the file cannot be read", where=str(file), got=str(error)[:200], expected="a JSON object", remedy="Make the directory again."
        ) from None


def put(directory: Path, **said: Any) -> None:
    """Write these keys beside the others; the file is whole at any moment."""
    write_json(directory / FILE, {**read(directory), **said})
