"""What a training keeps on disk to go on from: damaged parts are left aside or made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from homing.data import Dataset
from homing.encoders.model import Model
from homing.loading import load
from homing.training.journal import MOMENTS, STATE, Journal
from homing.training.tokenised import Tokenised


@pytest.mark.parametrize("name", [STATE, MOMENTS, "adapter_model.safetensors"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, name: str) -> None:
    from safetensors.torch import save_file

    journal = Journal(tmp_path)
    for update in (2, 4):
        weights = {"a": torch.full((64,), float(update))}
        journal.save(
            update, lambda path, weights=weights: save_file(weights, path / "adapter_model.safetensors"),
            {"0.step": torch.ones(64)}, {"fingerprint": "x", "update": update}, best=2,
        )  # fmt: skip
    found = journal.last("x")
    assert found is not None
    assert found[1]["update"] == 4
    file = journal.checkpoint(4) / name
    file.write_bytes(file.read_bytes()[:-9])
    found = journal.last("x")
    assert found is not None
    assert (found[0], found[1]["update"]) == (journal.checkpoint(2), 2)
    assert journal.last("another") is None


@pytest.fixture
def data(made: Path) -> Dataset:
    return load(made)


@pytest.mark.parametrize("name", ["ids.npy", "offsets.npy"])
def test_damaged_tokens_are_made_again(tiny_model: Path, data: Dataset, tmp_path: Path, name: str) -> None:
    model = Model(tiny_model)
    before = Tokenised(model, data, np.arange(3), np.arange(5), tmp_path).tokens
    ids, offsets = np.array(before.ids), np.array(before.offsets)
    file = next(tmp_path.glob(f"*/{name}"))
    file.write_bytes(file.read_bytes()[:-9])
    again = Tokenised(model, data, np.arange(3), np.arange(5), tmp_path).tokens
    assert np.array_equal(again.ids, ids)
    assert np.array_equal(again.offsets, offsets)


def test_what_a_kill_left_half_goes_when_it_goes_on_and_another_trainings_texts_when_one_begins(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    half, whole = journal.checkpoint(5).with_name(".step-0000005.partial"), journal.checkpoint(4)
    texts = [tmp_path / name / whose for name in ("tokens", "documents") for whose in ("own", "others", ".others.partial")]
    for directory in (half, whole, *texts, tmp_path / "teacher"):
        directory.mkdir(parents=True)
        (directory / "file").write_text("x")
    journal.cut(4)
    assert not half.exists()
    assert whole.exists()
    assert all(each.exists() for each in texts)
    journal.begin([each for each in texts if each.name == "own"])
    assert not whole.exists()
    assert [each.name for each in texts if each.exists()] == ["own", "own"]
    assert (tmp_path / "teacher" / "file").exists()  # answers that were paid for
