"""Teachers: what they say against a naive count, what is asked twice (nothing), what is refused, and that a student follows."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder
from transformers import Qwen3Config, Qwen3ForSequenceClassification

import homing
from homing import Mining, Model, Training
from homing.cli import main
from homing.errors import FormatError, HomingError, ModelError, SettingError, TrainingError
from homing.loading import read_dataset
from homing.losses import distillation
from homing.runs.recipe import Recipe
from homing.training import crossencoder
from homing.training import teacher as teachers
from homing.training.objective import TEMPERATURE
from homing.training.teacher import EncoderTeacher, ScoreTeacher, ask_cross_encoder, kind_of, open_teacher, pairs, read_scores
from tiny import made_data, tiny_qwen3

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A tiny random cross-encoder in the directory layout of a reranker: a config, weights and a tokenizer."""
    directory = tmp_path_factory.mktemp("cross") / "encoder"
    config = Qwen3Config(**{**json.loads((tiny_model / "config.json").read_text()), "num_labels": 1, "pad_token_id": 0})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        Qwen3ForSequenceClassification(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, directory / name)
    return directory


class Killed(BaseException):
    """Not an Exception: nothing in between may catch it."""


class Counting:
    """An encoder whose embeddings are made of the texts' bytes; it remembers what it was asked and dies when it is told to."""

    name, digest = "counting", "counting-1"

    def __init__(self, texts_to_live: int = 10**9, norm: float = 1.0) -> None:
        self.asked: list[tuple[str, str]] = []
        self.texts_to_live, self.norm = texts_to_live, norm

    def encode(self, texts: Sequence[str], kind: str) -> NDArray[np.float32]:
        if len(self.asked) + len(texts) > self.texts_to_live:
            raise Killed
        self.asked += [(kind, text) for text in texts]
        found = np.array([[len(text), sum(text.encode()), len(kind), ord(text[0])] for text in texts], dtype=np.float32)
        return self.norm * found / np.linalg.norm(found, axis=1, keepdims=True)


def _everything(mined: homing.Mined) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """All queries and all documents that a batch can hold, by a plain walk through rows and pool."""
    queries, documents = set(mined.query.tolist()), set(mined.positive.tolist())
    documents |= {document for row in mined.negative.tolist() for document in row if document >= 0}
    assert mined.pool is not None
    documents |= {d for q, d in zip(mined.pool.query.tolist(), mined.pool.document.tolist(), strict=True) if q in queries}
    return np.array(sorted(queries), dtype=np.int32), np.array(sorted(documents), dtype=np.int32)


def test_an_encoder_teaches_its_own_scores_and_embeddings(mined: homing.Mined, minilm: Path, tmp_path: Path) -> None:
    model = Model(minilm, max_length=32)
    teacher = EncoderTeacher(model, mined, tmp_path)
    queries, documents = _everything(mined)
    draw = np.random.default_rng(0)
    queries, documents = draw.permutation(queries)[:7], draw.permutation(documents)[:11]
    taught = teacher.teach(queries, documents, CPU)
    wanted = np.stack([model.encode([mined.train.queries.texts[query]], "query")[0] for query in queries])
    found = np.stack([model.encode([mined.train.corpus.texts[document]], "document")[0] for document in documents])
    assert taught.queries is not None
    assert taught.documents is not None
    assert np.allclose(taught.queries, wanted, atol=1e-5)
    assert np.allclose(taught.documents, found, atol=1e-5)
    assert np.allclose(taught.scores, [[query @ document for document in found] for query in wanted], atol=1e-5)
    assert taught.scores.shape == (7, 11)


def test_only_texts_that_training_touches_are_asked_about_and_each_once(mined: homing.Mined, tmp_path: Path) -> None:
    encoder = Counting()
    teacher = EncoderTeacher(encoder, mined, tmp_path)
    queries, documents = _everything(mined)
    assert len(encoder.asked) == len(set(encoder.asked)) == len(queries) + len(documents)
    assert not teacher.teach(queries, documents, CPU).scores.isnan().any()
    strange = np.setdiff1d(np.arange(len(mined.train.corpus)), documents)[:1].astype(np.int32)
    assert len(strange), "the corpus holds dev's documents too"
    with pytest.raises(TrainingError, match="not asked"):
        teacher.teach(queries, strange, CPU)


def test_with_fixed_documents_the_whole_corpus_has_scores_and_no_embedding_is_taught(mined: homing.Mined, tmp_path: Path) -> None:
    encoder = Counting()
    teacher = EncoderTeacher(encoder, mined, tmp_path, fixed_documents=True)
    taught = teacher.teach(mined.query[:3], np.arange(len(mined.train.corpus), dtype=np.int32), CPU)
    assert taught.scores.shape == (len(mined.query[:3]), len(mined.train.corpus))
    assert taught.queries is None
    assert taught.documents is None
    documents = encoder.encode(mined.train.corpus.texts, "document")
    queries = encoder.encode([mined.train.queries.texts[query] for query in mined.query[:3]], "query")
    assert np.allclose(taught.scores, queries @ documents.T, atol=1e-6)


def test_an_encoder_that_does_not_normalise_is_brought_into_the_range_of_cosines(mined: homing.Mined, tmp_path: Path) -> None:
    queries, documents = _everything(mined)
    plain = EncoderTeacher(Counting(), mined, tmp_path / "plain").teach(queries, documents, CPU).scores
    long = EncoderTeacher(Counting(norm=9.0), mined, tmp_path / "long").teach(queries, documents, CPU).scores
    assert torch.allclose(plain, long, atol=1e-5)


@pytest.mark.parametrize("lives", [0, 3, 4, 30, 77])
def test_a_killed_teacher_is_asked_nothing_twice(lives: int, mined: homing.Mined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "TEXTS_A_SHARD", 4)
    whole = Counting()
    expected = EncoderTeacher(whole, mined, tmp_path / "whole")
    first, second, third = Counting(lives), Counting(), Counting()
    with pytest.raises(Killed):
        EncoderTeacher(first, mined, tmp_path / "killed")
    resumed = EncoderTeacher(second, mined, tmp_path / "killed")
    assert first.asked + second.asked == whole.asked
    again = EncoderTeacher(third, mined, tmp_path / "killed")
    assert third.asked == []
    assert resumed.digest == again.digest == expected.digest
    queries, documents = _everything(mined)
    for teacher in (resumed, again):
        assert torch.equal(teacher.teach(queries, documents, CPU).scores, expected.teach(queries, documents, CPU).scores)


@pytest.mark.parametrize("left", [0, 5, 128, 130, 128 + 16 * 3, 128 + 16 * 3 + 7])
def test_a_row_that_was_cut_short_is_asked_again(left: int, mined: homing.Mined, tmp_path: Path) -> None:
    expected = EncoderTeacher(Counting(), mined, tmp_path)
    file = next(tmp_path.glob("document-*.npy"))
    assert file.stat().st_size == 128 + 16 * len(np.load(file))
    file.write_bytes(file.read_bytes()[:left])
    encoder = Counting()
    mended = EncoderTeacher(encoder, mined, tmp_path)
    queries, documents = _everything(mined)
    assert len(encoder.asked) == len(documents) - max(0, left - 128) // 16
    assert torch.equal(mended.teach(queries, documents, CPU).scores, expected.teach(queries, documents, CPU).scores)


def test_other_texts_or_another_model_are_another_teacher(mined: homing.Mined, tmp_path: Path) -> None:
    other = Counting()
    other.digest = "counting-2"  # type: ignore[misc]
    fewer = homing.mine(mined.train.with_qrels(mined.train.qrels.of(mined.train.qrels.queries[:-1])), Mining(negatives=2))
    made = [
        EncoderTeacher(Counting(), mined, tmp_path),
        EncoderTeacher(other, mined, tmp_path),
        EncoderTeacher(Counting(), fewer, tmp_path),
    ]
    assert len({teacher.digest for teacher in made}) == 3


def test_embeddings_that_are_not_finite_are_refused(mined: homing.Mined, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not finite\.\nGive another model"):
        EncoderTeacher(Counting(norm=float("nan")), mined, tmp_path)


@given(st.data())
def test_known_scores_are_taught_and_nothing_else(data: st.DataObject) -> None:
    positions = st.integers(0, 12)
    told = data.draw(st.dictionaries(st.tuples(positions, positions), st.floats(-1, 1, width=32), min_size=1, max_size=40))
    told |= {(13, 0): 0.0, (13, 1): 1.0}  # something to tell apart
    order = data.draw(st.permutations(sorted(told)))
    query, document = np.array(order, dtype=np.int32).T
    teacher = ScoreTeacher(query, document, np.array([told[pair] for pair in order]))
    queries, documents = (np.array(data.draw(st.lists(positions, unique=True, min_size=1)), dtype=np.int32) for _ in range(2))
    scores = teacher.teach(queries, documents, CPU).scores.numpy()
    expected = [[np.float32(told.get((query, document), np.nan)) for document in documents.tolist()] for query in queries.tolist()]
    assert np.array_equal(scores, np.array(expected, dtype=np.float32), equal_nan=True)


def test_logits_are_divided_by_the_typical_spread_of_a_query() -> None:
    told = {0: [8.0, 2.0, -4.0], 1: [100.0, 101.0], 2: [5.0, 5.0, 5.0], 3: [-3.0, 1.0], 4: [7.0]}
    query = np.array([query for query, scores in told.items() for _ in scores], dtype=np.int32)
    document = np.concatenate([np.arange(len(scores)) for scores in told.values()]).astype(np.int32)
    taught = ScoreTeacher(query, document, np.concatenate([*told.values()])).teach(
        np.arange(5, dtype=np.int32), np.arange(3, dtype=np.int32), CPU
    )
    typical = 4.0  # of the spreads 12, 1 and 4; the query without a spread doesn't count
    for row, scores in told.items():
        assert taught.scores[row, : len(scores)].tolist() == pytest.approx([score / typical for score in scores])
    # The softmax doesn't see an offset; a query whose candidates are alike is not stretched.
    kl = distillation(
        torch.zeros(1, 3), taught.scores[2:3], torch.ones(1, 3, dtype=torch.bool), 0.05, 0.05
    )  # fmt: skip
    assert kl.item() == pytest.approx(0.0, abs=1e-6)


def test_cosines_and_probabilities_are_used_as_they_are() -> None:
    scores = np.array([0.9, 0.2, -0.3], dtype=np.float32)
    taught = ScoreTeacher(np.zeros(3, np.int32), np.arange(3, dtype=np.int32), scores).teach(
        np.zeros(1, np.int32), np.arange(3, dtype=np.int32), CPU
    )
    assert np.array_equal(taught.scores[0], scores)


def test_a_teacher_that_tells_nothing_apart_is_refused() -> None:
    with pytest.raises(FormatError, match="apart"):
        ScoreTeacher(np.arange(3, dtype=np.int32), np.arange(3, dtype=np.int32), np.array([1.0, 2.0, 3.0]))


def _rows(mined: homing.Mined, texts: bool) -> list[dict[str, str | float]]:
    """A score for every candidate in training, made from its place."""
    data = mined.train
    query_name, document_name = ("query", "content") if texts else ("query_id", "document_id")
    queries, documents = (data.queries.texts, data.corpus.texts) if texts else (data.queries.ids, data.corpus.ids)
    return [
        {query_name: queries[query], document_name: documents[document], "score": ((query * 31 + document * 17) % 100) / 100}
        for query, document in zip(*(column.tolist() for column in pairs(mined)), strict=True)
    ]


def _parquet(rows: list[dict[str, str | float]], path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def _parquet_of_capitals(rows: list[dict[str, str | float]], path: Path) -> None:
    _parquet([{name.upper(): value for name, value in row.items()} for row in rows], path)


def _jsonl(rows: list[dict[str, str | float]], path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _tsv(rows: list[dict[str, str | float]], path: Path) -> None:
    path.write_text("\n".join("\t".join(map(str, line)) for line in [list(rows[0]), *(row.values() for row in rows)]), encoding="utf-8")


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("write", [_parquet, _parquet_of_capitals, _jsonl, _tsv])
def test_a_file_of_scores_is_read_by_ids_and_by_texts(
    write: Callable[[list[dict[str, str | float]], Path], None], texts: bool, mined: homing.Mined, tmp_path: Path
) -> None:
    write(_rows(mined, texts), tmp_path / "scores")
    said: list[str] = []
    teacher = read_scores(tmp_path / "scores", mined, say=said.append)
    candidates = set(zip(*(column.tolist() for column in pairs(mined)), strict=True))
    queries, documents = _everything(mined)
    scores = teacher.teach(queries, documents, CPU).scores
    for row, query in enumerate(queries.tolist()):
        for column, document in enumerate(documents.tolist()):
            expected = ((query * 31 + document * 17) % 100) / 100 if (query, document) in candidates else float("nan")
            assert scores[row, column].item() == pytest.approx(expected, nan_ok=True)
    assert len(said) == 1
    assert f"scores of {len(candidates):,} of the {len(candidates):,} candidates" in said[0]
    assert f"{len(queries)} of {len(queries)} queries" in said[0]


def test_what_a_file_leaves_open_is_counted(mined: homing.Mined, tmp_path: Path) -> None:
    rows = _rows(mined, texts=False)
    first = [row for row in rows if row["query_id"] == rows[0]["query_id"]]
    assert len(first) > 2
    again = {**first[0], "score": 0.123}
    _jsonl([*first, {**first[0], "document_id": "nowhere"}, again], tmp_path / "scores.jsonl")
    said: list[str] = []
    teacher = read_scores(tmp_path / "scores.jsonl", mined, say=said.append)
    assert f"scores of {len(first)} of the {len(rows):,} candidates" in said[0]
    assert "for 1 of" in said[0]
    assert "1 pairs of texts that the data doesn't have" in said[0]
    assert "1 pairs that occur again" in said[0]
    query, document = (column[:1] for column in pairs(mined))
    assert teacher.teach(query, document, CPU).scores.item() == pytest.approx(0.123)


GOOD = '{"query_id": "q", "document_id": "d", "score": 1}\n'


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        ('{"query_id": "q", "document_id": "d"}\n', "line 1", "'score' is missing"),
        ('{"query_id": "q", "score": 1}\n', "line 1", "expected 'document_id' or 'content'"),
        (GOOD + '{"query_id": "q", "document_id": "d", "score": null}\n', "line 2", "not a finite number"),
        (GOOD + '{"query_id": "q", "document_id": "d", "score": "high"}\n', "line 2", "got 'high'"),
        (GOOD + '{"query_id": "q", "document_id": "d", "score": NaN}\n', "line 2", "not a finite number"),
        (GOOD + '{"query_id": "q", "document_id": "d", "score": true}\n', "line 2", "not a finite number"),
        (GOOD + '{"query_id": ["q"], "document_id": "d", "score": 1}\n', "line 2", "a list of 1"),
        (GOOD + '{"query_id": "q", \n', "line 2", "broken JSON"),
        ("query_id\tdocument_id\tscore\nq\td\n", "line 2", "2 cells"),
        ("", "scores", "empty"),
        (GOOD, "scores", "no candidate of a training query"),
        ("PAR1 and nothing more", "scores", "cannot be read"),
    ],
)
def test_a_bad_file_of_scores_is_one_error_with_its_line(content: str, where: str, what: str, mined: homing.Mined, tmp_path: Path) -> None:
    (tmp_path / "scores").write_text(content, encoding="utf-8")
    with pytest.raises(FormatError, match=re.escape(what)) as found:
        read_scores(tmp_path / "scores", mined)
    assert where in found.value.where
    assert str(tmp_path / "scores") in found.value.where
    assert found.value.remedy


@pytest.mark.parametrize(
    ("column", "what"),
    [(pa.array([1.0, None]), "scores row 2: the score is not"), (pa.array([b"1", b"2"]), "column score: .*wrong type.*binary")],
)
def test_a_bad_parquet_file_is_one_error_with_its_row(column: pa.Array, what: str, mined: homing.Mined, tmp_path: Path) -> None:
    pq.write_table(pa.table({"query_id": ["q", "q"], "document_id": ["d", "e"], "score": column}), tmp_path / "scores")
    with pytest.raises(FormatError) as found:
        read_scores(tmp_path / "scores", mined)
    assert re.search(what, str(found.value))


def test_a_cross_encoder_teaches_its_logits(cross_encoder: Path, mined: homing.Mined, tmp_path: Path) -> None:
    teacher = ask_cross_encoder(cross_encoder, mined, tmp_path)
    model = CrossEncoder(str(cross_encoder), device="cpu")
    data, candidates = mined.train, list(zip(*(column.tolist() for column in pairs(mined)), strict=True))
    logits = {
        (query, document): float(
            model.predict([(data.queries.texts[query], data.corpus.texts[document])], activation_fn=torch.nn.Identity())[0]
        )
        for query, document in candidates
    }
    spreads = []
    for query in sorted({query for query, _ in candidates}):
        own = [score for (asked, _), score in logits.items() if asked == query]
        spreads.append(max(own) - min(own))
    scale = 1.0 if max(map(abs, logits.values())) <= 1 else float(np.median(spreads))
    queries, documents = _everything(mined)
    scores = teacher.teach(queries, documents, CPU).scores.numpy()
    expected = np.array([[logits.get((q, d), np.nan) / scale for d in documents.tolist()] for q in queries.tolist()])
    assert np.allclose(scores, expected, atol=1e-4, equal_nan=True)
    assert len(np.unique(scores[~np.isnan(scores)])) > 50


def test_a_killed_cross_encoder_is_asked_nothing_twice(
    cross_encoder: Path, mined: homing.Mined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossencoder, "PAIRS_A_SHARD", 16)
    predict, answered = CrossEncoder.predict, []
    pairs_to_live = 40

    def counted(self: CrossEncoder, inputs: list[tuple[str, str]], **others: object) -> object:
        if len(answered) + len(inputs) > pairs_to_live:
            raise Killed
        answered.extend(inputs)
        return predict(self, inputs, **others)

    monkeypatch.setattr(CrossEncoder, "predict", counted)
    with pytest.raises(Killed):
        ask_cross_encoder(cross_encoder, mined, tmp_path)
    assert len(answered) == 32
    pairs_to_live = 10**9
    teacher = ask_cross_encoder(cross_encoder, mined, tmp_path)
    assert len(answered) == len(set(answered)) == len(pairs(mined)[0])
    monkeypatch.setattr(crossencoder, "_load", lambda *arguments: pytest.fail("what is answered needs no model"))
    assert ask_cross_encoder(cross_encoder, mined, tmp_path).digest == teacher.digest


def test_a_classifier_is_no_cross_encoder(cross_encoder: Path, mined: homing.Mined, tmp_path: Path) -> None:
    config = Qwen3Config.from_pretrained(cross_encoder, num_labels=3)
    Qwen3ForSequenceClassification(config).save_pretrained(tmp_path / "three")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(cross_encoder / name, tmp_path / "three" / name)
    with pytest.raises(ModelError, match="3 labels"):
        ask_cross_encoder(tmp_path / "three", mined, tmp_path)


def test_a_source_is_known_by_what_it_holds(cross_encoder: Path, tiny_model: Path, minilm: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.tsv").write_text("query_id\tdocument_id\tscore\n", encoding="utf-8")
    CrossEncoder(str(cross_encoder), device="cpu").save_pretrained(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "modules.json").is_file()  # as an embedding model has it
    assert kind_of(tmp_path / "scores.tsv") == "scores"
    assert kind_of(cross_encoder) == kind_of(tmp_path / "saved") == "cross-encoder"
    assert kind_of(tiny_model) == kind_of(minilm) == "encoder"


@pytest.mark.parametrize(
    ("files", "kind", "what"),
    [
        (None, SettingError, "neither a file nor a directory"),
        ({}, ModelError, "no teacher"),
        ({"config.json": '{"architectures": ["Qwen3ForCausalLM"]}'}, ModelError, "no teacher"),
        ({"config.json": '{"architectures": '}, ModelError, "cannot be read as JSON"),
    ],
)
def test_a_source_that_is_no_teacher_is_one_error(
    files: dict[str, str] | None, kind: type[HomingError], what: str, mined: homing.Mined, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    if files is not None:
        source.mkdir()
        for name, content in files.items():
            (source / name).write_text(content, encoding="utf-8")
    with pytest.raises(kind, match=what) as found:
        open_teacher(source, mined, tmp_path / "answers")
    assert str(source) in found.value.where
    assert found.value.remedy


def _divergence(asking: Model, answering: Model, mined: homing.Mined, teacher: EncoderTeacher | ScoreTeacher, temperature: float) -> float:
    """KL(teacher || student) over each training query's candidates, its mean; `asking` embeds queries, `answering` documents."""
    total, data = [], mined.train
    query, document = pairs(mined)
    for asked in np.unique(query).tolist():
        own = document[query == asked]
        wanted = teacher.teach(np.array([asked], dtype=np.int32), own, CPU).scores[0] / temperature
        documents = answering.encode([data.corpus.texts[each] for each in own.tolist()])
        given = torch.from_numpy(documents @ asking.encode([data.queries.texts[asked]], "query")[0]) / temperature
        total.append(float(torch.nn.functional.kl_div(given.log_softmax(0), wanted.log_softmax(0), log_target=True, reduction="sum")))
    return float(np.mean(total))


@pytest.fixture(scope="module")
def student(tiny_model: Path, splits: homing.Splits, mined: homing.Mined, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """A model that was trained with a teacher, or without one (once)."""
    base = Model(tiny_model, max_length=64)
    alone: dict[str, Model] = {}

    def train(what: str, teacher: Any) -> Model:
        if teacher is None and what in alone:
            return alone[what]
        settings = Training(train=what, tuning="lora", epochs=4, batch_size=8, evaluations=1, learning_rate=3e-3, scale=1.0, distill=4.0)  # type: ignore[arg-type]
        out = tmp_path_factory.mktemp("student")
        tuned = homing.merge(base, homing.train(base, mined, splits.dev, settings, out=out / "adapter", teacher=teacher), out=out / "model")
        if teacher is None:
            alone[what] = tuned
        return tuned

    return train


@pytest.mark.parametrize(("kind", "train"), [("encoder", "both"), ("cross-encoder", "both"), ("encoder", "queries"), ("larger", "queries")])
def test_a_student_with_a_teacher_comes_nearer_to_it(
    kind: str, train: str, tiny_model: Path, cross_encoder: Path, mined: homing.Mined, tmp_path: Path, student: Callable[..., Model],
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    if kind == "encoder":  # of the student's dimension
        source = tiny_qwen3(tmp_path / "teacher", seed=5)
    else:
        source = cross_encoder if kind == "cross-encoder" else request.getfixturevalue("minilm")
    teacher = open_teacher(source, mined, tmp_path / "answers", fixed_documents=train == "queries")
    found = {}
    for name, by in (("alone", None), ("taught", teacher)):
        tuned = student(train, by)
        found[name] = _divergence(tuned, tuned if train == "both" else Model(tiny_model, max_length=64), mined, teacher, TEMPERATURE)
    assert found["taught"] < 0.9 * found["alone"]


def test_a_run_is_taught_and_looks_at_what_is_forgotten(
    tiny_model: Path, cross_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, away, out = made_data(tmp_path / "near"), made_data(tmp_path / "far", seed=1), tmp_path / "run"
    given = [
        "run",
        str(data),
        "--model",
        str(tiny_model),
        "--out",
        str(out),
        "--epochs",
        "1",
        "--evaluations",
        "1",
        "--learning-rate",
        "3e-3",
    ]
    main([*given, "--teacher", str(cross_encoder), "--general", str(away)])
    recipe = Recipe.read(out / "recipe.toml")
    assert (recipe.teacher, recipe.general) == (str(cross_encoder), str(away))
    manifest = json.loads((out / "manifest.json").read_text())
    assert {"teacher", "general"} <= manifest["stages"]["train"]["depends"].keys() & manifest["inputs"].keys()
    assert list((out / "training" / "teacher").glob("scores-*.npy"))
    looks = [json.loads(line) for line in (out / "training" / "metrics.jsonl").read_text().splitlines()]
    assert [look["general_nDCG@10"] for look in looks if "dev_nDCG@10" in look]

    kept = (out / "adapter" / "homing.json").stat().st_mtime_ns
    main(["run", str(out / "recipe.toml")])
    assert (out / "adapter" / "homing.json").stat().st_mtime_ns == kept
    _jsonl(_rows(homing.mine(read_dataset(out / "dataset").train, recipe.mining), texts=True), tmp_path / "scores.jsonl")
    main(["run", str(out / "recipe.toml"), "--teacher", str(tmp_path / "scores.jsonl")])
    again = json.loads((out / "manifest.json").read_text())
    assert again["stages"]["mine"] == manifest["stages"]["mine"]
    assert again["stages"]["train"]["digest"] != manifest["stages"]["train"]["digest"]

    recipe_as_it_was, manifest_as_it_was = ((out / name).read_bytes() for name in ("recipe.toml", "manifest.json"))
    (tmp_path / "no-column.jsonl").write_text('{"query": "a", "content": "b"}\n', encoding="utf-8")
    (tmp_path / "strange.jsonl").write_text('{"query": "a", "content": "b", "score": 1}\n', encoding="utf-8")
    shutil.copytree(tiny_model, tmp_path / "no-weights")
    (tmp_path / "no-weights" / "model.safetensors").unlink()
    for teacher, said in {
        "no-column.jsonl": "'score' is missing", "strange.jsonl": "scores no candidate of a training query",
        "no-weights": "no weights", "http://127.0.0.1:9/v1": "127.0.0.1:9",
    }.items():  # fmt: skip
        source = teacher if "://" in teacher else str(tmp_path / teacher)
        with pytest.raises(SystemExit):
            main(["run", str(out / "recipe.toml"), "--teacher", source])
        assert said in capsys.readouterr().err
        assert (out / "recipe.toml").read_bytes() == recipe_as_it_was
        assert (out / "manifest.json").read_bytes() == manifest_as_it_was
    with pytest.raises(SystemExit):
        main(["run", str(out / "recipe.toml"), "--baseline", "http://127.0.0.1:9/v1#m"])
    assert (out / "recipe.toml").read_bytes() == recipe_as_it_was


def test_the_verb_train_takes_both(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = made_data(tmp_path / "near")
    dataset, mined, out = (str(tmp_path / name) for name in ("dataset", "mined", "out/adapter"))
    main(["split", str(data), "--out", dataset])
    main(["mine", dataset, "--out", mined])
    given = ["train", mined, "--dataset", dataset, "--model", str(tiny_model), "--out", out, "--epochs", "1", "--learning-rate", "3e-3"]
    teacher = tiny_qwen3(tmp_path / "teacher", seed=5)
    main([*given, "--teacher", str(teacher), "--general", str(made_data(tmp_path / "far", seed=1))])
    assert list((tmp_path / "out" / "training" / "teacher").glob("document-*.npy"))
    assert "general_nDCG@10" in (tmp_path / "out" / "training" / "metrics.jsonl").read_text()


@pytest.mark.parametrize(("flag", "content"), [("--teacher", None), ("--general", None), ("--general", "nothing")])
def test_a_teacher_or_general_data_that_is_not_there_ends_a_run_before_it_starts(
    flag: str, content: str | None, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, missing = made_data(tmp_path / "near"), tmp_path / "missing"
    if content is not None:
        missing.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        main(["run", str(data), "--model", str(tiny_model), "--out", str(tmp_path / "run"), flag, str(missing)])
    assert left.value.code == 2
    assert str(missing) in capsys.readouterr().err
    assert not (tmp_path / "run" / "dataset").exists()
