"""Write records as JSON, JSONL or Parquet, as the name of the file ends; one after the other, and the file appears whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

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
    with replaced(path, "w") as file:
        file.write("[\n" if array else "")
        for number, value in enumerate(values):
            file.write(",\n" if array and number else "")
            file.write(json.dumps(value, ensure_ascii=False) + ("" if array else "\n"))
        file.write("\n]\n" if array else "")
    return None


@contextmanager
def replaced(path: Path, mode: str, encoding: str = "utf-8") -> Iterator[IO[Any]]:
    """A file to write that takes the place of `path` when it is finished without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open(mode) if "b" in mode else temporary.open(mode, encoding=encoding, newline="") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
