"""A run's directory: its manifest, its lock, and where it stands. Light, so that `homing status` answers at once."""

from __future__ import annotations

import fcntl
import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from homing.errors import FormatError, RunError
from homing.training.traininglog import FILE, records

STAGES = ("check", "split", "mine", "train", "merge", "evaluate", "report")
ARTEFACTS = {
    "check": "check.json", "split": "dataset", "mine": "mined", "train": "adapter", "merge": "model", "evaluate": "evaluation",
    "report": "report.html",
}  # fmt: skip
SHARES = (25, 50)  # per cent of the judgments that a learning curve is trained on, beside all


def plan(seeds: Sequence[int] = (), shares: Sequence[int] = (), *, anew: bool = False) -> tuple[str, ...]:
    """The stages of a run in their order; a further training is one of its own, named `seed N`, `share N` or `start base`."""
    further = (*(f"seed {seed}" for seed in seeds), *(f"share {share}" for share in shares), *(("start base",) if anew else ()))
    at = STAGES.index("evaluate")
    return (*STAGES[:at], *further, *STAGES[at:])


def artefact(stage: str) -> str:
    """What a stage leaves, a path in the run's directory; a further training leaves its adapter."""
    return ARTEFACTS.get(stage) or f"{further(stage)}/adapter"


def further(stage: str) -> str:
    """The directory of a further training, in the run's."""
    kind, which = stage.split()
    return f"{kind}s/{which}"


def share_of(stage: str) -> float:
    """The share of the judgments, and of the minutes, that a training has."""
    return int(stage.split()[1]) / 100 if stage.startswith("share ") else 1.0


def trains(stage: str) -> bool:
    """Whether a stage is a training, the run's own or a further one."""
    return stage == "train" or " " in stage


def planned(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The stages of the run with this manifest."""
    return tuple(manifest.get("plan", STAGES))


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """A run's manifest, None where there is no run. Raises RunError for a manifest that cannot be read."""
    file = directory / "manifest.json"
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        found["stages"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            "the manifest cannot be read", where=str(file), got=str(error), remedy="Give another --out, or remove this file."
        ) from None
    return dict(found)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the run's lock. Raises RunError where another process holds it, or where the directory holds something else than a run.

    On a file system without locks a run goes on without.
    """
    if directory.is_file():
        raise RunError("a file stands where the run's directory should be", where=str(directory), remedy="Give another --out.")
    if directory.is_dir() and any(directory.iterdir()) and not _is_run(directory):
        raise RunError("the directory holds something that is not a run", where=str(directory), remedy="Give another --out.")
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                "another process works on this run",
                where=str(directory),
                remedy=f"Wait for it (homing status {directory}), or give another --out.",
            ) from None
        except OSError:
            pass
        yield


def _is_run(directory: Path) -> bool:
    """Whether a run left this: by its lock, or in a copy that lost its hidden files by its manifest."""
    with suppress(RunError):
        return (directory / ".lock").exists() or read_manifest(directory) is not None
    return False


def is_running(directory: Path) -> bool:
    """Whether a process works on this run now."""
    try:
        with (directory / ".lock").open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def how_to_go_on(directory: Path) -> str:
    """The last finished stage and checkpoint, and the command that goes on from there."""
    manifest = read_manifest(directory) or {"stages": {}}
    done = [stage for stage in planned(manifest) if stage in manifest["stages"]]
    current = next((stage for stage in planned(manifest) if stage not in done), "")
    logs = _logs(directory, current)
    checkpoints = sorted(path.name for path in (logs / "checkpoints").glob("step-*")) if logs is not None else []
    lines = [f"stopped; the last finished stage: {done[-1] if done else 'none'}"]
    if checkpoints:
        lines.append(f"the last checkpoint: {checkpoints[-1]}")
    if (directory / "recipe.toml").is_file():
        lines.append(f"go on with: homing run {shlex.quote(str(directory / 'recipe.toml'))}")
    return "\n".join(lines)


def status(directory: Path) -> str:
    """Where a run stands. Raises FormatError where there is none."""
    manifest = read_manifest(directory)
    if manifest is None and is_running(directory):
        return f"{directory}: running, opens the model and the data"
    if manifest is None:
        raise FormatError(
            "there is no run", where=str(directory), expected="manifest.json", remedy="Give the directory that homing run wrote to."
        )
    running = is_running(directory)
    current = next((stage for stage in planned(manifest) if stage not in manifest["stages"]), None)
    lines = [f"{directory}: {'running' if running else 'stopped' if current else 'finished'}"]
    for stage in planned(manifest):
        done = manifest["stages"].get(stage)
        if done:
            lines.append(f"{stage:>9}  done in {done['seconds']:.0f} s, peak memory {done['peak_memory_bytes'] / 1e9:.1f} GB")
        elif stage == current:
            lines.append(f"{stage:>9}  {'at work' if running else 'to do'}{_training_progress(directory, stage)}")
        else:
            lines.append(f"{stage:>9}  to do")
    if not running and current:
        lines.append(how_to_go_on(directory).splitlines()[-1])
    return "\n".join(lines)


def _logs(directory: Path, stage: str) -> Path | None:
    """Where the training of this stage logs; None for a stage that trains nothing."""
    if stage == "train":
        return directory / "training"
    return directory / further(stage) / "training" if " " in stage else None


def _training_progress(directory: Path, stage: str) -> str:
    logs = _logs(directory, stage)
    figures: dict[str, Any] = {}
    for record in records(logs / FILE) if logs is not None else ():
        figures.update(record)
    if "loss" not in figures:
        return ""
    training = tomllib.loads((directory / "recipe.toml").read_text(encoding="utf-8"))["training"]
    if (minutes := training.get("minutes")) is not None:
        of, left = "", max(0.0, minutes * 60 * share_of(stage) - figures["seconds"])
    else:
        share = min(1.0, figures["epoch"] / training["epochs"])
        of, left = f" of {training['epochs']:g}", figures["seconds"] * (1 - share) / share if share else float("nan")
    return (
        f": step {figures['step']}, epoch {figures['epoch']:.2f}{of}, loss {figures['loss']:.4f}, "
        f"dev nDCG@10 {figures.get('dev_nDCG@10', float('nan')):.4f}, about {left:.0f} s of steps left"
    )
