"""Negatives that may be relevant: those of test that outscore every relevant document, and those that an audit listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from homing.data import Dataset
from homing.formats.suspects import FILE, read
from homing.measures.evaluations import Evaluation
from homing.reporting import phrases
from homing.reporting.language import Phrase
from homing.reporting.models import base_and_tuned
from homing.reporting.movers import document_text, query_text
from homing.reporting.numbers import NONE, count, number
from homing.reporting.passages import Passage

LISTED = 20


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


@dataclass(frozen=True)
class Audited:
    """What an audit listed: of so many negatives of one side so many, and the likeliest of them; `models` scored them."""

    side: Phrase
    of: str
    total: str
    models: str
    listed: list[Suspect]


def audited(run: Path | None, data: Dataset, *, texts: bool) -> Audited | None:
    """The list of a run's audit, over the dataset of the run; None where there was none. The scores are those of the last model."""
    if run is None or not (run / "audit" / FILE).is_file():
        return None
    found = read(run / "audit", data)

    def suspect(row: int) -> Suspect:
        scores = [number(float(of[row, -1])) if len(found.models) else NONE for of in (found.score, found.rival)]
        return Suspect(
            query_text(data, int(found.query[row]), texts),
            document_text(data, int(found.negative[row]), texts),
            scores[0],
            document_text(data, int(found.positive[row]), texts),
            scores[1],
            bool(len(found.models)) and bool(found.beats[row].all()),
        )

    listed = [suspect(row) for row in range(min(LISTED, len(found)))]
    return Audited(phrases.SIDES[found.side], count(found.of), count(len(found)), ", ".join(found.models), listed)


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
