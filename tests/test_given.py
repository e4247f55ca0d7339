"""Embeddings made elsewhere: looked up by text, mined with, and refused where they don't fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import homing
from homing.data import Dataset
from homing.encoders.given import Given
from homing.errors import FormatError, SettingError
from homing.protocols import Encoder
from homing.settings import Mining
from tiny import made_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return homing.load(made_data(tmp_path_factory.mktemp("made"), 12, 6))


def vectors(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.normal(size=(len(data.queries), 8)).astype(np.float16), generator.normal(size=(len(data.corpus), 8)).astype(np.float16)


def test_texts_have_their_own_embeddings(data: Dataset, tmp_path: Path) -> None:
    queries, documents = vectors(data)
    np.save(tmp_path / "queries.npy", queries)
    np.save(tmp_path / "documents.npy", documents)
    given = Given.read(tmp_path, data)
    assert isinstance(given, Encoder)
    assert given.dimension == 8
    assert given.encode(data.corpus.texts, "document").base is not None  # mapped, not copied
    picked = given.encode([data.queries.texts[5], data.queries.texts[1]], "query")
    assert np.array_equal(picked, queries[[5, 1]].astype(np.float32))
    for unknown in ("something else", ""):
        with pytest.raises(SettingError, match="no embedding"):
            given.encode([unknown], "query")
    assert given.digest == Given(data, queries, documents).digest != Given(data, queries[::-1], documents).digest


def test_mining_with_them_is_mining_by_their_products(data: Dataset) -> None:
    queries, documents = vectors(data)
    mined = homing.mine(data, Mining(retriever="dense", cap=1000.0, last_rank=7, negatives=12), encoder=Given(data, queries, documents))
    scores = queries.astype(np.float32) @ documents.astype(np.float32).T
    assert mined.pool is not None
    for query, document, rank, source in zip(mined.pool.query, mined.pool.document, mined.pool.rank, mined.pool.source, strict=True):
        if mined.SOURCES[source] == "dense":
            assert np.argsort(-scores[query], kind="stable")[rank - 1] == document


def test_embeddings_that_do_not_fit_are_refused(data: Dataset, tmp_path: Path) -> None:
    queries, documents = vectors(data)
    for wrong in ((queries[:-1], documents), (queries, documents[:, :4]), (queries.astype(int), documents), (queries, np.float32(1))):
        with pytest.raises(FormatError, match="do not fit"):
            Given(data, *wrong)
    queries[3, 2] = np.nan
    with pytest.raises(FormatError, match=f"queries.npy holds embeddings that are not finite; got 1 of {len(queries)}"):
        Given(data, queries, documents)
    with pytest.raises(FormatError, match="cannot be read"):
        Given.read(tmp_path, data)
