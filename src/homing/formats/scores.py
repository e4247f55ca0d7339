"""Scores of pairs of a query and a document, one a row: Parquet, JSON, JSONL, or CSV and TSV with a header, found by content.

Columns: `query_id` or `query` (the text), `document_id` or `content` (the text), and `score`, higher for the more relevant.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from homing.errors import FormatError, first_line
from homing.formats import tables
from homing.formats.fields import Record, named, shown, text_field
from homing.formats.records import records

QUERY, DOCUMENT, SCORE = ("query_id", "query"), ("document_id", "content"), ("score",)
_REMEDY = "Name the columns query_id (or query), document_id (or content), and score."


class Scored(NamedTuple):
    """One pair. `query` and `document` are ids or texts, as the name of their column says."""

    query_column: str
    query: str
    document_column: str
    document: str
    score: float


def read(path: Path) -> Iterator[Scored]:
    """The pairs of a file in their order. Raises FormatError at the first that is wrong, and where the file cannot be read."""
    for record in _records(path):
        query, document, score = (named(record, names, _REMEDY) for names in (QUERY, DOCUMENT, SCORE))
        yield Scored(query, _told(record, query), document, _told(record, document), _number(record, score))


def _records(path: Path) -> Iterator[Record]:
    try:
        with path.open("rb") as handle:
            parquet = handle.read(len(tables.PARQUET)) == tables.PARQUET
        yield from _rows(path) if parquet else records(path, Counter())
    except (OSError, pa.ArrowInvalid) as error:
        raise FormatError(
            "the file of scores cannot be read", where=str(path), got=first_line(error), remedy="Check how it was written."
        ) from None


def _rows(path: Path) -> Iterator[Record]:
    file = pq.ParquetFile(path)
    names = tables.folded(file.schema_arrow.names)
    wanted = [field for field in file.schema_arrow if names[field.name] in (*QUERY, *DOCUMENT, *SCORE)]
    for field in wanted:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(
            fits(kind)
            for fits in (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
        ):
            raise FormatError(
                "a column of the scores has the wrong type", where=f"{path} column {field.name}", got=str(field.type),
                expected="text or numbers", remedy="Write ids and texts as strings, scores as numbers.",
            )  # fmt: skip
    row = 0
    for batch in file.iter_batches(columns=[field.name for field in wanted]):
        for value in batch.to_pylist():
            row += 1
            yield Record({names[name]: each for name, each in value.items()}, f"{path} row {row}")


def _told(record: Record, column: str) -> str:
    """The id or the text in this column; an id may be a whole number."""
    value = record.value[column]
    if column.endswith("_id") and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_field(value, column, record.where)


def _number(record: Record, column: str) -> float:
    value = record.value[column]
    try:
        score = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise FormatError(
            "the score is not a finite number", where=record.where, got=shown(value), expected="a number",
            remedy="Correct it, or leave the pair out: what is not scored is not taught.",
        )  # fmt: skip
    return score
