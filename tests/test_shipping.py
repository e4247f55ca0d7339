"""What goes out is what was trained: each layout by its real reader, the card by what is known, the deployment page by what was tried."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

import homing
from conftest import REPOSITORY
from homing import Adapter, Model
from homing.encoders import tuning as tunings
from homing.errors import MergeError, ModelError, SettingError
from homing.exporting import export
from homing.manifest import write_json
from homing.measures.decision import ChosenOn, Decision, Threshold
from homing.measures.evaluations import Interval
from homing.shipping import tei
from homing.shipping.card import complete, write_card
from homing.shipping.layout import write_layout
from homing.shipping.origin import Origin, licence
from homing.shipping.router import write_router
from homing.verdicts.context import Context, General, Shortened
from test_merging import learned
from vllm_cpu import vllm_rows

QUERIES = ["list all files of the directory", "how is a claim paid after an accident?", "保险合同", "a"]


class Shipped:
    """A base, an adapter on it, what the two embed, and the merged directory."""

    def __init__(self, base: Path, work: Path, side: str = "both") -> None:
        self.base = Model(base, max_length=64, device="cpu")
        self.adapter = learned(self.base, "lora", work / "adapter", step=0.03)
        if side == "queries":
            file = self.adapter.path / "homing.json"
            write_json(file, json.loads(file.read_text()) | {"train": "queries"})
        tuning = tunings.load(self.base, self.adapter)
        self.queries, self.documents = self.base.encode(QUERIES, "query"), self.base.encode(QUERIES, "document")
        tuning.detach()
        self.path = work / "model"
        homing.merge(self.base, self.adapter, out=self.path)


@pytest.fixture(scope="module", params=["qwen3", "minilm"])
def shipped(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    path = tiny_model if request.param == "qwen3" else request.getfixturevalue("minilm")
    return Shipped(path, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def qwen3(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return Shipped(tiny_model, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def for_queries(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return Shipped(tiny_model, tmp_path_factory.mktemp("queries"), "queries")


# The real readers.


def test_sentence_transformers(shipped: Shipped) -> None:
    theirs = SentenceTransformer(str(shipped.path), device="cpu")
    assert np.allclose(theirs.encode_query(QUERIES), shipped.queries, atol=1e-5)
    assert np.allclose(theirs.encode_document(QUERIES), shipped.documents, atol=1e-5)
    assert theirs.max_seq_length == 64


def test_transformers_and_pooling_by_hand(shipped: Shipped) -> None:
    """Batches padded on either side, pooled as 1_Pooling says, prompts from config_sentence_transformers.json."""
    body = AutoModel.from_pretrained(shipped.path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(shipped.path)
    prompts = json.loads((shipped.path / "config_sentence_transformers.json").read_text())["prompts"]
    pooling = json.loads((shipped.path / "1_Pooling" / "config.json").read_text())
    for kind, wanted in (("query", shipped.queries), ("document", shipped.documents)):
        batch = tokenizer([prompts[kind] + text for text in QUERIES], padding=True, truncation=True, max_length=64, return_tensors="pt")
        with torch.inference_mode():
            states = body(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        if pooling["pooling_mode_lasttoken"]:
            assert tokenizer.padding_side == "left"
            pooled = states[:, -1]
        else:
            assert pooling["pooling_mode_mean_tokens"]
            pooled = (states * mask).sum(1) / mask.sum(1)
        assert np.allclose(torch.nn.functional.normalize(pooled, dim=-1).numpy(), wanted, atol=1e-5)


SERVED = """
from homing.encoders.vllm import VLLM
def asked(path, texts, prompts):
    model = VLLM(path, max_length=64, dtype="float32", enforce_eager=True)
    own = [prompts[kind] + text for kind in ("query", "document") for text in texts]
    plain = [each.outputs.embedding for each in model.llm.embed(own, use_tqdm=False)]
    return model.llm, np.stack([np.array(plain), np.concatenate([model.encode(texts, kind) for kind in ("query", "document")])])
"""


def test_vllm(qwen3: Shipped, tmp_path: Path) -> None:
    """The directory in vLLM's CPU build: asked plainly, with the prompts put before the texts, and by Homing's encoder, that puts them."""
    prompts = json.loads((qwen3.path / "config_sentence_transformers.json").read_text())["prompts"]
    plain, ours = vllm_rows(SERVED, str(qwen3.path), QUERIES, prompts, folder=tmp_path)
    wanted = np.concatenate([qwen3.queries, qwen3.documents])
    assert np.allclose(plain, wanted, atol=1e-5)
    assert np.allclose(ours, wanted, atol=1e-5)


def test_text_embeddings_inference_by_its_rules(shipped: Shipped) -> None:
    assert tei.faults(shipped.path) == []


def _json(name: str, **changed: object) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        said = json.loads((path / name).read_text()) | changed
        write_json(path / name, {key: value for key, value in said.items() if value != "GONE"})

    return spoil


def _modules(index: int, **changed: object) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        modules = json.loads((path / "modules.json").read_text())
        modules[index] |= changed
        write_json(path / "modules.json", modules)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_json("1_Pooling/config.json", pooling_mode_lasttoken=False), "must be on"),
        (_json("1_Pooling/config.json", pooling_mode_mean_tokens=True), "nothing else"),
        (_json("1_Pooling/config.json", pooling_mode_cls_token="GONE"), "pooling_mode_cls_token"),
        (_json("sentence_bert_config.json", max_seq_length=None), "max_seq_length"),
        (_json("config_sentence_transformers.json", prompts={"query": None}), "prompts"),
        (_json("config_sentence_transformers.json", truncate_dim=32), "truncate_dim is passed over"),
        (_json("config.json", architectures=["Qwen3ForSequenceClassification"]), "classifier"),
        (_json("config.json", model_type="smollm3"), "not served"),
        (_json("config.json", rope_theta="GONE"), "rope_theta"),
        (_json("config.json", use_sliding_window=True), "use_sliding_window"),
        (_json("config.json", eos_token_id=[1, 2]), "eos_token_id"),
        (_json("config.json", pad_token_id=None), "pad_token_id"),
        (_json("config.json", max_position_embeddings=None), "max_position_embeddings"),
        (_modules(1, path="one"), "looked for in '1_Pooling'"),
        (_modules(2, type="sentence_transformers.models.LayerNorm"), "passed over"),
        (lambda path: (path / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda path: (path / "model.safetensors").unlink(), "model.safetensors"),
        (lambda path: (path / "1_Pooling" / "config.json").unlink(), "1_Pooling"),
    ],
)
def test_faults_that_text_embeddings_inference_stumbles_over(
    qwen3: Shipped, spoil: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(qwen3.path, tmp_path / "model"))
    spoil(path)
    assert said in " ".join(tei.faults(path))


def test_a_base_in_any_layout_comes_out_in_one(tiny_model: Path, tmp_path: Path) -> None:
    """The transformer in a directory of its own, as sentence-transformers once wrote it, and a bare transformers directory."""
    body = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
    old, bare = tmp_path / "old", tmp_path / "bare"
    shutil.copytree(tiny_model, old)
    (old / "0_Transformer").mkdir()
    bare.mkdir()
    for name in body:
        shutil.copyfile(old / name, bare / name)
        (old / name).rename(old / "0_Transformer" / name)
    _modules(0, path="0_Transformer")(old)
    shutil.copyfile(tiny_model / "1_Pooling" / "config.json", old / "1_Pooling" / "config.json")
    wanted = None
    for path, pooling in ((tiny_model, None), (old, None), (bare, "lasttoken")):
        prompt = json.loads((tiny_model / "config_sentence_transformers.json").read_text())["prompts"]["query"]
        base = Model(path, max_length=64, device="cpu", pooling=pooling, query_prompt=prompt)
        adapter = learned(base, "lora", tmp_path / f"adapter-{path.name}")
        homing.merge(base, adapter, out=tmp_path / f"model-{path.name}")
        assert tei.faults(tmp_path / f"model-{path.name}") == []
        got = SentenceTransformer(str(tmp_path / f"model-{path.name}"), device="cpu").encode_query(QUERIES)
        wanted = got if wanted is None else wanted
        assert np.allclose(got, wanted, atol=1e-6)


def test_a_dense_layer_goes_along(tiny_model: Path, tmp_path: Path) -> None:
    from sentence_transformers.models import Dense

    torch.manual_seed(0)
    whole = SentenceTransformer(str(tiny_model), device="cpu")
    modules = [whole[0], whole[1], Dense(64, 16), whole[2]]
    SentenceTransformer(modules=modules, prompts=whole.prompts, device="cpu").save_pretrained(str(tmp_path / "base"))
    base = Model(tmp_path / "base", max_length=64, device="cpu")
    adapter = learned(base, "lora", tmp_path / "adapter")
    merged = homing.merge(base, adapter, out=tmp_path / "model")
    tuning = tunings.load(base, adapter)
    assert np.allclose(merged.encode(QUERIES), base.encode(QUERIES), atol=1e-5)
    tuning.detach()
    assert "| dimension | 16 |" in (tmp_path / "model" / "README.md").read_text()
    assert (tmp_path / "model" / "2_Dense" / "model.safetensors").is_file()


# Unmerged, and queries alone.


def lines_of_the_docs(about: str) -> str:
    """The lines of Python in docs/serving.md that hold this word."""
    text = (REPOSITORY / "docs" / "serving.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE) if about in block]
    return code


def test_the_adapter_serves_unmerged_as_the_docs_say(shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of docs/serving.md, as written: peft and sentence-transformers alone, with the conventions beside the adapter."""
    code = lines_of_the_docs("PeftModel")
    shutil.copytree(shipped.adapter.path, tmp_path / "adapter")
    write_json(tmp_path / "adapter" / "homing.json", json.loads((shipped.adapter.path / "homing.json").read_text()))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"queries": QUERIES, "documents": QUERIES}
    exec(compile(code, "serving.md", "exec"), names)
    assert np.allclose(np.asarray(names["of_queries"]), shipped.queries, atol=1e-5)
    assert np.allclose(np.asarray(names["of_documents"]), shipped.documents, atol=1e-5)


def test_a_query_encoder_names_its_documents_model(for_queries: Shipped) -> None:
    pair = homing.open_model(for_queries.path, device="cpu")
    assert np.allclose(pair.encode(QUERIES, "query"), for_queries.queries, atol=1e-5)
    assert np.array_equal(pair.encode(QUERIES, "document"), for_queries.base.encode(QUERIES, "document"))
    page = (for_queries.path / "DEPLOY.md").read_text()
    assert "encodes queries alone" in page
    assert "8080/v1 --documents http://127.0.0.1:8082/v1" in page
    assert f"vllm serve path/of/{for_queries.base.path.name} --served-model-name documents" in page
    assert "in homing.json as `model` under `documents`" in page
    assert for_queries.base.weights_digest in page
    card = (for_queries.path / "README.md").read_text()
    assert "queries alone" in card
    assert f'SentenceTransformer("path/of/{for_queries.base.path.name}")' in card
    assert str(for_queries.base.path.parent) not in card + page  # which are made to be published


def test_documents_of_a_query_encoder_keep_the_conventions_that_flags_gave(tiny_model: Path, tmp_path: Path) -> None:
    """As E5 wants: its directory names no prompts; and as a directory wants that says no pooling."""
    bare = Path(shutil.copytree(tiny_model, tmp_path / "bare", ignore=shutil.ignore_patterns("modules.json", "1_Pooling", "config_s*")))
    base = Model(bare, pooling="lasttoken", query_prompt="query: ", document_prompt="passage: ", max_length=64, device="cpu")
    adapter = learned(base, "lora", tmp_path / "adapter")
    write_json(adapter.path / "homing.json", json.loads((adapter.path / "homing.json").read_text()) | {"train": "queries"})
    homing.merge(base, adapter, out=tmp_path / "model")
    pair = homing.open_model(tmp_path / "model", device="cpu")
    assert pair.prompts == {"query": "query: ", "document": "passage: "}
    assert np.array_equal(pair.encode(QUERIES, "document"), base.encode(QUERIES, "document"))
    assert pair.digest_of("document") == base.digest_of("document")
    assert 'documents = base.encode(["..."], prompt="passage: ")' in (tmp_path / "model" / "README.md").read_text()


def test_both_sides_as_one_router(for_queries: Shipped, tmp_path: Path) -> None:
    router = write_router(for_queries.path, for_queries.base.path, tmp_path / "router")
    pair, theirs = homing.open_model(for_queries.path, device="cpu"), SentenceTransformer(str(router), device="cpu")
    assert np.allclose(theirs.encode_query(QUERIES), pair.encode(QUERIES, "query"), atol=1e-5)
    assert np.allclose(theirs.encode_document(QUERIES), pair.encode(QUERIES, "document"), atol=1e-5)
    assert not np.allclose(theirs.encode_query(QUERIES), for_queries.base.encode(QUERIES, "query"), atol=1e-2)
    long = ["word " * 300]
    assert np.allclose(theirs.encode_query(long), pair.encode(long, "query"), atol=1e-5)
    assert np.allclose(theirs.encode_document(long), pair.encode(long, "document"), atol=1e-5)


def test_a_router_of_a_whole_model_is_refused(qwen3: Shipped, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="both sides itself"):
        write_router(qwen3.path, qwen3.base.path, tmp_path / "router")
    assert not (tmp_path / "router").exists()


def test_a_router_with_another_documents_model_is_refused(for_queries: Shipped, tmp_path: Path) -> None:
    from tiny import tiny_qwen3

    with pytest.raises(ModelError, match="not the one"):
        write_router(for_queries.path, tiny_qwen3(tmp_path / "other", seed=3), tmp_path / "router")
    assert not (tmp_path / "router").exists()


# ONNX.


@pytest.fixture(scope="module")
def exported(shipped: Shipped) -> Path:
    return export(Model(shipped.path, device="cpu"), shipped.path.with_name("onnx"), texts=QUERIES)


def test_onnx_gives_the_same_embeddings(shipped: Shipped, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the lines of docs/serving.md, as written."""
    said = json.loads((exported / "onnx.json").read_text())
    assert 0 < said["distance"] <= 1e-5
    exported.with_name("model-onnx").symlink_to(exported)
    monkeypatch.chdir(exported.parent)
    code = compile(lines_of_the_docs("InferenceSession"), "serving.md", "exec")
    long = ["hail and storm " * 60]  # longer than the model's length
    whole = Model(shipped.path, device="cpu").encode(long, "query")
    for texts, wanted in ((QUERIES, shipped.queries), (QUERIES[:1], shipped.queries[:1]), (long, whole)):
        names: dict[str, object] = {"queries": texts}
        exec(code, names)
        assert np.allclose(np.asarray(names["of_queries"]), wanted, atol=1e-5)


def test_an_onnx_file_of_other_embeddings_is_not_handed_over(
    shipped: Shipped, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from homing import exporting

    right = exporting.run_session

    def wrong(*arguments: object) -> NDArray[np.float32]:
        return right(*arguments) * np.float32(1.001)  # type: ignore[arg-type]

    monkeypatch.setattr(exporting, "_write", lambda model, file: shutil.copyfile(exported / "model.onnx", file))
    monkeypatch.setattr(exporting, "run_session", wrong)
    with pytest.raises(MergeError, match="exported model"):
        export(Model(shipped.path, device="cpu"), tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("error", "passes"), [(1e-4, True), (1e-2, False)])
def test_embeddings_of_any_length_are_compared_by_theirs(
    error: float, passes: bool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from homing import exporting

    model = Model(tiny_model, device="cpu")
    far = np.full((2, 64), 100, dtype=np.float32)
    monkeypatch.setattr(model, "encode", lambda texts, kind: far)
    monkeypatch.setattr(exporting, "run_session", lambda session, model, tokens, which: far[list(which)] + np.float32(error))
    with nullcontext() if passes else pytest.raises(MergeError, match="exported model"):
        exporting._verify(model, None, ["a", "b"], "here")  # type: ignore[arg-type]


def test_onnx_without_its_packages_names_them(qwen3: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(SettingError, match=r"homing\[onnx\]"):
        export(Model(qwen3.path, device="cpu"), tmp_path / "onnx")


# The card and the page.


def summary(**bare: float) -> dict[str, object]:
    """A run's metrics.json, as far as the card reads it."""

    def measures(ndcg: float, ap: float) -> dict[str, object]:
        return {"nDCG@10": {"value": ndcg}, "AP": {"value": ap}, "F1": {"value": None}}

    models = [
        {"name": "base", "measures": measures(0.5, 0.4)},
        {"name": "bm25", "kind": "bm25", "measures": measures(0.3, 0.2)},
        {
            "name": "tuned",
            "measures": measures(0.75, 0.625),
            "bare": {name.replace("_", "@"): {"value": each} for name, each in bare.items()},
        },
    ]
    shortened = (Shortened(32, Interval(0.3), Interval(0.7), Interval(-0.05)),)
    return {
        "verdict": {"outcome": "gained", "sentence": "tuned is better than base.", "notes": ["A closed pool."]},
        "context": Context(general=(General("faq", 50, 600, {"base": 0.8, "tuned": 0.7}, Interval(-0.1)),), shortened=shortened).plain(),
        "counts": {"test_queries": 1234, "documents": 5678},
        "models": models,
    }


def test_the_card_tells_the_verdict_and_what_it_rests_on(qwen3: Shipped, tmp_path: Path) -> None:
    path = Path(shutil.copytree(qwen3.path, tmp_path / "model"))
    assert "Verdict" not in (path / "README.md").read_text()
    said_before = json.loads((path / "homing.json").read_text())
    digest = Model(path, device="meta").weights_digest
    complete(path, summary(), {"data": "abc123"})
    card = (path / "README.md").read_text()
    for said in (
        "**Gained.** tuned is better than base.", "| nDCG@10 | 0.5000 | 0.7500 |", "1,234 test queries over 5,678 documents",
        "- A closed pool.", "- Outside the domain: faq (50 queries) nDCG@10 0.8000 to 0.7000 (-0.1000).",
        "| digest of the data | `abc123` |", "32 numbers nDCG@10 0.7000", qwen3.base.weights_digest, qwen3.adapter.digest,
    ):  # fmt: skip
        assert said in card
    assert "bm25" not in card
    assert "0.3000" not in card
    assert Model(path, device="meta").weights_digest == digest  # a card is no part of the weights
    said = json.loads((path / "homing.json").read_text())
    assert {name: said[name] for name in said_before} == said_before
    assert said["dimensions"] == [32]  # what homing serve may cut to
    allowed = """--hf-overrides '{"matryoshka_dimensions": [64, 32]}'"""  # vLLM refuses every size that isn't named
    assert allowed in (path / "DEPLOY.md").read_text()
    complete(path, summary() | {"context": Context().plain()}, {})
    assert 'dimensions":' not in (path / "DEPLOY.md").read_text().split("## Software")[0]
    assert "first numbers" not in (path / "README.md").read_text()  # no dimension is named that was not measured


def test_the_card_of_a_base_that_is_kept_leaves_its_index(qwen3: Shipped, tmp_path: Path) -> None:
    path = Path(shutil.copytree(qwen3.path, tmp_path / "model"))
    assert "encode the corpus again" in (path / "README.md").read_text()
    said = json.loads((path / "homing.json").read_text())
    (path / "homing.json").write_text(json.dumps({**said, "merged": {**said["merged"], "scale": 0.0}}))
    write_card(path)
    card = (path / "README.md").read_text()
    assert f"an index stays as it is where its texts were read up to {qwen3.base.max_length} tokens" in card
    assert "encode the corpus again" not in card


def test_the_page_tells_thresholds_and_what_bare_queries_cost(qwen3: Shipped, tmp_path: Path) -> None:
    path = Path(shutil.copytree(qwen3.path, tmp_path / "model"))
    page = (path / "DEPLOY.md").read_text()
    assert "not measured here" in page
    assert "Thresholds" not in page
    chosen = ChosenOn("dev", 40, 400, 0.25, "abc")
    Decision(Threshold.of(0.6, 0.71, chosen, normalised=True), Threshold.of(0.68, 0.5, chosen, normalised=True, top_k=100)).write(path)
    complete(path, summary(nDCG_10=0.7), {})
    page = (path / "DEPLOY.md").read_text()
    assert "| a list of candidates | 0.6000 | 0.6000 | 0.8944 | 0.710 | 400 pairs of 40 queries, 25.0% relevant |" in page
    assert "| the best of a search, the best 100 | 0.6800 |" in page
    assert "nDCG@10 0.7500 with it, 0.7000 without (-0.0500)" in page
    prompt = json.loads((path / "config_sentence_transformers.json").read_text())["prompts"]["query"]
    assert f"`{json.dumps(prompt)}`" in page
    for name in ("Xinference", "RAGFlow", "Dify", "Milvus", "--gpu-memory-utilization", "/v1#model", '"model_specs": [', "COSINE"):
        assert name in page


def test_the_page_says_where_a_reader_would_stumble(qwen3: Shipped, tmp_path: Path) -> None:
    path = Path(shutil.copytree(qwen3.path, tmp_path / "model"))
    _json("config.json", use_sliding_window=True)(path)
    write_card(path)
    page = (path / "DEPLOY.md").read_text()
    assert "does not read this directory: config.json: use_sliding_window" in page
    assert "8081" not in page  # nor is it verified
    assert "--served-model-name tuned " in page  # vLLM calls the model '.' otherwise, and so must each client


def test_the_page_of_a_model_without_prompts_speaks_of_none(qwen3: Shipped, tmp_path: Path) -> None:
    path = Path(shutil.copytree(qwen3.path, tmp_path / "model"))
    for query, document, said in (("q: ", "", "send queries with"), ("q: ", "d: ", "send queries and documents with"), ("", "", "")):
        _json("config_sentence_transformers.json", prompts={"query": query, "document": document})(path)
        write_card(path)
        page = (path / "DEPLOY.md").read_text()
        assert said in page
    for word in ("prompt before", "with their prefix", "NAME:query", "prompt_name"):
        assert word not in page


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlicense: apache-2.0\n---\n# a", "apache-2.0"),
        ("---\ntags: []\n---\nlicense: mit", None),
        ("# a\nlicense: mit", None),
        ("", None),
    ],
)
def test_the_licence_is_that_of_the_base(tiny_model: Path, card: str, found: str | None, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    (path / "README.md").write_text(card)
    assert licence(path) == found
    base = Model(path, max_length=64, device="cpu")
    homing.merge(base, learned(base, "lora", tmp_path / "adapter"), out=tmp_path / "model")
    head = (tmp_path / "model" / "README.md").read_text().split("---")[1]
    assert ('license: "apache-2.0"' in head) is (found is not None)
    assert "base_model" not in head  # the hub refuses a directory there, and takes a name
    homing_json = tmp_path / "model" / "homing.json"
    said = json.loads(homing_json.read_text())
    write_json(homing_json, {**said, "merged": {**said["merged"], "base": "Qwen/Qwen3-Embedding-0.6B"}})
    write_card(tmp_path / "model")
    assert 'base_model: "Qwen/Qwen3-Embedding-0.6B"' in (tmp_path / "model" / "README.md").read_text()


def test_a_directory_from_elsewhere_has_no_card_of_ours(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="not a merged model"):
        write_card(tiny_model)


def test_what_another_version_said_of_a_merge_is_an_error(tmp_path: Path, qwen3: Shipped) -> None:
    said = json.loads((qwen3.path / "homing.json").read_text())["merged"]
    for broken in (3, {}, {**said, "verified": None}, {name: value for name, value in said.items() if name != "side"}):
        (tmp_path / "homing.json").write_text(json.dumps({"merged": broken}))
        with pytest.raises(ModelError, match="its merge cannot be read"):
            Origin.read(tmp_path)
    (tmp_path / "homing.json").write_text(json.dumps({"merged": said | {"more": 1}}))
    assert Origin.read(tmp_path) == Origin.read(qwen3.path)


def test_a_pooling_that_other_readers_have_no_flag_for_is_refused(qwen3: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "pooling", property(lambda self: "attention"))
    with pytest.raises(ModelError, match="cannot be written"):
        write_layout(qwen3.base, tmp_path)


def test_no_secret_of_the_environment_is_written(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HOMING_API_KEY", "OPENAI_API_KEY", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "hf_verysecret")
    base = Model(tiny_model, max_length=64, device="cpu")
    homing.merge(base, learned(base, "lora", tmp_path / "adapter"), out=tmp_path / "model")
    assert isinstance(Adapter(tmp_path / "adapter"), Adapter)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"hf_verysecret" in file.read_bytes()]
