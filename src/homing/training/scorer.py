"""What scores pairs of a query and a document: a cross-encoder, or any encoder by the inner product of its embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homing.encoders.repeated import each_once
from homing.protocols import Encoder

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Scorer:
    """A name, and a function of (query, document) texts to scores, shape (pairs,)."""

    name: str
    score: Callable[[Pairs], NDArray[np.floating]]


def cross_encoder(path: Path, directory: Path) -> Scorer:
    """The cross-encoder of a directory, its answers kept under `directory`."""
    from homing.training.crossencoder import score_pairs

    return Scorer(path.name, lambda pairs: score_pairs(path, pairs, directory))


def by_embeddings(encoder: Encoder) -> Scorer:
    """An encoder as a scorer; each distinct text is encoded once."""

    def score(pairs: Pairs) -> NDArray[np.floating]:
        (queries, asked), (documents, told) = (each_once(texts) for texts in zip(*pairs, strict=True))
        wanted = encoder.encode(queries, "query", progress=f"{encoder.name}: queries")
        found = encoder.encode(documents, "document", progress=f"{encoder.name}: documents")
        return np.array([one @ other for one, other in zip(wanted[asked], found[told], strict=True)], dtype=np.float64)

    return Scorer(encoder.name, score)
