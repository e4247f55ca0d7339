"""The check: counts, planted leaks, what a tokenizer makes of the texts, and a table that fits the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from homing import data, formats
from homing.builder import Builder
from homing.checking import check
from homing.checks import NOTES, Check, Leak
from homing.columns import WIDTH
from homing.data import SIDES, Dataset, Side, Splits
from homing.loading import load_splits
from homing.protocols import Kind

Judged = tuple[str, str, int]
LONG = "how do I cancel the insurance contract before the end of the first year"


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Small data is no fault of its own here, but for the test about it."""
    if request.node.name != "test_too_few_queries_are_a_warning":
        monkeypatch.setattr("homing.checks.FEW", 0)


class Words:
    """A tokenizer that knows words of ASCII, and puts a prompt of two tokens before a query."""

    max_length = 4

    def token_counts(self, texts: Sequence[str], kind: Kind, *, progress: str = "") -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        counts = [(len(text.split()) + 2 * (kind == "query"), sum(not word.isascii() for word in text.split())) for text in texts]
        tokens, unknown = np.array(counts, dtype=np.int32).T
        return tokens, unknown


def dataset(judged: Iterable[Judged], queries: Iterable[str] = ()) -> Dataset:
    builder = Builder()
    for query, document, grade in judged:
        builder.judge(builder.query(query), builder.document(document), grade)
    for query in queries:
        builder.query(query)
    return builder.dataset()


def splits(by: str = "given", **judged: list[Judged]) -> Splits:
    builder = Builder()
    for side, rows in judged.items():
        for query, document, grade in rows:
            builder.judge(builder.query(query), builder.document(document), grade, side)  # type: ignore[arg-type]
    whole = builder.dataset("train")
    parts: dict[Side, Dataset] = {side: whole.with_qrels(builder.qrels(side)) for side in SIDES}
    return Splits(**parts, by=by, groups=np.arange(len(whole.queries), dtype=np.int32))  # type: ignore[arg-type]


def leak(found: Check, first: str, second: str) -> Leak:
    return next(leak for leak in found.leaks if (leak.first, leak.second) == (first, second))


def test_counts() -> None:
    found = check(dataset([("a", "d", 1), ("a", "e", 0), ("a", "f", 0), ("b", "d", 2), ("b", "g", 1), ("c", "d", 0)], ["unjudged"]))
    assert (found.queries, found.documents, found.judgments) == (4, 4, 6)
    assert (found.positives.mean, found.positives.least, found.positives.median, found.positives.most) == (1.0, 0, 1.0, 2)
    assert (found.negatives.mean, found.negatives.least, found.negatives.median, found.negatives.most) == (1.0, 0, 1.0, 2)
    assert (found.without_candidates, found.without_positive, found.without_negative) == (1, 1, 1)
    assert found.notes == {"equal_queries": 3, "equal_documents": 2}
    assert (found.sides, found.leaks, found.lengths, found.by) == ({}, (), {}, None)


def test_pairs_judged_both_ways_and_repeated_are_counted() -> None:
    found = check(dataset([("a", "d", 1), ("a", "d", 0), ("a", "d", 1), ("a", "e", 0)]))
    assert found.notes["judged_both_ways"] == 1
    assert found.notes["repeated_judgments"] == 2
    assert "1 pair is judged both ways" in " ".join(found.warnings)


def test_a_column_that_may_be_the_label_is_told_where_nothing_is_judged_not_relevant(tmp_path: Path) -> None:
    rows = [("如何退保", "拨打客服电话", "是", "app"), ("保单丢失", "请重启手机", "否", "app"), ("理赔进度", "在线查询", "", "web")]
    (file := tmp_path / "service.csv").write_text("问题,回答,是否解决,渠道\n" + "\n".join(map(",".join, rows)), encoding="utf-8")
    said = " ".join(check(load_splits(file)).warnings)
    assert "the column 是否解决 holds yes and no" in said
    assert "渠道" not in said
    (file := tmp_path / "judged.csv").write_text("问题,回答,标签,是否解决\n如何退保,重启,0,是\n保单丢失,补办,1,否\n", encoding="utf-8")
    assert "是否解决" not in " ".join(check(load_splits(file)).warnings)
    rows = [(f"问题{number}", f"回答{number}{answer}", "20"[answer]) for number in range(3) for answer in range(2)]
    (file := tmp_path / "lists.csv").write_text("问题,答案,人工标注\n" + "\n".join(map(",".join, rows)), encoding="utf-8")
    assert "the column 人工标注 holds yes and no" in " ".join(check(load_splits(file)).warnings)


def test_near_duplicates_are_pairs_of_queries() -> None:
    assert check(dataset([(LONG, "d", 1), (f"{LONG}?", "e", 1), ("something else", "f", 1)])).near_duplicates == 1


def test_no_negatives_at_all_is_a_warning() -> None:
    none = check(dataset([("a", "d", 1), ("b", "e", 1)]))
    assert none.without_negative == 2
    assert any("no judged negatives at all" in warning for warning in none.warnings)
    assert check(dataset([("a", "d", 1), ("a", "e", 0)])).warnings == []
    relevant = [("a", f"d{number}", 1) for number in range(9)]
    assert any("90% of the judgments are relevant" in each for each in check(dataset([*relevant, ("a", "e", 0)])).warnings)
    assert not any("of the judgments are" in each for each in check(dataset([*relevant[1:], ("a", "e", 0)])).warnings)


def test_documents_that_are_pages_of_html_are_told() -> None:
    pages = [("a", '<P class="x">Hail is <b>covered</b>.</P>', 1), ("a", "a < b, and c > d; <id> stands for a number", 0)]
    assert any("50% of the documents hold tags of HTML" in each for each in check(dataset(pages)).warnings)
    assert check(dataset(pages)).marked_up == 1


def test_a_fixed_set_of_answers_is_told_of_the_split_for_it() -> None:
    asked = [(f"question {number} about something else", f"answer {number % 6}", 1) for number in range(60)]
    assert any("60 queries have 6 relevant documents" in each and "--split-by query" in each for each in check(dataset(asked)).warnings)
    assert not any("--split-by" in each for each in check(dataset([(query, query, 1) for query, _, _ in asked])).warnings)
    assert not any("--split-by" in each for each in check(splits("query", train=asked[:40], dev=asked[40:50], test=asked[50:])).warnings)
    assert not any("--split-by" in each for each in check(dataset(asked), by="query").warnings)
    apart = [(query, query, 1) for query, _, _ in asked]
    hub = check(dataset([*apart, *((query, "the house rules", 1) for query, _, _ in apart[:12])])).warnings
    assert any("one document is relevant to 12 of 60 queries" in each and "--split-by query" in each for each in hub)
    assert not any("--split-by" in each for each in check(dataset([*apart, *((query, "rules", 1) for query, _, _ in apart[:11])])).warnings)


def test_queries_that_are_their_own_documents_are_told() -> None:
    told = check(dataset([("How?", "how", 1), ("How?", "so", 1), ("Why?", "why", 0), ("Why?", "thus", 1)]))
    assert told.itself == 1
    assert any("1 query is its own relevant document" in warning for warning in told.warnings)
    assert "queries that are relevant to themselves" in str(told)


def test_stars_are_told_from_grades() -> None:
    stars = check(dataset([(f"q{place % 9}", f"d{place}", place % 5 + 1) for place in range(90)]))
    assert any("the grades go from 1 to 5" in warning for warning in stars.warnings)
    assert "grades (judgments), relevant from 1: 1 (18), 2 (18)" in str(stars)
    assert any("the grades go from 1 to 2" in each for each in check(dataset([("q", "d", 1), ("q", "e", 2)])).warnings)
    graded = check(dataset([(f"q{place % 9}", f"d{place}", place % 3) for place in range(90)]))
    assert not any("grades" in warning for warning in graded.warnings)
    clicks = check(dataset([(f"q{place}", f"d{place}", place * place) for place in range(50)]))
    assert any("the grades go to 2,401, each from 1 on counts as relevant" in warning for warning in clicks.warnings)
    assert "81 (1), 100 (1), 39 more" in " ".join(str(clicks).split())


def test_too_few_queries_are_a_warning() -> None:
    rows = [(f"q{number}", text, grade) for number in range(30) for text, grade in ((f"d{number}", 1), ("e", 0))]
    assert check(dataset(rows)).warnings == []
    assert check(dataset([*rows[:-1], ("q30", "e", 0)][1:])).warnings[-1].startswith("only 29 queries have a relevant document: of")
    assert check(dataset([("q", "d", 1), ("q", "e", 0)])).warnings == [
        "only 1 query has a relevant document: a run needs three, one for each side."
    ]


def test_sides_are_counted_together_and_apart() -> None:
    found = check(splits(train=[("a", "d", 1), ("a", "e", 0)], dev=[("b", "f", 1)], test=[("c", "g", 1), ("c", "e", 0)]))
    assert found.judgments == 5
    assert {name: (part.queries, part.judgments, part.positives) for name, part in found.sides.items()} == {
        "train": (1, 2, 1), "dev": (1, 1, 1), "test": (1, 2, 1)
    }  # fmt: skip
    assert found.warnings == []
    assert all((leak.queries, leak.near_queries, leak.positives, leak.contradicted) == (0, 0, 0, 0) for leak in found.leaks)


def test_a_judgment_on_two_sides_counts_once_and_as_relevant() -> None:
    found = check(splits(train=[("a", "d", 1)], dev=[("a", "d", 0), ("a", "e", 1)], test=[("b", "f", 1)]))
    assert found.judgments == 3
    assert found.positives.most == 2


def test_planted_leaks_are_found() -> None:
    clean: dict[str, list[Judged]] = {"train": [("a", "d", 1), ("a", "z", 0)], "dev": [("b", "e", 1)], "test": [("c", "f", 1)]}

    query = check(splits(**clean | {"test": [("c", "f", 1), ("a", "g", 1)]}))
    assert leak(query, "train", "test") == Leak("train", "test", 1, 0, 0, 0)
    assert leak(query, "train", "dev") == Leak("train", "dev", 0, 0, 0, 0)
    assert any("test (2 queries) shares 1 query with train" in warning for warning in query.warnings)

    near = check(splits(**clean | {"train": [(LONG, "d", 1)], "dev": [(f"{LONG}!", "e", 1), (f"{LONG}...", "h", 1)]}))
    assert leak(near, "train", "dev") == Leak("train", "dev", 0, 2, 0, 0)
    assert any("2 near-duplicate queries with train" in warning for warning in near.warnings)
    turned = check(splits(**clean | {"dev": [(LONG, "e", 1)], "test": [(f"{LONG}!", "h", 1)]}))
    assert leak(turned, "dev", "test").near_queries == 1

    positive = check(splits(**clean | {"test": [("c", "d", 1)]}))
    assert leak(positive, "train", "test") == Leak("train", "test", 0, 0, 1, 0)
    assert any("1 positive document with" in warning for warning in positive.warnings)

    contradicted = check(splits(**clean | {"dev": [("b", "z", 1)]}))
    assert leak(contradicted, "train", "dev") == Leak("train", "dev", 0, 0, 0, 1)
    assert any("judged not relevant in train" in warning for warning in contradicted.warnings)


def test_what_a_split_was_asked_for_is_no_warning() -> None:
    rows: dict[str, list[Judged]] = {"train": [("a", "d", 1), ("a", "z", 0)], "dev": [("b", "d", 1)], "test": [("c", "z", 1)]}
    assert len(check(splits("given", **rows)).warnings) == 2
    shared = check(splits("query", **rows))
    assert leak(shared, "train", "dev").positives == 1
    assert shared.warnings == []


def test_removed_queries_are_not_without_candidates() -> None:
    given = splits(train=[("a", "d", 1), ("a", "z", 0)], dev=[("b", "e", 1)], test=[("c", "f", 1)])
    dev = given.dev.with_qrels(given.dev.qrels.of(np.array([], dtype=np.int32)))
    found = check(replace(given, dev=dev, removed=(1,)))
    assert (found.removed, found.without_candidates) == (1, 0)
    rows = [(f"question {number}", f"answer {number}", 1) for number in range(60)]
    for by, told in (("group", True), ("query", False)):
        given = splits(by, train=rows[:30], dev=rows[30:40], test=rows[40:50])
        found = check(replace(given, removed=tuple(range(10))))
        assert any("10 of 50 queries are left out" in warning for warning in found.warnings) is told


def test_lengths_with_prompt_cut_and_unknown() -> None:
    data = dataset([("a b", "one two three four five", 1), ("未 c", "未知 word", 0)], ["unjudged query that is far too long"])
    found = check(data, Words())
    query, document = found.lengths["query"], found.lengths["document"]
    assert (query.texts, query.median, query.most, query.cut) == (2, 4.0, 4, 0.0)
    assert query.unknown == pytest.approx(1 / 4)  # of its words, prompts left out
    assert (document.texts, document.median, document.most, document.cut) == (2, 3.5, 5, 0.5)
    assert document.unknown == pytest.approx(1 / 7)
    assert found.max_length == 4
    assert "UNKNOWN" in found.warnings[0]
    assert "14% of the tokens of the documents" in found.warnings[1]
    assert any("50% of the documents are longer than 4 tokens" in warning for warning in found.warnings)
    assert check(data, Words(), max_length=5).lengths["document"].cut == 0.0


@pytest.mark.parametrize("note", ["empty_queries", "pooled_splits", "texts_like_lists", "read_as_gb18030", "judged_both_ways"])
def test_what_the_readers_mended_is_said(note: str) -> None:
    data = dataset([("a", "d", 1), ("a", "e", 0)])
    found = check(replace(data, notes={note: 3}))
    assert len(found.warnings) == 1
    assert NOTES[note] in str(found)


def test_rows_without_their_query_are_told_how_to_have_it(tmp_path: Path) -> None:
    (file := tmp_path / "first.csv").write_text("问题,答案,是否相关\n如何退保,打电话,是\n,看官网,否\n,不知道,否\n", encoding="utf-8")
    told = check(load_splits(file))
    assert (told.judgments, told.notes["empty_queries"]) == (1, 2)
    assert any("2 queries have no text" in each and "write it into each" in each for each in told.warnings)


def test_every_note_of_the_readers_has_words() -> None:
    sources = [Path(data.__file__), *Path(formats.__file__).parent.glob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    names = set(re.findall(r'notes\["(\w+)"\]', text)) | set(re.findall(r'notes\.update\(\["(\w+)"\]', text))
    assert names
    assert names <= set(NOTES)


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and plain(inner) for key, inner in value.items())
    return all(map(plain, value)) if isinstance(value, list) else type(value) in (str, int, float, bool, type(None))


def test_as_dictionary_it_is_plain_and_whole() -> None:
    found = check(splits(train=[("a", "d", 1)], dev=[("b", "d", 1)], test=[("c", "f", 1)]), Words())
    told = found.to_dict()
    assert plain(told)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["leaks"][0]["positives"] == 1
    assert told["warnings"] == found.warnings != []


def test_table_shows_the_counts() -> None:
    table = str(check(splits(train=[("a", "d", 1), ("a", "z", 0)], dev=[("b", "z", 1)], test=[("c", "f", 1)]), Words()))
    lines = [line.split() for line in table.splitlines()]
    assert ["queries", "3"] in lines
    assert ["train", "1", "2", "1"] in lines
    assert ["train,", "dev", "0", "0", "0", "1"] in lines
    assert ["positives", "1.00", "1", "1", "1"] in lines


words = st.text("ab 字", min_size=1, max_size=6).map(str.strip).filter(bool)
rows = st.lists(st.tuples(words, words, st.integers(0, 2)), max_size=8)


@given(rows, rows, rows, st.booleans())
def test_any_data_gives_a_table_that_fits(train: list[Judged], dev: list[Judged], test: list[Judged], whole: bool) -> None:
    train = [*train, ("relevant", "document", 1)]
    data = dataset(train) if whole else splits(train=train, dev=dev, test=test)
    found = check(data, Words())
    assert max(map(len, str(found).splitlines())) <= WIDTH
    assert plain(found.to_dict())
    assert found.without_positive + found.without_candidates <= found.queries
    assert found.judgments == round(found.positives.mean * (found.queries - found.without_candidates)) + round(
        found.negatives.mean * (found.queries - found.without_candidates)
    )


@pytest.mark.parametrize("name", ["zh-statute", "zh-cli"])
def test_real_splits_are_clean(shared: Path, name: str) -> None:
    path = shared / name
    data = load_splits(path / "train.json", path / "dev.json", path / "test.json")
    found = check(data)
    assert found.judgments == sum(part.judgments for part in found.sides.values())
    assert all((leak.queries, leak.positives, leak.contradicted) == (0, 0, 0) for leak in found.leaks)
