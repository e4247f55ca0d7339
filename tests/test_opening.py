"""One door to every encoder: directories, adapters on their base, servers, truncations, and what vLLM is given."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from fake_server import FakeServer, serving
from hashing import Hashing
from homing import Adapter
from homing.cli import main
from homing.encoders.endpoint import Endpoint
from homing.encoders.kept import Kept
from homing.encoders.model import Model
from homing.encoders.opening import open_adapter, open_encoder, open_encoders, open_local
from homing.encoders.pair import Pair, write_document_model
from homing.encoders.truncated import Truncated
from homing.encoders.tuning import load, tune
from homing.errors import ModelError, SettingError
from homing.manifest import write_json
from homing.protocols import Encoder
from homing.settings import Training
from tiny import tiny_qwen3

TEXTS = ["short", "a somewhat longer text about finding files by name", "保证期间是确定保证人承担保证责任的期间", "words " * 80]


@pytest.fixture
def server(minilm: Path) -> Iterator[FakeServer]:
    model = Model(minilm)
    with serving(FakeServer(lambda texts: model.encode(list(texts), "document"), models=["org/minilm"])) as running:
        yield running


def learned(model: Model, directory: Path, train: str = "both", kind: str = "lora") -> Path:
    """An adapter that changes embeddings, saved."""
    tuning = tune(model, Training(tuning=kind))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in tuning.parameters().values():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    directory.mkdir()
    tuning.save(directory)
    tuning.detach()
    said = json.loads((directory / "homing.json").read_text())
    (directory / "homing.json").write_text(json.dumps({**said, "train": train}))
    return directory


def test_truncations_equal_sentence_transformers(tiny_model: Path) -> None:
    oracle = SentenceTransformer(str(tiny_model), device="cpu", truncate_dim=24)
    wanted = oracle.encode_query(TEXTS, normalize_embeddings=True)
    found = Truncated(Model(tiny_model), 24)
    assert isinstance(found, Encoder)
    assert np.allclose(found.encode(TEXTS, "query"), wanted, atol=1e-5)
    assert (found.name, found.dimension) == ("qwen3@24", 24)
    assert len({found.digest, Truncated(Model(tiny_model), 12).digest, Model(tiny_model).digest}) == 3
    for wrong in (0, 65):
        with pytest.raises(SettingError, match="cut"):
            Truncated(Model(tiny_model), wrong)


def test_truncations_of_one_model_share_it_and_its_embeddings(tiny_model: Path) -> None:
    whole, cut, shorter = open_encoders([tiny_model, f"{tiny_model}@32", f"{tiny_model}@8"])
    assert [each.name for each in (whole, cut, shorter)] == ["qwen3", "qwen3@32", "qwen3@8"]
    assert isinstance(whole, Kept)
    assert isinstance(cut, Truncated)
    assert cut.encoder is whole
    cut.encode(TEXTS, "document")
    before = whole.encoded
    shorter.encode(TEXTS, "document")
    assert whole.encoded == before


def test_a_directory_whose_name_looks_cut_is_a_directory(tiny_model: Path, tmp_path: Path) -> None:
    odd = Path(shutil.copytree(tiny_model, tmp_path / "model@16"))
    assert open_encoder(odd).dimension == 64
    assert open_encoder(f"{odd}@8").dimension == 8


def test_a_server_is_an_encoder_like_any(server: FakeServer, minilm: Path) -> None:
    heard: list[str] = []
    remote, cut, local = open_encoders([f"{server.url}#org/minilm", f"{server.url}#org/minilm@64", minilm], say=heard.append)
    assert [remote.name, cut.name] == ["minilm", "minilm@64"]
    assert np.allclose(remote.encode(TEXTS, "query"), local.encode(TEXTS, "query"), atol=1e-5)
    assert cut.encode(TEXTS, "query").shape == (4, 64)
    assert len([line for line in heard if "sends" in line]) == 1
    assert cut.cost == remote.cost  # type: ignore[attr-defined]
    assert cut.cost["texts"] == len(TEXTS) + 1  # type: ignore[attr-defined]
    priced = open_encoder(f"{server.url}?price=0.02&query_prompt=q%3A%20", say=heard.append, keep=False, instruction="not this")
    assert isinstance(priced, Endpoint)
    assert (priced.model, priced.price, priced.prompts["query"]) == ("org/minilm", 0.02, "q: ")


def test_what_an_address_cannot_say_is_named_without_its_value() -> None:
    with pytest.raises(SettingError, match="api_key") as error:
        open_encoder("http://127.0.0.1:1/v1?api_key=sk-secret#m")
    assert "sk-" not in str(error.value)
    with pytest.raises(SettingError, match="no number"):
        open_encoder("http://127.0.0.1:1/v1?price=much#m")
    with pytest.raises(SettingError) as error:
        open_encoder("http://127.0.0.1:1/v1?key=sk-secret#m")
    assert "sk-" not in str(error.value)
    with pytest.raises(SettingError, match="given twice"):
        open_encoders(["a", "a"])


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_an_adapter_opens_on_its_base(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    base = Model(tiny_model, instruction="Find the answer", max_length=64)
    before = base.encode(TEXTS, "query")
    path = learned(base, tmp_path / "adapter", kind=kind)
    tuning = load(base, Adapter(path))
    wanted = base.encode(TEXTS, "query")
    found = open_adapter(path)
    assert found.prompts["query"] == "Instruct: Find the answer\nQuery:"
    assert np.allclose(found.encode(TEXTS, "query"), wanted, atol=1e-6)
    assert not np.allclose(found.encode(TEXTS, "query"), before, atol=1e-3)
    tuning.detach()
    assert found.digest_of("query") != base.digest_of("query")
    kept = open_encoder(path)
    assert np.allclose(kept.encode(TEXTS, "query"), wanted, atol=1e-6)
    assert np.allclose(Kept(base).encode(TEXTS, "query"), before, atol=1e-6)
    assert open_adapter(path, query_prompt="other: ").prompts["query"] == "other: "


def test_an_adapter_of_queries_alone_leaves_documents_to_the_base(tiny_model: Path, tmp_path: Path) -> None:
    base = Model(tiny_model)
    found = open_adapter(learned(base, tmp_path / "adapter", train="queries"))
    assert isinstance(found, Pair)
    assert np.allclose(found.encode(TEXTS, "document"), base.encode(TEXTS, "document"), atol=1e-6)
    assert not np.allclose(found.encode(TEXTS, "query"), base.encode(TEXTS, "query"), atol=1e-3)
    assert found.digest_of("document") == base.digest_of("document")


def test_an_adapter_without_a_base_is_named(tiny_model: Path, tmp_path: Path) -> None:
    path = learned(Model(tiny_model), tmp_path / "adapter")
    (path / "homing.json").unlink()
    said = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**said, "base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="which base"):
        open_adapter(path)
    assert open_adapter(path, base=tiny_model).dimension == 64


def test_an_adapter_whose_base_has_moved_is_named(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    path = learned(Model("base"), tmp_path / "adapter")
    assert open_adapter(path).dimension == 64
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert open_adapter(path).dimension == 64
    (tmp_path / "base").unlink()
    with pytest.raises(ModelError, match="not where it was") as error:
        open_adapter(path)
    assert str(path) in str(error.value)


def test_evaluate_takes_all_of_them(
    server: FakeServer, minilm: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["split", str(made), "--out", str(tmp_path / "dataset")])
    models = [str(minilm), f"{minilm}@128", server.url]
    arguments = [part for model in models for part in ("--model", model)]
    main(["evaluate", str(tmp_path / "dataset"), *arguments, "--out", str(tmp_path / "evaluation"), "--resamples", "100"])
    said = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    found = {each["name"]: each["measures"]["nDCG@10"]["value"] for each in said["models"] if each.get("kind", "model") == "model"}
    assert list(found) == [minilm.name, f"{minilm.name}@128", "127.0.0.1"]
    assert found["127.0.0.1"] == pytest.approx(found[minilm.name], abs=1e-9)
    assert "sends" in capsys.readouterr().err
    assert [each["speed"]["kept"] for each in said["models"][:3]] == [False, True, False]
    assert [bool(each["cost"]) for each in said["models"][:3]] == [False, False, True]


def test_a_missing_vllm_names_the_class_and_the_pip_line(tiny_model: Path) -> None:
    if shutil.which("vllm") is not None:
        pytest.skip("vLLM is installed here")
    with pytest.raises(ModelError, match=r"(?s)VLLM.*pip install vllm"):
        open_encoder(f"vllm:{tiny_model}")


class Told:
    """Stands for vllm.LLM: keeps what it is given."""

    def __init__(self, **engine: object) -> None:
        self.engine = engine
        self.asked: list[list[int]] = []

    def embed(self, prompts: list[dict[str, list[int]]], use_tqdm: bool) -> list[object]:
        self.asked += [prompt["prompt_token_ids"] for prompt in prompts]
        rows = Hashing().encode([str(prompt) for prompt in prompts], "document")
        return [type("Answer", (), {"outputs": type("Outputs", (), {"embedding": row.tolist()})}) for row in rows]


@pytest.mark.parametrize("which", ["tiny_model", "minilm"])
def test_vllm_is_given_the_token_ids_of_the_local_model(
    which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = request.getfixturevalue(which)
    monkeypatch.setitem(sys.modules, "vllm", type(sys)("vllm"))
    monkeypatch.setattr(sys.modules["vllm"], "LLM", Told, raising=False)
    from homing.encoders.vllm import VLLM

    model, found = Model(path, max_length=64), VLLM(path, max_length=64)
    assert isinstance(found, Encoder)
    assert found.prompts == model.prompts
    assert found.max_length == model.max_length
    for kind in ("query", "document"):
        tokens = model.tokenize(TEXTS, kind)  # type: ignore[arg-type]
        assert found.tokenize(TEXTS, kind) == [tokens[text].tolist() for text in range(len(TEXTS))]  # type: ignore[arg-type]
    assert VLLM(path).max_length == Model(path).max_length
    with pytest.raises(SettingError, match=r"vLLM doesn't go beyond.*513 tokens"):
        VLLM(path, max_length=513)
    assert found.encode([*TEXTS, TEXTS[0]], "query").shape == (5, 6)
    assert found.llm.engine["runner"] == "pooling"  # type: ignore[attr-defined]
    cut = Path(shutil.copytree(path, tmp_path / "cut"))
    said = json.loads((cut / "config_sentence_transformers.json").read_text())
    write_json(cut / "config_sentence_transformers.json", said | {"truncate_dim": 4})
    assert VLLM(cut).encode(TEXTS).shape == (4, 4)


def test_a_model_is_called_by_its_directory_from_within_it_too(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_model)  # as DEPLOY.md has it: homing serve .
    assert open_local(".", device="meta").name == tiny_model.name


def test_a_query_encoder_finds_its_documents_model_from_anywhere(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, base = tiny_qwen3(tmp_path / "queries", seed=1), Path(shutil.copytree(tiny_model, tmp_path / "base"))
    monkeypatch.chdir(tmp_path)
    write_document_model(queries, Model("base", device="meta"))
    monkeypatch.chdir(queries)
    assert isinstance(open_local(".", device="meta"), Pair)
    base.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=r"(?s)not where it was at the merge.*as model under documents") as error:
        open_local(".", device="meta")
    assert str(base) in str(error.value)
