"""What a run will take: every training it holds is reckoned in."""

from __future__ import annotations

from pathlib import Path

import pytest

from homing import Model
from homing.estimating import estimate
from homing.loading import load
from homing.settings import Mining, Splitting, Training
from tiny import made_data


@pytest.mark.parametrize("training", [Training(), Training(minutes=20.0)])
def test_further_trainings_are_reckoned_by_their_rows(training: Training, tiny_model: Path, tmp_path: Path) -> None:
    """Under a clock each takes its minutes, whatever its rows; rates are measured anew each time, so work is compared, not time."""
    model, data = Model(tiny_model, max_length=64), load(made_data(tmp_path))
    one = estimate(model, data, Splitting(), Mining(), training, outside=0)
    three = estimate(model, data, Splitting(), Mining(), training, further=[1.0, 0.25], outside=0)
    work = [each.training_seconds * (1 if training.minutes is not None else each.tokens_per_second) for each in (one, three)]
    assert work[1] / work[0] == pytest.approx(3.0 if training.minutes is not None else 2.25)
    evaluations = [each.evaluation_seconds * each.tokens_per_second for each in (one, three)]
    assert evaluations[1] / evaluations[0] == pytest.approx(4 / 2)
    assert three.disk > one.disk
    assert "3 trainings" in str(three)
    assert "trainings" not in str(one)


def test_a_batch_holds_no_more_queries_than_there_are(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homing.estimating.token_budget", lambda *_: 64)
    model, data = Model(tiny_model, max_length=64), load(made_data(tmp_path, queries=40))
    memory = [estimate(model, data, Splitting(), Mining(), Training(batch_size=size)).memory for size in (8, 28, 4096)]
    assert memory[0] < memory[1] == memory[2]


def test_what_is_measured_outside_the_domain_takes_time_too(tiny_model: Path, tmp_path: Path) -> None:
    model, data = Model(tiny_model, max_length=64), load(made_data(tmp_path))
    found = [estimate(model, data, Splitting(), Mining(), Training(), outside=tokens) for tokens in (0, 10_000)]
    work = [each.evaluation_seconds * each.tokens_per_second for each in found]
    assert work[1] - work[0] == pytest.approx(2 * 10_000)
