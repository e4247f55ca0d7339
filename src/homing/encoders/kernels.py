"""What stands between a decoder's matrix products, in one pass over its activations: kernels in Triton, which comes with PyTorch for CUDA.

A gate, SiLU(g) u (SwiGLU: Shazeer 2020, arXiv 2002.05202), and a rotation of queries or keys (Su et al. 2021, arXiv 2104.09864), alone or
behind the norm of each head that Qwen3 has there (Henry et al. 2020, arXiv 2010.04245), each forward and back. All is computed in float32
and rounded once. The tests run these same kernels on a CPU by Triton's interpreter.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # numbers a program of the gate


@triton.jit
def _gate(gate, up, out, many, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < many
    g = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, g / (1.0 + tl.exp(-g)) * u, mask=inside)


@triton.jit
def _gate_back(grad, gate, up, to_gate, to_up, many, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < many
    d = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    share = 1.0 / (1.0 + tl.exp(-g))
    tl.store(to_gate + place, d * u * share * (1.0 + g * (1.0 - share)), mask=inside)
    tl.store(to_up + place, d * g * share, mask=inside)


@triton.jit
def _add(one, other):
    return one + other


@triton.jit
def _turn(
    x, cos, sin, out, weight, states, eps, heads, tokens, x_text, x_head, x_token, out_text, out_head, out_token,
    of_text, of_head, of_token, half, BACK: tl.constexpr, NORM: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """One token of one text: all its heads."""
    text, token = tl.program_id(0).to(tl.int64) // tokens, tl.program_id(0).to(tl.int64) % tokens
    head, column = tl.arange(0, HEADS)[:, None], tl.arange(0, HALF)[None, :]
    inside = (head < heads) & (column < half)
    angle = (text * tokens + token) * 2 * half + column
    cos_1 = tl.load(cos + angle, mask=column < half, other=0.0).to(tl.float32)
    cos_2 = tl.load(cos + angle + half, mask=column < half, other=0.0).to(tl.float32)
    sin_1 = tl.load(sin + angle, mask=column < half, other=0.0).to(tl.float32)
    sin_2 = tl.load(sin + angle + half, mask=column < half, other=0.0).to(tl.float32)
    read = x + text * x_text + token * x_token + head * x_head + column
    first = tl.load(read, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(read + half, mask=inside, other=0.0).to(tl.float32)
    if NORM:
        weight_1 = tl.load(weight + column, mask=column < half, other=0.0).to(tl.float32)
        weight_2 = tl.load(weight + half + column, mask=column < half, other=0.0).to(tl.float32)
    if BACK:
        turned_1, turned_2 = first * cos_1 + second * sin_2, second * cos_2 - first * sin_1
        if NORM:
            read = states + text * of_text + token * of_token + head * of_head + column
            first = tl.load(read, mask=inside, other=0.0).to(tl.float32)
            second = tl.load(read + half, mask=inside, other=0.0).to(tl.float32)
            share = 1.0 / tl.sqrt(tl.reduce(first * first + second * second, 1, _add, keep_dims=True) / (2 * half) + eps)
            first, second = first * share, second * share
            turned_1, turned_2 = turned_1 * weight_1, turned_2 * weight_2
            along = tl.reduce(turned_1 * first + turned_2 * second, 1, _add, keep_dims=True) / (2 * half)
            turned_1, turned_2 = (turned_1 - first * along) * share, (turned_2 - second * along) * share
    else:
        if NORM:
            share = 1.0 / tl.sqrt(tl.reduce(first * first + second * second, 1, _add, keep_dims=True) / (2 * half) + eps)
            first, second = first * share * weight_1, second * share * weight_2
        turned_1, turned_2 = first * cos_1 - second * sin_1, second * cos_2 + first * sin_2
    written = out + text * out_text + token * out_token + head * out_head + column
    tl.store(written, turned_1, mask=inside)
    tl.store(written + half, turned_2, mask=inside)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """SiLU(gate) up, number by number; all of one shape and number format."""
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    many = gate.numel()
    with torch.cuda.device_of(gate):
        _gate[(triton.cdiv(many, BLOCK),)](gate, up, out, many, BLOCK)
    return out


def gated_back(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients for `gate` and `up`, given that of the result."""
    grad, gate, up = grad.contiguous(), gate.contiguous(), up.contiguous()
    to_gate, to_up = torch.empty_like(gate), torch.empty_like(up)
    many = gate.numel()
    with torch.cuda.device_of(gate):
        _gate_back[(triton.cdiv(many, BLOCK),)](grad, gate, up, to_gate, to_up, many, BLOCK)
    return to_gate, to_up


def turned(
    x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False, weight: Tensor | None = None, eps: float = 0.0, states: Tensor | None = None
) -> Tensor:
    """Each half of x's last dimension turned by the angles, against the other; `back`: the gradient for x, given that of the result.

    With a `weight` (head dimension,), x goes through RMSNorm over its last dimension first; its gradient wants x itself as `states`.
    Shapes: x (texts, heads, tokens, head dimension), whose last dimension lies in one piece, cos and sin (texts, tokens, head dimension).
    """
    states = x if states is None else states
    x, states = (each if each.stride(-1) == 1 else each.contiguous() for each in (x, states))
    texts, heads, tokens, width = x.shape
    cos, sin = (each.expand(texts, tokens, width).contiguous() for each in (cos, sin))
    out = torch.empty_like(states)  # as x lies: what follows wants it so
    places: tuple[Any, ...] = (*x.stride()[:3], *out.stride()[:3], *states.stride()[:3])
    half = width // 2
    sizes = triton.next_power_of_2(heads), triton.next_power_of_2(half)
    norm = x if weight is None else weight.contiguous()
    with torch.cuda.device_of(x):
        _turn[(texts * tokens,)](x, cos, sin, out, norm, states, eps, heads, tokens, *places, half, back, weight is not None, *sizes)
    return out
