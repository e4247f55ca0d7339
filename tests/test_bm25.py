"""BM25 over lists: equal to rank_bm25, list by list."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from homing.builder import Builder
from homing.data import Dataset
from homing.retrievers.bm25 import okapi, score_lists
from homing.texts.words import words

TOKENS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "g"]), max_size=8)
LISTS = st.lists(st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=8)), max_size=6)


def oracle(query: list[str], documents: list[list[str]]) -> np.ndarray:
    return BM25Okapi(documents).get_scores(query) if any(documents) else np.zeros(len(documents))


@given(LISTS, st.integers(1, 3))
def test_equals_rank_bm25_on_made_words(lists: list[tuple[list[str], list[list[str]]]], at_once: int) -> None:
    documents = [document for _, candidates in lists for document in candidates]
    query = np.repeat(np.arange(len(lists)), [len(candidates) for _, candidates in lists]).astype(np.int32)
    expected = [score for asked, candidates in lists for score in oracle(asked, candidates)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("homing.retrievers.bm25._LISTS", at_once)
        scores = okapi([asked for asked, _ in lists], documents, query, np.arange(len(documents)))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-9)


def test_a_document_of_several_lists_has_the_statistics_of_each() -> None:
    documents = [["x", "y"], ["x"], ["y", "y", "z"], ["z"]]
    query, document = np.array([0, 0, 0, 1, 1]), np.array([2, 0, 1, 3, 2])
    expected = [*oracle(["y"], [documents[d] for d in (2, 0, 1)]), *oracle(["z", "y"], [documents[d] for d in (3, 2)])]
    np.testing.assert_allclose(okapi([["y"], ["z", "y"]], documents, query, document), expected, atol=1e-9)


def judged(lists: list[tuple[str, list[str]]]) -> Dataset:
    builder = Builder()
    for query, candidates in lists:
        for number, candidate in enumerate(candidates):
            builder.judge(builder.query(query), builder.document(candidate), int(number == 0))
    return builder.dataset()


def assert_scores(data: Dataset, rules: list[bool]) -> None:
    expected = [
        oracle(words(data.queries.texts[query], rule), [words(data.corpus.texts[document], rule) for document in documents.tolist()])
        for (query, documents, _), rule in zip(data.qrels.lists(), rules, strict=True)
    ]
    np.testing.assert_allclose(score_lists(data), np.concatenate(expected), rtol=0, atol=1e-9)


def test_one_rule_cuts_query_and_documents_of_a_list() -> None:
    shared = "Git commit -m 提交"
    data = judged(
        [
            ("Git 提交更改", ["git commit", shared, "Git push"]),  # a Chinese question about commands
            ("Commit with Git", ["git commit", shared, "GIT push"]),  # one Chinese candidate among English ones
            ("Git", ["Git 提交", "提交更改", "push"]),  # mostly Chinese candidates
            ("Replace '前' with '後' everywhere", [shared, "git commit", "sed"]),  # an English question that quotes
        ]
    )
    assert_scores(data, [True, False, True, False])


@pytest.mark.parametrize(
    ("query", "candidates"),
    [
        ("パスワードをわすれた", ["パスワードのリセットはこちら", "おしはらいについて", "はいたつについて"]),
        ("ลืมรหัสผ่าน", ["วิธีรีเซ็ตรหัสผ่าน", "วิธีชำระเงิน", "การจัดส่งสินค้า"]),
        ("비밀번호를 잊었어요", ["비밀번호가 기억나지 않을 때", "결제 방법 안내", "배송 조회"]),
    ],
)
def test_lists_in_scripts_without_spaces_are_ranked(query: str, candidates: list[str]) -> None:
    """`\\w+` makes a word of each, which no other holds: every score was 0."""
    data = judged([(query, candidates)])
    assert_scores(data, [False])
    assert np.argmax(score_lists(data)) == 0


def test_queries_without_words_and_lists_of_empty_texts_score_zero() -> None:
    assert score_lists(judged([("?", ["a", "b"])])).tolist() == [0, 0]
    assert okapi([["a"]], [[], []], np.array([0, 0]), np.array([0, 1])).tolist() == [0, 0]
    assert okapi([], [], np.zeros(0, int), np.zeros(0, int)).shape == (0,)


@pytest.mark.parametrize("name", ["en-medical", "en-bash", "zh-statute", "zh-cli"])
def test_equals_rank_bm25_on_real_lists(shared: Path, name: str) -> None:
    records = json.loads((shared / name / "train.json").read_text())[:60]
    lists = [(r["query"], [c["content"] for key in ("content_private", "content_public") for c in r[key]]) for r in records]
    assert_scores(judged(lists), [name.startswith("zh")] * len(lists))
