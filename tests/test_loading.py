"""Loading: given splits over one vocabulary, and a run's dataset directory that gives back what was put in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.builder import Builder
from homing.data import SIDES, Dataset, Splits
from homing.errors import FormatError, HomingError, JudgmentError, SettingError
from homing.loading import SPLIT, Halves, load, load_splits, read_dataset, save_dataset


def rows_file(path: Path, **positives: str) -> Path:
    """A file of rows: each query with its positive and the negative "none"."""
    path.write_text("".join(json.dumps({"query": q, "positive": d, "negative": ["none"]}) + "\n" for q, d in positives.items()))
    return path


def folder(path: Path, *sides: str) -> Path:
    """A BEIR folder in which each of these sides judges a query of its own name."""
    (path / "qrels").mkdir(parents=True)
    (path / "corpus.jsonl").write_text('{"_id": "d", "title": "", "text": "document"}\n')
    (path / "queries.jsonl").write_text("".join(f'{{"_id": "{side}-q", "text": "{side} query"}}\n' for side in sides))
    for side in sides:
        (path / "qrels" / f"{side}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{side}-q\td\t1\n")
    return path


def same(one: Splits, other: Splits) -> None:
    for side in SIDES:
        ours, theirs = getattr(one, side), getattr(other, side)
        assert (ours.corpus.ids, ours.corpus.texts) == (theirs.corpus.ids, theirs.corpus.texts)
        assert (ours.queries.ids, ours.queries.texts) == (theirs.queries.ids, theirs.queries.texts)
        assert ours.queries.columns == theirs.queries.columns
        assert ours.notes == theirs.notes
        for column in ("query", "document", "relevance"):
            assert np.array_equal(getattr(ours.qrels, column), getattr(theirs.qrels, column))
    assert (one.by, one.removed) == (other.by, other.removed)
    assert np.array_equal(one.groups, other.groups)
    assert one.groups.dtype == other.groups.dtype == np.int32


def splits_of(tmp_path: Path) -> Splits:
    paths = [rows_file(tmp_path / f"{side}.jsonl", **{f"{side}-q": f"{side}-d"}) for side in SIDES]
    splits = load_splits(*paths)
    assert isinstance(splits, Splits)
    return splits


def test_given_files_share_corpus_and_queries(tmp_path: Path) -> None:
    splits = splits_of(tmp_path)
    assert splits.by == "given"
    assert splits.groups.tolist() == [0, 1, 2]
    assert splits.train.corpus.texts == ("train-d", "none", "dev-d", "test-d")
    for number, part in enumerate(splits):
        assert part.corpus is splits.train.corpus
        assert part.queries is splits.train.queries
        assert part.qrels.queries.tolist() == [number]
        assert part.qrels.relevance.tolist() == [1, 0]


def test_folder_with_three_sides_is_taken_as_split(tmp_path: Path) -> None:
    splits = load_splits(folder(tmp_path / "b", *SIDES))
    assert isinstance(splits, Splits)
    assert [part.qrels.queries.tolist() for part in splits] == [[0], [1], [2]]


@pytest.mark.parametrize("side", SIDES)
def test_folder_with_one_side_is_to_be_split(tmp_path: Path, side: str) -> None:
    data = load_splits(folder(tmp_path / "b", side))
    assert isinstance(data, Dataset)
    assert len(data.qrels) == 1
    assert data.notes == ({"dealt_anew": 1} if side != "train" else {})


@pytest.mark.parametrize("sides", [("train", "test"), ("train", "dev"), ("dev", "test")])
def test_of_two_sides_the_last_is_the_test(tmp_path: Path, sides: tuple[str, ...]) -> None:
    halves = load_splits(folder(tmp_path / "b", *sides))
    assert isinstance(halves, Halves)
    names = halves.train.queries.ids
    assert [[names[query] for query in part.qrels.queries.tolist()] for part in halves] == [[f"{side}-q"] for side in sides]
    assert halves.train.corpus is halves.test.corpus
    assert halves.train.notes == ({"dev_as_test": 1} if sides == ("train", "dev") else {})


def test_load_pools_what_was_split(tmp_path: Path) -> None:
    data = load(folder(tmp_path / "b", *SIDES))
    assert len(data.qrels) == 3
    assert data.notes == {"pooled_splits": 3}


def test_folder_given_for_a_side_stands_for_its_own_qrels(tmp_path: Path) -> None:
    path = folder(tmp_path / "b", *SIDES)
    splits = load_splits(path, path, path)
    assert isinstance(splits, Splits)
    assert [part.qrels.queries.tolist() for part in splits] == [[0], [1], [2]]
    mixed = load_splits(rows_file(tmp_path / "a.jsonl", q="document"), folder(tmp_path / "c", "train"), path)
    assert isinstance(mixed, Splits)
    assert [len(part.qrels) for part in mixed] == [2, 1, 1]
    assert mixed.train.corpus.texts == ("document", "none")


def test_one_file_is_a_dataset(tmp_path: Path) -> None:
    data = load_splits(rows_file(tmp_path / "a.jsonl", q="d"))
    assert isinstance(data, Dataset)
    assert len(data.qrels) == 2


def test_dev_alone_says_what_to_type(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", q="d")
    for train in (path, folder(tmp_path / "b", "train"), folder(tmp_path / "c", "test")):
        with pytest.raises(SettingError, match="--dev is given without --test") as caught:
            load_splits(train, dev=path)
        assert "--test" in caught.value.remedy


def test_test_alone_leaves_dev_to_be_dealt(tmp_path: Path) -> None:
    train, test = rows_file(tmp_path / "a.jsonl", q="d", r="e"), rows_file(tmp_path / "t.jsonl", s="f")
    halves = load_splits(train, test=test)
    assert isinstance(halves, Halves)
    assert [len(part.qrels.queries) for part in halves] == [2, 1]


@pytest.mark.parametrize(("missing", "there"), [("dev", ("train", "dev")), ("dev", SIDES), ("test", ("train", "test")), ("test", SIDES)])
def test_a_folder_s_own_side_stands_for_a_path_that_is_missing(tmp_path: Path, missing: str, there: tuple[str, ...]) -> None:
    given_side = "test" if missing == "dev" else "dev"
    path = rows_file(tmp_path / "a.jsonl", asked="document")
    splits = load_splits(folder(tmp_path / "b", *there), **{given_side: path})
    assert isinstance(splits, Splits)
    names = splits.queries.texts
    found = {side: [names[query] for query in part.qrels.queries.tolist()] for side, part in zip(SIDES, splits, strict=True)}
    assert found == {"train": ["train query"], missing: [f"{missing} query"], given_side: ["asked"]}


@pytest.mark.parametrize("there", [("train",), ("train", "test")])
def test_a_folder_without_a_dev_leaves_it_to_be_dealt(tmp_path: Path, there: tuple[str, ...]) -> None:
    halves = load_splits(folder(tmp_path / "b", *there), test=rows_file(tmp_path / "a.jsonl", asked="document"))
    assert isinstance(halves, Halves)
    assert [halves.train.queries.texts[query] for query in halves.train.qrels.queries.tolist()] == ["train query"]


def test_a_trec_folder_of_two_splits(tmp_path: Path) -> None:
    (tmp_path / "collection.tsv").write_text("d\tdocument\n")
    (tmp_path / "queries.tsv").write_text("one\tfirst\ntwo\tsecond\n")
    for name, query in (("qrels.train.txt", "one"), ("qrels.dev.txt", "two"), ("qrels.txt", "one")):
        (tmp_path / name).write_text(f"{query} 0 d 1\n")
    halves = load_splits(tmp_path)
    assert isinstance(halves, Halves)
    assert [part.qrels.queries.tolist() for part in halves] == [[0], [1]]
    assert halves.train.notes == {"dev_as_test": 1, "ignored_qrels": 1}


def test_ms_marco_s_small_dev_is_dev_and_other_qrels_of_a_trec_folder_are_counted(tmp_path: Path) -> None:
    (tmp_path / "collection.tsv").write_text("d\tdocument\n")
    for side, name in (("train", "one"), ("dev.small", "two")):
        (tmp_path / f"queries.{side}.tsv").write_text(f"{name}\t{name}\n")
        (tmp_path / f"qrels.{side}.tsv").write_text(f"{name}\t0\td\t1\n")
    (tmp_path / "qrels.dl19-passage.txt").write_text("three 0 d 1\n")
    halves = load_splits(tmp_path)
    assert isinstance(halves, Halves)
    assert [part.qrels.queries.tolist() for part in halves] == [[0], [1]]
    assert halves.train.notes == {"dev_as_test": 1, "ignored_qrels": 1}
    (tmp_path / "queries.dev.tsv").write_text("two\ttwo\nmore\tmore\n")
    assert load_splits(tmp_path)[1].queries.texts == ("one", "two", "more")


def test_a_side_without_a_positive_is_named(tmp_path: Path) -> None:
    path, without = rows_file(tmp_path / "a.jsonl", q="d"), rows_file(tmp_path / "empty.jsonl", r="")
    with pytest.raises(JudgmentError, match=r"empty\.jsonl: no document is judged relevant to any query in the dev split"):
        load_splits(path, without, path)


def test_an_id_that_two_folders_use_for_two_texts_is_refused(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "b", "train"), folder(tmp_path / "c", "train")
    (other / "corpus.jsonl").write_text('{"_id": "d", "text": "another"}\n')
    with pytest.raises(JudgmentError, match="'d' stands for two different texts"):
        load_splits(one, other, other)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).map(str.strip).filter(bool)
judged = st.lists(st.tuples(texts, texts, st.integers(0, 3), st.sampled_from(SIDES)), max_size=12)


columns = st.dictionaries(st.sampled_from(["topic", "text", "_id", "query", "metadata", "主题"]), texts, max_size=3)


@given(judged, st.sampled_from(["group", "query", "given"]), st.lists(columns, max_size=8), st.data())
def test_saved_splits_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, listed: list[tuple[str, str, int, str]], by: str, said: list[dict[str, str]],
    data: st.DataObject,
) -> None:  # fmt: skip
    builder = Builder()
    for query, document, grade, side in [*listed, *(("every side", "relevant", 1, side) for side in SIDES)]:
        builder.judge(builder.query(query), builder.document(document), grade, side)  # type: ignore[arg-type]
    for number, values in enumerate(said):
        builder.describe(number % len(builder.qrels("train").queries), values)
    whole = builder.dataset("train")
    count = len(whole.queries)
    splits = Splits(
        **{side: whole.with_qrels(builder.qrels(side)) for side in SIDES},
        by=by,  # type: ignore[arg-type]
        groups=np.array(data.draw(st.lists(st.integers(0, count), min_size=count, max_size=count)), dtype=np.int32),
        removed=tuple(data.draw(st.lists(st.integers(0, count - 1), unique=True))),
    )
    directory = tmp_path_factory.mktemp("saved")
    save_dataset(splits, directory)
    same(read_dataset(directory), splits)
    assert json.loads((directory / SPLIT).read_text(encoding="utf-8"))["by"] == by


def test_saved_splits_are_a_beir_folder_with_explicit_zeros(tmp_path: Path) -> None:
    splits = splits_of(tmp_path)
    save_dataset(splits, tmp_path / "dataset")
    lines = (tmp_path / "dataset" / "qrels" / "dev.tsv").read_text().splitlines()
    assert lines[0] == "query-id\tcorpus-id\tscore"
    assert [line.rpartition("\t")[2] for line in lines[1:]] == ["1", "0"]
    copy = load_splits(tmp_path / "dataset")
    assert isinstance(copy, Splits)
    assert copy.test.qrels.document.tolist() == splits.test.qrels.document.tolist()


BROKEN: dict[str, Callable[[Path], object]] = {
    "absent": Path.unlink,
    "no JSON": lambda path: path.write_text("{"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "a list": lambda path: path.write_text("[]"),
    "no groups": lambda path: path.write_text('{"by": "given", "removed": [], "notes": {"train": {}, "dev": {}, "test": {}}}'),
    "by nothing": lambda path: path.write_text('{"by": "chance"}'),
    "groups of another": lambda path: path.write_text('{"by": "given", "groups": {"x": 1}, "removed": [], "notes": {}}'),
    "notes null": lambda path: path.write_text(path.read_text().replace('"notes": {', '"notes": null, "more": {')),
    "group huge": lambda path: path.write_text(path.read_text().replace(": 0", ": 99999999999")),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\xfa"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_changed_directory_is_refused(tmp_path: Path, name: str) -> None:
    save_dataset(splits_of(tmp_path), tmp_path / "dataset")
    BROKEN[name](tmp_path / "dataset" / SPLIT)
    with pytest.raises(FormatError, match=SPLIT) as caught:
        read_dataset(tmp_path / "dataset")
    assert caught.value.remedy


def test_directory_without_its_qrels_is_refused(tmp_path: Path) -> None:
    save_dataset(splits_of(tmp_path), tmp_path / "dataset")
    (tmp_path / "dataset" / "qrels" / "dev.tsv").unlink()
    with pytest.raises(HomingError, match="dev"):
        read_dataset(tmp_path / "dataset")


def test_real_data_round_trip(shared: Path, tmp_path: Path) -> None:
    path = shared / "zh-cli"
    splits = load_splits(path / "train.json", path / "dev.json", path / "test.json")
    assert isinstance(splits, Splits)
    assert [len(part.qrels.queries) for part in splits] == [3445, 498, 986]
    save_dataset(splits, tmp_path / "dataset")
    same(read_dataset(tmp_path / "dataset"), splits)
