"""The first numbers of each embedding alone: what a Matryoshka model is trained for, and what any other loses by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from homing.errors import SettingError
from homing.protocols import Encoder, Kind


class Truncated:
    """An `Encoder` of the first `dimension` numbers of another's embeddings (Kusupati et al. 2022, arXiv 2205.13147), brought to length 1
    again where the similarity is the cosine. Raises SettingError for a dimension that the other doesn't have.
    """

    def __init__(self, encoder: Encoder, dimension: int, name: str | None = None) -> None:
        if not 1 <= dimension <= encoder.dimension:
            raise SettingError(
                "an embedding cannot be cut so", where=encoder.name, got=f"@{dimension}", expected=f"1 to {encoder.dimension} numbers"
            )
        self.encoder, self.dimension, self.name = encoder, dimension, name or f"{encoder.name}@{dimension}"

    @property
    def digest(self) -> str:
        return self._of(self.encoder.digest)

    def digest_of(self, kind: Kind) -> str:
        return self._of(self.encoder.digest_of(kind))

    def _of(self, digest: str) -> str:
        return digest if self.dimension == self.encoder.dimension else sha256(f"{digest}@{self.dimension}".encode()).hexdigest()[:32]

    @property
    def prompts(self) -> Mapping[Kind, str]:
        return self.encoder.prompts

    @property
    def similarity(self) -> str:
        return self.encoder.similarity

    @property
    def cost(self) -> Mapping[str, float]:
        """What an endpoint counted for the whole embeddings, which serve every length alike; empty for a local model."""
        found: Mapping[str, float] = getattr(self.encoder, "cost", {})
        return found

    @property
    def encoded(self) -> int | None:
        """Texts that the other encoded in this process; None where it doesn't count them."""
        return getattr(self.encoder, "encoded", None)

    def encode(self, texts: Sequence[str], kind: Kind = "document", *, progress: str = "") -> NDArray[np.float32]:
        """Embeddings of texts, shape (texts, dimension)."""
        cut = self.encoder.encode(texts, kind, progress=progress)[:, : self.dimension]
        if self.similarity != "cosine":
            return cut.copy()
        lengths = np.linalg.norm(cut, axis=1, keepdims=True)
        found: NDArray[np.float32] = np.divide(cut, lengths, out=np.zeros_like(cut), where=lengths > 0)
        return found
