"""Negatives of the test set that the tuned model scores above every relevant document: its mistakes, or the judgments'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from homing.evaluations import Evaluation
from homing.reporting.models import base_and_tuned
from homing.reporting.movers import document_text, query_text
from homing.reporting.numbers import count, number
from homing.reporting.passages import Passage

LISTED = 30


@dataclass(frozen=True)
class Suspect:
    """A query with a document judged not relevant that outscores its best relevant one; `agreed`: under the first model too."""

    query: Passage
    document: Passage
    score: str
    positive: Passage
    positive_score: str
    agreed: bool


@dataclass(frozen=True)
class Suspects:
    """What was found: of so many queries with both kinds of judgments so many have one, and those whose lead is the largest."""

    lists: str
    queries: str
    first: str
    last: str
    listed: list[Suspect]


def suspects(evaluations: Sequence[Evaluation], *, texts: bool) -> Suspects | None:
    """The suspects under the last model; None where it scores no pairs, or no list has both kinds of documents."""
    first, last = base_and_tuned(evaluations)
    qrels = last.test.qrels
    if not last.has_scores or not len(qrels):
        return None
    judged, starts = np.unique(qrels.query, return_index=True)
    ends = [*starts[1:].tolist(), len(qrels)]
    found: list[tuple[float, int, int, int]] = []
    lists = 0
    for query, start, end in zip(judged.tolist(), starts.tolist(), ends, strict=True):
        relevance, scores = qrels.relevance[start:end], last.test_scores[start:end]
        positive, negative = np.flatnonzero(relevance > 0), np.flatnonzero(relevance == 0)
        if len(positive) and len(negative):
            lists += 1
            best, rival = (int(rows[np.argmax(scores[rows])]) for rows in (positive, negative))
            if scores[rival] > scores[best]:
                found.append((float(scores[rival] - scores[best]), query, start + best, start + rival))
    if not lists:
        return None
    found.sort(key=lambda each: (-each[0], each[1]))

    def suspect(query: int, best: int, rival: int) -> Suspect:
        document = qrels.document
        return Suspect(
            query_text(last.test, query, texts),
            document_text(last.test, int(document[rival]), texts),
            number(float(last.test_scores[rival])),
            document_text(last.test, int(document[best]), texts),
            number(float(last.test_scores[best])),
            first is not last and first.has_scores and bool(first.test_scores[rival] > first.test_scores[best]),
        )

    listed = [suspect(query, best, rival) for _, query, best, rival in found[:LISTED]]
    return Suspects(count(lists), count(len(found)), first.name, last.name, listed)
