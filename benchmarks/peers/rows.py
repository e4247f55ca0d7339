"""Training rows as plain texts, as the peers take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from homing.data import Mined


@dataclass(frozen=True)
class Rows:
    """Rows of a query, a positive and equally many negatives each; rows of one query stand together.

    Lengths: `query`, `positive`, `negatives` (rows,). `documents` are the texts of all candidates of the training split.
    """

    query: list[str]
    positive: list[str]
    negatives: list[tuple[str, ...]]
    documents: list[str]

    def __len__(self) -> int:
        return len(self.query)

    @classmethod
    def of(cls, mined: Mined) -> Rows:
        """The rows of `mined` that have all their negatives."""
        whole = np.flatnonzero((mined.negative >= 0).all(axis=1))
        whole = whole[np.argsort(mined.query[whole], kind="stable")]
        queries, corpus = mined.train.queries.texts, mined.train.corpus.texts
        return cls(
            [queries[query] for query in mined.query[whole].tolist()],
            [corpus[document] for document in mined.positive[whole].tolist()],
            [tuple(corpus[document] for document in row) for row in mined.negative[whole].tolist()],
            [corpus[document] for document in np.unique(mined.train.qrels.document).tolist()],
        )

    def part(self, rows: Sequence[int]) -> Rows:
        """These rows alone."""
        return Rows([self.query[r] for r in rows], [self.positive[r] for r in rows], [self.negatives[r] for r in rows], self.documents)

    def texts(self, row: int) -> list[tuple[str, str]]:
        """Kind and text of everything in a row."""
        return [("query", self.query[row]), *(("document", text) for text in (self.positive[row], *self.negatives[row]))]
