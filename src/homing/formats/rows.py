"""Rows of a query, its positives and its negatives, as JSON, JSONL, Parquet, CSV or a spreadsheet.

Names: `query`, `anchor` or `question`; `positive`, `positives` or `pos`, or `answer` where there is no other; `negative`, `negatives`,
`hard_negatives` or `neg`; positives and negatives also numbered (`negative_1`, …). In JSON a text or a list of texts stands under each; in
a table a cell is one text. What is empty or null is absent, and negatives may be absent altogether. Other names that hold a text or a
number are columns of the query.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from homing.builder import Builder
from homing.data import Dataset, Mined, Side
from homing.formats import headers, pairs
from homing.formats.examples import examples
from homing.formats.fields import columns, named, text_field, texts_field
from homing.formats.records import records
from homing.formats.writing import write_records
from homing.manifest import replaced

QUERY = ("query", "anchor")
POSITIVE = ("positive", "pos", "positives")
QUESTION, ANSWER = "question", "answer"  # a question has an answer: judged candidates may come with one, and with a question of their own
NEGATIVE = re.compile(r"(hard_)?(negative|neg)s?(_?\d+)?")
_OTHER_DOCUMENTS = tuple(name for name in pairs.DOCUMENT if name != ANSWER)
_REMEDY = "Give each row its query and its positive."


def recognises(record: dict[str, Any]) -> bool:
    """Whether the record has a query and a positive under one of their names, the positive not as a list of judged objects."""
    if _answered(record):
        return QUESTION in record or [] not in record.values()  # an empty list may be one of candidates
    positive: object = next((record[name] for name in record if headers.POSITIVES.fullmatch(name)), {})
    judged = isinstance(positive, dict) or (isinstance(positive, list) and any(isinstance(value, dict) for value in positive))
    return any(name in record for name in QUERY) and not judged


def read(path: Path, into: Builder, side: Side | None = None) -> None:
    """Read the file into `into`, its judgments as those of `side`.

    Counts in the notes: `records_without_positive`, `empty_documents` (empty texts of a list) and `empty_queries` (both left out, the
    latter with their row), `texts_like_lists` (texts that look like a written list: a CSV cell is one text), `ignored_lists` (of texts,
    under other names). Raises FormatError at the first record that is wrong.
    """
    for record in records(path, into.notes):
        answered = _answered(record.value)
        query_name = QUESTION if answered and QUESTION in record.value else named(record, QUERY, _REMEDY)
        given = [ANSWER] if answered else list(filter(headers.POSITIVES.fullmatch, record.value)) or [named(record, POSITIVE, _REMEDY)]
        text = text_field(record.value[query_name], query_name, record.where)
        positives = [text for name in given for text in texts_field(record, name, into.notes)]
        negatives = [text for name in record.value if NEGATIVE.fullmatch(name) for text in texts_field(record, name, into.notes)]
        if not text:
            into.notes["empty_queries"] += 1
            continue
        query = into.query(text)
        own = (query_name, *given, *filter(NEGATIVE.fullmatch, record.value))
        into.describe(query, columns(record, own))
        into.notes["ignored_lists"] += sum(_of_texts(value) for name, value in record.value.items() if name not in own)
        for positive in positives:
            into.judge(query, into.document(positive), 1, side)
        for negative in negatives:
            into.judge(query, into.document(negative), 0, side)
        if not positives:
            into.notes["records_without_positive"] += 1


def write(data: Dataset | Mined, path: Path) -> None:
    """Write one row a (query, positive), each with all negatives of the query, or with those mined for it; by the file's name as JSON,
    JSONL, Parquet or CSV.

    A judged query without a positive is a row with an empty one. CSV is UTF-8 with a byte order mark, as Excel wants it. Grades, the
    order between positives and negatives, ids, and texts without a judgment have no place in this format.
    """
    if path.suffix.lower() != ".csv":
        values = ({"query": query, "positive": positive, "negative": negatives} for query, positive, negatives in _rows(data))
        return write_records(path, values)
    width = max((len(negatives) for _, _, negatives in _rows(data)), default=0)
    with replaced(path, "w", "utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow(["query", "positive", *(f"negative_{number}" for number in range(1, width + 1))])
        for query, positive, negatives in _rows(data):
            table.writerow([query, positive, *negatives, *[""] * (width - len(negatives))])
    return None


def _answered(record: dict[str, Any]) -> bool:
    """Whether the record is a question, or a query, with its answer, and nothing else in it could be a label, a document, or candidates."""
    asked = QUESTION in record and not any(name in record for name in QUERY)
    queried = any(name in record for name in QUERY) and not any(name in record for name in (QUESTION, *_OTHER_DOCUMENTS))
    judged = any(map(headers.POSITIVES.fullmatch, record)) or any(name in record for name in pairs.LABEL)
    listed = any(isinstance(value, list) and any(isinstance(each, dict) for each in value) for value in record.values())
    return ANSWER in record and (asked or queried) and not judged and not listed


def _of_texts(value: object) -> bool:
    """Whether this is a list of texts or objects: not of numbers, as scores beside them are."""
    return isinstance(value, list) and any(isinstance(each, str | dict) for each in value)


def _rows(data: Dataset | Mined) -> Iterator[tuple[str, str, list[str]]]:
    if isinstance(data, Mined):
        for each in examples(data):
            yield each.query.text, each.positives[0].text, [text.text for text in each.negatives]
        return
    for query, documents, grades in data.qrels.lists():
        texts = [data.corpus.texts[document] for document in documents.tolist()]
        relevant = (grades > 0).tolist()
        negatives = [text for text, wanted in zip(texts, relevant, strict=True) if not wanted]
        for positive in [text for text, wanted in zip(texts, relevant, strict=True) if wanted] or [""]:
            yield data.queries.texts[query], positive, negatives
