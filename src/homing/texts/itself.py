"""A document that is the query itself, as a corpus of questions holds each: no answer to it, unless somebody judged it for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from homing.data import Dataset, Ints, Qrels, Run, pair_keys
from homing.texts.near import equal


@dataclass(frozen=True, eq=False)
class Itself:
    """Which documents are which query's own text, but for case and punctuation, and not judged for it.

    Shapes (pairs,): `row` is a place among the queries that are asked, `document` one among the documents that are searched.
    """

    row: Ints
    document: Ints

    @classmethod
    def of(cls, data: Dataset, queries: Ints, documents: Ints | None = None, judged: tuple[Qrels, ...] = ()) -> Itself:
        """Those of these queries among these documents, positions in `data`, or among all; `judged` are judgments beside the data's."""
        texts = data.corpus.texts if documents is None else [data.corpus.texts[each] for each in documents.tolist()]
        row, document = equal([data.queries.texts[each] for each in queries.tolist()], texts)
        pairs = pair_keys(queries[row], document if documents is None else documents[document])
        new = ~np.isin(pairs, np.concatenate([pair_keys(each.query, each.document) for each in (data.qrels, *judged)]))
        return cls(row[new], document[new])

    @property
    def spare(self) -> int:
        """So many documents more must a search give, for as many as are wanted to be left."""
        return int(np.bincount(self.row).max(initial=0))

    def without(self, run: Run, depth: int) -> Run:
        """The first `depth` of each row of a run that is `spare` deeper, without the documents that are the query itself."""
        if not len(self.row):
            return run
        itself = np.zeros(run.document.shape, dtype=bool)
        for row, document in zip(self.row.tolist(), self.document.tolist(), strict=True):
            itself[row] |= run.document[row] == document
        document, score = np.where(itself, -1, run.document), np.where(itself, -np.inf, run.score).astype(run.score.dtype)
        last = np.argsort(itself, axis=1, kind="stable")[:, :depth]
        return Run(run.query, np.take_along_axis(document, last, axis=1), np.take_along_axis(score, last, axis=1))
