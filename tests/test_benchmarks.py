"""The comparisons beside this project: every arm runs on made data, and what they are measured by agrees with others' formulas."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sklearn.metrics import average_precision_score, f1_score, ndcg_score

import audit
import homing
import load
import quality
import serving
import training_speed
from examination import Examination, Held, Pairs, Size
from homing import Model
from homing.data import Splits, pair_keys
from homing.formats import beir
from homing.loading import load_splits
from homing.serving import Server
from homing.settings import Serving
from peers import blog, fastapi_handler, st
from peers.clock import Clock, Schedule
from peers.rows import Rows
from tiny import QUERY_PROMPT, made_records

PROMPTS = {"query": QUERY_PROMPT, "document": ""}
SIZE = Size(pool=60, queries=20, lists=20, dev_lists=12, tokens=10_000)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one set, `made`, as the shared ones are: a BEIR folder with candidate lists of the same splits."""
    place = tmp_path_factory.mktemp("sets") / "made"
    place.mkdir()
    records = {"train": made_records(40, seed=1), "dev": made_records(16, seed=2), "test": made_records(20, seed=3)}
    for side, some in records.items():
        (place / f"{side}.json").write_text(json.dumps(some), encoding="utf-8")
    splits = load_splits(place / "train.json", place / "dev.json", place / "test.json")
    assert isinstance(splits, Splits)
    beir.write(splits, place)
    return place.parent


@pytest.fixture
def rows(data: Path) -> Rows:
    return Rows.of(homing.mine(homing.load(data / "made" / "train.json")))


def fresh(path: Path, cap: int = 64) -> SentenceTransformer:
    model = SentenceTransformer(str(path), device="cpu")
    model.max_seq_length = cap
    return model


class Fixed:
    """An encoder whose embeddings of texts are drawn once."""

    def __init__(self, examination: Examination) -> None:
        generator = np.random.default_rng(0)
        self.of = {text: generator.normal(size=8).astype(np.float32) for text in [*examination.queries, *examination.documents]}

    def encode(self, texts: list[str], kind: str) -> np.ndarray:
        return np.stack([self.of[text] for text in texts])


@pytest.fixture
def examination(data: Path, tiny_model: Path) -> Examination:
    return Held.read(data / "made").examination(Model(tiny_model), "test", SIZE)


def test_an_examination_agrees_with_sklearn(examination: Examination) -> None:
    encoder: Any = Fixed(examination)
    found = examination.measure(encoder)
    queries, documents = encoder.encode(examination.queries, "query"), encoder.encode(examination.documents, "document")

    scores = queries[examination.asked] @ documents[examination.pool].T
    assert found["nDCG@10"] == pytest.approx(ndcg_score(examination.grades, scores, k=10), abs=1e-6)

    def of(pairs: Pairs) -> np.ndarray:
        return np.array([float(queries[q] @ documents[d]) for q, d in zip(pairs.query, pairs.document, strict=True)])

    test, dev = of(examination.judged_on), of(examination.chosen_on)
    assert found["AP"] == pytest.approx(average_precision_score(examination.judged_on.relevant, test), abs=1e-6)
    assert found["F1"] == pytest.approx(f1_score(examination.judged_on.relevant, test >= found["threshold"]), abs=1e-6)
    best = max(f1_score(examination.chosen_on.relevant, dev >= cut) for cut in dev)
    assert f1_score(examination.chosen_on.relevant, dev >= found["threshold"]) == pytest.approx(best)


def test_the_pool_holds_every_positive_of_the_asked_queries_and_nothing_twice(examination: Examination, data: Path) -> None:
    test = Held.read(data / "made").complete.test
    wanted = {test.queries.texts[q]: {test.corpus.texts[d] for d in ds} for q, ds in test.qrels.positives.items()}
    assert len(examination.pool) == SIZE.pool == len(set(examination.pool.tolist()))
    pool = [examination.documents[place] for place in examination.pool]
    for row, place in enumerate(examination.asked):
        assert {pool[column] for column in np.flatnonzero(examination.grades[row])} == wanted[examination.queries[place]]
    asked = {examination.queries[place] for place in examination.judged_on.query}
    assert asked <= set(wanted)
    assert not asked & {examination.queries[place] for place in examination.chosen_on.query}


def test_a_tokens_limit_takes_fewer_lists_and_the_same_pool_size(data: Path, tiny_model: Path, examination: Examination) -> None:
    small = Held.read(data / "made").examination(Model(tiny_model), "test", replace(SIZE, tokens=1000))
    assert len(small.judged_on.query) < len(examination.judged_on.query)
    assert len(small.pool) == SIZE.pool


@pytest.mark.parametrize("a_step", [0.3, 1.0, 7.0])
def test_a_schedule_ends_with_its_clock(a_step: float) -> None:
    now = [0.0]
    clock = Clock(60.0, lambda: now[0])
    now[0] = 10.0  # mining
    schedule = Schedule(clock)
    factors = []
    while not schedule.over:
        factors.append(schedule.factor)
        now[0] += a_step
        schedule.stepped()
    assert abs(clock.spent - 60.0) <= a_step / 2 + 1e-9
    assert factors[-1] < max(0.02, (a_step / 50.0) ** 2 * 3)
    assert max(factors) > 0.9
    highest = int(np.argmax(factors))
    assert np.all(np.diff(factors[highest:]) <= 0)
    assert np.all(np.diff(factors[: highest + 1]) >= 0)


def test_rows_keep_texts_together(rows: Rows, data: Path) -> None:
    records = {record["query"]: record for record in json.loads((data / "made" / "train.json").read_text())}
    assert len(rows) == 80  # two positives a query
    for number, query in enumerate(rows.query):
        labels = {each["content"]: each["is_relevant"] for part in ("content_private", "content_public") for each in records[query][part]}
        assert labels[rows.positive[number]] is True
        assert [labels[text] for text in rows.negatives[number]] == [False] * 3


def test_the_blogs_loss_is_info_nce_of_each_row() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(3, 5, generator=generator), dim=-1)
    documents = torch.nn.functional.normalize(torch.randn(12, 5, generator=generator), dim=-1)
    each = [
        -np.log(np.exp(float(queries[r] @ documents[r]) / 0.05) / sum(np.exp(float(queries[r] @ d) / 0.05) for d in documents))
        for r in range(3)
    ]
    assert float(blog.loss(queries, documents, 0.05)) == pytest.approx(np.mean(each), rel=1e-4)


def test_padding_to_the_cap_does_not_change_the_blogs_embeddings(tiny_model: Path, rows: Rows) -> None:
    with torch.no_grad():
        padded = blog.embed(fresh(tiny_model).eval(), rows.query[:5], PROMPTS["query"]).numpy()
    np.testing.assert_allclose(padded, Model(tiny_model, max_length=64).encode(rows.query[:5], "query"), atol=2e-5)


def test_mined_rows_hold_no_judged_positive_of_their_query(tiny_model: Path, rows: Rows) -> None:
    positives: dict[str, set[str]] = {}
    for query, positive in zip(rows.query, rows.positive, strict=True):
        positives.setdefault(query, set()).add(positive)
    with st.quiet():
        found = st.mine(fresh(tiny_model), rows, PROMPTS, st.Settings(1e-4, relative_margin=-0.5), 30.0, 0)
    assert (found.query, found.positive) == (rows.query, rows.positive)
    assert found.negatives != rows.negatives
    for query, negatives in zip(found.query, found.negatives, strict=True):
        assert len(set(negatives)) == 3
        assert not positives[query] & set(negatives)


@pytest.fixture
def bench(data: Path, tiny_model: Path) -> quality.Bench:
    return quality.Bench(data, tiny_model, minutes=0.03, max_length=64, size=SIZE)


@pytest.mark.parametrize("arm", list(quality.ARMS))
def test_every_arm_trains_on_its_clock_and_is_examined(arm: str, bench: quality.Bench) -> None:
    settings = quality.ARMS[arm].settings
    if arm.startswith("st-"):
        settings = replace(settings, batch=8, mini_batch=4)
    line = bench.line("made", arm, 0, settings)
    assert json.loads(json.dumps(line, allow_nan=False)) == line
    assert all(0 <= line[measure] <= 1 for measure in quality.MEASURES)
    assert line["evaluation_seconds"] > 0.01  # encoding counts
    if arm != "base":
        assert line["steps"] >= 1
        assert line["rows"] >= line["steps"]
        assert line["rate"] > 0
        assert line["seconds"] < 60


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_what_sentence_transformers_learns_is_in_what_is_kept(tuning: str, tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    model = fresh(tiny_model)
    before = model.encode(rows.positive[:4], normalize_embeddings=True)
    settings = st.Settings(1e-2, tuning=tuning, batch=8, mini_batch=0, mining_share=0.0)
    steps, seen = st.train(model, rows, PROMPTS, settings, Clock(2.0), 0, tmp_path)
    assert steps * 8 >= seen > 0
    model.save_pretrained(str(tmp_path / "kept"), create_model_card=False)
    after = Model(tmp_path / "kept", max_length=64).encode(rows.positive[:4])
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, model.encode(rows.positive[:4], normalize_embeddings=True), atol=2e-5)


def test_a_line_that_is_there_is_not_made_again(bench: quality.Bench, tmp_path: Path) -> None:
    for _ in range(2):
        bench.run(["made"], ["base"], [0, 1], tmp_path)
    (line,) = quality.lines(tmp_path / "quality.jsonl")
    assert (line["set"], line["arm"], line["seed"]) == ("made", "base", 0)
    replace(bench, max_length=32).run(["made"], ["base"], [0], tmp_path)
    assert len(quality.lines(tmp_path / "quality.jsonl")) == 2


def test_lines_of_several_writers_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: quality.append(path, {"number": number, "text": "x" * 5000}), range(100)))
    assert sorted(line["number"] for line in quality.lines(path)) == list(range(100))


def test_the_best_try_over_all_sets_together_is_chosen(bench: quality.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "ARMS", {"st-lora": quality.ARMS["st-lora"], "blog": quality.ARMS["blog"]})
    arm = quality.ARMS["st-lora"]
    for number, change in enumerate(arm.tries):
        for name, value in (("one", 0.5 + 0.01 * number), ("two", 0.9 if number == 1 else 0.5)):
            said = bench.what(name, "st-lora", 0, replace(arm.settings, **change), "dev")
            quality.append(tmp_path / "tuning.jsonl", {**said, "nDCG@10": value, "AP": value})
    quality.choose(["one"], tmp_path, bench)
    assert quality.chosen(tmp_path)["st-lora"]["settings"] == arm.tries[-1]
    quality.choose(["one", "two"], tmp_path, bench)
    assert quality.chosen(tmp_path)["st-lora"]["settings"] == arm.tries[1]
    quality.choose(["one", "two", "three"], tmp_path, bench)  # a set without its tries decides nothing
    assert quality.chosen(tmp_path)["st-lora"]["sets"] == ["one", "two"]
    assert set(quality.chosen(tmp_path)) == {"st-lora"}


def test_the_table_has_means_and_spreads(bench: quality.Bench, tmp_path: Path) -> None:
    line = bench.line("made", "base", 0, None)
    quality.append(tmp_path / "quality.jsonl", line)
    for seed, value in ((0, 0.25), (1, 0.75)):
        quality.append(tmp_path / "quality.jsonl", {**line, "arm": "blog", "seed": seed, "AP": value, "minutes": 3.0, "rate": 1e-4})
    text = quality.table(tmp_path)
    assert "3 minutes of training each" in text
    (row,) = [row for row in text.split("## made")[1].split("##")[0].splitlines() if row.startswith("| blog")]
    assert "| 2 |" in row
    assert "0.5000 [0.250, 0.750]" in row
    assert f"| base | {line['nDCG@10']:.4f} | {line['AP']:.4f}" in text.split("## All")[1]


@pytest.mark.parametrize("arm", list(training_speed.ARMS))
def test_every_step_is_timed(arm: str, data: Path, tiny_model: Path) -> None:
    line = training_speed.measure(arm, data / "made", tiny_model, 48, 1, 2)
    assert line["rows"] == 32
    assert line["seconds"] > 0
    assert 0 < line["tokens"] <= 32 * 5 * 48
    assert line["peak_bytes"] >= line["before_bytes"] > 1e8


def test_the_same_rows_are_drawn_for_every_arm(data: Path) -> None:
    mined = homing.mine(homing.load(data / "made" / "train.json"))
    some = training_speed.drawn(mined, 30)
    assert 30 <= len(some) <= 32
    queries, counts = np.unique(some.query, return_counts=True)
    assert counts.tolist() == [2] * len(queries)  # whole queries
    np.testing.assert_array_equal(training_speed.drawn(mined, 30).query, some.query)


def test_useful_arithmetic_is_that_of_distinct_unpadded_tokens(tiny_model: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = Model(tiny_model, max_length=48)
    text = "find the files of a directory and sort them by size"
    tokens, operations = training_speed.useful(model, [[("document", text)] * 3, [("document", text)]])
    length = int(model.tokenize([text], "document").lengths[0])
    assert tokens == 2 * length  # once a step

    lora = fresh(tiny_model, 48)
    training_speed.lora.attach(lora, 0, dropout=0.0)
    lora[0].model.set_attn_implementation("eager")  # whose products are counted one by one
    features = {"input_ids": torch.from_numpy(model.tokenize([text], "document")[0].astype(np.int64))[None]}
    features["attention_mask"] = torch.ones_like(features["input_ids"])
    with FlopCounterMode(display=False) as counter:
        lora(features)["sentence_embedding"].sum().backward()
    assert operations / 2 == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_the_table_of_speed_has_geometric_means() -> None:
    line = {
        "cap": 256, "seconds": 1.0, "tokens": 10, "operations": 5.0, "peak_bytes": 1e9, "matmul_rate": 10.0, "machine": "m", "threads": 1,
        "versions": {},
    }  # fmt: skip
    found = [
        {**line, "set": name, "arm": arm, "rows": rows}
        for name, arm, rows in (("a", "homing", 8), ("a", "blog", 2), ("b", "homing", 9), ("b", "blog", 9), ("b", "blog", 9))
    ]
    text = training_speed.table(found)
    assert "| 256 | blog | 2.00 x | 1.00 x | 1.00 x | 1.00 x |" in text
    assert "256 and 512" not in text
    assert "| a | 256 | homing | 8.00 | 10 | 50.0% | 1.00 |" in text
    longer = [{**each, "cap": 512, "rows": each["rows"] * (4 if each["arm"] == "homing" else 1), "matmul_rate": 20.0} for each in found]
    text = training_speed.table([*found, *longer])
    assert "| 512 | blog | 8.00 x | 4.00 x | 1.00 x | 1.00 x |" in text
    assert "| 256 and 512 | blog | 4.00 x | 1.00 x | 1.00 x | 1.00 x |" in text
    assert "| a | 512 | homing | 32.00 | 10 | 25.0% | 1.00 |" in text


def test_planted_negatives_leave_a_positive_and_every_arm_is_examined(
    data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "SHARED", data)
    monkeypatch.setattr(audit, "SIZE", SIZE)
    true, false, hidden = audit.planted(Held.read(data / "made").lists.train, 12, seed=0)
    assert len(hidden) == 6  # one of the two positives of every second query
    assert sorted(len(each) for each in false.qrels.positives.values()) == [1] * 6 + [2] * 6
    assert set(hidden.tolist()) <= set(pair_keys(true.qrels.query, true.qrels.document)[true.qrels.relevance > 0].tolist())
    common = ["--model", str(tiny_model), "--queries", "12", "--results", str(tmp_path), "--max-length", "64"]
    audit.main(["--find", "made", "--train", "made", "--arms", "planted, ignored", "all relabelled", *common])
    found = quality.lines(tmp_path / "audit.jsonl")
    assert [line["arm"] for line in found if "arm" in line] == ["planted, ignored", "all relabelled"]
    assert [line["positives"] for line in found if "arm" in line] == [18, 24]
    hit = np.random.default_rng(0).random(50) < 0.2
    assert audit.precision(hit, int(hit.sum()))["AP"] == pytest.approx(average_precision_score(hit, -np.arange(50)))
    capsys.readouterr()
    audit.main(["--table", "--results", str(tmp_path)])
    assert capsys.readouterr().out.count("| made |") == 6


def test_a_load_counts_what_is_answered_wrong_and_lost(tiny_model: Path) -> None:
    model, texts = Model(tiny_model), serving.made_texts(12)
    right = model.encode(texts)
    requests = [load.request("qwen3", text, "base64") for text in texts]
    with Server(model, Serving(port=0)).in_background() as url:
        port = int(url.rpartition(":")[2])
        found = asyncio.run(load.Load(port, requests, right, left=30).run(4))
        assert (found["answered"], found["statuses"], found["wrong"], found["lost"]) == (30, {200: 30}, 0, 0)
        assert asyncio.run(load.Load(port, requests, right[::-1], left=12).run(4))["wrong"] == 12
    gone = asyncio.run(load.Load(port, requests, right, left=30).run(4))
    assert (gone["answered"], gone["refused"]) == (0, 4)
    lines: list[dict[str, Any]] = [{"kind": "machine", "machine": "m", "versions": "v"}]
    lines += [{"kind": "speed", "arm": arm, "model": "minilm", **found, "per_second": rate} for arm, rate in (("homing", 40), ("loop", 10))]
    assert "| 4 | loop | 10.0 |" in serving.table(lines)
    assert serving.table(lines).count("| 0.25 |") == 1


@pytest.mark.parametrize("kind", ["threads", "loop"])
def test_the_plain_handler_gives_the_models_embeddings(tiny_model: Path, kind: str) -> None:
    app = fastapi_handler.application(str(tiny_model), kind)
    (handle,) = (route.endpoint for route in app.routes if getattr(route, "path", "") == "/v1/embeddings")
    answer = handle(fastapi_handler.Request(model="m", input=["hail", "storm"]))
    data = (asyncio.run(answer) if kind == "loop" else answer)["data"]
    np.testing.assert_allclose([each["embedding"] for each in data], Model(tiny_model).encode(["hail", "storm"]), atol=1e-5)
