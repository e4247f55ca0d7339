"""A server on loopback: what clients get, what they are refused, and what becomes of them when it is full, slow or stopped."""

from __future__ import annotations

import base64
import http.client
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from homing import Model, Serving, merge
from homing.cli import main
from homing.encoders.endpoint import Endpoint
from homing.encoders.opening import open_encoder, open_local
from homing.encoders.pair import open_model, write_document_model
from homing.errors import SettingError
from homing.measures.calibration import Calibration
from homing.measures.decision import ChosenOn, Decision, Threshold
from homing.serving import Server, batching
from homing.serving.logs import LOGGER, Lines
from homing.serving.running import KEY
from homing.serving.served import KINDS
from test_merging import learned
from tiny import QUERY_PROMPT, SENTENCES, tiny_qwen3

TEXTS = [*SENTENCES, "hail", "a storm at sea " * 30]


class Client:
    """One connection to a server."""

    def __init__(self, url: str, key: str = "") -> None:
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        self.headers = {"authorization": f"Bearer {key}"} if key else {}

    def __del__(self) -> None:
        self.connection.close()

    def ask(self, path: str, body: Any = None, method: str = "") -> tuple[int, Any, Any]:
        """Status, answer and headers."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request(method or ("GET" if data is None else "POST"), path, data, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if answer.headers["content-type"] == "application/json" else text.decode(), answer.headers

    def embed(self, input: Any, **others: Any) -> np.ndarray:
        status, said, _ = self.ask("/v1/embeddings", {"model": "qwen3", "input": input, **others})
        assert status == 200, said
        assert [each["index"] for each in said["data"]] == list(range(len(said["data"])))
        return np.array([each["embedding"] for each in said["data"]], dtype=np.float32)

    def refused(self, path: str, body: Any, method: str = "") -> tuple[int, str, str | None]:
        """Status, code and param of an error in the API's own shape."""
        status, said, _ = self.ask(path, body, method)
        assert set(said) == {"error"}
        assert set(said["error"]) == {"message", "type", "param", "code"}
        assert said["error"]["type"] == (
            "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
        )
        return status, said["error"]["code"], said["error"]["param"]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return Model(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def url(model: Model) -> Iterator[str]:
    with Server(model, Serving(port=0, dimensions="32, 16")).in_background() as url:
        yield url


@pytest.fixture
def client(url: str) -> Client:
    return Client(url)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Nothing is encoded until it is set."""
    opened, encode = threading.Event(), batching.embed

    def held(*arguments: Any) -> Any:
        opened.wait(30)
        return encode(*arguments)

    monkeypatch.setattr(batching, "embed", held)
    yield opened
    opened.set()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the server logs, as it would be written."""
    kept: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(self.format(record))

    handler = Keep()
    handler.setFormatter(Lines())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield kept
    LOGGER.removeHandler(handler)


def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_embeddings_are_the_models_own_in_both_formats(client: Client, model: Model) -> None:
    expected = model.encode_tokens(model.tokenize(TEXTS, None))
    np.testing.assert_allclose(client.embed(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(client.embed(TEXTS[0]), expected[:1], atol=1e-6)
    _, said, headers = client.ask("/v1/embeddings", {"model": "qwen3", "input": TEXTS, "encoding_format": "base64"})
    decoded = [np.frombuffer(base64.b64decode(each["embedding"]), dtype="<f4") for each in said["data"]]
    np.testing.assert_allclose(decoded, expected, atol=1e-6)
    tokens = int(model.token_counts(TEXTS, "document")[0].sum())
    assert said["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert said["object"] == "list"
    assert said["model"] == "qwen3"
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])


@pytest.mark.parametrize("said", [{"task": "query"}, {"model": "qwen3:query"}, {"task": "query", "model": "qwen3:query"}])
def test_a_task_puts_its_prompt_before_the_text(client: Client, model: Model, said: dict[str, str]) -> None:
    np.testing.assert_allclose(client.embed(TEXTS, **said), model.encode(TEXTS, "query"), atol=1e-6)
    np.testing.assert_allclose(client.embed([QUERY_PROMPT + text for text in TEXTS]), model.encode(TEXTS, "query"), atol=1e-6)


def test_shorter_embeddings_are_of_length_one_again(client: Client, model: Model) -> None:
    whole = model.encode(TEXTS)
    for dimensions in (64, 32, 16):
        short = whole[:, :dimensions] / np.linalg.norm(whole[:, :dimensions], axis=1, keepdims=True)
        np.testing.assert_allclose(client.embed(TEXTS, dimensions=dimensions), short, atol=1e-6)
    assert client.refused("/v1/embeddings", {"input": "a", "dimensions": 8}) == (400, "invalid_value", "dimensions")


def test_dimensions_are_those_the_directory_names(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "named")
    (tmp_path / "named" / "homing.json").write_text('{"dimensions": [48]}', encoding="utf-8")
    with Server(Model(tmp_path / "named"), Serving(port=0, name="qwen3")).in_background() as url:
        assert Client(url).embed("a", dimensions=48).shape == (1, 48)
        assert Client(url).ask("/v1/models")[1]["data"][0]["dimensions"] == [64, 48]
    with pytest.raises(SettingError, match="dimensions is out of range"):
        Server(Model(tiny_model), Serving(port=0, dimensions="65"))


INVALID: list[tuple[Any, str, str | None]] = [
    (b"{", "invalid_json", None),
    (b"", "invalid_json", None),
    ([1], "invalid_json", None),
    (b'{"input": "\\ud800"}', "invalid_json", None),
    ({}, "missing", "input"),
    ({"input": None}, "missing", "input"),
    ({"input": 3}, "invalid_type", "input"),
    ({"input": {"text": "a"}}, "invalid_type", "input"),
    ({"input": []}, "empty", "input"),
    ({"input": ""}, "empty", "input"),
    ({"input": ["a", ""]}, "empty", "input"),
    ({"input": ["a", 3]}, "invalid_type", "input"),
    ({"input": ["a"] * 2049}, "too_many_texts", "input"),
    ({"input": ["a", "word " * 600]}, "context_length_exceeded", "input"),
    ({"input": [None]}, "invalid_type", "input"),
    ({"input": [["a"]]}, "invalid_type", "input"),
    ({"input": [1, 2]}, "token_arrays", "input"),
    ({"input": [[1, 2]]}, "token_arrays", "input"),
    ({"input": "a", "encoding_format": "int8"}, "invalid_value", "encoding_format"),
    ({"input": "a", "dimensions": "32"}, "invalid_type", "dimensions"),
    ({"input": "a", "dimensions": True}, "invalid_type", "dimensions"),
    ({"input": "a", "task": "passage"}, "invalid_value", "task"),
    ({"input": "a", "task": ["query"]}, "invalid_value", "task"),
    ({"input": "a", "task": "query", "model": "qwen3:document"}, "invalid_value", "task"),
    ({"input": "a", "model": 3}, "invalid_type", "model"),
]


@pytest.mark.parametrize(("body", "code", "param"), INVALID)
def test_what_is_wrong_is_named_in_the_apis_own_shape(client: Client, body: Any, code: str, param: str | None) -> None:
    assert client.refused("/v1/embeddings", body) == (400, code, param)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/rerank", {"documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "", "documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "a"}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": [{"title": "b"}]}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
        ("/v1/rerank", {"query": "a", "documents": ["word " * 600]}, "documents"),
        ("/v1/score", {"text_2": "b"}, "text_1"),
        ("/v1/score", {"text_1": "a"}, "text_2"),
        ("/v1/score", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, "text_1"),
    ],
)
def test_what_is_wrong_with_pairs_is_named(client: Client, path: str, body: Any, param: str) -> None:
    assert client.refused(path, body)[::2] == (400, param)


def test_paths_and_methods_that_are_not_there(client: Client) -> None:
    assert client.refused("/v1/chat/completions", {})[:2] == (404, "no_route")
    assert client.refused("/v1/embeddings", None)[:2] == (405, "no_route")
    assert client.refused("/health", {}, "POST")[:2] == (405, "no_route")


def test_the_token_arrays_refusal_names_the_remedy(client: Client) -> None:
    message = client.ask("/v1/embeddings", {"input": [[1, 2]]})[1]["error"]["message"]
    assert "check_embedding_ctx_length=False" in message
    assert "--token-arrays" in message


def test_token_arrays_are_taken_where_that_was_asked_for(model: Model) -> None:
    tokens = model.tokenize(TEXTS, None)
    arrays = [tokens[text].tolist() for text in range(len(tokens))]
    with Server(model, Serving(port=0, token_arrays=True)).in_background() as url:
        client = Client(url)
        np.testing.assert_allclose(client.embed(arrays), model.encode(TEXTS), atol=1e-6)
        np.testing.assert_allclose(client.embed(arrays[0]), model.encode(TEXTS[:1]), atol=1e-6)
        for wrong in ([[1, 10**6]], [[1, -1]], [[1, "a"]], [[1, True]], [[1], 2]):
            assert client.refused("/v1/embeddings", {"input": wrong})[:2] == (400, "invalid_type")
        assert client.refused("/v1/embeddings", {"input": [[]]})[:2] == (400, "invalid_value")
        assert client.refused("/v1/embeddings", {"input": [[1] * 600]})[:2] == (400, "context_length_exceeded")
        assert client.refused("/v1/embeddings", {"input": [[1]], "task": "query"})[::2] == (400, "task")


def test_a_long_text_is_cut_where_that_was_asked_for(model: Model) -> None:
    with Server(model, Serving(port=0, truncate=True)).in_background() as url:
        np.testing.assert_allclose(Client(url).embed("word " * 600), model.encode(["word " * 600]), atol=1e-6)


def test_a_request_that_is_too_large(model: Model) -> None:
    with Server(model, Serving(port=0, max_megabytes=0.01)).in_background() as url:
        assert Client(url).refused("/v1/embeddings", {"input": "a" * 20_000})[:2] == (413, "too_large")
        assert Client(url).embed("a").shape == (1, 64)


def test_fingerprints_change_with_weights_or_prompt(tiny_model: Path, tmp_path: Path, client: Client) -> None:
    def listed(client: Client) -> dict[str, str]:
        return {each["id"]: each["fingerprint"] for each in client.ask("/v1/models")[1]["data"]}

    before = listed(client)
    assert len(set(before.values())) == 3
    with Server(Model(tiny_model, query_prompt="Q: "), Serving(port=0)).in_background() as url:
        prompted = listed(Client(url))
    assert [name for name in before if before[name] == prompted[name]] == ["qwen3:document"]
    with Server(Model(tiny_qwen3(tmp_path / "qwen3", seed=1)), Serving(port=0)).in_background() as url:
        others = listed(Client(url))
        assert not set(others.values()) & set(before.values())
        asked = {"input": "a", "model": f"qwen3@{before['qwen3']}"}
        assert Client(url).refused("/v1/embeddings", asked) == (404, "model_not_found", "model")
        assert client.ask("/v1/embeddings", asked)[1]["fingerprint"] == before["qwen3"]
    for kind in ("query", "document"):
        name = f"qwen3@{before[f'qwen3:{kind}']}:{kind}"
        assert client.ask("/v1/embeddings", {"input": "a", "model": name})[1]["fingerprint"] == before[f"qwen3:{kind}"]
    assert client.ask("/v1/models/qwen3:query")[1]["prompt"] == QUERY_PROMPT
    assert client.refused("/v1/models/nothing", None) == (404, "model_not_found", "model")


def test_a_name_holds_what_it_likes(tiny_model: Path) -> None:
    name = "qwen3@mine:0.6b"  # as a directory, or a client of Ollama, may have it
    with Server(Model(tiny_model), Serving(port=0, name=name)).in_background() as url:
        client = Client(url)
        for each in client.ask("/v1/models")[1]["data"]:
            for asked in (each["id"], each["id"].replace(name, f"{name}@{each['fingerprint']}")):
                assert client.ask("/v1/embeddings", {"input": "a", "model": asked})[1]["fingerprint"] == each["fingerprint"]
        for other in ("qwen3", f"{name}s", f"{name}:both", f"{name}@0"):
            assert client.refused("/v1/embeddings", {"input": "a", "model": other}) == (404, "model_not_found", "model")


def scores(model: Model, query: str, documents: Sequence[str]) -> np.ndarray:
    return model.encode(documents, "document") @ model.encode([query], "query")[0]


def test_scores_without_a_decision_say_so(client: Client, model: Model) -> None:
    expected = scores(model, TEXTS[0], TEXTS)
    _, said, _ = client.ask("/v1/score", {"text_1": TEXTS[0], "text_2": TEXTS})
    np.testing.assert_allclose([each["score"] for each in said["data"]], expected, atol=1e-6)
    assert {each["probability"] for each in said["data"]} == {each["relevant"] for each in said["data"]} == {None}
    assert said["threshold"] is None
    assert "scores alone" in said["note"]
    _, pairwise, _ = client.ask("/v1/score", {"text_1": TEXTS[:3], "text_2": TEXTS[3:6]})
    np.testing.assert_allclose(
        [each["score"] for each in pairwise["data"]],
        [scores(model, TEXTS[pair], [TEXTS[pair + 3]])[0] for pair in range(3)],
        atol=1e-6,
    )


def test_rerank_has_probability_and_decision(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "qwen3")
    model = Model(tmp_path / "qwen3")
    expected = scores(model, TEXTS[0], TEXTS)
    cuts = float(np.quantile(expected, 0.3)), float(np.quantile(expected, 0.7))
    chosen_on = ChosenOn("dev", 10, 100, 0.2, "d")
    lists, retrieval = (Threshold.of(cut, 0.5, chosen_on, normalised=True) for cut in cuts)
    Decision(lists, retrieval, Calibration(5.0, -2.0)).write(tmp_path / "qwen3")
    with Server(model, Serving(port=0)).in_background() as url:
        _, ranked, _ = Client(url).ask("/v1/rerank", {"query": TEXTS[0], "documents": [{"text": text} for text in TEXTS], "top_n": 5})
        _, scored, _ = Client(url).ask("/v1/score", {"text_1": TEXTS[0], "text_2": TEXTS})
        assert Client(url).ask("/v1/models")[1]["data"][0]["decision"]["retrieval"]["cosine"] == cuts[1]
    results = ranked["results"]
    assert [each["index"] for each in results] == np.argsort(-expected)[:5].tolist()
    for found, key in ((results, "relevance_score"), (scored["data"], "score")):
        np.testing.assert_allclose([each[key] for each in found], expected[[each["index"] for each in found]], atol=1e-6)
        np.testing.assert_allclose(
            [each["probability"] for each in found], [1 / (1 + np.exp(2 - 5 * each[key])) for each in found], atol=1e-9
        )
    assert [each["relevant"] for each in results] == [bool(each["relevance_score"] >= cuts[1]) for each in results]
    assert [each["relevant"] for each in scored["data"]] == (expected >= cuts[0]).tolist()
    assert (ranked["threshold_of"], scored["threshold_of"]) == ("retrieval", "list")
    assert "document" not in results[0]


def test_as_an_encoder_a_server_has_the_prompts_of_its_model(url: str, model: Model) -> None:
    url = f"{url}/v1"
    for served in (Endpoint(url), Endpoint(url, "qwen3")):
        assert served.prompts == model.prompts
        for kind in KINDS:
            np.testing.assert_allclose(served.encode(TEXTS, kind), model.encode(TEXTS, kind), atol=1e-6)
    assert Endpoint(url, query_prompt="").prompts == {**model.prompts, "query": ""}
    assert Endpoint(url, "qwen3:query").prompts == {"query": "", "document": ""}  # which the server puts


def test_a_pair_serves_both_sides(tiny_model: Path, tmp_path: Path) -> None:
    queries = tiny_qwen3(tmp_path / "qwen3", seed=1)
    write_document_model(queries, Model(tiny_model))
    pair = open_model(queries)
    with Server(pair, Serving(port=0)).in_background() as url:
        client = Client(url)
        np.testing.assert_allclose(client.embed(TEXTS, task="query"), pair.encode(TEXTS, "query"), atol=1e-6)
        np.testing.assert_allclose(client.embed(TEXTS, model="qwen3:document"), pair.encode(TEXTS, "document"), atol=1e-6)
        for named in (None, "qwen3"):
            served = Endpoint(f"{url}/v1", named, say=lambda line: None)  # as one model, which evaluate can measure
            assert served.name == "qwen3"
            assert served.digest_of("query") != served.digest_of("document")
            for kind in KINDS:
                np.testing.assert_allclose(served.encode(TEXTS, kind), pair.encode(TEXTS, kind), atol=1e-6)
        with pytest.raises(SettingError, match=r"puts the prompts of its two models itself"):
            Endpoint(f"{url}/v1", instruction="Find it")
        assert open_encoder(f"{url}/v1?query_prompt=#qwen3", instruction="Find it").digest_of("query") == served.digest_of("query")
        assert client.refused("/v1/embeddings", {"input": "a"}) == (400, "task_missing", "task")
        _, said, _ = client.ask("/v1/rerank", {"model": "qwen3", "query": TEXTS[0], "documents": TEXTS, "return_documents": True})
        expected = pair.encode(TEXTS, "document") @ pair.encode(TEXTS[:1], "query")[0]
        np.testing.assert_allclose([each["relevance_score"] for each in said["results"]], np.sort(expected)[::-1], atol=1e-6)
        assert [each["document"]["text"] for each in said["results"]] == [TEXTS[each["index"]] for each in said["results"]]
        assert [each["id"] for each in client.ask("/v1/models")[1]["data"]] == ["qwen3:query", "qwen3:document"]


@pytest.mark.parametrize("side", ["both", "queries"])
def test_an_adapter_is_served_on_its_base_as_if_merged(
    side: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `homing serve ADAPTER` answers is what the merged model answers; the base's decision is not the adapter's."""
    base = Path(shutil.copytree(tiny_model, tmp_path / "qwen3"))
    Decision(Threshold.of(0.6, 0.7, ChosenOn("dev", 40, 400, 0.25, "abc"), normalised=True)).write(base)
    adapter = learned(Model(base, max_length=256), "lora", tmp_path / "adapter", step=0.02, scale=0.5)
    said = json.loads((adapter.path / "homing.json").read_text())
    (adapter.path / "homing.json").write_text(json.dumps(said | {"train": side}))
    merged = merge(Model(base, max_length=256), adapter, out=tmp_path / "model")
    of_queries, of_documents = (":query", ":document") if side == "queries" else ("", "")
    with Server(open_local(adapter.path), Serving(port=0, name="qwen3")).in_background() as url:
        for kind in ("query", "document"):
            np.testing.assert_allclose(Client(url).embed(TEXTS, task=kind), merged.encode(TEXTS, kind), atol=1e-5)  # type: ignore[arg-type]
        assert all(each["decision"] is None for each in Client(url).ask("/v1/models")[1]["data"])
        for local in (adapter.path, tmp_path / "model"):
            with pytest.raises(SystemExit) as stopped:
                main(["verify", str(local), "--endpoint", f"{url}/v1#qwen3{of_queries}", "--documents", f"{url}/v1#qwen3{of_documents}"])
            assert stopped.value.code == 0, capsys.readouterr()
        for address in (f"{url}/v1", f"{url}/v1#qwen3"):
            with pytest.raises(SystemExit) as stopped:
                main(["verify", str(adapter.path), "--endpoint", address])
            assert stopped.value.code == 0, capsys.readouterr()
    with Server(Model(base, max_length=256), Serving(port=0)).in_background() as url, pytest.raises(SystemExit) as stopped:
        main(["verify", str(adapter.path), "--endpoint", f"{url}/v1#qwen3"])
    assert stopped.value.code == 3
    assert "untrained base" in " ".join(capsys.readouterr().out.split()) or side == "queries"


def test_each_of_many_requests_gets_its_own_embeddings(url: str, model: Model) -> None:
    draw = np.random.default_rng(0)
    words = " ".join(SENTENCES).split()
    asked = [
        [" ".join(draw.choice(words, draw.integers(1, 60))) + f" {request}-{text}" for text in range(draw.choice([1, 1, 1, 2, 5, 40]))]
        for request in range(300)
    ]
    kinds = [None if request % 3 else "query" for request in range(len(asked))]

    def ask(request: int) -> np.ndarray:
        return Client(url).embed(asked[request], task=kinds[request])

    with ThreadPoolExecutor(48) as pool:
        got = list(pool.map(ask, range(len(asked))))
    for texts, kind, found in zip(asked, kinds, got, strict=True):
        np.testing.assert_allclose(found, model.encode(texts, "query" if kind else "document"), atol=1e-5)


def test_a_full_queue_is_429_and_nothing_accepted_is_lost(model: Model, gate: threading.Event) -> None:
    server = Server(model, Serving(port=0, max_texts=4, max_waiting=8))
    with server.in_background() as url, ThreadPoolExecutor(2) as pool:
        accepted = [pool.submit(Client(url).embed, TEXTS[:4]) for _ in range(2)]
        until(lambda: server.service.batcher.waiting == 8)
        status, said, headers = Client(url).ask("/v1/embeddings", {"input": "one more"})
        assert (status, said["error"]["code"], said["error"]["type"]) == (429, "queue_full", "rate_limit_error")
        assert 1 <= int(headers["retry-after"]) <= 60
        gate.set()
        for future in accepted:
            np.testing.assert_allclose(future.result(), model.encode(TEXTS[:4]), atol=1e-6)
        assert Client(url).embed("one more").shape == (1, 64)


def test_a_request_that_takes_too_long_is_504_and_leaves_the_queue(model: Model, gate: threading.Event) -> None:
    server = Server(model, Serving(port=0, timeout=0.2))
    with server.in_background() as url:
        assert Client(url).refused("/v1/embeddings", {"input": TEXTS})[:2] == (504, "timeout")
        assert server.service.batcher.waiting == 0
        gate.set()
        assert Client(url).embed("next").shape == (1, 64)


def test_a_body_that_does_not_come_is_504(model: Model) -> None:
    with Server(model, Serving(port=0, timeout=0.2)).in_background() as url:
        connection = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n{")
        assert b" 504 " in connection.recv(1000)
        connection.close()


def test_a_client_that_goes_takes_its_work_with_it(model: Model, gate: threading.Event, lines: list[str]) -> None:
    server = Server(model, Serving(port=0))
    encoded = server.service.metrics
    with server.in_background() as url:
        before, busy, goes = encoded.batch_texts, [Client(url) for _ in range(server.service.batcher.rounds)], Client(url)
        for number, client in enumerate(busy, 1):  # are being encoded when the other comes
            client.connection.request("POST", "/v1/embeddings", json.dumps({"input": "first"}).encode())
            until(lambda number=number: server.service.batcher.waiting == number)
            time.sleep(0.1)
        goes.connection.request("POST", "/v1/embeddings", json.dumps({"input": TEXTS}).encode())
        until(lambda: server.service.batcher.waiting == len(busy) + len(TEXTS))
        goes.connection.close()
        until(lambda: server.service.batcher.waiting == len(busy))
        gate.set()
        assert [client.connection.getresponse().status for client in busy] == [200] * len(busy)
        assert Client(url).embed("last").shape == (1, 64)
        assert encoded.batch_texts - before == len(busy) + 1
    assert any(json.loads(line).get("status") == 499 for line in lines)


def test_a_fault_of_the_model_is_500_for_that_request_alone(model: Model, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    encode = batching.embed

    def failing(model: Model, tokens: Any, texts: Any) -> Any:
        if tokens.lengths.max() > 100:
            raise ValueError("quotes the SECRET text")
        return encode(model, tokens, texts)

    monkeypatch.setattr(batching, "embed", failing)
    with Server(model, Serving(port=0)).in_background() as url:
        assert Client(url).refused("/v1/embeddings", {"input": "SECRET " * 40})[:2] == (500, "fault")
        assert Client(url).embed("well").shape == (1, 64)
    (failed,) = [json.loads(line) for line in lines if "encoding failed" in line]
    assert failed["error"] == "ValueError"
    assert any("failing" in place for place in failed["at"])
    assert "SECRET" not in "".join(lines)


def test_an_embedding_that_is_not_finite_is_a_fault_and_no_null(model: Model, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """As half precision gives it for some texts alone."""
    encode = batching.embed

    def overflowing(model: Model, tokens: Any, texts: Any) -> Any:
        return np.where(tokens.lengths[texts][:, None] > 100, np.nan, encode(model, tokens, texts))

    monkeypatch.setattr(batching, "embed", overflowing)
    with Server(model, Serving(port=0)).in_background() as url:
        assert Client(url).refused("/v1/embeddings", {"input": ["a", "SECRET " * 40]})[:2] == (500, "fault")
        assert Client(url).embed("well").shape == (1, 64)
    assert any("not finite" in line for line in lines)


def test_memory_that_runs_out_halves_the_batch(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, embed = model.encode(TEXTS), model.embed

    def small(tokens: Any, texts: Any) -> Any:
        if len(texts) > 2:
            raise torch.OutOfMemoryError("too many")
        return embed(tokens, texts)

    monkeypatch.setattr(model, "embed", small)
    monkeypatch.setattr(torch.accelerator, "empty_cache", lambda: None, raising=False)
    tokens = model.tokenize(TEXTS, None)
    np.testing.assert_allclose(batching.embed(model, tokens, np.arange(len(TEXTS))), expected, atol=1e-6)


def test_a_key_is_asked_for_where_there_is_one(model: Model, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    monkeypatch.setenv(KEY, "sesame-7\n")  # as a file or a secret of Kubernetes gives it
    with Server(model, Serving(port=0)).in_background() as url:
        for key in ("", "sesame", "sesame-8", "Sesame-7"):
            for path, body in (("/v1/embeddings", {"input": "a"}), ("/v1/rerank", {}), ("/v1/models", None), ("/metrics", None)):
                assert Client(url, key).refused(path, body) == (401, "invalid_api_key", None)
        assert Client(url).ask("/v1/models")[2]["www-authenticate"] == "Bearer"
        assert Client(url).ask("/health")[1] == {"status": "ok"}
        assert Client(url, "sesame-7").embed("a").shape == (1, 64)
    assert "sesame" not in "".join(lines)


def test_metrics_add_up_in_prometheus_format(model: Model) -> None:
    with Server(model, Serving(port=0)).in_background() as url:
        client = Client(url)
        for _ in range(3):
            client.embed(TEXTS)
        client.refused("/v1/embeddings", {})
        client.ask("/v1/rerank", {"query": "a", "documents": TEXTS})
        _, text, headers = client.ask("/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert samples['homing_requests_total{endpoint="embeddings",status="200"}'] == "3"
    assert samples['homing_requests_total{endpoint="embeddings",status="400"}'] == "1"
    assert samples['homing_texts_total{endpoint="rerank"}'] == str(1 + len(TEXTS))
    tokens = 3 * int(model.token_counts(TEXTS, "document")[0].sum())
    assert samples['homing_tokens_total{endpoint="embeddings"}'] == str(tokens)
    assert samples['homing_request_seconds_bucket{endpoint="embeddings",le="+Inf"}'] == "4"
    assert samples["homing_waiting_texts"] == "0"
    assert int(samples["homing_batch_texts_total"]) == 3 * len(TEXTS) + 1 + len(TEXTS)
    assert float(samples["homing_batch_seconds_total"]) > 0
    assert int(samples["homing_resident_memory_bytes"]) > 1e7
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    assert all(any(name.split("{")[0].removesuffix(end) in families for end in ("", "_bucket", "_sum", "_count")) for name in samples)


def test_a_long_request_does_not_delay_a_short_one(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, done = batching.embed, []

    def slow(*arguments: Any) -> Any:
        time.sleep(0.01)
        return encode(*arguments)

    monkeypatch.setattr(batching, "embed", slow)
    server = Server(model, Serving(port=0))
    with server.in_background() as url, ThreadPoolExecutor(2) as pool:
        long = pool.submit(lambda: (Client(url).embed([f"{text} storm" * 60 for text in range(1000)]), done.append("long")))
        until(lambda: server.service.metrics.batches > 2)
        pool.submit(lambda: (Client(url).embed("short"), done.append("short"))).result()
        long.result()
    assert done == ["short", "long"]


def test_rounds_side_by_side_share_what_waits(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, opened, sizes = batching.embed, threading.Event(), []

    def held(model: Model, tokens: Any, texts: Any) -> Any:
        sizes.append(len(texts))
        opened.wait(30)
        return encode(model, tokens, texts)

    monkeypatch.setattr(batching, "embed", held)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        server = Server(model, Serving(port=0))
        with server.in_background() as url, ThreadPoolExecutor(10) as pool:
            asked = []
            for number, text in enumerate(TEXTS[:10], 1):  # the first two keep both threads
                asked.append(pool.submit(Client(url).embed, text))
                until(lambda number=number: server.service.batcher.waiting == number and len(sizes) == min(number, 2))
            opened.set()
            for text, future in zip(TEXTS, asked, strict=False):
                np.testing.assert_allclose(future.result(), model.encode([text]), atol=1e-6)
        assert server.service.batcher.rounds == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert sizes[:2] == [1, 1]
    assert sum(sizes) == 10
    assert max(sizes) <= 5  # never all eight in one thread's hand


def test_the_real_clients(url: str, model: Model) -> None:
    from langchain_openai import OpenAIEmbeddings
    from llama_index.embeddings.openai import OpenAIEmbedding
    from openai import BadRequestError, NotFoundError, OpenAI

    texts, expected = TEXTS[:5], model.encode(TEXTS[:5])
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    for said in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = client.embeddings.create(model="qwen3", input=texts, **said)
        got = [np.frombuffer(base64.b64decode(e.embedding), "<f4") if isinstance(e.embedding, str) else e.embedding for e in answer.data]
        np.testing.assert_allclose(got, expected, atol=1e-6)
    asked = client.embeddings.create(model="qwen3", input=texts, dimensions=16, extra_body={"task": "query"})
    assert len(asked.data[0].embedding) == 16
    assert [each.id for each in client.models.list()] == ["qwen3", "qwen3:query", "qwen3:document"]
    assert client.models.retrieve("qwen3").id == "qwen3"
    with pytest.raises(BadRequestError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="qwen3", input=[[1, 2, 3]])
    with pytest.raises(NotFoundError) as caught:
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert caught.value.code == "model_not_found"

    chain: Any = OpenAIEmbeddings(base_url=f"{url}/v1", api_key="none", model="qwen3", check_embedding_ctx_length=False)  # type: ignore
    np.testing.assert_allclose(chain.embed_documents(texts), expected, atol=1e-6)
    np.testing.assert_allclose(chain.embed_query(QUERY_PROMPT + texts[0]), model.encode(texts[:1], "query")[0], atol=1e-6)

    # LlamaIndex sends blanks for line breaks, also in a prompt: the server is to put it.
    index = OpenAIEmbedding(api_base=f"{url}/v1", api_key="none", model_name="qwen3")
    np.testing.assert_allclose(index.get_text_embedding_batch(texts[1:]), expected[1:], atol=1e-6)
    asking = OpenAIEmbedding(api_base=f"{url}/v1", api_key="none", model_name="qwen3:query")
    np.testing.assert_allclose(asking.get_query_embedding(texts[1]), model.encode(texts[1:2], "query")[0], atol=1e-6)


@contextmanager
def started(model: Path, *flags: str, env: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """`homing serve` in a process of its own: the process, its URL and its lines, as they come."""
    command = [sys.executable, "-m", "homing", "serve", str(model), "--port", "0", *flags]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, **(env or {})}
    ) as process:
        lines: list[str] = []
        assert process.stderr is not None
        reader = threading.Thread(target=lambda stream: lines.extend(iter(stream.readline, "")), args=(process.stderr,))
        reader.start()
        try:
            until(lambda: any('"started"' in line for line in lines) or process.poll() is not None, 240)
            assert process.poll() is None, lines
            yield process, next(json.loads(line)["url"] for line in lines if '"started"' in line), lines
        finally:
            process.kill()
            reader.join()


def test_a_stop_under_load_loses_no_request(tiny_model: Path) -> None:
    answered, lost, refused = [], [], []

    def load(url: str, number: int) -> None:
        client, request = Client(url, "sesame-7"), 0
        while True:
            request += 1
            texts = [f"SECRET {number} {request} {'storm ' * (7 * request % 50)}"] * (1 + request % 3)
            try:
                client.connection.connect() if client.connection.sock is None else None
            except ConnectionRefusedError:
                refused.append(number)
                return
            try:
                answered.append(len(client.embed(texts)) == len(texts))
            except (ConnectionError, http.client.HTTPException) as error:
                lost.append(error)
                return

    with started(tiny_model, env={KEY: "sesame-7"}) as (process, url, lines), ThreadPoolExecutor(16) as pool:
        workers = [pool.submit(load, url, number) for number in range(16)]
        until(lambda: len(answered) > 150, 240)
        process.send_signal(signal.SIGTERM)
        for worker in workers:
            worker.result(240)
        assert process.wait(60) == 0
        until(lambda: '"stopped"' in lines[-1])
    assert not lost
    assert len(refused) == 16
    assert all(answered)
    said = [json.loads(line) for line in lines]
    assert sum(each["event"] == "request" for each in said) == len(answered)
    assert {each["status"] for each in said if each["event"] == "request"} == {200}
    assert "SECRET" not in "".join(lines)
    assert "sesame" not in "".join(lines)


def test_health_says_that_it_stops(model: Model, gate: threading.Event) -> None:
    server = Server(model, Serving(port=0))
    with server.in_background() as url, ThreadPoolExecutor(1) as pool:
        watcher = Client(url)
        assert watcher.ask("/health")[:2] == (200, {"status": "ok"})
        waits = pool.submit(Client(url).embed, "accepted before the stop")
        until(lambda: server.service.batcher.waiting == 1)
        server.stop()
        until(lambda: server.service.stopping)
        assert watcher.ask("/health")[:2] == (503, {"status": "stopping"})
        gate.set()
        assert waits.result().shape == (1, 64)


def test_addresses(model: Model, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(SettingError, match="cannot listen there"):
        Server(model, Serving(port=taken.getsockname()[1]))
    with pytest.raises(SystemExit):
        main(["serve", "no/such/model", "--port", str(taken.getsockname()[1])])
    assert "cannot listen there" in capsys.readouterr().err  # before the model is looked for
    taken.close()
    with Server(model, Serving(port=0)).in_background() as url:
        assert url.startswith("http://127.0.0.1:")
    assert not any(json.loads(line)["level"] == "warning" for line in lines)
    with Server(model, Serving(port=0, host="0.0.0.0")).in_background():
        pass
    (warning,) = [json.loads(line)["event"] for line in lines if json.loads(line)["level"] == "warning"]
    assert KEY in warning


@pytest.mark.parametrize(
    "setting",
    [{"port": 70000}, {"dimensions": "a"}, {"max_texts": 0}, {"max_megabytes": 0}, {"max_waiting": 5}, {"timeout": 0}],
)
def test_settings_out_of_range(setting: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="out of range"):
        Serving(**setting)


def test_an_answer_is_not_held_back_for_the_client_to_acknowledge_its_first_part(tiny_model: Path) -> None:
    server = Server(Model(tiny_model), Serving(port=0))
    try:
        with socket.create_connection(server.socket.getsockname()):
            accepted, _ = server.socket.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        server.socket.close()
