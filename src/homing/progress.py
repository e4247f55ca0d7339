"""How progress is told: to whom, by bars (at once in a terminal, a line now and then where the output is kept in a file), as a time."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

Say = Callable[[str], None]
"""Who is told what happens, a line at a time."""


class Lines(io.TextIOBase):
    """Standard error for bars where it is no terminal: each state of a bar is a line of its own, and one that is wiped out is none."""

    def write(self, text: str) -> int:
        if line := text.replace("\x1b[A", "").strip():
            sys.stderr.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()


BAR: dict[str, Any] = {
    "file": None if sys.stderr.isatty() else Lines(),
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


def beside_bars(say: Say) -> Say:
    """`say`, on a line of its own where a bar is in a terminal."""
    from tqdm import tqdm

    def told(line: str) -> None:
        with tqdm.external_write_mode():
            say(line)

    return told
