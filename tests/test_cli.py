"""What the verbs refuse, before it costs time or somebody's files."""

from __future__ import annotations

import errno
import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file

from homing import Model
from homing.cli import cli, main
from homing.cli.runs import _repeated
from homing.cli.verbs import VERBS
from homing.errors import ResourceError, SettingError
from homing.loading import load, save_dataset
from homing.runs.recipe import Recipe
from homing.runs.rundir import status
from homing.settings import Encoding, Splitting
from homing.splitting import split
from tiny import made_data


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with data.json, its dataset, and a directory that is somebody's."""
    data = made_data(tmp_path / "made")
    save_dataset(split(load(data), Splitting()), tmp_path / "dataset")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "data.json").write_bytes(data.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command says on its way out, with no traceback."""
    with pytest.raises(SystemExit) as stopped:
        main([str(each) for each in arguments])
    said = capsys.readouterr().err
    assert stopped.value.code in (1, 2)
    assert "Traceback" not in said
    return said


def test_no_verb_replaces_a_directory_that_is_not_its_own(place: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["mine", "dataset", "--out", "mined"])
    model = ["--model", tiny_model]
    for arguments in (
        ["split", "data.json", "--out", "mine"],
        ["mine", "dataset", "--out", "mine"],
        ["mine", "dataset", "--out", "dataset"],
        ["train", "mined", "--dataset", "dataset", *model, "--out", "mine"],
        ["train", "mined", "--dataset", "dataset", *model, "--out", "mined"],
        ["evaluate", "dataset", *model, "--out", "mine"],
        ["convert", "data.json", "--to", "trec", "--out", "mine"],
        ["convert", "data.json", "--to", "beir", "--out", "mine"],
        ["run", "data.json", *model, "--out", "mine"],
        ["export", tiny_model, "--out", "mine"],
    ):
        assert "holds something" in refused(capsys, *arguments), arguments
    assert (place / "mine" / "thesis.txt").is_file()
    assert (place / "dataset" / "split.json").is_file()
    main(["mine", "dataset", "--out", "mined"])  # its own it does


def test_what_the_system_refuses_is_no_fault_of_the_program(
    place: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (
        ["split", "data.json", "--out", "data.json/x"],
        ["mine", "dataset", "--out", "data.json/x"],
        ["convert", "data.json", "--to", "pairs", "--out", "data.json/x.csv"],
        ["run", "data.json", "--model", tiny_model, "--out", "data.json/x"],
    ):
        said = refused(capsys, *arguments)
        assert "a file stands where a directory is to be written" in said or "the system refuses: " in said, arguments
        assert "Give another --out" in said or "Check the path" in said

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("homing.loading.save_dataset", full)
    said = refused(capsys, "split", "data.json", "--out", "dealt")
    assert "No space left" in said
    assert "Make room" in said
    assert not (place / "dealt").exists()

    def full_in_rust(splits: object, directory: Path) -> None:
        """What safetensors says where a file may not grow: no OSError, but its words."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        try:
            save_file({"weights": np.zeros(1 << 20, dtype=np.float32)}, directory / "weights.safetensors")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr("homing.loading.save_dataset", full_in_rust)
    assert "Make room" in refused(capsys, "split", "data.json", "--out", "dealt")


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 30.0 GiB"), torch.OutOfMemoryError("CUDA out of memory: 2 GiB")], ids=str
)
def test_no_more_memory_is_no_fault_of_the_program_or_the_model(
    error: Exception, place: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*arguments: object, **keywords: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("homing.loading.save_dataset", none_left)  # as in any place that has no word of its own for it
        said = refused(capsys, "split", "data.json", "--out", "dealt")
        assert str(error) in said
        assert "End what else takes memory" in said
    monkeypatch.setattr("homing.encoders.reading.SentenceTransformer", none_left)
    with pytest.raises(ResourceError, match=r"the model does not fit into the memory.*GiB"):
        Model(tiny_model)


def test_a_training_by_the_clock_is_shown_by_the_clock(tmp_path: Path) -> None:
    """One on half of the judgments has half of the minutes."""
    (tmp_path / "recipe.toml").write_text("[training]\nepochs = 3.0\nminutes = 2.0\n")
    for stage, directory, left in (("train", "training", 75), ("share 50", "shares/50/training", 15)):
        plan = {"stages": {"check": {"seconds": 1, "peak_memory_bytes": 1}}, "plan": ["check", stage]}
        (tmp_path / "manifest.json").write_text(json.dumps(plan))
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "metrics.jsonl").write_text('{"step": 7, "epoch": 5.0, "loss": 0.5, "seconds": 45.0}\n')
        assert "epoch 5.00, loss" in status(tmp_path)
        assert f"about {left} s of steps left" in status(tmp_path)


def test_a_run_that_nobody_named_is_not_replaced_by_one_of_another_model(
    place: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = place / "runs" / "data"
    kept.mkdir(parents=True)
    (kept / "recipe.toml").write_text(f'data = "{place / "data.json"}"\nmodel = "OWNER/NAME"\n')
    assert "of another model" in refused(capsys, "run", "data.json", "--model", tiny_model)


def test_a_prompt_stands_in_place_of_a_recipes_instruction_and_the_other_way(tmp_path: Path) -> None:
    for said, flag in (("instruction", "query_prompt"), ("query_prompt", "instruction")):
        Recipe("data.json", "model", encoding=Encoding(**{said: "old"})).write(tmp_path / "recipe.toml")
        recipe, _ = _repeated(tmp_path / "recipe.toml", {}, "out", {f"encoding__{flag}": "new"})
        assert recipe.encoding == Encoding(**{flag: "new"})
        with pytest.raises(SettingError, match="exclude each other"):
            _repeated(tmp_path / "recipe.toml", {}, "out", {"encoding__instruction": "a", "encoding__query_prompt": "b"})


def test_a_slip_in_what_is_used_last_is_found_first(place: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measures are for the evaluation, and trackers for the training: both after what may take hours."""
    for flag, value, said in (
        ("--measures", "ndcg@10", "no such measure"),
        ("--report-to", "wandbb", "a tracker that is not known"),
        ("--general", "nano-bier", "nano-beir"),
    ):
        assert said in refused(capsys, "run", "data.json", "--model", tiny_model, "--out", "new", flag, value), flag
        assert not (place / "new" / "recipe.toml").exists(), flag


def test_data_that_cannot_be_read_leaves_a_run_as_it_was(place: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "run").mkdir()
    (place / "run" / ".lock").touch()
    recipe = f'data = "{place / "data.json"}"\nmodel = "{tiny_model}"\n'
    (place / "run" / "recipe.toml").write_text(recipe)
    (place / "run" / "manifest.json").write_text('{"stages": {"check": {"depends": {}, "digest": ""}}}')
    (place / "empty.jsonl").touch()
    with pytest.raises(SystemExit):
        main(["run", "data.json", "--model", str(tiny_model), "--out", "run", "--corpus", "empty.jsonl"])
    said = capsys.readouterr()
    assert "the file is empty" in said.err
    assert "go on with" not in said.out  # what would be gone on with is not what was asked for
    assert (place / "run" / "recipe.toml").read_text() == recipe
    assert '"check"' in (place / "run" / "manifest.json").read_text()


def test_what_is_no_model_says_what_it_is(place: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "a file is no model" in refused(capsys, "run", "dataset", "--model", "made/made.json", "--out", "new")
    (place / "run" / "model").mkdir(parents=True)
    (place / "run" / "model" / "modules.json").write_text("[]")
    assert "give its model, run/model" in refused(capsys, "export", "run", "--out", "onnx")
    assert "it goes to --model" in refused(capsys, "check", tiny_model)
    assert "got --max-length, --trust-remote-code" in refused(capsys, "check", "dataset", "--max-length", "64", "--trust-remote-code")
    (place / "run" / "recipe.toml").touch()
    assert "give run/recipe.toml" in refused(capsys, "check", "run")
    assert "give its recipe: run/recipe.toml" in refused(capsys, "run", "run")


def test_the_next_command_can_be_copied_whatever_the_path(place: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "dataset").rename(place / "my data")
    main(["audit", "my data", "--model", str(tiny_model)])
    assert "then: homing mine 'my data' --judgments FILE" in capsys.readouterr().out


def test_what_is_no_dataset_is_told_how_to_become_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["mine", "data.json"], ["audit", "mine"], ["evaluate", "nowhere", "--model", "x"]):
        assert "homing split DATA" in refused(capsys, *verb), verb
    (place / "run").mkdir()
    (place / "dataset").rename(place / "run" / "dataset")
    main(["mine", "run", "--out", "mined"])  # a run has one


def test_the_help_lists_every_verb_once_on_a_line_of_its_own() -> None:
    listed = [name for names in VERBS.values() for name in names]
    assert sorted(listed) == sorted(cli.commands)
    lines = CliRunner().invoke(cli, ["--help"]).output.splitlines()
    assert all(sum(line.split()[:1] == [name] for line in lines) == 1 for name in listed)
    assert max(map(len, lines)) <= 80
