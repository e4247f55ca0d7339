"""Models as they lie in the wild: read as sentence-transformers reads them and merged into what it reads again, or refused at first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import (
    DebertaV2Config,
    DebertaV2Model,
    LlamaConfig,
    LlamaModel,
    NomicBertConfig,
    NomicBertModel,
    RobertaConfig,
    RobertaModel,
)

import homing
from homing import Model, Training
from homing.encoders.tuning import tune
from homing.errors import ModelError
from homing.manifest import write_json
from homing.shipping import tei
from test_merging import learned

TEXTS = ["list all files of the directory", "How is a CLAIM paid after an accident?", " 保险合同 ", "a", "words " * 80]
SMALL: dict[str, Any] = {
    "vocab_size": 2048, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
}  # fmt: skip


@pytest.fixture
def directory(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "base"))


def changed(file: Path, **said: object) -> None:
    """The JSON object of a file with these keys; those that are None are taken out."""
    known = json.loads(file.read_text()) if file.is_file() else {}
    write_json(file, {name: value for name, value in (known | said).items() if value is not None})


def another_body(directory: Path, body: Any) -> None:
    """Another transformer in the place of a directory's own, under its tokenizer."""
    torch.manual_seed(0)
    for parameter in body.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    body.save_pretrained(directory)
    changed(directory / "1_Pooling" / "config.json", word_embedding_dimension=32)


def merged(base: Model, work: Path) -> tuple[Path, Model]:
    """A base with random changes merged, loaded again and found equal to sentence-transformers' own reading of it."""
    homing.merge(base, learned(base, "lora", work / "adapter"), out=work / "model")
    found, theirs = Model(work / "model", device="cpu"), SentenceTransformer(str(work / "model"), device="cpu")
    equal(found, theirs)
    return work / "model", found


def equal(found: Model, theirs: SentenceTransformer) -> None:
    for kind, wanted in (("query", theirs.encode_query(TEXTS)), ("document", theirs.encode_document(TEXTS))):
        unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        assert np.allclose(found.encode(TEXTS, kind), unit, atol=1e-5)  # type: ignore[arg-type]


# Read and merged.


def test_embeddings_of_any_length_are_compared_by_theirs(directory: Path, tmp_path: Path) -> None:
    """Numbers of some hundred, as of a decoder's last norm where nothing normalises, round by more than those of length 1 may differ."""
    weights = load_file(directory / "model.safetensors")
    save_file({**weights, "norm.weight": 100 * weights["norm.weight"]}, directory / "model.safetensors", metadata={"format": "pt"})
    changed(directory / "config_sentence_transformers.json", similarity_fn_name="dot")
    write_json(directory / "modules.json", json.loads((directory / "modules.json").read_text())[:2])
    base = Model(directory, device="cpu")
    found = homing.merge(base, learned(base, "lora", tmp_path / "adapter"), out=tmp_path / "model")
    assert np.abs(found.encode(TEXTS)).max() > 100


def test_embeddings_are_cut_as_the_directory_says(directory: Path, tmp_path: Path) -> None:
    changed(directory / "config_sentence_transformers.json", truncate_dim=24)
    base = Model(directory, device="cpu")
    assert base.dimension == 24
    equal(base, SentenceTransformer(str(directory), device="cpu"))
    path, found = merged(base, tmp_path)
    assert found.dimension == 24
    page = (path / "DEPLOY.md").read_text()
    assert "| dimension | 24 |" in page
    assert "give all 64: keep the first 24" in page
    assert "truncate_dim is passed over" in page
    assert "not of length 1" in page
    assert "their length counts" not in page


def test_embeddings_of_two_poolings_have_both_their_dimensions_on_the_page(directory: Path, tmp_path: Path) -> None:
    changed(directory / "1_Pooling" / "config.json", pooling_mode_mean_tokens=True)
    path, found = merged(Model(directory, device="cpu", max_length=64), tmp_path)
    assert found.dimension == 128
    assert "| dimension | 128 |" in (path / "DEPLOY.md").read_text()


def test_a_model_made_to_generate_gets_a_token_to_pad_with(directory: Path, tmp_path: Path) -> None:
    another_body(directory, LlamaModel(LlamaConfig(**SMALL)))
    (directory / "modules.json").unlink()
    changed(directory / "tokenizer_config.json", pad_token=None, tokenizer_class="PreTrainedTokenizerFast")
    path, _ = merged(Model(directory, device="cpu", pooling="lasttoken", max_length=64), tmp_path)
    assert json.loads((path / "tokenizer_config.json").read_text())["pad_token"] == "<|im_end|>"


def test_lower_case_is_kept_under_whatever_name_it_was_said(directory: Path, tmp_path: Path) -> None:
    another_body(directory, RobertaModel(RobertaConfig(**SMALL, pad_token_id=1)))
    changed(directory / "1_Pooling" / "config.json", pooling_mode_lasttoken=False, pooling_mode_mean_tokens=True)
    write_json(directory / "sentence_roberta_config.json", {"max_seq_length": 64, "do_lower_case": True})
    _, found = merged(Model(directory, device="cpu"), tmp_path)
    assert np.allclose(*found.encode(["A Text", "a text"]), atol=1e-6)


def test_readers_before_transformers_5_find_the_rotation_too(directory: Path, tmp_path: Path) -> None:
    said = {"rope_theta": None, "rope_scaling": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    changed(directory / "config.json", **said)
    write_json(directory / "config.json", json.loads((directory / "config.json").read_text()) | {"pad_token_id": None})
    assert tei.faults(directory)
    path, _ = merged(Model(directory, device="cpu", max_length=64), tmp_path)
    assert tei.faults(path) == []
    config = json.loads((path / "config.json").read_text())
    assert config["rope_theta"] == 1e6
    assert config["rope_scaling"] is None


def test_prompts_that_the_directory_names_otherwise_are_told(directory: Path) -> None:
    changed(directory / "config_sentence_transformers.json", prompts={"s2p_query": "Instruct: find\nQuery: ", "query": ""})
    assert "the directory also names 's2p_query': --query-prompt takes such a text" in Model(directory, device="meta").manner


def test_a_weight_that_is_read_past_its_module(directory: Path, tmp_path: Path) -> None:
    """DeBERTa's relative positions: what is merged is verified whole then, where layer by layer the weight is not there."""
    relative = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["c2p", "p2c"], "norm_rel_ebd": "layer_norm"}
    another_body(directory, DebertaV2Model(DebertaV2Config(**SMALL, **relative, share_att_key=True)))
    merged(Model(directory, device="cpu", max_length=64), tmp_path)


# Refused before anything is trained.


def _lengths(directory: Path) -> None:
    changed(directory / "sentence_bert_config.json", query_length=16)


def _template(directory: Path) -> None:
    how = {"method": "forward", "method_output_name": "last_hidden_state"}
    modalities = {"modality_config": {"text": how, "message": how | {"format": "flat"}}, "module_output_name": "token_embeddings"}
    changed(directory / "sentence_bert_config.json", **modalities)
    (directory / "chat_template.jinja").write_text("{% for each in messages %}<|im_start|>{{ each['content'] }}<|im_end|>{% endfor %}")


def _images(directory: Path) -> None:
    how = {"method": "forward", "method_output_name": "last_hidden_state"}
    changed(directory / "sentence_bert_config.json", modality_config={"image": how}, module_output_name="token_embeddings")


OTHERWISE = r"a query to this model otherwise than by its tokenizer; got \d+ tokens.*\nTake out of"


@pytest.mark.parametrize(("spoil", "said"), [(_lengths, OTHERWISE), (_template, OTHERWISE), (_images, "no text to this model")])
def test_texts_that_sentence_transformers_would_read_otherwise_are_refused(
    spoil: Callable[[Path], None], said: str, directory: Path
) -> None:
    spoil(directory)
    with pytest.raises(ModelError, match=said):
        Model(directory, device="meta")


def test_weights_that_nothing_could_be_merged_into_are_refused_before_they_learn(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers splits what lies in these files as one tensor; the remedy is a command that does it."""
    another_body(directory, NomicBertModel(NomicBertConfig(**SMALL)))
    changed(directory / "1_Pooling" / "config.json", pooling_mode_lasttoken=False, pooling_mode_mean_tokens=True)
    model = Model(directory, device="cpu", max_length=64)
    for kind in ("lora", "full"):
        with pytest.raises(ModelError, match=r"could not be merged; got \d+ of \d+ missing") as told:
            tune(model, Training(tuning=kind))  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    exec(str(told.value.remedy).split('python -c "')[1].removesuffix('"'), {})
    merged(Model("converted", device="cpu", max_length=64), tmp_path)


def test_what_is_no_transformer_is_refused_unread(directory: Path, tmp_path: Path) -> None:
    from sentence_transformers.models import Router, StaticEmbedding

    table = StaticEmbedding(Tokenizer.from_file(str(directory / "tokenizer.json")), embedding_dim=8)
    for name, module in (("StaticEmbedding", table), ("Router", Router.for_query_document([table], [table]))):
        SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(tmp_path / name))
        for weights in (tmp_path / name).rglob("*.safetensors"):
            weights.unlink()
        with pytest.raises(ModelError, match=f"not sentence-transformers' Transformer; got {name}.*\nGive a model of one transformer"):
            Model(tmp_path / name, device="cpu")


def test_an_adapter_in_the_place_of_weights_is_named(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    save_file({"a": torch.zeros(1)}, directory / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"holds an adapter, and not the weights.*\nMerge it"):
        Model(directory, device="cpu")
