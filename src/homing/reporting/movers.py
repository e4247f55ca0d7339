"""The queries that gained and lost most between two models, with their texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from homing.data import Dataset
from homing.measures.evaluations import Evaluation
from homing.reporting import phrases
from homing.reporting.language import Phrase
from homing.reporting.numbers import NONE, count, number, signed
from homing.reporting.passages import Passage, passage

MEASURE = "nDCG@10"
LISTED = 100
"""Queries listed of those that gained, and of those that lost; a search finds among these."""
RELEVANT = 3
"""Relevant documents shown of a query."""


@dataclass(frozen=True)
class Judged:
    """A judged document of a query, and its score under the first and the last model."""

    text: Passage
    before: str
    after: str


@dataclass(frozen=True)
class First:
    """What a model ranks first, whether that is relevant, and at which rank its first relevant document stands."""

    model: str
    text: Passage
    score: str
    judgment: Phrase
    sign: str
    rank: Phrase


@dataclass(frozen=True)
class Mover:
    """A query whose ranking changed. `firsts` is empty where the models' rankings were not kept."""

    query: Passage
    before: str
    after: str
    change: str
    relevant: list[Judged]
    more: int
    rival: Judged | None
    firsts: list[First]


@dataclass(frozen=True)
class Side:
    """One direction of change: the queries that moved most in it, of `total`."""

    title: Phrase
    sign: str
    empty: Phrase
    total: int
    movers: list[Mover]


@dataclass(frozen=True)
class Movers:
    """The queries that changed between two models."""

    first: str
    last: str
    gained: Side
    lost: Side
    counts: dict[str, str]


def movers(first: Evaluation, last: Evaluation, *, texts: bool) -> Movers | None:
    """The queries whose nDCG@10 changed most from the first model to the last; None where one of the two has none.

    Without `texts`, a query is named by its line in the dataset's `queries.jsonl`, a document by its line in `corpus.jsonl`.
    """
    if MEASURE not in first.per_query or MEASURE not in last.per_query:
        return None
    before = dict(zip(first.queries.tolist(), first.per_query[MEASURE].tolist(), strict=True))
    after = dict(zip(last.queries.tolist(), last.per_query[MEASURE].tolist(), strict=True))
    change = {query: after[query] - before[query] for query in before if query in after}
    ranked = sorted(change, key=lambda query: (-change[query], query))
    gained = [query for query in ranked if change[query] > 1e-9]
    lost = [query for query in reversed(ranked) if change[query] < -1e-9]

    def found(queries: list[int]) -> list[Mover]:
        return [_mover(first, last, query, before[query], after[query], texts) for query in queries[:LISTED]]

    counts = {"gained": count(len(gained)), "lost": count(len(lost)), "same": count(len(change) - len(gained) - len(lost))}
    return Movers(
        first.name,
        last.name,
        Side(phrases.GAINED_MOST, "gain", phrases.NONE_GAINED, len(gained), found(gained)),
        Side(phrases.LOST_MOST, "loss", phrases.NONE_LOST, len(lost), found(lost)),
        counts,
    )


def query_text(data: Dataset, query: int, texts: bool) -> Passage:
    """A query's text, or where it stands."""
    return passage(data.queries.texts[query]) if texts else Passage(f"queries.jsonl:{query + 1}")


def document_text(data: Dataset, document: int, texts: bool) -> Passage:
    """A document's text, or where it stands."""
    return passage(data.corpus.texts[document]) if texts else Passage(f"corpus.jsonl:{document + 1}")


def _mover(first: Evaluation, last: Evaluation, query: int, before: float, after: float, texts: bool) -> Mover:
    test = last.test
    start, end = np.searchsorted(test.qrels.query, [query, query + 1])
    relevant = np.flatnonzero(test.qrels.relevance[start:end] > 0) + start
    others = np.flatnonzero(test.qrels.relevance[start:end] <= 0) + start
    others = others[np.isfinite(last.test_scores[others])] if len(last.test_scores) else others[:0]

    def judged(row: int) -> Judged:
        scores = [number(float(e.test_scores[row])) if row < len(e.test_scores) else NONE for e in (first, last)]
        return Judged(document_text(test, int(test.qrels.document[row]), texts), scores[0], scores[1])

    return Mover(
        query=query_text(test, query, texts),
        before=number(before),
        after=number(after),
        change=signed(after - before),
        relevant=[judged(int(row)) for row in relevant[:RELEVANT]],
        more=max(len(relevant) - RELEVANT, 0),
        rival=judged(int(others[np.argmax(last.test_scores[others])])) if len(others) else None,
        firsts=[found for e in (first, last) if (found := _first(e, query, texts)) is not None],
    )


def _first(evaluation: Evaluation, query: int, texts: bool) -> First | None:
    run, qrels = evaluation.found, evaluation.test.qrels
    if run is None:
        return None
    row = int(np.searchsorted(evaluation.queries, query))
    ranked = run.document[row]
    if not len(ranked) or ranked[0] < 0:
        return None
    start, end = np.searchsorted(qrels.query, [query, query + 1])
    grades = dict(zip(qrels.document[start:end].tolist(), qrels.relevance[start:end].tolist(), strict=True))
    hits = [place for place, document in enumerate(ranked.tolist(), 1) if grades.get(document, 0) > 0]
    grade = grades.get(int(ranked[0]))
    judgment, sign = phrases.IS_UNJUDGED, "open"
    if grade is not None and grade >= 0:
        judgment, sign = (phrases.IS_RELEVANT, "relevant") if grade > 0 else (phrases.IS_NOT, "other")
    rank = phrases.RANK_OF.format(rank=hits[0]) if hits else phrases.RANK_NONE.format(k=len(ranked))
    return First(
        evaluation.name, document_text(evaluation.test, int(ranked[0]), texts), number(float(run.score[row, 0])), judgment, sign, rank
    )
