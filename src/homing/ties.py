"""What ties queries to one another: nearly equal texts, and relevant documents in common. What hangs together is a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from homing.data import Dataset, Ints
from homing.texts.near import join


def groups_of_given(sides: Sequence[Dataset], by: str) -> Ints:
    """The group of each query of sides that were given, shape (queries,): what hangs together within a side, as `split` would group it.

    Sides that leak into each other keep groups apart, for a side is what is drawn from. A query of several sides is in its group of the
    last of them, one without a judgment alone. `by`: "query" where positives may be shared.
    """
    groups = np.arange(len(sides[0].queries))
    for data in sides:
        ties = Ties.of(data, by)
        groups[ties.queries] = groups.max() + 1 + ties.groups(np.ones(len(ties.queries), dtype=bool))
    return np.unique(groups, return_inverse=True)[1].astype(np.int32)


@dataclass(frozen=True)
class Ties:
    """What ties the judged queries to one another.

    `queries`: positions in the dataset, shape (judged,). `positive`: (judged, documents), 1 where relevant; empty where positives may be
    shared. `near`: (judged, judged), symmetric, 1 for near-duplicate texts. Where pairs of these are too many (`crowded`), `near` is empty
    and what hangs together by nearly equal texts stands as further columns of `positive`, which tie each of a group to all of it.
    """

    queries: Ints
    positive: csr_array
    near: csr_array
    crowded: bool = False

    @classmethod
    def of(cls, data: Dataset, by: str) -> Ties:
        """The ties of a dataset's judged queries; by "query" positives may be shared, by "group" they tie."""
        queries = data.qrels.queries
        relevant = (data.qrels.relevance > 0) & (by == "group")
        row = np.searchsorted(queries, data.qrels.query[relevant])
        positive = coo_array((np.ones(len(row)), (row, data.qrels.document[relevant])), shape=(len(queries), len(data.corpus)))
        found = join([data.queries.texts[query] for query in queries.tolist()])
        if not found.complete:
            ends = np.append(row, np.arange(len(queries))), np.append(positive.col, len(data.corpus) + found.group)
            tied = coo_array((np.ones(len(ends[0])), ends), shape=(len(queries), len(data.corpus) + int(found.group.max()) + 1))
            return cls(queries, tied.tocsr(), csr_array((len(queries), len(queries))), crowded=True)
        one, other = found.pairs.T
        ends = np.concatenate((one, other)), np.concatenate((other, one))
        near = coo_array((np.ones(len(ends[0])), ends), shape=(len(queries), len(queries)))
        return cls(queries, positive.tocsr(), near.tocsr())

    @cached_property
    def holders(self) -> csr_array:
        """`positive` turned round: the queries of each document."""
        return self.positive.T.tocsr()

    @cached_property
    def degree(self) -> NDArray[np.float64]:
        """How many queries each query is tied to, one that is tied to it in several ways as often; shape (judged,)."""
        others: NDArray[np.float64] = self.positive @ np.maximum(self.holders.sum(axis=1) - 1, 0) + self.near.sum(axis=1)
        return others

    def neighbours(self, query: int) -> NDArray[np.int64]:
        """The queries tied to this one, by their places in `queries`, itself not among them; shape (tied,)."""
        found = [_row(self.near, query), *(_row(self.holders, document) for document in _row(self.positive, query))]
        distinct: NDArray[np.int64] = np.setdiff1d(np.concatenate(found), query)
        return distinct

    def tied_to(self, some: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The queries tied to one of these, which are not among the answer; shape (judged,) both."""
        tied = self.near @ some + self.positive @ (self.holders @ some)
        found: NDArray[np.bool_] = (tied > 0) & ~some
        return found

    def groups(self, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The connected group of each query when only the kept ones tie; shape (judged,), one that is not kept alone."""
        query, document = self.positive.nonzero()
        one, other = self.near.nonzero()
        ends = np.concatenate((query, one)), np.concatenate((len(kept) + document, other))
        held = kept[ends[0]] & np.append(np.ones(len(query), dtype=bool), kept[other])
        nodes = len(kept) + self.positive.shape[1]
        graph = coo_array((np.ones(held.sum()), (ends[0][held], ends[1][held])), shape=(nodes, nodes))
        label = connected_components(graph, directed=False)[1]
        groups: NDArray[np.int64] = np.unique(label[: len(kept)], return_inverse=True)[1]
        return groups


def _row(matrix: csr_array, row: int) -> Ints:
    columns: Ints = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
    return columns
