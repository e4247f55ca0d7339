"""A corpus by itself beside pairs: read, mined from, searched; and wrong files are one clear error."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

import homing
from homing.data import Splits
from homing.errors import FormatError
from homing.formats.mined import read_mined
from homing.loading import load_splits, read_dataset
from homing.runs.pipeline import run
from homing.runs.recipe import Recipe
from homing.settings import Evaluating, Mining, Training
from tiny import made_records


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["query", "pos"], *([f"what is word{n}", f"word{n} is a thing"] for n in range(12))])
    return path


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_a_corpus_beside_pairs_is_mined_from(pairs: Path, tmp_path: Path, kind: str) -> None:
    texts = [f"word{n % 12} elsewhere {n}" for n in range(40)]
    path = tmp_path / f"corpus.{kind}"
    if kind == "txt":
        texts[0] += "\f on the\u2028same line"
        path = tmp_path / "corpus.txt.gz"
        path.write_bytes(gzip.compress("\r\n".join(["\ufeff" + texts[0], *texts[1:], "", "word1 is a thing\r\n"]).encode()))
    elif kind == "jsonl":
        path.write_text(
            "".join(
                json.dumps({"_id": f"x{n}", "title": text.split()[0], "text": text.split(" ", 1)[1]}) + "\n" for n, text in enumerate(texts)
            )
        )
    else:
        path.write_text("content\n" + "\n".join([*texts, '" "']))
    data = homing.load(pairs, corpus=path)
    assert set(texts) < set(data.corpus.texts)
    assert len(data.corpus) == 52  # the pair's own document is not there twice
    assert data.notes.get("empty_documents", 0) == (kind == "txt")
    mined = homing.mine(data)
    found = {data.corpus.texts[document] for document in mined.negative[mined.source == 1].tolist()}
    assert found & set(texts)


def test_splits_share_the_corpus(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("one\ntwo\n")
    splits = load_splits(pairs, pairs, pairs, corpus=tmp_path / "more.txt")
    assert isinstance(splits, Splits)
    assert all("two" in part.corpus.texts for part in splits)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.jsonl", b'{"body": "x"}\n', "no text"),
        ("c.txt", b"one\n\xff\xfe\xff", "line 2: the file is not UTF-8; got the byte 0xff at offset 4"),
        ("c.txt.gz", gzip.compress(b"one\n" * 100, mtime=0)[:-9], "cannot be read"),
        ("c.jsonl", b'{"text": 3}\n', "wrong type"),
        ("none.txt", None, "cannot be read"),
    ],
)
def test_a_wrong_corpus_is_one_error(pairs: Path, tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=said) as caught:
        homing.load(pairs, corpus=tmp_path / name)
    assert name in str(caught.value)


def test_a_corpus_may_be_named_in_chinese(pairs: Path, tmp_path: Path) -> None:
    table = tmp_path / "corpus.csv"
    table.write_text("標題,正文,标签\n退保,打电话,保全\n,三天,理赔\n", encoding="utf-8")
    assert homing.load(pairs, corpus=table).corpus.texts[-2:] == ("退保 打电话", "三天")


def test_pairs_alone_run_from_end_to_end(tiny_model: Path, tmp_path: Path) -> None:
    records = made_records(40, 2, seed=1)
    rows = [(record["query"], each["content"]) for record in records for key in ("content_private", "content_public")
            for each in record[key] if each["is_relevant"]]  # fmt: skip
    path = tmp_path / "pairs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["query", "pos"], *rows])
    (tmp_path / "more.txt").write_text("\n".join(f"another document {n} about thing {n % 7}" for n in range(60)), encoding="utf-8")
    said: list[str] = []
    recipe = Recipe(
        data=str(path), corpus=str(tmp_path / "more.txt"), model=str(tiny_model), mining=Mining(negatives=2),
        training=Training(epochs=1, batch_size=8, evaluations=1, tuning="lora"), evaluating=Evaluating(resamples=100),
    )  # fmt: skip
    verdict = run(recipe, tmp_path / "run", said.append)
    assert verdict.outcome in ("gained", "lost", "mixed", "undecided")
    told = "\n".join(said)
    assert "the whole corpus is searched by base (dense)" in told
    assert "dense" in told
    mined = read_mined(tmp_path / "run" / "mined", read_dataset(tmp_path / "run" / "dataset").train)
    assert (mined.negative >= 0).all()
    assert not mined.judged.any()
    assert (tmp_path / "run" / "report.html").is_file()
