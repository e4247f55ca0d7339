"""The tiny Qwen3 behaves as the real directory does: left padding, last token, end of text, prompts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from tiny import END, HIDDEN, QUERY_PROMPT, made_data, made_records, tiny_qwen3

TEXTS = ["policy", "how is a claim paid after an accident on the road, and by whom?", "保险合同成立后", "", "a\nb\tc"]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu")


def test_directory_is_small_and_deterministic(tmp_path: Path, tiny_model: Path) -> None:
    again = tiny_qwen3(tmp_path / "again")
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tiny_model) for path in tiny_model.rglob("*") if path.is_file())
    assert all((again / name).read_bytes() == (tiny_model / name).read_bytes() for name in files)
    assert sum((again / name).stat().st_size for name in files) < 2_000_000
    other = load_file(tiny_qwen3(tmp_path / "other", seed=1) / "model.safetensors")
    assert not torch.equal(other["embed_tokens.weight"], load_file(again / "model.safetensors")["embed_tokens.weight"])


def test_tensors_are_named_as_in_the_real_directory(tiny_model: Path) -> None:
    names = set(load_file(tiny_model / "model.safetensors"))
    assert {"embed_tokens.weight", "layers.0.self_attn.q_norm.weight", "norm.weight"} <= names
    assert not any(name.startswith(("model.", "lm_head")) for name in names)
    assert json.loads((tiny_model / "config.json").read_text())["architectures"] == ["Qwen3ForCausalLM"]


def test_bfloat16_is_stored_and_declared(tmp_path: Path) -> None:
    directory = tiny_qwen3(tmp_path / "half", dtype="bfloat16")
    assert {tensor.dtype for tensor in load_file(directory / "model.safetensors").values()} == {torch.bfloat16}
    assert SentenceTransformer(str(directory), device="cpu")[0].auto_model.dtype == torch.bfloat16


def test_end_of_text_is_appended_and_padding_is_on_the_left(model: SentenceTransformer) -> None:
    tokenizer = model.tokenizer
    end = tokenizer.convert_tokens_to_ids(END)
    assert tokenizer.pad_token == END
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert (batch["input_ids"][:, -1] == end).all()
    assert (batch["attention_mask"][:, -1] == 1).all()
    assert batch["attention_mask"][0, 0] == 0
    assert tokenizer("")["input_ids"] == [end]


def test_batch_and_single_agree(model: SentenceTransformer) -> None:
    together = model.encode(TEXTS, batch_size=len(TEXTS))
    alone = np.stack([model.encode(text) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert together.shape == (len(TEXTS), HIDDEN)


def test_last_token_is_pooled_and_depends_on_the_text(model: SentenceTransformer) -> None:
    text = TEXTS[1]
    tokens = model.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        states = model[0].auto_model(**tokens).last_hidden_state[0]
    unit = torch.nn.functional.normalize(states, dim=-1).numpy()
    np.testing.assert_allclose(model.encode(text), unit[-1], atol=1e-5)
    assert not np.allclose(model.encode(text), unit[0], atol=1e-2)
    similarity = model.encode(TEXTS) @ model.encode(TEXTS).T
    assert similarity[~np.eye(len(TEXTS), dtype=bool)].max() < 0.99


def test_prompts_are_those_of_the_directory(model: SentenceTransformer) -> None:
    assert model.prompts == {"query": QUERY_PROMPT, "document": ""}
    assert model.default_prompt_name is None
    np.testing.assert_allclose(model.encode("policy", prompt_name="query"), model.encode(QUERY_PROMPT + "policy"), atol=1e-5)


def test_made_data_is_seeded_and_judged(tmp_path: Path) -> None:
    path = made_data(tmp_path, queries=40)
    records = json.loads(path.read_text())
    assert records == made_records(40) != made_records(40, seed=1)
    assert len({record["query"] for record in records}) == 40
    for record in records + made_records(40, shuffled=True):
        documents = record["content_private"] + record["content_public"]
        assert len({document["content"] for document in documents}) == 8
        assert sum(document["is_relevant"] for document in documents) == 2
