"""What a training writes as it goes: a line of figures an update and a look, and the checkpoints from which it goes on after a stop."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from homing.manifest import replace_directory, replaced, write_json
from homing.training.traininglog import FILE

KEPT = 3  # the last checkpoints, beside the best one
STATE, MOMENTS = "state.json", "optimizer.safetensors"
CHECKPOINT_ONLY = (MOMENTS, STATE)  # of a checkpoint's files: what going on needs, and no adapter holds


class Journal:
    """`directory` holds metrics.jsonl and checkpoints/step-N; a checkpoint is written whole or not at all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def log(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Add a line to metrics.jsonl, a number that is not finite as null; the line."""
        line = {name: value if not isinstance(value, float) or math.isfinite(value) else None for name, value in figures.items()}
        with (self.directory / FILE).open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
        return line

    def checkpoint(self, update: int) -> Path:
        """Where the checkpoint after this many updates is or will be."""
        return self.directory / "checkpoints" / f"step-{update:07d}"

    def save(self, update: int, write: Callable[[Path], None], moments: dict[str, Tensor], state: Mapping[str, Any], best: int) -> None:
        """Write a checkpoint: the weights by `write`, the optimiser's moments, the state. The last three stay, and `best`."""
        with replace_directory(self.checkpoint(update)) as fresh:
            write(fresh)
            save_file(moments, str(fresh / MOMENTS))
            write_json(fresh / STATE, state)
        there = self._checkpoints()
        for path in there[:-KEPT]:
            if path != self.checkpoint(best):
                shutil.rmtree(path)

    def last(self, fingerprint: str) -> tuple[Path, dict[str, Any], dict[str, Tensor]] | None:
        """The last checkpoint that is whole, with its state and moments; None where there is none, or its state has another
        `fingerprint`. What comes after it is done again, to the same bytes."""
        for path in reversed(self._checkpoints()):
            try:
                state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
                for weights in path.glob("*.safetensors"):
                    with safe_open(weights, "pt"):  # refuses a file that is longer or shorter than its head says
                        pass
                moments = load_file(path / MOMENTS)
            except (OSError, ValueError, SafetensorError):
                continue
            return (path, state, moments) if state.get("fingerprint") == fingerprint else None
        return None

    def cut(self, update: int) -> None:
        """Drop what was logged after this update, and checkpoints that a kill left half: it will be done again."""
        for half in (self.directory / "checkpoints").glob(".step-*"):
            shutil.rmtree(half)
        file = self.directory / FILE
        kept = []
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
            try:
                if json.loads(line)["step"] <= update:
                    kept.append(line)
            except ValueError:  # the line that a kill cut short
                break
        with replaced(file) as fresh:
            fresh.write("".join(f"{line}\n" for line in kept))

    def begin(self, own: Collection[Path] = ()) -> None:
        """Clear away what another training left, tokens and embeddings of its texts among it; `own` are the ones that this one reads."""
        others = [each for name in ("tokens", "documents") for each in (self.directory / name).glob("*") if each not in own]
        for there in (*(self.directory / name for name in ("checkpoints", FILE, "scales.json")), *others):
            shutil.rmtree(there) if there.is_dir() else there.unlink(missing_ok=True)
        self.directory.mkdir(parents=True, exist_ok=True)

    def _checkpoints(self) -> list[Path]:
        return sorted((self.directory / "checkpoints").glob("step-*"))
