"""A merge: planned from heads alone, a file in memory at a time, verified against planted faults; whole, or not there."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor

import homing
from homing import Adapter, Model, Training
from homing.encoders import streamed
from homing.encoders import tuning as tunings
from homing.encoders import weights as weights_module
from homing.encoders.change import LowRankChange, change_of
from homing.encoders.tuning import tune
from homing.encoders.weights import Weights
from homing.errors import MergeError, ModelError, ResourceError, RunError, SettingError
from homing.merging import Plan, plan, write
from homing.merging.verification import PROBES, rank_flips
from homing.shipping.origin import Origin

KINDS = ("lora", "rslora", "dora", "full")
TEXTS = ["list all files of the directory", "how is a claim paid after an accident?", "保险合同"]


def learned(model: Model, kind: str, directory: Path, *, step: float = 0.05, scale: float = 1.0, seed: int = 0) -> Adapter:
    """An adapter of this kind with random changes of about this size; the model goes out as it came in."""
    tuning = tune(model, Training(tuning=kind, rank=4, alpha=8.0))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in tuning.parameters().items():
            size = step * parameter.abs().mean() if kind == "full" or "magnitude" in name else step
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    directory.mkdir(parents=True)
    tuning.save(directory, scale)
    tuning.detach()
    return Adapter(directory)


def sharded(source: Path, to: Path, shards: int = 6) -> Path:
    """A copy of a model with its weights in so many files and an index."""
    shutil.copytree(source, to)
    tensors = load_file(source / "model.safetensors")
    (to / "model.safetensors").unlink()
    placed = {}
    for index in range(shards):
        file = f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        own = dict(list(tensors.items())[index::shards])
        save_file(own, to / file, metadata={"format": "pt"})
        placed.update(dict.fromkeys(own, file))
    (to / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return to


@pytest.fixture
def base(tiny_model: Path) -> Model:
    return Model(tiny_model, max_length=64, device="cpu")


@pytest.fixture
def adapter(base: Model, tmp_path: Path) -> Adapter:
    return learned(base, "lora", tmp_path / "adapter")


# What is planned.


def test_a_plan_says_what_will_be_done_and_does_nothing(adapter: Adapter, tiny_model: Path, tmp_path: Path) -> None:
    base = Model(tiny_model, max_length=64, device="meta")
    made = plan(base, adapter, out=tmp_path / "out" / "model", scale=0.5, dtype="bfloat16")
    assert len(made.changed) == 14
    assert made.size == sum(tensor.nbytes for tensor in load_file(tiny_model / "model.safetensors").values()) // 2
    for said in ("14 tensors change", "0.5, as asked for", "bfloat16", "model.safetensors", "229,952", str(tmp_path / "out")):
        assert said in str(made)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter"}
    assert all(parameter.is_meta for parameter in base.transformer.parameters())


def test_neither_what_is_merged_nor_what_is_somebody_elses_is_replaced(adapter: Adapter, tiny_model: Path, tmp_path: Path) -> None:
    base = Model(tiny_model, max_length=64, device="meta")
    for out in (tiny_model, adapter.path):
        with pytest.raises(RunError, match="holds something else"):
            plan(base, adapter, out=out)
    merged = homing.merge(Model(tiny_model, max_length=64, device="cpu"), adapter, out=tmp_path / "model")
    assert isinstance(merged, Model)
    again = Model(merged.path, max_length=64, device="cpu")
    with pytest.raises(SettingError, match="what is merged"):
        plan(again, learned(again, "lora", tmp_path / "next"), out=tmp_path / "model")


def test_the_scale_says_who_chose_it(base: Model, tmp_path: Path) -> None:
    adapter = learned(base, "lora", tmp_path / "adapter", scale=0.5)
    assert plan(base, adapter, scale="auto").scale == plan(base, adapter).scale == 0.5
    assert "as the adapter's homing.json says" in plan(base, adapter).chosen
    (tmp_path / "training").mkdir()
    scales = [{"scale": scale, "dev_nDCG@10": value} for scale, value in ((0.0, 0.5), (0.5, 0.79), (1.0, 0.8))]
    (tmp_path / "training" / "scales.json").write_text(json.dumps({"chosen": 0.5, "queries": 40, "scales": scales}))
    chosen = plan(base, adapter).chosen
    assert "chosen on dev (40 queries; nDCG@10 0.7900, the best 0.8000 at 1" in chosen
    assert chosen.endswith("the run's training/scales.json)")  # no path of this machine: it stands in the card of what is published
    (tmp_path / "training" / "scales.json").write_text(json.dumps({"chosen": 0.25, "queries": 40, "scales": scales}))  # another training's
    assert "as the adapter's homing.json says" in plan(base, adapter).chosen
    assert plan(base, adapter, scale=0.25).chosen == "as asked for"
    (adapter.path / "homing.json").unlink()
    assert "names no scale" in plan(base, adapter).chosen


@pytest.mark.parametrize(
    ("keywords", "said"), [({"scale": 1.5}, "scale"), ({"scale": -0.1}, "scale"), ({"dtype": "int8"}, "number format")]
)
def test_settings_out_of_range_are_refused(base: Model, adapter: Adapter, keywords: dict[str, object], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        plan(base, adapter, **keywords)  # type: ignore[arg-type]


def test_a_wrong_base_is_an_error_before_anything_is_written(base: Model, adapter: Adapter, minilm: Path, tmp_path: Path) -> None:
    from tiny import tiny_qwen3

    other = Model(tiny_qwen3(tmp_path / "other", seed=1), max_length=64, device="cpu")
    before = {path.name for path in tmp_path.iterdir()}

    def refused(model: Model, said: str) -> None:
        with pytest.raises(ModelError, match=said):
            homing.merge(model, adapter, out=tmp_path / "model")
        assert {path.name for path in tmp_path.iterdir()} == before

    refused(other, "another base digest")
    refused(Model(minilm, device="cpu"), "another base digest")  # before its pooling, which nobody is to change
    (adapter.path / "homing.json").unlink()  # names and shapes alone
    refused(Model(minilm, max_length=64, device="cpu"), "doesn't fit the model")
    tensors = load_file(adapter.weights)
    name = next(name for name in tensors if "layers.1" in name and "lora_B" in name)
    save_file({**tensors, name: torch.zeros(7, 4)}, adapter.weights)
    refused(base, "doesn't fit the model")
    save_file({**tensors, "base_model.model.norm.bias": torch.zeros(4)}, adapter.weights)
    refused(base, r"doesn't fit what Homing merges.*norm\.bias")
    save_file({each: tensor for each, tensor in tensors.items() if each != name}, adapter.weights)
    refused(base, "doesn't fit what Homing merges")


@pytest.mark.parametrize("changed", [{"modules_to_save": ["norm"]}, {"bias": "all"}, {"peft_type": "IA3"}])
def test_an_adapter_that_holds_more_is_refused(base: Model, adapter: Adapter, changed: dict[str, object], tmp_path: Path) -> None:
    config = json.loads((adapter.path / "adapter_config.json").read_text())
    (adapter.path / "adapter_config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(ModelError):
        plan(base, adapter)


def test_a_base_with_an_adapter_on_it_is_refused(base: Model, adapter: Adapter, tmp_path: Path) -> None:
    tuning = tunings.load(base, adapter)
    with pytest.raises(ModelError, match="adapter on it"):
        plan(base, adapter)
    tuning.detach()
    plan(base, adapter)


def test_a_disk_that_is_too_small_is_an_error_first(base: Model, adapter: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(1000, 900, 100))  # type: ignore[attr-defined]
    with pytest.raises(ResourceError, match="disk"):
        homing.merge(base, adapter, out=tmp_path / "model")
    assert not (tmp_path / "model").exists()


# What is written.


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_in_many_files_stays_in_many_files(tiny_model: Path, kind: str, tmp_path: Path) -> None:
    many = sharded(tiny_model, tmp_path / "many")
    base = Model(many, max_length=64, device="cpu")
    adapter = learned(base, kind, tmp_path / "adapter")
    merged = homing.merge(base, adapter, out=tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").glob("model*")) == sorted(path.name for path in many.glob("model*"))
    before, after = Weights(many), Weights(tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == json.loads((many / "model.safetensors.index.json").read_text())["weight_map"]
    assert index["metadata"]["total_size"] == sum(entry.size for entry in after.entries.values())
    whole = Model(tiny_model, max_length=64, device="cpu")
    one = homing.merge(whole, _unnamed(adapter), out=tmp_path / "one")
    assert all(torch.equal(after[name], load_file(tmp_path / "one" / "model.safetensors")[name]) for name in before.entries)
    assert np.allclose(merged.encode(TEXTS), one.encode(TEXTS), atol=1e-6)
    assert np.allclose(SentenceTransformer(str(tmp_path / "model")).encode_document(TEXTS), one.encode(TEXTS), atol=1e-5)


def _unnamed(adapter: Adapter) -> Adapter:
    """The adapter without the digest of its base."""
    file = adapter.path / "homing.json"
    file.write_text(json.dumps({name: value for name, value in json.loads(file.read_text()).items() if name != "base_digest"}))
    return adapter


def test_no_more_than_one_file_is_in_memory(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 files, the tensors of each are gone when the next is written, and no tensor is read before its file's turn."""
    many = sharded(tiny_model, tmp_path / "many", shards=12)
    base = Model(many, max_length=64, device="meta")
    adapter = learned(Model(many, max_length=64, device="cpu"), "lora", tmp_path / "adapter")
    planned = plan(base, adapter, out=tmp_path / "model")
    alive: list[weakref.ref[Tensor]] = []
    most: list[int] = []

    def counted(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        gc.collect()
        most.append(sum(reference() is not None for reference in alive))
        alive.extend(weakref.ref(tensor) for tensor in tensors.values())
        save_file(tensors, path, metadata=metadata)

    monkeypatch.setattr(weights_module, "save_file", counted)
    write(planned)
    assert len(most) == 12
    assert max(most) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_peft_own_merge(tiny_model: Path, kind: str, tmp_path: Path) -> None:
    """The formula, a weight at a time from the file, against PEFT's merge of the whole model."""
    base = Model(tiny_model, max_length=64, device="cpu")
    adapter = learned(base, kind, tmp_path / "adapter")
    change = change_of(adapter, 0.75)
    before = {name: tensor.clone() for name, tensor in base.transformer[0].model.state_dict().items()}
    tuning = tunings.load(base, adapter, 0.75)
    tuning.merge()
    after = base.transformer[0].model.state_dict()
    for name in change.names:
        assert torch.allclose(change.apply(name, before[name]), after[name], atol=1e-6), name
    assert all(torch.equal(before[name], after[name]) for name in before if name not in change.names)


def test_ranks_and_alphas_of_single_layers_are_obeyed(tiny_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    from homing.encoders.tuning import LowRank

    base = Model(tiny_model, max_length=64, device="cpu")
    config = LoraConfig(
        task_type="FEATURE_EXTRACTION", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"],
        rank_pattern={"layers.1.self_attn.q_proj": 2}, alpha_pattern={"v_proj": 32}, init_lora_weights=False,
    )  # fmt: skip
    tuning = LowRank(base, config)
    (tmp_path / "adapter").mkdir()
    tuning.save(tmp_path / "adapter")
    wanted = base.encode(TEXTS)
    tuning.detach()
    merged = homing.merge(base, Adapter(tmp_path / "adapter"), out=tmp_path / "model")
    assert np.allclose(merged.encode(TEXTS), wanted, atol=1e-5)


def test_names_under_a_prefix_are_found_and_kept(tiny_model: Path, tmp_path: Path) -> None:
    """A checkpoint may hold the body as a part of something larger."""
    shutil.copytree(tiny_model, tmp_path / "base")
    named = {f"model.{name}": tensor for name, tensor in load_file(tiny_model / "model.safetensors").items()}
    named["lm_head.weight"] = torch.ones(3, 3)
    save_file(named, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    base = Model(tmp_path / "base", max_length=64, device="meta")
    adapter = _unnamed(learned(Model(tiny_model, max_length=64, device="cpu"), "lora", tmp_path / "adapter"))
    planned = plan(base, adapter, out=tmp_path / "model")
    assert all(name.startswith("model.") for name in planned.changed)
    write(planned)
    assert Weights(tmp_path / "model").entries.keys() == named.keys()


def test_nothing_of_a_failed_merge_is_left_and_the_old_stays(
    base: Model, adapter: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homing.merge(base, adapter, out=tmp_path / "model", scale=0.5)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()

    def broken(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_module, "save_file", broken)
    with pytest.raises(OSError, match="No space"):
        homing.merge(base, adapter, out=tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"model", "adapter"}


def test_a_killed_merge_leaves_nothing_half(tiny_model: Path, adapter: Adapter, tmp_path: Path) -> None:
    """Killed when two of six files are written: no directory; after the next merge it is whole, and nothing lies beside it."""
    many = sharded(tiny_model, tmp_path / "many")
    _unnamed(adapter)
    code = f"""
import time
from pathlib import Path
from homing import Adapter, Model
from homing.encoders import weights
from homing.merging import plan, write
own, written = weights.save_file, []
def slow(*arguments, **keywords):
    if len(written) == 2:
        print("two", flush=True)
        time.sleep(60)
    written.append(own(*arguments, **keywords))
weights.save_file = slow
write(plan(Model({str(many)!r}, max_length=64, device="meta"), Adapter(Path({str(adapter.path)!r})), out={str(tmp_path / "model")!r}))
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "two\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "model").exists()
    assert len(list((tmp_path / ".model.partial").glob("*.safetensors"))) == 2
    base = Model(many, max_length=64, device="cpu")
    homing.merge(base, adapter, out=tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "adapter", "many"}


def test_what_died_between_two_renames_is_put_back(tmp_path: Path) -> None:
    from homing.manifest import replace_directory

    (tmp_path / ".model.old").mkdir()
    (tmp_path / ".model.old" / "kept").write_text("whole")

    def fail() -> None:
        with replace_directory(tmp_path / "model"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (tmp_path / "model" / "kept").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# How it is verified.


@pytest.mark.parametrize(("which", "kind"), [*(("qwen3", kind) for kind in KINDS), ("minilm", "lora"), ("minilm", "dora")])
def test_a_merge_is_verified_layer_by_layer_and_gives_what_peft_gives(
    which: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = request.getfixturevalue("tiny_model" if which == "qwen3" else "minilm")
    adapter = learned(Model(path, max_length=64, device="cpu"), kind, tmp_path / "adapter", step=0.02)
    planned = plan(Model(path, max_length=64, device="meta"), adapter, out=tmp_path / "model", scale=0.5)
    verified = write(planned, TEXTS).verified
    assert verified.distance <= 1e-5
    assert (verified.distance > 0) is (kind != "full")  # all weights are put in their place, there is no other computation
    assert (verified.texts, verified.flips) == (7, 0)
    assert all(parameter.is_meta for parameter in planned.base.transformer[0].model.parameters())
    tuning = tunings.load(whole := Model(path, max_length=64, device="cpu"), adapter, 0.5)
    assert np.allclose(Model(tmp_path / "model", device="cpu").encode(TEXTS), whole.encode(TEXTS), atol=1e-5)
    tuning.detach()


def test_a_layer_at_a_time_is_in_memory(tiny_model: Path) -> None:
    base = Model(tiny_model, max_length=64, device="cpu")
    wanted, own = base.encode(TEXTS), Weights(tiny_model)
    body = streamed.skeleton(base.transformer[0].model)
    most = 0

    def seen(name: str, output: Tensor) -> None:
        nonlocal most
        there = {each.rpartition(".")[0] for each, parameter in body.named_parameters() if not parameter.is_meta}
        most = max(most, len(there))

    base.transformer[0].model = body
    tokens = base.tokenize(TEXTS, "document")
    with streamed.streamed(body, own.__getitem__, seen), torch.inference_mode():
        got = torch.nn.functional.normalize(base.embed_padded(tokens, np.arange(3)), dim=-1)
    assert np.allclose(got.numpy(), wanted, atol=1e-6)
    assert most == 0  # when a unit has run, nothing is left
    assert list(streamed.units(body)) == ["embed_tokens", "layers.0", "layers.1", "norm"]


FAMILIES: dict[str, dict[str, object]] = {
    "BertModel": {}, "XLMRobertaModel": {}, "MPNetModel": {}, "DistilBertModel": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 2},
    "ModernBertModel": {"pad_token_id": 0}, "DebertaV2Model": {}, "AlbertModel": {"embedding_size": 16}, "Qwen2Model": {},
    "MistralModel": {}, "Gemma3TextModel": {"head_dim": 16}, "T5EncoderModel": {"d_model": 32, "d_ff": 48, "d_kv": 16, "num_heads": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_layer_by_layer_is_the_whole_model_in_every_family(name: str, tmp_path: Path) -> None:
    """transformers' own forward pass, of the architectures that embedding models are made of."""
    import transformers

    torch.manual_seed(0)
    family = getattr(transformers, name)
    shape = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    if "num_key_value_heads" in vars(family.config_class()):
        shape["num_key_value_heads"] = 1
    family(family.config_class(**{**shape, **FAMILIES[name]})).save_pretrained(tmp_path)
    whole = family.from_pretrained(tmp_path, dtype=torch.float32).eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])}
    with torch.inference_mode():
        wanted = whole(**inputs).last_hidden_state
    hollow = family.from_pretrained(tmp_path, device_map="meta")
    weights = Weights(tmp_path)
    placed = weights.place({each: tuple(parameter.shape) for each, parameter in hollow.named_parameters()})
    passed: list[str] = []
    body, first = streamed.skeleton(hollow), streamed.first_names(hollow)

    def read(name: str) -> Tensor:
        return weights[placed[first[name]]]

    with streamed.streamed(body, read, lambda unit, output: passed.append(unit)), torch.inference_mode():
        got = body(**inputs).last_hidden_state
    assert torch.allclose(got, wanted, atol=1e-5)
    assert len(passed) >= 4
    assert all(parameter.is_meta for parameter in body.parameters())


class Fault:
    """LowRankChange.apply with a fault in one layer."""

    def __init__(self, fault: str) -> None:
        self.fault, self.right = fault, LowRankChange.apply

    def __call__(self, change: LowRankChange, name: str, weight: Tensor) -> Tensor:
        if name != "layers.1.mlp.down_proj.weight":
            return self.right(change, name, weight)
        learned = self.right(change, name, weight) - weight
        return {
            "left out": weight,
            "a tenth off": weight + 1.1 * learned,
            "of another layer": self.right(change, "layers.0.mlp.down_proj.weight", weight),
        }[self.fault]


@pytest.mark.parametrize("fault", ["left out", "a tenth off", "of another layer"])
def test_planted_faults_of_one_layer_are_found(
    base: Model, adapter: Adapter, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Fault(fault)
    monkeypatch.setattr(LowRankChange, "apply", lambda self, name, weight: planted(self, name, weight))
    with pytest.raises(MergeError, match=r"layers\.1.*the adapter's activations"):
        homing.merge(base, adapter, out=tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"adapter"}


@pytest.mark.parametrize("fault", ["bit", "dtype", "lost", "renamed"])
def test_planted_faults_of_the_disk_are_found(
    base: Model, adapter: Adapter, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        name = "layers.0.input_layernorm.weight"
        if fault == "bit":
            tensors[name].view(torch.int32)[3] ^= 1
        elif fault == "dtype":
            tensors[name] = tensors[name].half()
        else:
            weight = tensors.pop(name)
            if fault == "renamed":
                tensors[f"{name}s"] = weight
        save_file(tensors, path, metadata=metadata)

    monkeypatch.setattr(weights_module, "save_file", broken)
    with pytest.raises(MergeError, match="written weight"):
        homing.merge(base, adapter, out=tmp_path / "model")
    assert not (tmp_path / "model").exists()


# Number formats.


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_bounded_and_its_rank_flips_counted(base: Model, adapter: Adapter, dtype: str, tmp_path: Path) -> None:
    verified = write(plan(base, adapter, out=tmp_path / "model", dtype=dtype), TEXTS).verified
    assert 0 < verified.distance < 1e-2
    assert verified.pairs == 7 * 21
    assert {tensor.dtype for tensor in load_file(tmp_path / "model" / "model.safetensors").values()} == {getattr(torch, dtype)}
    assert json.loads((tmp_path / "model" / "config.json").read_text())["torch_dtype"] == dtype
    origin = Origin.read(tmp_path / "model")
    assert origin is not None
    assert (origin.dtype, origin.verified) == (dtype, verified)
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"{verified.flips} of {verified.pairs} pairs of documents" in card


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_distance_and_rank_flips_in_half_precision_are_what_other_readers_find(
    base: Model, adapter: Adapter, dtype: str, tmp_path: Path
) -> None:
    """PEFT's adapter on its base, and sentence-transformers with the written directory, both whole."""
    verified = write(plan(base, adapter, out=tmp_path / "model", dtype=dtype)).verified
    tuning = tunings.load(base, adapter)
    queries, documents = base.encode(PROBES, "query"), base.encode(PROBES, "document")
    tuning.detach()
    theirs = SentenceTransformer(str(tmp_path / "model"), device="cpu", model_kwargs={"dtype": torch.float32})
    got_queries, got_documents = theirs.encode_query(list(PROBES)), theirs.encode_document(list(PROBES))
    distances = [1 - (queries * got_queries).sum(axis=1), 1 - (documents * got_documents).sum(axis=1)]
    assert max(map(np.max, distances)) == pytest.approx(verified.distance, abs=1e-6)
    assert (verified.flips, verified.pairs) == rank_flips(queries @ documents.T, got_queries @ got_documents.T)


def test_half_precision_that_loses_more_is_refused(base: Model, adapter: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of three bits: each is written as it was planned, and the embeddings are not the adapter's any more."""

    def coarse(planned: Plan, name: str, weight: Tensor) -> Tensor:
        step = weight.float().abs().max() / 2
        return ((weight.float() / step).round() * step).to(torch.bfloat16)

    monkeypatch.setattr(Plan, "rounded", coarse)
    with pytest.raises(MergeError, match=r"activations|not reproduce"):
        homing.merge(base, adapter, out=tmp_path / "model", dtype="bfloat16")
    assert not (tmp_path / "model").exists()


def test_an_adapter_of_weights_that_no_embedding_needs_is_an_error(minilm: Path, tmp_path: Path) -> None:
    base = Model(minilm, max_length=64, device="cpu")
    adapter = learned(base, "full", tmp_path / "adapter")
    own = {name: parameter for name, parameter in base.transformer[0].model.named_parameters() if "pooler" in name}
    save_file({name: parameter.detach() + 1 for name, parameter in own.items()}, adapter.weights)
    with pytest.raises(MergeError, match="changes no embedding"):
        homing.merge(base, adapter, out=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_half_precision_base_can_be_written_in_float32(tmp_path: Path) -> None:
    from tiny import tiny_qwen3

    path = tiny_qwen3(tmp_path / "half", dtype="bfloat16")
    base = Model(path, max_length=64, device="cpu", dtype=torch.float32)
    adapter = learned(base, "lora", tmp_path / "adapter")
    verified = write(plan(base, adapter, out=tmp_path / "model", dtype="float32")).verified
    assert verified.distance <= 1e-5
    change, own, after = change_of(adapter, 1.0), Weights(path), Weights(tmp_path / "model")
    for name in own.entries:
        wanted = change.apply(name, own[name].float()) if name in change.names else own[name].float()
        assert torch.equal(after[name], wanted)


@pytest.mark.parametrize(("factor", "said"), [(1e7, "up to"), (1e-7, "of the tensor lost")])
def test_float16_that_cannot_hold_the_weights_is_refused(tiny_model: Path, factor: float, said: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    tensors = load_file(tiny_model / "model.safetensors")
    tensors["layers.0.input_layernorm.weight"] *= factor
    save_file(tensors, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    base = Model(tmp_path / "base", max_length=64, device="cpu")
    adapter = learned(base, "lora", tmp_path / "adapter", step=1e-4)
    with pytest.raises(MergeError, match=f"float16 cannot hold.*{said}"):
        homing.merge(base, adapter, out=tmp_path / "model", dtype="float16")
    homing.merge(base, adapter, out=tmp_path / "model", dtype="bfloat16")


def test_a_change_that_rounding_takes_away_is_an_error(tmp_path: Path) -> None:
    from tiny import tiny_qwen3

    base = Model(tiny_qwen3(tmp_path / "half", dtype="bfloat16"), max_length=64, device="cpu", dtype=torch.float32)
    adapter = learned(base, "full", tmp_path / "adapter")
    save_file({"norm.weight": load_file(tmp_path / "half" / "model.safetensors")["norm.weight"].float() + 1e-6}, adapter.weights)
    with pytest.raises(MergeError, match=r"too small for the number format.*\n.*float32"):
        homing.merge(base, adapter, out=tmp_path / "model")


@pytest.mark.parametrize(
    ("before", "after", "flips"),
    [
        ([[0.1, 0.2, 0.3]], [[0.1, 0.2, 0.3]], (0, 3)),
        ([[0.1, 0.2, 0.3]], [[0.2, 0.1, 0.3]], (1, 3)),
        ([[3, 2, 1], [1, 1, 2]], [[1, 2, 3], [1, 2, 2]], (3, 5)),
    ],
)
def test_rank_flips_by_hand(before: list[list[float]], after: list[list[float]], flips: tuple[int, int]) -> None:
    assert rank_flips(np.array(before), np.array(after)) == flips


def test_rank_flips_are_kendall_discordant_pairs() -> None:
    from scipy.stats import kendalltau

    draw = np.random.default_rng(0)
    before, after = draw.normal(size=(5, 30)), draw.normal(size=(5, 30))
    flips, pairs = rank_flips(before, after)
    tau = [kendalltau(one, other).statistic for one, other in zip(before, after, strict=True)]
    assert pairs == 5 * 30 * 29 // 2
    assert 1 - 2 * flips / pairs == pytest.approx(np.mean(tau))


# From the command line.


def test_the_verb_plans_and_merges(adapter: Adapter, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from homing.cli import main

    command = ["merge", str(adapter.path), "--model", str(tiny_model), "--out", str(tmp_path / "model")]
    main([*command, "--dry-run"])
    assert "14 tensors change" in capsys.readouterr().out
    assert not (tmp_path / "model").exists()
    main([*command, "--scale", "auto", "--dtype", "bfloat16"])
    assert "verified: 24 tensors" in capsys.readouterr().out
    for wrong in (["--scale", "much"], ["--scale", "2"], ["--router", "both"]):
        with pytest.raises(SystemExit) as stopped:
            main([*command, *wrong])
        assert stopped.value.code == 2
        assert "SettingError" in capsys.readouterr().err


def test_the_benchmark_of_memory_measures_a_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import merging as benchmark

    out = tmp_path / "results" / "merging.md"
    monkeypatch.setattr(sys, "argv", ["merging.py", "--size", "tiny", "--dtypes", "float32", "--out", str(out)])
    benchmark.main()
    (row,) = [line for line in out.read_text().splitlines() if line.startswith("| tiny")]
    assert "GiB" in row
    assert row in capsys.readouterr().out
