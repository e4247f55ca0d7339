"""Embeddings on disk, found by their texts: append-only, safe under a kill and under two processes.

A directory holds `rows` (float32 embeddings, one after the other) and `index` (for each row a keyed digest of its text, never the text,
and a checksum). A row is written and synced before its entry: what a kill cut off has no entry and is overwritten, and a row that a disk
spoiled does not match its checksum and counts as missing. One process writes at a time; who reads sees a whole state.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("checksum", "<u4")])
MARK = 0x676E696D6F48  # the first entry: this number, the dimension, and 1 for this layout


class Store:
    """The embeddings of one side of one model; `key` is that side's digest. `broken` says why no more is kept, or is empty."""

    def __init__(self, directory: Path, key: str) -> None:
        self.directory, self.broken = directory, ""
        self._key = key.encode()[:64]
        self._state: tuple[int, int, int] | None = None
        self._forget()
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked():
                self._read()
        except OSError as error:
            self.broken = str(error)

    def find(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The row of each text, -1 where there is none that is whole; shape (texts,)."""
        with suppress(OSError), self._locked():  # what was seen stays mapped, even if the directory is gone
            self._read()
        return self._find(self._digests(texts))

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """The embeddings of these rows, shape (places, dimension): mapped from the disk, read-only, where they lie in a row."""
        if len(places) and (np.diff(places) == 1).all():
            return self._rows[places[0] : places[-1] + 1]
        return self._rows[places]

    def add(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> None:
        """Keep the embeddings (texts, dimension) of texts that are not kept yet."""
        if self.broken:
            return
        try:
            with self._locked():
                self._read()
                self._add(self._digests(texts), np.ascontiguousarray(embeddings, dtype="<f4"))
        except OSError as error:
            self.broken = str(error)

    def clear(self) -> None:
        """Keep nothing of what there is. Who has rows mapped keeps them: the files are new ones."""
        if self.broken:
            return
        try:
            with self._locked():
                self._unlink()
                self._read()
        except OSError as error:
            self.broken = str(error)

    def _unlink(self) -> None:
        for name in ("index", "rows"):
            (self.directory / name).unlink(missing_ok=True)

    def _forget(self) -> None:
        self._index = np.empty(0, dtype=ENTRY)
        self._rows = np.empty((0, 0), dtype=np.float32)
        self._order = np.empty(0, dtype=np.int64)
        self._whole = np.empty(0, dtype=np.bool_)

    def _digests(self, texts: Sequence[str]) -> NDArray[np.void]:
        raw = b"".join(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key).digest() for text in texts)
        return np.frombuffer(raw, dtype=[("high", "<u8"), ("low", "<u8")])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / "lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _read(self) -> None:
        """See what is on disk, if it is not what was seen before."""
        try:
            found = os.stat(self.directory / "index")
        except FileNotFoundError:
            self._state = None
            self._forget()
            return
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        if state == self._state:
            return
        same_file, seen = self._state is not None and self._state[0] == state[0], len(self._index)
        raw = np.fromfile(self.directory / "index", dtype=ENTRY)
        whole = self._whole
        self._forget()
        self._state = state
        if len(raw) < 2 or raw[0]["high"] != MARK or raw[0]["checksum"] != 1 or not raw[0]["low"]:
            return
        dimension = int(min(raw[0]["low"], 1 << 32))
        file = self.directory / "rows"
        count = min(len(raw) - 1, file.stat().st_size // (4 * dimension))
        if not count:
            return
        self._index = raw[1 : count + 1]
        self._rows = np.asarray(np.memmap(file, dtype="<f4", mode="r", shape=(count, dimension)))
        self._order = np.argsort(self._index["high"], kind="stable")
        self._whole = np.zeros(count, dtype=np.bool_)
        if same_file:
            self._whole[:seen] = whole[:count]

    def _find(self, digests: NDArray[np.void]) -> NDArray[np.int64]:
        places = np.full(len(digests), -1, dtype=np.int64)
        if not len(self._index) or not len(digests):
            return places
        at = np.searchsorted(self._index["high"], digests["high"], side="right", sorter=self._order) - 1
        row = self._order[np.maximum(at, 0)]
        there = (at >= 0) & (self._index["high"][row] == digests["high"]) & (self._index["low"][row] == digests["low"])
        for unseen in row[there & ~self._whole[row]].tolist():
            self._whole[unseen] = self._index["checksum"][unseen] == _checksum(self._index["low"][unseen], self._rows[unseen])
        there &= self._whole[row]
        places[there] = row[there]
        return places

    def _add(self, digests: NDArray[np.void], embeddings: NDArray[np.float32]) -> None:
        new = self._find(digests) < 0
        if not new.any() and self._rows.shape[1] == embeddings.shape[1]:
            return
        digests, embeddings = digests[new], embeddings[new]
        entries = np.zeros(len(digests), dtype=ENTRY)
        entries["high"], entries["low"] = digests["high"], digests["low"]
        entries["checksum"] = [_checksum(low, row) for low, row in zip(digests["low"], embeddings, strict=True)]
        fresh = self._rows.shape[1] != embeddings.shape[1]  # the first ones, or a server that serves another model now
        if fresh:
            self._unlink()
            head = np.zeros(1, dtype=ENTRY)
            head["high"], head["low"], head["checksum"] = MARK, embeddings.shape[1], 1
            entries = np.concatenate([head, entries])
        _append(self.directory / "rows", 0 if fresh else self._rows.nbytes, embeddings.tobytes())
        _append(self.directory / "index", 0 if fresh else (len(self._index) + 1) * ENTRY.itemsize, entries.tobytes())


def _append(file: Path, size: int, content: bytes) -> None:
    """Write and sync content behind the first `size` bytes of a file: what a killed process left there is cut off."""
    with file.open("r+b" if file.exists() else "wb") as handle:
        handle.truncate(size)
        handle.seek(size)
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _checksum(low: np.uint64, row: NDArray[np.float32]) -> int:
    """Of an embedding, and bound to its text."""
    return crc32(row.tobytes(), int(low) & 0xFFFFFFFF)
