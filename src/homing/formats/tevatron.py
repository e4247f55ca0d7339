"""Tevatron's training data: `{"query_id", "query", "positive_passages": [{"docid", "title", "text"}], "negative_passages": […]}`, JSONL.

DPR's, which has the same form under `question`, `positive_ctxs`, `negative_ctxs` and `hard_negative_ctxs`, is read too. A passage's title
and text are joined by a blank, as Tevatron does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from homing.builder import Builder
from homing.data import Dataset, Mined, Side
from homing.errors import FormatError
from homing.formats.examples import Text, examples
from homing.formats.fields import Record, columns, named, shown, text_field
from homing.formats.records import records
from homing.formats.writing import write_records

POSITIVE, NEGATIVE = "positive_passages", "negative_passages"
_QUERY, _POSITIVES = ("query", "question"), (POSITIVE, "positive_ctxs")
_GRADES = {**dict.fromkeys(_POSITIVES, 1), **dict.fromkeys((NEGATIVE, "negative_ctxs", "hard_negative_ctxs"), 0)}


def recognises(record: dict[str, Any]) -> bool:
    """Whether the record has a query and a list of positive passages."""
    return any(name in record for name in _QUERY) and any(name in record for name in _POSITIVES)


def read(path: Path, into: Builder, side: Side | None = None) -> None:
    """Read the file into `into`, its judgments as those of `side`. Ids are made anew from the texts.

    Counts `records_without_positive`, `empty_documents` and `empty_queries` in the notes. Raises FormatError at the first record that is
    wrong.
    """
    for record in records(path, into.notes):
        name = named(record, _QUERY, "Give each record its query.")
        text = text_field(record.value[name], name, record.where)
        judged = [(passage, grade) for key, grade in _GRADES.items() for passage in _passages(record, key)]
        into.notes.update(["empty_documents"] * sum(not passage for passage, _ in judged))
        if not text:
            into.notes["empty_queries"] += 1
            continue
        query = into.query(text)
        into.describe(query, columns(record, (name, "query_id")))
        for passage, grade in judged:
            if passage:
                into.judge(query, into.document(passage), grade, side)
        if not any(passage and grade for passage, grade in judged):
            into.notes["records_without_positive"] += 1


def write(data: Dataset | Mined, path: Path) -> None:
    """Write the examples; of mined rows each is a record with one positive."""

    def passages(texts: list[Text]) -> list[dict[str, str]]:
        return [{"docid": each.id, "title": "", "text": each.text} for each in texts]

    values = (
        {
            "query_id": each.query.id, "query": each.query.text,
            POSITIVE: passages(each.positives), NEGATIVE: passages(each.negatives),
        }
        for each in examples(data)
    )  # fmt: skip
    write_records(path, values)


def _passages(record: Record, name: str) -> list[str]:
    value = record.value.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, dict) and "text" in each for each in value):
        raise FormatError(
            f"{name!r} has the wrong type", where=record.where, got=shown(value), expected='a list of {"docid", "title", "text"}',
            remedy="Give each passage its text.",
        )  # fmt: skip
    return [
        " ".join(filter(None, (text_field(each.get(part) or "", f"{name}.{part}", record.where) for part in ("title", "text"))))
        for each in value
    ]
