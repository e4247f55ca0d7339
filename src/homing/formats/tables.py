"""Records out of tables: CSV with a header, the first sheet of a spreadsheet (.xlsx), and Parquet; row by row, each with its place."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, TextIO
from zipfile import BadZipFile, ZipFile

from homing.errors import FormatError, first_line
from homing.formats import files, headers
from homing.formats.fields import Record, shown, undecodable

PARQUET, ZIP = b"PAR1", b"PK\x03\x04"
_BATCH = 1024  # rows of a Parquet file at once
_BLOCK = 1 << 20
_DELIMITERS = ",;\t|"  # Excel writes the second where numbers have a decimal comma
csv.field_size_limit(1 << 24)  # characters of a cell; csv's own 128 Ki are too few for whole documents
_SEPARATOR = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell [^>]*?ref="([A-Z]+[0-9]+:[A-Z]+[0-9]+)"')
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f\ufeff]")
_CERTAIN = 8  # characters beyond ASCII that are valid UTF-8: text in another encoding hardly ever begins with so many


def table(path: Path, notes: Counter[str], seen: Callable[[int], object]) -> Iterator[Record]:
    """The rows of a CSV file, as strings: separated by commas, semicolons, tabs or bars, whichever its first line has most of
    (by tabs where it has one and the file is called .tsv: a line that is no header, but a text, has commas too).

    In a .tsv file whose quotes are part of its texts they stay so (`_raw`). Excel's own first line, `sep=;`, says which separator, and is
    no header. UTF-8, or else GB18030, which is counted in `notes["read_as_gb18030"]`. Raises FormatError where the file is neither, or
    broken.
    """
    encoding = _encoding(path)
    notes["read_as_gb18030"] += encoding == "gb18030"
    with io.TextIOWrapper(files.opened(path), encoding=encoding, newline="") as file:
        start = file.readline()
        while start and not start.strip():
            start = file.readline()
        said = _SEPARATOR.fullmatch(start.strip("\ufeff \r\n"))
        tabs = "\t" in start and ".tsv" in path.suffixes
        delimiter = said[1] if said else "\t" if tabs else max(_DELIMITERS, key=start.count)
        raw = tabs and _raw(file)
        file.seek(0)
        rows = csv.reader(
            _counted(file, seen, encoding), delimiter=delimiter, quoting=csv.QUOTE_NONE if raw else csv.QUOTE_MINIMAL, strict=True
        )
        header: list[str] = []
        line = 1
        try:
            for row in rows:
                where, line = f"{path} line {line}", rows.line_num + 1
                if not any(cell.strip() for cell in row):
                    continue
                if said:
                    said = None
                elif not header:
                    header = headers.columns(row)
                else:
                    yield Record(_row(header, row, where), where)
        except csv.Error as error:
            raise FormatError(
                f"the CSV is broken: {error}",
                where=f"{path} line {line}",
                remedy='Put texts with commas, quotes or line breaks in quotes ("", a quote doubled), or write JSONL.',
            ) from None


def spreadsheet(path: Path, notes: Counter[str]) -> Iterator[Record]:
    """The rows of the first sheet of an .xlsx file that has any, as strings; its first row that is not empty is the header.

    Numbers, dates and formulas stand as the value that was saved for them, and what is merged over several rows stands in each of them.
    Of several sheets each record's place names its own.
    Further sheets that hold anything are counted in `notes["ignored_sheets"]`. Raises FormatError where the file is no such thing.
    """
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        content = io.BytesIO(path.read_bytes())  # by its path, its name would decide
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the sheet has beside its cells (styles, validations) does not matter here
            book = load_workbook(content, read_only=True, data_only=True)
        try:
            for place, sheet in enumerate(book.worksheets):
                header: list[str] = []
                found = False
                sheet.reset_dimensions()  # streaming writers (POI's, EasyExcel) say A1 before they know, and openpyxl would stop there
                named = f" sheet {shown(sheet.title)}" if len(book.worksheets) > 1 else ""
                merged = _Merged(content, sheet._worksheet_path)
                for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
                    cells = [_cell(value) for value in values]
                    merged.fill(number, cells)
                    if not any(cell.strip() for cell in cells):
                        continue
                    if not header:
                        header = headers.columns(cells)
                        while not header[-1]:
                            header.pop()
                        continue
                    where, found = f"{path}{named} row {number}", True
                    yield Record(_row(header, cells + [""] * (len(header) - len(cells)), where), where)
                if found:
                    further = book.worksheets[place + 1 :]
                    notes["ignored_sheets"] += sum(any(any(row) for row in each.iter_rows(values_only=True)) for each in further)
                    return
        finally:
            book.close()
    except (BadZipFile, InvalidFileException, KeyError, IndexError, ValueError, TypeError, AttributeError, SyntaxError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            "the spreadsheet cannot be read", where=str(path), got=f"{type(error).__name__}: {error}"[:120], expected="an .xlsx file",
            remedy="Save it as .xlsx or as CSV (UTF-8) from the program that made it; unpack it where it is a zip of other files.",
        ) from None  # fmt: skip


class _Merged:
    """Cells of a sheet that are merged over several rows, which openpyxl does not tell of sheets that it reads row by row."""

    def __init__(self, book: io.BytesIO, sheet: str) -> None:
        from openpyxl.utils import range_boundaries

        self._last: dict[int, list[tuple[int, int]]] = {}  # by their first row: the column, from 0, and the last row
        self._open: list[tuple[int, int, str]] = []  # the column, the last row and the text of those that the row before was in
        found, rest = set[bytes](), b""
        with ZipFile(book).open(sheet) as file:
            while block := file.read(_BLOCK):
                found.update(_MERGED.findall(rest + block))
                rest = block[-200:]
        for left, top, _, bottom in sorted(range_boundaries(each.decode()) for each in found):
            if bottom > top:
                self._last.setdefault(top, []).append((left - 1, bottom))

    def fill(self, row: int, cells: list[str]) -> None:
        """Write the merged texts into a row below those that they stand in, if it holds anything; rows come in their order, each one."""
        self._open = [each for each in self._open if row <= each[1]]
        if any(cell.strip() for cell in cells):
            for column, _, text in self._open:
                cells.extend([""] * (column + 1 - len(cells)))
                cells[column] = text
        self._open += [(column, last, cells[column]) for column, last in self._last.get(row, ()) if column < len(cells)]


def parquet(path: Path, seen: Callable[[int], object]) -> Iterator[Record]:
    """The rows of a Parquet file, lists and structs as JSON has them, under lower-cased names as in the other tables.

    Texts that a program wrote as bytes are texts if they are UTF-8.

    Raises FormatError where the file is broken.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        size, rows, number = path.stat().st_size, file.metadata.num_rows, 0
        names = folded(file.schema_arrow.names)
        binary = [each.name for each in file.schema_arrow if "binary" in str(each.type)]
        for batch in file.iter_batches(_BATCH):
            for value in batch.to_pylist():
                number += 1
                value |= {name: _decoded(value[name]) for name in binary}
                yield Record({names[name]: each for name, each in value.items()}, f"{path} row {number}")
            seen(size * len(batch) // max(rows, 1))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise FormatError(
            "the Parquet file cannot be read", where=str(path), got=first_line(error), remedy="Check how it was written."
        ) from None


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    if isinstance(value, dict):
        return {name: _decoded(each) for name, each in value.items()}
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
    return value


def folded(names: Sequence[str]) -> dict[str, str]:
    """Each name of a table's columns with what it is read as (`headers.columns`), unless that is another's too."""
    found = dict(zip(names, headers.columns(names), strict=True))
    return {name: each if list(found.values()).count(each) == 1 else name for name, each in found.items()}


def _raw(file: TextIO) -> bool:
    """Whether the quotes of a file between tabs are part of its texts: read as CSV it is broken, or has cells that go over lines, but
    each of its lines, cut at the tabs alone, has as many cells as the first."""
    file.seek(0)
    lines = [0, 0]  # as CSV, and as they are
    with suppress(csv.Error):
        lines[0] = sum(bool(row) for row in csv.reader(file, delimiter="\t", strict=True))
    file.seek(0)
    tabs = set[int]()
    for line in file:
        if line.strip("\r\n"):
            lines[1] += 1
            tabs.add(line.count("\t"))
    return lines[0] != lines[1] and len(tabs) == 1


def _encoding(path: Path) -> str:
    """utf-8-sig or gb18030. Raises FormatError for bytes that are neither."""
    bad = _undecodable(path, "utf-8")
    if bad is None:
        return "utf-8-sig"
    error, offset, lines, beyond = bad
    if beyond >= _CERTAIN:
        raise undecodable(error, path, offset=offset, lines=lines) from None
    if (bad := _undecodable(path, "gb18030")) is not None:
        raise undecodable(bad[0], path, "UTF-8 or GB18030", offset=bad[1], lines=bad[2]) from None
    return "gb18030"


def _undecodable(path: Path, encoding: str) -> tuple[UnicodeDecodeError, int, int, int] | None:
    """The first error in a file of this encoding, offset and line of what it was found in, and characters beyond ASCII before it."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = lines = beyond = 0
    with files.opened(path) as file:
        while True:
            block = file.read(_BLOCK)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(encoding, errors="ignore")
                return error, offset - pending, lines, beyond + len(_BEYOND_ASCII.findall(before))
            if not block:
                return None
            offset, lines = offset + len(block), lines + text.count("\n")
            beyond += len(_BEYOND_ASCII.findall(text))


def _counted(lines: Iterator[str], seen: Callable[[int], object], encoding: str) -> Iterator[str]:
    for line in lines:
        seen(len(line) if line.isascii() else len(line.encode(encoding)))
        yield line


def _cell(value: object) -> str:
    """A cell as the string that a CSV file would have."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date) else str(value).replace("_x000D_", "\r")  # as Excel writes that character


def _row(header: Sequence[str], cells: list[str], where: str) -> dict[str, Any]:
    """A row by the names of its header; empty cells beyond it are none, as where each line ends in a comma."""
    while len(cells) > len(header) and not cells[-1].strip():
        cells.pop()
    if len(cells) != len(header):
        raise FormatError(
            "the row does not fit the header",
            where=where,
            got=f"{len(cells)} cells",
            expected=f"{len(header)} ({', '.join(shown(name, 30) for name in header[:8])})",
            remedy="Let the first row name the columns (delete a title above them); put texts with commas, quotes or line breaks in "
            "quotes; leave the cells of absent negatives empty.",
        )
    value: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        if header.count(name) > 1:
            value.setdefault(name, []).extend([cell] if cell else [])
        else:
            value[name] = cell
    return value
