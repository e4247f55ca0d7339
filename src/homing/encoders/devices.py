"""Which device there is, how many of its cores are real, and which number format it is fast in."""

from __future__ import annotations

import ctypes
import math
import os
import time
from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from homing.encoders import cgroups
from homing.errors import SettingError, first_line

_C_LIBRARY = ctypes.CDLL(None) if os.name == "posix" else None
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")  # what a CPU, MPS and cuBLAS say in a plain RuntimeError
PINNED = ("cuda", "xpu")  # devices that copy from and to memory which is pinned for them while the host goes on


def default_device() -> torch.device:
    """The accelerator, where torch finds one, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def device_of(asked: str | torch.device) -> torch.device:
    """The device of this name. Raises SettingError where torch knows none, or where it is not in this machine."""
    try:
        device = torch.device(asked)
        if device.type != "meta":
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise SettingError(
            "there is no such device", got=repr(asked), expected=f"{default_device()}, which was found here, or cpu",
            remedy=f"Leave it out to have what there is. torch says: {first_line(error)}",
        ) from None  # fmt: skip
    return device


def real_cores() -> int:
    """The cores that this process may compute on: its own, no sibling threads of one core, no more than a container's quota."""
    import psutil  # here alone, so that a machine with an accelerator needs no more than PyTorch

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(allowed, psutil.cpu_count(logical=False) or allowed)
    return math.ceil(min(cores, cgroups.cores()))


@cache
def use_real_cores() -> None:
    """Let PyTorch compute on as many threads as there are real cores, unless OMP_NUM_THREADS says otherwise; the first call counts.

    PyTorch takes one thread a logical core, and in a container one for every core of the machine: they then wait for each other.
    """
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > real_cores():
        torch.set_num_threads(real_cores())


@cache
def fast_dtype(device: torch.device) -> torch.dtype:
    """float32 on a CPU; on an accelerator bfloat16 where it multiplies matrices at least 1.5 times as fast in it, measured once.

    A busy CPU's measurement flips from run to run, and with it the result; an accelerator's ratio is 8 and more, or below 1. Never
    float16: its range is too small for the activations of models that were trained in bfloat16.
    """
    if device.type == "cpu":
        return torch.float32
    size = 4096

    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.ones(size, size, dtype=dtype, device=device)
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            (matrix @ matrix)[0, 0].item()
            best = min(best, time.perf_counter() - start)
        return best

    try:
        return torch.bfloat16 if seconds(torch.bfloat16) * 1.5 < seconds(torch.float32) else torch.float32
    except RuntimeError:  # a device without bfloat16
        return torch.float32


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array on the device, its shape and type kept, without waiting for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type in PINNED else tensor.to(device)


class Arriving:
    """A tensor on its way to the host.

    A plain copy waits until the device has done all that it was given by then, were it the whole next update. This one is queued behind
    what makes the tensor, and `here` waits for it alone.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._copied = tensor, None
        if tensor.device.type in PINNED:
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
            self._copied = torch.Event(tensor.device)
            self._copied.record()

    def here(self) -> Tensor:
        """The tensor on the CPU, its shape and type kept."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensor.cpu()


def ran_out(error: BaseException) -> bool:
    """Whether it says that there was too little memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(said in str(error) for said in OUT_OF_MEMORY)


def return_freed_memory() -> None:
    """Give the system the memory back that is free, where the C library is glibc; elsewhere nothing.

    Tensors of ever other sizes leave holes in its heap, which it keeps: a process that encodes for hours grows, though it loses nothing.
    """
    trim = getattr(_C_LIBRARY, "malloc_trim", None)
    if trim is not None:
        trim(0)


def return_unused_memory(device: torch.device) -> None:
    """Give back the device's memory that PyTorch holds without using it."""
    if device.type == "mps":
        torch.mps.empty_cache()  # torch.accelerator's own fails there before PyTorch 2.13
    elif device.type != "cpu":
        torch.accelerator.empty_cache()


def token_budget(device: torch.device, packed: bool) -> int:
    """Tokens a chunk: on a CPU few, to stay in its cache, and fewer where they are padded; on an accelerator enough to fill it.

    Measured on one core with MiniLM (docs/log.md).
    """
    return (1024 if packed else 512) if device.type == "cpu" else 16384
