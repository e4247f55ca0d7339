"""What a training learned, as a directory: which kind, under which conventions, and the share of it that counts. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from homing import conventions
from homing.arguments import demand_path
from homing.errors import ModelError

Kind = Literal["lora", "rslora", "dora", "full"]

CONFIG, LOW_RANK, WHOLE = "adapter_config.json", "adapter_model.safetensors", "weights.safetensors"
ADAPTERS = (CONFIG, WHOLE)  # either tells an adapter's directory, one of another program's too
MARKS = (LOW_RANK, WHOLE)  # either tells an adapter's directory from any other


@dataclass(frozen=True)
class Adapter:
    """What a training learned: a directory with the encoding conventions that it was trained under in `homing.json`.

    Low-rank kinds are in PEFT's layout (adapter_config.json, adapter_model.safetensors), which other tools load. The kind full holds
    the trained weights in float32, by their names in the model (weights.safetensors). Raises ModelError for any other directory.
    """

    path: Path

    def __post_init__(self) -> None:
        demand_path(path=self.path)
        object.__setattr__(self, "path", Path(self.path))
        for name in self._files:
            if not (self.path / name).is_file():
                raise ModelError("the directory holds no adapter", where=str(self.path), expected=name, remedy="Train one: homing train.")

    @property
    def _files(self) -> tuple[str, ...]:
        return (WHOLE,) if (self.path / WHOLE).is_file() else (CONFIG, LOW_RANK)

    @property
    def weights(self) -> Path:
        """The file of what was learned."""
        return self.path / self._files[-1]

    @property
    def digest(self) -> str:
        """A digest of what was learned, and of the share of it that counts."""
        return sha256(b"".join((self.path / name).read_bytes() for name in self._files) + repr(self.scale).encode()).hexdigest()[:32]

    @property
    def conventions(self) -> dict[str, Any]:
        """What it was trained under: base digest, prompts, pooling, length. Empty for an adapter from elsewhere."""
        return conventions.read(self.path)

    @property
    def tuning(self) -> Kind:
        """lora, rslora, dora or full."""
        if self._files == (WHOLE,):
            return "full"
        said = json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
        return "dora" if said.get("use_dora") else "rslora" if said.get("use_rslora") else "lora"

    @property
    def shape(self) -> dict[str, Any]:
        """Rank and alpha of a low-rank kind, by the names of the training's settings; empty for all weights."""
        if self.tuning == "full":
            return {}
        said = json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
        return {"rank": int(said["r"]), "alpha": float(said["lora_alpha"])}

    @property
    def scale(self) -> float:
        """The share of what was learned that is kept, from 0 to 1."""
        return float(self.conventions.get("scale", 1.0))

    @property
    def side(self) -> str:
        """both, or queries where documents keep the base's embeddings."""
        return str(self.conventions.get("train", "both"))
