"""What learns on a model: put on, scaled, saved, loaded, merged and taken off, for each kind, against formulas written out here."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import LlamaConfig, LlamaModel, OPTConfig, OPTModel, Phi3Config, Phi3Model

import homing
from homing import Adapter, Model, Training
from homing.conventions import FILE
from homing.encoders import tuning as tunings
from homing.encoders.checkpointing import set_checkpointing
from homing.encoders.tuning import Tuning, default_tuning, load, targets, tune
from homing.errors import MergeError, ModelError, SettingError

KINDS = ("lora", "rslora", "dora", "full")
RANK, ALPHA = 4, 8.0
TEXTS = ("list all files of the directory", "how is a claim paid after an accident?", "保险合同", "blood pressure")


@pytest.fixture(params=["qwen3", "minilm"])
def directory(request: pytest.FixtureRequest, tiny_model: Path) -> Path:
    return tiny_model if request.param == "qwen3" else request.getfixturevalue("short_minilm")


@pytest.fixture
def model(directory: Path) -> Model:
    return Model(directory, max_length=32)


def _settings(kind: str, **others: float) -> Training:
    return Training(tuning=kind, rank=RANK, alpha=ALPHA, **others)  # type: ignore[arg-type]


def _learn(tuning: Tuning, steps: int = 4, rate: float = 1e-3) -> list[float]:
    """Steps that push the texts' embeddings apart; the loss before each."""
    model = tuning.model
    tokens = model.tokenize(TEXTS, "document")
    optimizer = torch.optim.Adam(tuning.parameters().values(), lr=rate)
    tuning.train_mode()
    found = []
    for _ in range(steps):
        embeddings = model.embed(tokens, np.arange(len(tokens)))
        loss = (embeddings @ embeddings.T).square().sum() - embeddings[0].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    model.transformer.eval()
    return found


def _encode(model: Model) -> NDArray[np.float32]:
    return model.encode(TEXTS)


def _bits(model: Model) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}


def _same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one)


def _saved(model: Model, kind: str, directory: Path, scale: float = 1.0) -> Adapter:
    """A learned adapter of this kind; the model goes out as it came in."""
    tuning = tune(model, _settings(kind))
    _learn(tuning)
    directory.mkdir()
    tuning.save(directory, scale)
    tuning.detach()
    return Adapter(directory)


def _naive(base: dict[str, Tensor], adapter: Adapter, kind: str, scale: float) -> dict[str, Tensor]:
    """W + scale (W' - W) of every weight that the adapter changes, from its file alone, in float64."""
    learned = {name: tensor.double() for name, tensor in load_file(adapter.weights).items()}
    found = {}
    if kind == "full":
        for name, tensor in learned.items():
            found[name] = base[name].double() + scale * (tensor - base[name].double())
        return found
    for name in [name for name in learned if name.endswith("lora_A.weight")]:
        stem = name.removesuffix("lora_A.weight")
        own = stem.removeprefix("base_model.model.") + "weight"
        weight = base[own].double()
        factor = ALPHA / math.sqrt(RANK) if kind == "rslora" else ALPHA / RANK
        tuned = weight + factor * learned[f"{stem}lora_B.weight"] @ learned[name]
        if kind == "dora":
            tuned = learned[f"{stem}lora_magnitude_vector"][:, None] * tuned / tuned.norm(dim=1, keepdim=True)
        found[own] = weight + scale * (tuned - weight)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_put_on_learnt_scaled_and_taken_off(model: Model, kind: str) -> None:
    bits, base = _bits(model), _encode(model)
    grads = [parameter.requires_grad for parameter in model.transformer.parameters()]
    tuning = tune(model, _settings(kind))
    assert tuning.kind == kind
    assert np.allclose(_encode(model), base, atol=1e-6)
    losses = _learn(tuning)
    assert losses[-1] < losses[0]
    learned = _encode(model)
    assert np.abs(learned - base).max() > 1e-3
    tuning.set_scale(0.5)
    half = _encode(model)
    assert np.abs(half - base).max() > 1e-4
    assert np.abs(half - learned).max() > 1e-4
    tuning.set_scale(0.0)
    assert np.allclose(_encode(model), base, atol=1e-6)
    tuning.set_scale(1.0)
    assert np.array_equal(_encode(model), learned)
    tuning.detach()
    assert _same_bits(_bits(model), bits)
    assert np.array_equal(_encode(model), base)
    assert [parameter.requires_grad for parameter in model.transformer.parameters()] == grads
    assert all(parameter.grad is None for parameter in model.transformer.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_learning_after_a_look_at_a_scale(model: Model, kind: str) -> None:
    """A look in between, at any scale, changes nothing of what is learned."""
    ends = []
    for looks in (False, True):
        tuning = tune(model, _settings(kind))
        for _ in range(2):
            _learn(tuning, steps=2)
            if looks:
                tuning.set_scale(0.3)
                _encode(model)
                tuning.set_scale(1.0)
                _encode(model)
        ends.append(_encode(model))
        tuning.detach()
    assert np.array_equal(ends[0], ends[1])


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(model: Model, kind: str, tmp_path: Path) -> None:
    base = _encode(model)
    tuning = tune(model, _settings(kind))
    _learn(tuning)
    learned = _encode(model)
    tuning.set_scale(0.25)  # no scale changes what is saved
    tuning.save(tmp_path, 0.5)
    _learn(tuning, steps=1) if kind != "full" else None
    tuning.set_scale(1.0)
    tuning.restore(Adapter(tmp_path).weights)
    assert np.allclose(_encode(model), learned, atol=1e-6)
    tuning.detach()

    adapter = Adapter(tmp_path)
    assert (adapter.tuning, adapter.scale) == (kind, 0.5)
    assert adapter.conventions["base_parameters"] == model.parameters
    loaded = load(model, adapter, 1.0)
    assert loaded.kind == kind
    assert np.allclose(_encode(model), learned, atol=1e-6)
    loaded.set_scale(0.5)
    half = _encode(model)
    loaded.detach()
    assert np.array_equal(_encode(model), base)
    own = load(model, adapter)
    assert np.array_equal(_encode(model), half)
    own.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_every_scale_is_the_naive_interpolation(model: Model, directory: Path, kind: str, tmp_path: Path) -> None:
    adapter = _saved(model, kind, tmp_path / "adapter")
    base = load_file(directory / "model.safetensors")
    for scale in (1.0, 0.5, 0.25) if model.parameters < 1_000_000 else (0.5,):
        wanted = _naive(base, adapter, kind, scale)
        plain = Model(directory, max_length=32)
        body = plain.transformer[0].model
        parameters = dict(body.named_parameters())
        for name, weight in wanted.items():
            parameters[name].data.copy_(weight.float())
        tuning = load(model, adapter, scale)
        assert np.allclose(_encode(model), _encode(plain), atol=1e-5)
        tuning.detach()
        merged = homing.merge(model, adapter, out=tmp_path / "merged", scale=scale)
        assert np.allclose(_encode(merged), _encode(plain), atol=1e-5)
        written = load_file(tmp_path / "merged" / "model.safetensors")
        for name, weight in wanted.items():
            assert torch.allclose(written[name], weight.float(), atol=1e-6), name
        assert all(torch.equal(written[name], base[name]) for name in written if name not in wanted)
    assert np.allclose(SentenceTransformer(str(tmp_path / "merged"), device="cpu").encode_document(list(TEXTS)), _encode(merged), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_scale_nought_keeps_the_base(model: Model, directory: Path, kind: str, tmp_path: Path) -> None:
    adapter = _saved(model, kind, tmp_path / "adapter", scale=0.0)
    merged = homing.merge(model, adapter, out=tmp_path / "merged")
    base, written = load_file(directory / "model.safetensors"), load_file(tmp_path / "merged" / "model.safetensors")
    assert all(torch.equal(written[name], base[name]) for name in written)
    assert len(written) > 20
    assert np.array_equal(_encode(merged), _encode(model))
    assert "nothing of what was learned is kept" in (tmp_path / "merged" / "README.md").read_text()


@pytest.mark.parametrize(("kind", "said"), [("rslora", "rank-stabilised"), ("full", "all weights trained"), ("dora", "DoRA")])
def test_the_merge_takes_the_scale_that_the_adapter_says(tiny_model: Path, kind: str, said: str, tmp_path: Path) -> None:
    model = Model(tiny_model, max_length=32)
    adapter = _saved(model, kind, tmp_path / "adapter", scale=0.5)
    said_half = homing.merge(model, adapter, out=tmp_path / "a")
    assert np.array_equal(_encode(said_half), _encode(homing.merge(model, adapter, out=tmp_path / "b", scale=0.5)))
    card = (tmp_path / "a" / "README.md").read_text()
    assert said in card
    assert "a share of 0.5" in card
    assert adapter.digest != Adapter(_copy(adapter.path, tmp_path / "whole", scale=1.0)).digest


def _copy(path: Path, to: Path, **changed: object) -> Path:
    shutil.copytree(path, to)
    said = json.loads((to / FILE).read_text()) | changed
    (to / FILE).write_text(json.dumps(said))
    return to


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_peft_itself_loads_the_directory(model: Model, directory: Path, kind: str, tmp_path: Path) -> None:
    adapter = _saved(model, kind, tmp_path / "adapter")
    assert sorted(path.name for path in adapter.path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors", "homing.json"]
    theirs = SentenceTransformer(str(directory), device="cpu")
    theirs.max_seq_length = 32
    PeftModel.from_pretrained(theirs[0].model, adapter.path, torch_device="cpu").eval()
    load(model, adapter)
    assert np.allclose(theirs.encode_document(list(TEXTS)), _encode(model), atol=1e-5)


def test_a_lora_from_elsewhere_needs_no_conventions(tiny_model: Path, tmp_path: Path) -> None:
    model = Model(tiny_model, max_length=32)
    adapter = _saved(model, "lora", tmp_path / "adapter", scale=0.5)
    load(model, adapter, 1.0)
    (adapter.path / FILE).unlink()
    assert adapter.scale == 1.0
    assert np.allclose(_encode(homing.merge(Model(tiny_model, max_length=32), adapter, out=tmp_path / "merged")), _encode(model), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_another_base_is_refused_and_left_alone(tiny_model: Path, minilm: Path, kind: str, tmp_path: Path) -> None:
    from tiny import tiny_qwen3

    adapter = _saved(Model(tiny_model, max_length=32), kind, tmp_path / "adapter")
    other = Model(tiny_qwen3(tmp_path / "other", seed=1), max_length=32)
    bits = _bits(other)
    with pytest.raises(ModelError, match="another base digest"):
        load(other, adapter)
    assert _same_bits(_bits(other), bits)

    (adapter.path / FILE).unlink()  # names and shapes alone
    other = Model(minilm, max_length=32)
    bits, before = _bits(other), _encode(other)
    with pytest.raises(ModelError, match="doesn't fit"):
        load(other, adapter)
    assert _same_bits(_bits(other), bits)
    assert np.array_equal(_encode(other), before)
    tune(other, _settings("lora")).detach()


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_too_few_or_of_another_shape_is_refused(tiny_model: Path, kind: str, tmp_path: Path) -> None:
    model = Model(tiny_model, max_length=32)
    bits = _bits(model)
    adapter = _saved(model, kind, tmp_path / "adapter")
    whole = load_file(adapter.weights)
    name = next(name for name in whole if "layers.1" in name)
    wrong = [{**whole, name: torch.zeros(3, 3)}, {**whole, "layers.9.weight": torch.zeros(3)}]
    if kind != "full":  # the kind full holds whichever weights learned
        wrong.append({each: tensor for each, tensor in whole.items() if each != name})
    for tensors in wrong:
        save_file(tensors, adapter.weights)
        with pytest.raises(ModelError, match="doesn't fit"):
            load(model, adapter)
        assert _same_bits(_bits(model), bits)
    adapter.weights.write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be read"):
        load(model, adapter)
    assert _same_bits(_bits(model), bits)


def test_what_is_no_adapter_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no adapter"):
        Adapter(tmp_path)
    model = Model(tiny_model, max_length=32)
    adapter = _saved(model, "lora", tmp_path / "adapter")
    config = json.loads((adapter.path / "adapter_config.json").read_text())
    (adapter.path / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3", "target_modules": config["target_modules"]}))
    with pytest.raises(ModelError, match="not a LoRA"):
        load(model, adapter)


@pytest.mark.parametrize("scale", [-0.1, 1.5, float("nan")])
def test_a_scale_out_of_range_is_refused(tiny_model: Path, scale: float, tmp_path: Path) -> None:
    model = Model(tiny_model, max_length=32)
    adapter = _saved(model, "lora", tmp_path / "adapter")
    bits = _bits(model)
    with pytest.raises(SettingError, match="scale"):
        load(model, adapter, scale)
    assert _same_bits(_bits(model), bits)
    with pytest.raises(SettingError, match="scale"):
        homing.merge(model, adapter, out=tmp_path / "merged", scale=scale)
    assert not (tmp_path / "merged").exists()


def test_weights_that_are_not_finite_are_not_merged(tiny_model: Path, tmp_path: Path) -> None:
    model = Model(tiny_model, max_length=32)
    adapter = _saved(model, "full", tmp_path / "adapter")
    tensors = load_file(adapter.weights)
    save_file({name: tensor * math.nan for name, tensor in tensors.items()}, adapter.weights)
    with pytest.raises(MergeError, match="not finite"):
        homing.merge(model, adapter, out=tmp_path / "merged")


def test_full_learns_in_float32_on_a_half_precision_base(tmp_path: Path) -> None:
    from tiny import tiny_qwen3

    path = tiny_qwen3(tmp_path / "half", dtype="bfloat16")
    model = Model(path, max_length=32, dtype=torch.bfloat16)
    bits, base = _bits(model), _encode(model)
    tuning = tune(model, _settings("full"))
    assert {parameter.dtype for parameter in model.transformer.parameters()} == {torch.float32} == {model.dtype}
    _learn(tuning)
    learned = _encode(model)
    (tmp_path / "adapter").mkdir()
    tuning.save(tmp_path / "adapter")
    tuning.detach()
    assert model.dtype == torch.bfloat16
    assert _same_bits(_bits(model), bits)
    assert np.array_equal(_encode(model), base)
    merged = homing.merge(model, Adapter(tmp_path / "adapter"), out=tmp_path / "merged")
    assert {weight.dtype for weight in load_file(tmp_path / "merged" / "model.safetensors").values()} == {torch.bfloat16}
    assert np.abs(_encode(merged) - learned).max() < 0.05
    keep = homing.merge(model, Adapter(tmp_path / "adapter"), out=tmp_path / "kept", scale=0.0)
    assert _same_bits(_bits(keep), bits)


def test_full_multiplies_in_the_bases_format_where_the_device_is_fast_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In updates and in looks at dev alike: on a GPU, float32 takes ten times as long."""
    from tiny import tiny_qwen3

    model = Model(tiny_qwen3(tmp_path / "half", dtype="bfloat16"), max_length=32, dtype=torch.bfloat16)
    base = _encode(model)
    exact = tune(model, _settings("full"))
    expected, digest = _encode(model), model.digest
    exact.detach()
    monkeypatch.setattr(tunings, "fast_dtype", lambda device: torch.bfloat16)
    fast = tune(model, _settings("full"))
    assert {parameter.dtype for parameter in model.transformer.parameters()} == {torch.float32} == {model.dtype}
    assert 0 < np.abs(_encode(model) - expected).max() < 0.05
    assert model.digest != digest
    fast.detach()
    assert model.products is None
    assert np.array_equal(_encode(model), base)


def test_a_low_rank_is_put_on_every_linear_layer() -> None:
    """Whatever their names share with those of Llama and its kin, whose own seven are all that is adapted there."""
    small: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9, "pad_token_id": 0}
    with torch.device("meta"):
        bodies = Phi3Model(Phi3Config(**small)), OPTModel(OPTConfig(**small)), LlamaModel(LlamaConfig(**small))
        bodies[2].router = torch.nn.Linear(8, 2)
    assert targets(bodies[0])[0] == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    assert targets(bodies[1])[0] == ["fc1", "fc2", "k_proj", "out_proj", "q_proj", "v_proj"]
    assert targets(bodies[2])[0] == ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    bodies[0].router = type("Router", (torch.nn.Linear,), {"forward": lambda self, x: (x, x)})(8, 2)
    bodies[0].further = torch.nn.Sequential(torch.nn.Linear(8, 8))
    assert targets(bodies[0]) == (["down_proj", "further.0", "gate_up_proj", "o_proj", "qkv_proj"], ["router"])
    with pytest.raises(ModelError, match=r"(?s)no linear layer.*--tuning full"):
        targets(torch.nn.Sequential(torch.nn.Embedding(2, 2)))


def test_a_body_that_peft_puts_no_low_rank_on(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Mamba's out_proj."""
    monkeypatch.setattr(model.transformer[0].model.config, "model_type", "mamba")
    monkeypatch.setattr(tunings, "targets", lambda body: (["out_proj"], []))
    with pytest.raises(ModelError, match=r"(?s)doesn't fit the model.*--tuning full"):
        tune(model, _settings("lora"))
    assert _encode(model).any()


def test_full_learns_all_but_the_pooler(model: Model) -> None:
    body = model.transformer[0].model
    tuning = tune(model, _settings("full"))
    own = {id(parameter) for parameter in tuning.parameters().values()}
    left = {name for name, parameter in body.named_parameters() if id(parameter) not in own}
    assert all("pooler" in name for name in left)
    assert all(parameter.requires_grad is (id(parameter) in own) for parameter in body.parameters())
    _learn(tuning, steps=1)
    assert all(parameter.grad is not None for parameter in tuning.parameters().values())


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_adapter_drops(minilm: Path, kind: str) -> None:
    """MiniLM's own dropout (0.1) stays off; the adapter's is on, and repeats with its seed."""
    model = Model(minilm, max_length=32)
    tuning = tune(model, _settings(kind, dropout=0.5))
    if kind != "full":
        with torch.no_grad():
            for parameter in tuning.parameters().values():
                parameter.add_(0.02)  # so that B is not zero
    tokens = model.tokenize(TEXTS, "document")
    tuning.train_mode()

    def embed(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model.embed(tokens, np.arange(len(tokens))).detach()

    assert torch.equal(embed(1), embed(1))
    assert torch.equal(embed(1), embed(2)) is (kind == "full")
    drops = {name: module.training for name, module in model.transformer.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert drops == {name: "lora_dropout" in name for name in drops}
    assert len(drops) > 10


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_gives_the_same_gradients(model: Model, kind: str) -> None:
    tuning = tune(model, _settings(kind, dropout=0.2))
    _learn(tuning, steps=1)
    tokens = model.tokenize(TEXTS, "document")
    passes, counted, found = 0, [], []

    def count(*arguments: object) -> None:
        nonlocal passes
        passes += 1

    counter = next(module for name, module in tuning.body.named_modules() if name.endswith(("q_proj", "query"))).register_forward_hook(
        count
    )
    for on in (False, True):
        set_checkpointing(tuning.body, on)
        tuning.train_mode()
        torch.manual_seed(3)
        passes = 0
        loss = model.embed(tokens, np.arange(len(tokens)))[:, 0].sum()
        found.append(torch.autograd.grad(loss, list(tuning.parameters().values())))
        counted.append(passes)
    counter.remove()
    assert counted == [1, 2]  # the second forward pass of a layer
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*found, strict=True))
    assert any(gradient.abs().max() > 1e-3 for gradient in found[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_a_copy_that_restores(tiny_model: Path, kind: str, tmp_path: Path) -> None:
    model = Model(tiny_model, max_length=32)
    tuning = tune(model, _settings(kind))
    _learn(tuning)
    learned, state = _encode(model), tuning.state()
    save_file(state, tmp_path / "state.safetensors")
    _learn(tuning)
    assert all(torch.equal(state[name], tensor) for name, tensor in load_file(tmp_path / "state.safetensors").items())
    assert not np.allclose(_encode(model), learned, atol=1e-4)
    tuning.restore(tmp_path / "state.safetensors")
    assert np.array_equal(_encode(model), learned)


@pytest.mark.parametrize(("parameters", "memory", "kind"), [(100, 3300, "full"), (100, 3100, "lora"), (160_000_000, 10**12, "lora")])
def test_the_default_is_by_size_and_memory(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, parameters: int, memory: int, kind: str
) -> None:
    """16 bytes a parameter must fit into half of the free memory."""
    assert default_tuning(parameters, memory) == kind
    model = Model(tiny_model, max_length=32)
    monkeypatch.setattr(tunings, "available", lambda device: memory * model.parameters // parameters)
    if parameters < 1000:
        assert tune(model, Training(rank=RANK)).kind == kind
