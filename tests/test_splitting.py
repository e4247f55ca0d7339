"""Splits: nothing is on two sides, nothing is lost uncounted, and what is test stays test."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.builder import Builder
from homing.checking import check, kept_by, leaks
from homing.data import Dataset, Splits
from homing.errors import SplitError
from homing.settings import Splitting
from homing.splitting import deal_dev, freeze, split
from homing.texts.near import join, near_duplicates

Judgments = list[tuple[str, str, int]]


def question(number: int) -> str:
    """Texts that are far from one another; each third one is a rewording of the one before it."""
    generator = random.Random(number - (number % 3 == 2))
    return "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=40)) + ("?" if number % 3 == 2 else "")


def dataset(judgments: Judgments) -> Dataset:
    builder = Builder()
    for query, document, relevance in judgments:
        builder.judge(builder.query(query), builder.document(document), relevance)
    return builder.dataset()


def apart(count: int) -> Judgments:
    """Queries with a positive each, tied by nothing."""
    return [(question(3 * number), f"document {number}", 1) for number in range(count)]


def texts(side: Dataset) -> set[str]:
    return {side.queries.texts[query] for query in side.qrels.queries.tolist()}


def sides(splits: Splits) -> tuple[set[str], set[str], set[str], set[str]]:
    train, dev, test = splits
    return texts(train), texts(dev), texts(test), {train.queries.texts[query] for query in splits.removed}


def assert_sound(data: Dataset, splits: Splits) -> None:
    parts = sides(splits)
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert set().union(*parts) == texts(data)
    assert all(any((side.qrels.relevance > 0).tolist()) for side in splits)
    of = {text: number for number, part in enumerate(parts[:3]) for text in part}
    for one, other in near_duplicates(data.queries.texts).tolist():
        pair = [of.get(data.queries.texts[query]) for query in (one, other)]
        assert None in pair or pair[0] == pair[1]
    if splits.by == "group":
        positives = [set(side.qrels.document[side.qrels.relevance > 0].tolist()) for side in splits]
        assert sum(map(len, positives)) == len(set().union(*positives))
    side_of_group: dict[int, int] = {}
    assert splits.groups.shape == (len(data.queries),)
    for number, side in enumerate(splits):
        for query in side.qrels.queries.tolist():
            assert side_of_group.setdefault(int(splits.groups[query]), number) == number
        whole = data.qrels.of(side.qrels.queries)
        assert all(np.array_equal(getattr(whole, name), getattr(side.qrels, name)) for name in ("query", "document", "relevance"))


tied = st.lists(st.tuples(st.integers(0, 60).map(question), st.integers(0, 60).map("document {}".format), st.integers(0, 2)), min_size=1)


@given(tied, st.sampled_from(["group", "query"]), st.integers(0, 6))
def test_nothing_is_on_two_sides_and_nothing_is_lost(judgments: Judgments, by: str, seed: int) -> None:
    judgments = [(*judgments[0][:2], 1), *judgments]
    data = dataset(judgments)
    try:
        splits = split(data, Splitting(by=by), seed=seed)  # type: ignore[arg-type]
    except SplitError:
        return
    assert splits.by == by
    assert_sound(data, splits)


@given(st.integers(3, 40), st.integers(0, 50))
def test_three_and_more_untied_queries_can_always_be_split(count: int, seed: int) -> None:
    data = dataset(apart(count))
    splits = split(data, seed=seed)
    assert_sound(data, splits)
    assert splits.removed == ()


@given(tied, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(judgments: Judgments, shuffler: random.Random) -> None:
    judgments = [*apart(30), *judgments]
    before = sides(split(dataset(judgments), seed=1))
    shuffler.shuffle(judgments)
    assert sides(split(dataset(judgments), seed=1)) == before


def test_shares_are_those_asked_for() -> None:
    data = dataset(apart(2000))
    train, dev, test = split(data, Splitting(dev=0.1, test=0.3))
    assert len(test.qrels.queries) == pytest.approx(600, rel=0.15)
    assert len(dev.qrels.queries) == pytest.approx(200, rel=0.25)
    assert len(train.qrels.queries) == pytest.approx(1200, rel=0.1)


def test_the_seed_decides_and_stands_for_the_settings_own() -> None:
    data = dataset(apart(200))
    assert sides(split(data, Splitting(seed=7))) == sides(split(data, seed=7)) == sides(split(data, Splitting(seed=1), seed=7))
    assert sides(split(data, seed=7)) != sides(split(data, seed=8))


def test_old_test_queries_stay_test_queries_when_judgments_are_added() -> None:
    generator = random.Random(0)
    judgments = apart(600)
    # Next month: new queries with documents of their own, new queries on old documents, and further documents for old queries.
    added = [(question(3 * number), f"document {number}", 1) for number in range(1000, 1200)]
    added += [(question(3 * number), f"document {generator.randrange(600)}", 1) for number in range(2000, 2050)]
    added += [(question(3 * generator.randrange(600)), f"new document {number}", 1) for number in range(100)]
    _, _, before, _ = sides(split(dataset(judgments), seed=3))
    after = split(dataset(judgments + added), seed=3)
    assert before <= texts(after.test)
    assert_sound(dataset(judgments + added), after)


def test_large_groups_do_not_swell_dev_and_test() -> None:
    judgments = [(question(3 * number), f"document {number // 20}", 1) for number in range(4000)]
    data = dataset(judgments)
    splits = split(data)
    assert_sound(data, splits)
    assert splits.removed == ()
    held_out = len(splits.dev.qrels.queries) + len(splits.test.qrels.queries)
    assert 0.15 * 4000 <= held_out <= 1.4 * 0.3 * 4000


def test_a_giant_group_goes_to_train_whole() -> None:
    giant = [(question(3 * number), "the answer to many questions", 1) for number in range(100, 160)]
    splits = split(dataset([*apart(60), *giant]))
    train, dev, test, removed = sides(splits)
    assert {query for query, _, _ in giant} <= train
    assert dev
    assert test
    assert not removed


def test_a_side_too_small_is_filled_and_what_would_leak_is_removed() -> None:
    # A ring: each query shares a document with the next one, so that all are one group.
    ring = [(question(3 * number), f"document {(number + shift) % 60}", 1) for number in range(60) for shift in (0, 1)]
    data = dataset(ring)
    splits = split(data)
    assert_sound(data, splits)
    assert len(splits.test.qrels.queries) >= 6
    assert len(splits.dev.qrels.queries) >= 3
    assert 0 < len(splits.removed) <= 30
    assert "--split-by query" in str(kept_by(splits))  # a third of what was to learn from: the way out is said where it is dealt
    assert kept_by(split(data, Splitting(by="query"))) is None


def test_where_all_share_one_document_the_error_names_the_way_out() -> None:
    data = dataset([(question(3 * number), "yes", 1) for number in range(50)])
    with pytest.raises(SplitError, match="50 queries") as error:
        split(data)
    assert "--split-by query" in str(error.value)
    splits = split(data, Splitting(by="query"))
    assert_sound(data, splits)
    assert all(len(side.qrels.queries) for side in splits)


def test_too_few_queries_are_an_error() -> None:
    with pytest.raises(SplitError, match="at least 3 queries"):
        split(dataset(apart(2)))


def test_queries_without_a_positive_get_a_side_too() -> None:
    judgments = [*apart(100), *((question(3 * number), "document 0", 0) for number in range(200, 300))]
    data = dataset(judgments)
    splits = split(data)
    assert_sound(data, splits)
    assert all(len(set(side.qrels.queries.tolist()) - set(side.qrels.positives)) > 0 for side in splits)


def test_a_query_without_a_judgment_is_a_group_of_its_own() -> None:
    builder = Builder()
    lonely = builder.query("nobody judged this")
    for query, document, relevance in apart(30):
        builder.judge(builder.query(query), builder.document(document), relevance)
    splits = split(builder.dataset())
    assert (splits.groups == splits.groups[lonely]).sum() == 1
    assert all(lonely not in side.qrels.queries for side in splits)


def judged(splits: Splits) -> list[tuple[str, str, int]]:
    """The judgments of test, in words."""
    test = splits.test
    rows = zip(test.qrels.query.tolist(), test.qrels.document.tolist(), test.qrels.relevance.tolist(), strict=True)
    return sorted((test.queries.texts[query], test.corpus.texts[document], relevance) for query, document, relevance in rows)


def test_a_frozen_test_stays_and_nothing_of_it_is_left_in_train_or_dev() -> None:
    old = split(dataset(apart(60)), Splitting())
    asked = old.test.queries.texts[int(old.test.qrels.queries[0])]
    answer = old.test.corpus.texts[int(old.test.qrels.document[old.test.qrels.query == old.test.qrels.queries[0]][0])]
    new = [(question(3 * number), f"document {number}", 1) for number in range(300, 340)]
    leaking = [(asked + "!", "new answer", 1), ("another question of the same answer", answer, 1), (asked, "newly judged", 1)]
    broken = ("a question of this answer in two lines", answer.replace(" ", "\n"), 1)
    found = freeze(dataset([broken, *apart(60), *new, *leaking]), old, Splitting())
    assert judged(found) == judged(old)
    assert {found.train.queries.texts[query] for query in found.removed} == {asked + "!", broken[0], "another question of the same answer"}
    assert found.test.notes["newer_judgments_of_test"] == 1
    train, dev, _, _ = sides(found)
    assert texts(old.train) <= train
    assert texts(old.dev) <= dev
    assert texts(found.train) | texts(found.dev) > {question(3 * 300)}
    positives = [set(side.qrels.document[side.qrels.relevance > 0].tolist()) for side in found]
    assert sum(map(len, positives)) == len(set().union(*positives))


def test_a_frozen_test_of_other_texts_is_told() -> None:
    old = split(dataset(apart(60)), Splitting())
    new = [(f"wholly {question(3 * number)} otherwise", f"other {number}", 1) for number in range(300, 360)]
    for pairs, said in ((new, len(old.test.qrels.queries)), ([*new, ("one more", "document 5", 1)], 0)):
        found = freeze(dataset(pairs), old, Splitting())
        assert found.test.notes["foreign_test"] == said
        assert ("tests another task" in str(check(found)).replace("\n  ", " ")) == bool(said)


def test_a_frozen_test_keeps_its_groups() -> None:
    """Test queries that hang together through a third one that is gone stay one group."""
    pairs = [(question(3 * number), f"document {number // 2}", 1) for number in range(120)]
    old = split(dataset(pairs), Splitting())
    lost = [pair for pair in pairs if pair[0] not in texts(old.test)]
    found = freeze(dataset(lost), old, Splitting())
    by_text = {old.test.queries.texts[query]: int(old.groups[query]) for query in old.test.qrels.queries.tolist()}
    now = {found.test.queries.texts[query]: int(found.groups[query]) for query in found.test.qrels.queries.tolist()}
    assert by_text.keys() == now.keys()
    assert all((by_text[one] == by_text[other]) == (now[one] == now[other]) for one in now for other in now)
    assert not set(now.values()) & {int(found.groups[query]) for query in found.train.qrels.queries.tolist()}


def test_a_frozen_test_beside_splits_that_are_given() -> None:
    old = split(dataset(apart(60)), Splitting())
    leaking = next(iter(texts(old.test)))
    builder = Builder()
    for number in range(200, 230):
        builder.judge(builder.query(question(3 * number)), builder.document(f"document {number}"), 1, "train")
    builder.judge(builder.query(leaking), builder.document("elsewhere"), 1, "train")
    for number in range(230, 240):
        builder.judge(builder.query(question(3 * number)), builder.document(f"document {number}"), 1, "dev")
    whole, dev = builder.dataset("train"), builder.dataset("dev")
    given_splits = Splits(whole, whole.with_qrels(dev.qrels), whole, "given", np.arange(len(whole.queries), dtype=np.int32))
    found = freeze(given_splits, old, Splitting())
    assert found.by == "given"
    assert judged(found) == judged(old)
    assert (len(found.train.qrels.queries), len(found.dev.qrels.queries)) == (30, 10)
    assert leaking not in texts(found.train)


def test_a_frozen_test_that_leaves_nothing_to_train_on_is_an_error() -> None:
    old = split(dataset(apart(30)), Splitting())
    rows = [(old.test.queries.texts[query], "document 0", 1) for query in old.test.qrels.queries.tolist()]
    with pytest.raises(SplitError):
        freeze(dataset(rows), old, Splitting())


def test_ids_that_came_to_stand_for_other_texts_give_way() -> None:
    def named(texts_of: str) -> Dataset:
        builder = Builder()
        for number in range(40):
            builder.judge(builder.query(question(3 * number), f"q{number}"), builder.document(f"{texts_of} {number}", f"d{number}"), 1)
        return builder.dataset()

    old = split(named("document"), Splitting())
    found = freeze(named("changed document"), old, Splitting())
    assert len(set(found.test.corpus.ids)) == len(found.test.corpus) == 80
    assert judged(found) == judged(old)


def halves(rows: list[tuple[str, str, int]], test: list[tuple[str, str, int]]) -> tuple[Dataset, Dataset]:
    builder = Builder()
    for side, judged_rows in (("train", rows), ("test", test)):
        for query, document, relevance in judged_rows:
            builder.judge(builder.query(query), builder.document(document), relevance, side)  # type: ignore[arg-type]
    train = builder.dataset("train")
    return train, train.with_qrels(builder.qrels("test"))


@pytest.mark.parametrize("by", ["group", "query"])
@pytest.mark.parametrize("shared", [1, 2, 6])
def test_dev_is_dealt_from_train_without_a_leak_and_test_stays(shared: int, by: str) -> None:
    rows = [(question(3 * number), f"document {number // shared}", 1) for number in range(240)]
    rows += [(question(3 * number) + "!", f"further {number}", 1) for number in range(0, 60, 2)]
    test = [(question(3 * number), f"document {number}", 1) for number in range(1000, 1050)]
    test += [rows[0], (rows[1][0] + "?", "another", 1)]  # in train, and nearly so
    settings = Splitting(by=by)  # type: ignore[arg-type]
    found = deal_dev(*halves(rows, test), settings)
    assert judged(found) == sorted(test)
    kept, dev = texts(found.train), texts(found.dev)
    lost = {found.queries.texts[query] for query in found.removed}
    assert kept | dev | lost == {query for query, _, _ in rows}
    assert not kept & dev
    assert len(dev) >= 0.5 * 0.1 * len(kept | dev)
    assert len(dev) == found.dev.notes["dev_from_train"] <= 0.3 * len(kept)
    for one, other in near_duplicates(found.queries.texts).tolist():
        ends = {found.queries.texts[one], found.queries.texts[other]}
        assert not (ends & kept and ends & dev)
    leak = {(each.first, each.second): each for each in leaks(found)}
    assert (leak["train", "dev"].queries, leak["train", "dev"].near_queries) == (0, 0)
    assert by == "query" or leak["train", "dev"].positives == 0
    of_test = [leak["train", "test"], leak["dev", "test"]]
    assert sum(each.queries for each in of_test) + sum(text in lost for text in {rows[0][0]}) == 1
    assert found.by == "given"
    same_again = deal_dev(*halves(rows, test), settings)
    assert texts(same_again.dev) == dev
    more = deal_dev(*halves([*rows, ("something quite different, new and apart", "its answer", 1)], test), settings)
    assert len(texts(more.dev) ^ dev) <= 1
    assert texts(deal_dev(*halves(rows, test), Splitting(by=by, seed=7)).dev) != dev  # type: ignore[arg-type]


def test_a_train_too_dense_to_deal_dev_from_is_an_error() -> None:
    rows = [(question(3 * number), "the only document", 1) for number in range(40)]
    with pytest.raises(SplitError, match="split-by query"):
        deal_dev(*halves(rows, [("elsewhere", "another", 1)]))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), min_size=30, max_size=70), st.sampled_from(["group", "query"]))
def test_with_too_many_near_duplicates_nothing_leaks_either(listed: list[tuple[int, int]], by: str) -> None:
    rows = [(f"{question(query // 4 * 3)} {'x' * (query % 4)}", f"document {document}", 1) for query, document in listed]
    data, settings = dataset(rows), Splitting(by=by)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("homing.ties.join", partial(join, most=1))
        patch.setattr("homing.splitting._MOST_REMOVED", 1.0)
        try:
            found = split(data, settings)
        except SplitError:
            return
    assert_sound(data, found)


def test_templated_queries_are_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [(f"what is the price of the item with number {number} in the catalogue?", f"document {number}", 1) for number in range(100, 160)]
    with pytest.raises(SplitError, match=r"near-duplicates of one another\. Give more varied"):
        split(dataset(few))
    monkeypatch.setattr("homing.ties.join", partial(join, most=100))
    monkeypatch.setattr("homing.checking.join", partial(join, most=100))
    rows = [(f"what is the price of the item with number {number} in the catalogue?", f"document {number}", 1) for number in range(200)]
    with pytest.raises(SplitError, match="of each template"):
        split(dataset(rows))
    found = check(dataset(rows))
    assert found.template > 150
    assert any("as a template's are" in warning for warning in found.warnings)
    mixed = split(dataset(rows[:40] + apart(300)))
    assert {query for query, _, _ in rows[:40]} <= texts(mixed.train)
    assert all(each.near_queries == 0 for each in leaks(mixed))
