"""What a training step works on: which texts, each once, in which chunks, and what each document is to each query. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homing.data import Ints, Mined

# What a document of a batch is to a query; two kinds of negative are never confused. LEFT_OUT: a judge was unsure, it takes no part.
UNJUDGED, POSITIVE, NEGATIVE, MINED, LEFT_OUT = range(5)
WIDE = 32


@dataclass(frozen=True, eq=False)
class Batch:
    """Queries with all their positives and drawn negatives, over distinct texts.

    Shapes: `queries` (queries,) and `documents` (documents,): distinct positions in the dataset, ascending; `relevance`
    (queries, documents): UNJUDGED, POSITIVE (judged), NEGATIVE (judged), MINED (drawn for this query, without a judgment) or LEFT_OUT.
    """

    queries: Ints
    documents: Ints
    relevance: NDArray[np.int8]


class Groups:
    """The rows of `mined`, by query. A batch is made of whole groups, so that a query meets all its positives at once."""

    def __init__(self, mined: Mined) -> None:
        self.mined = mined
        self._rows = np.argsort(mined.query, kind="stable")
        self.queries, self._starts = np.unique(mined.query[self._rows], return_index=True)
        self._ends = np.append(self._starts[1:], len(mined))

    def __len__(self) -> int:
        return len(self.queries)

    def tokens(self, query_lengths: NDArray[np.integer], document_lengths: NDArray[np.integer]) -> NDArray[np.int64]:
        """Tokens that each group brings into a batch, shape (groups,); the lengths are by position in the dataset."""
        mined = self.mined
        a_row = document_lengths[mined.positive] + np.where(mined.negative >= 0, document_lengths[mined.negative], 0).sum(axis=1)
        brought: NDArray[np.int64] = np.add.reduceat(a_row[self._rows], self._starts) + query_lengths[self.queries]
        return brought

    def batch(self, groups: NDArray[np.integer], negative: Ints) -> Batch:
        """The batch of these groups; `negative` (rows, most negatives) is the epoch's draw.

        Every judgment of the training split between the batch's queries and documents is in `relevance`, whichever query brought the
        document; no judged positive is ever anything else.
        """
        rows = np.concatenate([self._rows[self._starts[group] : self._ends[group]] for group in groups.tolist()])
        queries = np.sort(self.queries[groups])
        own = negative[rows]
        documents = np.unique(np.concatenate([self.mined.positive[rows], own[own >= 0]]))
        relevance = np.zeros((len(queries), len(documents)), dtype=np.int8)
        row, column = np.nonzero(own >= 0)
        relevance[np.searchsorted(queries, self.mined.query[rows[row]]), np.searchsorted(documents, own[row, column])] = MINED
        judge(relevance, self.mined, queries, documents)
        return Batch(queries, documents, relevance)


def judge(relevance: NDArray[np.int8], mined: Mined, queries: Ints, documents: Ints) -> None:
    """Write every judgment of the training split into `relevance` (queries, documents), in place; `documents` ascend."""
    qrels = mined.train.qrels
    first, last = np.searchsorted(qrels.query, queries, "left"), np.searchsorted(qrels.query, queries, "right")
    for place, (start, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        judged = qrels.document[start:end]
        column = np.minimum(np.searchsorted(documents, judged), len(documents) - 1)
        there = documents[column] == judged
        said = qrels.relevance[start:end][there]
        relevance[place, column[there]] = np.select([said > 0, said < 0], [POSITIVE, LEFT_OUT], NEGATIVE)


def epoch_batches(tokens: NDArray[np.integer], batches: int, epoch: int, seed: int) -> list[NDArray[np.intp]]:
    """The groups of each batch of an epoch: every group once, in an order that seed and epoch alone decide, batches balanced by tokens.

    Shape of `tokens`: (groups,), tokens a group. Each batch has at least one group; there are `batches` of them, or one a group.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(tokens))
    batches = min(batches, len(order))
    upto = np.cumsum(tokens[order])
    cuts = np.searchsorted(upto - tokens[order] / 2, upto[-1] * np.arange(1, batches) / batches)
    cuts = np.maximum.accumulate(cuts - np.arange(1, batches)) + np.arange(1, batches)  # at least one group before each cut
    cuts = np.minimum(np.maximum(cuts, np.arange(1, batches)), len(order) - batches + np.arange(1, batches))
    return np.split(order, cuts)


def chunks(lengths: NDArray[np.integer], budget: int, padded: bool = True) -> Iterator[NDArray[np.intp]]:
    """Positions of texts in chunks of similar length, longest first, each of at most `budget` tokens, with or without padding.

    Shape of `lengths`: (texts,), tokens a text. Without padding, it would still be at most `WIDE` times as many with it, for what pools
    the texts pads them. A text longer than the budget is a chunk of its own. Longest first, so that memory
    peaks at the start and not after an hour.
    """
    by_length = np.argsort(-lengths, kind="stable")
    upto = np.cumsum(lengths[by_length])
    start = 0
    while start < len(by_length):
        if padded:
            size = budget // max(1, int(lengths[by_length[start]]))
        else:
            size = int(np.searchsorted(upto, (upto[start - 1] if start else 0) + budget, "right")) - start
            size = min(size, WIDE * budget // max(1, int(lengths[by_length[start]])))
        yield by_length[start : start + max(1, size)]
        start += max(1, size)
