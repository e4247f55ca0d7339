"""The bytes of a data file, one that gzip packed unpacked; and what a file is that no reader here can read."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO, cast

from homing.errors import FormatError

GZIP = b"\x1f\x8b"
ENDING = ".gz"
_UNPACK, _TO_UTF8 = "Unpack it, or pack it by gzip.", "Save it as UTF-8 (in Excel: CSV UTF-8)."
_FOREIGN = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)", "Save it as .xlsx, or as CSV UTF-8."),
    (b"\xff\xfe", "UTF-16 text", _TO_UTF8),
    (b"\xfe\xff", "UTF-16 text", _TO_UTF8),
    (b"[\x00", "UTF-16 text", _TO_UTF8),
    (b"{\x00", "UTF-16 text", _TO_UTF8),
    (b"(\xb5/\xfd", "packed by Zstandard", _UNPACK),
    (b"7z\xbc\xaf", "packed by 7-Zip", _UNPACK),
    (b"\xfd7zX", "packed by xz", _UNPACK),
    (b"BZh", "packed by bzip2", _UNPACK),
    (b"Rar!", "packed by RAR", _UNPACK),
    (b"%PDF", "a PDF", "Save what is judged in it as a table or as JSON; the README's 'Formats' shows each."),
    (b"ARRO", "an Arrow table", "Save it as Parquet (datasets: to_parquet; pyarrow: parquet.write_table)."),
    (b"\x80\x04\x95", "a pickle, which can run any code when it is loaded", "Save it as JSONL or Parquet."),
)


def opened(path: Path) -> BinaryIO:
    """The file, read as bytes; unpacked where it begins as gzip's do."""
    return cast("BinaryIO", gzip.open(path)) if packed(path) else path.open("rb")


def packed(path: Path) -> bool:
    """Whether the file begins as gzip's do."""
    with path.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


def present(path: Path) -> Path:
    """`path`, or where it is not there the same name with `.gz`, if that is."""
    beside = path.with_name(path.name + ENDING)
    return beside if not path.exists() and beside.is_file() else path


def demand_readable(first: bytes, path: Path) -> None:
    """Raise FormatError where the first bytes say that the file is of a kind that is not read, and how it becomes one that is."""
    for beginning, what, remedy in _FOREIGN:
        if first.startswith(beginning):
            raise FormatError(
                f"the file is {what}", where=str(path), expected="JSON, JSONL, CSV in UTF-8, .xlsx or Parquet, also packed by gzip",
                remedy=remedy,
            )  # fmt: skip
