"""Embeddings that were made elsewhere, as an encoder of the texts that they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homing.data import Dataset, digest
from homing.errors import FormatError, SettingError
from homing.protocols import Kind

FILES: dict[Kind, str] = {"query": "queries.npy", "document": "documents.npy"}


class Given:
    """An encoder of known texts alone: those of a dataset, with an embedding for each in their order.

    Shapes: `queries` (queries of the dataset, dim), `documents` (documents, dim), of any floating type, in memory or mapped from disk; the
    score of two is their inner product. Raises FormatError where a shape doesn't fit the dataset, or a number is not finite.
    """

    prompts: Mapping[Kind, str] = {"query": "", "document": ""}
    similarity = "dot"

    def __init__(self, dataset: Dataset, queries: NDArray[np.floating], documents: NDArray[np.floating], name: str = "given") -> None:
        self.name = name
        self._texts: dict[Kind, tuple[str, ...]] = {"query": dataset.queries.texts, "document": dataset.corpus.texts}
        self._vectors: dict[Kind, NDArray[np.floating]] = {"query": queries, "document": documents}
        for kind, vectors in self._vectors.items():
            wanted = len(self._texts[kind]), *documents.shape[-1:]
            if vectors.shape != wanted or not np.issubdtype(vectors.dtype, np.floating):
                raise FormatError(
                    f"the embeddings do not fit the dataset's {FILES[kind].removesuffix('.npy')}", where=name,
                    got=f"{vectors.dtype} of shape {vectors.shape}", expected=f"a floating type, shape {wanted}",
                    remedy="Give one embedding a text, in the order of the dataset's queries.jsonl and corpus.jsonl.",
                )  # fmt: skip
            if broken := sum(int((~np.isfinite(block).all(axis=1)).sum()) for block in _blocks(vectors)):
                raise FormatError(
                    f"{FILES[kind]} holds embeddings that are not finite", where=name, got=f"{broken:,} of {len(vectors):,}",
                    remedy="Make these again: a model that fails in half precision gives such.",
                )  # fmt: skip

    @classmethod
    def read(cls, directory: str | Path, dataset: Dataset) -> Given:
        """The embeddings of `queries.npy` and `documents.npy`, mapped from disk. Raises FormatError where they cannot be read."""
        found: list[NDArray[np.floating]] = []
        for name in FILES.values():
            path = Path(directory) / name
            try:
                found.append(np.load(path, mmap_mode="r"))
            except (OSError, ValueError) as error:
                raise FormatError(
                    "the embeddings cannot be read", where=str(path), got=str(error), remedy="Write them with numpy.save."
                ) from None
        return cls(dataset, found[0], found[1], str(directory))

    @property
    def dimension(self) -> int:
        return int(self._vectors["document"].shape[1])

    @property
    def digest(self) -> str:
        return digest([self.digest_of("query"), self.digest_of("document")])

    def digest_of(self, kind: Kind) -> str:
        return self._digests[kind]

    @cached_property
    def _digests(self) -> dict[Kind, str]:
        digests: dict[Kind, str] = {}
        for kind, vectors in self._vectors.items():
            state = blake2b(digest_size=16)
            for block in _blocks(vectors):
                state.update(np.ascontiguousarray(block).tobytes())
            digests[kind] = state.hexdigest()
        return digests

    @cached_property
    def _rows(self) -> dict[Kind, dict[str, int]]:
        return {kind: {text: row for row, text in enumerate(texts)} for kind, texts in self._texts.items()}

    def encode(self, texts: Sequence[str], kind: Kind, *, progress: str = "") -> NDArray[np.float32]:
        """The embeddings of these texts, shape (texts, dimension); all of a kind in their order without a copy, as they were given.

        Raises SettingError for a text that has none.
        """
        vectors = self._vectors[kind]
        if texts is self._texts[kind]:
            return vectors  # search takes any floating type, and large ones stay on disk
        rows = self._rows[kind]
        if (unknown := next((text for text in texts if text not in rows), None)) is not None:
            raise SettingError(f"a {kind} has no embedding among those given", where=self.name, got=repr(unknown[:60]))
        return np.asarray(vectors[[rows[text] for text in texts]], dtype=np.float32)


def _blocks(vectors: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    """The rows (texts, dim), so many at a time that those on disk never stand in memory whole."""
    for start in range(0, len(vectors), 1 << 14):
        yield vectors[start : start + (1 << 14)]
