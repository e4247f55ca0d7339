"""How often a test set was looked at: counted by digests, across runs, and never a text or a path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from homing.builder import Builder
from homing.data import Dataset
from homing.holdout import NAME, digest_of, look


def dataset(order: list[int], extra: int = 0) -> Dataset:
    builder = Builder()
    for number in order:
        builder.judge(builder.query(f"secret question {number}"), builder.document(f"secret answer {number}"), 1)
    for number in range(extra):
        builder.document(f"another document {number}")
    return builder.dataset()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOMING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_digest_is_that_of_the_judgments() -> None:
    assert digest_of(dataset([1, 2, 3])) == digest_of(dataset([3, 1, 2], extra=4))
    assert digest_of(dataset([1, 2, 3])) != digest_of(dataset([1, 2]))


def test_each_model_counts_once_whichever_run_it_comes_from(cache: Path, tmp_path: Path) -> None:
    test = dataset([1, 2])
    assert look(test, "a", tmp_path / "one") == 1
    assert look(test, "a", tmp_path / "one") == 1
    assert look(test, "b", tmp_path / "two") == 2
    assert look(dataset([5]), "c", tmp_path / "two") == 1
    assert look(test, "c", tmp_path / "one") == 3


def test_without_a_cache_a_frozen_test_brings_its_count_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMING_CACHE", "off")
    test = dataset([1, 2])
    look(test, "a", tmp_path / "old")
    look(test, "b", tmp_path / "old")
    assert look(test, "c", tmp_path / "new") == 1
    assert look(test, "c", tmp_path / "new", tmp_path / "old") == 3
    assert json.loads((tmp_path / "old" / NAME).read_text()) == {digest_of(test): ["a", "b"]}


def test_no_text_and_no_path_is_kept(cache: Path, tmp_path: Path) -> None:
    look(dataset([1]), "digest", tmp_path / "run")
    (kept,) = cache.rglob("*.json")
    for file in (tmp_path / "run" / NAME, kept):
        assert "secret" not in file.read_text()
        assert str(tmp_path) not in file.read_text()


def test_a_broken_count_counts_nothing(cache: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("{")
    assert look(dataset([1]), "a", tmp_path) == 1


def test_a_count_that_cannot_be_written_stops_only_beside_the_run(cache: Path, tmp_path: Path) -> None:
    test = dataset([1])
    look(test, "a", tmp_path)
    (kept,) = cache.rglob("*.json")
    kept.unlink()
    kept.mkdir()
    assert look(test, "b", tmp_path) == 2
    (tmp_path / "run" / NAME).mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        look(test, "c", tmp_path / "run")
