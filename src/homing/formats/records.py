"""The records of a JSON, JSONL or CSV file, one at a time, each with its place; and the fields that all formats share.

Which of the three a file is, its first character says: `[` a JSON array, `{` JSONL, anything else CSV with a header.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from homing.errors import FormatError

_BOM = b"\xef\xbb\xbf"
_DELIMITERS = ",;\t"  # Excel writes the second where numbers have a decimal comma
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f\ufeff]")
_BLANK = re.compile(r"[ \t\n\r]*")
_HIGHEST = 2**31 - 1
_WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")
_WORDS = {"true": True, "false": False}
_CERTAIN = 8  # characters beyond ASCII that are valid UTF-8: text in another encoding hardly ever begins with so many
_JSON_REMEDY = "Correct the JSON there, or write the file with a JSON library."


class Record(NamedTuple):
    """One JSON object or CSV row, and its place: the file with the record's number or its line."""

    value: dict[str, Any]
    where: str


def records(path: Path, notes: Counter[str]) -> Iterator[Record]:
    """The records of a file in their order. A CSV record holds strings, and under a header that occurs repeatedly a list of those
    that are not empty.

    A CSV file that is not UTF-8 is read as GB18030 and counted in `notes["read_as_gb18030"]`. Raises FormatError where the file is
    missing, empty, broken or not UTF-8, or holds something that is not a record.
    """
    try:
        first = _first_character(path)
        if not first:
            raise FormatError("the file is empty", where=str(path), expected="at least one record", remedy="Check how it was written.")
        found = _array(path) if first == b"[" else _lines(path) if first == b"{" else _table(path, notes)
        empty = True
        for record in found:
            empty = False
            yield record
    except OSError as error:
        raise unreadable(path, error) from None
    if empty:
        raise FormatError("the file holds no record", where=str(path), expected="at least one", remedy="Check how it was written.")


def objects(path: Path) -> Iterator[Record]:
    """The objects of a JSONL file, which may hold none. Raises FormatError like `records`."""
    try:
        yield from _lines(path)
    except OSError as error:
        raise unreadable(path, error) from None


def text_field(value: object, key: str, where: str) -> str:
    """`value` as a text, stripped, perhaps empty. Raises FormatError where it is not a string, or one that UTF-8 cannot hold."""
    if not isinstance(value, str):
        raise FormatError(f"{key!r} has the wrong type", where=where, got=shown(value), expected="a string", remedy=f"Make {key!r} a text.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise FormatError(
                f"{key!r} holds half a character",
                where=where,
                got=f"the lone surrogate \\u{ord(value[error.start]):04x} at character {error.start + 1}",
                expected="text that can be written as UTF-8",
                remedy="Cut or escape the text by whole characters.",
            ) from None
    return value.strip()


def relevance_field(value: object, key: str, where: str, notes: Counter[str]) -> int:
    """`value` as a relevance, 0 and more: true and false, a whole number, or one of these as a string.

    A negative grade (in TREC's files: junk) is 0, and counted in `notes["negative_grades"]`. Raises FormatError for anything else,
    NaN and null among it.
    """
    grade: object = value
    if isinstance(value, str):
        word = value.strip().lower()
        grade = _WORDS.get(word, float(word) if _WHOLE.fullmatch(word) else None)
    if isinstance(grade, float) and grade.is_integer():
        grade = int(grade)
    if not isinstance(grade, int) or grade > _HIGHEST:
        missing = value is None or str(value).strip().lower() in ("", "nan")
        raise FormatError(
            f"{key!r} is no relevance",
            where=where,
            got=shown(value),
            expected="true, false or a whole number (0: not relevant, 1 and more: relevant)",
            remedy="Label this candidate, or remove it." if missing else f"Correct {key!r}.",
        )
    if grade < 0:
        notes["negative_grades"] += 1
    return max(int(grade), 0)


def shown(value: object, longest: int = 60) -> str:
    """A value as a message shows it, in the words of JSON, cut to its first characters."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with the keys {keys(value)}"
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= longest else f"{text[:longest]}…"


def keys(value: dict[str, Any], most: int = 8) -> str:
    """The keys of a record as a message shows them."""
    names = ", ".join(shown(key, 30) for key in list(value)[:most])
    return (names + (", …" if len(value) > most else "")) or "none"


def unreadable(path: Path, error: OSError) -> FormatError:
    """The error for a file that the system does not let us read."""
    return FormatError("cannot be read", where=str(path), got=error.strerror or str(error), remedy="Check the path and its permissions.")


def undecodable(error: UnicodeDecodeError, path: Path, encoding: str = "UTF-8", *, offset: int = 0, lines: int = 0) -> FormatError:
    """The error for bytes that are not of this encoding, where they begin at `offset` and after so many `lines` of the file."""
    line = lines + error.object.count(b"\n", 0, error.start) + 1
    return FormatError(
        f"the file is not {encoding}",
        where=f"{path} line {line}",
        got=f"the byte 0x{error.object[error.start]:02x} at offset {offset + error.start:,}",
        expected=f"{encoding} text",
        remedy="Save the file as UTF-8.",
    )


def write_lines(path: Path, values: Sequence[dict[str, Any]], *, array: bool = False) -> None:
    """Write objects as JSONL, or as a JSON array with one object a line; UTF-8, the same bytes on every system."""
    lines = [json.dumps(value, ensure_ascii=False) for value in values]
    text = "[\n" + ",\n".join(lines) + "\n]\n" if array else "".join(f"{line}\n" for line in lines)
    path.write_text(text, encoding="utf-8", newline="\n")


def _first_character(path: Path) -> bytes:
    """The first byte that is neither a byte order mark nor white space; empty where there is none."""
    with path.open("rb") as file:
        head = file.read(1 << 16).removeprefix(_BOM).lstrip()
        while not head and (more := file.read(1 << 16)):
            head = more.lstrip()
    return head[:1]


def _array(path: Path) -> Iterator[Record]:
    text = _decoded(path.read_bytes(), path)
    position = _skip(text, _skip(text, 0) + 1)
    number, line, seen = 0, 1, 0
    while not (number == 0 and text.startswith("]", position)):
        number, line, seen = number + 1, line + text.count("\n", seen, position), position
        try:
            if number > 1 and text.startswith("]", position):
                raise json.JSONDecodeError("Comma before the end of the list", text, position)
            value, position = _parse(text, position)
            position = _skip(text, position)
            if text[position : position + 1] not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' or ']' after a record", text, position)
        except ValueError as error:
            raise _broken(error, f"{path} record {number} (line {line})", line) from None
        yield _object(value, f"{path} record {number} (line {line})")
        if text[position] == "]":
            break
        position = _skip(text, position + 1)
    if _skip(text, position + 1) < len(text):
        end = json.JSONDecodeError("Text after the end of the list", text, _skip(text, position + 1))
        raise _broken(end, str(path), end.lineno)


def _lines(path: Path) -> Iterator[Record]:
    offset = 0
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            text = _decoded(raw, path, offset, line - 1)
            offset += len(raw)
            start = _skip(text, 0)
            if start == len(text):
                continue
            where = f"{path} line {line}"
            try:
                value, end = _parse(text, start)
                if _skip(text, end) < len(text):
                    raise json.JSONDecodeError("Text after the end of the record", text, _skip(text, end))
            except ValueError as error:
                raise (_one_object(path) if line == 1 else None) or _broken(error, where, line) from None
            yield _object(value, where)


def _table(path: Path, notes: Counter[str]) -> Iterator[Record]:
    raw = path.read_bytes()
    try:
        text = raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if len(_BEYOND_ASCII.findall(raw[: error.start].decode())) >= _CERTAIN:
            raise undecodable(error, path) from None
        try:
            text = raw.decode("gb18030")
        except UnicodeDecodeError:
            raise undecodable(error, path, "UTF-8 or GB18030") from None
        notes["read_as_gb18030"] += 1
    delimiter = max(_DELIMITERS, key=text.lstrip().partition("\n")[0].count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    line = 1
    try:
        for row in rows:
            where, line = f"{path} line {line}", rows.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = [name.strip().lower() for name in row]
            else:
                yield Record(_row(header, row, where), where)
    except csv.Error as error:
        raise FormatError(
            f"the CSV is broken: {error}",
            where=f"{path} line {line}",
            remedy='Put texts with commas, quotes or line breaks in quotes ("", a quote doubled), or write JSONL.',
        ) from None


def _row(header: list[str], cells: list[str], where: str) -> dict[str, Any]:
    if len(cells) != len(header):
        raise FormatError(
            "the row does not fit the header",
            where=where,
            got=f"{len(cells)} cells",
            expected=f"{len(header)} ({', '.join(shown(name, 30) for name in header[:8])})",
            remedy="Put texts with commas, quotes or line breaks in quotes; leave the cells of absent negatives empty.",
        )
    value: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        if header.count(name) > 1:
            value.setdefault(name, []).extend([cell] if cell else [])
        else:
            value[name] = cell
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {shown(repeated)} occurs twice in one object")
    return value


_scan = json.JSONDecoder(object_pairs_hook=_pairs).raw_decode


def _parse(text: str, position: int) -> tuple[Any, int]:
    """The JSON value at this position and where it ends. Raises ValueError for every way in which it can be broken."""
    try:
        return _scan(text, position)
    except RecursionError:
        raise ValueError("lists or objects nested too deeply") from None


def _skip(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _object(value: object, where: str) -> Record:
    if not isinstance(value, dict):
        remedy = "Make each record an object with its keys."
        raise FormatError("a record is not an object", where=where, got=shown(value), expected="an object", remedy=remedy)
    return Record(value, where)


def _broken(error: ValueError, where: str, line: int) -> FormatError:
    """The error for broken JSON in a record that starts in this line."""
    if not isinstance(error, json.JSONDecodeError):
        return FormatError(f"the JSON cannot be read: {error}", where=where, remedy=_JSON_REMEDY)
    place = f"line {max(line, error.lineno)}, column {error.colno}"
    at = error.doc[error.pos : error.pos + 20]
    return FormatError(f"broken JSON at {place}: {error.msg}", where=where, got=shown(at) if at else "the end", remedy=_JSON_REMEDY)


def _one_object(path: Path) -> FormatError | None:
    """The error for a file that is no JSONL but one JSON object over several lines; None where it is something else."""
    text = _decoded(path.read_bytes(), path)
    try:
        value, end = _parse(text, _skip(text, 0))
    except ValueError:
        return None
    if not isinstance(value, dict) or "\n" not in text[:end]:
        return None
    return FormatError(
        "a single JSON object stands at the top level",
        where=str(path),
        got=shown(value),
        expected="a list of records, or one record a line",
        remedy="Write the list of records alone, without an object around it.",
    )


def _decoded(raw: bytes, path: Path, offset: int = 0, lines: int = 0) -> str:
    """The text of these bytes, which begin at `offset` and after so many `lines` of the file."""
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise undecodable(error, path, offset=offset, lines=lines) from None
