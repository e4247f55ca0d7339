"""Where what can be made again is kept between runs: embeddings, indexes. Each under a digest of all that it was made of."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path


def cache_directory(kind: str) -> Path | None:
    """The directory of the kept things of this kind: `$HOMING_CACHE/kind`, by default under ~/.cache/homing.

    None where HOMING_CACHE is `off`, or where that place cannot be written to, which standard error is told once: then nothing is kept.
    The directory is not made here, and may be deleted at any time.
    """
    said = os.environ.get("HOMING_CACHE", "")
    if said.lower() == "off":
        return None
    try:
        place = Path(said) if said else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homing"
    except RuntimeError:  # a user without a home, as in some containers
        place = Path("/.cache/homing")
    return place / kind if _writable(place) else None


@cache
def _writable(place: Path) -> bool:
    at = next(each for each in (place.absolute(), *place.absolute().parents) if each.exists())
    found = os.access(at, os.W_OK | os.X_OK)
    if not found:
        print(f"nothing is kept between runs: {at} cannot be written to (HOMING_CACHE names another place)", file=sys.stderr)
    return found
