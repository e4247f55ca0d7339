"""What a machine has, in cores and in memory: siblings, affinity and a container's quota are each obeyed."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from homing.encoders import devices, memory


@pytest.mark.parametrize(
    ("allowed", "physical", "quota", "wanted"),
    [(8, 4, "max 100000", 4), (2, 16, "max 100000", 2), (64, 32, "200000 100000", 2), (64, 32, "50000 100000", 1), (4, None, "", 4)],
)
def test_real_cores(allowed: int, physical: int | None, quota: str, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpu.max"
    if quota:
        file.write_text(quota + "\n")
    monkeypatch.setattr(devices, "QUOTA", file)
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda process: set(range(allowed)))
    monkeypatch.setattr("psutil.cpu_count", lambda logical: physical)
    assert devices.real_cores() == wanted


@pytest.mark.parametrize(
    ("limit", "there", "wanted"),
    [
        ("8000", 8000, (6500, 8000)),
        ("2000", 8000, (1000, 2000)),
        ("900", 8000, (0, 900)),
        ("max", 8000, (6500, 8000)),
        ("", 8000, (6500, 8000)),
    ],
)
def test_memory_of_a_container(limit: str, there: int, wanted: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if limit:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("1500\n")
        (tmp_path / "memory.stat").write_text("anon 900\ninactive_anon 7\ninactive_file 500\n")
    monkeypatch.setattr(memory, "QUOTA", tmp_path)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=6500, total=there))
    cpu = torch.device("cpu")
    assert (memory.available(cpu), memory.total(cpu)) == wanted


def test_threads_are_lowered_and_never_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(devices, "real_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    devices.use_real_cores.__wrapped__()
    assert told == [8]
    monkeypatch.setenv("OMP_NUM_THREADS", "12")
    devices.use_real_cores.__wrapped__()
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    devices.use_real_cores.__wrapped__()
    assert told == [8]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to")
def test_freed_memory_goes_back() -> None:
    """In a process of its own, whose heap no other test has torn."""
    code = """
import psutil
from homing.encoders.devices import return_freed_memory
resident = lambda: psutil.Process().memory_info().rss
kept = [bytearray(60_000) for _ in range(4000)]
del kept[:-1]  # the last one holds the heap's end where it is
before = resident()
return_freed_memory()
print(before - resident())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100e6


def test_memory_of_an_apple_gpu_is_asked_of_its_own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.accelerator's own answers fail there before PyTorch 2.13. The system's memory and the device's are one: the scarcer counts."""
    for name, said in {"recommended_max_memory": 12e9, "current_allocated_memory": 2e9, "driver_allocated_memory": 3e9}.items():
        monkeypatch.setattr(torch.mps, name, lambda said=said: int(said))
    for free, wanted in ((30e9, 10e9), (4e9, 5e9)):
        monkeypatch.setattr("psutil.virtual_memory", lambda free=free: SimpleNamespace(available=int(free)))
        assert memory.available(torch.device("mps")) == wanted
    assert memory.total(torch.device("mps")) == 12e9
    emptied: list[bool] = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append(True))
    devices.return_unused_memory(torch.device("mps"))
    assert emptied == [True]
