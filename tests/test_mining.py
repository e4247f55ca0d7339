"""Mining: who is hard and who is easy, what is drawn, and that no positive ever becomes a negative."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.builder import Builder
from homing.data import Dataset, Mined, Qrels
from homing.errors import FormatError, JudgmentError
from homing.formats.mined import FILE, POOL, read_mined, save_mined
from homing.mining import mine
from homing.retrievers.bm25 import score_lists
from homing.settings import Mining

HARD, EASY, MEDIUM, RANDOM = range(4)
LISTS = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4).map(" ".join),
        st.lists(st.tuples(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5).map(" ".join), st.integers(0, 2)), max_size=40),
    ),
    min_size=1,
    max_size=4,
)
SETTINGS = st.integers(0, 5).flatmap(
    lambda negatives: st.integers(0, negatives).flatmap(
        lambda hard: st.builds(Mining, st.just(negatives), st.just(hard), st.integers(0, negatives - hard), st.just("list"))
    )
)
LIST = Mining(retriever="list")


def dataset(lists: list[tuple[str, list[tuple[str, int]]]]) -> Dataset:
    builder = Builder()
    builder.judge(builder.query("z"), builder.document("z"), 1)
    for query, candidates in lists:
        for text, relevance in candidates:
            builder.judge(builder.query(query), builder.document(text), relevance)
    return builder.dataset()


def graded(candidates: int, positives: tuple[int, ...] = (0,)) -> Dataset:
    """One query and a list whose BM25 order is the list's order."""
    texts = [("w " * (candidates - number) + f"n{number} " * (number + 1), int(number in positives)) for number in range(candidates)]
    return dataset([("w", texts)])


def rows(mined: Mined, chance: bool = False) -> list[tuple[str, str, list[str]]]:
    """The rows by their texts, without what was taken by chance unless that is asked for."""
    documents = mined.train.corpus.texts
    negative = mined.negative if chance else np.where(mined.kind == RANDOM, -1, mined.negative)
    return [
        (mined.train.queries.texts[query], documents[positive], [documents[n] for n in negatives if n >= 0])
        for query, positive, negatives in zip(mined.query.tolist(), mined.positive.tolist(), negative.tolist(), strict=True)
    ]


@given(LISTS, SETTINGS, st.integers(0, 3))
def test_every_row_is_as_described(lists: list[tuple[str, list[tuple[str, int]]]], settings: Mining, seed: int) -> None:
    data = dataset(lists)
    mined = mine(data, settings, seed=seed)
    scores = iter(score_lists(data).tolist())
    expected_rows = []
    for query, documents, relevance in data.qrels.lists():
        expected_rows += [(query, int(document)) for document, relevant in zip(documents, relevance, strict=True) if relevant]
        scored = [(-next(scores), place, int(document)) for place, document in enumerate(documents)]
        ranking = [document for _, _, document in sorted(scored)]
        score_of = {document: -negated for negated, _, document in scored}
        irrelevant = [d for d in ranking if d not in data.qrels.positives.get(query, ())]
        hard = [d for d in irrelevant if d in ranking[:10]]
        easy = [d for d in irrelevant if d in ranking[-10:] and d not in ranking[:10]]
        want = min(settings.negatives, len(irrelevant))
        wanted_hard = min(settings.hard, len(hard), want)
        wanted_easy = min(want - wanted_hard, len(easy))
        wanted_hard += min(want - wanted_hard - wanted_easy, len(hard) - wanted_hard)
        medium = [d for d in irrelevant if d not in hard and d not in easy]
        left = want - wanted_hard - wanted_easy
        for row in np.flatnonzero(mined.query == query).tolist():
            whole = [d for d in mined.negative[row].tolist() if d >= 0]
            drawn, others = whole[:want], whole[want:]
            assert len(whole) == len(set(whole))
            assert set(drawn) <= set(irrelevant)
            assert sum(d in hard for d in drawn) >= wanted_hard if settings.medium == 0 else True
            assert sum(d in medium for d in drawn) >= min(settings.medium, len(medium), want - min(settings.hard, len(hard), want))
            if settings.medium == 0:
                assert [sum(d in kind for d in drawn) for kind in (hard, easy, medium)] == [wanted_hard, wanted_easy, left]
            for place, document in enumerate(drawn):
                assert mined.kind[row, place] == (HARD if document in hard else EASY if document in easy else MEDIUM)
                assert mined.rank[row, place] == ranking.index(document) + 1
                assert mined.score[row, place] == score_of[document]
                assert mined.judged[row, place]
                assert mined.SOURCES[mined.source[row, place]] == "list"
            assert not set(others) & set(ranking)
            assert mined.kind[row, want : len(whole)].tolist() == [RANDOM] * len(others)
            assert (mined.negative[row, len(whole) :] == -1).all()
            assert not mined.judged[row, len(drawn) :].any()
    assert list(zip(mined.query.tolist(), mined.positive.tolist(), strict=True)) == expected_rows


def test_one_hard_and_two_easy_ones_by_default() -> None:
    mined = mine(graded(30))
    assert mined.kind[1].tolist() == [HARD, EASY, EASY]
    assert 2 <= mined.rank[1, 0] <= 10
    assert (mined.rank[1, 1:] > 20).all()
    assert mined.source[1].tolist() == [mined.SOURCES.index("list")] * 3


@pytest.mark.parametrize(
    ("candidates", "settings", "kinds"),
    [
        (12, Mining(4, 1), [HARD, EASY, EASY, HARD]),  # easy run out: hard ones
        (23, Mining(22, 2), [HARD] * 2 + [EASY] * 10 + [HARD] * 7 + [MEDIUM] * 3),  # hard run out too: any other
        (5, Mining(8, 1), [HARD] * 4),  # all there is
        (30, Mining(3, 0), [EASY] * 3),
        (30, Mining(3, 3), [HARD] * 3),
        (30, Mining(5, 1, 2), [HARD, MEDIUM, MEDIUM, EASY, EASY]),
    ],
)
def test_where_one_kind_runs_out_another_stands_in(candidates: int, settings: Mining, kinds: list[int]) -> None:
    mined = mine(graded(candidates), replace(settings, retriever="list"))
    assert mined.kind[1, : len(kinds)].tolist() == kinds
    assert set(mined.kind[1, len(kinds) :].tolist()) <= {RANDOM, -1}


def test_where_no_hard_ones_are_easy_ones_fill() -> None:
    mined = mine(graded(15, positives=tuple(range(10))), LIST)
    assert mined.kind[1].tolist() == [EASY] * 3


def test_each_positive_has_a_row_with_a_draw_of_its_own() -> None:
    mined = mine(graded(30, positives=(0, 1, 2, 3)), LIST)
    assert len(mined) == 5
    assert len({tuple(negatives) for negatives in mined.negative[1:].tolist()}) > 1


def test_queries_without_a_positive_or_without_a_negative() -> None:
    mined = mine(dataset([("a", [("b", 0), ("c", 0)]), ("d", [("e", 1), ("f", 2)])]), LIST)
    assert rows(mined) == [("z", "z", []), ("d", "e", []), ("d", "f", [])]
    assert mined.negative.shape == mined.score.shape == (3, 3)


def test_draws_are_spread_over_the_hard_ones() -> None:
    data = graded(30)
    ranks = [int(mine(data, seed=seed).rank[1, 0]) for seed in range(300)]
    counts = np.bincount(ranks, minlength=11)[2:11]
    assert counts.sum() == 300
    assert counts.min() > 10


@given(LISTS, st.randoms(use_true_random=False))
def test_other_queries_do_not_move_a_draw(lists: list[tuple[str, list[tuple[str, int]]]], shuffler: random.Random) -> None:
    lists = list({query: (query, candidates) for query, candidates in lists}.values())
    together = rows(mine(dataset(lists), LIST))
    alone = [row for one in lists for row in rows(mine(dataset([one]), LIST))[1:]]
    assert sorted(together[1:]) == sorted(alone)
    shuffler.shuffle(lists)
    assert sorted(rows(mine(dataset(lists), LIST), chance=True)) == sorted(rows(mine(dataset(lists[::-1]), LIST), chance=True))


def test_the_seed_stands_for_the_settings_own() -> None:
    data = graded(40, positives=(0, 3, 5))
    assert rows(mine(data, Mining(seed=5))) == rows(mine(data, seed=5)) != rows(mine(data, seed=6))


def test_saved_rows_are_read_back_and_equal_bytes(tmp_path: Path) -> None:
    data = dataset([("a b", [("a", 1), ("b", 0), ("a c", 0)]), ("c", [("c d", 1)]), ("d", [("d " * n, n % 3 == 0) for n in range(1, 30)])])
    mined = mine(data, Mining(5, 2))
    save_mined(mined, tmp_path)
    again = read_mined(tmp_path, data)
    for name in ("query", "positive", "negative", "kind", "rank", "score", "judged", "source"):
        before, after = getattr(mined, name), getattr(again, name)
        assert before.dtype == after.dtype
        assert np.array_equal(before, after)
    assert again.train is data
    first = (tmp_path / FILE).read_bytes()
    save_mined(again, tmp_path)
    assert (tmp_path / FILE).read_bytes() == first


def test_rows_of_a_dataset_without_negatives_are_read_back(tmp_path: Path) -> None:
    data = dataset([("a", [("b", 1)])])
    save_mined(mine(data), tmp_path)
    assert rows(read_mined(tmp_path, data), chance=True) == [("z", "z", ["b"]), ("a", "b", ["z"])]
    nothing = data.with_qrels(Qrels(*np.zeros((3, 0), dtype=np.int32)))
    save_mined(mine(nothing), tmp_path)
    assert len(read_mined(tmp_path, data)) == 0


def test_rows_that_are_not_there_or_of_other_data_are_errors(tmp_path: Path) -> None:
    data = dataset([("a", [("b", 1), ("c", 0)])])
    with pytest.raises(FormatError, match="homing mine"):
        read_mined(tmp_path, data)
    save_mined(mine(data), tmp_path)
    with pytest.raises(JudgmentError, match="unknown"):
        read_mined(tmp_path, dataset([("x", [("y", 1)])]))
    for name in (POOL, FILE):
        (tmp_path / name).write_text("not Parquet")
        with pytest.raises(FormatError, match=f"{name}: the mined rows are not whole"):
            read_mined(tmp_path, data)
