"""Fewer passes over a decoder's activations: values and gradients are transformers' own, and what computes another thing keeps its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers.models.cohere.modeling_cohere import CohereAttention, CohereConfig
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.glm.modeling_glm import GlmAttention, GlmConfig
from transformers.models.qwen3.modeling_qwen3 import Qwen3Config, Qwen3DecoderLayer, Qwen3RMSNorm, apply_rotary_pos_emb

from homing.encoders import fused
from homing.encoders.fused import fuse
from homing.encoders.lean import make_lean, rms_norm, rotate
from homing.encoders.model import Model
from test_packed import BODIES, TEXTS, TOKENS, directory, gradients

NAMES = ("q_proj", "k_proj", "v_proj")
SMALL = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1}


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype).requires_grad_()


def test_a_norm_is_the_librarys() -> None:
    norm = Qwen3RMSNorm(16).double()
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    x, weight = drawn(2, 5, 16), norm.weight.detach().clone().requires_grad_()
    ours, theirs = rms_norm(x, weight, norm.variance_epsilon), norm(x)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)  # theirs is float32 within
    got = torch.autograd.grad(ours.sin().sum(), (x, weight))
    for one, other in zip(got, torch.autograd.grad(theirs.sin().sum(), (x, norm.weight)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    half = rms_norm(drawn(3, 16, dtype=torch.bfloat16), weight.float(), 1e-6)
    assert half.dtype == torch.bfloat16  # with weights in float32, which learn, transformers' own gives float32


def test_a_rotation_is_the_librarys() -> None:
    angles = drawn(2, 5, 4).detach()
    cos, sin = (torch.cat([each, each], dim=-1) for each in (angles.cos(), angles.sin()))
    q, k = drawn(2, 4, 5, 8), drawn(2, 2, 5, 8)
    for one, other in zip(rotate(q, k, cos, sin), apply_rotary_pos_emb(q, k, cos, sin), strict=True):
        torch.testing.assert_close(one, other)
    uneven = cos, drawn(2, 5, 8).detach()  # two halves of angles that differ
    for one, other in zip(rotate(q, k, *uneven), apply_rotary_pos_emb(q, k, *uneven), strict=True):
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradcheck(lambda *states: rotate(*states, *uneven), (q, k))
    last = rotate(q.transpose(1, 2), k.transpose(1, 2), cos, sin, unsqueeze_dim=2)
    torch.testing.assert_close(last[0].transpose(1, 2), rotate(q, k, cos, sin)[0])


@pytest.mark.parametrize(("name", "took"), [("qwen3, both directions", 11), ("qwen3, sliding", 11), ("llama", 7), ("bert", 0)])
def test_a_body_embeds_and_learns_as_before(tiny_model: Path, tmp_path: Path, name: str, took: int) -> None:
    """Two layers have two norms each, Qwen3's two more in the attention; there is one at the end; and two attentions."""
    kind, config = BODIES[name]
    torch.manual_seed(1)
    model = Model(directory(tmp_path, tiny_model, kind(config)), device="cpu")
    assert not any("forward" in vars(module) for module in model.transformer.modules())  # on a CPU it is left alone
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.05)  # norms whose weights are not all 1
        expected = model.embed(TOKENS, TEXTS)
    before = gradients(model, model.embed)
    assert make_lean(model.transformer[0].model)[0] == took
    with torch.no_grad():
        torch.testing.assert_close(model.embed(TOKENS, TEXTS), expected, atol=2e-6, rtol=0)
    after = gradients(model, model.embed)
    assert before.keys() == after.keys()
    for each, gradient in before.items():
        assert float((after[each] - gradient).norm()) <= 1e-5 * max(1e-3, float(gradient.norm())), each


@pytest.mark.parametrize("size", [1.0, 0.01])
def test_half_precision_is_recognised(size: float) -> None:
    layer = Qwen3DecoderLayer(Qwen3Config(**SMALL, head_dim=8), 0).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(0.5 * size, 1.5 * size)
    assert make_lean(layer)[0] == 5  # two norms, two more in the attention, and the attention


class Centred(Qwen3RMSNorm):
    """It has the name, and takes the mean off first."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return super().forward(hidden_states - hidden_states.mean(-1, keepdim=True))


CentredRMSNorm = type("CentredRMSNorm", (Centred,), {})


@pytest.mark.parametrize(
    "module",
    [
        GemmaRMSNorm(16),  # one more than its weight
        CentredRMSNorm(16),
        CohereAttention(CohereConfig(**SMALL), 0),  # turns neighbours, not halves
        GlmAttention(GlmConfig(**SMALL, head_dim=8), 0),  # turns a part
    ],
    ids=["gemma", "centred", "cohere", "glm"],
)
@pytest.mark.parametrize(("size", "dtype"), [(1.0, torch.float32), (0.01, torch.float32), (1.0, torch.bfloat16), (0.01, torch.bfloat16)])
def test_what_computes_another_thing_keeps_its_own(module: nn.Module, size: float, dtype: torch.dtype) -> None:
    module.to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5 * size, 1.5 * size)
    assert make_lean(module)[0] == 0
    assert "forward" not in vars(module)


@pytest.mark.parametrize("bias", [True, False])
def test_a_low_rank_product_beside_a_weight_that_is_not_float32(bias: bool) -> None:
    """PEFT's own layer in float64: value and gradients for x, A and B."""
    made = []
    for ours in (False, True):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(12, 7, bias=bias), nn.Tanh()).double()
        tuned = get_peft_model(body, LoraConfig(r=3, lora_alpha=7, target_modules=["0"]), autocast_adapter_dtype=False)
        assert not ours or fuse(tuned) == 1
        learned = [parameter for name, parameter in sorted(tuned.named_parameters()) if parameter.requires_grad]
        with torch.no_grad():
            for parameter in learned:
                parameter.copy_(drawn(*parameter.shape))
        x = drawn(2, 5, 12)
        out = tuned(x)
        made.append([out, *torch.autograd.grad(out.sin().sum(), [x, *learned])])
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other)


class Heads(nn.Module):
    """Three projections of one input, or of two."""

    def __init__(self, second: bool, bias: bool) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(12, 7, bias=bias), nn.Linear(12, 5, bias=bias), nn.Linear(12, 5)
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        y = x.cos() if self.second else x
        q, k = self.q_proj(x), self.k_proj(y).transpose(0, 1)
        k /= 2  # in place, as some models do
        return torch.cat([q, k.transpose(0, 1), self.v_proj(y), self.q_proj(x)], dim=-1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_layers_with_the_same_input_are_computed_together(second: bool, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT's own layers in float64, with ranks and scales that differ; and after A and B have changed."""
    calls: list[int] = []
    apply = fused._AddedLinears.apply
    monkeypatch.setattr(fused._AddedLinears, "apply", lambda x, layers, *others: calls.append(len(layers)) or apply(x, layers, *others))
    made = []
    for ours in (False, True):
        torch.manual_seed(0)
        body = Heads(second, bias).double()
        config = LoraConfig(r=3, lora_alpha=7, target_modules=[*NAMES], rank_pattern={"k_proj": 2}, alpha_pattern={"v_proj": 5})
        tuned = get_peft_model(body, config, autocast_adapter_dtype=False)
        assert not ours or fuse(tuned) == 3
        learned = [parameter for name, parameter in sorted(tuned.named_parameters()) if parameter.requires_grad]
        x = drawn(2, 5, 12)
        for update in range(2):
            with torch.no_grad():
                for parameter in learned:
                    parameter.copy_(drawn(*parameter.shape) * (update + 1))
            out = tuned(x)
            made.append([out, *torch.autograd.grad(out.sin().sum(), [x, *learned])])
    for one, other in zip([*made[0], *made[1]], [*made[2], *made[3]], strict=True):
        torch.testing.assert_close(one, other)
    assert calls == ([3, 3, 3] if second else [3, 3]) * 2  # of two inputs the other layers' outputs are made and not used
