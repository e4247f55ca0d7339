"""Judgments on disk: JSONL as the marking page and model judges write it, or a marked sheet, CSV or xlsx, as a spreadsheet saved it.

A sheet's columns are known by their names, in any order and any case, beside any others. What is needed: `mark`, and of the query and
the document the digest, the id, or the text itself. A row without a mark is not judged. CSV may be UTF-8 or GB18030, with commas,
semicolons or tabs, whatever the spreadsheet's locale made of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from homing.data import text_id
from homing.errors import FormatError, RunError
from homing.formats.fields import IRRELEVANT, RELEVANT, Record, shown, simplified, text_field
from homing.formats.records import records
from homing.judgments import Judgment, Mark

_WORDS: dict[Mark, tuple[str, ...]] = {
    "relevant": ("1", "1.0", *RELEVANT),
    "not": ("0", "0.0", *IRRELEVANT),
    "unsure": ("u", "unsure", "?", "不确定", "不知道"),
}
_MARK = {word: mark for mark, words in _WORDS.items() for word in words}
_FORMULA = tuple("=+-@＝＋－＠")
_BEFORE = "' \t\r\n\u00a0\u3000"  # what may stand before one of these, and a spreadsheet would still take it for a formula
_KNOWN = (
    "query_id", "document_id", "query_digest", "document_digest", "judge", "kind", "date", "split", "rubric", "grade", "note",
)  # fmt: skip


def read(path: str | Path) -> list[Judgment]:
    """The judgments of a file, in its order; rows that nobody marked are left out. Who does not say who he is, is called by the path.

    Raises FormatError where the file cannot be read, has no column of marks, a mark that is none, or names no text.
    """
    path = Path(path)
    found = [each for record in records(path, Counter()) if (each := _judgment(record, path)) is not None]
    if not found:
        raise FormatError(
            "the file holds no judgment", where=str(path), expected="at least one row with a mark: 1, 0 or u",
            remedy="Mark the rows in the column 'mark', or save the marking page's judgments, and give that file.",
        )  # fmt: skip
    return found


def demand_unmarked(sheet: Path) -> None:
    """Raise RunError where somebody has marked rows of this sheet, which is about to be written anew."""
    if sheet.is_file() and (marked := sum(bool(str(record.value.get("mark") or "").strip()) for record in records(sheet, Counter()))):
        raise RunError(
            "the sheet that is there has marks, which would be lost", where=str(sheet), got=f"{marked:,} marked rows",
            remedy="Give another --out, or move the sheet elsewhere; --judgments FILE obeys its marks.",
        )  # fmt: skip


def write(judgments: Iterable[Judgment], path: Path) -> None:
    """Write JSONL, a judgment a line."""
    path.write_text("".join(line(each) for each in judgments), encoding="utf-8", newline="\n")


def line(judgment: Judgment) -> str:
    """A judgment as one line of JSONL; what is empty is left out."""
    return json.dumps({name: value for name, value in asdict(judgment).items() if value not in ("", None)}, ensure_ascii=False) + "\n"


def _judgment(record: Record, path: Path) -> Judgment | None:
    value, where = record.value, record.where
    if "mark" not in value:
        raise FormatError(
            "the column 'mark' is missing", where=where, got=", ".join(map(repr, list(value)[:12])), expected="'mark': 1, 0 or u",
            remedy="Give the file that homing audit or its marking page wrote.",
        )  # fmt: skip
    said = simplified(str(value["mark"])).strip().lower()
    if not said:
        return None
    if said not in _MARK:
        raise FormatError(
            "the mark is none", where=where, got=shown(value["mark"]), expected="1 (relevant), 0 (not relevant), u (unsure) or nothing",
            remedy="Correct the cell.",
        )  # fmt: skip
    given = {name: str(value.get(name) or "").strip() for name in _KNOWN}
    for side, prefix, column in (("query", "q", "query"), ("document", "d", "negative")):
        if not given[f"{side}_digest"] and not given[f"{side}_id"]:
            text = text_field(plain(str(value.get(column) or "")), column, where)
            if not text:
                raise FormatError(
                    f"the row names no {side}", where=where, expected=f"'{side}_digest', '{side}_id' or the text in '{column}'",
                    remedy="Keep the columns that homing audit wrote.",
                )  # fmt: skip
            given[f"{side}_digest"] = text_id(prefix, text)
    grade = given.pop("grade")
    kind = given.pop("kind") or "person"
    if kind not in ("person", "model"):
        raise FormatError("the kind of judge is none", where=where, got=shown(kind), expected="person or model", remedy="Correct it.")
    given["judge"] = given["judge"] or (str(path.with_suffix("")) if kind == "person" else "")
    return Judgment(mark=_MARK[said], kind="model" if kind == "model" else "person", grade=_grade(grade, where), **_texts(given))


def _texts(given: dict[str, str]) -> dict[str, Any]:
    """The fields that are texts, ids as a spreadsheet's guard left them; a split that is not said is train."""
    return {name: plain(value) for name, value in given.items()} | {"split": given["split"] or "train"}


def _grade(said: str, where: str) -> int | None:
    if not said:
        return None
    try:
        return int(float(said))
    except (ValueError, OverflowError):
        raise FormatError("the grade is none", where=where, got=shown(said), expected="a whole number", remedy="Correct it.") from None


def guarded(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula: an apostrophe stands before what begins with = + - @, full-width too."""
    return f"'{text}" if text.lstrip(_BEFORE).startswith(_FORMULA) else text


def plain(cell: str) -> str:
    """The text that `guarded` made a cell of."""
    return cell[1:] if cell.startswith("'") and cell.lstrip(_BEFORE).startswith(_FORMULA) else cell
