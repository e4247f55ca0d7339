"""Given splits: their groups are those that `split` would have made, and what leaks between them is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homing
from homing.builder import Builder
from homing.checking import leaks
from homing.data import SIDES, Splits, text_id
from homing.loading import load_splits, read_dataset, save_dataset
from homing.runs.rundir import STAGES
from homing.settings import Evaluating
from homing.ties import groups_of_given
from test_run import FLAGS, homing_run
from tiny import made_records

WORDS = ["amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "harbour"]


def partition(groups: np.ndarray, queries: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(queries[groups[queries] == group].tolist()) for group in np.unique(groups[queries])}


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12), st.integers(0, 1)), min_size=40, max_size=80),
    st.sampled_from(["group", "query"]),
)
def test_a_clean_split_that_is_given_has_the_groups_that_it_was_dealt_with(judged: list[tuple[int, int, int]], by: str) -> None:
    builder = Builder()
    for query, document, grade in judged:
        text = f"{WORDS[query % 8]} {'x' * (query // 8)} and the {WORDS[query * 3 % 8]} question {query // 2}"
        builder.judge(builder.query(text), builder.document(f"document {document}"), grade)
    try:
        data = builder.dataset()
        splits = homing.split(data, homing.Splitting(by=by))  # type: ignore[arg-type]
    except homing.HomingError:
        return
    groups = groups_of_given(list(splits), by)
    for side in splits:
        assert partition(groups, side.qrels.queries) == partition(splits.groups, side.qrels.queries)


def test_sides_that_leak_tie_nothing_within_themselves() -> None:
    """Two test queries that each share a document with one of train, and none with each other, stay apart; in one side they would not."""
    judged = (("one", "a", "test"), ("two", "b", "test"), ("three", "a", "train"), ("three", "b", "train"), ("four", "c", "dev"))
    builder = Builder()
    for query, document, side in judged:
        builder.judge(builder.query(query), builder.document(document), 1, side)  # type: ignore[arg-type]
        builder.judge(builder.query(query), builder.document(document), 1)
    pooled = builder.dataset()
    sides = [pooled.with_qrels(builder.qrels(side)) for side in SIDES]
    assert len(set(groups_of_given(sides, "group").tolist())) == 4
    assert len(set(groups_of_given([pooled], "group").tolist())) == 2
    assert len(set(groups_of_given([pooled], "query").tolist())) == 4


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Given sides; test holds a train query nearly as it is, and another one's relevant documents."""
    place = tmp_path_factory.mktemp("given")
    train, dev, test = made_records(24), made_records(8, seed=1), made_records(12, seed=2)
    test.append({**train[0], "query": f"{train[0]['query']}?", "content_private": made_records(1, seed=9)[0]["content_private"]})
    test.append({**made_records(1, seed=8)[0], "content_public": train[1]["content_public"] + train[1]["content_private"]})
    for name, records in zip(SIDES, (train, dev, test), strict=True):
        (place / f"{name}.json").write_text(json.dumps(records))
    return [place / f"{name}.json" for name in SIDES]


def test_what_leaks_into_a_given_test_stands_in_the_verdict(files: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    splits = load_splits(*files)
    assert isinstance(splits, Splits)
    save_dataset(splits, tmp_path / "dataset")
    arguments = ["evaluate", tmp_path / "dataset", "--model", tiny_model, "--max-length", "48", "--resamples", "100"]
    code, printed = homing_run(*arguments, "--out", tmp_path / "evaluation")
    assert code == 0, printed
    said = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert said["counts"]["test_groups"] == len(partition(splits.groups, splits.test.qrels.queries))
    note = next(each for each in said["verdict"]["notes"] if each.startswith("Test was given"))
    assert note.startswith("Test was given as it is. Train shares 0 of its 14 queries, 1 more in nearly the same words, and")
    assert "look better than they are" in " ".join(printed.split())
    code, printed = homing_run("report", tmp_path / "evaluation", "--dataset", tmp_path / "dataset", "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert note in page
    assert "测试集按给定的使用" in page


def test_who_evaluates_from_python_and_names_no_groups_has_those_of_the_split() -> None:
    builder = Builder()
    for topic in range(40):
        for query in (builder.query(text_id(person, str(topic))) for person in "ab"):
            builder.judge(query, builder.document(text_id("relevant", str(topic))), 1)
            builder.judge(query, builder.document(text_id("other", str(query))), 0)
    splits = homing.split(builder.dataset())
    (found,) = homing.evaluate([], splits.dev, splits.test, Evaluating(resamples=100))
    tested = splits.test.qrels.queries
    assert found.groups is not None
    assert partition(found.groups, np.arange(len(tested))) == partition(splits.groups[tested], np.arange(len(tested)))
    assert len(np.unique(found.groups)) == len(tested) // 2 > 6


def test_a_given_split_that_is_clean_says_nothing(files: list[Path], tmp_path: Path) -> None:
    from homing.runs.concluding import _leaked

    (tmp_path / "test.json").write_text(json.dumps(made_records(12, seed=2)))
    splits = load_splits(files[0], files[1], tmp_path / "test.json")
    assert isinstance(splits, Splits)
    assert list(_leaked(splits)) == []
    both = replace(splits, dev=splits.test)
    assert [each.split(":")[0] for each in _leaked(both)] == [f"{len(splits.test.qrels.queries)} test queries are in dev, 0 nearly so"]


def test_a_run_with_train_and_test_alone(files: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    """Test stays as it came, dev comes from train without a leak, and what test has of train stands in the verdict."""
    train = json.loads(files[0].read_text()) + made_records(24, seed=5)
    (tmp_path / "train.json").write_text(json.dumps(train))
    code, printed = homing_run(
        "run", tmp_path / "train.json", "--test", files[2], "--model", tiny_model, "--out", tmp_path / "run", *FLAGS, "--split-by", "query"
    )
    assert code == 0, printed
    assert "test is taken as it is given" in printed
    splits = read_dataset(tmp_path / "run" / "dataset")
    of_test = json.loads(files[2].read_text())
    asked = {splits.queries.texts[query] for query in splits.test.qrels.queries.tolist()}
    assert asked == {record["query"] for record in of_test}
    found = {(leak.first, leak.second): leak for leak in leaks(splits)}
    assert (found["train", "dev"].queries, found["train", "dev"].near_queries) == (0, 0)
    assert len(splits.dev.qrels.queries) == splits.dev.notes["dev_from_train"] > 0
    said = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert any(note.startswith("Test was given as it is") for note in said["verdict"]["notes"])
    assert homing_run("run", tmp_path / "run" / "recipe.toml")[1].count("kept") == len(STAGES)
    code, printed = homing_run("check", tmp_path / "train.json", "--test", files[2], "--dev", files[1])
    assert code == 0
    code, printed = homing_run("split", tmp_path / "train.json", "--dev", files[1], "--out", tmp_path / "dataset")
    assert code == 2
    assert "Give the file as --test" in " ".join(printed.split())
