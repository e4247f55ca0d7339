"""sentence-transformers: columns `anchor`, `positive`, and `negative` or `negative_1`, `negative_2`, …; read as `rows` are.

Its losses take the columns in their order and want every cell filled. Where all examples have as many negatives, they stand in columns of
one row; where they differ, a row has one negative (a triplet), and an example gives as many rows as it has negatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from homing.data import Dataset, Mined
from homing.formats.examples import examples
from homing.formats.rows import read
from homing.formats.writing import write_records

__all__ = ["read", "write"]


def write(data: Dataset | Mined, path: Path) -> None:
    """Write the examples, a positive a row. Where some have negatives, those without any are left out: no cell may be empty."""
    counts = {len(each.negatives) for each in examples(data)}
    width = counts.pop() if len(counts) == 1 else 1
    names = ["negative"] if width == 1 else [f"negative_{number}" for number in range(1, width + 1)]
    write_records(path, _rows(data, width, names))


def _rows(data: Dataset | Mined, width: int, names: list[str]) -> Iterator[dict[str, str]]:
    for each in examples(data):
        texts = [text.text for text in each.negatives]
        for positive in each.positives:
            for start in range(0, len(texts), width) if width else [0]:
                yield {"anchor": each.query.text, "positive": positive.text, **dict(zip(names, texts[start : start + width], strict=True))}
