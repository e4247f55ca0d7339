"""What a stage asks of the machines below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from homing.data import Run

Kind = Literal["query", "document"]


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into embeddings."""

    @property
    def name(self) -> str:
        """How tables and plots call this encoder."""
        ...

    @property
    def digest(self) -> str:
        """Changes whenever an embedding could: weights, prompts, pooling, length."""
        ...

    def encode(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Embeddings of `texts` under the prompt of their kind, shape (texts, dimension)."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Finds documents for queries."""

    def fit(self, documents: Sequence[str]) -> None:
        """Index these documents, in place of any indexed before."""
        ...

    def search(self, queries: Sequence[str], top_k: int) -> Run:
        """The best `top_k` documents of each query. Raises NotFittedError before `fit`."""
        ...
