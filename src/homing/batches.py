"""What a training step works on: which texts, each once, in which chunks, and what may stand against what. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homing.data import Ints, Mined

UNJUDGED, POSITIVE, NEGATIVE, MINED = range(4)  # what a document of a batch is to a query; two kinds of negative are never confused


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows over distinct texts.

    Shapes: `queries` (distinct queries,) and `documents` (distinct documents,): positions in the dataset; `row_query` and
    `row_positive` (rows,): positions in those two; `against` (rows, distinct documents): true where a document is a negative of the row.
    """

    queries: Ints
    documents: Ints
    row_query: NDArray[np.int64]
    row_positive: NDArray[np.int64]
    against: NDArray[np.bool_]


def make_batch(mined: Mined, rows: NDArray[np.integer], in_batch: bool) -> Batch:
    """The batch of these rows. With `in_batch`, every other document of the batch stands against a row; without, its own negatives.

    Either way no judged positive of a row's query stands against it.
    """
    queries, row_query = np.unique(mined.query[rows], return_inverse=True)
    own = mined.negative[rows]
    documents = np.unique(np.concatenate([mined.positive[rows], own[own >= 0]]))
    row_positive = np.searchsorted(documents, mined.positive[rows])
    against = np.full((len(rows), len(documents)), in_batch)
    if not in_batch:
        row, column = np.nonzero(own >= 0)
        against[row, np.searchsorted(documents, own[row, column])] = True
    positives = mined.train.qrels.positives
    for place, query in enumerate(mined.query[rows].tolist()):
        against[place, np.isin(documents, list(positives[query]))] = False
    return Batch(queries.astype(np.int32), documents.astype(np.int32), row_query, row_positive, against)


def chunks(lengths: NDArray[np.integer], budget: int) -> Iterator[NDArray[np.intp]]:
    """Positions of texts in chunks of similar length, longest first, each of at most `budget` tokens after padding.

    Shape of `lengths`: (texts,), tokens a text. A text longer than the budget is a chunk of its own. Longest first, so that memory
    peaks at the start and not after an hour.
    """
    by_length = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(by_length):
        size = max(1, budget // max(1, int(lengths[by_length[start]])))
        yield by_length[start : start + size]
        start += size


def epoch_order(rows: int, epoch: int, seed: int) -> NDArray[np.intp]:
    """The order of the rows in this epoch: a permutation that seed and epoch alone decide, so that a resumed run continues it."""
    return np.random.default_rng([seed, epoch]).permutation(rows)
