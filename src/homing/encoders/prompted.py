"""The same weights under another query prompt."""

from __future__ import annotations

import copy
from typing import overload

from homing.encoders.model import Model
from homing.encoders.pair import Pair


@overload
def prompted(model: Model, prompt: str, name: str | None = None) -> Model: ...


@overload
def prompted(model: Pair, prompt: str, name: str | None = None) -> Pair: ...


def prompted(model: Model | Pair, prompt: str, name: str | None = None) -> Model | Pair:
    """The model as it would be if `prompt` stood before each query; weights are shared, the model itself is not changed."""
    if isinstance(model, Pair):
        return Pair(prompted(model.queries, prompt), model.documents, name or model.name)
    other = copy.copy(model)
    other.prompts = {**model.prompts, "query": prompt}
    other.name = name or model.name
    return other
