"""What training a model needs in memory: estimated from its shape, measured on a chunk, and what there is."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from homing.encoders.model import Model

MARGIN = 0.9


def available(device: torch.device) -> int:
    """Bytes that can still be taken on this device; on an accelerator with those that PyTorch holds without using them."""
    if device.type == "cpu":
        import psutil

        return int(psutil.virtual_memory().available)
    if device.type == "mps":  # the system's memory; what torch.accelerator says of it came after PyTorch 2.12
        import psutil

        held = torch.mps.current_allocated_memory()
        unused = torch.mps.driver_allocated_memory() - held
        return int(min(torch.mps.recommended_max_memory() - held, psutil.virtual_memory().available + unused))
    free, _ = torch.accelerator.get_memory_info(device)
    return int(free) + torch.accelerator.memory_reserved(device) - torch.accelerator.memory_allocated(device)


def total(device: torch.device) -> int:
    """Bytes that this device has."""
    if device.type == "cpu":
        import psutil

        return int(psutil.virtual_memory().total)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return int(torch.accelerator.get_memory_info(device)[1])


@dataclass
class Saved:
    """What forward passes held for their backward pass: bytes, and the storages that they are in."""

    total: int = 0
    storages: set[int] = field(default_factory=set)


@contextmanager
def saved_bytes(known: Set[int] = frozenset()) -> Iterator[Saved]:
    """Counts the bytes that the forward passes within keep for their backward pass, each storage once, those `known` left out."""
    saved = Saved()

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known and storage._cdata not in saved.storages:
            saved.storages.add(storage._cdata)
            saved.total += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def activation_bytes(model: Model, tokens: int) -> int:
    """Bytes that the activations of so many tokens hold until the backward pass: an estimate, before anything is run.

    Per token and layer about 20 vectors of the hidden size and 4 of the intermediate size.
    """
    config = model.transformer[0].model.config
    hidden = int(getattr(config, "hidden_size", model.dimension))
    wide = int(getattr(config, "intermediate_size", 4 * hidden))
    layers = int(getattr(config, "num_hidden_layers", 12))
    return tokens * layers * (20 * hidden + 4 * wide) * model.dtype.itemsize
