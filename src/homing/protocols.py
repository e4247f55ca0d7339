"""What a stage asks of the machines below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from homing.data import Run

Kind = Literal["query", "document"]


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into embeddings: a local model, a server, a truncation of either. The score of two embeddings is their inner product."""

    @property
    def name(self) -> str:
        """How tables and plots call this encoder."""
        ...

    @property
    def digest(self) -> str:
        """Changes whenever an embedding of either kind could: weights, prompts, pooling, length."""
        ...

    def digest_of(self, kind: Kind) -> str:
        """Changes whenever an embedding of this kind could; encoders that have one side in common share the digest of that side."""
        ...

    @property
    def prompts(self) -> Mapping[Kind, str]:
        """What is put before each text, by its kind."""
        ...

    @property
    def similarity(self) -> str:
        """cosine (embeddings are of length 1) or dot."""
        ...

    @property
    def dimension(self) -> int:
        """Numbers an embedding."""
        ...

    def encode(self, texts: Sequence[str], kind: Kind, *, progress: str = "") -> NDArray[np.float32]:
        """Embeddings of texts under the prompt of their kind, shape (texts, dimension); `progress` names a bar for what takes seconds."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Finds documents for queries."""

    @property
    def name(self) -> str:
        """How a record and a progress bar call this retriever."""
        ...

    @property
    def digest(self) -> str:
        """Changes whenever a result could: with the documents and with what finds them. Raises NotFittedError before `fit`."""
        ...

    def fit(self, documents: Sequence[str]) -> None:
        """Index these documents, in place of any indexed before."""
        ...

    def search(self, queries: Sequence[str], top_k: int) -> Run:
        """The best `top_k` documents of each query. Raises NotFittedError before `fit`."""
        ...
