"""Where a model's weights come from, and how that was verified: what `homing.json` holds under `merged` and `evaluated`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from homing import conventions
from homing.errors import ModelError


@dataclass(frozen=True)
class Verified:
    """How the written weights were compared with the adapter on its base.

    `texts` were embedded as queries and as documents; `distance` is the largest difference of a number (float32), or of direction,
    1 - cosine (half precision). `flips` of `pairs`: two documents that a query ranks the other way round after rounding.
    """

    tensors: int
    texts: int
    distance: float
    flips: int
    pairs: int

    def apart(self, dtype: str) -> str:
        """How far apart the embeddings are, in words; `dtype` is the number format of the written weights."""
        if dtype == "float32":
            return f"at most {self.distance:.1e} apart in a number"
        flips = f"{self.flips:,} of {self.pairs:,} pairs of documents ranked the other way round"
        return f"at most {self.distance:.1e} apart in cosine, {flips}"


@dataclass(frozen=True)
class Origin:
    """A merged model's base, what was put into it, and how it was verified. `chosen` says who chose the scale."""

    base: str
    base_digest: str
    licence: str | None
    side: str
    tuning: str
    adapter_digest: str
    scale: float
    chosen: str
    dtype: str
    changed: int
    verified: Verified

    def write(self, directory: Path) -> None:
        """Put it into the directory's `homing.json`, beside whatever else that says."""
        conventions.put(directory, merged=asdict(self))

    @classmethod
    def read(cls, directory: Path) -> Origin | None:
        """The origin of a model's directory, None where it says none. Raises ModelError where another version wrote it otherwise."""
        said = conventions.read(directory).get("merged")
        if said is None:
            return None
        try:
            verified = Verified(**{each.name: said["verified"][each.name] for each in fields(Verified)})
            return cls(**{each.name: said[each.name] for each in fields(cls)} | {"verified": verified})
        except (KeyError, TypeError) as error:
            raise ModelError(
                "what the directory says of its merge cannot be read", where=str(directory / conventions.FILE),
                got=f"{type(error).__name__}: {error}", remedy="Merge the adapter again: homing merge.",
            ) from None  # fmt: skip


def write_evaluated(directory: Path, evaluated: Mapping[str, Any], dimensions: Sequence[int]) -> None:
    """Keep what an evaluation found with the model, and the dimensions that its embeddings were measured at when cut."""
    conventions.put(directory, evaluated=dict(evaluated), dimensions=list(dimensions))


def read_evaluated(directory: Path) -> dict[str, Any] | None:
    """What an evaluation found, None where there was none."""
    found: dict[str, Any] | None = conventions.read(directory).get("evaluated")
    return found


def licence(directory: Path) -> str | None:
    """The licence that a model's card names in its head, None where it names none."""
    card = directory / "README.md"
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines() if card.is_file() else []
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if line.startswith("license:"):
            return line.removeprefix("license:").strip().strip("'\"") or None
    return None


def place(model: str) -> str:
    """A model as a line for its reader names it: by its hub name, or as a directory of theirs, not by this machine's path."""
    return f"path/of/{Path(model).name}" if Path(model).is_absolute() else model
