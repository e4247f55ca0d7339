"""Which device there is, and which number format it is fast in."""

from __future__ import annotations

import time
from functools import cache

import torch


def default_device() -> torch.device:
    """The accelerator, where torch finds one, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


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


def token_budget(device: torch.device, packed: bool) -> int:
    """Tokens a chunk: on a CPU few, to stay in its cache, and fewer where they are padded; on an accelerator enough to fill it.

    Measured on one core with MiniLM (docs/log.md).
    """
    return (1024 if packed else 512) if device.type == "cpu" else 16384
