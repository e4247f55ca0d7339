"""Settings: what no setting takes, whichever it is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import homing
from homing import Mining, Model, Training
from homing.errors import SettingError
from homing.training import resolved


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, "7", True, [1]])
@pytest.mark.parametrize("name", ["epochs", "minutes", "temperature", "margin", "rank"])
def test_a_number_is_a_finite_number(name: str, value: Any) -> None:
    flag = "lora-rank" if name == "rank" else name
    with pytest.raises(SettingError, match=f"--{flag} is no finite number; got"):
        Training(**{name: value})


def test_numbers_of_numpy_and_none_are_taken() -> None:
    assert Training(rank=np.int64(4), epochs=np.float32(0.5), minutes=None).rank == 4
    assert Mining(negatives=np.int32(2)).negatives == 2


@pytest.mark.parametrize("dimensions", ["9999", "32,65", "0"])
def test_dimensions_are_the_models(tiny_model: Path, dimensions: str) -> None:
    with pytest.raises(SettingError, match=f"got {dimensions}; expected each from 1 to 64"):
        resolved(Model(tiny_model), Training(dimensions=dimensions))
    assert resolved(Model(tiny_model), Training(dimensions="64,32")).dimensions == "64,32"


def test_a_path_where_what_it_holds_belongs_is_told_how_to_open(tiny_model: Path, made: Path) -> None:
    data, model = homing.load(made), Model(tiny_model)
    train, dev, test = homing.split(data)
    calls: list[Any] = [
        lambda: homing.split(made),  # type: ignore[arg-type]
        lambda: homing.mine(str(made)),  # type: ignore[arg-type]
        lambda: homing.train(str(tiny_model), homing.mine(train), dev),  # type: ignore[arg-type]
        lambda: homing.train(model, homing.mine(train), made),  # type: ignore[arg-type]
        lambda: homing.merge(model, "adapter"),  # type: ignore[arg-type]
        lambda: homing.evaluate([str(tiny_model)], dev, test),  # type: ignore[list-item]
    ]
    for call in calls:
        with pytest.raises(SettingError, match=r"is a text or a path.*\nOpen it first"):
            call()
    with pytest.raises(SettingError, match="Put it into a list"):
        model.encode("one text", "query")
    with pytest.raises(SettingError, match="'query' or 'document'"):
        model.encode(["one text"], "queries")  # type: ignore[arg-type]
