"""Exact search by inner product over embeddings, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from homing.data import Ints, Run
from homing.errors import NotFittedError
from homing.measures import order
from homing.protocols import Encoder

BLOCK_SCORES = 1 << 24


def search_embeddings(queries: NDArray[np.float32], documents: NDArray[np.float32], top_k: int, ties: Ints | None = None) -> Run:
    """The best `top_k` documents of each query by inner product.

    Shapes: `queries` (queries, dim), `documents` (documents, dim), `ties` (documents,): of equal scores the higher `ties` comes first
    (by default, the earlier document). The run's rows are the queries in their order; it holds min(top_k, documents) columns.
    """
    top_k = min(top_k, len(documents))
    ties = np.arange(len(documents), 0, -1, dtype=np.int32) if ties is None else ties
    found = np.empty((len(queries), top_k), dtype=np.int32)
    scores = np.empty((len(queries), top_k), dtype=np.float32)
    block = max(1, BLOCK_SCORES // max(1, len(documents)))
    for start in range(0, len(queries), block):
        all_scores = queries[start : start + block] @ documents.T
        best = (
            np.argpartition(-all_scores, top_k - 1, axis=1)[:, :top_k]
            if top_k < len(documents)
            else np.tile(np.arange(len(documents)), (len(all_scores), 1))
        )
        best_scores = np.take_along_axis(all_scores, best, axis=1)
        ranked = order(best_scores, ties[best])
        found[start : start + block] = np.take_along_axis(best, ranked, axis=1)
        scores[start : start + block] = np.take_along_axis(best_scores, ranked, axis=1)
    return Run(np.arange(len(queries), dtype=np.int32), found, scores)


class Dense:
    """A `Retriever` over any `Encoder`."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._embeddings: NDArray[np.float32] | None = None

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """Embeddings of the fitted documents, shape (documents, dimension). Raises NotFittedError before `fit`."""
        if self._embeddings is None:
            raise NotFittedError("there is nothing to search", where=self.encoder.name, remedy="Call fit(documents) first.")
        return self._embeddings

    def fit(self, documents: Sequence[str]) -> None:
        """Encode these documents, in place of any before."""
        self._embeddings = self.encoder.encode(documents, "document")

    def search(self, queries: Sequence[str], top_k: int) -> Run:
        """The best `top_k` documents of each query. Raises NotFittedError before `fit`."""
        documents = self.embeddings
        return search_embeddings(self.encoder.encode(queries, "query"), documents, top_k)
