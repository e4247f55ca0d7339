"""FlagEmbedding: `{"query": …, "pos": [texts], "neg": [texts]}`, JSONL. Read as `rows` are; a record a query, or a row of mined ones."""

from __future__ import annotations

from pathlib import Path

from homing.data import Dataset, Mined
from homing.formats.examples import examples
from homing.formats.rows import read
from homing.formats.writing import write_records

__all__ = ["read", "write"]


def write(data: Dataset | Mined, path: Path) -> None:
    """Write the examples. Ids and grades have no place in this format; scores do, and are not written: BM25's are no teacher's."""
    values = (
        {"query": each.query.text, "pos": [text.text for text in each.positives], "neg": [text.text for text in each.negatives]}
        for each in examples(data)
    )
    write_records(path, values)
