"""An encoder without a model, for tests of what stands around encoders; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from homing.protocols import Kind


class Hashing:
    """Embeds a text as numbers drawn from its hash, and counts what it was asked."""

    def __init__(self, weights: str = "w", dimension: int = 6, says: str = "") -> None:
        self.name, self.weights, self.dimension, self.similarity = "hashing", weights, dimension, "cosine"
        self.says = says or weights
        self.prompts: Mapping[Kind, str] = {"query": "q: ", "document": ""}
        self.asked: list[str] = []

    @property
    def digest(self) -> str:
        return self.says

    def digest_of(self, kind: Kind) -> str:
        return f"{self.says}-{kind}"

    def encode(self, texts: Sequence[str], kind: Kind, *, progress: str = "") -> NDArray[np.float32]:
        self.asked += texts
        rows = [self._row(self.prompts[kind] + text) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self.dimension)

    def _row(self, text: str) -> NDArray[np.float64]:
        seed = int.from_bytes(sha256(f"{self.weights}/{text}".encode("utf-8", "surrogatepass")).digest()[:8], "little")
        row = np.random.default_rng(seed).normal(size=self.dimension)
        return row / np.linalg.norm(row)  # type: ignore[no-any-return]
