"""How progress is told: to whom, by bars (at once in a terminal, a line now and then where the output is kept in a file), as a time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

Say = Callable[[str], None]
"""Who is told what happens, a line at a time."""

BAR: dict[str, Any] = {
    "delay": 2,
    "leave": False,
    "dynamic_ncols": True,
    "mininterval": 0.2 if sys.stderr.isatty() else 30.0,
    "smoothing": 0.1,
}


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
