"""Choose the negatives of each training row: judged ones first, then what a retriever finds in the corpus, then documents by chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homing.arguments import demand, demand_encoder
from homing.data import Dataset, Floats, Mined, Pool
from homing.negatives import EASY, HARD, MEDIUM, draw, places
from homing.progress import Say
from homing.protocols import Encoder
from homing.retrievers.bm25 import BM25, score_lists
from homing.retrievers.dense import Dense
from homing.retrievers.fused import Fused, K
from homing.settings import Mining
from homing.unjudged import Unjudged, by_chance, found, members, of_equal_queries, of_the_queries, retriever_of

_WINDOW = 10  # of a list: hard are ranks 1 to 10, easy the last 10
_RECORD = ("kind", "rank", "score", "judged", "source")


def mine(
    train: Dataset, settings: Mining | None = None, *, encoder: Encoder | None = None, seed: int | None = None,
    say: Say = lambda _: None,
) -> Mined:  # fmt: skip
    """Rows of a query, one of its positives and up to `settings.negatives` negatives; `seed`, where given, stands for the settings' own.

    A query's pool of negatives holds its judged ones; what `settings.retriever` finds in the corpus (`resolved` says which that is where
    nothing is said; `unjudged.found` what is left out); and where it holds fewer than a row needs, documents by chance. A row draws judged
    ones first, then found ones, then chance, of each kind as many as the settings say (`negatives.draw`; training draws anew from
    `Mined.pool` in each epoch). A query without a positive gives no row. Nothing but the judgments of `train` is looked at; what these call
    relevant to an equal query stands as UNSURE in the train of the rows (`unjudged.of_equal_queries`), so that no batch contrasts with it,
    and so does a document that is the query itself (`unjudged.of_the_queries`).

    Judged candidates are ranked within their list, relevant ones too, ties by list position: hard are the negatives at ranks 1 to 10, easy
    those among the last 10 that are not hard, the others medium. `list` ranks them by BM25 with the list's own statistics, another
    retriever by its scores over the corpus.

    `say` hears what was chosen and what came of it. Raises SettingError where the retriever needs an encoder and none is given.
    """
    demand(Dataset, train=train)
    demand(Mining | None, settings=settings)
    if encoder is not None:
        demand_encoder(encoder=encoder)
    asked_for, settings = settings or Mining(), resolved(train, settings or Mining(), encoder)
    settings = settings if seed is None else replace(settings, seed=seed)
    if asked_for.retriever is None and settings.retriever != "list":
        how = "by words (bm25)" if settings.retriever == "bm25" else f"by {encoder.name if encoder else ''} ({settings.retriever})"
        say(f"most queries have fewer than {settings.negatives} judged negatives: the whole corpus is searched {how}")
    retriever = None
    if settings.retriever != "list" and (train.qrels.relevance > 0).any():
        retriever = retriever_of(settings, encoder)
        retriever.fit(train.corpus.texts)
    listed = _listed(train, retriever)
    if len(likely := of_equal_queries(train)):
        say(f"{len(likely):,} documents are no negatives: they are relevant to a query that is equal but for case and punctuation")
        train = train.changed(likely)
    if len(own := of_the_queries(train)):
        say(f"{len(own):,} documents are no negatives of the query that they are themselves, but for case and punctuation")
        train = train.changed(own)
    mined = _drawn(train, _pool(train, listed, retriever, settings))
    for line in _said(mined, settings):
        say(line)
    return mined


def _pool(train: Dataset, listed: dict[str, NDArray[Any]], retriever: BM25 | Dense | Fused | None, settings: Mining) -> Pool:
    """What every query's negatives may be drawn from: its judged ones, what the retriever finds, and by chance what it is short of."""
    asked = np.unique(train.qrels.query[train.qrels.relevance > 0])
    parts = [listed] if retriever is None else [listed, _columns(found(train, asked, settings, retriever))]
    short = asked[np.bincount(_joined(parts)["query"], minlength=len(train.queries))[asked] < settings.negatives]
    if len(short):
        parts.append(_columns(by_chance(train, short, Unjudged(**_without_judged(parts)), settings.negatives, settings.seed)))
    columns = _joined(parts)
    order = np.argsort(columns["query"], kind="stable")
    return Pool(
        **{name: values[order] for name, values in columns.items()},
        negatives=settings.negatives, hard=settings.hard, medium=settings.medium, seed=settings.seed,
    )  # fmt: skip


def _drawn(train: Dataset, pool: Pool) -> Mined:
    """The rows of every query and each of its positives, with the first epoch's draw from the pool."""
    positives = np.flatnonzero(train.qrels.relevance > 0)
    query, positive = train.qrels.query[positives], train.qrels.document[positives]
    row, cell = draw(train, pool, query, positive)
    place = places(row)
    mined = Mined.empty(train, query, positive, int(place.max(initial=-1)) + 1, pool)
    mined.negative[row, place] = pool.document[cell]
    for name in _RECORD:
        getattr(mined, name)[row, place] = getattr(pool, name)[cell]
    return mined


def _said(mined: Mined, settings: Mining) -> Iterator[str]:
    """What was mined, in words."""
    there = mined.negative >= 0

    def counts(column: NDArray[np.int32], names: Sequence[str]) -> str:
        numbers = np.bincount(column[there], minlength=len(names)).tolist()
        return ", ".join(f"{number:,} {name}" for number, name in zip(numbers, names, strict=True) if number)

    yield f"{len(mined):,} rows, {int(there.sum()):,} negatives, {int(mined.judged.sum()):,} of them judged"
    if there.any():
        yield f"  {counts(mined.kind, mined.KINDS)}; from: {counts(mined.source, mined.SOURCES)}"
    if settings.retriever in ("dense", "fused") and 2 * int((mined.source[there] == mined.SOURCES.index("random")).sum()) > there.sum():
        yield (
            f"  most of them by chance: of what was found nearly all scores above {settings.cap:g} of a positive (--cap), or is judged; "
            "--retriever bm25 has no cap"
        )
    if short := int((there.sum(axis=1) < settings.negatives).sum()):
        yield f"  {short:,} rows have fewer than {settings.negatives} negatives: the corpus holds no more"


def resolved(train: Dataset, settings: Mining, encoder: Encoder | None = None) -> Mining:
    """The settings with a retriever, where they leave it open.

    The judged lists are enough where half of the queries have as many judged negatives as a row draws. Else the corpus is searched, by
    the model where there is one, by words where there is none.
    """
    if settings.retriever is not None:
        return settings
    qrels = train.qrels
    with_positive = np.unique(qrels.query[qrels.relevance > 0])
    judged = np.bincount(qrels.query[qrels.relevance == 0], minlength=len(train.queries))[with_positive]
    enough = 2 * int((judged >= settings.negatives).sum()) >= len(with_positive)
    return replace(settings, retriever="list" if enough else "bm25" if encoder is None else "dense")


def _listed(train: Dataset, retriever: BM25 | Dense | Fused | None) -> dict[str, NDArray[Any]]:
    """The judged negatives of every query with their rank in its list, as columns of a pool."""
    qrels = train.qrels
    cells = np.flatnonzero(qrels.relevance == 0)
    scores = _scores(train, retriever) if len(cells) else np.zeros(len(qrels))  # pairs alone: there is nothing to rank
    rank, size = _ranks(train, scores)
    kind = np.select([rank <= _WINDOW, rank > size - _WINDOW], [HARD, EASY], MEDIUM).astype(np.int32)
    source = np.full(len(cells), Mined.SOURCES.index("list"), dtype=np.int32)
    columns: dict[str, NDArray[Any]] = {"query": qrels.query, "document": qrels.document, "kind": kind, "rank": rank, "score": scores}
    return {**{name: values[cells] for name, values in columns.items()}, "judged": np.ones(len(cells), dtype=bool), "source": source}


def _scores(train: Dataset, retriever: BM25 | Dense | Fused | None) -> Floats:
    """The scores of all judged pairs, shape (judgments,): those of the retriever, or of the fusion of its ranks in each list.

    Without a retriever those of BM25 with each list's own statistics.
    """
    if retriever is None:
        return score_lists(train)
    qrels = train.qrels
    texts = [train.queries.texts[query] for query in qrels.queries.tolist()]
    row = np.searchsorted(qrels.queries, qrels.query)
    each = [member.score(texts, row, qrels.document).astype(np.float64) for member in members(retriever)]
    if len(each) == 1:
        return each[0]
    fused: Floats = np.sum([1 / (K + _ranks(train, scores)[0]) for scores in each], axis=0)
    return fused


def _ranks(train: Dataset, scores: Floats) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The rank of each judgment in its list by descending score, from 1, and the size of that list; shapes (judgments,)."""
    query = train.qrels.query
    start = np.flatnonzero(np.append(True, query[1:] != query[:-1])[: len(query)])
    size = np.diff(np.append(start, len(query)))
    rank = np.empty(len(query), dtype=np.int32)
    rank[np.lexsort((-scores, query))] = np.arange(len(query)) - np.repeat(start, size) + 1
    return rank, np.repeat(size, size)


def _columns(part: Unjudged) -> dict[str, NDArray[Any]]:
    return {**vars(part), "judged": np.zeros(len(part.query), dtype=bool)}


def _without_judged(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    columns = _joined(parts)
    return {name: values[~columns["judged"]] for name, values in columns.items() if name != "judged"}


def _joined(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
