"""The texts that training touches, tokenised once for all epochs and mapped from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homing.data import Dataset, digest
from homing.encoders.model import Model
from homing.encoders.tokens import Tokens
from homing.manifest import replace_directory


class Tokenised:
    """`tokens` of the queries and documents that are named, queries first; kept at `place`, in `directory`, by their digest.

    `query` and `document` map positions in the dataset, shapes (queries,) and (documents,), to positions in `tokens`; -1 for a text that
    was not named.
    """

    def __init__(self, model: Model, data: Dataset, queries: NDArray[np.integer], documents: NDArray[np.integer], directory: Path) -> None:
        queries, documents = np.unique(queries), np.unique(documents)
        texts = [data.queries.texts[query] for query in queries.tolist()], [data.corpus.texts[each] for each in documents.tolist()]
        self.place = directory / digest([model.digest, str(len(queries)), *texts[0], *texts[1]])
        if (kept := _kept(self.place)) is None:
            both = [model.tokenize(texts[0], "query"), model.tokenize(texts[1], "document")]
            with replace_directory(self.place) as fresh:
                np.save(fresh / "ids.npy", np.concatenate([each.ids for each in both]))
                np.save(fresh / "offsets.npy", np.concatenate([both[0].offsets, both[0].offsets[-1] + both[1].offsets[1:]]))
            kept = _read(self.place)
        self.tokens = kept
        self.query = np.full(len(data.queries), -1, dtype=np.int64)
        self.document = np.full(len(data.corpus), -1, dtype=np.int64)
        self.query[queries] = np.arange(len(queries))
        self.document[documents] = len(queries) + np.arange(len(documents))

    def query_lengths(self) -> NDArray[np.int64]:
        """Tokens of each query of the dataset, 0 for one that was not named; shape (queries,)."""
        return np.where(self.query >= 0, self.tokens.lengths[self.query], 0)

    def document_lengths(self) -> NDArray[np.int64]:
        """Tokens of each document of the corpus, 0 for one that was not named; shape (documents,)."""
        return np.where(self.document >= 0, self.tokens.lengths[self.document], 0)


def _read(place: Path) -> Tokens:
    return Tokens(np.load(place / "ids.npy", mmap_mode="r"), np.load(place / "offsets.npy"))


def _kept(place: Path) -> Tokens | None:
    """The tokens kept there; None where there are none, or not all."""
    try:
        tokens = _read(place)
    except (OSError, ValueError, EOFError):
        return None
    return tokens if tokens.offsets[-1] == len(tokens.ids) else None
