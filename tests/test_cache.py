"""Where things are kept: as the environment says, or nowhere."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from homing.cache import cache_directory
from homing.retrievers import shards
from homing.retrievers.bm25 import BM25


def test_the_environment_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOMING_CACHE", str(tmp_path))
    assert cache_directory("bm25") == tmp_path / "bm25"
    assert not (tmp_path / "bm25").exists()
    monkeypatch.setenv("HOMING_CACHE", "off")
    assert cache_directory("bm25") is None
    monkeypatch.delenv("HOMING_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory("bm25") == tmp_path / "xdg" / "homing" / "bm25"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory("bm25") == Path.home() / ".cache" / "homing" / "bm25"


def test_a_place_that_cannot_be_written_to_keeps_nothing_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container whose file system is read-only, or whose user has no home."""
    monkeypatch.setenv("HOMING_CACHE", str(tmp_path / "read-only" / "cache"))
    monkeypatch.setattr("homing.cache.os.access", lambda path, mode: path != tmp_path)
    assert (cache_directory("bm25"), cache_directory("searches")) == (None, None)
    assert capsys.readouterr().err.count(f"nothing is kept between runs: {tmp_path} cannot be written to") == 1
    monkeypatch.delenv("HOMING_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", Mock(side_effect=RuntimeError("Could not determine home directory.")))
    assert cache_directory("bm25") == Path("/.cache/homing/bm25")


def test_a_full_disk_costs_an_index_and_searches_the_keeping_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents, found = ["a b", "b c", "c d", "d e", "e f"], []
    for full in (False, True):
        monkeypatch.setenv("HOMING_CACHE", str(tmp_path / str(full)))
        if full:
            monkeypatch.setattr(shards.np, "save", Mock(side_effect=OSError(28, "No space left on device")))
        retriever = BM25()
        retriever.fit(documents)
        found.append(shards.search_kept(retriever, ["a c", "d"], 3))
    assert np.array_equal(found[0].document, found[1].document)
    assert np.array_equal(found[0].score, found[1].score)
    assert capsys.readouterr().err.count("not kept") == 3  # shards of the index, the index, searches: each place once
