"""What a container or a scheduler (Docker, Kubernetes, Slurm) lets this process have: control groups of both versions, cgroups(7)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> float:
    """Cores that may be busy all the time: 1.5 is one and half of another; infinity where there is no limit."""
    found = [float("inf")]
    for group in _groups("cpu"):
        with suppress(OSError, ValueError):  # no limit: no such file, or max
            quota, period = map(int, (group / "cpu.max").read_text().split())
            found.append(quota / period)
        with suppress(OSError, ValueError):
            quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            found += [quota / period] * (quota > 0)
    return min(found)


def memory() -> list[tuple[int, int]]:
    """Limits in bytes, beyond which the kernel kills what is within, each with what is used of it: but for files that are read no more."""
    found = []
    for group in _groups("memory"):
        for limit, used, unread in (("max", "current", "inactive_file"), ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")):
            with suppress(OSError, ValueError):
                most, now = (int((group / f"memory.{name}").read_text()) for name in (limit, used))
                lines = (group / "memory.stat").read_text().splitlines()
                found.append((most, now - sum(int(line.split()[1]) for line in lines if line.startswith(f"{unread} "))))
    return found


def _groups(controller: str) -> Iterator[Path]:
    """The directories of the groups that this process is in, its own and those above it, as far as they can be seen from within."""
    lines = OWN.read_text().splitlines() if OWN.is_file() else ["0::/"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = ROOT / controller if controllers else ROOT
        own = top / path.lstrip("/")
        yield from (group for group in (own, *own.parents) if group.is_relative_to(top))
