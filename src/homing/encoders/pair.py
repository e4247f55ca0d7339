"""A query encoder beside the model that its documents were encoded with: what training the queries alone gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homing import conventions
from homing.arguments import demand
from homing.encoders.directory import directory_of
from homing.encoders.model import Model
from homing.errors import ModelError
from homing.protocols import Kind


class Pair:
    """Encodes queries with one model and documents with another; their embeddings share a space, and an index of the second stays valid.

    Raises ModelError where their dimensions or similarities differ.
    """

    def __init__(self, queries: Model, documents: Model, name: str | None = None) -> None:
        demand(Model, queries=queries, documents=documents)
        for what in ("dimension", "similarity"):
            ours, theirs = getattr(queries, what), getattr(documents, what)
            if ours != theirs:
                raise ModelError(
                    f"the two sides differ in {what}", where=str(queries.path), got=str(ours), expected=f"{theirs} ({documents.path})",
                    remedy="Give the model that the query encoder was trained beside.",
                )  # fmt: skip
        self.queries, self.documents, self.name = queries, documents, name or queries.name

    @property
    def digest(self) -> str:
        """Changes whenever an embedding of either side could."""
        return sha256(f"{self.queries.digest}/{self.documents.digest}".encode()).hexdigest()[:32]

    def digest_of(self, kind: Kind) -> str:
        """The digest of the side that encodes this kind."""
        return (self.queries if kind == "query" else self.documents).digest_of(kind)

    @property
    def similarity(self) -> str:
        """cosine or dot, of both sides."""
        return self.queries.similarity

    @property
    def dimension(self) -> int:
        """Numbers an embedding, of both sides."""
        return self.queries.dimension

    @property
    def prompts(self) -> dict[Kind, str]:
        return {"query": self.queries.prompts["query"], "document": self.documents.prompts["document"]}

    def encode(self, texts: Sequence[str], kind: Kind = "document", *, progress: str = "") -> NDArray[np.float32]:
        """Embeddings of texts by the model of their kind; shape (texts, dimension)."""
        return (self.queries if kind == "query" else self.documents).encode(texts, kind, progress=progress)


def open_model(path: str | Path, *, documents: Model | None = None, name: str | None = None, **keywords: Any) -> Model | Pair:
    """The model of a directory, or the pair that it stands for: where `homing.json` says that its documents are another model's.

    Documents are encoded under the document prompt that stands in the query encoder's directory: the one that they were trained beside.

    `documents`: that other model, where it is loaded already. Raises ModelError where it is not the one that the directory names.
    """
    model = Model(path, name=name, **keywords)
    said = model.document_model
    if said is None:
        return model
    documents = documents or _documents_of(model, said)
    if documents.weights_digest != said["digest"]:
        raise ModelError(
            "the documents' model is not the one that the query encoder was trained beside", where=str(documents.path),
            got=f"digest {documents.weights_digest}", expected=said["digest"], remedy=f"Give {said['model']} as it was then.",
        )  # fmt: skip
    return Pair(model, documents, name)


def _documents_of(model: Model, said: Mapping[str, Any]) -> Model:
    """The model that the documents of a query encoder keep, under the conventions that the query encoder has for them."""
    try:
        pools = (directory_of(said["model"]) / "modules.json").is_file()
    except ModelError as error:
        raise ModelError(
            "the documents' model is not where it was at the merge", where=str(model.path), got=said["model"],
            remedy=f"Put it there, or write its place into {conventions.FILE}, as model under documents; its digest is compared.",
        ) from error  # fmt: skip
    return Model(
        said["model"], document_prompt=model.prompts["document"], pooling=None if pools else model.pooling, max_length=said["max_length"],
        trust_remote_code=model.trust_remote_code, device=model.device, dtype=model.dtype,
    )  # fmt: skip


def write_document_model(directory: Path, documents: Model) -> None:
    """Say in a model's directory that it encodes queries alone, and whose embeddings its documents keep."""
    said = {"model": documents.source, "digest": documents.weights_digest, "max_length": documents.max_length}
    conventions.put(directory, documents=said)
