"""Instructions tried on the base, a pool's nDCG@10, bare queries, and a set outside the domain."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from homing.data import Dataset
from homing.encoders.model import Model
from homing.encoders.prompted import prompted
from homing.errors import FormatError, InputError
from homing.general import NANO, NANO_SETS, measure, open_sets, standard_library
from homing.instructing import TASKS, prompts, read_tasks, takes_instructions, try_instructions
from homing.loading import load
from homing.measures.evaluations import Interval
from homing.reporting.asides import sentences
from homing.sample import Sample
from homing.verdicts.context import Context, General, Instructions


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> Model:
    return Model(tiny_model, max_length=48, name="base")


@pytest.fixture
def data(made: Path) -> Dataset:
    return load(made)


def test_a_pools_ndcg_is_pytrec_evals(base: Model, data: Dataset) -> None:
    pool = Sample.whole(data)
    found = pool.ndcg(base)
    queries = base.encode([data.queries.texts[query] for query in pool.queries.tolist()], "query")
    documents = base.encode(data.corpus.texts, "document")
    scores = queries @ documents.T
    run = {f"q{row}": {f"d{at}": float(score) for at, score in enumerate(each)} for row, each in enumerate(scores)}
    judged: dict[str, dict[str, int]] = {}
    for row, query in enumerate(pool.queries.tolist()):
        of = data.qrels.of(np.array([query]))
        judged[f"q{row}"] = dict(zip([f"d{at}" for at in of.document.tolist()], of.relevance.tolist(), strict=True))
    wanted = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut_10"}).evaluate(run)
    assert np.allclose(found, [wanted[f"q{row}"]["ndcg_cut_10"] for row in range(len(found))], atol=1e-9)


def test_a_sample_holds_what_its_queries_need(data: Dataset) -> None:
    pool = Sample.drawn(data, 5, 60, 3)
    assert len(pool.queries) == 5
    assert len(pool.documents) == 60
    assert set(data.qrels.of(pool.queries).document.tolist()) <= set(pool.documents.tolist())
    assert np.array_equal(pool.documents, Sample.drawn(data, 5, 60, 3).documents)


def test_the_own_prompt_comes_first_and_each_once(base: Model) -> None:
    tried = prompts(base, (TASKS[0], "Find the thing"))
    assert tried[:2] == [base.prompts["query"], ""]
    assert len(set(tried)) == len(tried) == len(TASKS) + 2
    assert "Instruct: Find the thing\nQuery:" in tried


def test_the_base_is_asked_as_it_does_best(base: Model, data: Dataset) -> None:
    found = try_instructions(base, data, ("Find the thing",))
    assert found.own == base.prompts["query"]
    for each in found.tried:
        alone = Sample.drawn(data, 200, 2000, 42).ndcg(Model(base.source, query_prompt=each.prompt, max_length=48)).mean()
        assert each.ndcg == pytest.approx(float(alone), abs=1e-9)
    assert max(found.tried, key=lambda each: each.ndcg).prompt == found.chosen


def test_only_a_model_of_instructions_takes_them(tiny_model: Path) -> None:
    assert takes_instructions(Model(tiny_model))
    assert not takes_instructions(Model(tiny_model, query_prompt="query: "))
    assert not takes_instructions(Model(tiny_model, query_prompt=""))


def test_another_prompt_is_another_digest_and_the_model_stays(base: Model) -> None:
    bare = prompted(base, "")
    assert base.prompts["query"].startswith("Instruct: ")
    assert (bare.prompts["query"], bare.prompts["document"]) == ("", base.prompts["document"])
    assert bare.digest_of("query") != base.digest_of("query")
    assert bare.digest_of("document") == base.digest_of("document")
    assert np.array_equal(bare.encode(["a text"], "query"), Model(base.source, query_prompt="", max_length=48).encode(["a text"], "query"))


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"])
def test_a_file_of_instructions_that_says_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tasks.txt").write_bytes(content)
    with pytest.raises(FormatError, match="instructions"):
        read_tasks(tmp_path / "tasks.txt")
    (tmp_path / "tasks.txt").write_text('[{"query": "Is hail covered?"}]')
    with pytest.raises(FormatError, match="hardly instructions"):
        read_tasks(tmp_path / "tasks.txt")


def test_a_set_is_made_of_the_standard_library(base: Model) -> None:
    data = standard_library()
    assert 200 <= len(data.qrels.queries) <= 300
    assert len(data.qrels) == len(data.qrels.queries)
    tuned = prompted(base, "")
    tuned.name = "tuned"
    found = measure("made", data, [base, tuned], 200, 1)
    assert found.values.keys() == {"base", "tuned"}
    assert found.difference.value == pytest.approx(found.values["tuned"] - found.values["base"])
    assert found.difference.low <= found.difference.value <= found.difference.high
    assert measure("made", data, [base, base], 200, 1).difference == Interval(0.0, 0.0, 0.0)
    few = measure("few", data.with_qrels(data.qrels.of(data.qrels.queries[:5])), [base, base], 200, 1)
    assert np.isnan([few.difference.low, few.difference.high]).all()  # five queries that fell a little would be sure of it


def test_the_users_own_set_and_none(data: Dataset) -> None:
    assert [name for name, _ in open_sets("far/away.json", data)] == ["away"]
    assert list(open_sets("none", None)) == []
    assert [name for name, _ in open_sets(None, None)] == ["standard-library"]


def test_nano_beir_is_read_as_its_hub_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        "corpus": [{"_id": "d1", "text": "one"}, {"_id": "d2", "text": "two"}, {"_id": "d3", "text": " "}],
        "queries": [{"_id": "q1", "text": "which?"}],
        "qrels": [{"query-id": "q1", "corpus-id": "d2"}, {"query-id": "q1", "corpus-id": "d3"}],
    }
    asked = []

    def load_dataset(name: str, part: str, split: str) -> list[dict[str, str]]:
        asked.append((name, part, split))
        return rows[part]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    sets = dict(open_sets(NANO, None))
    assert tuple(sets) == NANO_SETS
    assert sets["NanoMSMARCO"].corpus.texts == ("one", "two")
    assert sets["NanoMSMARCO"].qrels.document.tolist() == [1]
    assert ("sentence-transformers/NanoBEIR-en", "qrels", "NanoMSMARCO") in asked


def test_nano_beir_out_of_reach_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **keywords: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=unreachable))
    with pytest.raises(InputError, match="HF_ENDPOINT"):
        list(open_sets(NANO, None))


def test_names_of_nano_beir_are_those_of_sentence_transformers() -> None:
    from sentence_transformers.sentence_transformer.evaluation import nano_beir

    assert {f"Nano{name}" for name in nano_beir.DATASET_NAME_TO_HUMAN_READABLE.values()} == set(NANO_SETS)


def test_a_context_survives_json_and_is_said() -> None:
    import json

    from homing.formats.evaluation import _plain
    from homing.verdicts.context import Forecast, LearningCurve, Point, Reindexing, Seeds, Shortened, Tried

    nan = float("nan")
    context = Context(
        Instructions(9, 80, (Tried("own", 0.1), Tried("", 0.2)), ""),
        Seeds((42, 43), {"nDCG@10": (0.5, 0.6)}, {"nDCG@10": 0.07}, {"nDCG@10": Interval(0.1, 0.0, 0.2)}),
        LearningCurve((Point(1.0, 10, {"AP": Interval(0.1)}),), (Forecast("AP", 2.0, Interval(0.0, nan, nan), False),)),
        (General("far", 5, 6, {"base": 0.4, "tuned": 0.3}, Interval(-0.1, -0.2, 0.0)),),
        Reindexing(1_000_000, 200_000_000, 10_000.0),
        3,
        shortened=(Shortened(32, Interval(0.1), Interval(0.25), Interval(-0.05, -0.1, 0.01)),),
    )
    again = Context.of(json.loads(json.dumps(_plain(context.plain()), allow_nan=False)))
    assert again.seeds == context.seeds
    assert again.instructions == context.instructions
    assert again.general == context.general
    assert again.reindexing == context.reindexing
    assert again.shortened[0].difference == Interval(-0.05, -0.1, 0.01)
    assert again.curve is not None
    assert np.isnan(again.curve.forecasts[0].gain.low)
    said = " ".join(sentences(again))
    for words in (
        "'' does best, 0.2000 against 0.1000",
        "seed 42",
        "cannot be told",
        "far (5 queries)",
        "3 tuned models",
        "their first 32 numbers nDCG@10 0.2500 (-0.0500 [-0.1000, +0.0100]).",
    ):
        assert words in said
    assert sentences(Context()) == ()
