"""The kernels give what PyTorch gives, forward and back: by Triton's interpreter, and compiled where there is a GPU."""

from __future__ import annotations

import pickle
import sys
from copy import deepcopy
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertConfig, BertLayer
from transformers.models.olmo2.modeling_olmo2 import Olmo2Attention, Olmo2Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3Config, Qwen3MLP

from homing.encoders import lean
from homing.encoders.model import Model
from homing.encoders.step import Step

pytest.importorskip("triton", reason="needs Triton, which there is for Linux on x86-64")
FILE = Path(lean.__file__).with_name("kernels.py")
TOLERANCE = {torch.float32: {"atol": 2e-6, "rtol": 0.0}, torch.bfloat16: {"atol": 0.04, "rtol": 0.02}}


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def kernels(request: pytest.FixtureRequest) -> tuple[ModuleType, torch.device]:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    spec = spec_from_file_location("kernels_of_the_test", FILE)
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1" if request.param == "cpu" else "0")  # read while the kernels are defined
        spec.loader.exec_module(made)
    return made, torch.device(request.param)


def drawn(*shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(device, dtype).requires_grad_()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (2, 5, 1024)])  # less than a block, not a whole number of blocks, ten
def test_a_gate(kernels: tuple[ModuleType, torch.device], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    made, device = kernels
    gate, up = drawn(*shape, dtype=dtype, device=device), drawn(*shape, 1, dtype=dtype, device=device)[..., 0]
    ours, theirs = lean._Gate.apply(made, gate, up), nn.functional.silu(gate) * up
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs, **TOLERANCE[dtype])
    given = drawn(*shape, 2, dtype=dtype, device=device).detach()[..., 0]
    got, wanted = (torch.autograd.grad(each, (gate, up), given) for each in (ours, theirs))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("heads", "width"), [(1, 6), (3, 16)])
@pytest.mark.parametrize("back", [False, True])
def test_a_rotation(kernels: tuple[ModuleType, torch.device], heads: int, width: int, back: bool, dtype: torch.dtype) -> None:
    """As states lie after a projection, in one piece, and with their last dimension apart; halves of angles that differ."""
    made, device = kernels
    cos, sin = (drawn(2, 5, width, many, dtype=dtype, device=device)[..., 0] for many in (1, 2))
    states = drawn(2, 5, heads, width, dtype=dtype, device=device).detach()
    for x in (
        states.transpose(1, 2),
        states.transpose(1, 2).contiguous(),
        states.transpose(1, 3).contiguous().transpose(1, 3).transpose(1, 2),
    ):
        ours = made.turned(x, cos.detach(), sin.detach(), back=back)
        torch.testing.assert_close(ours, lean._turned(x, cos.detach(), sin.detach(), back=back), **TOLERANCE[dtype])
        assert x.stride(-1) != 1 or ours.stride() == x.stride()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("heads", "width"), [(1, 6), (3, 16)])
def test_a_norm_and_the_rotation_after_it(kernels: tuple[ModuleType, torch.device], heads: int, width: int, dtype: torch.dtype) -> None:
    """In one pass, and one back, where the gradient lies in another order than the states; halves of angles that differ."""
    made, device = kernels
    cos, sin = (drawn(2, 5, width, many, dtype=dtype, device=device)[..., 0].detach() for many in (1, 2))
    weight = drawn(width, dtype=dtype, device=device).detach()
    x = drawn(2, 5, heads, width, dtype=dtype, device=device)
    grad = drawn(2, heads, 5, width, dtype=dtype, device=device).detach()
    normed = lean.rms_norm(x.double(), weight.double(), 1e-3)
    theirs = lean._turned(normed.transpose(1, 2), cos.double(), sin.double(), back=False)
    states = x.detach().transpose(1, 2)
    ours = made.turned(states, cos, sin, weight=weight, eps=1e-3)
    torch.testing.assert_close(ours, theirs.to(dtype), **TOLERANCE[dtype])
    (wanted,) = torch.autograd.grad(theirs, x, grad.double())
    got = made.turned(grad, cos, sin, back=True, weight=weight, eps=1e-3, states=states)
    torch.testing.assert_close(got.transpose(1, 2), wanted, **TOLERANCE[dtype])
    assert ours.stride() == got.stride() == states.stride()


@pytest.mark.parametrize(("kind", "config", "joined"), [(Qwen3Attention, Qwen3Config, True), (Olmo2Attention, Olmo2Config, False)])
def test_norms_wait_for_the_rotation_that_follows(
    kernels: tuple[ModuleType, torch.device], monkeypatch: pytest.MonkeyPatch, kind: Any, config: Any, joined: bool
) -> None:
    """Olmo 2 has other work between them. Weights that learn get their gradients: then nothing waits."""
    made, device = kernels
    monkeypatch.setattr(lean, "kernels", lambda device: (made, ""))
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    attention = kind(config(**shape, attn_implementation="sdpa"), 0).to(device).eval()
    for norm in (attention.q_norm, attention.k_norm):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    x, cos, sin = (drawn(1, 5, width, dtype=torch.float32, device=device) for width in (32, 8, 8))
    turned, turns = made.turned, list[bool]()
    monkeypatch.setattr(made, "turned", lambda *given, **named: turns.append("weight" in named) or turned(*given, **named))
    for learns in (False, True):
        attention.requires_grad_(learns)
        learned = [x, *(attention.parameters() if learns else [])]
        found = []
        for ours in (False, True):
            for module in attention.modules():
                vars(module).pop("forward", None)
            assert not ours or lean.make_lean(attention)[0] == 3
            assert not ours or attention.q_norm.forward.waits is joined
            turns.clear()
            out, _ = attention(x, (cos.detach(), sin.detach()), None)
            found.append([out, *torch.autograd.grad(out.sin().sum(), learned)])
            assert turns == [joined and not learns] * (4 if ours else 0)  # queries and keys, forward and back
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_a_body_takes_them_where_they_are_right(kernels: tuple[ModuleType, torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    made, device = kernels
    assert lean._right(made, device)
    monkeypatch.setattr(lean, "kernels", lambda device: (made, ""))
    layer = Qwen3MLP(Qwen3Config(hidden_size=32, intermediate_size=48)).to(device)
    x = drawn(2, 5, 32, dtype=torch.float32, device=device)
    expected = layer(x)
    assert lean.make_lean(layer) == (1, "")
    for each in (layer, deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(each(x), expected, atol=1e-6, rtol=0)
    learned = [x, *layer.parameters()]
    for one, other in zip(*(torch.autograd.grad(each.sin().sum(), learned) for each in (layer(x), expected)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert lean.make_lean(Qwen3MLP(Qwen3Config(hidden_size=32, intermediate_size=48, hidden_act="gelu")).to(device)) == (0, "")
    for name, wrong in (
        ("gated_back", lambda grad, gate, up: (grad * up, grad * gate)),
        ("turned", lambda x, cos, sin, back=False, weight=None, **others: lean._turned(x, cos, sin, back=back) * (weight is None)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(made, name, wrong)
            assert not lean._right(made, device)


def test_without_them_all_goes_on_and_it_is_said(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, by the step, and only of a model that has gates or rotations."""
    assert lean.kernels(torch.device("cpu")) == (None, "")
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "homing.encoders.kernels", raising=False)
    _, why = lean.kernels.__wrapped__(torch.device("cuda"))
    assert "triton" in why
    monkeypatch.setattr(lean, "kernels", lambda device: (None, why))
    model = Model(tiny_model)
    took, model.without_kernels_because = lean.make_lean(model.transformer[0].model)
    assert took == 11
    said: list[str] = []
    Step(model, [], lambda: None, say=said.append)
    assert said == [f"gates and rotations go without their kernels, which takes longer: {why}"]
    assert lean.make_lean(BertLayer(BertConfig(hidden_size=16, num_attention_heads=2, intermediate_size=8))) == (0, "")
