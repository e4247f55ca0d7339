"""Near-duplicates: the join against a comparison of all with all, and what the default joins."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from homing.texts.near import THRESHOLD, alike, join, near_duplicates
from homing.texts.shingles import normal_form

WORDS = st.sampled_from(
    ["find", "files", "in", "the", "tree", "of", "c++", "合同", "解除", "的", "条件", "ですか", "x", "7", "?", "…", "Größe"]
)
TEXTS = st.lists(st.lists(WORDS, max_size=8).map(" ".join) | st.text(max_size=12), max_size=12)


def shingles(text: str) -> set[str]:
    padded = f" {normal_form(text)} "
    found = set()
    for at, character in enumerate(padded):
        width = 2 if re.match(r"[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]", character) else 3
        if at + width <= len(padded):
            found.add(padded[at : at + width])
    return found


def brute_force(texts: list[str], threshold: float) -> list[list[int]]:
    pairs = []
    for i, j in combinations(range(len(texts)), 2):
        one, other = shingles(texts[i]), shingles(texts[j])
        same = normal_form(texts[i]) == normal_form(texts[j])
        if same or (one | other and len(one & other) / len(one | other) >= threshold):
            pairs.append([i, j])
    return pairs


@given(TEXTS, st.sampled_from([0.1, 0.5, 0.75, THRESHOLD, 0.9, 1.0]))
def test_equals_comparing_all_with_all(texts: list[str], threshold: float) -> None:
    pairs = near_duplicates(texts, threshold)
    assert pairs.dtype == np.int32
    assert pairs.shape == (len(pairs), 2)
    assert pairs.tolist() == brute_force(texts, threshold)


def test_equals_comparing_all_with_all_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    words = ["what", "are", "the", "treatments", "symptoms", "causes", "for", "of", "anemia", "asthma", "gout", "合同", "解除"]
    texts = [" ".join(generator.choice(words, size=generator.integers(1, 7))) for _ in range(300)]
    whole = near_duplicates(texts, 0.6)
    assert whole.tolist() == brute_force(texts, 0.6)
    monkeypatch.setattr("homing.texts.near._CHUNK", 50)
    assert near_duplicates(texts, 0.6).tolist() == whole.tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is Café-au-lait?", "what  is CAFÉ au lait"),
        ("ＡＢＣ 合同，解除", "abc 合同 解除"),
        ("如何安装 Python 环境？", "如何安装Python环境"),
        ("解除劳动 合同要提前几天", "解除劳动合同，要提前几天"),
        ("วิธีรีเซ็ตรหัสผ่านของฉัน", "วิธีรีเซ็ต รหัสผ่าน ของฉัน"),
        ("كيف أُعيدُ تعيين كلمة المرور؟", "كيف أعيد تعيين كلمة المرور"),
        ("re\u00adset the pass\u200bword", "\ufeffreset the password"),
        ("???", "? ? ?"),
        ("Find all files on the system that are world writable", "Find all files on the system that are world writeable"),
        ("合同成立时一年期贷款市场报价利率四倍适用于网络贷款吗？", "合同成立时一年期贷款市场报价利率四倍适用于网络贷款平台吗？"),
    ],
)
def test_a_trivial_rewording_is_joined(one: str, other: str) -> None:
    assert near_duplicates([one, other]).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What are the treatments for Anemia?", "What are the treatments for Asthma?"),
        ("How many people are affected by Perry syndrome?", "How many people are affected by Stickler syndrome?"),
        ("融资租赁合同中，承租人的权利和义务分别有哪些？", "融资租赁合同中，出卖人的权利和义务分别有哪些？"),
        ("दिन में क्या करें", "दान में क्या करें"),
        ("???", "!!!"),
        ("", "a"),
    ],
)
def test_a_sibling_of_the_same_template_is_not(one: str, other: str) -> None:
    assert near_duplicates([one, other]).tolist() == []


def test_equal_texts_are_pairs_at_any_threshold() -> None:
    assert near_duplicates(["a b", "c", "A  B", "a-b"], 1.0).tolist() == [[0, 2], [0, 3], [2, 3]]
    assert near_duplicates([]).shape == (0, 2)


def test_sketches_of_long_texts_miss_no_pair_that_the_join_finds() -> None:
    generator = np.random.default_rng(0)
    vocabulary = ["".join(generator.choice(list("aeioulnrst"), 3 + number % 6)) for number in range(400)]
    texts: list[str] = []
    for _ in range(60):
        words = generator.choice(vocabulary, 120).tolist()
        for changed in (0, 4, 8, 12, 16, 20):
            words[:changed] = generator.choice(vocabulary, changed).tolist()
            texts.append(" ".join(words))
    every = np.stack(np.triu_indices(len(texts), 1), axis=1)
    joined = near_duplicates(texts)
    assert 200 < len(joined) < 900
    assert every[alike(texts, every)].tolist() == joined.tolist()


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_folded_as_any_text_is(text: str) -> None:
    assert normal_form(text) == (" ".join(re.findall("[a-z0-9]+", text.lower())) or "".join(text.replace("\0", " ").split()))


@given(TEXTS, st.sampled_from([0.1, 0.5, THRESHOLD, 1.0]), st.integers(0, 30), st.integers(1, 40))
@example(["find", "find find"], 0.1, 1, 1)  # a pair that is found by two shingles
def test_beyond_a_bound_the_pairs_connect_what_all_pairs_connect(texts: list[str], threshold: float, most: int, chunk: int) -> None:
    every = brute_force(texts, threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("homing.texts.near._CHUNK", chunk)
        found = join(texts, threshold, most)
    assert {tuple(pair) for pair in found.pairs.tolist()} <= {tuple(pair) for pair in every}
    assert found.complete or len(every) > most
    if found.complete:
        assert found.pairs.tolist() == every
    graph = coo_array((np.ones(len(every)), np.array(every, dtype=int).reshape(-1, 2).T), shape=(len(texts), len(texts)))
    label = connected_components(graph, directed=False)[1]
    assert [[one == other for other in found.group] for one in found.group] == [[one == other for other in label] for one in label]


def test_a_template_makes_few_pairs_beyond_the_bound() -> None:
    texts = [f"what is the price of the item with the number {number} in the catalogue?" for number in range(2000)]
    whole, bounded = join(texts), join(texts, most=1000)
    assert whole.complete
    assert len(whole.pairs) > 200_000
    assert not bounded.complete
    assert len(bounded.pairs) < 300_000
    assert bounded.group.tolist() == whole.group.tolist()
