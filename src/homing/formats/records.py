"""The records of a file, one at a time, each with its place.

Which kind a file is, its first bytes say: `PAR1` Parquet, `PK` a spreadsheet (.xlsx), `[` a JSON array, `{` JSONL, anything else CSV with
a header; text may be packed by gzip. No kind is read whole: memory holds a record and a block of the file, however long it is.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from homing.errors import FormatError
from homing.formats import files, headers, streams, tables
from homing.formats.fields import Record, unreadable
from homing.progress import BAR

_BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 20  # bytes read at once


def records(path: Path, notes: Counter[str]) -> Iterator[Record]:
    """The records of a file in their order. A CSV or spreadsheet record holds strings, and under a header that occurs repeatedly a list
    of those that are not empty.

    A CSV file that is not UTF-8 is read as GB18030 and counted in `notes["read_as_gb18030"]`, sheets that are left aside in
    `notes["ignored_sheets"]`. Raises FormatError where the file is
    missing, empty, broken or not UTF-8, or holds something that is not a record.
    """
    empty = True
    try:
        with _bar(path) as bar:
            first = first_bytes(path)
            files.demand_readable(first, path)
            if not first:
                raise FormatError("the file is empty", where=str(path), expected="at least one record", remedy="Check how it was written.")
            if first == tables.PARQUET:
                found = tables.parquet(path, bar.update)
            elif first == tables.ZIP:
                found = tables.spreadsheet(path, notes)
            elif first[:1] == b"[":
                found = map(_named, streams.array(path, bar.update))
            else:
                found = map(_named, streams.lines(path, bar.update)) if first[:1] == b"{" else tables.table(path, notes, bar.update)
            for record in found:
                empty = False
                yield record
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None
    if empty:
        raise FormatError("the file holds no record", where=str(path), expected="at least one", remedy="Check how it was written.")


def _named(record: Record) -> Record:
    """The record with its keys as the formats know them."""
    names = headers.keys(tuple(record.value))
    return record if names is None else Record({names[name]: value for name, value in record.value.items()}, record.where)


def objects(path: Path) -> Iterator[Record]:
    """The objects of a JSONL file, which may hold none. Raises FormatError like `records`."""
    try:
        with _bar(path) as bar:
            yield from streams.lines(path, bar.update)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None


def _bar(path: Path) -> tqdm[Any]:
    total = None if files.packed(path) else path.stat().st_size
    return tqdm(total=total, desc=f"Reading {path.name}", unit="B", unit_scale=True, **BAR)


def first_bytes(path: Path) -> bytes:
    """The first four bytes after a byte order mark and white space; fewer where there are no more."""
    with files.opened(path) as file:
        head = file.read(_BLOCK).removeprefix(_BOM).lstrip()
        while not head and (more := file.read(_BLOCK)):
            head = more.lstrip()
        return (head + file.read(3))[:4] if head else head
