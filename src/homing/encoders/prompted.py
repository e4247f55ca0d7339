"""The same encoder under another query prompt."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from homing.encoders.kept import Kept
from homing.encoders.pair import Pair
from homing.encoders.truncated import Truncated
from homing.protocols import Encoder

Asked = TypeVar("Asked", bound=Encoder)


def prompted(encoder: Asked, prompt: str) -> Asked:
    """The encoder as it would be if `prompt` stood before each query; weights are shared, and it is itself not changed."""
    other: Any = copy.copy(encoder)
    if isinstance(other, Pair):
        other.queries = prompted(other.queries, prompt)
    elif isinstance(other, Kept | Truncated):
        other.encoder = prompted(other.encoder, prompt)
    else:
        other.prompts = {**encoder.prompts, "query": prompt}
    found: Asked = other
    return found
