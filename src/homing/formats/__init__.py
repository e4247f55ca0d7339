"""The formats that data comes in, one module each, and which of them a path holds. Found by content, not by its name."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Protocol

from homing.data import Builder, Dataset, Side
from homing.errors import FormatError
from homing.formats import beir, candidates, rows
from homing.formats.records import keys, records

_LOOKED_AT = 100  # records, at most, until one tells its format


class Format(Protocol):
    """A module that reads and writes one format."""

    def read(self, path: Path, into: Builder, side: Side | None = None) -> None:
        """Read texts and judgments into `into`, the judgments as those of `side`. Raises FormatError or JudgmentError."""
        ...

    def write(self, data: Dataset, path: Path) -> None:
        """Write what this format can hold of the dataset."""
        ...


FORMATS: dict[str, Format] = {"candidates": candidates, "rows": rows, "beir": beir}


def detect(path: Path) -> str:
    """The name of the format that the path holds, a key of `FORMATS`. Raises FormatError where it is none of them."""
    if path.is_dir():
        beir.demand(path)
        return "beir"
    for record in islice(records(path, Counter()), _LOOKED_AT):
        for name, module in (("rows", rows), ("candidates", candidates)):
            if module.recognises(record.value):
                return name
        if not any(isinstance(value, list) for value in record.value.values()) or "query" not in record.value:
            raise FormatError(
                "the first record is of no known format",
                where=record.where,
                got=f"the keys {keys(record.value)}",
                expected="'query' with lists of {'content', 'is_relevant'}, or 'query' with 'positive' (and 'negative')",
                remedy="Rename the keys to these; the README's 'Formats' shows each.",
            )
    return "candidates"


def named(name: str | None, path: Path) -> str:
    """`name`, or where it is None what `detect` finds. Raises FormatError for a name that is not in `FORMATS`."""
    if name is None:
        return detect(path)
    if name not in FORMATS:
        remedy = "Give --format one of these, or leave it out."
        raise FormatError(f"there is no format {name!r}", expected=", ".join(FORMATS), remedy=remedy)
    return name
