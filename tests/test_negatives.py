"""Negatives drawn anew in each epoch: what stays the same, what differs, and what may never be drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import homing
from homing import Mining
from homing.builder import Builder
from homing.data import Dataset, Mined
from homing.formats.mined import read_mined, save_mined
from homing.negatives import mixed, places, redraw
from tiny import made_data

EPOCHS = range(1, 9)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """40 queries with 24 candidates each, 2 of them relevant: 10 ranks for hard ones, 10 for easy ones, and others between."""
    return homing.load(made_data(tmp_path_factory.mktemp("made"), 40, 24))


@pytest.fixture(scope="module")
def mined(train: Dataset) -> Mined:
    return homing.mine(train, Mining(negatives=4, hard=2, seed=3))


def kinds(mined: Mined, negative: np.ndarray) -> list[Counter[int]]:
    """How many of each kind every row drew, looked up in the pool."""
    assert mined.pool is not None
    pool = mined.pool
    kind = {(q, d): k for q, d, k in zip(pool.query.tolist(), pool.document.tolist(), pool.kind.tolist(), strict=True)}
    return [
        Counter(kind[query, document] for document in row if document >= 0)
        for query, row in zip(mined.query.tolist(), negative.tolist(), strict=True)
    ]


def by_pair(mined: Mined, negative: np.ndarray) -> dict[tuple[str, str], list[str]]:
    ids = mined.train.corpus.ids
    pairs = zip(mined.query.tolist(), mined.positive.tolist(), negative.tolist(), strict=True)
    return {
        (mined.train.queries.ids[query], ids[positive]): [ids[document] for document in row if document >= 0]
        for query, positive, row in pairs
    }


def test_the_first_epoch_has_the_mined_negatives(mined: Mined) -> None:
    assert redraw(mined, 0) is mined.negative
    bare = replace(mined, pool=None)
    assert redraw(bare, 5) is bare.negative


def test_each_epoch_draws_others_of_the_same_kinds(mined: Mined) -> None:
    first = kinds(mined, mined.negative)
    assert {tuple(sorted(row.items())) for row in first} == {((0, 2), (1, 2))}  # two hard ones, two easy ones
    draws = [mined.negative, *(redraw(mined, epoch) for epoch in EPOCHS)]
    for drawn in draws:
        assert drawn.shape == mined.negative.shape
        assert drawn.dtype == mined.negative.dtype
        assert kinds(mined, drawn) == first
        assert all(len(set(row)) == 4 for row in drawn.tolist())  # nothing twice in a row
    for index, drawn in enumerate(draws):
        for other in draws[index + 1 :]:
            same = [set(one) == set(two) for one, two in zip(drawn.tolist(), other.tolist(), strict=True)]
            assert np.mean(same) < 0.2
    assert all(np.array_equal(redraw(mined, epoch), draws[epoch]) for epoch in EPOCHS)  # and repeats


def test_short_lists_give_what_they_have_in_every_epoch_and_chance_the_rest(tmp_path: Path) -> None:
    train = homing.load(made_data(tmp_path, 12, 4))  # two negatives a query
    mined = homing.mine(train, Mining(negatives=3, hard=1, retriever="list"))
    judged = {query: set(documents.tolist()) for query, documents, _ in train.qrels.lists()}
    others: set[int] = set()
    for epoch in range(9):
        drawn = redraw(mined, epoch)
        assert np.array_equal(drawn[:, :2] >= 0, np.ones_like(drawn[:, :2], dtype=bool))
        for query, row, first in zip(mined.query.tolist(), drawn.tolist(), mined.negative.tolist(), strict=True):
            assert set(row[:2]) == set(first[:2]) <= judged[query]
            assert row[2] not in judged[query]
            others.add(row[2])
    assert len(others) > 12


def test_where_the_corpus_holds_no_more_a_row_ends_with_minus_one_in_every_epoch() -> None:
    def redrawn(grades: list[list[int]], epoch: int) -> list[list[int]]:
        builder = Builder()
        for query, row in zip(("alpha", "beta"), grades, strict=True):
            for document, grade in zip(("one", "two", "three", "four"), row, strict=True):
                builder.judge(builder.query(query), builder.document(document), grade)
        mined = homing.mine(builder.dataset(), Mining(negatives=3, retriever="list"))
        return [sorted(row, reverse=True) for row in redraw(mined, epoch).tolist()]

    for epoch in range(4):
        assert redrawn([[1, 0, 0, 0], [1, 1, 0, 1]], epoch) == [[3, 2, 1], *[[2, -1, -1]] * 3]
        assert redrawn([[1, 1, 1, 1], [1, 1, 1, 1]], epoch) == [[]] * 8


def test_every_candidate_has_its_turn(mined: Mined) -> None:
    """Over 60 epochs hard candidates of a query are drawn about equally often: 2 of at most 10, 60 times, for each of 2 positives."""
    assert mined.pool is not None
    query = int(mined.query[0])
    rows = np.flatnonzero(mined.query == query)
    hard = set(mined.pool.document[(mined.pool.query == query) & (mined.pool.kind == 0)].tolist())
    times = Counter(document for epoch in range(60) for document in redraw(mined, epoch)[rows].ravel().tolist() if document in hard)
    expected = 60 * len(rows) * 2 / len(hard)
    assert set(times) == hard
    assert all(0.4 * expected < times[document] < 1.8 * expected for document in hard)


def test_no_judged_positive_is_ever_drawn(mined: Mined) -> None:
    positives = mined.train.qrels.positives
    for epoch in range(30):
        for query, row in zip(mined.query.tolist(), redraw(mined, epoch).tolist(), strict=True):
            assert not positives[query] & set(row)


def test_the_rows_of_a_query_draw_apart(mined: Mined) -> None:
    drawn = redraw(mined, 1)
    same = [
        set(drawn[one].tolist()) == set(drawn[other].tolist())
        for one, other in (np.flatnonzero(mined.query == query) for query in np.unique(mined.query).tolist())
    ]
    assert np.mean(same) < 0.2


def test_other_queries_do_not_move_a_draw(train: Dataset, mined: Mined) -> None:
    queries = train.qrels.queries
    fewer = homing.mine(train.with_qrels(train.qrels.of(queries[::3])), Mining(negatives=4, hard=2, seed=3))
    for epoch in (0, 1, 5):
        whole, part = by_pair(mined, redraw(mined, epoch)), by_pair(fewer, redraw(fewer, epoch))
        assert 0 < len(part) < len(whole)
        assert all(whole[pair] == drawn for pair, drawn in part.items())


def test_seeds_draw_apart(train: Dataset, mined: Mined) -> None:
    other = homing.mine(train, Mining(negatives=4, hard=2, seed=4))
    for epoch in (0, 1):
        assert not np.array_equal(redraw(mined, epoch), redraw(other, epoch))


def test_a_saved_pool_draws_as_before(mined: Mined, tmp_path: Path) -> None:
    save_mined(mined, tmp_path)
    read = read_mined(tmp_path, mined.train)
    assert read.pool is not None
    assert mined.pool is not None
    assert (read.pool.negatives, read.pool.hard, read.pool.seed) == (4, 2, 3)
    for name in ("query", "document", "kind"):
        assert np.array_equal(getattr(read.pool, name), getattr(mined.pool, name))
    for epoch in (0, 1, 7):
        assert np.array_equal(redraw(read, epoch), redraw(mined, epoch))


def test_rows_saved_without_a_pool_come_back_without(mined: Mined, tmp_path: Path) -> None:
    save_mined(replace(mined, pool=None), tmp_path)
    read = read_mined(tmp_path, mined.train)
    assert read.pool is None
    assert redraw(read, 3) is read.negative


def test_places_count_within_groups() -> None:
    assert places(np.array([0, 0, 2, 5, 5, 5])).tolist() == [0, 1, 0, 0, 1, 2]
    assert places(np.empty(0, dtype=np.int64)).tolist() == []


def test_keys_are_mixed_as_splitmix64_mixes_its_states() -> None:
    """Its published first outputs for the seed 1234567 (Vigna's splitmix64.c)."""
    step = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + step * place) % 2**64 for place in (1, 2, 3)], dtype=np.uint64)
    assert mixed(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]
