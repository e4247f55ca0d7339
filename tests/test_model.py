"""The local encoder against sentence-transformers' own `encode`, its conventions, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Transformer
from transformers import DynamicCache, XLMRobertaConfig, XLMRobertaModel

from homing.encoders.directory import weights_digest
from homing.encoders.model import Model
from homing.encoders.pair import Pair
from homing.encoders.tokens import Tokens, batches
from homing.encoders.tuning import tune
from homing.errors import ModelError, NotFittedError, PoolingError, SettingError
from homing.protocols import Encoder
from homing.settings import Training

TEXTS = ["short", "a somewhat longer text about finding files by name", "保证期间是确定保证人承担保证责任的期间", "", "words " * 80]


@pytest.mark.parametrize("kind", ["query", "document"])
@pytest.mark.parametrize("which", ["tiny_model", "minilm"])
def test_embeddings_and_tokens_are_sentence_transformers_own(which: str, kind: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(which)
    model, oracle = Model(path, max_length=64), SentenceTransformer(str(path), device="cpu")
    oracle.max_seq_length = 64
    wanted = oracle.encode_query(TEXTS) if kind == "query" else oracle.encode_document(TEXTS)
    assert np.allclose(model.encode(TEXTS, kind), wanted, atol=1e-5)  # type: ignore[arg-type]
    features = oracle[0].preprocess(TEXTS, prompt=model.prompts[kind])  # type: ignore[index]
    tokens = model.tokenize(TEXTS, kind)  # type: ignore[arg-type]
    for row, (ids, mask) in enumerate(zip(features["input_ids"], features["attention_mask"], strict=True)):
        assert tokens[row].tolist() == ids[mask.bool()].tolist()


def test_equal_texts_are_one_embedding(tiny_model: Path) -> None:
    found = Model(tiny_model).encode(["a", "b", "a"])
    assert (found[0] == found[2]).all()
    assert (found[0] != found[1]).any()


def test_prompts_are_the_directorys_unless_said(tiny_model: Path) -> None:
    own = Model(tiny_model)
    assert own.prompts["query"].startswith("Instruct: ")
    assert own.prompts["document"] == ""
    told = Model(tiny_model, instruction="Find the statute")
    assert told.prompts["query"] == "Instruct: Find the statute\nQuery:"
    assert told.digest != own.digest
    assert told.weights_digest == own.weights_digest
    with pytest.raises(SettingError, match="exclude"):
        Model(tiny_model, instruction="a", query_prompt="b")


def test_what_lies_below_a_model_and_is_none_of_it_leaves_its_digest_alone(tiny_model: Path, tmp_path: Path) -> None:
    """As a run that was started in the model's own directory, or an ONNX copy."""
    path = shutil.copytree(tiny_model, tmp_path / "model")
    digest = Model(path, device="meta").weights_digest
    (path / "runs" / "data").mkdir(parents=True)
    (path / "runs" / "data" / "recipe.toml").write_text("")
    assert Model(path, device="meta").weights_digest == digest
    (path / "1_Pooling" / "more.json").write_text("{}")
    assert Model(path, device="meta").weights_digest != digest
    (path / "modules.json").write_text("[")
    assert weights_digest(path) not in (digest, "")


def test_a_side_that_two_models_have_in_common_has_one_digest(tiny_model: Path) -> None:
    own, told = Model(tiny_model), Model(tiny_model, instruction="Find the statute")
    assert own.digest_of("document") == told.digest_of("document") != own.digest_of("query")
    assert own.digest_of("query") != told.digest_of("query")
    assert own.digest_of("document") != Model(tiny_model, max_length=32).digest_of("document")
    pair = Pair(told, own)
    assert (pair.digest_of("query"), pair.digest_of("document")) == (told.digest_of("query"), own.digest_of("document"))
    assert (pair.dimension, pair.similarity) == (own.dimension, "cosine")
    for encoder in (own, pair):
        assert isinstance(encoder, Encoder)


def test_weights_in_training_have_no_digest(tiny_model: Path) -> None:
    model = Model(tiny_model)
    before = model.digest_of("query")
    tuning = tune(model, Training(tuning="lora"))
    with pytest.raises(ModelError, match="being trained"):
        model.digest_of("query")
    tuning.detach()
    assert model.digest_of("query") == before


def test_search_and_score(tiny_model: Path) -> None:
    model = Model(tiny_model)
    with pytest.raises(NotFittedError, match="fit"):
        model.search("x")
    with pytest.raises(NotFittedError):
        model.score("x", 0)
    found = model.fit(TEXTS[:3]).search("short", top_k=2)
    assert len(found) == 2
    assert found[0][1] >= found[1][1]
    assert model.score("short", found[0][0]) == pytest.approx(found[0][1], abs=1e-6)
    assert len(model.search("short", top_k=99)) == 3


def _copy(source: Path, to: Path) -> Path:
    return Path(shutil.copytree(source, to))


def test_an_unsaid_pooling_is_an_error_that_names_the_flag(tiny_model: Path, tmp_path: Path) -> None:
    silent = _copy(tiny_model, tmp_path / "silent")
    (silent / "modules.json").unlink()
    with pytest.raises(PoolingError, match="--pooling"):
        Model(silent)
    said = Model(silent, pooling="lasttoken", query_prompt=Model(tiny_model).prompts["query"])
    assert np.allclose(said.encode(TEXTS), Model(tiny_model).encode(TEXTS), atol=1e-5)
    with pytest.raises(PoolingError, match="first token"):
        Model(silent, pooling="cls")


def test_a_flag_that_contradicts_the_directory_is_an_error(tiny_model: Path) -> None:
    with pytest.raises(PoolingError, match="contradicts"):
        Model(tiny_model, pooling="mean")


def test_first_token_pooling_of_a_causal_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    wrong = _copy(tiny_model, tmp_path / "wrong")
    pooling = json.loads((wrong / "1_Pooling" / "config.json").read_text())
    pooling["pooling_mode_lasttoken"], pooling["pooling_mode_cls_token"] = False, True
    (wrong / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(PoolingError, match="first token"):
        Model(wrong)


def test_no_pass_of_a_decoder_keeps_its_past(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sentence-transformers leaves that to the configuration, as 6.0 does."""
    monkeypatch.setattr(Transformer, "_configure_use_cache", lambda *_: None, raising=False)
    kept: list[int] = []
    monkeypatch.setattr(DynamicCache, "__init__", lambda *_, **__: kept.append(1))
    assert json.loads((tiny_model / "config.json").read_text())["use_cache"]
    Model(tiny_model, device="cpu").encode(TEXTS[:2], "document")
    assert not kept


def test_what_is_no_model_is_named(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="no such model directory"):
        Model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="holds no model"):
        Model(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="homing merge"):
        Model(tmp_path)
    empty = _copy(tiny_model, tmp_path / "empty")
    for file in empty.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError, match="no weights"):
        Model(empty)


def test_a_tokenizer_that_knows_no_word_is_none(minilm: Path, tmp_path: Path) -> None:
    """Without its files transformers makes up one of special tokens alone, to which every text is the same."""
    halved = _copy(minilm, tmp_path / "halved")
    for name in ("tokenizer.json", "vocab.txt"):
        (halved / name).unlink()
    with pytest.raises(ModelError, match="holds no tokenizer"):
        Model(halved, device="meta")


def test_an_empty_text_has_an_embedding_where_the_tokenizer_adds_no_token(tiny_model: Path, tmp_path: Path) -> None:
    path = _copy(tiny_model, tmp_path / "without_end")
    said = json.loads((path / "tokenizer.json").read_text())
    (path / "tokenizer.json").write_text(json.dumps({**said, "post_processor": None}))
    model = Model(path)
    alone, beside = model.encode([""], "document"), model.encode(["a longer text", "", "a"], "document")
    np.testing.assert_allclose(np.linalg.norm(beside, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(beside[1:2], alone, atol=1e-5)


def test_padding_side_does_not_change_an_embedding(tiny_model: Path) -> None:
    model = Model(tiny_model)
    together = model.encode(TEXTS)
    model.transformer.tokenizer.padding_side = "right"
    assert np.allclose(together, model.encode(TEXTS), atol=1e-5)


def test_a_length_above_the_directorys_own_is_obeyed_as_far_as_there_are_positions(minilm: Path, tiny_model: Path) -> None:
    """MiniLM's directory says 256 tokens, its table of positions has 512; rotary positions end where the configuration says."""
    model, oracle = Model(minilm, max_length=512), SentenceTransformer(str(minilm), device="cpu")
    oracle.max_seq_length = 512
    text = "one thing after another " * 200
    assert model.tokenize([text], "document").lengths.tolist() == [512]
    assert np.allclose(model.encode([text]), oracle.encode([text]), atol=1e-5)
    assert "512 tokens a text, where its directory says 256" in model.manner
    assert "tokens" not in Model(minilm).manner
    assert Model(minilm).max_length == 256
    for path in (minilm, tiny_model):
        with pytest.raises(SettingError, match=r"--max-length goes beyond the model's positions.*513 tokens; expected 512 or less"):
            Model(path, max_length=513)


def test_positions_that_are_counted_from_the_padding_are_fewer_than_the_table(tiny_model: Path, tmp_path: Path) -> None:
    """XLM-RoBERTa has 66 places for 64 tokens; a tokenizer that names no length must not make it 66."""
    config = XLMRobertaConfig(
        vocab_size=2048, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=66,
        pad_token_id=1,
    )  # fmt: skip
    XLMRobertaModel(config).save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / file, tmp_path)
    model = Model(tmp_path, pooling="mean")
    assert model.max_length == 64
    assert np.isfinite(model.encode(["many words " * 60])).all()
    assert Model(tmp_path, pooling="mean", max_length=64).max_length == 64
    with pytest.raises(SettingError, match="64 or less"):
        Model(tmp_path, pooling="mean", max_length=66)


@given(st.lists(st.text("ab", max_size=9), min_size=1, max_size=12))
def test_long_texts_are_tokenised_few_at_once(texts: list[str]) -> None:
    found = list(batches(texts, most=3, characters=10))
    assert [text for batch in found for text in batch] == texts
    for batch, after in zip(found, [*found[1:], [""]], strict=True):
        assert 0 < len(batch) <= 3
        assert sum(map(len, batch)) <= 10
        assert len(batch) == 3 or batch is found[-1] or sum(map(len, batch)) + len(after[0]) > 10


def test_unknown_tokens_and_lengths(minilm: Path) -> None:
    model = Model(minilm, max_length=16)
    counts, unknown = model.token_counts(["words " * 80, "plain words", "🦄 🦄 plain"], "document")
    assert counts.tolist() == [82, 4, 5]
    assert unknown.tolist() == [0, 0, 2]
    assert [len(each) for each in model.token_counts([], "query")] == [0, 0]


def test_where_memory_runs_out_texts_are_encoded_in_halves(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(tiny_model, device="cpu")
    texts = ["one", "one text more", "a longer text of some words", "two of them", "the fifth"]
    expected, embed, asked = model.encode(texts), model.embed, list[int]()

    def limited(tokens: Tokens, some: np.ndarray) -> torch.Tensor:
        asked.append(len(some))
        if len(some) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(tokens, some)

    monkeypatch.setattr(model, "embed", limited)
    most = 2
    np.testing.assert_allclose(model.encode(texts), expected, atol=1e-6)
    assert asked == [5, 2, 3, 1, 2]
    most = 0
    with pytest.raises(ModelError, match="one text is too much for the memory") as caught:
        model.encode(texts)
    assert caught.value.remedy is not None
    monkeypatch.setattr(model, "embed", lambda *given: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        model.encode(texts)
