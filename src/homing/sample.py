"""nDCG@10 of an encoder over a sample of the data: how instructions are chosen on dev, and what is measured outside the domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homing.data import Dataset, Floats, Ints
from homing.measures.formulas import judge, ndcg
from homing.protocols import Encoder
from homing.retrievers.dense import search_embeddings
from homing.texts.itself import Itself


@dataclass(frozen=True, eq=False)
class Sample:
    """Queries with a relevant document, and what they are searched in; shapes (queries,) and (documents,), positions in `data`, ascending.

    Every relevant document of the queries is among the documents.
    """

    data: Dataset
    queries: Ints
    documents: Ints

    @classmethod
    def whole(cls, data: Dataset) -> Sample:
        """All queries that have a relevant document, in the whole corpus."""
        queries = np.array(sorted(data.qrels.positives), dtype=np.int32)
        return cls(data, queries, np.arange(len(data.corpus), dtype=np.int32))

    @classmethod
    def drawn(cls, data: Dataset, queries: int, documents: int, seed: int) -> Sample:
        """At most so many queries that have a relevant document, in their judged documents, filled up to `documents` with others."""
        generator = np.random.default_rng(seed)
        drawn = np.sort(generator.permutation(sorted(data.qrels.positives))[:queries]).astype(np.int32)
        judged = np.unique(data.qrels.of(drawn).document)
        others = np.setdiff1d(generator.permutation(len(data.corpus))[:documents], judged)
        return cls(data, drawn, np.union1d(judged, others[: max(0, documents - len(judged))]).astype(np.int32))

    def ndcg(self, encoder: Encoder, progress: str = "") -> Floats:
        """nDCG@10 of each query, shape (queries,); what isn't judged counts as not relevant, and the query itself is left out."""
        return self.ndcg_of([encoder], progress)[0]

    def ndcg_of(self, encoders: Sequence[Encoder], progress: str = "") -> list[Floats]:
        """nDCG@10 of each query by each encoder, shapes (queries,); documents are encoded once for encoders that have that side in
        common."""
        asked = [self.data.queries.texts[each] for each in self.queries.tolist()]
        corpus = [self.data.corpus.texts[each] for each in self.documents.tolist()]
        itself = Itself.of(self.data, self.queries, self.documents)
        kept: dict[str, NDArray[np.float32]] = {}
        found = []
        for encoder in encoders:
            side = encoder.digest_of("document")
            if side not in kept:
                kept[side] = encoder.encode(corpus, "document", progress=progress)
            run = itself.without(search_embeddings(encoder.encode(asked, "query"), kept[side], 10 + itself.spare), 10)
            document = np.where(run.document >= 0, self.documents[run.document], -1)
            ranking = judge(document, self.queries, self.data.qrels, len(self.data.corpus))
            found.append(ndcg(ranking.relevance, ranking.ideal, 10))
        return found
