"""Standard questions with others that ask the same, and their answer: the tables behind customer service, as CSV, a spreadsheet or JSON.

Names: `question` or `query`; `similar_question`, also numbered (`similar_question_1`, …); `answer`. Tables say 标准问题, 相似问题, 答案
(`headers` has more). Each question, the standard one and those like it, is a query whose positive is the answer. Where there is no
answer, the standard question is what the others are to find. Other names that hold a text or a number are columns of the query.
"""

from __future__ import annotations

import re
from ast import literal_eval
from contextlib import suppress
from pathlib import Path
from typing import Any

from homing.builder import Builder
from homing.data import Side
from homing.errors import FormatError
from homing.formats.fields import LIKE_LIST, Record, columns, keys, text_field, texts_field
from homing.formats.headers import ENGLISH, POSITIVES
from homing.formats.records import records

QUESTION, ANSWER = ENGLISH["question"], "answer"
SIMILAR = re.compile(r"similar_question(?:_\d+)?")
NOTHING = ("无", "暂无", "没有", "/", "-", "—", "——", "N/A", "n/a")  # what people write into a cell that has nothing to say
SEPARATORS = ("\n", "##", "|", "｜", "；", ";")


def recognises(record: dict[str, Any]) -> bool:
    """Whether the record has questions that are like another, and neither positives nor candidates, nor (but beside an answer) a label."""
    listed = any(isinstance(value, list) and any(isinstance(each, dict) for each in value) for value in record.values())
    judged = any(map(POSITIVES.fullmatch, record)) or (ANSWER not in record and any(name in record for name in ENGLISH["is_relevant"]))
    return any(map(SIMILAR.fullmatch, record)) and not judged and not listed


def read(path: Path, into: Builder, side: Side | None = None) -> None:
    """Read the file into `into`, its judgments as those of `side`.

    A text with several similar questions is parted at line breaks, else at the first of `SEPARATORS` that it has, or is a written list;
    they are counted in `notes["similar_in_a_cell"]`. What stands for none (`NOTHING`) is none. A record of similar questions alone goes
    with the one above it (`notes["similar_below"]`). Counts `records_without_positive` and `empty_documents` too. Raises FormatError for a
    record without similar questions, or what they are like.
    """
    answers: list[int] = []
    for record in records(path, into.notes):
        value, where = record.value, record.where
        names = [name for name in value if SIMILAR.fullmatch(name)]
        question = next((name for name in QUESTION if name in value), None)
        if not names or (question is None and ANSWER not in value):
            raise FormatError(
                "there is nothing that similar questions are like" if names else "'similar_question' is missing", where=where,
                got=f"the keys {keys(value)}", expected="'question' (标准问题) or 'answer' (答案) beside 'similar_question' (相似问题)",
                remedy="Name the column of the standard question or that of the answer so.",
            )  # fmt: skip
        similar = [each for name in names for each in _questions(record, name, into) if each not in NOTHING]
        asked = "" if question is None else text_field(value[question], question, where)
        told = texts_field(record, ANSWER, into.notes) if ANSWER in value else [asked] if asked else []
        if similar and not asked and not told:
            into.notes["similar_below"] += len(similar)
        else:
            answers = [into.document(answer) for answer in told]
        said = columns(record, (*QUESTION, ANSWER, *names))
        queries = [asked, *similar] if ANSWER in value else [each for each in similar if each != asked]  # no question answers itself
        for query in dict.fromkeys(filter(None, queries)):
            place = into.query(query)
            into.describe(place, said)
            for answer in answers:
                into.judge(place, answer, 1, side)
        if not answers:
            into.notes["records_without_positive"] += 1


def _questions(record: Record, name: str, into: Builder) -> list[str]:
    """The questions under this name: of a list each, of a text those that it is parted into."""
    value = record.value[name]
    if not isinstance(value, str):
        return texts_field(record, name, into.notes)
    parts = [text for part in _parted(value.strip()) if (text := text_field(part, name, record.where))]
    into.notes["similar_in_a_cell"] += len(parts) if len(parts) > 1 else 0
    return parts


def _parted(cell: str) -> list[str]:
    """The questions of a cell: of a list as a program writes it into a table those in it, else what stands between separators."""
    if LIKE_LIST.fullmatch(cell):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            written = literal_eval(cell)
            if isinstance(written, list) and all(isinstance(each, str) for each in written):
                return written
    return cell.split(next((each for each in SEPARATORS if each in cell), "\n"))
