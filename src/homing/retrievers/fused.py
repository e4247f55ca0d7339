"""Reciprocal-rank fusion: what several retrievers rank high, by their ranks alone.

Cormack, Clarke, Büttcher: Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods, SIGIR 2009. Scores of BM25
and of embeddings have no scale in common; ranks have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homing.data import Run, digest
from homing.protocols import Retriever

K = 60  # of the paper: how little the very first ranks stand out
DEPTH = 100  # documents that each retriever finds at the least


def fuse(runs: Sequence[Run], top_k: int) -> Run:
    """One run of several over the same queries: a document's score is the sum of 1 / (K + rank) over the runs that found it.

    Of equal scores the document that stands earlier in the corpus comes first. Each run should be deeper than `top_k`.
    """
    queries = len(runs[0].query)
    rows, documents, gains = [], [], []
    for run in runs:
        row, column = np.nonzero(run.document >= 0)
        rows.append(row)
        documents.append(run.document[row, column].astype(np.int64))
        gains.append(1.0 / (K + 1 + column))
    row, document = np.concatenate(rows), np.concatenate(documents)
    width = int(document.max(initial=0)) + 1
    pair, inverse = np.unique(row * width + document, return_inverse=True)
    score = np.bincount(inverse, np.concatenate(gains), len(pair))
    row, document = np.divmod(pair, width)
    order = np.lexsort((document, -score, row))
    place = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    order, place = order[place < top_k], place[place < top_k]
    columns = int(place.max(initial=-1)) + 1
    found, scores = np.full((queries, columns), -1, dtype=np.int32), np.zeros((queries, columns), dtype=np.float32)
    found[row[order], place], scores[row[order], place] = document[order], score[order]
    return Run(runs[0].query, found, scores)


class Fused:
    """A `Retriever` of several: each finds `DEPTH` documents (or the number asked for, if that is more), which are fused."""

    name = "fused"

    def __init__(self, *retrievers: Retriever) -> None:
        self.retrievers = retrievers

    def fit(self, documents: Sequence[str]) -> None:
        """Index these documents with each, in place of any before."""
        for each in self.retrievers:
            each.fit(documents)

    @property
    def digest(self) -> str:
        """Changes whenever a result could. Raises NotFittedError before `fit`."""
        return digest([*(each.digest for each in self.retrievers), f"{DEPTH} {K}"])

    def search(self, queries: Sequence[str], top_k: int) -> Run:
        """The best `top_k` documents of each query. Raises NotFittedError before `fit`."""
        return fuse([each.search(queries, max(top_k, DEPTH)) for each in self.retrievers], top_k)
