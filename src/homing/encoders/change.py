"""What an adapter makes of each weight that it touches, worked out from its file alone, a weight at a time."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor

from homing.encoders.adapter import CONFIG, Adapter
from homing.errors import ModelError

PREFIX = "base_model.model."
PARTS = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector", "lora_magnitude_vector.weight")
UNKNOWN = ("modules_to_save", "lora_bias", "layer_replication", "target_parameters", "trainable_token_indices", "megatron_config")


class Change(ABC):
    """W + scale (W' - W) in float32 for the base's weight W and the learned W', by the name of the parameter in the body.

    `names` are the parameters that change. Raises ModelError for an adapter that holds what this does not know.
    """

    def __init__(self, adapter: Adapter, scale: float) -> None:
        self.adapter, self.scale = adapter, scale
        self.shapes = self._read_shapes()
        self.names: tuple[str, ...] = self._names()

    def _read_shapes(self) -> dict[str, tuple[int, ...]]:
        with self._open() as handle:
            return {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118

    def _open(self) -> Any:
        try:
            return safe_open(self.adapter.weights, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ModelError(
                "the weights cannot be read", where=str(self.adapter.weights), got=str(error)[:200], remedy="Train it again."
            ) from None

    def _tensor(self, name: str) -> Tensor:
        with self._open() as handle:
            tensor: Tensor = handle.get_tensor(name)
            return tensor.float()

    @abstractmethod
    def _names(self) -> tuple[str, ...]:
        """The parameters that change."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """The shape that the base's weight must have. Raises ModelError where the adapter's own tensors don't fit each other."""

    @abstractmethod
    def apply(self, name: str, weight: Tensor) -> Tensor:
        """The weight of the same shape, in float32, at the scale; `weight` in float32 stays as it is."""

    def beside(self, name: str, weight: Tensor, inputs: Tensor, output: Tensor) -> Tensor:
        """What a linear layer of this weight, which gave `output` for `inputs`, gives with the adapter beside its weight.

        Shapes: `weight` (out, in), `inputs` (..., in), `output` and the answer (..., out).
        The products of inputs with A and with B are taken apart, so that this is another computation than `apply`'s; for all weights
        there is no other.
        """
        return output

    def demand_fit(self, parameters: Mapping[str, tuple[int, ...]], where: str) -> None:
        """Raises ModelError where the body, whose parameters have these shapes, is not the one that the adapter was made for."""
        for name in self.names:
            if parameters.get(name) != self.shape(name):
                got = "no such weight" if name not in parameters else f"{name} {parameters[name]}"
                raise ModelError(
                    "the adapter doesn't fit the model", where=where, got=got, expected=f"{name} {self.shape(name)}",
                    remedy="Give the base that it was trained on.",
                )  # fmt: skip


@final
class FullChange(Change):
    """All weights, as they were learned."""

    def _names(self) -> tuple[str, ...]:
        return tuple(self.shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def apply(self, name: str, weight: Tensor) -> Tensor:
        learned = self._tensor(name)
        return learned if self.scale == 1 else weight + self.scale * (learned - weight)


@dataclass(frozen=True)
class _Layer:
    """The names of one layer's tensors in the file, and the factor of B A."""

    a: str
    b: str
    magnitude: str | None
    factor: float


@final
class LowRankChange(Change):
    """LoRA, rsLoRA and DoRA in PEFT's layout: W' = W + f B A with f = alpha / r or alpha / sqrt(r), its rows at DoRA's lengths.

    Hu et al. 2021 (arXiv 2106.09685), Kalajdzievski 2023 (arXiv 2312.03732), Liu et al. 2024 (arXiv 2402.09353).
    """

    def _names(self) -> tuple[str, ...]:
        self.config = json.loads((self.adapter.path / CONFIG).read_text(encoding="utf-8"))
        if self.config.get("peft_type") != "LORA":
            raise ModelError(
                "the adapter is not a LoRA", where=str(self.adapter.path), got=str(self.config.get("peft_type")), expected="LORA"
            )
        more = [name for name in UNKNOWN if self.config.get(name)]
        more += ["bias"] if self.config.get("bias", "none") != "none" else []
        layers: dict[str, dict[str, str]] = {}
        for name in self.shapes:
            part = next((part for part in PARTS if name.endswith(f".{part}")), None)
            if part is None or not name.startswith(PREFIX):
                more.append(name)
            else:
                layers.setdefault(name.removeprefix(PREFIX).removesuffix(f".{part}"), {})[part.removesuffix(".weight")] = name
        whole = {"lora_A", "lora_B"} | ({"lora_magnitude_vector"} if self.config.get("use_dora") else set())
        more += [layer for layer, parts in layers.items() if set(parts) != whole]
        if more or not layers:
            raise ModelError(
                "the adapter doesn't fit what Homing merges", where=str(self.adapter.path), got=", ".join(more[:3]) or "no layer",
                expected="lora_A and lora_B of linear layers (and DoRA's lengths)", remedy="Merge it with peft's merge_and_unload.",
            )  # fmt: skip
        self._layers = {
            f"{layer}.weight": _Layer(parts["lora_A"], parts["lora_B"], parts.get("lora_magnitude_vector"), self._factor(layer))
            for layer, parts in layers.items()
        }
        return tuple(self._layers)

    def _factor(self, layer: str) -> float:
        ranks, alphas = self.config.get("rank_pattern") or {}, self.config.get("alpha_pattern") or {}
        rank = int(ranks.get(get_pattern_key(ranks.keys(), layer), self.config["r"]))
        alpha = float(alphas.get(get_pattern_key(alphas.keys(), layer), self.config["lora_alpha"]))
        return alpha / math.sqrt(rank) if self.config.get("use_rslora") else alpha / rank

    def shape(self, name: str) -> tuple[int, ...]:
        layer = self._layers[name]
        (rank, columns), (rows, other) = self.shapes[layer.a], self.shapes[layer.b]
        if rank != other:
            raise ModelError("the adapter doesn't fit itself", where=str(self.adapter.weights), got=f"{name}: ranks {rank} and {other}")
        return (columns, rows) if self.config.get("fan_in_fan_out") else (rows, columns)

    def apply(self, name: str, weight: Tensor) -> Tensor:
        layer = self._layers[name]
        turned = bool(self.config.get("fan_in_fan_out"))
        own, a, b = weight.T if turned else weight, self._tensor(layer.a), self._tensor(layer.b)
        if layer.magnitude is None:
            changed = torch.addmm(own, b, a, alpha=self.scale * layer.factor)
        else:
            learned = torch.addmm(own, b, a, alpha=layer.factor)
            learned *= (self._tensor(layer.magnitude) / torch.linalg.vector_norm(learned, dim=1)).unsqueeze(1)
            changed = own + self.scale * (learned - own)
        return changed.T if turned else changed

    def beside(self, name: str, weight: Tensor, inputs: Tensor, output: Tensor) -> Tensor:
        layer = self._layers[name]
        a, b = self._tensor(layer.a), self._tensor(layer.b)
        change = layer.factor * (inputs @ a.T) @ b.T
        if layer.magnitude is not None:
            own = weight.T if self.config.get("fan_in_fan_out") else weight
            lengths = torch.linalg.vector_norm(torch.addmm(own, b, a, alpha=layer.factor), dim=1)
            plain = inputs @ own.T
            change = self._tensor(layer.magnitude) / lengths * (plain + change) - plain
        return output + self.scale * change


def change_of(adapter: Adapter, scale: float) -> Change:
    """What the adapter makes of weights at this scale."""
    return FullChange(adapter, scale) if adapter.tuning == "full" else LowRankChange(adapter, scale)
