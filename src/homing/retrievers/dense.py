"""Exact search by inner product over embeddings, block by block: memory bounded, on the accelerator where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from homing.data import Floats32, Ints, Run, digest
from homing.errors import NotFittedError
from homing.progress import BAR
from homing.protocols import Encoder

BLOCK_SCORES = 1 << 22  # scores worked out at once on a CPU, which bound the memory
_QUERIES = 256  # of these at once, likewise; the rest of a block are documents, so that each is read once
_DOCUMENTS = 1 << 16  # of these at most: those on disk in another type are turned into float32
_PAIRS = 1 << 12  # given pairs scored at once
_Number = TypeVar("_Number", bound=np.floating[Any])


def search_embeddings(
    queries: NDArray[np.floating], documents: NDArray[np.floating], top_k: int, ties: Ints | None = None, *, progress: str = ""
) -> Run:
    """The best `top_k` documents of each query by inner product, in float32.

    Shapes: `queries` (queries, dim), `documents` (documents, dim), either of them in memory or mapped from disk, in any floating type;
    `ties` (documents,): of equal scores the higher `ties` comes first (by default, the earlier document). The run's rows are the queries
    in their order; it holds min(top_k, documents) columns. `progress` names a bar.
    """
    top_k = min(top_k, len(documents))
    found = np.full((len(queries), top_k), -1, dtype=np.int32)
    scores = np.full((len(queries), top_k), -np.inf, dtype=np.float32)
    run = Run(np.arange(len(queries), dtype=np.int32), found, scores)
    if not found.size:
        return run
    ties = np.arange(len(documents), 0, -1, dtype=np.int32) if ties is None else ties
    product = _product()
    rows = product.at_once * _QUERIES
    size = min(_DOCUMENTS, max(1, product.at_once * BLOCK_SCORES // min(rows, len(queries))))
    with tqdm(total=len(queries) * len(documents), desc=progress, unit=" scores", unit_scale=True, **_bar(progress)) as bar:
        for first in range(0, len(documents), size):
            block = product.load(documents[first : first + size])
            for start in range(0, len(queries), rows):
                some = slice(start, start + rows)
                row, column, score = product.candidates(queries[some], block, scores[some, -1], top_k)
                _merge(found[some], scores[some], row, (column + first).astype(np.int32), score, ties)
                bar.update(len(found[some]) * min(size, len(documents) - first))
    return run


def _bar(progress: str) -> dict[str, Any]:
    return BAR if progress else {"disable": True}


def _merge(found: Ints, scores: Floats32, row: NDArray[Any], document: Ints, score: Floats32, ties: Ints) -> None:
    """Take candidates, sorted by `row`, into the best documents so far of each row, in place."""
    rows, top_k = found.shape
    held_row, held = np.repeat(np.arange(rows), top_k), (found >= 0).ravel()
    row = np.concatenate([held_row[held], row])
    document, score = np.concatenate([found.ravel()[held], document]), np.concatenate([scores.ravel()[held], score])
    order = np.lexsort((-ties[document], -score, row))
    place = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    order, place = order[place < top_k], place[place < top_k]
    found[row[order], place], scores[row[order], place] = document[order], score[order]


class _OnCpu:
    """Products with NumPy's BLAS, which takes the cores that there are."""

    at_once = 1

    def load(self, documents: NDArray[np.floating]) -> Floats32:
        return np.asarray(documents, dtype=np.float32)

    def candidates(self, queries: NDArray[np.floating], documents: Floats32, least: Floats32, top_k: int) -> tuple[Any, Any, Floats32]:
        """Rows, columns and scores, by row, of all that may be among the best: none of the best `top_k` of a row is left out."""
        scores = np.asarray(queries, dtype=np.float32) @ documents.T
        block = scores.shape[1] // (4 * top_k)
        if block > 1 and not np.isfinite(least).all():
            # The k-th best of the maxima of blocks is at most the k-th best score.
            whole = scores[:, : scores.shape[1] // block * block].reshape(len(scores), -1, block).max(axis=2)
            least = np.maximum(least, np.partition(whole, whole.shape[1] - top_k, axis=1)[:, whole.shape[1] - top_k])
        row, column = np.nonzero(scores >= least[:, None])
        return row, column, scores[row, column]


class _OnAccelerator:
    """The same on PyTorch's accelerator, which needs more of it to be busy."""

    at_once = 4  # times what a CPU takes

    def __init__(self, device: Any) -> None:
        self.device = device

    def load(self, documents: NDArray[np.floating]) -> Any:
        import torch

        writable = np.require(documents, np.float32, ["C", "W"])  # PyTorch warns of others, as what is mapped from disk
        return torch.from_numpy(writable).to(self.device)

    def candidates(self, queries: NDArray[np.floating], documents: Any, least: Floats32, top_k: int) -> tuple[Any, Any, Floats32]:
        import torch

        scores = self.load(queries) @ documents.T
        best = torch.topk(scores, min(top_k, scores.shape[1]), dim=1).values[:, -1]
        lower = torch.maximum(self.load(least), best) if scores.shape[1] >= top_k else self.load(least)
        row, column = torch.nonzero(scores >= lower[:, None], as_tuple=True)
        return row.cpu().numpy(), column.cpu().numpy(), scores[row, column].cpu().numpy()


def _product() -> _OnCpu | _OnAccelerator:
    from homing.encoders.devices import default_device

    device = default_device()
    return _OnCpu() if device.type == "cpu" else _OnAccelerator(device)


def inner_products(one: Floats32, rows: NDArray[Any], other: Floats32, others: NDArray[Any], dtype: type[_Number]) -> NDArray[_Number]:
    """The inner product of each of these rows of the one with its row of the other, added up in `dtype`.

    Shapes: `one` and `other` (texts, dimension), `rows`, `others` and the products (pairs,).

    In blocks: both embeddings of every pair at once would take the room of many corpora.
    """
    products = np.empty(len(rows), dtype)
    for start in range(0, len(rows), _PAIRS):
        some = slice(start, start + _PAIRS)
        products[some] = np.einsum("pd,pd->p", one[rows[some]], other[others[some]], dtype=dtype)
    return products


class Dense:
    """A `Retriever` over any `Encoder`."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.name = encoder.name
        self._fitted: tuple[Floats32, str] | None = None
        self._asked: tuple[list[str], Floats32] | None = None

    @property
    def embeddings(self) -> Floats32:
        """Embeddings of the fitted documents, shape (documents, dimension). Raises NotFittedError before `fit`."""
        return self._demand()[0]

    @property
    def digest(self) -> str:
        """Changes whenever a result could: with the documents and the encoder. Raises NotFittedError before `fit`."""
        return digest([self._demand()[1], self.encoder.digest])

    def _demand(self) -> tuple[Floats32, str]:
        if self._fitted is None:
            raise NotFittedError("there is nothing to search", where=self.encoder.name, remedy="Call fit(documents) first.")
        return self._fitted

    def fit(self, documents: Sequence[str]) -> None:
        """Encode these documents, in place of any before."""
        self._fitted = self.encoder.encode(documents, "document", progress=f"{self.name}: documents"), digest(documents)

    def search(self, queries: Sequence[str], top_k: int) -> Run:
        """The best `top_k` documents of each query. Raises NotFittedError before `fit`."""
        documents = self.embeddings
        return search_embeddings(self._embedded(queries), documents, top_k, progress=f"{self.name}: search")

    def score(self, queries: Sequence[str], query: NDArray[Any], document: NDArray[Any]) -> Floats32:
        """The scores of given pairs: that of `queries[query[i]]` and document `document[i]` at i; shape (pairs,).

        Raises NotFittedError before `fit`.
        """
        documents = self.embeddings
        return inner_products(self._embedded(queries), query, documents, document, np.float32)

    def _embedded(self, queries: Sequence[str]) -> Floats32:
        """The queries' embeddings, shape (queries, dimension); whoever asks for the same again does not have them encoded again."""
        if self._asked is None or self._asked[0] != list(queries):
            self._asked = list(queries), self.encoder.encode(queries, "query", progress=f"{self.name}: queries")
        return self._asked[1]
