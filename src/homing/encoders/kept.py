"""Embeddings kept: what one stage, run or process has encoded, no other encodes again.

They lie under `$HOMING_CACHE/embeddings` (`~/.cache/homing` unless said; `HOMING_CACHE=off` keeps none), a `Store` for each side of each
model, named by that side's digest: other weights, another prompt, pooling or length is another store.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homing.cache import cache_directory
from homing.encoders.endpoint import Endpoint, to_stderr
from homing.encoders.repeated import each_once
from homing.encoders.store import Store
from homing.errors import ModelError
from homing.progress import Say
from homing.protocols import Encoder, Kind

BLOCK_CHARACTERS = 1 << 18  # encoded between two writes: what a kill can cost with a model of one's own
SAME = 1e-3  # a cosine distance that rounding does not reach and other weights do


class Kept:
    """An encoder whose embeddings are kept on disk, by the digest of what made them and of the text; itself an `Encoder`.

    A text is encoded once, whoever asks, and what is encoded is written a block at a time, so that a killed call goes on. Before kept
    embeddings are used, one of them is encoded again: where it differs (another version of a library, a server that changed its model
    behind its name), `say` hears it and none of them is used. A disk that is full or may not be written costs the keeping alone.

    `directory` is by default `cache_directory("embeddings")`. `encoded` counts the texts that were encoded in this process, `seconds`
    how long that took.
    """

    def __init__(self, encoder: Encoder, directory: str | Path | None = None, say: Say = to_stderr) -> None:
        self.encoder: Encoder = encoder.encoder if isinstance(encoder, Kept) else encoder
        self.directory = Path(directory) if directory is not None else cache_directory("embeddings")
        self.encoded, self.seconds = 0, 0.0
        self._say, self._stores = say, dict[str, Store]()

    @property
    def name(self) -> str:
        return self.encoder.name

    @property
    def digest(self) -> str:
        return self.encoder.digest

    def digest_of(self, kind: Kind) -> str:
        return self.encoder.digest_of(kind)

    @property
    def prompts(self) -> Mapping[Kind, str]:
        return self.encoder.prompts

    @property
    def similarity(self) -> str:
        return self.encoder.similarity

    @property
    def dimension(self) -> int:
        return self.encoder.dimension

    @property
    def cost(self) -> dict[str, float]:
        """What an endpoint counted; empty for a local model."""
        return self.encoder.cost if isinstance(self.encoder, Endpoint) else {}

    def encode(self, texts: Sequence[str], kind: Kind, *, progress: str = "") -> NDArray[np.float32]:
        """Embeddings of texts, shape (texts, dimension); not to be written to: they may be mapped from the disk.

        Raises ModelError for an embedding that is not finite, and what the encoder raises.
        """
        if self.directory is None or not texts:
            return self._encode(texts, kind, progress)
        distinct, rows = each_once(texts)
        store = self._store(self.directory, kind, distinct)
        missing, size = _without(store.find(distinct), distinct), BLOCK_CHARACTERS
        if isinstance(self.encoder, Endpoint) and missing:
            self.encoder.announce(missing, kind)
            size *= 4  # enough to keep several requests under way
        blocks = list(_blocks(missing, size))
        unkept = list[NDArray[np.float32]]()
        for number, block in enumerate(blocks, 1):
            told = f"{progress} ({number} of {len(blocks)})" if progress and len(blocks) > 1 else progress
            found = self._encode(block, kind, told, store)
            store.add(block, found)
            if store.broken:
                unkept.append(found)
        places = store.find(distinct)
        if (places >= 0).all():
            return store.rows(places[rows])
        self._say(f"{self.name}: embeddings are not kept: {store.broken or 'what was written cannot be read'}")
        missing = _without(places, distinct)
        made = np.concatenate(unkept) if sum(map(len, unkept)) == len(missing) else self._encode(missing, kind, progress)
        embeddings = np.empty((len(distinct), made.shape[1]), dtype=np.float32)
        embeddings[places < 0] = made
        if (places >= 0).any():
            embeddings[places >= 0] = store.rows(places[places >= 0])
        return embeddings[rows]

    def _encode(self, texts: Sequence[str], kind: Kind, progress: str, store: Store | None = None) -> NDArray[np.float32]:
        start = time.perf_counter()
        if isinstance(self.encoder, Endpoint) and store is not None:  # whose answers are paid for: kept one by one, whatever comes then
            found = self.encoder.encode(texts, kind, progress=progress, keep=store.add)
        else:
            found = self.encoder.encode(texts, kind, progress=progress)
        self.seconds, self.encoded = self.seconds + time.perf_counter() - start, self.encoded + len(texts)
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(bad):
            raise ModelError(
                f"the embedding of a {kind} is not finite", where=self.name, got=f"{len(bad):,} of {len(texts):,} texts",
                remedy="Use a number format with a wider range (float32, bfloat16), or another model.",
            )  # fmt: skip
        return found

    def _store(self, directory: Path, kind: Kind, texts: Sequence[str]) -> Store:
        """The store of this kind. When a process first sees it, one of the embeddings that are asked for is encoded again."""
        digest = self.digest_of(kind)
        if digest in self._stores:
            return self._stores[digest]
        store = Store(directory / digest, digest)
        places = store.find(texts)
        if (places >= 0).any():
            known = min(np.flatnonzero(places >= 0).tolist(), key=lambda text: len(texts[text]))
            before, now = store.rows(places[[known]])[0], self.encoder.encode([texts[known]], kind)[0]
            if before.shape != now.shape or _distance(before, now) > SAME:
                self._say(f"{self.name}: it embeds a text otherwise than when its embeddings were kept: all are made again")
                store.clear()
        self._stores[digest] = store
        return store


def _blocks(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    block, characters = list[str](), 0
    for text in texts:
        block.append(text)
        characters += len(text)
        if characters >= size:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _without(places: NDArray[np.int64], texts: Sequence[str]) -> list[str]:
    """The texts that have no place."""
    return [texts[text] for text in np.flatnonzero(places < 0).tolist()]


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Half the squared length of the difference, against the longer one: for unit vectors, their cosine distance."""
    longer = max(float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    return float(np.linalg.norm(one - other) / longer) ** 2 / 2 if longer else 0.0
