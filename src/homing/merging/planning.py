"""What a merge will do: worked out from heads of files and settings alone, before anything is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from homing.arguments import demand_path
from homing.conventions import FILE
from homing.encoders.adapter import Adapter
from homing.encoders.change import Change, change_of
from homing.encoders.model import Model
from homing.encoders.weights import Weights, mergeable
from homing.errors import MergeError, ModelError, SettingError
from homing.manifest import demand_disk, demand_replaceable
from homing.shipping.card import DEPLOYING

Scale = float | Literal["auto"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LOST_IN_HALF = 2.0**-9  # of a tensor's length: more than rounding takes, and float16's range does


@dataclass(frozen=True, eq=False)
class Plan:
    """What a merge will do. Making one reads heads of files alone and writes nothing.

    `changed` are the names in the base's files of the weights that change, with their names in the model; `chosen` says who chose the
    scale; `dtype` is the number format of the written weights, None to keep each tensor's own.
    """

    base: Model
    adapter: Adapter
    out: Path
    scale: float
    chosen: str
    dtype: torch.dtype | None
    weights: Weights
    placed: dict[str, str]
    change: Change

    @cached_property
    def changed(self) -> dict[str, str]:
        """Parameters that change, by their names in the files; none at scale 0."""
        return {self.placed[name]: name for name in self.change.names} if self.scale else {}

    @property
    def target(self) -> torch.dtype:
        """The number format that most written numbers are in."""
        return self.dtype or self.weights.dtype

    @property
    def size(self) -> int:
        """Bytes of the weights to be written."""
        return sum(
            entry.size
            if self.dtype is None or not entry.dtype.is_floating_point
            else entry.size // entry.dtype.itemsize * self.dtype.itemsize
            for entry in self.weights.entries.values()
        )

    @property
    def exact(self) -> bool:
        """Whether every written number holds a float32: nothing is rounded then."""
        formats = (self.dtype or entry.dtype for entry in self.weights.entries.values() if entry.dtype.is_floating_point)
        return all(dtype.itemsize >= torch.float32.itemsize for dtype in formats)

    def changed_weight(self, name: str, weight: Tensor) -> Tensor:
        """W + scale (W' - W) in float32 for a weight of the base, or the weight itself where it doesn't change; the shape stays.

        Raises MergeError where that is not finite.
        """
        if name not in self.changed:
            return weight
        changed = self.change.apply(self.changed[name], weight.float())
        if not all(torch.isfinite(each) for each in torch.aminmax(changed)):
            raise MergeError(
                "the merged weights are not finite", where=f"{self.adapter.weights}: {self.changed[name]}",
                remedy="Train with a smaller --learning-rate.",
            )  # fmt: skip
        return changed

    def rounded(self, name: str, weight: Tensor) -> Tensor:
        """A weight in the number format that it shall be written in. Raises MergeError where float16 cannot hold it."""
        if not weight.is_floating_point():
            return weight
        target = self.dtype or self.weights.entries[name].dtype
        rounded = weight.to(target)
        if target == torch.float16 and weight.dtype != torch.float16:
            _demand_in_range(weight.float(), rounded, name)
        return rounded

    def tensor(self, name: str) -> Tensor:
        """A tensor as it shall be written. Raises what `changed_weight` and `rounded` raise."""
        return self.rounded(name, self.changed_weight(name, self.weights[name]))

    def __str__(self) -> str:
        kept = {str(entry.dtype).removeprefix("torch.") for entry in self.weights.entries.values() if entry.dtype.is_floating_point}
        target = " and ".join(sorted(kept)) + ", as the base" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        files = ", ".join(self.weights.files[:3]) + (", …" if len(self.weights.files) > 3 else "")
        side = ["side     queries alone: documents stay those of the base"] if self.adapter.side == "queries" else []
        return "\n".join(
            [
                f"base     {self.base.source}: {len(self.weights.entries):,} tensors, {self.base.parameters:,} parameters",
                f"adapter  {self.adapter.path}: {self.adapter.tuning}, {len(self.changed):,} tensors change",
                *side,
                f"scale    {self.scale:g}, {self.chosen}",
                f"format   {target}",
                f"files    {len(self.weights.files)} ({files}), {self.size / 2**30:.3f} GiB",
                "verify   each tensor, then layer by layer",
                f"out      {self.out}" + (" (replaced)" if self.out.exists() else ""),
            ]
        )


def plan(
    base: Model, adapter: Adapter, *, out: str | Path = "runs/model", scale: Scale | None = None, dtype: torch.dtype | str | None = None
) -> Plan:
    """What merging `adapter` into a copy of `base` will do; `base` may be without weights, on the device "meta".

    Raises ModelError for an adapter of another base (digest, names or shapes), or trained under other conventions; SettingError for a
    scale outside of 0 to 1, or an unknown number format; RunError where something else lies at `out`; ResourceError where the disk is too
    small.
    """
    demand_path(out=out)
    out = Path(out)
    scale, chosen = _scale(adapter, scale)
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise SettingError("the number format is unknown", got=dtype, expected=" or ".join(DTYPES))
        dtype = DTYPES[dtype]
    _same_conventions(base, adapter)
    if base.change != "":
        raise ModelError("the base has an adapter on it", where=base.name, remedy="Detach it, or give the base's directory.")
    demand_replaceable(out, DEPLOYING)
    if out.resolve() in (base.path.resolve(), adapter.path.resolve()):
        raise SettingError("--out is what is merged", got=str(out), remedy="Give --out another name.")
    shapes = {name: tuple(parameter.shape) for name, parameter in base.transformer[0].model.named_parameters()}
    change = change_of(adapter, scale)
    weights, placed = mergeable(base.path, shapes)
    change.demand_fit({name: shapes[name] for name in placed}, str(base.path))
    made = Plan(base, adapter, out, scale, chosen, dtype, weights, placed, change)
    demand_disk(out, made.size)
    return made


def _scale(adapter: Adapter, scale: Scale | None) -> tuple[float, str]:
    """The scale, and who chose it."""
    if scale is not None and scale != "auto":
        if isinstance(scale, str) or not 0 <= scale <= 1:
            raise SettingError("the scale is out of range", got=repr(scale), expected="0 to 1, or auto")
        return float(scale), "as asked for"
    own = adapter.scale
    if "scale" not in adapter.conventions:
        return own, "the adapter's whole change: it names no scale"
    file = adapter.path.parent / "training" / "scales.json"
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        measured = {float(each["scale"]): float(each["dev_nDCG@10"]) for each in said["scales"]}
        if float(said["chosen"]) == own:
            best = max(measured, key=lambda each: measured[each])
            return own, (
                f"chosen on dev ({said['queries']} queries; nDCG@10 {measured[own]:.4f}, the best {measured[best]:.4f} at {best:g}; "
                "the run's training/scales.json)"
            )
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return own, f"as the adapter's {FILE} says"


def _same_conventions(base: Model, adapter: Adapter) -> None:
    said = adapter.conventions
    if "base_digest" in said and said["base_digest"] != base.weights_digest:
        raise ModelError(
            "the adapter was trained under another base digest", where=str(adapter.path), got=f"{base.source}, {base.weights_digest}",
            expected=f"{said.get('base', 'its own base')}, {said['base_digest']}", remedy="Give the base that the adapter was trained on.",
        )  # fmt: skip
    now = {"prompts": dict(base.prompts), "pooling": base.pooling, "max_length": base.max_length}
    for name, keywords in (
        ("prompts", "query_prompt=..., document_prompt=..."),
        ("pooling", "pooling=..."),
        ("max_length", "max_length=..."),
    ):
        if name in said and said[name] != now[name]:
            raise ModelError(
                f"the base and the adapter's training differ in {name}", where=str(adapter.path), got=repr(now[name]),
                expected=repr(said[name]), remedy=f"Open the base as it was for the training: Model(path, {keywords}).",
            )  # fmt: skip


def _demand_in_range(weight: Tensor, rounded: Tensor, name: str) -> None:
    """float16 holds 6e-8 to 65,504: what lies outside is infinite or 0, and what lies near its lower end loses digits."""
    lost = float((rounded.float() - weight).norm() / weight.norm().clamp_min(1e-30))
    if not torch.isfinite(rounded).all() or lost > LOST_IN_HALF:
        raise MergeError(
            "float16 cannot hold the weights", where=name, got=f"up to {float(weight.abs().max()):.3g}, {lost:.1e} of the tensor lost",
            expected=f"finite values, at most {LOST_IN_HALF:.1e}", remedy="Give --dtype bfloat16 or float32.",
        )  # fmt: skip
