"""LoRA layers at the cost of the layers that they sit on.

PEFT computes x W' + b, then s (x A') B' beside it and adds the two: three more passes over the activations, forward and
backward, and a second input kept. In float32 the sum W + s B A is made once an update instead; the forward pass is then the base's own, and
the backward pass adds four products with the rank as their short side. In half precision, where that sum would round the change away, the
base's product is added to the change's in place. The gradients are those of PEFT's layer, to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.optim.optimizer import register_optimizer_step_post_hook

_steps = 0  # of all optimisers


def _stepped(*_: object) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_stepped)  # PyTorch's fused optimisers change a weight and leave its version as it was


class _MergedLinear(torch.autograd.Function):
    """x (..., in) -> x W' + b with W = `merged` (out, in); gradients for x, A (rank, in) and B (out, rank), none for the merged weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, merged: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        ctx.save_for_backward(x, merged, a, b)
        ctx.scaling = scaling
        return nn.functional.linear(x, merged, bias)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = gradients
        x, merged, a, b = ctx.saved_tensors  # type: ignore[attr-defined]
        flat, wide = x.reshape(-1, x.shape[-1]), out.reshape(-1, out.shape[-1])
        through_b = (wide @ b).mul_(ctx.scaling)  # type: ignore[attr-defined]
        to_a = through_b.T @ flat
        to_b = wide.T @ (flat @ a.T).mul_(ctx.scaling)  # type: ignore[attr-defined]
        to_x = (wide @ merged).view_as(x) if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]
        return to_x, None, None, to_a, to_b, None


class _AddedLinear(torch.autograd.Function):
    """x (..., in) -> x W' + b + s (x A') B'; gradients for x, A (rank, in) and B (out, rank), in whose number format they are.

    `short_a` and `short_b` are A and s B in the number format of x. The product with the short side comes first and the long one is added
    to it: the long one is bound by arithmetic, and what it reads to add to costs it nothing.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float, short_a: Tensor, short_b: Tensor
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        inner = flat @ short_a.T
        ctx.save_for_backward(flat, weight, short_a, short_b, inner)
        ctx.formats, ctx.scaling = (a.dtype, b.dtype), scaling
        change = inner @ short_b.T if bias is None else torch.addmm(bias, inner, short_b.T)
        return change.addmm_(flat, weight.T).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = gradients
        flat, weight, short_a, short_b, inner = ctx.saved_tensors
        wide = out.reshape(-1, out.shape[-1])
        to_inner = wide @ short_b
        to_x = (to_inner @ short_a).addmm_(wide, weight).view(*out.shape[:-1], -1) if ctx.needs_input_grad[0] else None
        to_a, to_b = (to_inner.T @ flat).to(ctx.formats[0]), (wide.T @ inner).to(ctx.formats[1]).mul_(ctx.scaling)
        return to_x, None, None, to_a, to_b, None, None, None


class _Fused:
    """The forward pass of one LoRA layer; what it makes of A and B is made anew when A, B or the scale have changed.

    A change is seen by the version that PyTorch counts; a fused optimiser doesn't raise it, so its caller does
    (`torch.autograd.graph.increment_version`).
    """

    def __init__(self, layer: LoraLinear, name: str) -> None:
        self.layer, self.name = layer, name
        self.base: nn.Linear = layer.get_base_layer()
        self.made: tuple[Tensor, ...] = ()
        self.made_from: tuple[Any, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        if self.layer.disable_adapters or self.layer.merged:
            theirs: Tensor = LoraLinear.forward(self.layer, x)
            return theirs
        a, b, scaling = self.layer.lora_A[self.name].weight, self.layer.lora_B[self.name].weight, self.layer.scaling[self.name]
        weight, bias = self.base.weight, self.base.bias
        merges = weight.dtype == torch.float32  # in half precision the sum would round the small change away
        held = a.untyped_storage()._cdata, b.untyped_storage()._cdata
        made_from = (a._version, b._version, *held, scaling, _steps, x.dtype)
        if made_from != self.made_from:
            with torch.inference_mode(False), torch.no_grad():  # made in a look at dev, it serves the next update too
                self.made = (torch.addmm(weight, b, a, alpha=scaling),) if merges else (a.to(x.dtype), (b * scaling).to(x.dtype))
            self.made_from = made_from
        out: Tensor = (
            _MergedLinear.apply(x, *self.made, bias, a, b, scaling)  # type: ignore[no-untyped-call]
            if merges
            else _AddedLinear.apply(x, weight, bias, a, b, scaling, *self.made)  # type: ignore[no-untyped-call]
        )
        return out


def fuse(tuned: PeftModel) -> int:
    """Give every plain LoRA layer without dropout the fused forward pass, in place; the number of layers that took it.

    Layers with dropout, DoRA and other variants keep PEFT's own. Saving, loading and merging see no difference.
    """
    fused = 0
    for module in tuned.modules():
        if not isinstance(module, LoraLinear) or not isinstance(module.get_base_layer(), nn.Linear):
            continue
        (name,) = module.active_adapters
        dropout = module.lora_dropout[name]
        if name in module.lora_variant or isinstance(dropout, nn.Dropout) or module.lora_bias[name] or module.fan_in_fan_out:
            continue
        module.forward = _Fused(module, name)
        fused += 1
    return fused
