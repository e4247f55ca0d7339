"""A model behind an OpenAI-compatible API, with every fault that such servers have planted in one on loopback."""

from __future__ import annotations

import base64
import json
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.responses import JSONResponse, Response

from alone import exit_code, start
from fake_server import FakeServer, serving
from hashing import Hashing
from homing.encoders.client import Client, _retry_after
from homing.encoders.endpoint import Endpoint
from homing.encoders.kept import Kept
from homing.encoders.opening import open_sides
from homing.errors import EndpointError, SettingError
from homing.protocols import Encoder

TEXTS = [f"text {number} " + "long " * (number % 7) for number in range(150)]


def embed(texts: Sequence[Any]) -> NDArray[np.float32]:
    encoder = Hashing()
    encoder.prompts = {"query": "", "document": ""}
    return encoder.encode(texts, "document")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving(FakeServer(embed)) as running:
        yield running


def endpoint(server: FakeServer, heard: list[str] | None = None, **keywords: Any) -> Endpoint:
    client = Client(server.url, wait=0.005, timeout=2.0)
    return Endpoint(server.url, "fake", client=client, say=(heard if heard is not None else []).append, **keywords)


def test_embeddings_are_the_servers_in_order_and_each_text_is_sent_once(server: FakeServer) -> None:
    found = endpoint(server)
    assert isinstance(found, Encoder)
    texts = [*TEXTS, TEXTS[3], TEXTS[0]]
    assert np.allclose(found.encode(texts, "document"), embed(texts), atol=1e-6)
    assert sorted(server.texts[1:]) == sorted(TEXTS)  # the first is the made-up one
    assert found.dimension == 6
    assert found.cost["texts"] == 151
    assert found.cost["tokens"] == sum(map(len, server.texts))


def test_prompts_are_put_before_texts_here_and_there_are_none_unless_given(server: FakeServer) -> None:
    assert endpoint(server).prompts == {"query": "", "document": ""}
    told = endpoint(server, instruction="Find it", document_prompt="d: ")
    told.encode(["x"], "query")
    told.encode(["x"], "document")
    assert server.texts[1:] == ["Instruct: Find it\nQuery:x", "d: x"]
    assert told.digest_of("query") != endpoint(server).digest_of("query")
    assert endpoint(server, instruction="a").digest_of("document") == endpoint(server, instruction="b").digest_of("document")


def test_a_burst_of_429_is_waited_out_as_long_as_the_server_says(server: FakeServer) -> None:
    found = endpoint(server)
    assert found.dimension == 6
    server.faults = [429, (429, {"retry-after": "0.5"}), 500, 503, 408]
    start = time.monotonic()
    assert np.allclose(found.encode(TEXTS, "document"), embed(TEXTS), atol=1e-6)
    assert time.monotonic() - start >= 0.5
    assert found.cost["retries"] == 5


def test_a_server_that_answers_one_at_a_time_is_waited_for(server: FakeServer) -> None:
    """As a full queue or a limit of concurrency does: who is unlucky often is told 429 more often than is tried."""
    busy = Lock()

    def alone(texts: Sequence[Any]) -> NDArray[np.float32]:
        with busy:
            time.sleep(0.05)
            return embed(texts)

    server.embed = alone
    server.refuse = lambda texts: "at most 8" if len(texts) > 8 else None

    class Full(list[Any]):
        """A fault for whoever comes while another is answered."""

        def __bool__(self) -> bool:
            return busy.locked()

        def pop(self, place: Any = -1) -> Any:
            return 429

    server.faults = Full()
    client = Client(server.url, wait=0.1, timeout=5.0, tries=3)
    found = Endpoint(server.url, "fake", client=client, concurrency=16, say=lambda line: None)
    assert np.allclose(found.encode(TEXTS, "document"), embed(TEXTS), atol=1e-6)
    assert client.retries > 8


def test_a_time_out_is_tried_again(server: FakeServer) -> None:
    def slow(answer: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.7)
        return answer

    found = Endpoint(server.url, "fake", client=Client(server.url, wait=0.005, timeout=0.5), say=lambda line: None)
    server.faults = [lambda answer: answer, slow]
    assert np.allclose(found.encode(["x"], "document"), embed(["x"]), atol=1e-6)
    assert found.cost["retries"] == 1


def test_an_answer_that_was_damaged_on_its_way_is_asked_for_again(server: FakeServer) -> None:
    found = endpoint(server)
    server.faults = [lambda answer: answer, lambda answer: Response(b"no gzip", headers={"content-encoding": "gzip"})]
    assert np.allclose(found.encode(["x"], "document"), embed(["x"]), atol=1e-6)
    assert found.cost["retries"] == 1


def test_an_answer_that_ends_too_early_is_asked_for_again(server: FakeServer) -> None:
    found = endpoint(server)
    assert found.dimension == 6
    server.faults = [lambda answer: Response(json.dumps(answer)[:-30]), lambda answer: Response(b"")]
    assert np.allclose(found.encode(["x"], "document"), embed(["x"]), atol=1e-6)
    assert found.cost["retries"] == 2
    server.faults = [lambda answer: Response(json.dumps(answer)[:-30])] * 9
    with pytest.raises(EndpointError, match=r"does not answer.*an answer that is cut off after \d+ bytes, after 8 tries"):
        found.encode(["y"], "document")


@pytest.mark.parametrize("usage", ["none", ["7"], {"prompt_tokens": "7 tokens"}, {"total_tokens": None}], ids=str)
def test_tokens_that_are_not_counted_in_numbers_are_none(server: FakeServer, usage: Any) -> None:
    server.faults = [lambda answer: {**answer, "usage": usage}] * 2
    found = endpoint(server)
    assert np.allclose(found.encode(["x"], "document"), embed(["x"]), atol=1e-6)
    assert "tokens" not in found.cost


def test_what_does_not_pass_is_given_up_and_said(server: FakeServer) -> None:
    server.faults = [500] * 99
    with pytest.raises(EndpointError, match=r"does not answer.*500.*4 tries"):
        endpoint(server).encode(["x"], "document")
    server.faults = [(429, {"retry-after": "4000"})]
    with pytest.raises(EndpointError, match="long pause"):
        endpoint(server).encode(["x"], "document")
    server.faults = [lambda answer: JSONResponse({"error": {"code": "insufficient_quota", "message": "pay"}}, 429)]
    with pytest.raises(EndpointError, match="no quota"):
        endpoint(server).encode(["x"], "document")
    with pytest.raises(EndpointError, match=r"(?s)cannot be asked so.*does not exist.*The server has: fake"):
        Endpoint(server.url, "other").encode(["x"], "document")
    server.models = []
    server.faults = [404]
    with pytest.raises(EndpointError) as told:
        endpoint(server).encode(["x"], "document")
    assert "The server has" not in str(told.value)
    with pytest.raises(EndpointError, match=r"does not answer.*ConnectError"):
        Endpoint("http://127.0.0.1:9/v1", "x", client=Client("http://127.0.0.1:9/v1", wait=0.001)).encode(["x"], "document")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (402, {"message": "Insufficient Balance"}),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}),
        (400, {"code": "Arrearage", "message": "Access denied, please make sure your account is in good standing."}),
        (400, {"type": "budget_exceeded", "message": "Budget has been exceeded! Current cost: 2.1, Max budget: 2.0"}),
        (429, {"code": "1113", "message": "您的账户已欠费，请充值后重试"}),
    ],
    ids=str,
)
def test_an_account_that_is_empty_is_said_whatever_its_status(server: FakeServer, status: int, error: dict[str, Any]) -> None:
    found = endpoint(server)
    assert found.dimension == 6
    server.faults = [lambda answer: JSONResponse({"error": error}, status)] * 9
    with pytest.raises(EndpointError, match=r"(?s)no quota left.*What was answered so far is kept"):
        found.encode(TEXTS, "document")
    assert len(server.faults) == 8


def test_a_quota_of_tokens_a_minute_is_waited_out(server: FakeServer) -> None:
    """Model Studio says of it what OpenAI says of an account without money."""
    found = endpoint(server)
    assert found.dimension == 6
    server.faults = [lambda answer: JSONResponse({"error": {"code": "insufficient_quota", "message": "check your plan"}}, 429)] * 3
    assert np.allclose(found.encode(TEXTS, "document"), embed(TEXTS), atol=1e-6)
    assert found.cost["retries"] == 3


PASSING: list[Any] = [
    {"code": 429, "message": "slow down"}, {"code": "rate_limit_exceeded", "message": "slow down"}, {"status": "RESOURCE_EXHAUSTED"},
    {"type": "overloaded_error", "message": "Overloaded"}, {"code": 502, "message": "upstream"}, {"type": "server_error"},
    {"message": "The model is overloaded, try again."}, "upstream request timed out", {"message": "请求过于频繁"},
]  # fmt: skip


@pytest.mark.parametrize("said", PASSING, ids=str)
def test_an_error_in_an_answer_of_status_200_that_passes_is_tried_again(server: FakeServer, said: Any) -> None:
    found = endpoint(server)
    assert found.dimension == 6
    server.faults = [lambda answer: {"error": said}, lambda answer: {"object": "error", "error": said}]
    assert np.allclose(found.encode(TEXTS, "document"), embed(TEXTS), atol=1e-6)
    assert found.cost["retries"] == 2


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"error": {"code": "invalid_api_key", "message": "no such key"}}, "wants another key.*no such key"),
        ({"error": {"code": "insufficient_quota", "message": "pay"}}, "no quota left.*pay"),
        ({"error": {"code": 404, "message": "no such model"}}, "(?s)cannot be asked so.*no such model.*The server has: fake"),
        ({"error": {"message": "a fault of its own"}}, "cannot be asked so.*status 200 with an error: a fault of its own"),
        ({"error": "a fault of its own"}, "cannot be asked so.*status 200 with an error: a fault of its own"),
        ({"object": "error", "message": "a fault of its own", "code": 40303, "error": ""}, "cannot be asked so.*a fault of its own"),
        ({"error": {"type": "server_error", "message": "down"}}, "does not answer.*down, after 4 tries"),
        ({"data": None, "error": None}, "no list of embeddings"),
    ],
)
def test_an_error_in_an_answer_of_status_200_that_stays_is_said(server: FakeServer, said: Any, named: str) -> None:
    server.faults = [lambda answer: said] * 9
    with pytest.raises(EndpointError, match=named):
        endpoint(server).encode(["x"], "document")


def test_a_refusal_in_an_answer_of_status_200_halves_the_request(server: FakeServer) -> None:
    found = endpoint(server)
    assert found.dimension == 6
    server.faults = [lambda answer: {"error": {"type": "invalid_request_error", "message": "too many inputs"}}]
    assert np.allclose(found.encode(TEXTS, "document"), embed(TEXTS), atol=1e-6)
    assert found.cost["retries"] == 0


def test_an_empty_error_beside_embeddings_is_none(server: FakeServer) -> None:
    server.faults = [lambda answer: answer | {"error": None}] * 2
    assert np.allclose(endpoint(server).encode(["x"], "document"), embed(["x"]), atol=1e-6)


def test_the_number_of_texts_a_request_is_learned_from_refusals(server: FakeServer) -> None:
    server.refuse = lambda texts: "batch size is invalid, it should not be larger than 10" if len(texts) > 10 else None
    found = endpoint(server)
    assert np.allclose(found.encode(TEXTS, "document"), embed(TEXTS), atol=1e-6)
    assert 5 <= found.texts_a_request <= 10
    before = len(server.asked)
    found.encode([text + "!" for text in TEXTS], "document")
    assert len(server.asked) - before == -(-len(TEXTS) // found.texts_a_request)


def test_one_text_that_is_too_long_is_cut_and_the_others_are_not_slowed(server: FakeServer) -> None:
    server.refuse = lambda texts: "maximum context length is 512 tokens" if max(map(len, texts)) > 2000 else None
    heard: list[str] = []
    found = endpoint(server, heard)
    long = "word " * 1000
    rows = found.encode([*TEXTS, long], "document")
    assert np.allclose(rows[:-1], embed(TEXTS), atol=1e-6)
    assert found.texts_a_request == 64
    assert found.cost["texts cut"] == 1
    assert heard[-1] == "fake: 1 text was refused, and cut until taken (the server: status 400: maximum context length is 512 tokens)"
    (sent,) = [text for text in server.texts if text.startswith("word")]
    assert 1000 <= len(sent) <= 2000
    assert long.startswith(sent)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, "input (992 tokens) is too large to process. increase the physical batch size (current batch size: 512)"),
        (500, "the input length exceeds the context length"),
        (429, "Request too large for text-embedding-3-large on tokens per min (TPM): Limit 1000, Requested 1600."),
    ],
)
def test_a_length_that_is_refused_as_a_fault_or_a_limit_is_cut_all_the_same(server: FakeServer, status: int, said: str) -> None:
    """llama.cpp, Ollama and OpenAI."""
    long = "word " * 1000
    refusal = {"error": {"code": status, "message": said}}
    server.refuse = lambda texts: JSONResponse(refusal, status) if max(map(len, texts)) > 2000 else None
    found = endpoint(server)
    assert np.allclose(found.encode([*TEXTS, long], "document")[:-1], embed(TEXTS), atol=1e-6)
    assert (found.cost["texts cut"], found.cost["retries"]) == (1, 0)


def test_a_text_is_cut_below_a_thousand_characters_for_its_length_alone(server: FakeServer) -> None:
    """In Chinese 512 tokens are fewer characters than that."""
    long, said = "保险合同成立后" * 100, "input must have less than 512 tokens"
    server.refuse = lambda texts: JSONResponse({"message": said}, 400) if max(map(len, texts)) > 400 else None
    found = endpoint(server)
    assert found.encode(["a", long], "document").shape == (2, 6)
    assert 300 <= len(max(server.texts, key=len)) <= 400
    said = "inappropriate content"
    with pytest.raises(EndpointError, match=r"(?s)inappropriate content, for a text of 700 characters"):
        endpoint(server).encode([long], "document")


def test_a_short_text_that_is_refused_is_an_error(server: FakeServer) -> None:
    server.refuse = lambda texts: "input cannot be an empty string" if "" in texts else None
    with pytest.raises(EndpointError, match=r"(?s)refuses a text.*empty string.*0 characters.*Leave the empty"):
        endpoint(server).encode(["a", "", "b"], "document")
    server.refuse = lambda texts: "inappropriate content" if any("war" in text for text in texts) else None
    with pytest.raises(EndpointError, match=r"inappropriate content, for a text of 14 characters that begins 'the war of 30y'"):
        endpoint(server, document_prompt="d: ").encode(["a", "the war of 30y", "b"], "document")


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (lambda a: a | {"data": a["data"][:-1]}, "other embeddings than were asked for"),
        (lambda a: a | {"data": [{**each, "index": 0} for each in a["data"]]}, "other embeddings than were asked for"),
        (lambda a: a | {"data": [{**each, "embedding": [*each["embedding"], 0.0]} for each in a["data"]]}, "several dimensions"),
        (lambda a: a | {"data": [*a["data"][1:], {**a["data"][0], "embedding": [1.0]}]}, "several dimensions"),
        (lambda a: a | {"data": [{**each, "embedding": [float("nan")] * 6} for each in a["data"]]}, "not finite"),
        (lambda a: a | {"data": [{**each, "embedding": [None] * 6} for each in a["data"]]}, "not finite"),
        (lambda a: a | {"data": [{**each, "embedding": [float("inf")] * 6} for each in a["data"]]}, "not finite"),
        (lambda a: a | {"data": [{**each, "embedding": [0.0] * 6} for each in a["data"]]}, "of zeros"),
        (lambda a: a | {"data": [{**each, "embedding": []} for each in a["data"]]}, "no list of embeddings"),
        (lambda a: {"choices": []}, "no list of embeddings"),
        (lambda a: Response("<html>nginx</html>"), "no list of embeddings"),
    ],
)
def test_answers_that_no_embeddings_can_be_are_named(server: FakeServer, fault: Any, named: str) -> None:
    found = endpoint(server)
    assert found.dimension == 6
    server.faults = [fault]
    with pytest.raises(EndpointError, match=named):
        found.encode(["a", "b", "c"], "document")


def test_where_a_server_points_elsewhere_is_named(server: FakeServer) -> None:
    server.faults = [(308, {"location": "https://elsewhere/v1/embeddings"})]
    with pytest.raises(EndpointError, match=r"308.* to https://elsewhere/v1/embeddings"):
        endpoint(server).encode(["x"], "document")


def test_a_server_that_takes_no_word_of_the_format_is_asked_without(server: FakeServer) -> None:
    listed = [{"loc": ["body", "encoding_format"], "msg": "'float' is not valid: accepted values are ['base64']"}]
    server.faults = [lambda answer: JSONResponse({"detail": listed}, 422)]
    assert endpoint(server).encode(TEXTS, "document").shape == (150, 6)
    assert not any("encoding_format" in body for body in server.asked)


def test_any_order_and_base64_are_understood(server: FakeServer) -> None:
    def shuffled(answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {"data": answer["data"][::-1]}

    def coded(answer: dict[str, Any]) -> dict[str, Any]:
        for each in answer["data"]:
            each["embedding"] = base64.b64encode(np.array(each["embedding"], dtype="<f4").tobytes()).decode()
        return answer

    found = endpoint(server)
    assert found.dimension == 6
    for fault in (shuffled, coded):
        server.faults = [fault]
        assert np.allclose(found.encode(["a", "b", "c"], "document"), embed(["a", "b", "c"]), atol=1e-6)


def test_embeddings_of_other_lengths_are_normalised_and_said(server: FakeServer) -> None:
    server.embed = lambda texts: 3 * embed(texts)
    heard: list[str] = []
    found = endpoint(server, heard)
    assert np.allclose(found.encode(TEXTS, "document"), embed(TEXTS), atol=1e-6)
    assert "not of length 1 but of 3 to 3" in heard[-1]
    found.encode(["more"], "document")
    assert sum("length 1" in line for line in heard) == 1


def test_dimensions_are_sent_and_a_server_that_ignores_them_is_named(server: FakeServer) -> None:
    assert endpoint(server, dimensions=4).encode(["a"], "query").shape == (1, 4)
    server.faults = [lambda answer: {**answer, "data": [{"index": 0, "embedding": [1.0] * 6}]}]
    with pytest.raises(EndpointError, match="another dimension"):
        endpoint(server, dimensions=4).encode(["a"], "query")


def test_what_leaves_the_machine_is_said_before_it_does(server: FakeServer) -> None:
    heard: list[str] = []
    found = endpoint(server, heard, price=0.5)
    found.encode(["four", "five5"], "query")
    assert heard == [f"fake: sends 2 queries, 9 characters (about 6 tokens, 0.0000 at 0.5 a million), to {found.client.host}"]
    assert found.cost["price"] == round(found.cost["tokens"] / 2e6, 6)
    heard.clear()
    Kept(found).encode([*TEXTS, "x" * 600_000, "y" * 600_000, "z" * 600_000], "document")
    assert len([line for line in heard if "sends 153 documents" in line]) == len([line for line in heard if "sends" in line]) == 1


def test_the_key_comes_from_the_environment_and_stays_out_of_everything(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-default")
    monkeypatch.setenv("OTHER", "sk-secret")
    endpoint(server).encode(["x"], "query")
    assert server.headers[-1]["authorization"] == "Bearer sk-default"
    named = Endpoint(server.url, "fake", key="OTHER", say=lambda line: None)
    named.encode(["x"], "query")
    assert server.headers[-1]["authorization"] == "Bearer sk-secret"
    server.faults = [lambda answer: JSONResponse({"error": {"message": "Incorrect API key: sk-secret"}}, 401)]
    with pytest.raises(EndpointError) as error:
        named.encode(["y"], "query")
    said = f"{error.value}{named!r}{named.client!r}{named.digest}"
    assert "another key" in said
    assert "sk-" not in said
    monkeypatch.setenv("FROM_A_FILE", "sk-secret\n")
    assert Client(server.url, key="FROM_A_FILE")._key == "sk-secret"
    monkeypatch.setenv("TWO_LINES", "sk-one\nsk-two")
    for wrong in ("sk-secret", "UNSET_VARIABLE", "TWO_LINES"):
        with pytest.raises(SettingError) as refused:
            Client(server.url, key=wrong)
        assert "sk-" not in str(refused.value)
    with pytest.raises(SettingError) as refused:
        Client("http://user:hunter2@127.0.0.1/v1")
    assert "hunter2" not in str(refused.value)
    assert Client("http://example.org/v1")._key == ""  # not in the open, unless its variable is named
    assert Client("https://example.org/v1")._key == "sk-default"


@pytest.mark.parametrize("url", ["ftp://host/v1", "nowhere", "http://"])
def test_what_is_no_address_is_named(url: str) -> None:
    with pytest.raises(SettingError, match="no address"):
        Client(url)


def test_the_only_model_is_taken_and_several_are_an_error(server: FakeServer) -> None:
    assert Endpoint(server.url).model == "fake"
    server.models = ["a", "b"]
    with pytest.raises(EndpointError, match="a, b"):
        Endpoint(server.url)
    server.models = []
    with pytest.raises(EndpointError, match="no list of models"):
        Endpoint(server.url)


def test_a_list_of_models_that_a_key_may_not_see_is_none(server: FakeServer) -> None:
    class Hidden(FakeServer):
        async def listed(self, request: Any) -> Response:
            return JSONResponse({"error": "Missing scopes: api.model.read"}, 403)

    with serving(Hidden(embed)) as hidden:
        with pytest.raises(EndpointError, match="no list of models"):
            Endpoint(hidden.url)
        assert endpoint(hidden).encode(["x"], "query").shape == (1, 6)
        assert open_sides(f"{hidden.url}#fake")[0].client.models() == {}


@pytest.mark.parametrize("others", [[], ["another"]])
def test_a_gateway_with_a_name_by_kind_is_asked_for_each(server: FakeServer, others: list[str]) -> None:
    server.models = ["tuned:query", "tuned:document", *others]
    found = Endpoint(server.url, "tuned" if others else None, query_prompt="q: ", say=lambda line: None)
    assert (found.name, found.prompts["query"]) == ("tuned", "q: ")
    found.encode(["a"], "query")
    found.encode(["b"], "document")
    assert [(body["model"], body["input"]) for body in server.asked[1:]] == [("tuned:query", ["q: a"]), ("tuned:document", ["b"])]


def test_retry_after_is_seconds_or_a_date() -> None:
    assert _retry_after("7") == 7
    assert _retry_after("") == _retry_after("soon") == _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    from email.utils import formatdate

    assert 50 < _retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60


RESUMED = """
from homing.encoders import kept
from homing.encoders.endpoint import Endpoint
kept.BLOCK_CHARACTERS = 500
kept.Kept(Endpoint({url!r}, "fake", concurrency=2), {directory!r}).encode([f"text {{n}} " + "x" * 90 for n in range(400)], "document")
"""


def test_a_killed_call_goes_on_and_pays_nothing_twice(server: FakeServer, tmp_path: Path) -> None:
    def slow(texts: Sequence[Any]) -> NDArray[np.float32]:
        time.sleep(0.02)
        return embed(texts)

    server.embed = slow
    script = RESUMED.format(url=server.url, directory=str(tmp_path))
    killed = start(script)
    while len(server.texts) < 200 and killed.is_alive():
        time.sleep(0.01)
    killed.kill()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert exit_code(script) == 0
    sent = [text for text in server.texts if text.startswith("text")]
    assert len(set(sent)) == 400
    assert len(sent) <= 400 + 2 * 64  # what was under way, and the one that tries the kept ones


def test_what_was_answered_before_an_error_is_kept(server: FakeServer, tmp_path: Path) -> None:
    class Revoked(list[Any]):
        """A fault for every request after the fifth."""

        def __bool__(self) -> bool:
            return len(server.asked) >= 5

        def pop(self, place: Any = -1) -> int:
            return 401

    server.faults = Revoked()
    texts = [f"text {number} " + "x" * 200 for number in range(600)]
    with pytest.raises(EndpointError, match="another key"):
        Kept(endpoint(server, concurrency=2), tmp_path).encode(texts, "document")
    server.faults = []
    Kept(endpoint(server, concurrency=2), tmp_path).encode(texts, "document")
    sent = [text for text in server.texts if text.startswith("text")]
    assert len(sent) <= len(texts) + 64 + 1  # what was under way, and the one that tries the kept ones
