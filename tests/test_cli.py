"""What the verbs refuse, before it costs time or somebody's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from homing.cli import main
from homing.loading import load, save_dataset
from homing.settings import Splitting
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
