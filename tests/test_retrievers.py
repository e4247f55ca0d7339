"""Retrievers over a corpus: BM25 equal to rank_bm25, dense search to a sort of all scores, fusion to its formula; kept and reused."""

from __future__ import annotations

import itertools
import shutil
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from homing.data import Run
from homing.errors import NotFittedError
from homing.protocols import Retriever
from homing.retrievers import dense, postings
from homing.retrievers.bm25 import BM25
from homing.retrievers.dense import Dense, search_embeddings
from homing.retrievers.fused import Fused, fuse
from homing.texts.terms import Rule

WORDS = st.lists(st.sampled_from("abcdefghijkl"), max_size=6).map(" ".join)
CORPUS = st.lists(WORDS, min_size=1, max_size=30)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOMING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMING_CACHE", "off")


def oracle(queries: list[str], documents: list[str], rule: Rule) -> np.ndarray:
    """rank_bm25's scores without its floor for frequent words, shape (queries, documents)."""
    cut = [rule.terms(document) for document in documents]
    if not any(cut):
        return np.zeros((len(queries), len(documents)))
    model = BM25Okapi(cut, epsilon=0)
    return np.array([model.get_scores(rule.terms(query)) for query in queries])


def ranked(scores: np.ndarray, top_k: int) -> list[int]:
    order = np.lexsort((np.arange(len(scores)), -scores))
    return [int(document) for document in order[:top_k] if scores[document] > 0]


@given(CORPUS, st.lists(WORDS, min_size=1, max_size=4), st.integers(1, 12), st.integers(1, 8))
def test_bm25_equals_rank_bm25(documents: list[str], queries: list[str], top_k: int, shard: int) -> None:
    retriever = BM25()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "SHARD", shard)
        retriever.fit(documents)
    run = retriever.search(queries, top_k)
    expected = oracle(queries, documents, Rule())
    assert run.document.shape == (len(queries), min(top_k, len(documents)))
    for row in range(len(queries)):
        found = run.document[row][run.document[row] >= 0]
        assert len(set(found.tolist())) == len(found) == min(run.document.shape[1], int((expected[row] > 1e-6).sum()))
        np.testing.assert_allclose(run.score[row, : len(found)], expected[row, found], rtol=1e-5)
        np.testing.assert_allclose(run.score[row, : len(found)], np.sort(expected[row])[::-1][: len(found)], rtol=1e-5)
    pairs = np.array(list(itertools.product(range(len(queries)), range(len(documents)))))[::-1]
    np.testing.assert_allclose(retriever.score(queries, pairs[:, 0], pairs[:, 1]), expected[pairs[:, 0], pairs[:, 1]], rtol=1e-5, atol=1e-6)


def test_bm25_finds_the_best_of_many_documents_and_the_earlier_of_equal_ones() -> None:
    generator = np.random.default_rng(0)
    vocabulary = [f"w{number}" for number in range(300)]
    documents = [" ".join(generator.choice(vocabulary, 8)) for _ in range(1500)] * 2  # each twice
    queries = [" ".join(generator.choice(vocabulary, 3)) for _ in range(30)]
    retriever = BM25()
    retriever.fit(documents)
    run, expected = retriever.search(queries, 20), oracle(queries, documents, Rule()).astype(np.float32)
    for row in range(len(queries)):
        own = retriever.score(queries[row : row + 1], np.zeros(3000, dtype=int), np.arange(3000))
        assert run.document[row].tolist() == ranked(own, 20)
        np.testing.assert_allclose(run.score[row], np.sort(expected[row])[::-1][:20], rtol=1e-5)


def test_bm25_meets_words_of_one_stem_and_mixed_scripts() -> None:
    retriever = BM25()
    retriever.fit(["the dog runs", "用 Git 提交更改", "한국어 문서", "nothing here", "more of this", "แมวกินปลา"])
    for query, document in (("running dogs", 0), ("git 提交", 1), ("한국어를", 2), ("แมว", 5)):
        assert retriever.search([query], 1).document.tolist() == [[document]]
    assert retriever.search(["unknown", ""], 2).document.tolist() == [[-1, -1]] * 2


def test_a_kept_index_is_used_again_and_only_for_the_same(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = ["a b", "b c", "c d", "d e", "e f"]
    first = BM25()
    first.fit(documents)
    expected = first.search(["a c"], 3)

    def never(*_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr("homing.retrievers.bm25.build", never)
    again = BM25()
    again.fit(documents)
    assert again.digest == first.digest
    assert np.array_equal(again.search(["a c"], 3).document, expected.document)
    assert np.array_equal(again.search(["a c"], 3).score, expected.score)
    for other, texts in ((BM25(), documents[::-1]), (BM25(Rule("german")), documents), (BM25(k1=1.2), documents), (BM25(b=0.5), documents)):
        with pytest.raises(AssertionError, match="built again"):
            other.fit(texts)
    assert not list(cache.rglob("*.partial"))


def test_what_a_killed_build_left_beside_its_index_is_cleared_away(cache: Path) -> None:
    documents = ["a bees", "b c"]
    BM25().fit(documents)
    (index,) = (cache / "bm25").iterdir()
    shard = index.with_name(f"{index.name}.partial") / "shard-00000"
    shard.mkdir(parents=True)  # killed after its index was whole
    BM25().fit(documents)
    assert list((cache / "bm25").iterdir()) == [index]
    shutil.rmtree(index)
    index.with_name(f".{index.name}.cut short").mkdir()  # killed while it wrote its index
    BM25().fit(documents)
    assert list((cache / "bm25").iterdir()) == [index]


def test_a_build_that_was_killed_goes_on_from_its_shards(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postings, "SHARD", 2)
    documents = ["a bees", "b c", "c d", "d bee", "e f", "a f g", "g h"]
    whole = BM25()
    whole.fit(documents)
    expected = whole.search(["a bee g"], 7)
    shutil.rmtree(cache)
    counted: list[int] = []
    count = postings._Counter.count

    def dying(self: postings._Counter, some: list[str], first: int) -> postings._Shard:
        if len(counted) == 2:
            raise KeyboardInterrupt
        counted.append(first)
        return count(self, some, first)

    monkeypatch.setattr(postings._Counter, "count", dying)
    with pytest.raises(KeyboardInterrupt):
        BM25().fit(documents)
    counted.pop()
    counted.pop()
    counted.append(-1)  # one more may be counted before it dies again
    with pytest.raises(KeyboardInterrupt):
        BM25().fit(documents)
    assert counted == [-1, 4]
    counted.clear()
    resumed = BM25()
    resumed.fit(documents)
    assert counted == [6]
    found = resumed.search(["a bee g"], 7)
    assert np.array_equal(found.document, expected.document)
    assert np.array_equal(found.score, expected.score)


def all_at_once(queries: np.ndarray, documents: np.ndarray, top_k: int, ties: np.ndarray) -> np.ndarray:
    return np.lexsort((np.broadcast_to(-ties, (len(queries), len(documents))), -(queries @ documents.T)), axis=1)[:, :top_k]


@given(st.integers(0, 6), st.integers(1, 40), st.integers(1, 50), st.integers(1, 300), st.integers(1, 4), st.integers(0, 99))
def test_dense_search_in_blocks_equals_a_sort_of_all(queries: int, documents: int, top_k: int, block: int, rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    asked = generator.integers(-2, 3, (queries, 3)).astype(np.float32)  # small integers: exact products, many ties
    held = generator.integers(-2, 3, (documents, 3)).astype(np.float32)
    ties = generator.permutation(documents).astype(np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "BLOCK_SCORES", block)
        patch.setattr(dense, "_QUERIES", rows)
        run = search_embeddings(asked, held, top_k, ties)
        plain = search_embeddings(asked.astype(np.float16), held.astype(np.float16), top_k)
    expected = all_at_once(asked, held, top_k, ties)
    assert np.array_equal(run.document, expected)
    assert np.array_equal(run.score, np.take_along_axis(asked @ held.T, expected, axis=1))
    assert np.array_equal(plain.document, all_at_once(asked, held, top_k, -np.arange(documents)))


def test_dense_search_of_many_real_numbers(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    asked, held = generator.normal(size=(300, 16)).astype(np.float32), generator.normal(size=(5000, 16)).astype(np.float32)
    np.save(tmp_path / "held.npy", held)
    mapped = np.load(tmp_path / "held.npy", mmap_mode="r")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "BLOCK_SCORES", 1 << 17)
        patch.setattr(dense, "_QUERIES", 128)
        run = search_embeddings(asked, mapped, 20, progress="search")
    scores = asked @ held.T
    np.testing.assert_allclose(run.score, -np.sort(-scores, axis=1)[:, :20], rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(scores, run.document.astype(int), axis=1), run.score, rtol=1e-4)


class Letters:
    """An encoder that counts letters."""

    name, digest, similarity, dimension = "letters", "letters-1", "dot", 26
    prompts: ClassVar[dict[str, str]] = {}

    def digest_of(self, kind: str) -> str:
        return self.digest

    def encode(self, texts: list[str], kind: str, *, progress: str = "") -> np.ndarray:
        return np.array([[text.count(chr(97 + letter)) for letter in range(26)] for text in texts], dtype=np.float32)


def test_what_is_mapped_from_disk_goes_to_an_accelerator_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    np.save(tmp_path / "documents.npy", numbers)
    mapped, warned = np.load(tmp_path / "documents.npy", mmap_mode="r"), torch.is_warn_always_enabled()
    expected = search_embeddings(mapped[:5], mapped, 7)
    monkeypatch.setattr(dense, "_product", lambda: dense._OnAccelerator(torch.device("cpu")))
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = search_embeddings(mapped[:5], mapped, 7)
    finally:
        torch.set_warn_always(warned)
    assert np.array_equal(found.document, expected.document)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)


def test_dense_scores_of_given_pairs_and_of_a_search_agree() -> None:
    retriever = Dense(Letters())  # type: ignore[arg-type]
    retriever.fit(["aab", "bcc", "abc"])
    run = retriever.search(["a", "cc"], 3)
    assert run.document.tolist() == [[0, 2, 1], [1, 2, 0]]
    row, _ = np.indices(run.document.shape)
    scores = retriever.score(["a", "cc"], row.ravel(), run.document.ravel())
    assert np.array_equal(scores.reshape(run.score.shape), run.score)


def test_dense_scores_of_many_pairs_need_little_memory() -> None:
    retriever = Dense(Letters())  # type: ignore[arg-type]
    documents = ["a" * (1 + number % 7) + "b" * (number % 11) for number in range(100)]
    retriever.fit(documents)
    query, document = np.divmod(np.arange(200_000), 100)
    query %= 3
    tracemalloc.start()
    scores = retriever.score(["a", "b", "ab"], query, document)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    counts = np.array([[text.count("a"), text.count("b")] for text in documents])
    assert np.array_equal(scores, (np.array([[1, 0], [0, 1], [1, 1]])[query] * counts[document]).sum(axis=1))
    assert peak < 4 * len(query) + 3 * 2**20  # the scores, and a block of pairs


@given(
    st.lists(st.lists(st.permutations(range(7)).map(lambda p: p[:4]), min_size=3, max_size=3), min_size=1, max_size=3), st.integers(1, 9)
)
def test_fusion_is_the_sum_of_reciprocal_ranks(runs: list[list[list[int]]], top_k: int) -> None:
    fused = fuse([Run(np.arange(3, dtype=np.int32), np.array(run, np.int32), np.zeros((3, 4), np.float32)) for run in runs], top_k)
    for query in range(3):
        gain = {d: sum(1 / (60 + run[query].index(d) + 1) for run in runs if d in run[query]) for d in range(7)}
        expected = sorted((d for d in gain if gain[d]), key=lambda d: (-round(gain[d], 12), d))[:top_k]
        found = [d for d in fused.document[query].tolist() if d >= 0]
        assert found == expected
        np.testing.assert_allclose(fused.score[query, : len(found)], [gain[d] for d in found], rtol=1e-6)


def test_fused_asks_all_and_keeps_to_what_was_found() -> None:
    documents = ["aab", "bcc x", "abc", "zz"]
    retriever = Fused(BM25(), Dense(Letters()))  # type: ignore[arg-type]
    retriever.fit(documents)
    run = retriever.search(["x"], 2)
    assert run.document[0, 0] == 1
    assert run.score[0, 0] == pytest.approx(2 / 61)


@pytest.mark.parametrize("make", [BM25, lambda: Dense(Letters()), lambda: Fused(BM25())])  # type: ignore[arg-type]
def test_a_search_before_fit_is_an_error(make: Callable[[], Retriever]) -> None:
    retriever = make()
    assert isinstance(retriever.name, str)
    with pytest.raises(NotFittedError, match="fit"):
        retriever.search(["a"], 1)
    with pytest.raises(NotFittedError, match="fit"):
        _ = retriever.digest
    retriever.fit(["a", "b", "c"])
    assert isinstance(retriever, Retriever)
    before = retriever.digest
    retriever.fit(["a", "b", "d"])
    assert retriever.digest != before
