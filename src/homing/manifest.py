"""What made an artefact, and artefacts that are whole or not there: directories and files that appear at once."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from homing.errors import ResourceError, RunError

PACKAGES = ("homing", "torch", "transformers", "sentence-transformers", "peft", "numpy", "rjieba")
NAME = "manifest.json"


def demand_replaceable(path: Path, *marks: str) -> None:
    """Raise RunError where `path` is a file, the directory that the command runs in, or one that holds something and none of these files.

    `marks` are files that an earlier artefact of the same kind would hold: whatever else lies there is not ours to remove.
    """
    if (at := next(each for each in (path, *path.absolute().parents) if each.exists())) and not at.is_dir():
        raise RunError("a file stands where a directory is to be written", where=str(at), remedy="Give another --out.")
    if path.is_dir() and Path.cwd().is_relative_to(path.resolve()):
        raise RunError("the directory is the one that this command runs in", where=str(path), remedy="Give --out a new name in it.")
    if path.is_dir() and any(path.iterdir()) and not any((path / mark).is_file() for mark in marks):
        raise RunError(
            "the directory holds something else than what is to be written, and would be lost", where=str(path),
            got=", ".join(sorted(each.name for each in path.iterdir())[:4]), expected="nothing, or an earlier result of this command",
            remedy="Give another --out, or move what is there.",
        )  # fmt: skip


def demand_disk(path: Path, size: int) -> None:
    """Raise ResourceError where the disk has no room for the `size` bytes that are to be written at `path`."""
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(parent).free
    if free < size:
        raise ResourceError(
            "the disk is too small", where=str(path), got=f"{free / 2**30:.1f} GiB free", expected=f"{size / 2**30:.1f} GiB",
            remedy="Give a place on another disk, or where there is --dtype a smaller one.",
        )  # fmt: skip


@contextmanager
def replace_directory(path: Path, *marks: str) -> Iterator[Path]:
    """A fresh directory to write into; on leaving without an error it takes the place of `path`, at once.

    An error leaves `path` as it was, and nothing beside it; so does a process that dies in between, but for what the next call clears
    (or, between two renames, for `.NAME.old`, which the next call puts back). Where a user chose the place, `marks` are the files that
    tell an earlier result from what must not be replaced, and RunError is raised as by `demand_replaceable`; so it is where another
    process is writing there.
    """
    path = path.resolve()
    if marks:
        demand_replaceable(path, *marks)
    fresh, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    with _alone(fresh, path):
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(old, ignore_errors=True)
        for leftover in fresh.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
        try:
            yield fresh
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        for file in fresh.rglob("*"):
            if file.is_file():
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
        if path.exists():
            os.replace(path, old)
        os.replace(fresh, path)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(fresh: Path, path: Path) -> Iterator[None]:
    """Make the directory `fresh` and hold its lock, which is the directory's own, so that it goes where that goes.

    Raises RunError where another process holds it. A file system without locks is written to without one.
    """
    held = None
    while held is None:
        fresh.mkdir(parents=True, exist_ok=True)
        held = os.open(fresh, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            raise RunError(
                "another process is writing there", where=str(path), remedy="Wait for it to end, or give another --out."
            ) from None
        except OSError:
            pass
        if not fresh.exists() or not os.path.samestat(os.fstat(held), fresh.stat()):  # whoever held it before has just put it in its place
            os.close(held)
            held = None
    try:
        yield
    finally:
        os.close(held)


@contextmanager
def replaced(path: Path, mode: str = "w", encoding: str = "utf-8") -> Iterator[IO[Any]]:
    """A file to write that takes the place of `path` when it is finished without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open(mode) if "b" in mode else temporary.open(mode, encoding=encoding, newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a machine that loses power may keep the rename and not what was written
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is whole or not there; NaN is an error, not a file that others cannot read."""
    with replaced(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def key(*parts: Any) -> str:
    """A digest of plain values (settings, other digests): equal keys, equal work."""
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def versions() -> dict[str, str]:
    """Python, platform and the packages that decide a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
