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
    one = estimate(model, data, Splitting(), Mining(), training)
    three = estimate(model, data, Splitting(), Mining(), training, further=[1.0, 0.25])
    work = [each.training_seconds * (1 if training.minutes is not None else each.tokens_per_second) for each in (one, three)]
    assert work[1] / work[0] == pytest.approx(3.0 if training.minutes is not None else 2.25)
    evaluations = [each.evaluation_seconds * each.tokens_per_second for each in (one, three)]
    assert evaluations[1] / evaluations[0] == pytest.approx(4 / 2)
    assert three.disk > one.disk
    assert "3 trainings" in str(three)
    assert "trainings" not in str(one)
