"""A model's weights where they lie: names, shapes and number formats from the files' heads, each tensor read when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from homing.encoders.safety import INDEX, WEIGHTS, body, shards
from homing.errors import ModelError
from homing.manifest import write_json

FORMATS = {
    "F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
LEGACY = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))


@dataclass(frozen=True)
class Entry:
    """A tensor of a file, as the file's head has it."""

    file: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * self.dtype.itemsize


class Weights:
    """The tensors of a body's directory (model.safetensors, or shards with an index), by name; nothing is read but the heads.

    `files` in their order, `entries` by name. Raises ModelError for weights that are no safetensors, that cannot be read, or where a name
    is in two files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = shards(directory)
        self.entries: dict[str, Entry] = {}
        for file in self.files:
            for name, entry in self._head(file).items():
                if name in self.entries:
                    raise ModelError(
                        "a weight is in two files", where=str(directory), got=f"{name} in {self.entries[name].file} and {file}"
                    )
                self.entries[name] = entry

    def _head(self, file: str) -> dict[str, Entry]:
        found = {}
        with self._open(file) as handle:
            for name in handle.keys():  # noqa: SIM118 (a safetensors handle is no dict)
                part = handle.get_slice(name)
                kind = part.get_dtype()
                if kind not in FORMATS:
                    raise ModelError(
                        "the weights are in a number format that cannot be merged into", where=f"{self.directory / file}: {name}",
                        got=kind, expected="F32, BF16 or F16", remedy="Give the model before it was quantised.",
                    )  # fmt: skip
                found[name] = Entry(file, tuple(part.get_shape()), FORMATS[kind])
        return found

    def _open(self, file: str) -> Any:
        try:
            return safe_open(self.directory / file, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ModelError(
                "the weights cannot be read", where=str(self.directory / file), got=str(error)[:200], remedy="Download the model again."
            ) from None

    def __getitem__(self, name: str) -> Tensor:
        """The tensor as it is stored; the file is let go of with it."""
        with self._open(self.entries[name].file) as handle:
            tensor: Tensor = handle.get_tensor(name)
            return tensor

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(entry.size for entry in self.entries.values())

    @property
    def dtype(self) -> torch.dtype:
        """The number format that most of the numbers are in."""
        counts: dict[torch.dtype, int] = {}
        for entry in self.entries.values():
            if entry.dtype.is_floating_point:
                counts[entry.dtype] = counts.get(entry.dtype, 0) + prod(entry.shape)
        return max(counts, key=lambda dtype: counts[dtype]) if counts else torch.float32

    def place(self, parameters: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
        """The names that a body's parameters (with their shapes) have in the files; parameters that the files lack are left out.

        A checkpoint may hold the body under a prefix (`model.`, `bert.`), or norms under their old names (gamma, beta).
        """
        ends: dict[str, list[str]] = {}
        for name in self.entries:
            parts = name.split(".")
            for start in range(len(parts)):
                ends.setdefault(".".join(parts[start:]), []).append(name)
        found = {}
        for parameter, shape in parameters.items():
            for said in (parameter, *(parameter.replace(new, old) for new, old in LEGACY if parameter.endswith(new))):
                fits = [said] if said in self.entries else ends.get(said, [])
                fits = [name for name in fits if self.entries[name].shape == tuple(shape)]
                if len(fits) == 1:
                    found[parameter] = fits[0]
                    break
        return found


def mergeable(directory: Path, parameters: Mapping[str, tuple[int, ...]]) -> tuple[Weights, dict[str, str]]:
    """The weights of a model's directory, and the names in its files of its body's parameters, as `Weights.place` finds them.

    Raises ModelError where one is not among them, but for a pooler: what was learned could not be put into the files, nor verified there.
    """
    own = body(directory)
    weights = Weights(own)
    placed = weights.place(parameters)
    missing = [name for name in parameters if name not in placed and "pooler" not in name]
    if missing:
        raise ModelError(
            "the model's files hold its weights in another form than transformers has them: what is learned could not be merged",
            where=str(own), got=f"{len(missing):,} of {len(parameters):,} missing, as {missing[0]}",
            remedy="transformers turns this model into another form when it reads it. Write a copy in that form, and give that: python -c "
            f'"import shutil, transformers; shutil.copytree({str(directory)!r}, \'converted\'); transformers.AutoModel.from_pretrained('
            f"{str(own)!r}).save_pretrained({str(Path('converted') / own.relative_to(directory))!r}, save_original_format=False)\"",
        )  # fmt: skip
    return weights, placed


def demand_mergeable(directory: Path, parameters: Mapping[str, tuple[int, ...]]) -> None:
    """Raise what `mergeable` raises: before a training, of which nothing could be kept."""
    mergeable(directory, parameters)


def write_shards(weights: Weights, directory: Path, made: Callable[[str], Tensor], done: Callable[[int], None]) -> None:
    """Write every tensor of `weights`, as `made` gives it by name, to files of the same names; never more than one file in memory.

    `done` is called with each tensor's bytes when its file is written.
    """
    placed, total = {}, 0
    for file in weights.files:
        tensors = {}
        for name in (name for name, entry in weights.entries.items() if entry.file == file):
            tensors[name] = made(name).contiguous()
            placed[name] = file
            done(tensors[name].nbytes)
        total += sum(tensor.nbytes for tensor in tensors.values())
        save_file(tensors, directory / file, metadata={"format": "pt"})
        del tensors
    if weights.files != [WEIGHTS]:
        write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))})


def set_dtype(config: Path, dtype: torch.dtype) -> None:
    """Say in a config.json which number format the weights are in: readers take it from there."""
    said = json.loads(config.read_text(encoding="utf-8"))
    names: Iterable[str] = [name for name in ("dtype", "torch_dtype") if name in said] or ["torch_dtype"]
    write_json(config, {**said, **{name: str(dtype).removeprefix("torch.") for name in names}})
