"""The formats that data comes in, one module each, and which of them a path holds. Found by content, not by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Protocol

from homing.builder import Builder
from homing.data import Side
from homing.errors import FormatError
from homing.formats import (
    beir,
    candidates,
    faq,
    flagembedding,
    headers,
    llamaindex,
    pairs,
    rows,
    sentence_transformers,
    swift,
    tevatron,
    trec,
)
from homing.formats.fields import keys, shown
from homing.formats.records import records

_LOOKED_AT = 100  # records, at most, until one tells its format


class Format(Protocol):
    """A module that reads one format; `homing.converting` has what writes it."""

    def read(self, path: Path, into: Builder, side: Side | None = None) -> None:
        """Read texts and judgments into `into`, the judgments as those of `side`. Raises FormatError or JudgmentError."""
        ...


FORMATS: dict[str, Format] = {
    "candidates": candidates, "rows": rows, "pairs": pairs, "beir": beir, "trec": trec, "llamaindex": llamaindex, "tevatron": tevatron,
    "faq": faq, "flagembedding": flagembedding, "sentence-transformers": sentence_transformers, "ms-swift": swift,
}  # fmt: skip
_BY_RECORD = (("ms-swift", swift), ("tevatron", tevatron), ("faq", faq), ("rows", rows), ("pairs", pairs), ("candidates", candidates))
_PANDAS = "Write one record a row: from pandas table.to_json(PATH, orient='records', lines=True, force_ascii=False)."


def detect(path: Path) -> str:
    """The name of the format that the path holds, a key of `FORMATS`. Raises FormatError where it is none of them."""
    if path.is_dir():
        if trec.recognises(path):
            return "trec"
        beir.demand(path)
        return "beir"
    if path.is_file() and llamaindex.recognises(path):
        return "llamaindex"
    for record in islice(records(path, Counter()), _LOOKED_AT):
        for name, module in _BY_RECORD:
            if module.recognises(record.value):
                return name
        if not any(isinstance(value, list) for value in record.value.values()) or "query" not in record.value:
            around = next((key for key, value in record.value.items() if _holds_records(value)), None)
            raise FormatError(
                "the first record is of no known format",
                where=record.where,
                got=f"the keys {keys(record.value)}",
                expected="'query' with lists of {'content', 'is_relevant'}, 'query' with 'positive' (and 'negative'), "
                "or 'query' with 'content' and 'is_relevant'",
                remedy=_renamed(record.value)
                if around is None else f"Write the list of records under {shown(around)} alone, without an object around it.",
            )  # fmt: skip
    return "candidates"


def _renamed(record: Mapping[str, object]) -> str:
    """Which keys to rename: those that are still wanted, where some are known."""
    known = headers.parts(list(record))
    if len(record) > 1 and all(isinstance(each, dict) for each in record.values()):
        whole = any(module.recognises(each) for each in record.values() if isinstance(each, dict) for _, module in _BY_RECORD)
        return "Write the records as a list, without keys around them." if whole else _PANDAS
    if set(record) == {"columns", "index", "data"}:
        return _PANDAS
    if {"annotations", "data"} <= set(record):
        return "Export from Label Studio as JSON-MIN or CSV, the query called 'query', the document 'content', the choice 'is_relevant'."
    if objects := [name for name in known.values() if _nested(record[name])]:
        return f"{shown(objects[0])} holds objects: write their texts in place of them."
    found = ", ".join(f"{shown(name)} is the {headers.PARTS[part]}" for part, name in known.items())
    missing = " and that of the ".join(f"{headers.PARTS[part]} {part!r}" for part in ("query", "content") if part not in known)
    if missing and "is_relevant" in known:
        return f"{found}: name the key of the {missing}."
    if not missing and "is_relevant" not in known:
        return f"{found}: name the key of the label 'is_relevant'; where every document is relevant, name theirs 'positive' in place of it."
    if "query" in known:
        return (
            f"{found}: name the key of relevant documents 'positive' (a text or a list of texts), or that of any document 'content' and of "
            "its label 'is_relevant'."
        )
    if nested := next((name for name in record if _nested(record[name])), None):
        return f"What the objects under {shown(nested)} hold is not looked at: write a record a query, its documents' texts beside it."
    return (
        "Rename the keys to these (in a table the first row names them: delete what stands above it, or add it; of several sheets the "
        "first with rows is read); the README's 'Formats' shows each."
    )


def _nested(value: object) -> bool:
    """Whether this is an object, or a list of them."""
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict) for each in value))


def _holds_records(value: object) -> bool:
    """Whether this is a list of records, which somebody put into an object."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and any(module.recognises(first) for _, module in _BY_RECORD)


def named(name: str | None, path: Path) -> str:
    """`name`, or where it is None what `detect` finds. Raises FormatError for a name that is not in `FORMATS`."""
    if name is None:
        return detect(path)
    if name not in FORMATS:
        remedy = "Give --format one of these, or leave it out."
        raise FormatError(f"there is no format {name!r}", expected=", ".join(FORMATS), remedy=remedy)
    return name
