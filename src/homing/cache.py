"""Where what can be made again is kept between runs: embeddings, indexes. Each under a digest of all that it was made of."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory(kind: str) -> Path | None:
    """The directory of the kept things of this kind: `$HOMING_CACHE/kind`, by default under ~/.cache/homing.

    None where HOMING_CACHE is `off`: then nothing is kept. The directory is not made here, and may be deleted at any time.
    """
    said = os.environ.get("HOMING_CACHE", "")
    if said.lower() == "off":
        return None
    return (Path(said) if said else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homing") / kind
