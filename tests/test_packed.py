"""Packed texts: their embeddings and gradients are those of padded chunks, whatever the model; the kernel's signature in every version."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    Lfm2Config,
    Lfm2Model,
    LlamaConfig,
    LlamaModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from homing.encoders import packed
from homing.encoders.checkpointing import set_checkpointing
from homing.encoders.model import Model
from homing.encoders.packed import Packing
from homing.encoders.tokens import Tokens

SMALL: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
}
GROUPED: dict[str, Any] = {**SMALL, "num_key_value_heads": 2, "head_dim": 16, "use_cache": False}
SLIDING = ["sliding_attention", "full_attention"]
BODIES: dict[str, tuple[type[PreTrainedModel], PreTrainedConfig]] = {
    "bert": (BertModel, BertConfig(**SMALL)),
    "xlm-roberta": (XLMRobertaModel, XLMRobertaConfig(**SMALL, pad_token_id=1)),
    "llama": (LlamaModel, LlamaConfig(**GROUPED)),
    "qwen3, both directions": (Qwen3Model, Qwen3Config(**GROUPED, is_causal=False)),
    "qwen3, sliding": (Qwen3Model, Qwen3Config(**GROUPED, use_sliding_window=True, sliding_window=8, layer_types=SLIDING)),
    "modernbert, sliding": (ModernBertModel, ModernBertConfig(**SMALL, local_attention=8, layer_types=SLIDING, pad_token_id=0)),
}


def directory(at: Path, tiny: Path, body: PreTrainedModel, pooling: str = "mean", padding: str = "right") -> Path:
    """The body with random weights, pooled so, under the tiny model's tokenizer, which pads on this side."""
    body.save_pretrained(at / "body")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / file, at / "body")
    said = json.loads((at / "body" / "tokenizer_config.json").read_text())
    (at / "body" / "tokenizer_config.json").write_text(json.dumps({**said, "padding_side": padding, "model_max_length": 200}))
    transformer = Transformer(str(at / "body"))
    SentenceTransformer(modules=[transformer, Pooling(64, pooling), Normalize()], device="cpu").save(str(at / "model"))
    return at / "model"


def made_tokens(lengths: list[int], vocabulary: int = 2000) -> Tokens:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Tokens(np.random.default_rng(7).integers(3, vocabulary, offsets[-1], dtype=np.int32), offsets)


def padded(model: Model, tokens: Tokens, texts: np.ndarray) -> Tensor:
    return nn.functional.normalize(model.embed_padded(tokens, texts), dim=-1)


TOKENS = made_tokens([5, 30, 12, 1, 12, 12, 41, 5])
TEXTS = np.array([1, 0, 3, 6, 4, 2, 5])  # not all, in no order


def agree(model: Model) -> None:
    assert model.packer is not None, model.padded_because
    with torch.no_grad():
        embeddings, expected = model.embed(TOKENS, TEXTS), padded(model, TOKENS, TEXTS)
    torch.testing.assert_close(embeddings, expected, atol=2e-6, rtol=0)
    apart = (expected[:, None] - expected[None]).norm(dim=-1)
    assert float((apart + torch.eye(len(TEXTS))).min()) > 0.01  # an embedding that ignores its text would pass


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
@pytest.mark.parametrize("padding", ["left", "right"])
def test_qwen3_agrees_with_padding(tiny_model: Path, tmp_path: Path, padding: str, pooling: str) -> None:
    """Causal, with grouped heads: the first token's state knows nothing but itself, so `cls` is tried on a body of both directions."""
    config = Qwen3Config(**GROUPED, is_causal=pooling != "cls")
    torch.manual_seed(1)
    agree(Model(directory(tmp_path, tiny_model, Qwen3Model(config), pooling, padding), device="cpu"))


@pytest.mark.parametrize("name", BODIES)
def test_other_bodies_agree_with_padding(tiny_model: Path, tmp_path: Path, name: str) -> None:
    kind, config = BODIES[name]
    torch.manual_seed(1)
    agree(Model(directory(tmp_path, tiny_model, kind(config)), device="cpu"))


def test_minilm_agrees_with_padding(minilm: Path) -> None:
    agree(Model(minilm, device="cpu"))


def test_a_padding_token_inside_a_text_counts_as_the_model_counts_it(tiny_model: Path, tmp_path: Path) -> None:
    """XLM-R numbers the tokens of its input without the padding tokens; a text may hold one."""
    kind, config = BODIES["xlm-roberta"]
    model = Model(directory(tmp_path, tiny_model, kind(config)), device="cpu")
    tokens = made_tokens([9, 6])
    tokens.ids[[3, 11]] = 1
    with torch.no_grad():
        torch.testing.assert_close(model.embed(tokens, np.arange(2)), padded(model, tokens, np.arange(2)), atol=2e-6, rtol=0)


def gradients(model: Model, embed: Callable[[Tokens, np.ndarray], Tensor]) -> dict[str, Tensor]:
    model.transformer.zero_grad(set_to_none=True)
    weight = torch.linspace(-1, 1, 64)
    (nn.functional.normalize(embed(TOKENS, TEXTS), dim=-1) @ weight).square().sum().backward()
    return {name: p.grad for name, p in model.transformer.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", BODIES)
def test_tokens_that_fill_a_row_up_are_read_by_nobody(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Embeddings and gradients are those of the row without them, and a few numbers of tokens are all that the model sees."""
    kind, config = BODIES[name]
    torch.manual_seed(1)
    model = Model(directory(tmp_path, tiny_model, kind(config)), device="cpu")
    with torch.no_grad():
        bare = model.embed(TOKENS, TEXTS)
    expected = gradients(model, model.embed)
    seen = list[int]()
    model.transformer[0].register_forward_pre_hook(lambda _, asked: seen.append(asked[0]["input_ids"].shape[1]))
    monkeypatch.setattr(packed, "LONG", 50)
    with torch.no_grad():
        torch.testing.assert_close(model.embed(TOKENS, TEXTS), bare, atol=1e-6, rtol=0)
        model.embed(TOKENS, np.array([1, 2]))  # too short to be filled
        model.embed(TOKENS, np.array([1, 6]))
    got = gradients(model, model.embed)
    assert seen == [128, 42, 80, 128]  # of 118, 42, 71 and 118
    for each in expected:
        assert float((got[each] - expected[each]).norm() / max(1e-9, float(expected[each].norm()))) < 1e-5, each


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_an_adapter_agree_with_padding(tiny_model: Path, checkpointing: bool) -> None:
    model = Model(tiny_model, device="cpu")
    assert model.packer is not None
    body = model.transformer[0].model
    get_peft_model(body, LoraConfig(r=4, target_modules="all-linear", task_type="FEATURE_EXTRACTION", init_lora_weights=False))
    if checkpointing:
        set_checkpointing(body, True)
    with torch.no_grad():
        torch.testing.assert_close(model.embed(TOKENS, TEXTS), padded(model, TOKENS, TEXTS), atol=2e-6, rtol=0)
    got, expected = gradients(model, model.embed), gradients(model, model.embed_padded)
    assert set(got) == set(expected)
    assert len(got) >= 2 * 7 * 2  # A and B of seven linears in two layers
    for name in expected:
        assert float((got[name] - expected[name]).norm() / expected[name].norm()) < 1e-5, name


def test_a_model_whose_attention_is_its_own_stays_padded(tiny_model: Path, tmp_path: Path) -> None:
    """MPNet adds its relative positions itself."""
    config = MPNetConfig(**SMALL, pad_token_id=1)
    model = Model(directory(tmp_path, tiny_model, MPNetModel(config)), device="cpu")
    packer, why = model.packer, model.padded_because
    assert packer is None
    assert why
    with torch.no_grad():
        assert torch.equal(model.embed(TOKENS, TEXTS), padded(model, TOKENS, TEXTS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_whose_texts_change_their_neighbours_in_the_row_stays_padded(tiny_model: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    """A convolution reads past the border between two texts; in half precision that is less than what rounding may take."""
    kinds = ["conv", "conv", "full_attention", "conv"]
    torch.manual_seed(0)
    body = Lfm2Model(Lfm2Config(**{**SMALL, "num_hidden_layers": 4, "initializer_range": 0.02}, num_key_value_heads=2, layer_types=kinds))
    model = Model(directory(tmp_path, tiny_model, body, "lasttoken", "left"), device="cpu", dtype=dtype)
    assert model.packer is None
    said = "differ by" if dtype == torch.float32 else "depends on the text before it"
    assert said in model.padded_because


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_packed_in_half_precision_too(tiny_model: Path, tmp_path: Path, name: str) -> None:
    made, config = BODIES[name]
    model = Model(directory(tmp_path, tiny_model, made(config)), device="cpu", dtype=torch.bfloat16)
    assert model.packer is not None, model.padded_because


def test_eager_attention_is_left_as_it_is(tiny_model: Path) -> None:
    model = Model(tiny_model, device="cpu")
    model.transformer[0].model.set_attn_implementation("eager")
    assert (model.packer, model.padded_because) == (None, "its attention is eager, not sdpa")


def test_a_model_that_comes_out_different_is_refused(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that see each other: what a model does that hands the packing on wrongly."""

    def through(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Any, packing: Any = None, **kwargs: Any) -> Any:
        return packed.sdpa_attention_forward(module, q, k, v, None if packing else mask, **kwargs)

    model = Model(tiny_model, device="cpu")
    monkeypatch.setitem(packed.AttentionInterface._global_mapping, "sdpa", through)
    packer, why = model.packer, model.padded_because
    assert packer is None
    assert "differ" in why


def test_sentence_transformers_own_encode_is_as_before(tiny_model: Path, tmp_path: Path) -> None:
    """Packing leaves no trace on the model: neither in its config nor in what is saved."""
    texts = ["a claim", "the policy covers an accident on the road, and storms", "rivers"]
    untouched = SentenceTransformer(str(tiny_model), device="cpu").encode(texts)
    model = Model(tiny_model, device="cpu")
    model.embed(TOKENS, TEXTS)
    assert np.array_equal(model.transformer.encode(texts), untouched)
    assert model.transformer[0].model.config._attn_implementation == "sdpa"
    model.transformer.save(str(tmp_path / "saved"))
    assert all("packed" not in file.read_text() for file in (tmp_path / "saved").rglob("*.json") if file.name != "tokenizer.json")


def test_equal_bits_each_time(tiny_model: Path) -> None:
    """With gradients or without: gradient caching relies on it."""
    model = Model(tiny_model, device="cpu")
    first, second = (gradients(model, model.embed) for _ in range(2))
    assert first
    assert all(torch.equal(first[name], second[name]) for name in first)
    with torch.no_grad():
        without = model.embed(TOKENS, TEXTS)
    assert torch.equal(without, model.embed(TOKENS, TEXTS).detach())


def test_two_models_in_two_threads(tiny_model: Path, tmp_path: Path) -> None:
    kind, config = BODIES["bert"]
    models = [Model(tiny_model, device="cpu"), Model(directory(tmp_path, tiny_model, kind(config)), device="cpu")]
    jobs = [(model, texts) for texts in (TEXTS, TEXTS[:3], TEXTS[4:]) for model in models]

    def embed(job: tuple[Model, np.ndarray]) -> Tensor:
        with torch.no_grad():
            return job[0].embed(TOKENS, job[1])

    expected = [embed(job) for job in jobs]
    with ThreadPoolExecutor(2) as pool:
        for got, wanted in zip(pool.map(embed, jobs * 5), expected * 5, strict=True):
            assert torch.equal(got, wanted)


def test_a_model_through_the_kernel(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does, with the stand-in in the kernel's place."""
    call, told = kernel("2.12")
    put(monkeypatch, call)
    model = Model(tiny_model, device="cpu")
    with torch.inference_mode():  # as where texts are encoded
        assert model.packer is not None
    agree(model)
    assert all(said == {"scale": None, "window_size": (-1, 0), "enable_gqa": True} for said in told)
    assert told
    assert all(parameter.grad is None for parameter in model.transformer.parameters())


@pytest.mark.parametrize("name", BODIES)
def test_other_bodies_through_the_kernel(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    call, told = kernel("2.12")
    put(monkeypatch, call)
    kind, config = BODIES[name]
    torch.manual_seed(1)
    agree(Model(directory(tmp_path, tiny_model, kind(config)), device="cpu"))
    assert told


def put(monkeypatch: pytest.MonkeyPatch, call: Callable[..., Tensor]) -> None:
    """This in the place of PyTorch's kernel, on a CPU."""
    monkeypatch.setattr(packed, "KERNEL", call)
    monkeypatch.setattr(packed, "HAS_KERNEL", ("cpu",))
    monkeypatch.setattr(packed, "HALF", (torch.float32,))


def test_heads_that_the_kernel_does_not_take_attend_in_runs(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call, told = kernel("2.12")
    put(monkeypatch, call)
    agree(Model(directory(tmp_path, tiny_model, Qwen3Model(Qwen3Config(**{**GROUPED, "head_dim": 12}))), device="cpu"))
    assert not told


class _Spoilt(torch.autograd.Function):
    """The same numbers, whose way back fails, or gives no numbers."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, fails: bool) -> Tensor:
        ctx.fails = fails
        return out.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        if ctx.fails:
            raise NotImplementedError("no way back")
        return gradient * torch.nan, None


@pytest.mark.parametrize(("fails", "said"), [(True, "NotImplementedError: no way back"), (False, "its gradients are not finite")])
def test_a_kernel_without_gradients_is_refused(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, fails: bool, said: str) -> None:
    """Before a training finds it out; the texts are padded then."""
    call, _ = kernel("2.12")

    @wraps(call)
    def spoilt(*states: Any, **others: Any) -> Any:
        return _Spoilt.apply(call(*states, **others), fails)  # type: ignore[no-untyped-call]

    put(monkeypatch, spoilt)
    model = Model(tiny_model, device="cpu")
    assert (model.packer, model.padded_because) == (None, said)


def test_off_the_cpu_grouped_heads_attend_as_many_as_there_are_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's kernels for float32 want that; without one, the scores of all pairs of tokens would be kept."""
    asked = list[tuple[int, int, bool]]()

    def attend(q: Tensor, k: Tensor, v: Tensor, *, enable_gqa: bool, **others: Any) -> Tensor:
        asked.append((q.shape[1], k.shape[1], enable_gqa))
        return torch.empty_like(q)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", attend)
    for device in ("cpu", "meta"):
        q, k = torch.empty(1, 4, 9, 16, device=device), torch.empty(1, 2, 9, 16, device=device)
        packing = Packing([(1, 5), (2, 2)], torch.empty(4, dtype=torch.int32, device=device), 5)
        assert packed._by_runs(q, k, k, packing, None, (-1, 0), 0.0).shape == (9, 4, 16)
    assert asked == [(4, 2, True)] * 2 + [(4, 4, False)] * 2


def test_the_kernel_in_mixed_precision(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 weights under autocast, as all weights are trained on a GPU: Qwen3's norms leave queries and keys in float32."""
    call, _ = kernel("2.12")
    formats = set()

    def noting(*states: Tensor, **said: Any) -> Tensor:
        formats.update(each.dtype for each in states[:3])
        out: Tensor = call(*states, **said)
        return out

    noting.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
    monkeypatch.setattr(packed, "KERNEL", noting)
    monkeypatch.setattr(packed, "HAS_KERNEL", ("cpu",))
    model = Model(tiny_model, device="cpu")
    tokens = model.tokenize(["one", "one text more", "a longer text of some words", "two of them"], "document")
    with torch.autocast("cpu", torch.bfloat16):
        there = model.embed(tokens, np.arange(4))
    assert formats == {torch.bfloat16}
    torch.testing.assert_close(there.float(), model.embed(tokens, np.arange(4)), atol=0.05, rtol=0)


def kernel(words: str) -> tuple[Callable[..., Tensor], list[dict[str, Any]]]:
    """A stand-in for PyTorch's kernel in the words of one version, in plain matrix products; and the list of what it is told."""
    told: list[dict[str, Any]] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, **said: Any) -> Tensor:
        told.append(said)
        left, right = said.get("window_size", (-1, 0 if said.get("is_causal") else -1))
        if q.shape[1] != k.shape[1]:
            assert said["enable_gqa"]
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q, k) * (said.get("scale") or q.shape[-1] ** -0.5)
        place = torch.arange(len(q))
        text = torch.bucketize(place, offsets[1:], right=True)
        before = place[:, None] - place[None, :]
        seen = text[:, None] == text[None, :]
        if left >= 0:
            seen &= before <= left
        if right >= 0:
            seen &= -before <= right
        return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)

    def first(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):  # type: ignore[no-untyped-def]
        return attend(query, key, value, cu_seq_q, is_causal=is_causal)

    def later(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):  # type: ignore[no-untyped-def]
        return attend(query, key, value, cu_seq_q, scale=scale, window_size=window_size)

    def grouped(  # type: ignore[no-untyped-def]
        query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False, num_splits=None
    ):
        return attend(query, key, value, cu_seq_q, scale=scale, window_size=window_size, enable_gqa=enable_gqa)

    return {"2.10": first, "2.11": later, "2.12": grouped}[words], told


@pytest.mark.parametrize("version", ["2.10", "2.11", "2.12"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scaling", [None, 0.25, 0.3])
def test_the_kernel_is_told_the_same_in_every_version(version: str, causal: bool, scaling: float | None) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(9, 4, 16), torch.randn(9, 2, 16), torch.randn(9, 2, 16)
    packing = Packing([(1, 5), (2, 2)], torch.tensor([0, 5, 7, 9], dtype=torch.int32), 5)
    call, told = kernel(version)
    window = (-1, 0 if causal else -1)
    out = packed._by_kernel(call, q, k, v, packing, scaling, window)
    row = (states.transpose(0, 1)[None] for states in (q, k, v))
    torch.testing.assert_close(out, packed._by_runs(*row, packing, scaling, window, 0.0), atol=1e-6, rtol=0)
    assert len(told) == 1


@pytest.mark.parametrize("window", [(2, 0), (2, 2)])
def test_a_sliding_window_in_the_kernel_and_in_runs(window: tuple[int, int]) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(9, 2, 16) for _ in range(3))
    packing = Packing([(1, 5), (2, 2)], torch.tensor([0, 5, 7, 9], dtype=torch.int32), 5)
    out = packed._by_kernel(kernel("2.12")[0], q, k, v, packing, None, window)
    row = (states.transpose(0, 1)[None] for states in (q, k, v))
    torch.testing.assert_close(out, packed._by_runs(*row, packing, None, window, 0.0), atol=1e-6, rtol=0)
    with pytest.raises(NotImplementedError, match="sliding window"):
        packed._by_kernel(kernel("2.10")[0], q, k, v, packing, None, window)


def test_the_installed_kernel_takes_what_it_is_told() -> None:
    """The signature of the PyTorch that is here; its kernel itself needs CUDA."""
    assert packed.KERNEL is not None
    known = packed._parameters(packed.KERNEL)
    assert {"scale", "window_size"} <= known
    call, _ = kernel("2.12" if "enable_gqa" in known else "2.11")
    assert packed._parameters(call) - known == set()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("causal", [True, False])
def test_the_kernel_agrees_with_runs_on_a_gpu(causal: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, 90, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for heads in (4, 2, 2))
    packing = Packing([(1, 50), (2, 20)], torch.tensor([0, 50, 70, 90], dtype=torch.int32, device="cuda"), 50)
    window = (-1, 0 if causal else -1)
    rows = (states[0].transpose(0, 1) for states in (q, k, v))
    assert packed.KERNEL is not None
    out, expected = packed._by_kernel(packed.KERNEL, *rows, packing, None, window), packed._by_runs(q, k, v, packing, None, window, 0.0)
    torch.testing.assert_close(out, expected, atol=2e-2, rtol=0)
    got, wanted = (torch.autograd.grad(each.float().square().sum(), (q, k, v)) for each in (out, expected))
    for one, other in zip(got, wanted, strict=True):
        assert float((one - other).float().norm() / other.float().norm()) < 0.03
