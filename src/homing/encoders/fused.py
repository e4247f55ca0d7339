"""LoRA layers at the cost of the layers that they sit on.

PEFT computes x W' + b, then s (x A') B' beside it and adds the two: three more passes over the activations, forward and backward, and a
second input kept. In float32 the sum W + s B A is made once an update instead; the forward pass is then the base's own, and the backward
pass adds four products with the rank as their short side. In half precision, where that sum would round the change away, the base's
product is added to the change's in place, and layers with the same input are computed together. The gradients are those of PEFT's layer,
to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from homing.encoders.lean import GatedUnit, gated_unit
from homing.encoders.remade import CHEAP, Remembering, origin

if TYPE_CHECKING:
    from peft import PeftModel

SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("query", "key", "value"))  # as transformers names them

_steps = 0  # of all optimisers


def _stepped(*_: object) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_stepped)  # PyTorch's fused optimisers change a weight and leave its version as it was


class _MergedLinear(torch.autograd.Function):
    """x (..., in) -> x W' + b with W = `merged` (out, in); gradients for x, A (rank, in) and B (out, rank), none for the merged weight.

    Of an x that can be made again, its sources are kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, merged: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        known = origin(x)
        ctx.save_for_backward(merged, a, b, *(known.sources if known else (x,)))
        ctx.scaling, ctx.make = scaling, known.make if known else None
        return _own(nn.functional.linear(x, merged, bias), x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = gradients
        merged, a, b, *sources = ctx.saved_tensors
        x = ctx.make(*sources) if ctx.make else sources[0]
        flat, wide = x.reshape(-1, x.shape[-1]), out.reshape(-1, out.shape[-1])
        through_b = (wide @ b).mul_(ctx.scaling)
        to_a = through_b.T @ flat
        to_b = wide.T @ (flat @ a.T).mul_(ctx.scaling)
        to_x = (wide @ merged).view_as(x) if ctx.needs_input_grad[0] else None
        return to_x, None, None, to_a, to_b, None


class _AddedLinears(torch.autograd.Function):
    """x (..., in) -> x W' + b + s (x A') B' for each of some layers; gradients for x, and for each A (rank, in) and B (out, rank).

    `short_a` is all A, one below the other, and `short_b` each s B, in the number format of x; then come A and B of each layer, in theirs.
    The product with the short side comes first and the long one is added to it: the long one is bound by arithmetic, and what it reads to
    add to costs it nothing. So are the gradients for x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: Sequence[_Fused], short_a: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        short_b, learned = others[: len(layers)], others[len(layers) :]
        weights = [layer.base.weight for layer in layers]
        flat = x.reshape(-1, x.shape[-1])
        inner = flat @ short_a.T
        ctx.save_for_backward(flat, inner, short_a, *short_b, *weights)
        ctx.formats, ctx.scalings = [each.dtype for each in learned], [layer.scaling for layer in layers]
        outs = []
        for layer, part, b in zip(layers, _parts(inner, short_b), short_b, strict=True):
            change = part @ b.T if layer.base.bias is None else torch.addmm(layer.base.bias, part, b.T)
            outs.append(_own(change.addmm_(flat, layer.base.weight.T), x))
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, inner, short_a, *others = ctx.saved_tensors
        short_b, weights = others[: len(gradients)], others[len(gradients) :]
        wide = [out.reshape(-1, out.shape[-1]) for out in gradients]
        to_inner = torch.cat([out @ b for out, b in zip(wide, short_b, strict=True)], dim=1)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = to_inner @ short_a
            for out, weight in zip(wide, weights, strict=True):
                to_x.addmm_(out, weight)
            to_x = to_x.view(*gradients[0].shape[:-1], -1)
        to_a = (to_inner.T @ flat).split([b.shape[1] for b in short_b])
        to_b = (out.T @ part for out, part in zip(wide, _parts(inner, short_b), strict=True))
        learned = []
        for place, (for_a, for_b) in enumerate(zip(to_a, to_b, strict=True)):
            learned += [for_a.to(ctx.formats[2 * place]), for_b.to(ctx.formats[2 * place + 1]).mul_(ctx.scalings[place])]
        return to_x, None, None, *[None] * len(gradients), *learned


def _own(out: Tensor, x: Tensor) -> Tensor:
    """What `x` (..., in) became, as (..., out): no view, for of those that a function of ours gives none may be changed in place, as
    DeBERTa's queries are."""
    made: Tensor = torch.ops.aten._unsafe_view(out, [*x.shape[:-1], out.shape[-1]])
    return made


def _parts(inner: Tensor, short_b: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The columns of each layer."""
    return torch.split(inner, [b.shape[1] for b in short_b], dim=1)


class _Fused:
    """The forward pass of one LoRA layer. In float32, W + s B A is made anew when A, B or the scale have changed.

    A change is seen by the version that PyTorch counts, and by the steps of optimisers, since a fused one doesn't raise it.
    """

    def __init__(self, layer: Any, name: str) -> None:
        self.layer, self.name = layer, name
        self.base: nn.Linear = layer.get_base_layer()
        self.merged = torch.empty(0)
        self.made_from: tuple[Any, ...] = ()
        self.together = _Together([self])

    @property
    def learned(self) -> tuple[Tensor, Tensor]:
        """A and B."""
        return self.layer.lora_A[self.name].weight, self.layer.lora_B[self.name].weight

    @property
    def scaling(self) -> float:
        return float(self.layer.scaling[self.name])

    def state(self) -> tuple[Any, ...]:
        """Other than before where A, B or the scale are."""
        a, b = self.learned
        return a._version, b._version, a.untyped_storage()._cdata, b.untyped_storage()._cdata, self.scaling, _steps

    def __call__(self, x: Tensor) -> Tensor:
        if self.layer.disable_adapters or self.layer.merged:
            theirs: Tensor = type(self.layer).forward(self.layer, x)
            return theirs
        if self.base.weight.dtype != torch.float32:  # a sum in half precision would round the small change away
            return self.together(x, self)
        a, b = self.learned
        if (state := self.state()) != self.made_from:
            with torch.inference_mode(False), torch.no_grad():  # made in a look at dev, it serves the next update too
                self.merged = torch.addmm(self.base.weight, b, a, alpha=self.scaling)
            self.made_from = state
        out: Tensor = _MergedLinear.apply(x, self.merged, self.base.bias, a, b, self.scaling)  # type: ignore[no-untyped-call]
        return out


class _Together:
    """Layers that get the same input: the first one that does computes for all, and the others fetch theirs."""

    def __init__(self, layers: Sequence[_Fused]) -> None:
        self.layers = layers
        self.short: tuple[Tensor, ...] = ()  # all A, and each s B, in the number format of the input
        self.made_from: tuple[Any, ...] = ()
        self.x: Tensor | None = None
        self.waiting: dict[_Fused, Tensor] = {}

    def __call__(self, x: Tensor, layer: _Fused) -> Tensor:
        if self.x is not x or layer not in self.waiting:
            self.waiting = {}
            self.waiting = dict(zip(self.layers, self._outs(x), strict=True))
        out = self.waiting.pop(layer)
        self.x = x if self.waiting else None
        return out

    def _outs(self, x: Tensor) -> tuple[Tensor, ...]:
        learned = [each for layer in self.layers for each in layer.learned]
        if (state := (x.dtype, *(layer.state() for layer in self.layers))) != self.made_from:
            with torch.inference_mode(False), torch.no_grad():
                short_b = [(b * layer.scaling).to(x.dtype) for layer, b in zip(self.layers, learned[1::2], strict=True)]
                self.short, self.made_from = (torch.cat(learned[::2]).to(x.dtype), *short_b), state
        outs: tuple[Tensor, ...] = _AddedLinears.apply(x, self.layers, *self.short, *learned)  # type: ignore[no-untyped-call]
        return outs


def let_go(body: nn.Module) -> None:
    """Forget what layers with the same input have made and nobody fetched, as where a pass ended between two of them.

    Behind it are the activations of the whole pass.
    """
    for module in body.modules():
        if isinstance(layer := vars(module).get("forward"), _Fused):
            layer.together.x, layer.together.waiting = None, {}


def _remember(body: nn.Module) -> None:
    """Let what can be made again tell so, in place: norms, activations, and gates that have no kernels of their own."""
    for module in body.modules():
        if "forward" not in vars(module):
            forward = Remembering(module) if isinstance(module, CHEAP) else gated_unit(module, by_kernels=False)
            if forward is not None:
                module.forward = forward


def unfuse(body: nn.Module) -> None:
    """Give modules outside of LoRA's layers their own pass again: for a body that has no more of these layers."""
    for module in body.modules():
        if isinstance(forward := vars(module).get("forward"), Remembering) or (isinstance(forward, GatedUnit) and not forward.by_kernels):
            del module.forward


def fuse(tuned: PeftModel) -> int:
    """Give every plain LoRA layer without dropout the fused forward pass, in place; the number of layers that took it.

    Layers with dropout, DoRA and other variants keep PEFT's own. Saving, loading and merging see no difference.
    """
    from peft.tuners.lora import Linear as LoraLinear  # here alone, so that benchmarks/gpu.py needs no peft

    plain: dict[nn.Module, str] = {}
    for module in tuned.modules():
        if not isinstance(module, LoraLinear) or not isinstance(module.get_base_layer(), nn.Linear):
            continue
        (name,) = module.active_adapters
        dropout = module.lora_dropout[name]
        if name in module.lora_variant or isinstance(dropout, nn.Dropout) or module.lora_bias[name] or module.fan_in_fan_out:
            continue
        plain[module] = name
    return fuse_layers(tuned, plain)


def fuse_layers(tuned: nn.Module, plain: Mapping[Any, str]) -> int:
    """Give these layers of a body, PEFT's or alike, with their adapters' names, the fused forward pass, in place; how many they are."""
    fused: dict[nn.Module, _Fused] = {}
    if any(module.get_base_layer().weight.dtype == torch.float32 for module in plain):  # the others don't ask for it
        _remember(tuned)
    for module, name in plain.items():
        module.forward = fused[module] = _Fused(module, name)
    for parent in tuned.modules():
        for names in SAME_INPUT:
            layers = [fused[each] for name in names if (each := getattr(parent, name, None)) in fused]
            if len(layers) == len(names) and len({layer.base.in_features for layer in layers}) == 1:
                together = _Together(layers)
                for layer in layers:
                    layer.together = together
    return len(fused)
