"""Texts that occur again: each is encoded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def each_once(texts: Sequence[str]) -> tuple[list[str], NDArray[np.intp] | slice]:
    """The distinct texts, and where each text is among them: what an array of theirs is indexed by to have a row a text.

    Shape (texts,); a slice of all where none occurs again, so that nothing is copied.
    """
    place: dict[str, int] = {}
    rows = [place.setdefault(text, len(place)) for text in texts]
    return list(place), slice(None) if len(place) == len(rows) else np.array(rows, dtype=np.intp)
