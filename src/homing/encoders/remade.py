"""Tensors that can be made again, so that a layer keeps for its backward pass what they were made of, where that is kept anyway.

A norm, a GELU or a gate is one pass over memory. What it makes is kept only because the LoRA layer behind it needs its input for the
gradient of A: in an encoder that is a third of all that a step keeps. Selective recomputation: Korthikanti et al. 2022, arXiv 2205.05198.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from transformers.activations import GELUActivation

CHEAP = (nn.GELU, GELUActivation, nn.LayerNorm)  # modules of one pass, which keep their input


class Origin(NamedTuple):
    """What makes a tensor, with the same bits as before, of what its maker keeps."""

    make: Callable[..., Tensor]
    sources: tuple[Tensor, ...]
    version: int  # of the tensor: what was changed in place since is not what was made


def origin(x: Tensor) -> Origin | None:
    """The origin that `x` was given, if any, and still has."""
    known: Origin | None = getattr(x, "origin", None)
    return known if known and known.version == x._version else None


def with_origin(x: Tensor, make: Callable[..., Tensor], *sources: Tensor) -> Tensor:
    """`x`, which from now on knows its origin; where no gradients are wanted, nothing would ask for it."""
    if x.requires_grad:
        x.origin = Origin(make, tuple(each.detach() for each in sources), x._version)  # type: ignore[attr-defined]
    return x


class Remembering:
    """The forward pass of a module of one pass, as it was, whose result knows its origin."""

    def __init__(self, module: nn.Module) -> None:
        self.forward = module.forward

    def __call__(self, x: Tensor) -> Tensor:
        return with_origin(self.forward(x), self.forward, x)
