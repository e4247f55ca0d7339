"""Digests of files and directories, by which a run knows what changed; those of large files are remembered, and not made at every start."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from homing.cache import cache_directory
from homing.manifest import NAME, key, write_json

LARGE = 1 << 28  # bytes of all files together; fewer are read in a moment
SETTLED = 2.0  # seconds since a file was last touched: one that is written to now could change once more within a tick of the clock


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or of every file of a directory with its name."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file() and file.name != NAME)

    def digest() -> str:
        state = sha256()
        for file in files:
            if file != path:
                state.update(f"{file.relative_to(path).as_posix()}\0".encode())
            update(state, file)
        return state.hexdigest()

    return remembered("files", files, digest)


def update(state: Any, file: Path) -> None:
    """Take the bytes of a file into the state of a hash."""
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            state.update(block)


def remembered(kind: str, files: Sequence[Path], digest: Callable[[], str]) -> str:
    """What `digest` makes of these files: made once, and kept in the cache as long as nobody touches one of them.

    That is told by each file's path, inode, size, and times of the last writing and of the last change; the latter the system sets, and
    no program can turn it back. Small files are always read, and so is what was touched a moment ago. `kind`: which digest it is.
    """
    stats = [file.stat() for file in files]
    kept = cache_directory("digests")
    touched = max((max(each.st_mtime, each.st_ctime) for each in stats), default=0.0)
    if kept is None or sum(each.st_size for each in stats) < LARGE or touched > time.time() - SETTLED:
        return digest()
    told = [
        [str(file.absolute()), each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns]
        for file, each in zip(files, stats, strict=True)
    ]
    entry = kept / f"{key(kind, told)}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        return str(json.loads(entry.read_text(encoding="utf-8"))["digest"])
    found = digest()
    with suppress(OSError):  # a full disk costs the keeping alone
        kept.mkdir(parents=True, exist_ok=True)
        write_json(entry, {"digest": found})
    return found
