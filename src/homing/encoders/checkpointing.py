"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): of each layer its inputs alone are kept, the rest is made again going back.

transformers' own wants layers in training mode, which turns dropout on in those that call it as a function, and some models have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


class _Checkpointed:
    """The forward pass of one layer, as it was, that keeps its inputs alone."""

    def __init__(self, layer: nn.Module) -> None:
        self.forward: Callable[..., Any] = layer.forward
        self.own = "forward" not in vars(layer)  # the pass is its class's

    def __call__(self, *args: Any, **others: Any) -> Any:
        return checkpoint(self.forward, *args, use_reentrant=False, **others)


def set_checkpointing(body: nn.Module, on: bool) -> None:
    """Turn gradient checkpointing of a transformer on or off, in place."""
    for layer in _layers(body):
        forward = vars(layer).get("forward")
        if on and not isinstance(forward, _Checkpointed):
            layer.forward = _Checkpointed(layer)
        elif not on and isinstance(forward, _Checkpointed):
            del layer.forward
            if not forward.own:
                layer.forward = forward.forward


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """Each layer of a list of layers, but of the lists within a layer."""
    for child in module.children():
        yield from [child] if isinstance(module, nn.ModuleList) else _layers(child)
