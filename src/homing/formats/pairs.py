"""Judged pairs, one a record: a query, a document, and whether it is relevant; as JSON, JSONL, Parquet, CSV or a spreadsheet.

Names: `query`, `anchor`, `sentence1`, `question1` or `question`; `content`, `document`, `passage`, `text`, `sentence2`,
`question2` or `answer`; `is_relevant`, `label`, `relevance`, `score`, `relevant` or `is_duplicate`, which is 0 or 1, or a grade.
A `title` (标题) is the document's, and stands before its text. Other names that hold a text or a number are columns of the query.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from homing.builder import Builder
from homing.data import Dataset, Side
from homing.formats.fields import TITLE, columns, named, relevance_field, text_field, titled
from homing.formats.headers import ENGLISH
from homing.formats.records import records
from homing.formats.writing import write_records
from homing.manifest import replaced

QUERY, DOCUMENT, LABEL = (ENGLISH[name] for name in ("query", "content", "is_relevant"))
_REMEDY = "Give each pair its query, its content and whether it is_relevant."


def recognises(record: dict[str, Any]) -> bool:
    """Whether the record has a query, a document that is one text, and a label."""
    document = next((record[name] for name in DOCUMENT if name in record), None)
    return any(name in record for name in QUERY) and isinstance(document, str) and any(name in record for name in LABEL)


def read(path: Path, into: Builder, side: Side | None = None) -> None:
    """Read the file into `into`, its judgments as those of `side`.

    Counts `empty_documents` and `empty_queries` (left out) and `negative_grades` in the notes. Raises FormatError at the first record
    that is wrong.
    """
    for record in records(path, into.notes):
        query_name, document_name, label = (named(record, names, _REMEDY) for names in (QUERY, DOCUMENT, LABEL))
        query, text = (text_field(record.value[name], name, record.where) for name in (query_name, document_name))
        document = titled(record.value, text, record.where)
        grade = relevance_field(record.value[label], label, record.where, into.notes)
        if not query or not document:
            into.notes["empty_queries" if not query else "empty_documents"] += 1
            continue
        place = into.query(query)
        into.describe(place, columns(record, (query_name, document_name, label, *TITLE)))
        into.judge(place, into.document(document), grade, side)


def write(data: Dataset, path: Path) -> None:
    """Write a record a judgment, in list order; `.csv` as UTF-8 with a byte order mark, as Excel wants it. Ids have no place here."""
    if path.suffix.lower() != ".csv":
        return write_records(path, _values(data))
    with replaced(path, "w", "utf-8-sig") as file:
        table = csv.DictWriter(file, (QUERY[0], DOCUMENT[0], LABEL[0]))
        table.writeheader()
        table.writerows(_values(data))
    return None


def _values(data: Dataset) -> Iterator[dict[str, Any]]:
    graded = bool((data.qrels.relevance > 1).any())
    columns = (data.qrels.query.tolist(), data.qrels.document.tolist(), data.qrels.relevance.tolist())
    for query, document, grade in zip(*columns, strict=True):
        yield {
            QUERY[0]: data.queries.texts[query], DOCUMENT[0]: data.corpus.texts[document],
            LABEL[0]: grade if graded else bool(grade),
        }  # fmt: skip
