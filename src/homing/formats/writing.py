"""Write records as JSON, JSONL or Parquet, as the name of the file ends; one after the other, and the file appears whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homing.manifest import replaced

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 4096  # records of a Parquet file at once


def write_records(path: Path, values: Iterable[dict[str, Any]]) -> None:
    """Write records: a name that ends in `.json` gets an array with a record a line, `.parquet` Parquet, any other JSONL.

    UTF-8, the same bytes on every system. For Parquet all records have the same keys, and what is absent everywhere in the first
    4,096 is text or a list of texts.
    """
    if path.suffix.lower() == ".parquet":
        return _write_parquet(path, values)
    array = path.suffix.lower() == ".json"
    with replaced(path) as file:
        file.write("[\n" if array else "")
        for number, value in enumerate(values):
            file.write(",\n" if array and number else "")
            file.write(json.dumps(value, ensure_ascii=False) + ("" if array else "\n"))
        file.write("\n]\n" if array else "")
    return None


def _write_parquet(path: Path, values: Iterable[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rest = iter(values)
    table = pa.Table.from_pylist(list(islice(rest, _BATCH)))
    schema = pa.schema([(field.name, _known(field.type)) for field in table.schema])
    with replaced(path, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        writer.write_table(table.cast(schema))
        while batch := list(islice(rest, _BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _known(kind: pa.DataType) -> pa.DataType:
    """The type with text in the place of what could not be told."""
    import pyarrow as pa

    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_known(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _known(field.type)) for field in kind])
    return kind
