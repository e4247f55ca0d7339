"""Records out of JSON: the objects of an array or of JSONL, one at a time, each with its place, from a window that moves along the file."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from homing.errors import FormatError
from homing.formats import files
from homing.formats.fields import Record, shown, undecodable

_BLOCK = 1 << 20  # bytes read at once
_BLANK = re.compile(r"[ \t\n\r]*")
_SHOWN = 20  # characters of broken JSON
_JSON_REMEDY = "Correct the JSON there, or write the file with a JSON library."


class _Window:
    """The part of a text file that is being looked at; `text` grows at its end by `more` and loses its beginning by `drop`.

    `line` and `column`, from 1, are the place of the first character of `text`.
    """

    def __init__(self, path: Path, seen: Callable[[int], object]) -> None:
        self.path, self.seen, self.text, self.line, self.column = path, seen, "", 1, 1
        self._file = files.opened(path)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._bytes, self._lines, self._ended = 0, 0, False

    def close(self) -> None:
        self._file.close()

    def more(self) -> bool:
        """Read on, at least as much as is there, so that a long record is not begun again too often; whether there was more."""
        if self._ended:
            return False
        block = self._file.read(max(_BLOCK, len(self.text)))
        self._ended = not block
        pending = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise undecodable(error, self.path, offset=self._bytes - pending, lines=self._lines) from None
        self.text += text.removeprefix("\ufeff") if self._bytes == 0 else text
        self._bytes += len(block)
        self._lines += text.count("\n")
        self.seen(len(block))
        return not self._ended

    def drop(self, position: int) -> None:
        """Forget what stands before this position."""
        self.line, self.column = self.place(position)
        self.text = self.text[position:]

    def place(self, position: int) -> tuple[int, int]:
        """Line and column of a position in `text`."""
        lines = self.text.count("\n", 0, position)
        return self.line + lines, position - self.text.rfind("\n", 0, position) if lines else self.column + position

    def skip(self, position: int) -> int:
        """The first position from here on that is no white space; the text's length at the end of the file."""
        while (position := _skip(self.text, position)) == len(self.text) and self.more():
            pass
        return position

    def error(self, what: str, position: int) -> json.JSONDecodeError:
        """The error about this position, with as much text after it as is shown."""
        while len(self.text) < position + _SHOWN and self.more():
            pass
        return json.JSONDecodeError(what, self.text, position)

    def parse(self, position: int) -> tuple[Any, int]:
        """The JSON value at this position and where it ends. Raises ValueError where there is none, read to the end or not."""
        while True:
            try:
                value, end = _parse(self.text, position)
                if end < len(self.text) or not self.more():  # a number might go on
                    return value, end
            except json.JSONDecodeError:
                if not self.more():
                    raise


def array(path: Path, seen: Callable[[int], object]) -> Iterator[Record]:
    """The objects of a JSON array; `seen` hears how many bytes were read. Raises FormatError at the first that is broken."""
    window = _Window(path, seen)
    try:
        position, number, line, counted = window.skip(window.skip(0) + 1), 0, 1, 0
        while not (number == 0 and window.text.startswith("]", position)):
            number, line, counted = number + 1, line + window.text.count("\n", counted, position), position
            if position > _BLOCK:
                window.drop(position)
                position = counted = 0
            try:
                if number > 1 and window.text.startswith("]", position):
                    raise window.error("Comma before the end of the list", position)
                value, position = window.parse(position)
                position = window.skip(position)
                if window.text[position : position + 1] not in (",", "]"):
                    raise window.error("Expecting ',' or ']' after a record", position)
            except ValueError as error:
                raise _broken(error, f"{path} record {number} (line {line})", window.place) from None
            yield _object(value, f"{path} record {number} (line {line})")
            if window.text[position] == "]":
                break
            position = window.skip(position + 1)
        if (position := window.skip(position + 1)) < len(window.text):
            raise _broken(window.error("Text after the end of the list", position), str(path), window.place)
    finally:
        window.close()


def lines(path: Path, seen: Callable[[int], object]) -> Iterator[Record]:
    """The objects of a file that has one a line, else as `array`."""
    offset = 0
    with files.opened(path) as file:
        for line, raw in enumerate(file, 1):
            text = _decoded(raw, path, offset, line - 1)
            offset += len(raw)
            seen(len(raw))
            start = _skip(text, 0)
            if start == len(text):
                continue
            where = f"{path} line {line}"
            try:
                value, end = _parse(text, start)
                if _skip(text, end) < len(text):
                    raise json.JSONDecodeError("Text after the end of the record", text, _skip(text, end))
            except ValueError as error:
                raise (_one_object(path) if line == 1 else None) or _broken(error, where, partial(_on_line, line)) from None
            yield _object(value, where)


def _on_line(line: int, position: int) -> tuple[int, int]:
    return line, position + 1


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


def _broken(error: ValueError, where: str, place: Callable[[int], tuple[int, int]]) -> FormatError:
    """The error for broken JSON; `place` tells line and column of a position in the text that was parsed."""
    if not isinstance(error, json.JSONDecodeError):
        return FormatError(f"the JSON cannot be read: {error}", where=where, remedy=_JSON_REMEDY)
    line, column = place(error.pos)
    at = error.doc[error.pos : error.pos + _SHOWN]
    return FormatError(
        f"broken JSON at line {line}, column {column}: {error.msg}", where=where, got=shown(at) if at else "the end", remedy=_JSON_REMEDY
    )


def _one_object(path: Path) -> FormatError | None:
    """The error for a file that is no JSONL but one JSON object over several lines; None where it is something else."""
    text = _decoded(_whole(path), path)
    try:
        value, end = _parse(text, _skip(text, 0))
    except ValueError:
        return None
    if not isinstance(value, dict) or "\n" not in text[:end]:
        return None
    if _skip(text, end) < len(text):
        return FormatError(
            "JSON objects over several lines stand one after the other", where=str(path),
            expected="a list of records, or one record a line", remedy="Write each on one line (jq -c .), or all as a list (jq -s .).",
        )  # fmt: skip
    return FormatError(
        "a single JSON object stands at the top level",
        where=str(path),
        got=shown(value),
        expected="a list of records, or one record a line",
        remedy="Write the list of records alone, without an object around it.",
    )


def _whole(path: Path) -> bytes:
    with files.opened(path) as file:
        return file.read()


def _decoded(raw: bytes, path: Path, offset: int = 0, lines: int = 0) -> str:
    """The text of these bytes, which begin at `offset` and after so many `lines` of the file."""
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise undecodable(error, path, offset=offset, lines=lines) from None
