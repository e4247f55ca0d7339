"""Columns of the user's own: from a query's record in any format to the slices of a verdict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homing
from homing.builder import Builder, _Column
from homing.checking import check
from homing.converting import FOLDERS, TARGETS, WITH_COLUMNS, convert
from homing.data import Dataset, Splits
from homing.errors import FormatError, SettingError
from homing.loading import load, load_splits, read_dataset, save_dataset
from homing.splitting import freeze
from homing.verdicts.slices import columns_of
from test_run import homing_run
from tiny import made_records

SAID = {
    "topic": "billing",
    "priority": 2,
    "urgent": True,
    "score": 0.5,
    "empty": " ",
    "nothing": None,
    "tags": ["a"],
    "metadata": {"队": "甲"},
}
TOLD = {"topic": "billing", "priority": "2", "urgent": "true", "score": "0.5", "队": "甲"}
RECORDS = {
    "candidates": {"query": "q", "found": [{"content": "d", "is_relevant": True}]},
    "rows": {"anchor": "q", "positive": "d", "negative_1": "other"},
    "pairs": {"query": "q", "content": "d", "is_relevant": 1},
    "ms-swift": {"query": "q", "response": "d", "rejected_response": ["other"]},
    "tevatron": {"query_id": "7", "query": "q", "positive_passages": [{"docid": "1", "text": "d"}], "negative_passages": []},
}


def columns(data: Dataset) -> dict[str, list[str]]:
    return {name: list(values) for name, values in data.queries.columns.items()}


@pytest.mark.parametrize("format", RECORDS)
def test_each_format_of_records_has_columns(format: str, tmp_path: Path) -> None:
    plain = tmp_path / "plain.jsonl"
    plain.write_text(json.dumps(RECORDS[format]) + "\n")
    assert columns(load(plain, format)) == {}
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({**RECORDS[format], **SAID}, ensure_ascii=False) + "\n")
    assert columns(load(path)) == {name: [value] for name, value in sorted(TOLD.items())}


def test_columns_of_tables_and_folders(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("query,positive,Topic\nq,d,billing\np,e,\n")
    assert columns(load(tmp_path / "data.csv")) == {"topic": ["billing", ""]}
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "document", "topic": "of a document"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "query", "topic": "billing", "metadata": {"source": "web"}}\n')
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    assert columns(load(tmp_path)) == {"source": ["web"], "topic": ["billing"]}


def test_half_a_character_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps({**RECORDS["rows"], "topic": "\ud800"}) + "\n")
    with pytest.raises(FormatError, match="half a character"):
        load(tmp_path / "data.jsonl")


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["a", "b", "c"])), max_size=30))
def test_the_first_value_of_a_query_stays_and_others_are_counted(said: list[tuple[int, str]]) -> None:
    builder = Builder()
    for number in range(10):
        builder.judge(builder.query(f"query {number}"), builder.document("d"), 1)
    first: dict[int, str] = {}
    for query, value in said:
        builder.describe(query, {"topic": value})
        first.setdefault(query, value)
    data = builder.dataset()
    assert data.queries.columns.get("topic", ("",) * 10) == tuple(first.get(number, "") for number in range(10))
    assert data.notes.get("other_values", 0) == sum(value != first[query] for query, value in said)


def test_what_tells_queries_apart_or_is_a_text_is_no_column() -> None:
    builder = Builder()
    for number in range(_Column.MOST + 1):
        query = builder.query(f"query {number}")
        builder.judge(query, builder.document("d"), 1)
        said = {"id": f"n{number}", "half": f"n{number // 2}", "answer": "x" * (_Column.LONGEST + (number == 7))}
        builder.describe(query, said)
    assert set(builder.dataset().queries.columns) == {"half"}


def test_converting_keeps_columns_or_says_that_it_does_not(splits: Splits, tmp_path: Path) -> None:
    for to in TARGETS:
        out = tmp_path / to / "data" if to in FOLDERS else tmp_path / f"{to}.{'json' if to == 'llamaindex' else 'parquet'}"
        made = convert(splits, to, out)
        assert made.left_out.get("columns of the queries", 0) == (0 if to in WITH_COLUMNS else 1), to
        if to in WITH_COLUMNS:
            found = load(out).queries
            own = dict(zip(splits.queries.texts, splits.queries.columns["topic"], strict=True))
            assert dict(zip(found.texts, found.columns["topic"], strict=True)) == own


def records(of: str, *, seed: int = 0) -> list[dict[str, object]]:
    return [{**record, of: f"{of} {number % 2}"} for number, record in enumerate(made_records(40, seed=seed))]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    path = tmp_path_factory.mktemp("made") / "made.json"
    path.write_text(json.dumps(records("topic")))
    return homing.split(load(path))


def test_a_frozen_test_keeps_its_columns_beside_new_ones(splits: Splits, tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text(json.dumps([*records("source", seed=3), *records("topic")[:5]]))
    new = load(tmp_path / "new.json")
    found = freeze(new, splits)
    topic, source = (dict(zip(found.queries.texts, found.queries.columns[name], strict=True)) for name in ("topic", "source"))
    old = dict(zip(splits.queries.texts, splits.queries.columns["topic"], strict=True))
    assert all(topic[text] == value for text, value in old.items())
    assert {source[text] for text in old} == {""}
    assert {source[record["query"]] for record in made_records(40, seed=3)} == {"source 0", "source 1"}  # type: ignore[index]


def test_a_wrong_name_is_told_the_right_ones(splits: Splits, tmp_path: Path) -> None:
    assert columns_of(splits.queries, " topic ,") == {"topic": splits.queries.columns["topic"]}
    with pytest.raises(SettingError, match="topic") as caught:
        columns_of(splits.queries, "topic,subject")
    assert caught.value.got == "subject"
    assert "columns of the queries (different values): topic (2)" in str(check(splits))
    save_dataset(splits, tmp_path / "dataset")
    code, printed = homing_run("evaluate", tmp_path / "dataset", "--model", "nowhere", "--slice-by", "subject")
    assert code == 2
    assert "topic" in printed  # before the model is looked for


def test_slices_reach_metrics_terminal_and_report(splits: Splits, tiny_model: Path, tmp_path: Path) -> None:
    """A second model that knows nothing of one topic is worse there, and the slice says so."""
    save_dataset(splits, tmp_path / "dataset")
    said = read_dataset(tmp_path / "dataset")
    assert said.queries.columns == splits.queries.columns
    shutil.copytree(tiny_model, tmp_path / "other")
    arguments = ["--model", tiny_model, "--model", tmp_path / "other", "--max-length", "48", "--resamples", "100", "--slice-by", "topic"]
    code, printed = homing_run("evaluate", tmp_path / "dataset", *arguments, "--out", tmp_path / "evaluation")
    assert code == 0, printed
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    cut = {each["label"]: each["queries"] for each in metrics["verdict"]["slices"] if each["by"] == "topic"}
    test = [splits.queries.columns["topic"][query] for query in sorted(splits.test.qrels.positives)]
    assert cut == {label: test.count(label) for label in set(test) if test.count(label) >= 5}
    assert cut
    assert "By the data's own columns" in printed
    assert all(f"\n  topic {label} ({queries}): nDCG@10 " in printed for label, queries in cut.items())
    code, printed = homing_run("report", tmp_path / "evaluation", "--dataset", tmp_path / "dataset", "--out", tmp_path / "report.html")
    assert code == 0, printed
    page = (tmp_path / "report.html").read_text()
    assert all(label in page for label in cut)  # the evaluation remembers what it was cut by
    homing_run("report", tmp_path / "evaluation", "--dataset", tmp_path / "dataset", "--out", tmp_path / "bare.html", "--no-texts")
    assert not any(label in (tmp_path / "bare.html").read_text() for label in (*cut, "topic"))


def test_given_splits_have_columns(tmp_path: Path) -> None:
    paths = [tmp_path / f"{side}.json" for side in ("train", "dev", "test")]
    for number, path in enumerate(paths):
        path.write_text(json.dumps(records("topic", seed=number)))
    found = load_splits(*paths)
    assert isinstance(found, Splits)
    assert len(found.queries.columns["topic"]) == len(found.queries) == 120
