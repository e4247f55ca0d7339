"""`homing run` from end to end: what it leaves, what it keeps, what it redoes, and how it goes on after any stop."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest

import homing
from alone import exit_code, start
from homing.cli import main
from homing.digests import file_digest
from homing.errors import FormatError, RunError
from homing.loading import read_dataset
from homing.measures.decision import Decision
from homing.runs.dependence import changes
from homing.runs.rundir import ARTEFACTS, STAGES, artefact, is_running, locked, status

FLAGS = ["--epochs", "1", "--max-length", "48", "--batch-size", "8", "--evaluations", "2", "--learning-rate", "2e-3", "--resamples", "200"]


def homing_run(*arguments: object) -> tuple[int, str]:
    """Exit code and what was printed, in this process."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            return int(stop.code or 0), out.getvalue()
    return 0, out.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import made_records

    path = tmp_path_factory.mktemp("made") / "made.json"
    path.write_text(json.dumps([{**record, "topic": f"topic {number % 2}"} for number, record in enumerate(made_records())]))
    return path


@pytest.fixture(scope="module")
def finished(data: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("runs") / "made"
    code, printed = homing_run("run", data, "--model", tiny_model, "--out", out, *FLAGS)
    assert code == 0, printed
    return out, printed


def test_the_audit_of_its_test_lists_what_was_found_first_and_nobody_judged(
    finished: tuple[Path, str], tiny_model: Path, tmp_path: Path
) -> None:
    code, printed = homing_run("audit", finished[0], "--test", "--top", "1000", "--out", tmp_path / "exam")
    assert code == 0, printed
    assert f"then: homing split {finished[0]} --judgments FILE" in printed
    assert f"--model {finished[0] / 'model'} --query-prompt 'Instruct: " in printed  # its base before it
    assert "Query:' --document-prompt '' --max-length 48" in printed
    assert "--model BASE" not in printed
    code, judged = homing_run("judge", tmp_path / "exam", "--model", tiny_model, "--least-kappa", "-1")
    assert code == 0, judged
    assert f"then: homing split {finished[0]} --judgments {tmp_path / 'exam'}" in judged  # what mining does not obey
    assert "made this list of what it scores high, and confirms itself" in judged  # there it is called base
    assert '"judged": false' in (tmp_path / "exam" / "suspects.html").read_text(encoding="utf-8").replace('":f', '": f')
    sheet = tmp_path / "exam" / "suspects.csv"
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["mark"], rows[1]["mark"] = "1", "u"
    with (tmp_path / "marked.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    code, printed = homing_run("split", finished[0], "--judgments", tmp_path / "marked.csv", "--out", tmp_path / "judged")
    assert code == 0, printed
    before, after = read_dataset(finished[0] / "dataset"), read_dataset(tmp_path / "judged")
    for name in ("train", "dev", "test"):  # each query stays where it is
        one, other = getattr(before, name).qrels, getattr(after, name).qrels
        assert one.queries.tolist() == other.queries.tolist()
        assert sum(map(len, other.positives.values())) - sum(map(len, one.positives.values())) == (name == "test")


def test_a_run_leaves_everything_it_promises(finished: tuple[Path, str]) -> None:
    out, printed = finished
    for name in (
        "dataset/corpus.jsonl", "dataset/queries.jsonl", "dataset/qrels/train.tsv", "dataset/qrels/dev.tsv", "dataset/qrels/test.tsv",
        "mined/rows.parquet", "mined/pool.parquet", "adapter/homing.json", "adapter/weights.safetensors", "training/scales.json",
        "model/modules.json",
        "model/model.safetensors", "model/1_Pooling/config.json", "evaluation/metrics.json", "evaluation/scores.parquet",
        "evaluation/per_query.parquet", "training/metrics.jsonl", "report.html", "recipe.toml", "manifest.json", "run.log", "check.json",
    ):  # fmt: skip
        assert (out / name).is_file(), name
    scores = pq.read_table(out / "evaluation" / "scores.parquet")
    assert scores.column_names == ["split", "query_id", "document_id", "relevance", "base", "tuned", "BM25"]
    judged = sum(len((out / "dataset" / "qrels" / f"{side}.tsv").read_text().splitlines()) - 1 for side in ("dev", "test"))
    assert scores.num_rows == judged
    assert "\t0" in (out / "dataset" / "qrels" / "test.tsv").read_text()
    assert "VERDICT" in printed
    assert "95%" in printed
    assert max(map(len, printed.split("VERDICT")[1].split("report:")[0].splitlines())) <= 80
    assert (
        printed.split("VERDICT")[1][:200] in (out / "run.log").read_text().replace("\n", "\n") or "VERDICT" in (out / "run.log").read_text()
    )
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["stages"]) == set(STAGES)
    assert manifest["seeds"]["training"] == 42
    assert {"torch", "transformers", "homing", "python"} <= set(manifest["versions"])
    recipe = tomllib.loads((out / "recipe.toml").read_text())
    assert recipe["training"]["learning_rate"] == 2e-3
    assert recipe["encoding"]["query_prompt"].startswith("Instruct: ")
    assert recipe["encoding"]["max_length"] == 48


def test_digests_of_the_manifest_are_of_what_lies_there(finished: tuple[Path, str]) -> None:
    """A model's is that of its weights and conventions, which later trainings know their base by: its card came after it."""
    out, _ = finished
    for stage, done in json.loads((out / "manifest.json").read_text())["stages"].items():
        path = out / artefact(stage)
        assert done["digest"] == (homing.Model(path, device="meta").weights_digest if stage == "merge" else file_digest(path)), stage
    assert "Verdict" in (out / "model" / "README.md").read_text()


def test_what_dev_decided_lies_in_the_models_directory(finished: tuple[Path, str]) -> None:
    out, _ = finished
    metrics, said = (json.loads((out / name).read_text()) for name in ("evaluation/metrics.json", "model/homing.json"))
    tuned = next(each for each in metrics["models"] if each["name"] == "tuned")
    assert said["decision"] == tuned["decision"]
    chosen = Decision.read(out / "model").list
    assert chosen is not None
    assert chosen.inner_product == tuned["threshold"]
    dev = [line.split("\t") for line in (out / "dataset" / "qrels" / "dev.tsv").read_text().splitlines()[1:]]
    on = chosen.chosen_on
    assert (on.split, on.queries, on.pairs) == ("dev", len({line[0] for line in dev}), len(dev))
    assert on.relevant_share == pytest.approx(np.mean([line[2] != "0" for line in dev]))


def test_scores_in_the_file_are_the_models_own(finished: tuple[Path, str], tiny_model: Path) -> None:
    from sentence_transformers import SentenceTransformer

    out, _ = finished
    scores = pq.read_table(out / "evaluation" / "scores.parquet").to_pylist()
    texts = {
        kind: {row["_id"]: row["text"] for row in map(json.loads, (out / "dataset" / f"{kind}.jsonl").read_text().splitlines())}
        for kind in ("corpus", "queries")
    }
    for name, path in (("base", tiny_model), ("tuned", out / "model")):
        model = SentenceTransformer(str(path), device="cpu")
        model.max_seq_length = 48
        rows = scores[:20]
        queries = model.encode_query([texts["queries"][row["query_id"]] for row in rows])
        documents = model.encode_document([texts["corpus"][row["document_id"]] for row in rows])
        assert np.allclose((queries * documents).sum(axis=1), [row[name] for row in rows], atol=1e-5)


def test_what_changed_is_said_in_words() -> None:
    before, now = {"data": "0" * 64, "rank": 8, "slice_by": None}, {"data": "1" * 64, "rank": 16, "slice_by": "topic"}
    assert changes({"own": before}, {"own": now}) == "again: data changed, rank 8 -> 16, slice_by none -> topic"


def test_run_again_and_everything_is_kept(finished: tuple[Path, str], data: Path, tiny_model: Path) -> None:
    out, first = finished
    before = {name: (out / name).stat().st_mtime_ns for name in ARTEFACTS.values()}
    code, printed = homing_run("run", data, "--model", tiny_model, "--out", out, *FLAGS)
    assert code == 0
    assert printed.count("  kept\n") == len(STAGES)
    assert before == {name: (out / name).stat().st_mtime_ns for name in ARTEFACTS.values()}
    code, repeated = homing_run("run", out / "recipe.toml")
    assert code == 0
    assert repeated.count("  kept\n") == len(STAGES)
    assert first.split("VERDICT")[1].split("report:")[0] == repeated.split("VERDICT")[1].split("report:")[0]


@pytest.mark.parametrize(
    ("flags", "redone"),
    [
        (["--slice-by", "topic"], {"evaluate", "report"}),
        (["--epochs", "0.5"], {"train", "merge", "evaluate", "report"}),
        (["--negatives", "2"], {"mine", "train", "merge", "evaluate", "report"}),
        (["--test-share", "0.3"], {"split", "mine", "train", "merge", "evaluate", "report"}),
    ],
)
def test_a_changed_setting_redoes_what_depends_on_it(
    finished: tuple[Path, str], tmp_path: Path, flags: list[str], redone: set[str]
) -> None:
    import shutil

    out = Path(shutil.copytree(finished[0], tmp_path / "copy"))
    code, printed = homing_run("run", out / "recipe.toml", *flags)
    assert code == 0, printed
    plan = dict(line.split(None, 1) for line in printed.splitlines()[: len(STAGES)])
    assert {stage for stage, what in plan.items() if what != "kept"} == redone
    assert "->" in plan[next(stage for stage in STAGES if stage in redone)]


def test_shorter_embeddings_that_are_trained_are_measured_and_may_be_asked_for(
    finished: tuple[Path, str], tiny_model: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished[0], tmp_path / "copy"))
    code, printed = homing_run("run", out / "recipe.toml", "--dimensions", "16,32,64", "--scale", "1", "--epochs", "4")
    assert code == 0, printed
    assert "embeddings cut to their first 32 numbers nDCG@10" in " ".join(printed.split())
    code, other = homing_run(
        "evaluate", out / "dataset", "--model", f"{out / 'model'}", "--model", f"{out / 'model'}@32", "--model", f"{out / 'model'}@16",
        "--out", tmp_path / "cut", "--resamples", "200",
    )  # fmt: skip
    assert code == 0, other
    whole, *cut = [each["measures"]["nDCG@10"] for each in json.loads((tmp_path / "cut" / "metrics.json").read_text())["models"][:3]]
    said = json.loads((out / "evaluation" / "metrics.json").read_text())["context"]["shortened"]
    assert [each["dimension"] for each in said] == [32, 16]  # 64 is the whole
    for each, expected in zip(said, cut, strict=True):
        assert each["tuned"] == pytest.approx(expected)
        assert each["difference"]["value"] == pytest.approx(expected["value"] - whole["value"])
        assert each["difference"]["low"] <= each["difference"]["value"] <= each["difference"]["high"]
    assert json.loads((out / "model" / "homing.json").read_text())["dimensions"] == [32, 16]  # what homing serve takes
    assert f"32 numbers nDCG@10 {cut[0]['value']:.4f}" in (out / "model" / "README.md").read_text()


def test_a_run_of_other_data_is_refused_before_anything_is_lost(finished: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    out, _ = finished
    before = {name: file_digest(out / name) for name in (*ARTEFACTS.values(), "manifest.json", "recipe.toml")}
    other = tmp_path / "other.json"
    other.write_text(data.read_text().replace("topic 0", "topic 2"))
    (tmp_path / "recipe.toml").write_text((out / "recipe.toml").read_text().replace(str(data), str(other)))
    for given in (other, tmp_path / "recipe.toml"):
        code, printed = homing_run("run", given, "--model", "no/such-model", "--out", out)  # refused before the model is looked for
        assert code == 2
        for said in (str(out), str(data), str(other), "train, merge", "another --out"):
            assert said in printed
    assert before == {name: file_digest(out / name) for name in before}


def test_data_that_moved_is_the_same_run(finished: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished[0], tmp_path / "run")
    moved = shutil.copy(data, tmp_path / "moved.json")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text((copy / "recipe.toml").read_text().replace(str(data), str(moved)))
    code, printed = homing_run("run", recipe, "--out", copy)
    assert (code, printed.count("  kept\n")) == (0, len(STAGES)), printed


def test_a_removed_artefact_is_made_again(finished: tuple[Path, str], tmp_path: Path) -> None:
    import shutil

    out = Path(shutil.copytree(finished[0], tmp_path / "copy"))
    (out / "report.html").unlink()
    _, printed = homing_run("run", out / "recipe.toml")
    assert "report.html is missing" in printed
    assert (out / "report.html").is_file()


def test_an_artefact_that_is_damaged_is_made_again(finished: tuple[Path, str], tmp_path: Path) -> None:
    import shutil

    out = Path(shutil.copytree(finished[0], tmp_path / "copy"))
    for stage, name in (("mine", "mined/pool.parquet"), ("merge", "model/model.safetensors"), ("evaluate", "evaluation/metrics.json")):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole[: len(whole) // 2])
        code, printed = homing_run("run", out / "recipe.toml")
        assert code == 0, printed
        plan = dict(line.split(None, 1) for line in printed.splitlines()[: len(STAGES)])
        first = next(stage for stage, what in plan.items() if what != "kept")
        assert (first, plan[first]) == (stage, f"again: {artefact(stage)} is not as it was left")
        assert (out / name).stat().st_size >= 0.9 * len(whole)


def _start(data: Path, model: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "homing", "run", str(data), "--model", str(model), "--out", str(out), *FLAGS]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


KILLED = """
import os, signal, sys
import homing.runs.stages as stages
stage = sys.argv.pop(1)
inside = {
    "check": "check", "split": "save_dataset", "mine": "save_mined", "train": "train", "merge": "write", "evaluate": "save_evaluation",
    "report": "report",
}[stage]
original = getattr(stages, inside)
def killed(*arguments, **keywords):
    if stage == "train":
        import homing.training.session as session
        step = session.Session._update
        def until(self, rows):
            if self.pace.update == self.pace.updates - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, rows)
        session.Session._update = until
        return original(*arguments, **keywords)
    if stage in ("split", "mine", "evaluate"):
        original(*arguments, **keywords)  # written, but not yet in its place or not yet in the manifest
    os.kill(os.getpid(), signal.SIGKILL)
setattr(stages, inside, killed)
from homing.cli import main
main(sys.argv[1:])
"""


def test_kill_9_in_each_stage_and_go_on(finished: tuple[Path, str], data: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The process kills itself in the middle of each stage's work, one after the other; the last one ends with the same numbers."""
    out = tmp_path / "run"
    arguments = ["run", str(data), "--model", str(tiny_model), "--out", str(out), *FLAGS]
    for place, stage in enumerate(STAGES):
        assert exit_code(KILLED, stage, *arguments) == -signal.SIGKILL, (out / "run.log").read_text()
        assert list(json.loads((out / "manifest.json").read_text())["stages"]) == list(STAGES[:place])
        assert "stopped" in status(out)
        assert ("going on from update" in (out / "run.log").read_text()) == (STAGES.index("train") < place)
    code, printed = homing_run(*arguments)
    assert code == 0, printed
    assert sum(line.endswith("kept") for line in printed.splitlines()) == len(STAGES) - 1
    metrics, wanted = (json.loads((path / "evaluation" / "metrics.json").read_text()) for path in (out, finished[0]))
    for one, other in zip(metrics["models"], wanted["models"], strict=True):
        assert one["measures"] == other["measures"]
    assert (out / "adapter" / "weights.safetensors").read_bytes() == (finished[0] / "adapter" / "weights.safetensors").read_bytes()


def test_a_failure_ends_with_what_is_done_and_how_to_go_on(
    data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **keywords: object) -> None:
        raise homing.HomingError("it broke", remedy="Mend it.")

    with monkeypatch.context() as patch:
        patch.setattr("homing.runs.stages.write", broken)
        code, printed = homing_run("run", data, "--model", tiny_model, "--out", tmp_path / "run", *FLAGS)
    assert code == 1
    assert "the last finished stage: train" in printed
    assert f"go on with: homing run {tmp_path / 'run' / 'recipe.toml'}" in printed
    assert "it broke" in printed
    assert "it broke" in (tmp_path / "run" / "run.log").read_text()
    assert homing_run("run", tmp_path / "run" / "recipe.toml")[0] == 0


def test_one_process_a_run(finished: tuple[Path, str], data: Path, tiny_model: Path) -> None:
    with locked(finished[0]):
        code, printed = homing_run("run", data, "--model", tiny_model, "--out", finished[0], *FLAGS)
        assert code == 1
        assert "another process" in printed
        assert "running" in status(finished[0]).splitlines()[0]


def test_status(finished: tuple[Path, str], tmp_path: Path) -> None:
    code, printed = homing_run("status", finished[0])
    assert code == 0
    assert "finished" in printed.splitlines()[0]
    assert all(stage in printed for stage in STAGES)
    with pytest.raises(FormatError, match="no run"):
        status(tmp_path)
    code, printed = homing_run("status", tmp_path)
    assert (code, "no run" in printed) == (2, True)


def test_status_of_a_run_that_still_opens_its_data(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        assert status(tmp_path / "run") == f"{tmp_path / 'run'}: running, opens the model and the data"
    with pytest.raises(FormatError, match="no run"):
        status(tmp_path / "run")


def test_status_shows_a_training_at_work(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["run", data, "--model", tiny_model, "--out", out, *FLAGS, "--epochs", "300"]
    process = start("import sys; from homing.cli import main; main(sys.argv[1:])", *command)
    try:
        for _ in range(600):
            time.sleep(0.1)
            if (out / "training" / "metrics.jsonl").is_file() and "loss" in status(out):
                break
        shown = status(out)
        assert "running" in shown.splitlines()[0]
        assert "step" in shown
    finally:
        process.kill()
        process.join()
    assert "go on with" in status(out)


def test_a_run_whose_copy_lost_its_hidden_files_is_still_a_run(finished: tuple[Path, str], tmp_path: Path) -> None:
    copy = shutil.copytree(finished[0], tmp_path / "run", ignore=shutil.ignore_patterns(".*"))
    with locked(copy):
        assert is_running(copy)
    (tmp_path / "extension").mkdir()
    (tmp_path / "extension" / "manifest.json").write_text('{"manifest_version": 3}')
    with pytest.raises(RunError, match="not a run"), locked(tmp_path / "extension"):
        pass


def test_a_file_system_without_locks_is_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOSYS, "no locks on this file system")))
    with locked(tmp_path / "run"):
        assert not is_running(tmp_path / "run")


def test_a_foreign_directory_is_left_alone(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    code, printed = homing_run("run", data, "--model", tiny_model, "--out", tmp_path)
    assert code == 1
    assert "not a run" in printed
    assert os.listdir(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "DATA"], "--model is missing"),
        (["run", "nowhere.json", "--model", "MODEL"], "no such file"),
        (["run", "DATA", "--model", "nowhere/at/all"], "no such model"),
        (["run", "DATA", "--model", "MODEL", "--epochs", "0"], "--epochs"),
        (["run", "DATA", "--model", "MODEL", "--temperature", "-1"], "--temperature"),
        (["run", "DATA", "--model", "MODEL", "--pooling", "mean"], "contradicts"),
        (["run", "DATA", "--model", "MODEL", "--instruction", "a", "--query-prompt", "b"], "exclude"),
        (["run", "DATA", "--model", "MODEL", "--dev", "DATA"], "--test"),
        (["run", "DATA", "--model", "MODEL", "--no-such-flag"], "no-such-flag"),
        (["run", "DATA", "--model", "MODEL", "--slice-by", "topic,subject"], "topic"),
        (["mine", "nowhere"], "nowhere"),
        (["evaluate", "nowhere", "--model", "MODEL"], "nowhere"),
        (["merge", "nowhere", "--model", "MODEL"], "adapter"),
        (["report", "nowhere", "--dataset", "nowhere"], "nowhere"),
    ],
)
def test_unusable_input_is_one_error_and_exit_code_2(
    arguments: list[str], expected: str, data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [{"DATA": str(data), "MODEL": str(tiny_model)}.get(argument, argument) for argument in arguments]
    code, printed = homing_run(*given, *(["--out", "out"] if given[0] == "run" else []))
    assert code == 2, printed
    assert expected.lower() in printed.lower()
    assert "Traceback" not in printed
    assert not (tmp_path / "out" / "dataset").exists()


def test_every_stage_is_a_verb(data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train = ["--epochs", "1", "--max_length", "48", "--learning_rate", "2e-3", "--evaluations", "1"]  # underscores for hyphens
    for arguments in (
        ["check", data, "--model", tiny_model],
        ["split", data, "--out", "dataset"],
        ["mine", "dataset", "--out", "mined"],
        ["train", "mined", "--dataset", "dataset", "--model", tiny_model, "--out", "adapter", *train],
        ["merge", "adapter", "--model", tiny_model, "--out", "model"],
        [
            "evaluate",
            "dataset",
            "--model",
            tiny_model,
            "--model",
            "model",
            "--max-length",
            "48",
            "--out",
            "evaluation",
            "--resamples",
            "200",
        ],
        ["report", "evaluation", "--dataset", "dataset", "--training", "training", "--out", "report.html"],
    ):
        code, printed = homing_run(*arguments)
        assert code == 0, printed
    assert "VERDICT" in homing_run("evaluate", "dataset", "--model", tiny_model, "--model", "model", "--resamples", "100")[1]
    assert "<svg" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("verb", ["check", "split", "mine", "train", "merge", "evaluate", "report", "run", "demo", "status"])
def test_the_help_of_each_verb_starts_with_an_example_and_fits_a_screen(verb: str) -> None:
    code, printed = homing_run(verb, "--help")
    assert code == 0
    assert printed.lstrip().startswith(f"homing {verb}")
    assert len(printed.splitlines()) <= 40
    assert max(map(len, printed.splitlines())) <= 100


def test_a_run_that_cannot_fit_is_refused_before_it_starts(
    data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homing.estimating.available", lambda device: 1_000_000)
    code, printed = homing_run("run", data, "--model", tiny_model, "--out", tmp_path / "run", *FLAGS)
    assert code == 1
    assert "doesn't fit into memory" in printed
    assert not (tmp_path / "run" / "dataset").exists()


def _shuffled(source: Path, to: Path, seed: int) -> Path:
    """The same lists with the labels of each list dealt anew."""
    rows = json.loads(source.read_text())
    generator = random.Random(seed)
    for row in rows:
        candidates = [candidate for name in row if isinstance(row[name], list) for candidate in row[name]]
        labels = [candidate["is_relevant"] for candidate in candidates]
        generator.shuffle(labels)
        for candidate, label in zip(candidates, labels, strict=True):
            candidate["is_relevant"] = label
    to.write_text(json.dumps(rows))
    return to


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_negative_control_shuffled_judgments_are_no_gain(seed: int, data: Path, tiny_model: Path, tmp_path: Path) -> None:
    shuffled = _shuffled(data, tmp_path / "shuffled.json", seed)
    code, printed = homing_run("run", shuffled, "--model", tiny_model, "--out", tmp_path / "run", *FLAGS, "--epochs", "3")
    assert code == 0, printed
    verdict = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())["verdict"]
    assert verdict["outcome"] != "gained"
    assert "is better than" not in verdict["sentence"] or "do not show" in verdict["sentence"]
