"""Next month's run: an adapter gone on from, a frozen test, the deployed model beside the new one; further seeds, fewer judgments."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import homing
from alone import exit_code
from homing import Adapter, Mining, Model, Splits, Training
from homing.data import Mined
from homing.encoders.tuning import begin_with, load, tune
from homing.errors import ModelError, SettingError
from homing.measures.evaluations import Interval
from homing.runs.comparing import nested
from homing.runs.finished import finished
from homing.runs.rundir import plan, read_manifest, status
from homing.training.fixed import embedded
from homing.verdicts.context import Anew, Context
from homing.verdicts.differences import Difference
from homing.verdicts.verdict import compare
from test_run import homing_run
from tiny import made_data

# So few made texts are learned without weighing the hard ones more; else going on gains nothing, and the old adapter is handed over again.
FLAGS = ["--epochs", "1", "--max-length", "48", "--batch-size", "8", "--evaluations", "2", "--learning-rate", "2e-3", "--resamples", "200",
         "--hardness", "0", "--scale", "1"]  # fmt: skip
LORA = Training(tuning="lora", epochs=1, batch_size=8, evaluations=2, learning_rate=3e-3, scale=1.0)
FULL = replace(LORA, tuning="full", learning_rate=1e-3)


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> Model:
    return Model(tiny_model, max_length=48)


@pytest.fixture(scope="module", params=["lora", "full"])
def old(request: pytest.FixtureRequest, base: Model, mined: Mined, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    settings = LORA if request.param == "lora" else FULL
    return homing.train(base, mined, splits.dev, settings, out=tmp_path_factory.mktemp("old") / "adapter")


def embeddings(base: Model, adapter: Adapter, scale: float | None = None) -> np.ndarray:
    tuning = load(base, adapter, scale)
    try:
        return base.encode(["a question about rain", "sails and wind", "butter"], "query")
    finally:
        tuning.detach()


def scaled(adapter: Adapter, to: Path, scale: float) -> Adapter:
    shutil.copytree(adapter.path, to)
    said = json.loads((to / "homing.json").read_text())
    (to / "homing.json").write_text(json.dumps({**said, "scale": scale}))
    return Adapter(to)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_training_goes_on_from_the_adapters_weights(
    scale: float, old: Adapter, base: Model, mined: Mined, splits: Splits, tmp_path: Path
) -> None:
    """The first checkpoint is the old adapter at the share of it that was kept, embedding for embedding."""
    start = scaled(old, tmp_path / "old", scale)
    settings = replace(LORA, tuning=None, learning_rate=1e-5)
    found = homing.train(base, mined, splits.dev, settings, out=tmp_path / "adapter", start=start)
    checkpoints = tmp_path / "training" / "checkpoints"
    first = sorted(checkpoints.glob("step-*"))[0]
    assert found.tuning == old.tuning
    if (checkpoints / "step-0000000").is_dir():
        assert np.allclose(embeddings(base, Adapter(first)), embeddings(base, start), atol=1e-6)
    assert (
        np.abs(embeddings(base, found) - embeddings(base, start)).max()
        < 0.05
        < np.abs(embeddings(base, found) - base.encode(["a question about rain", "sails and wind", "butter"], "query")).max()
        * (4 if scale < 1 else 1)
    )
    looks = [json.loads(line) for line in (tmp_path / "training" / "metrics.jsonl").read_text().splitlines() if "dev_loss" in line]
    own = [json.loads(line) for line in (old.path.parent / "training" / "metrics.jsonl").read_text().splitlines() if "dev_loss" in line]
    assert [look["step"] for look in looks[:2]] == [0, 0]
    assert looks[0]["dev_loss"] == pytest.approx(own[0]["dev_loss"], abs=1e-6)
    assert looks[1]["dev_loss"] < looks[0]["dev_loss"]


def test_the_look_at_the_old_adapter_is_none_of_the_trainings(
    old: Adapter, base: Model, mined: Mined, splits: Splits, tmp_path: Path
) -> None:
    homing.train(base, mined, splits.dev, replace(LORA, tuning=None, evaluations=1), out=tmp_path / "adapter", start=old)
    logged = [json.loads(line) for line in (tmp_path / "training" / "metrics.jsonl").read_text().splitlines()]
    last = max(line["step"] for line in logged if "loss" in line)
    assert last > 1
    assert [line["step"] for line in logged if "dev_loss" in line] == [0, 0, last]


def test_fixed_documents_are_the_bases_also_where_an_adapter_is_gone_on_from(
    base: Model, mined: Mined, splits: Splits, tmp_path: Path
) -> None:
    settings = replace(LORA, train="queries")
    old = homing.train(base, mined, splits.dev, settings, out=tmp_path / "old" / "adapter")
    general = homing.load(made_data(tmp_path, queries=6, seed=7))
    homing.train(base, mined, splits.dev, replace(settings, tuning=None), out=tmp_path / "adapter", start=old, general=general)
    kept = tmp_path / "training" / "documents"
    assert len(list(kept.iterdir())) == 2
    assert np.array_equal(embedded(base, general.corpus, kept), base.encode(general.corpus.texts, "document"))


def test_what_training_cannot_go_on_from(old: Adapter, base: Model, mined: Mined, splits: Splits, tiny_model: Path, tmp_path: Path) -> None:
    from tiny import tiny_qwen3

    other = "full" if old.tuning == "lora" else "lora"
    with pytest.raises(SettingError, match="--tuning"):
        homing.train(base, mined, splits.dev, replace(LORA, tuning=other), out=tmp_path / "adapter", start=old)
    stranger = Model(tiny_qwen3(tmp_path / "stranger", seed=5), max_length=48)
    with pytest.raises(ModelError, match="base"):
        homing.train(stranger, mined, splits.dev, replace(LORA, tuning=None), out=tmp_path / "adapter", start=old)
    assert np.array_equal(base.encode(["text"]), Model(tiny_model, max_length=48).encode(["text"]))


def test_a_share_of_a_dora_is_no_dora(base: Model, mined: Mined, splits: Splits, tmp_path: Path) -> None:
    dora = homing.train(base, mined, splits.dev, replace(LORA, tuning="dora"), out=tmp_path / "old" / "adapter")
    with pytest.raises(ModelError, match="DoRA"):
        homing.train(base, mined, splits.dev, LORA_OPEN, out=tmp_path / "a", start=scaled(dora, tmp_path / "half", 0.5))
    tuning = tune(base, Training(tuning="dora", rank=LORA.rank))  # of none at all the base is left, as of any other kind
    begin_with(tuning, scaled(dora, tmp_path / "none", 0.0))
    there = base.encode(["text"])
    tuning.detach()
    assert np.allclose(there, base.encode(["text"]), atol=1e-6)


LORA_OPEN = replace(LORA, tuning=None)


def test_rank_and_alpha_are_the_old_adapters(base: Model, mined: Mined, splits: Splits, tmp_path: Path) -> None:
    narrow = homing.train(base, mined, splits.dev, replace(LORA, rank=4, alpha=8.0), out=tmp_path / "old" / "adapter")
    found = homing.train(base, mined, splits.dev, LORA_OPEN, out=tmp_path / "adapter", start=narrow)
    assert found.shape == narrow.shape == {"rank": 4, "alpha": 8.0}


@given(st.lists(st.integers(0, 12), min_size=4, max_size=40), st.integers(0, 5))
def test_shares_are_nested_and_hold_whole_groups(groups: list[int], seed: int) -> None:
    from homing.data import Corpus, Dataset, Qrels, Queries

    count = len(groups)
    column = np.arange(count, dtype=np.int32)
    data = Dataset(
        Corpus(("d",), ("d",)), Queries(tuple(map(str, column)), tuple(map(str, column))), Qrels(column, column * 0, column * 0 + 1)
    )
    all_of_it = Splits(data, data, data, "group", np.array(groups, dtype=np.int32))
    some = [nested(all_of_it, share, seed) for share in (0.25, 0.5, 1.0)]
    assert set(some[0].tolist()) <= set(some[1].tolist()) <= set(some[2].tolist())
    assert len(some[2]) == count
    for share, queries in zip((0.25, 0.5), some, strict=False):
        own = {groups[query] for query in queries.tolist()}
        assert all((group in own) == (query in queries) for query, group in enumerate(groups))
        assert len(queries) >= share * count


def test_rows_of_a_share_are_those_of_its_queries(mined: Mined, splits: Splits) -> None:
    queries = nested(splits, 0.5, 1)
    some = mined.of(queries)
    alone = homing.mine(splits.train.with_qrels(splits.train.qrels.of(queries)), Mining(negatives=2))
    assert 0 < len(some) < len(mined)
    assert set(some.query.tolist()) == set(queries.tolist()) == set(some.train.qrels.queries.tolist())
    assert np.array_equal(some.positive, alone.positive)
    assert some.pool is not None
    assert set(some.pool.query.tolist()) == set(queries.tolist())


def test_the_plan_of_a_run() -> None:
    assert plan() == ("check", "split", "mine", "train", "merge", "evaluate", "report")
    assert plan((43, 44), (25,), anew=True)[4:9] == ("merge", "seed 43", "seed 44", "share 25", "start base")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import made_data

    return made_data(tmp_path_factory.mktemp("data"), 40)


@pytest.fixture(scope="module")
def last_month(data: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "old"
    code, printed = homing_run("run", data, "--model", tiny_model, "--out", out, *FLAGS, "--seeds", "2", "--learning-curve")
    assert code == 0, printed
    return out


def test_seeds_and_shares_are_in_the_verdict(last_month: Path) -> None:
    found = json.loads((last_month / "evaluation" / "metrics.json").read_text())["context"]
    assert found["seeds"]["seeds"] == [42, 43]
    assert len(found["seeds"]["values"]["AP"]) == 2
    assert [point["share"] for point in found["curve"]["points"]] == [0.25, 0.5, 1.0]
    queries = [point["queries"] for point in found["curve"]["points"]]
    assert queries == sorted(queries)
    assert {each["factor"] for each in found["curve"]["forecasts"]} == {2.0, 4.0}
    tuned = next(each for each in json.loads((last_month / "evaluation" / "metrics.json").read_text())["models"] if each["name"] == "tuned")
    assert found["seeds"]["values"]["nDCG@10"][0] == pytest.approx(tuned["measures"]["nDCG@10"]["value"])
    own, other = (load_file(last_month / name / "weights.safetensors") for name in ("adapter", "seeds/43/adapter"))
    assert any(not np.array_equal(own[name], other[name]) for name in own)
    assert "seed 43  done" in status(last_month)


def test_seeds_change_what_the_verdict_says(last_month: Path) -> None:
    """The difference to the base, its interval and its p-value stay the model's own; the mean over seeds must agree."""
    found = finished(last_month)
    seeds = found.verdict.context.seeds
    assert seeds is not None
    alone = compare(found.evaluations, 200, context=replace(found.verdict.context, seeds=None))
    ours, theirs = (next(each for each in verdict.differences if each.name == "tuned") for verdict in (found.verdict, alone))
    base = next(each for each in found.evaluations if each.name == "base")
    for name in ("nDCG@10", "AP"):
        assert ours.of_seeds[name].value == pytest.approx(np.mean(seeds.values[name]) - base.measures[name].value)
        assert (ours.measures[name].value, ours.p_values[name]) == (theirs.measures[name].value, theirs.p_values[name])
    assert "mean over 2 seeds nDCG@10 " in found.verdict.sentence
    assert "mean over" not in alone.sentence
    clear = Difference("tuned", "base", {"AP": Interval(0.02, 0.01, 0.03)}, {"AP": 0.01}, {"AP": 0.01})
    for low, high, sign in ((0.01, 0.03, 1), (-0.01, 0.05, 0), (-0.03, -0.01, 0)):
        assert replace(clear, of_seeds={"AP": Interval(0, low, high)}).sign("AP") == sign
    assert any("but for the mean over seeds" in note for note in found.verdict.notes)


def test_a_further_seed_keeps_those_that_are_there(last_month: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(last_month, tmp_path / "copy"))
    code, printed = homing_run("run", out / "recipe.toml", "--seeds", "3", "--no-learning-curve")
    assert code == 0, printed
    plan_said = dict(line.rsplit("  ", 1) for line in printed.splitlines()[:9])
    said = {name.strip(): what for name, what in plan_said.items()}
    assert {name for name, what in said.items() if what != "kept"} == {"seed 44", "evaluate", "report"}
    assert len(json.loads((out / "evaluation" / "metrics.json").read_text())["context"]["seeds"]["values"]["AP"]) == 3


@pytest.mark.parametrize("stage", ["seed 43", "share 50"])
def test_a_further_training_that_was_killed_goes_on(stage: str, last_month: Path, data: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    script = f"""
import os, signal, sys
import homing.training.session as session
step = session.Session._update
def until(self, batch):
    if "{stage.replace(" ", "s/")}" in str(self.logs) and self.pace.update == self.pace.updates - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch)
session.Session._update = until
from homing.cli import main
main(sys.argv[1:])
"""
    arguments = ["run", str(data), "--model", str(tiny_model), "--out", str(out), *FLAGS, "--seeds", "2", "--learning-curve"]
    assert exit_code(script, *arguments) == -signal.SIGKILL, (out / "run.log").read_text()
    manifest = read_manifest(out)
    assert manifest is not None
    assert stage not in manifest["stages"]
    assert "merge" in manifest["stages"]
    assert f"{stage}  to do" in status(out)
    code, printed = homing_run(*arguments)
    assert code == 0, printed
    assert "going on from update" in printed
    ours, theirs = (json.loads((path / "evaluation" / "metrics.json").read_text())["context"] for path in (out, last_month))
    for name in ("seeds", "curve", "instructions", "general"):
        assert ours[name] == theirs[name], name


@pytest.fixture(scope="module")
def this_month(last_month: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """New data in which some of the old test's queries came back with other judgments."""
    from tiny import made_records

    place = tmp_path_factory.mktemp("new")
    (place / "new.json").write_text(json.dumps([*made_records(40), *made_records(30, seed=7)]))
    arguments = ["--test", last_month, "--baseline", last_month, "--from", last_month / "adapter"]
    code, printed = homing_run("run", place / "new.json", "--model", tiny_model, "--out", place / "run", *FLAGS, *arguments)
    assert code == 0, printed
    return place / "run", printed


def test_next_month_has_the_same_test_set(this_month: tuple[Path, str], last_month: Path) -> None:
    out, printed = this_month

    def test_side(run: Path) -> list[str]:
        return sorted((run / "dataset" / "qrels" / "test.tsv").read_text().splitlines())

    assert test_side(out) == test_side(last_month)
    train = {line.split("\t")[0] for line in (out / "dataset" / "qrels" / "train.tsv").read_text().splitlines()[1:]}
    assert not train & {line.split("\t")[0] for line in test_side(out)}
    assert len(train) > len((last_month / "dataset" / "qrels" / "train.tsv").read_text().splitlines()) // 8
    counts = json.loads((out / "evaluation" / "metrics.json").read_text())["counts"]
    assert counts["test_pairs"] == json.loads((last_month / "evaluation" / "metrics.json").read_text())["counts"]["test_pairs"]
    assert "going on from" in printed


def test_base_deployed_and_new_stand_in_one_verdict(this_month: tuple[Path, str], last_month: Path) -> None:
    out, printed = this_month
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    names = [each["name"] for each in metrics["models"]]
    assert [name for name in names if name in ("base", "deployed", "tuned")] == ["base", "deployed", "tuned"]
    assert metrics["context"]["looks"] == 2
    assert "deployed" in printed.split("VERDICT")[1]
    assert metrics["context"]["reindexing"]["documents"] == metrics["counts"]["documents"]


def test_going_on_is_measured_against_beginning_anew(this_month: tuple[Path, str]) -> None:
    out, printed = this_month
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    tuned = next(each for each in metrics["models"] if each["name"] == "tuned")
    for name in ("nDCG@10", "AP"):
        anew, gain = metrics["context"]["anew"]["values"][name], metrics["context"]["anew"]["differences"][name]
        assert anew + gain["value"] == pytest.approx(tuned["measures"][name]["value"])
        assert gain["low"] <= gain["value"] <= gain["high"]
    assert "Going on from the old adapter, against the same training" in " ".join(printed.split())
    assert "Going on, or beginning anew" in (out / "report.html").read_text()
    logs = [(place / "training" / "metrics.jsonl").read_text().splitlines() for place in (out, out / "starts" / "base")]
    gone_on, begun = ([json.loads(line)["step"] for line in log if "dev_loss" in line] for log in logs)
    assert (gone_on.count(0), begun.count(0)) == (2, 1)  # one looks at the old adapter too
    assert json.loads((out / "starts" / "base" / "adapter" / "homing.json").read_text())["tuning"] == tuned_as(out)


def tuned_as(run: Path) -> str:
    return str(json.loads((run / "adapter" / "homing.json").read_text())["tuning"])


@pytest.mark.parametrize(
    ("differences", "better"),
    [((0.1, 0.1), "going on"), ((-0.1, 0.0), "beginning anew"), ((0.1, -0.1), "neither"), ((0.0, 0.0), "neither")],
)
def test_which_is_better(differences: tuple[float, float], better: str) -> None:
    intervals = {name: Interval(value, value - 0.05, value + 0.05) for name, value in zip(("nDCG@10", "AP"), differences, strict=True)}
    anew = Anew({"nDCG@10": 0.5, "AP": 0.4}, intervals)
    assert anew.better == better
    context = Context(anew=anew)
    assert Context.of(json.loads(json.dumps(context.plain()))) == context


def test_the_verdict_goes_into_the_models_directory_without_changing_the_model(this_month: tuple[Path, str]) -> None:
    out, _ = this_month
    said = json.loads((out / "model" / "homing.json").read_text())
    assert said["evaluated"]["sentence"]
    assert "merged" in said
    assert "## Verdict" in (out / "model" / "README.md").read_text()
    digest = Model(out / "model").weights_digest
    code, printed = homing_run("run", out / "recipe.toml", "--resamples", "300")
    assert code == 0, printed
    assert Model(out / "model").weights_digest == digest


def test_queries_alone_keep_the_index(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, printed = homing_run("run", data, "--model", tiny_model, "--out", out, *FLAGS, "--train", "queries", "--general", "none")
    assert code == 0, printed
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert metrics["context"]["reindexing"] is None
    assert "embedded again" not in printed
    said = json.loads((out / "model" / "homing.json").read_text())
    assert said["evaluated"]["sentence"]
    assert said["documents"]
    code, printed = homing_run(
        "run", data, "--model", tiny_model, "--out", tmp_path / "again", *FLAGS, "--train", "queries", "--from", out / "adapter",
        "--general", "none", "--baseline", out, "--no-anew",
    )  # fmt: skip
    assert code == 0, printed
    assert not (tmp_path / "again" / "starts").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--from", "nowhere"], "no such file"),
        (["--from", "DATA"], "adapter"),
        (["--baseline", "./nowhere"], "no such file"),
        (["--dev", "DATA"], "--test"),
        (["--seeds", "0"], "--seeds"),
        (["--instructions", "nowhere.txt"], "no such file"),
        (["--general", "nowhere"], "no such file"),
    ],
)
def test_unusable_input_is_one_error(
    arguments: list[str], expected: str, data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given_ = [str(data) if argument == "DATA" else argument for argument in arguments]
    code, printed = homing_run("run", data, "--model", tiny_model, "--out", "out", *FLAGS, *given_)
    assert code == 2, printed
    assert expected.lower() in printed.lower()
    assert "Traceback" not in printed
