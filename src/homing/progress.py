"""How progress bars look: at once in a terminal, a line now and then where the output is kept in a file."""

from __future__ import annotations

import sys
from typing import Any

BAR: dict[str, Any] = {
    "delay": 2,
    "leave": False,
    "dynamic_ncols": True,
    "mininterval": 0.2 if sys.stderr.isatty() else 30.0,
    "smoothing": 0.1,
}
