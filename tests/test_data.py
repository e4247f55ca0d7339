"""The vocabulary of the data, artefacts that are whole or not there, and settings out of range."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from homing.builder import Builder
from homing.cli.verbs import EVERY
from homing.data import Corpus, Dataset, Qrels, Queries, text_id
from homing.digests import file_digest, remembered
from homing.errors import InputError, JudgmentError, RunError, SettingError
from homing.manifest import replace_directory, write_json
from homing.runs.recipe import Recipe
from homing.settings import Encoding, Evaluating, Mining, Splitting, Training


def test_equal_texts_are_one_and_judgments_are_joined() -> None:
    builder = Builder()
    query = builder.query(" a question ")
    assert builder.query("a question") == query
    document = builder.document("an answer")
    assert builder.document("an answer\n") == document
    other = builder.document("another")
    builder.judge(query, other, 0)
    builder.judge(query, document, 0)
    builder.judge(query, document, 1)
    data = builder.dataset()
    assert data.corpus.texts == ("an answer", "another")
    assert data.qrels.document.tolist() == [other, document]  # in list order
    assert data.qrels.relevance.tolist() == [0, 1]
    assert data.notes["judged_both_ways"] == 1
    assert data.qrels.positives == {query: frozenset({document})}
    assert data.corpus.ids[0] == text_id("d", "an answer")
    counted = "Dataset(Corpus(2 texts), Queries(1 texts), Qrels(2 judgments of 1 queries, 1 relevant))"
    assert repr(data) == counted  # in a notebook, which would print a million texts


def test_texts_that_differ_in_white_space_or_composition_alone_are_one() -> None:
    """Or what one file calls relevant would be a negative where another file has other line breaks."""
    builder = Builder()
    asked = [builder.query(text) for text in ("how  is caf\u00e9 made?", "how is cafe\u0301\u3000made?", "How is caf\u00e9 made?")]
    told = [builder.document(text) for text in ("ground,\r\nthen brewed", "ground,\n\nthen\xa0brewed", "ground, then brew ed")]
    for query, document, relevance in zip(asked, told, (1, 0, 1), strict=True):
        builder.judge(query, document, relevance)
    data = builder.dataset()
    assert data.queries.texts == ("how  is caf\u00e9 made?", "How is caf\u00e9 made?")
    assert data.corpus.texts == ("ground,\r\nthen brewed", "ground, then brew ed")
    assert data.corpus.ids[0] == text_id("d", data.corpus.texts[0])
    assert data.qrels.positives == {0: frozenset({0}), 1: frozenset({1})}
    assert data.notes == {"equal_queries": 1, "equal_documents": 1, "repeated_judgments": 1, "judged_both_ways": 1}


def test_one_id_for_two_texts_is_an_error() -> None:
    builder = Builder()
    builder.judge(builder.query("q", "1"), builder.document("a", "same"), 1)
    builder.document("b", "same")
    with pytest.raises(JudgmentError, match="two different texts"):
        builder.dataset()


def test_no_positive_at_all_is_an_error() -> None:
    builder = Builder()
    builder.judge(builder.query("q"), builder.document("a"), 0)
    with pytest.raises(JudgmentError, match="no document is judged relevant"):
        builder.dataset()


def test_qrels_are_grouped_by_query_and_keep_list_order() -> None:
    qrels = Qrels(np.array([2, 0, 2, 0]), np.array([7, 1, 3, 9]), np.array([1, 0, 0, 1]))  # type: ignore[arg-type]
    lists = [(query, documents.tolist(), relevance.tolist()) for query, documents, relevance in qrels.lists()]
    assert lists == [(0, [1, 9], [0, 1]), (2, [7, 3], [1, 0])]
    assert next(iter(qrels.of(np.array([2])).lists()))[1].tolist() == [7, 3]
    assert list(qrels.of(np.array([], dtype=np.int32)).lists()) == []


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "artefact"
    with replace_directory(target) as fresh:
        (fresh / "a").write_text("1")
        assert not target.exists()

    def broken() -> None:
        with replace_directory(target) as fresh:
            (fresh / "a").write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert (target / "a").read_text() == "1"
    with replace_directory(target) as fresh:
        (fresh / "b").write_text("3")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]


def test_a_directory_that_another_process_writes_is_an_error_and_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(name: str) -> None:
        with replace_directory(tmp_path / "artefact") as fresh:
            (fresh / name).write_text(name)

    with replace_directory(tmp_path / "artefact") as fresh:
        (fresh / "first").write_text("1")
        with pytest.raises(RunError, match="another process is writing there"):
            write("second")
        assert os.listdir(fresh) == ["first"]
    assert os.listdir(tmp_path / "artefact") == ["first"]
    left = tmp_path / ".artefact.partial" / "inner"
    left.mkdir(parents=True)  # by a process that was killed
    (left / "file").write_text("x")
    write("third")
    assert os.listdir(tmp_path / "artefact") == ["third"]
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOSYS, "no locks on this file system")))
    write("fourth")
    assert os.listdir(tmp_path / "artefact") == ["fourth"]


def test_a_directory_that_somebody_else_filled_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, linked, file = tmp_path / "mine", tmp_path / "linked", tmp_path / "file"
    mine.mkdir()
    linked.symlink_to(mine)
    file.write_text("x")

    def write(path: Path) -> None:
        with replace_directory(path, "mark") as fresh:
            (fresh / "mark").write_text("1")

    write(mine)  # an empty one is no loss
    write(linked)  # a link leads to where it leads, and stays
    assert linked.is_symlink()
    assert (mine / "mark").is_file()
    (mine / "mark").unlink()
    (mine / "precious").write_text("x")
    with pytest.raises(RunError, match="holds something else") as error:
        write(mine)
    assert error.value.got == "precious"
    with pytest.raises(RunError, match="file stands"):
        write(file)
    monkeypatch.chdir(mine)
    with pytest.raises(RunError, match="runs in"):
        write(Path())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "linked", "mine", "precious"]


def test_json_with_nan_is_refused_and_digests_follow_content(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    write_json(tmp_path / "a.json", {"x": 1})
    first = file_digest(tmp_path)
    write_json(tmp_path / "a.json", {"x": 2})
    assert file_digest(tmp_path) != first


def test_the_digest_of_files_that_nobody_touched_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMING_CACHE", str(tmp_path / "cache"))
    made, files = list[int](), [tmp_path / "a", tmp_path / "b"]

    def digest() -> str:
        made.append(len(made))
        return f"digest {len(made)}"

    for file in files:
        file.write_bytes(b"one")
    before = files[0].stat()
    assert [remembered("any", files, digest) for _ in range(2)] == ["digest 1", "digest 2"]  # small
    monkeypatch.setattr("homing.digests.LARGE", 1)
    assert [remembered("any", files, digest) for _ in range(2)] == ["digest 3", "digest 4"]  # touched just now
    monkeypatch.setattr("homing.digests.SETTLED", -60.0)
    assert [remembered("any", files, digest) for _ in range(2)] == ["digest 5", "digest 5"]
    assert remembered("another", files, digest) == "digest 6"
    assert remembered("any", files[:1], digest) == "digest 7"
    files[0].write_bytes(b"two")
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))  # as large and as old as before
    assert [remembered("any", files, digest) for _ in range(2)] == ["digest 8", "digest 8"]
    monkeypatch.setenv("HOMING_CACHE", "off")
    assert [remembered("any", files, digest) for _ in range(2)] == ["digest 9", "digest 10"]


@pytest.mark.parametrize(
    ("make", "flag"),
    [
        (lambda: Splitting(dev=0.0), "--dev-share"),
        (lambda: Splitting(dev=0.5, test=0.5), "--test-share"),
        (lambda: Splitting(by="row"), "--split-by"),  # type: ignore[arg-type]
        (lambda: Mining(negatives=-1), "--negatives"),
        (lambda: Mining(negatives=1, hard=2), "--hard-negatives"),
        (lambda: Training(rank=0), "--lora-rank"),
        (lambda: Training(learning_rate=2.0), "--learning-rate"),
        (lambda: Training(learning_rate=float("nan")), "--learning-rate"),
        (lambda: Training(temperature=0.0), "--temperature"),
        (lambda: Training(warmup=1.0), "--warmup"),
        (lambda: Evaluating(resamples=1), "--resamples"),
        (lambda: Encoding(pooling="first"), "--pooling"),
        (lambda: Encoding(max_length=2), "--max-length"),
    ],
)
def test_a_setting_out_of_range_names_its_flag(make: object, flag: str) -> None:
    with pytest.raises(SettingError, match=flag):
        make()  # type: ignore[operator]


def test_a_recipe_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    recipe = Recipe("data.json", "model", encoding=Encoding(query_prompt="问：\n"), training=Training(learning_rate=1e-4, in_batch=False))
    recipe.write(str(tmp_path / "recipe.toml"))
    assert Recipe.read(str(tmp_path / "recipe.toml")) == recipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [("data = 'd'", "lacks"), ("data = 'd'\nmodel = 'm'\nspeed = 1", "unknown"), ("not toml", "cannot be read"),
     ("data = 'd'\nmodel = 'm'\n[training]\nlr = 1", "unknown"), ("data = 'd'\nmodel = 'm'\ntraining = 3", "training is no table"),
     ("data = 'd'\nmodel = 'm'\njudgments = [3]", r"judgments\[0\] is not what belongs there")],
)  # fmt: skip
def test_what_is_no_recipe_is_named(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(ValueError, match=expected):
        Recipe.read(tmp_path / "recipe.toml")


@pytest.mark.parametrize("section", EVERY.values())
def test_every_setting_has_help_in_python_too(section: type) -> None:
    for each in fields(section):
        assert each.metadata["help"]
        assert f"`{each.name}`: {each.metadata['help']}\n" in str(section.__doc__)


WRONG: dict[str, Callable[[], object]] = {
    "1 ids, 1 of them different, of 2 texts": lambda: Corpus(("d1",), ("a", "b")),
    "2 ids, 1 of them different, of 2 texts": lambda: Corpus(("d1", "d1"), ("a", "b")),
    "'abc'": lambda: Corpus("abc", "abc"),  # type: ignore[arg-type]
    "(1, 2)": lambda: Corpus(("d1", "d2"), (1, 2)),  # type: ignore[arg-type]
    "1 values; expected 2": lambda: Queries(("q1", "q2"), ("a", "b"), {"topic": ("x",)}),
    "query int64 (2,), document int64 (1,)": lambda: qrels([0, 1], [0], [1]),
    "document float64 (1,)": lambda: qrels([0], [0.5], [1]),
    "there is no document 2; got positions from 0 to 2; expected 0 to 1": lambda: made(qrels([0, 1], [0, 2], [1, 1])),
    "there is no query -1; got positions from -1 to 0": lambda: made(qrels([-1, 0], [0, 1], [1, 1])),
    "qrels is not what belongs there": lambda: made([(0, 0, 1)]),  # type: ignore[arg-type]
}


def qrels(*columns: list[Any]) -> Qrels:
    return Qrels(*map(np.array, columns))


def made(judgments: Qrels) -> Dataset:
    return Dataset(Corpus(("d1", "d2"), ("a", "b")), Queries(("q1", "q2"), ("c", "d")), judgments)


@pytest.mark.parametrize("said", WRONG)
def test_data_made_by_hand_is_refused_where_its_parts_do_not_fit(said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        WRONG[said]()


def test_data_made_by_hand_of_lists_is_that_of_tuples() -> None:
    assert Corpus(["d1"], ["a"]).texts == ("a",)  # type: ignore[arg-type]
    assert made(qrels([], [], [])).qrels.queries.tolist() == []
    assert made(qrels([0], [1], [True])).qrels.relevance.tolist() == [1]
