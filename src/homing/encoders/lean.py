"""The work between a decoder's matrix products, in fewer passes over its activations, on an accelerator.

A norm, a gate, a rotation of queries and keys: in transformers each is a handful of operations, and each operation reads and writes every
activation, which on a fast GPU takes several times as long as the products (benchmarks/traffic.py counts it). Here RMSNorm (Zhang and
Sennrich 2019, arXiv 1910.07467) is PyTorch's own kernel. Gates and rotary position embeddings (Su et al. 2021, arXiv 2104.09864) take
one pass, and one back, by kernels of ours where Triton runs, and so does a norm of each head with the rotation behind it; where it doesn't,
a rotation takes three, and a gate is left as it is. In PyTorch, a gate has a pass that keeps less, which LoRA's layers take (fused.py).
Results are the library's to rounding. What a model computes in another way, as a trial shows, is left to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from homing.encoders.remade import with_origin
from homing.errors import first_line

ROTARY = "apply_rotary_pos_emb"  # what transformers calls it, in the module of each model
NORMED = ("q_norm", "k_norm")  # likewise the norms of each head of queries and keys
GATED = ("gate_proj", "up_proj", "down_proj")  # likewise the linear layers around a gate
MOST_APART = {torch.float32: 1e-5}  # two results, over the largest number in them
MOST_APART_IN_HALF = 2e-2


@cache
def kernels(device: torch.device) -> tuple[ModuleType | None, str]:
    """Our kernels, where the device runs them and they give what PyTorch gives; else None, and on CUDA why not."""
    if device.type != "cuda":
        return None, ""
    try:
        from homing.encoders import kernels as made

        return (made, "") if _right(made, device) else (None, "here Triton's results are not PyTorch's")
    except Exception as error:  # there is no Triton, nothing to compile with, or no such device for it
        return None, f"{type(error).__name__}: {first_line(error)}"


def _right(made: ModuleType, device: torch.device) -> bool:
    """Whether the kernels' results are PyTorch's, in bfloat16: each number format is compiled for, which takes seconds the first time."""
    like = torch.empty(0, dtype=torch.bfloat16, device=device)
    gate, up, grad = (_trial((3, 700), like).roll(shift).requires_grad_() for shift in (0, 50, 90))
    with torch.enable_grad():
        out = nn.functional.silu(gate) * up
        wanted = [out, *torch.autograd.grad(out, (gate, up), grad)]
    with torch.no_grad():
        alike = [_alike(*pair) for pair in zip(wanted, [made.gated(gate, up), *made.gated_back(grad, gate, up)], strict=True)]
    x, cos, sin = _trial((2, 7, 5, 24), like).transpose(1, 2), _trial((2, 7, 24), like), _trial((2, 7, 24), like).roll(9)
    alike += [_alike(_turned(x, cos, sin, back=back), made.turned(x, cos, sin, back=back)) for back in (False, True)]
    x, weight, grad = x.requires_grad_(), _trial((24,), like), _trial((2, 5, 7, 24), like).roll(5)
    with torch.enable_grad():
        out = _turned(rms_norm(x, weight, 1e-6), cos, sin, back=False)
        wanted = [out, *torch.autograd.grad(out, x, grad)]
    with torch.no_grad():
        ours = [made.turned(x, cos, sin, weight=weight, eps=1e-6)]
        ours += [made.turned(grad, cos, sin, back=True, weight=weight, eps=1e-6, states=x)]
        return all(alike) and all(_alike(*pair) for pair in zip(wanted, ours, strict=True))


class _Gate(torch.autograd.Function):
    """SiLU(gate) up, by our kernel or by PyTorch, of which gate and up alone are kept; gradients for both."""

    @staticmethod
    def forward(ctx: Any, made: ModuleType | None, gate: Tensor, up: Tensor) -> Tensor:
        ctx.made = made
        ctx.save_for_backward(gate, up)
        return _gated(made, gate, up)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_gated_back(ctx.made, gradients[0], *ctx.saved_tensors)  # type: ignore[attr-defined]


def _gated(made: ModuleType | None, gate: Tensor, up: Tensor) -> Tensor:
    return made.gated(gate, up) if made else nn.functional.silu(gate).mul_(up)


def _gated_back(made: ModuleType | None, grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients for gate and up."""
    if made:
        by_kernel: tuple[Tensor, Tensor] = made.gated_back(grad, gate, up)
        return by_kernel
    return torch.ops.aten.silu_backward(grad * up, gate), nn.functional.silu(gate).mul_(grad)


class _Rotation(torch.autograd.Function):
    """x (texts, heads, tokens, head dimension) turned by the angles of `cos` and `sin` (texts, tokens, head dimension), its first half
    against its second; a gradient for x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, back=False)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _turn(gradients[0], *ctx.saved_tensors, back=True), None, None  # type: ignore[attr-defined]


class _NormedRotation(torch.autograd.Function):
    """RMSNorm of each head of x, with a weight that does not learn, and the rotation in one pass, by our kernel; a gradient for x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, cos, sin, weight)
        ctx.made, ctx.eps = kernels(x.device)[0], eps
        out: Tensor = ctx.made.turned(x, cos, sin, weight=weight, eps=eps)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, cos, sin, weight = ctx.saved_tensors
        return ctx.made.turned(gradients[0], cos, sin, back=True, weight=weight, eps=ctx.eps, states=x), None, None, None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool) -> Tensor:
    made, _ = kernels(x.device)
    return made.turned(x, cos, sin, back=back) if made else _turned(x, cos, sin, back=back)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool) -> Tensor:
    """x cos, from whose first half the second one times sin is taken, and to its second the first times sin added; `back`: the gradient
    for x, given that of the result."""
    half = x.shape[-1] // 2
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    first, second = (sin[..., half:], sin[..., :half]) if back else (sin[..., :half], sin[..., half:])
    sign = 1.0 if back else -1.0
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], first, value=sign)
    out[..., half:].addcmul_(x[..., :half], second, value=-sign)
    return out


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last dimension, in the number format of `x`. Shapes: x (..., width), weight (width,)."""
    return nn.functional.rms_norm(x, weight.shape, weight.to(x.dtype), eps)


@dataclass(frozen=True)
class _Normed:
    """What RMSNorm gives for each head of x, not made yet: the rotation behind it makes both in one pass."""

    x: Tensor
    weight: Tensor
    eps: float

    def transpose(self, one: int, other: int) -> _Normed:
        return replace(self, x=self.x.transpose(one, other))

    def turned(self, cos: Tensor, sin: Tensor) -> Tensor:
        cos, sin, weight = (each.to(self.x.dtype) for each in (cos, sin, self.weight))
        out: Tensor = _NormedRotation.apply(self.x, cos, sin, weight, self.eps)  # type: ignore[no-untyped-call]
        return out


def rotate(q: Tensor | _Normed, k: Tensor | _Normed, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """transformers' `apply_rotary_pos_emb`: queries and keys, turned. Shapes: q and k (texts, heads, tokens, head dimension), cos and sin
    (texts, tokens, head dimension).
    """

    def turned(x: Tensor | _Normed) -> Tensor:
        x = x.transpose(1, unsqueeze_dim)
        if isinstance(x, _Normed):
            return x.turned(cos, sin).transpose(1, unsqueeze_dim)
        out: Tensor = _Rotation.apply(x, cos.to(x.dtype), sin.to(x.dtype))  # type: ignore[no-untyped-call]
        return out.transpose(1, unsqueeze_dim)

    return turned(q), turned(k)


class _Norm:
    """The forward pass of one RMSNorm; with `waits`, it is left to the rotation behind it, unless its weight learns."""

    def __init__(self, module: nn.Module, eps: float) -> None:
        self.module, self.eps, self.waits = module, eps, False

    def __call__(self, hidden_states: Tensor) -> Tensor | _Normed:
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        if self.waits and not (weight.requires_grad and torch.is_grad_enabled()):
            return _Normed(hidden_states, weight, self.eps)
        return rms_norm(hidden_states, weight, self.eps)


class GatedUnit:
    """The forward pass of one feed-forward layer with a gate: by kernels, or in PyTorch. It is copied and pickled with its model."""

    def __init__(self, module: Any, *, by_kernels: bool) -> None:
        self.module, self.by_kernels = module, by_kernels

    def __call__(self, x: Tensor) -> Tensor:
        gate, up = self.module.gate_proj(x), self.module.up_proj(x)
        made = kernels(x.device)[0] if self.by_kernels else None
        inner: Tensor = _Gate.apply(made, gate, up)  # type: ignore[no-untyped-call]
        out: Tensor = self.module.down_proj(with_origin(inner, partial(_gated, made), gate, up))
        return out


def make_lean(body: nn.Module) -> tuple[int, str]:
    """Give a model's norms, attentions and gates these passes, in place, where a trial shows the same results.

    How many took it, and why gates and rotations have no kernels, where they could have some.
    """
    changed, why = 0, ""
    with torch.no_grad():
        for module in body.modules():
            forward = _lean_norm(module) or _lean_attention(module) or _lean_gate(module)
            if forward is not None:
                module.forward = forward
                changed += 1
            if isinstance(forward, MethodType) or _has_gate(module):
                why = kernels(next(module.parameters()).device)[1]
        for module in body.modules():
            _join_norms_to_rotation(module)
    return changed, why


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


def _join_norms_to_rotation(attention: Any) -> None:
    """Let the norms of queries and keys wait for the rotation, where it has kernels and the attention then gives the same."""
    parts: list[Any] = [getattr(attention, name, None) for name in NORMED]
    norms = [norm for part in parts if isinstance(part, nn.Module) and isinstance(norm := vars(part).get("forward"), _Norm)]
    if len(norms) != len(NORMED) or not kernels(parts[0].weight.device)[0]:
        return
    like = parts[0].weight
    try:
        given = _trial((1, 3, attention.q_proj.in_features), like), (_trial((1, 3, len(like)), like), _trial((1, 3, len(like)), like)), None
        expected, _ = attention(*given)
        for norm in norms:
            norm.waits = True
        found, _ = attention(*given)
        alike = _alike(expected, found)
    except Exception:  # whatever a model does that has other work between the two, or is asked in another way
        alike = False
    for norm in norms:
        norm.waits = alike


def _lean_gate(module: Any) -> Callable[..., Any] | None:
    return gated_unit(module, by_kernels=True) if _has_gate(module) and kernels(module.gate_proj.weight.device)[0] else None


def gated_unit(module: Any, *, by_kernels: bool) -> GatedUnit | None:
    """The pass of a feed-forward layer with a gate by kernels, or in PyTorch; None where the module computes another thing."""
    if not _has_gate(module):
        return None
    weight = module.gate_proj.weight
    x, ours = _trial((3, weight.shape[1]), weight), GatedUnit(module, by_kernels=by_kernels)
    with torch.no_grad():
        return ours if _alike(module(x), ours(x)) else None


def _has_gate(module: Any) -> bool:
    return all(isinstance(getattr(getattr(module, name, None), "weight", None), Tensor) for name in GATED)


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
