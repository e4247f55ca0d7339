"""metrics.jsonl, the log of a training: a line of figures an update, and one a look at dev. Written by `journal`. Light: no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"


def records(file: Path) -> list[dict[str, Any]]:
    """The lines of a log as they were written; one that a kill cut short is left out. Empty where there is no log."""
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [each for each in found if isinstance(each, dict)]
