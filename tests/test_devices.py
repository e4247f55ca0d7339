"""What a machine has, in cores and in memory: siblings, affinity and a container's quota are each obeyed."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from homing.encoders import cgroups, devices, memory


def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str]) -> None:
    """Control groups of these files, by their paths, for a process that is in `own`, lines of /proc/self/cgroup."""
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(cgroups, "ROOT", tmp_path / "fs")
    monkeypatch.setattr(cgroups, "OWN", tmp_path / "own")


SECOND, FIRST, SLURM = "0::/\n", "4:memory:/docker/1a\n2:cpu,cpuacct:/docker/1a\n1:name=systemd:/\n0::/\n", "0::/slurm/job_7/step_0\n"


@pytest.mark.parametrize(
    ("allowed", "physical", "own", "files", "wanted"),
    [
        (8, 4, SECOND, {"cpu.max": "max 100000\n"}, 4),
        (2, 16, SECOND, {"cpu.max": "max 100000\n"}, 2),
        (64, 32, SECOND, {"cpu.max": "200000 100000\n"}, 2),
        (64, 32, SECOND, {"cpu.max": "50000 100000\n"}, 1),
        (4, None, SECOND, {}, 4),
        (64, 32, SLURM, {"slurm/job_7/cpu.max": "300000 100000\n", "slurm/cpu.max": "max 100000\n"}, 3),
        (64, 32, FIRST, {"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        (64, 32, FIRST, {"cpu/docker/1a/cpu.cfs_quota_us": "400000\n", "cpu/docker/1a/cpu.cfs_period_us": "100000\n"}, 4),
        (64, 32, FIRST, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 32),
    ],
)
def test_real_cores(
    allowed: int, physical: int | None, own: str, files: dict[str, str], wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups(tmp_path, monkeypatch, own, files)
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda process: set(range(allowed)))
    monkeypatch.setattr("psutil.cpu_count", lambda logical: physical)
    assert devices.real_cores() == wanted


@pytest.mark.parametrize(
    ("limit", "there", "wanted"),
    [(8000, 8000, (6500, 8000)), (2000, 8000, (1000, 2000)), (900, 8000, (0, 900)), (None, 8000, (6500, 8000))],
)
@pytest.mark.parametrize("version", [1, 2])
def test_memory_of_a_container(
    version: int, limit: int | None, there: int, wanted: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version == 2:
        said = {"max": limit or "max", "current": 1500, "stat": "anon 900\ninactive_anon 7\ninactive_file 500"}
    else:
        stat = "inactive_file 9\ntotal_inactive_anon 7\ntotal_inactive_file 500"
        said = {"limit_in_bytes": limit or 9223372036854771712, "usage_in_bytes": 1500, "stat": stat}
    files = {f"{'memory/' * (version == 1)}memory.{name}": f"{value}\n" for name, value in said.items()}
    groups(tmp_path, monkeypatch, {1: FIRST, 2: SECOND}[version], files)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=6500, total=there))
    cpu = torch.device("cpu")
    assert (memory.available(cpu), memory.total(cpu)) == wanted


def test_where_there_are_no_control_groups_nothing_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups(tmp_path, monkeypatch, SECOND, {})
    (tmp_path / "own").unlink()
    assert (cgroups.cores(), cgroups.memory()) == (float("inf"), [])


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
