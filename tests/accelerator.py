"""An accelerator without a device: its tensors have shapes, number formats, devices and gradients, but no numbers.

PyTorch's FakeTensorMode on a backend that PyTorch lets Python register. Two things fail there by themselves: an operation that mixes
tensors of the host and of the device, and one whose result, or whose shape, needs a number. `Watch` adds what only costs time: copies
that the host waits for. What happens inside a kernel is not seen; nor is any speed.

The registration is for the whole process, which then has this accelerator as its default device: import this in a process of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from homing.encoders import devices, packed
from homing.encoders.lean import make_lean
from homing.encoders.model import Model
from homing.encoders.packed import Packer

NAME = "accel"
ATEN = torch.ops.aten


class _Backend(_DummyBackendModule):
    """What PyTorch asks the module `torch.accel` for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        pass


class _Event:
    """Where the device was when it was recorded, by number."""

    log: list[tuple[str, int]]

    def __init__(self, device: torch.device) -> None:
        self.number = -1

    def record(self) -> None:
        self.number = sum(what == "recorded" for what, _ in self.log)
        self.log.append(("recorded", self.number))

    def synchronize(self) -> None:
        self.log.append(("awaited", self.number))


class HostWaits(Exception):
    """The host waits until the device has done all that it was given."""


class Watch(TorchDispatchMode):
    """Counts operations, and raises HostWaits where a copy between host and device waits.

    `counts`: how often each operation ran; `products`: matrix products by number format. With `strict` off the waits are counted in
    `waits`, and a number that is asked for is 0.
    """

    def __init__(self, strict: bool = True) -> None:
        super().__init__()
        self.strict = strict
        self.counts, self.waits, self.products = Counter[str](), Counter[str](), Counter[tuple[torch.dtype, int]]()
        self._pinned: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        self.counts[str(func)] += 1
        if func in (ATEN._pin_memory.default, ATEN.pin_memory.default):  # the latter where there are no gradients
            self._pinned.append(args[0].clone())
            return self._pinned[-1]
        if not self.strict and func is ATEN._local_scalar_dense.default:
            self._waits(func, "reads a number")
            return 0
        out = func(*args, **kwargs)
        if func is ATEN.empty.memory_format and kwargs.get("pin_memory"):
            self._pinned.append(out)
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if func in (ATEN.copy_.default, ATEN._to_copy.default):
            target, source = (given[0], given[1]) if func is ATEN.copy_.default else (out, given[0])
            host = target if source.device.type == NAME else source
            apart = {target.device.type, source.device.type} == {"cpu", NAME}
            behind = kwargs.get("non_blocking") or (func is ATEN.copy_.default and len(args) > 2 and args[2])
            if apart and not (behind and any(_same_memory(host, each) for each in self._pinned)):
                self._waits(func, f"copies from {source.device.type} to {target.device.type}")
        elif len({each.device.type for each in given}) > 1:
            self._waits(func, "takes a single number from the host")
        elif func in (ATEN.index_put.default, ATEN.index_put_.default) and _masks(args[1]):
            self._waits(func, "counts what is true")
        if func in (ATEN.mm.default, ATEN.addmm.default):
            self.products[out.dtype, args[-2].shape[0]] += 1
        return out

    def _waits(self, func: Any, why: str) -> None:
        if self.strict:
            raise HostWaits(f"{func} {why}")
        self.waits[f"{func} {why}"] += 1


def _masks(places: list[Tensor | None]) -> bool:
    return any(each is not None and each.dtype == torch.bool for each in places)


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata


@contextmanager
def accelerator(memory: int = 80_000_000_000) -> Iterator[list[tuple[str, int]]]:
    """A device with so many free bytes, named `accel`, whose tensors have no numbers; yields the log of its events."""
    said: dict[str, Callable[..., Any]] = {
        "get_memory_info": lambda device: (memory, memory),
        "memory_reserved": lambda device: 0,
        "memory_allocated": lambda device: 0,
        "empty_cache": lambda: None,
        "synchronize": _synchronize,
    }
    usual = {name: getattr(torch.accelerator, name) for name in said}
    applied, nn.Module._apply = nn.Module._apply, _apply
    event, torch.Event = torch.Event, type("Event", (_Event,), {"log": []})
    pinned, devices.PINNED = devices.PINNED, (NAME,)
    kernel, packed.HAS_KERNEL = packed.HAS_KERNEL, (NAME,)
    for name, each in said.items():
        setattr(torch.accelerator, name, each)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield torch.Event.log
    finally:
        for name, each in usual.items():
            setattr(torch.accelerator, name, each)
        torch.Event, devices.PINNED, packed.HAS_KERNEL, nn.Module._apply = event, pinned, kernel, applied


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` with new parameters: PyTorch's own would exchange tensors in place, which those without numbers don't allow."""
    for each in module.modules() if recurse else [module]:
        for name, weight in each._parameters.items():
            if weight is not None:
                each._parameters[name] = nn.Parameter(change(weight.data), requires_grad=weight.requires_grad)
        for name, buffer in each._buffers.items():
            if buffer is not None:
                each._buffers[name] = change(buffer)
    return module


def _synchronize(device: Any = None) -> None:
    raise HostWaits("synchronize")


def to_accelerator(model: Model, *, made_lean: bool = True) -> Model:
    """The model with its weights' shapes on the accelerator, in place; packed, since what `admit` compares are numbers, and lean unless
    `made_lean` is off: what its trials compare on the host holds here too.
    """
    if made_lean:
        with _disable_current_modes():
            make_lean(model.transformer[0].model)
    _apply(model.transformer, lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device=NAME))
    model.device = torch.device(NAME)
    model.__dict__["packer"] = Packer(model.transformer, model.device)
    return model


_setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
