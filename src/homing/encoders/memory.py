"""Memory: what there is on a device, what this process holds of it, and what a forward pass keeps for its backward pass."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from homing.encoders import cgroups

MARGIN = 0.9
SYSTEMS = ("cpu", "mps")  # devices whose memory is the system's


def available(device: torch.device) -> int:
    """Bytes that can still be taken on this device; on an accelerator with those that PyTorch holds without using them."""
    if device.type == "cpu":
        import psutil

        left = [limit - used for limit, used in cgroups.memory()]
        return max(0, min([int(psutil.virtual_memory().available), *left]))
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

        return min([int(psutil.virtual_memory().total), *(limit for limit, _ in cgroups.memory())])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return int(torch.accelerator.get_memory_info(device)[1])


def held(device: torch.device) -> int:
    """Bytes that this process holds on this device: on a CPU the program itself too."""
    if device.type == "cpu":
        import psutil

        return int(psutil.Process().memory_info().rss)
    if device.type == "mps":
        return int(torch.mps.current_allocated_memory())
    return int(torch.accelerator.memory_allocated(device))


def for_activations(device: torch.device) -> float:
    """The share of the free memory that activations may take: less where the whole system takes of it too."""
    return 0.5 if device.type in SYSTEMS else 0.7


def peak() -> int:
    """Bytes of the system's memory that this process held at most, in all its life."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.is_file() else ():
        if line.startswith("VmHWM:"):  # of this program alone: getrusage counts what the process that started it held, too
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


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
