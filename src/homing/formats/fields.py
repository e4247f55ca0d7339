"""What all formats share of a record: its place, its fields checked, and the words of errors about them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from homing.arguments import WHOLE, WHOLE_REMEDY, half_a_character
from homing.data import NO_WIDTH
from homing.errors import FormatError

_HIGHEST = 2**31 - 1
LIKE_LIST = re.compile(r"""\[\s*(".*"|'.*')\s*\]""", re.DOTALL)
_WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")
_ADDRESS = re.compile(r"[a-z][a-z0-9+]+:/")
_DECIMAL = re.compile(r"[+-]?[0-9]*\.[0-9]+")
TITLE = ("title", "标题", "文档标题", "文章标题")
RELEVANT = ("true", "yes", "y", "relevant", "是", "相关", "有关", "对", "正确", "匹配", "相似", "positive", "正例", "√", "✓", "✔")
IRRELEVANT = (
    "false", "no", "n", "not", "not relevant", "irrelevant", "否", "不相关", "无关", "不是", "错", "不对", "错误", "不正确", "不匹配",
    "不相似", "negative", "负例", "×", "✗", "✘",
)  # fmt: skip
_WORDS = {**dict.fromkeys(RELEVANT, True), **dict.fromkeys(IRRELEVANT, False)}
_SIMPLIFIED = str.maketrans("問題詢內檔關標籤註負樣選對錯無確準類擴義說語參機復覆", "问题询内档关标签注负样选对错无确准类扩义说语参机复复")


class Record(NamedTuple):
    """One JSON object or CSV row, and its place: the file with the record's number or its line."""

    value: dict[str, Any]
    where: str


def simplified(name: str) -> str:
    """A label, or the name of a column, with full-width letters as ASCII, and in simplified characters where it is one that is known."""
    return name if name.isascii() else unicodedata.normalize("NFKC", name).translate(_SIMPLIFIED)


def text_field(value: object, key: str, where: str) -> str:
    """`value` as a text, stripped of white space and what has no width, perhaps empty: null is an empty text, as an empty cell is.

    Raises FormatError where it is not a string, or one that UTF-8 cannot hold.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FormatError(f"{key!r} has the wrong type", where=where, got=shown(value), expected="a string", remedy=f"Make {key!r} a text.")
    if half := half_a_character(value):
        raise FormatError(f"{key!r} holds half a character", where=where, got=half, expected=WHOLE, remedy=WHOLE_REMEDY)
    return value.strip().strip(NO_WIDTH).strip()


def titled(value: Mapping[str, object], text: str, where: str) -> str:
    """A document's text after its title, where the object that it stands in has one."""
    name = next((name for name in TITLE if value.get(name)), None)
    return text if name is None else f"{text_field(value[name], name, where)} {text}".strip()


def texts_field(record: Record, name: str, notes: Counter[str]) -> list[str]:
    """The texts under this name: of a string the one, of a list all, of null or an empty string none.

    Counts empty texts of a list (`empty_documents`) and texts that look like a written list (`texts_like_lists`). Raises FormatError for
    anything else.
    """
    value = record.value[name]
    if value is None or value == "":
        return []
    if not isinstance(value, str | list):
        raise FormatError(
            f"{name!r} has the wrong type",
            where=record.where,
            got=shown(value),
            expected="a text or a list of texts",
            remedy=f"Make {name!r} a text, or a list of them.",
        )
    values = value if isinstance(value, list) else [value]
    texts = [text_field(text, name, record.where) for text in values]
    for text in texts:
        if not text:
            notes["empty_documents"] += 1
        elif LIKE_LIST.fullmatch(text):
            notes["texts_like_lists"] += 1
    return [text for text in texts if text]


def id_field(value: object, where: str) -> str:
    """`value` as an id, a whole number as its digits. Raises FormatError for what a line of qrels could not hold."""
    name = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(name, str) or not name or any(character in name for character in "\t\n\r"):
        raise FormatError(
            "the id is none", where=where, got=shown(value), expected="a string without tabs and line breaks",
            remedy="Give the text another id.",
        )  # fmt: skip
    text_field(name, "_id", where)
    return name


def named(record: Record, names: Sequence[str], remedy: str) -> str:
    """The one of these names that the record has. Raises FormatError, with this remedy, where it has none."""
    found = next((name for name in names if name in record.value), None)
    if found is None:
        raise FormatError(
            f"{names[0]!r} is missing", where=record.where, got=f"the keys {keys(record.value)}", expected=" or ".join(map(repr, names)),
            remedy=remedy,
        )  # fmt: skip
    return found


def columns(record: Record, own: Collection[str]) -> dict[str, str]:
    """What a record says of its query beside the keys that are the format's `own`: texts, numbers and truth values, as texts.

    What an object `metadata` holds counts as well. What is empty, a list or an object is left alone, and so is a name that cannot be typed.
    """
    inner = record.value.get("metadata")
    said = {name: value for name, value in record.value.items() if name not in own} | (inner if isinstance(inner, dict) else {})
    found = {
        name: text_field(value if isinstance(value, str) else json.dumps(value), name, record.where)
        for name, value in said.items()
        if isinstance(value, str | int | float) and value == value and name and name.isprintable()
    }
    return {name: value for name, value in found.items() if value}


def relevance_field(value: object, key: str, where: str, notes: Counter[str]) -> int:
    """`value` as a relevance, 0 and more: true and false, a whole number (also a database's decimal), one of these as a string, or a word
    for yes or no; also alone in a list, as annotation platforms write it.

    A negative grade (in TREC's files: junk) is 0, and counted in `notes["negative_grades"]`. Raises FormatError for anything else,
    NaN and null among it.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    grade: object = value
    if isinstance(value, str):
        word = simplified(value).strip().lower()
        grade = _WORDS.get(word, float(word) if _WHOLE.fullmatch(word) else None)
    if isinstance(grade, float | Decimal) and grade == grade // 1:
        grade = int(grade)
    if not isinstance(grade, int) or grade > _HIGHEST:
        missing = value is None or str(value).strip().lower() in ("", "nan")
        between = isinstance(grade, float | Decimal) or bool(isinstance(value, str) and _DECIMAL.fullmatch(value.strip()))
        cut = "Choose the value from which a document is relevant to its query, and write true from there on, false below."
        words = f"Write a grade, or one of the words that are read ({', '.join(RELEVANT)}; {', '.join(IRRELEVANT)}), or leave the pair out."
        words += " A column that holds no judgment wants another name (topic, 分类)."
        raise FormatError(
            f"{key!r} is no relevance",
            where=where,
            got=shown(value),
            expected="true, false, a whole number (0: not relevant, 1 and more: relevant) or a word for yes or no",
            remedy="Label this candidate, or remove it." if missing else cut if between else words,
        )
    if grade < 0:
        notes["negative_grades"] += 1
    return max(int(grade), 0)


def shown(value: object, longest: int = 60) -> str:
    """A value as a message shows it, in the words of JSON, or as a text where JSON has none (a date), cut to its first characters."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with the keys {keys(value)}"
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= longest else f"{text[:longest]}…"


def keys(value: dict[str, Any], most: int = 8) -> str:
    """The keys of a record as a message shows them."""
    names = ", ".join(shown(key, 30) for key in list(value)[:most])
    return (names + (", …" if len(value) > most else "")) or "none"


def unreadable(path: Path, error: Exception) -> FormatError:
    """The error for a file that the system does not let us read, or whose packing is broken."""
    got, remedy = getattr(error, "strerror", None) or str(error), "Check the path and its permissions, and that the file is whole."
    if _ADDRESS.match(str(path)):
        remedy = "Fetch what is at this address first, and give the path of the file: data is read from the disk alone."
    return FormatError("cannot be read", where=str(path), got=got, remedy=remedy)


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
