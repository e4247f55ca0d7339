"""Documents that keep the base's embeddings while queries learn: encoded once, kept on disk, and all of them set against a query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homing.batches import MINED, Batch, judge
from homing.data import Corpus, Ints, Mined, digest
from homing.encoders.kept import Kept
from homing.encoders.model import Model
from homing.manifest import replace_directory

MOST_DOCUMENTS = 1 << 15  # that stand against a query at once


def embedded(model: Model, corpus: Corpus, directory: Path) -> NDArray[np.float32]:
    """The model's embeddings of the whole corpus, shape (documents, dimension), mapped from disk.

    Where `directory` lacks them, they are those that another stage or run kept (`Kept`), or a killed call; the rest is encoded.
    """
    place = place_of(model, corpus, directory)
    if not place.is_dir():
        embeddings = Kept(model).encode(corpus.texts, "document", progress="documents, once")
        with replace_directory(place) as fresh:
            np.save(fresh / "embeddings.npy", embeddings)
    kept: NDArray[np.float32] = np.load(place / "embeddings.npy", mmap_mode="r")
    return kept


def place_of(model: Model, corpus: Corpus, directory: Path) -> Path:
    """Where `embedded` keeps the embeddings of this corpus."""
    return directory / digest([model.digest, *corpus.texts])


def against(batch: Batch, mined: Mined, seed: int, update: int) -> tuple[Ints, NDArray[np.int8]]:
    """The documents that stand against a batch's queries, shape (documents,), and their relevance, (queries, documents).

    That is the corpus, or of a large one the batch's own documents and a sample by `seed` and `update`.
    """
    documents = np.arange(len(mined.train.corpus), dtype=np.int32)
    if len(documents) > MOST_DOCUMENTS:
        sample = np.random.default_rng([seed, update]).choice(len(documents), MOST_DOCUMENTS, replace=False)
        documents = np.union1d(sample, batch.documents).astype(np.int32)
    relevance = np.zeros((len(batch.queries), len(documents)), dtype=np.int8)
    row, column = np.nonzero(batch.relevance == MINED)
    relevance[row, np.searchsorted(documents, batch.documents[column])] = MINED
    judge(relevance, mined, batch.queries, documents)
    return documents, relevance
