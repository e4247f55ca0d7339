"""Unjudged documents of the corpus that a query may learn from as negatives: found by a retriever, sifted, or taken by chance.

Nobody judged them, so what is probably relevant is left out: near-duplicates of a positive, what is relevant to an equal query, the query's
own words where they stand in the corpus, and what a model scores nearly as high as it scores the positive (positive-aware mining: Moreira
et al., NV-Retriever, arXiv 2407.15831, which takes 95 % of the positive's score).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack
from tqdm import tqdm

from homing.cache import cache_directory
from homing.data import UNSURE, Dataset, Floats, Ints, Mined, Qrels, digest, pair_keys
from homing.errors import SettingError
from homing.negatives import EASY, HARD, MEDIUM, RANDOM, keys, mixed, places
from homing.progress import BAR
from homing.protocols import Encoder
from homing.retrievers.bm25 import BM25
from homing.retrievers.dense import Dense
from homing.retrievers.fused import Fused
from homing.retrievers.shards import mapped, put, search_kept
from homing.settings import Mining
from homing.texts.itself import Itself
from homing.texts.near import THRESHOLD, alike, sketches
from homing.texts.shingles import normal_form

HARDEST = 10  # documents that count as hard
_COMPARED = 1 << 15  # pairs of texts compared with each other together: what bounds the memory, and what a kill can cost
_LOOKED_AT = 1 << 20  # pairs looked at together by chance: what bounds the memory
_SPARE = 4  # drawn by chance for each that is wanted: some are judged, or drawn twice
_MORE = 8  # times as many where those are not enough


@dataclass(frozen=True, eq=False)
class Unjudged:
    """Candidates without a judgment, as columns (candidates,) ordered by query; they mean what they mean in `data.Mined`."""

    query: Ints
    document: Ints
    kind: Ints
    rank: Ints
    score: Floats
    source: Ints


def retriever_of(settings: Mining, encoder: Encoder | None) -> BM25 | Dense | Fused:
    """The retriever that the settings name. Raises SettingError where it needs an encoder and there is none."""
    if settings.retriever == "bm25":
        return BM25()
    if encoder is None:
        raise SettingError(
            f"--retriever {settings.retriever} needs a model",
            remedy="Give it: --model MODEL, or mine(..., encoder=Model(...)) from Python.",
        )
    return Dense(encoder) if settings.retriever == "dense" else Fused(BM25(), Dense(encoder))


def of_equal_queries(train: Dataset) -> Qrels:
    """What train judges relevant to a query that is the same but for case and punctuation, and does not judge for this one: as UNSURE."""
    qrels, forms = train.qrels, dict[str, list[int]]()
    for query in qrels.queries.tolist():
        forms.setdefault(normal_form(train.queries.texts[query]), []).append(query)
    equal = [queries for queries in forms.values() if len(queries) > 1]
    pairs = [
        (query, document)
        for queries in equal
        for document in sorted(set().union(*(qrels.positives.get(query, ()) for query in queries)))
        for query in queries
    ]
    query, document = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    new = ~_judged(train, query, document)
    return Qrels(query[new], document[new], np.full(new.sum(), UNSURE))


def of_the_queries(train: Dataset) -> Qrels:
    """The documents that are a query itself, but for case and punctuation, and that train does not judge for it, as UNSURE: a corpus of
    questions holds each of them, and nothing that is relevant to one can be nearer."""
    asked = train.qrels.queries
    itself = Itself.of(train, asked)
    return Qrels(asked[itself.row], itself.document, np.full(len(itself.row), UNSURE))


def found(train: Dataset, queries: Ints, settings: Mining, retriever: BM25 | Dense | Fused) -> Unjudged:
    """What a fitted retriever finds for these queries (queries,) in the window of ranks, less what is judged or probably relevant.

    Of what is left the first ten are hard, those beyond as many as half the window holds easy, and those between medium.
    """
    run = search_kept(retriever, [train.queries.texts[query] for query in queries.tolist()], settings.last_rank)
    window = run.document[:, settings.first_rank - 1 :]
    row, column = np.nonzero(window >= 0)
    query, document = queries[row], window[row, column]
    keep = np.flatnonzero(~_judged(train, query, document))
    for member in members(retriever):
        if isinstance(member, Dense):
            keep = keep[_below(train, query[keep], document[keep], settings.cap, member)]
    keep = keep[~_like_a_positive(train, query[keep], document[keep])]
    row, column, query, document = row[keep], column[keep], query[keep], document[keep]
    place, half = places(row), (settings.last_rank - settings.first_rank + 1) // 2
    kind = np.select([place < HARDEST, place >= half], [HARD, EASY], MEDIUM).astype(np.int32)
    score = run.score[row, column + settings.first_rank - 1].astype(np.float64)
    source = np.full(len(row), Mined.SOURCES.index(str(settings.retriever)), dtype=np.int32)
    return Unjudged(query, document, kind, (column + settings.first_rank).astype(np.int32), score, source)


def by_chance(train: Dataset, queries: Ints, held: Unjudged, wanted: int, seed: int) -> Unjudged:
    """Up to `wanted` documents by chance for each of these queries (queries,), none judged, in `held` or near a positive.

    What is drawn depends on the seed, the query and the documents' texts: neither their order nor other queries move it. A few times
    `wanted` are looked at for each query; one that this leaves short, as most of the corpus is judged for it or near a positive, has more,
    and the whole corpus at last. Queries are taken so many at a time that what is looked at together stays bounded.
    """
    deck, draws = _Deck(train, held, seed), _SPARE * wanted
    drawn: list[tuple[Ints, Ints]] = []
    while len(queries):
        draws = min(draws, len(train.corpus))
        some = max(1, _LOOKED_AT // draws)
        found = [deck.draw(queries[start : start + some], wanted, draws) for start in range(0, len(queries), some)]
        query, document = (np.concatenate(column) for column in zip(*found, strict=True))
        short = queries[:0] if draws == len(train.corpus) else queries[~_occur(query, queries, wanted)]
        kept = ~np.isin(query, short)
        drawn.append((query[kept], document[kept]))
        queries, draws = short, _MORE * draws
    query, document = (np.concatenate(column) for column in zip(*drawn, strict=True))
    order = np.argsort(query, kind="stable")
    count = len(order)
    none, source = np.zeros(count, dtype=np.int32), np.full(count, Mined.SOURCES.index("random"), dtype=np.int32)
    return Unjudged(query[order], document[order], np.full(count, RANDOM, dtype=np.int32), none, np.zeros(count), source)


class _Deck:
    """The corpus, to be drawn from by chance, in an order that its texts and a seed alone decide; without what is judged or held."""

    def __init__(self, train: Dataset, held: Unjudged, seed: int) -> None:
        self._train, self._seed = train, seed
        self._key = keys(train.corpus.texts, np.arange(len(train.corpus), dtype=np.int32))
        self._order = np.argsort(self._key, kind="stable").astype(np.int32)
        self._sorted = self._key[self._order]
        self._taken = np.sort(
            np.append(pair_keys(train.qrels.query, train.qrels.document), pair_keys(held.query, held.document))
        )  # fmt: skip

    def draw(self, queries: Ints, wanted: int, draws: int) -> tuple[Ints, Ints]:
        """Query and document of up to `wanted` pairs a query, shapes (pairs,), of `draws` that are looked at for each; in the order drawn.

        Looked at are the documents whose keys come next after as many points that the query decides; all of them where these are as many.
        """
        every = len(self._key)
        start = mixed(keys(self._train.queries.texts, queries) + np.uint64(self._seed))
        row = np.repeat(np.arange(len(queries)), draws)
        if draws < every:
            points = mixed(np.add.outer(start, np.arange(draws, dtype=np.uint64)).ravel().astype(np.uint64))
            document = self._order[np.searchsorted(self._sorted, points) % every]
        else:
            document = np.tile(np.arange(every, dtype=np.int32), len(queries))
        pair, first = np.unique(pair_keys(queries[row], document), return_index=True)
        first = first[~_among(pair, self._taken)]
        row, document = row[first], document[first]
        shuffled = np.lexsort((mixed(self._key[document] ^ start[row]), row))
        row, document = row[shuffled], document[shuffled]
        query = queries[row]
        keep = self._sifted(row, query, document, wanted)
        return query[keep], document[keep]

    def _sifted(self, row: NDArray[np.int64], query: Ints, document: Ints, wanted: int) -> NDArray[np.int64]:
        """The first `wanted` of each row that are not nearly a positive: no more are compared than it takes."""
        kept, left, step = np.empty(0, dtype=np.int64), np.arange(len(row)), wanted
        while len(left):
            ahead = places(row[left]) < step
            now = left[ahead]
            kept = np.sort(np.append(kept, now[~_like_a_positive(self._train, query[now], document[now])]))
            left = left[~ahead]
            left, step = left[~_occur(row[kept], row[left], wanted)], _SPARE * step
        return kept[places(row[kept]) < wanted]


def members(retriever: BM25 | Dense | Fused) -> tuple[BM25 | Dense, ...]:
    """What ranks: the retriever itself, or those that it fuses."""
    if isinstance(retriever, Fused):
        return tuple(each for each in retriever.retrievers if isinstance(each, BM25 | Dense))
    return (retriever,)


def _among(values: NDArray[np.int64], ordered: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each value, shape (values,), is one of those in ascending order."""
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    found: NDArray[np.bool_] = ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values
    return found


def _occur(values: NDArray[np.integer], asked: NDArray[np.integer], times: int) -> NDArray[np.bool_]:
    """Whether each of `asked`, shape (asked,), occurs so many times or more among values in ascending order."""
    enough: NDArray[np.bool_] = np.searchsorted(values, asked, "right") - np.searchsorted(values, asked, "left") >= times
    return enough


def _judged(train: Dataset, query: Ints, document: Ints) -> NDArray[np.bool_]:
    """Whether train judges these pairs, in whatever way."""
    return np.isin(pair_keys(query, document), pair_keys(train.qrels.query, train.qrels.document))


def _below(train: Dataset, query: Ints, document: Ints, cap: float, dense: Dense) -> NDArray[np.bool_]:
    """Whether the model scores these pairs below the share `cap` of the query's positives, the lowest of them."""
    qrels = train.qrels
    relevant = np.flatnonzero((qrels.relevance > 0) & np.isin(qrels.query, query))
    asked, row = np.unique(np.concatenate([query, qrels.query[relevant]]), return_inverse=True)
    texts = [train.queries.texts[each] for each in asked.tolist()]
    of_positives = dense.score(texts, row[len(query) :], qrels.document[relevant])
    lowest = np.full(len(asked), np.inf)
    np.minimum.at(lowest, row[len(query) :], of_positives)
    limit = lowest - (1 - cap) * np.abs(lowest)  # cap * lowest where that is positive
    below: NDArray[np.bool_] = dense.score(texts, row[: len(query)], document) <= limit[row[: len(query)]]
    return below


def _like_a_positive(train: Dataset, query: Ints, document: Ints) -> NDArray[np.bool_]:
    """Whether each of these documents nearly is a positive of its query. What was compared is kept, pairs of texts a shard."""
    qrels, like = train.qrels, np.zeros(len(query), dtype=bool)
    by_document = np.argsort(document, kind="stable")  # so that a shard has few documents, and those of no other
    query, document = query[by_document], document[by_document]
    relevant = (qrels.relevance > 0) & np.isin(qrels.query, query)
    of_query = qrels.query[relevant]
    first = np.searchsorted(of_query, query, "left")
    width = np.searchsorted(of_query, query, "right") - first
    end = np.cumsum(width)
    pairs, positives = int(width.sum()), _Positives(train, qrels.document[relevant])
    kept = cache_directory("near-duplicates") if pairs > _COMPARED else None
    with tqdm(total=pairs, desc="Near-duplicates of positives", unit=" pairs", unit_scale=True, **BAR) as bar:
        for start in range(0, pairs, _COMPARED):
            pair = np.arange(start, min(start + _COMPARED, pairs))
            one = np.searchsorted(end, pair, "right")
            other = first[one] + pair - (end[one] - width[one])
            like[by_document[one[positives.alike(document[one], other, kept)]]] = True
            bar.update(len(pair))
    return like


class _Positives:
    """Positives that documents are compared with, shape (positives,): each is sketched once, however many documents are."""

    def __init__(self, train: Dataset, positive: Ints) -> None:
        self._texts = train.corpus.texts
        self._distinct, self._row = np.unique(positive, return_inverse=True)
        self._sketches: csr_array | None = None

    def alike(self, document: Ints, positive: NDArray[np.int64], kept: Path | None) -> NDArray[np.bool_]:
        """Whether each document is a near-duplicate of the positive at this place, shapes (pairs,); the answer is put into `kept`."""
        (documents, one), (rows, other) = (np.unique(each, return_inverse=True) for each in (document, self._row[positive]))
        told, rivals = ([self._texts[each] for each in some.tolist()] for some in (documents, self._distinct[rows]))
        pairs = np.stack((one, len(told) + other), axis=1)
        shard = None if kept is None else kept / digest([digest(told + rivals), pairs.tobytes().hex(), f"{THRESHOLD}, 2"])
        if shard is not None and (shard / "said.json").is_file():
            return mapped(shard, "alike")
        if self._sketches is None:
            self._sketches = sketches([self._texts[each] for each in self._distinct.tolist()])
        found = alike(told + rivals, pairs, first=vstack([sketches(told), self._sketches[rows]]))
        if shard is not None:
            put(shard, {"alike": found}, {"pairs": len(pairs)})
        return found
