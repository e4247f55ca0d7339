"""The work between a decoder's matrix products, in fewer passes over its activations, on an accelerator.

A norm, a rotation of queries and keys: in transformers each is a handful of operations, and each operation reads and writes every
activation, which on a fast GPU takes several times as long as the products (benchmarks/traffic.py counts it). Here RMSNorm (Zhang and
Sennrich 2019, arXiv 1910.07467) is PyTorch's own kernel, and rotary position embeddings (Su et al. 2021, arXiv 2104.09864) take three
passes, and three back. Results are the library's to rounding. What a model computes in another way, as a trial shows, is left to it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

ROTARY = "apply_rotary_pos_emb"  # what transformers calls it, in the module of each model
MOST_APART = {torch.float32: 1e-5}  # two results, over the largest number in them
MOST_APART_IN_HALF = 2e-2


class _Rotation(torch.autograd.Function):
    """x (..., head dimension) turned by the angles of `cos` and `sin`, its first half against its second; a gradient for x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, -1.0)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = gradients
        cos, sin = ctx.saved_tensors  # type: ignore[attr-defined]
        return _turned(out, cos, sin.roll(sin.shape[-1] // 2, -1), 1.0), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    """x cos, to whose first half the second one is added, times sin and `sign`, and to its second the first, with the other sign."""
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=sign)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=-sign)
    return out


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last dimension, in the number format of `x`. Shapes: x (..., width), weight (width,)."""
    return nn.functional.rms_norm(x, weight.shape, weight.to(x.dtype), eps)


def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """transformers' `apply_rotary_pos_emb`: queries and keys, turned. Shapes: q and k (texts, heads, tokens, head dimension), cos and sin
    (texts, tokens, head dimension).
    """
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    turned: list[Tensor] = [_Rotation.apply(each, cos.to(each.dtype), sin.to(each.dtype)) for each in (q, k)]  # type: ignore[no-untyped-call]
    return turned[0], turned[1]


class _Norm:
    """The forward pass of one RMSNorm."""

    def __init__(self, module: nn.Module, eps: float) -> None:
        self.module, self.eps = module, eps

    def __call__(self, hidden_states: Tensor) -> Tensor:
        return rms_norm(hidden_states, self.module.weight, self.eps)  # type: ignore[arg-type]


def make_lean(body: nn.Module) -> int:
    """Give a model's norms and attention layers these passes, in place, where a trial shows the same results; how many took it."""
    changed = 0
    with torch.no_grad():
        for module in body.modules():
            forward = _lean_norm(module) or _lean_attention(module)
            if forward is not None:
                module.forward = forward
                changed += 1
    return changed


def _lean_norm(module: nn.Module) -> Callable[..., Any] | None:
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    weight = getattr(module, "weight", None)
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(eps, float) or not isinstance(weight, Tensor) or weight.dim() != 1:
        return None
    x = _trial((3, len(weight)), weight)
    return _Norm(module, eps) if _alike(module(x), rms_norm(x, weight, eps)) else None


def _lean_attention(module: nn.Module) -> Callable[..., Any] | None:
    """The module's own forward pass, but that the name of the rotation in it means ours."""
    forward = type(module).forward
    theirs = getattr(forward, "__globals__", {}).get(ROTARY)
    if not isinstance(forward, FunctionType) or theirs is None or ROTARY not in forward.__code__.co_names:
        return None
    like = next(module.parameters())
    q, k, cos, sin = (_trial(shape, like) for shape in ((1, 2, 3, 8), (1, 1, 3, 8), (1, 3, 8), (1, 3, 8)))
    try:
        alike = all(_alike(one, other) for one, other in zip(theirs(q, k, cos, sin), rotate(q, k, cos, sin), strict=True))
    except (TypeError, ValueError, RuntimeError):  # it is asked in another way
        return None
    if not alike or _turns_a_part(theirs, q, k, cos, sin):
        return None
    names = {**forward.__globals__, ROTARY: rotate}
    copied = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    copied.__kwdefaults__ = forward.__kwdefaults__
    return MethodType(copied, module)


def _turns_a_part(theirs: Callable[..., Any], q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """Whether it leaves dimensions alone that cos and sin don't have."""
    try:
        theirs(q, k, cos[..., :4], sin[..., :4])
    except RuntimeError:
        return False
    return True


def _trial(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Numbers around one without a pattern that a norm or a rotation keeps, in the number format and on the device of the weights."""
    return torch.linspace(0.0, 97.0, torch.Size(shape).numel()).sin().add(0.1).reshape(shape).to(like.device, like.dtype)


def _alike(one: Tensor, other: Tensor) -> bool:
    apart, largest = (float(each.abs().max()) for each in (one.float() - other.float(), one.float()))
    return one.dtype == other.dtype and apart <= MOST_APART.get(one.dtype, MOST_APART_IN_HALF) * largest
