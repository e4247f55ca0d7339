"""Verifying servers: each fault that servers are known for is planted in one on loopback, and has to be found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import homing
from fake_server import FakeServer, serving
from homing.cli import main
from homing.encoders.client import Client
from homing.encoders.endpoint import Endpoint
from homing.encoders.faults import Way, Workshop
from homing.encoders.model import Model
from homing.encoders.opening import open_sides
from homing.encoders.pair import Pair
from homing.errors import EndpointError, SettingError
from homing.verifying import Verification, verify
from test_merging import learned
from tiny import tiny_qwen3

Rows = NDArray[np.float32]
Embed = Callable[[Sequence[Any]], Rows]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return Model(tiny_model, document_prompt="passage: ", max_length=96)


@contextmanager
def endpoint(embed: Embed, refuse: Callable[[list[Any]], str | None] = lambda texts: None) -> Iterator[Endpoint]:
    with serving(FakeServer(embed, refuse=refuse)) as server:
        yield Endpoint(server.url, "fake", client=Client(server.url, wait=0.01), say=lambda line: None)


def verified(model: Model | Pair, embed: Embed, **keywords: Any) -> Verification:
    refuse = keywords.pop("refuse", lambda texts: None)
    with endpoint(embed, refuse) as server:
        return verify(model, server, **keywords)


def right(model: Model, change: Callable[[str], str] = lambda text: text) -> Embed:
    """A server that embeds what it gets, or what `change` makes of it, as the model does."""

    def embed(texts: Sequence[str]) -> Rows:
        return model.encode_tokens(tokens(model, [change(text) for text in texts]))

    return embed


def tokens(model: Model, texts: Sequence[str]) -> Any:
    """Tokens of texts that have their prompt."""
    kept, model.prompts["document"] = model.prompts["document"], ""
    try:
        return model.tokenize(texts, "document")
    finally:
        model.prompts["document"] = kept


def by_ids(model: Model, change: Callable[[list[int]], list[int]], pooling: str = "") -> Embed:
    """A server that changes token ids, or pools otherwise."""
    workshop = Workshop(model, "query", "")

    def embed(texts: Sequence[str]) -> Rows:
        return workshop.pooled([change(ids) for ids in workshop.ids(list(texts), truncate=False)])[pooling]

    return embed


def test_a_server_that_lists_no_models_is_asked_all_the_same(model: Model) -> None:
    with serving(FakeServer(right(model), models=[])) as server:
        assert verify(model, open_sides(f"{server.url}#any")[0]).equal


def test_a_server_that_takes_few_texts_a_request_is_asked_by_halves(model: Model) -> None:
    assert verified(model, right(model), refuse=lambda texts: "at most 5" if len(texts) > 5 else None).equal


def test_a_server_of_the_model_is_equal(model: Model) -> None:
    found = verified(model, right(model))
    assert found.equal
    assert not found.findings
    assert (found.flips, found.first) == (0, 0)
    assert all(each.worst < 1e-5 for each in found.compared)
    assert "equal" in str(found)


def unprompted(model: Model, text: str) -> str:
    return text.removeprefix(model.prompts["query"]).removeprefix(model.prompts["document"])


def again(model: Model, text: str) -> str:
    return next((prompt for prompt in model.prompts.values() if text.startswith(prompt)), "") + text


def blanked(model: Model, text: str, change: Callable[[str], str]) -> str:
    for prompt in model.prompts.values():
        if text.startswith(prompt):
            return change(prompt) + text.removeprefix(prompt)
    return text


STRINGS: dict[str, Callable[[Model, str], str]] = {
    "missing prompt": unprompted,
    "doubled prompt": again,
    "a blank too many behind the prompt": lambda model, text: blanked(model, text, lambda prompt: prompt + " "),
    "a blank too few behind the prompt": lambda model, text: blanked(model, text, lambda prompt: prompt.removesuffix(" ")),
    "line breaks turned into blanks": lambda model, text: text.replace("\n", " "),
    "line breaks written as \\n": lambda model, text: text.replace("\n", "\\n"),
    "the other side's prompt": lambda model, text: model.prompts["query"] + unprompted(model, text),
    "a blank before the text": lambda model, text: " " + text,
    "a blank behind the text": lambda model, text: text + " ",
    "lower case": lambda model, text: text.lower(),
}


@pytest.mark.parametrize("fault", STRINGS)
def test_what_happens_to_strings_is_named(model: Model, fault: str) -> None:
    found = verified(model, right(model, lambda text: STRINGS[fault](model, text)))
    assert not found.equal
    named = [each.what for each in found.findings if each.fails]
    assert named == [fault], str(found)
    assert all(each.remedy for each in found.findings)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_another_pooling_is_named(model: Model, pooling: str) -> None:
    limit = lambda ids: ids if len(ids) <= 96 else [*ids[:95], ids[-1]]  # noqa: E731
    found = verified(model, by_ids(model, limit, f"pooling {pooling}"))
    assert [each.what for each in found.findings if each.fails] == [f"pooling {pooling}, where the model's is lasttoken"], str(found)


def test_another_pooling_of_minilm_is_named(minilm: Path) -> None:
    model = Model(minilm, max_length=64)
    limit = lambda ids: ids if len(ids) <= 64 else [*ids[:63], ids[-1]]  # noqa: E731
    for pooling in ("cls", "max"):
        found = verified(model, by_ids(model, limit, f"pooling {pooling}"))
        assert [each.what for each in found.findings if each.fails] == [f"pooling {pooling}, where the model's is mean"], str(found)
    assert verified(model, right(model)).equal


def test_a_lost_and_a_doubled_end_token_are_named(model: Model) -> None:
    limit = lambda ids: ids if len(ids) <= 96 else [*ids[:95], ids[-1]]  # noqa: E731
    found = verified(model, by_ids(model, lambda ids: limit(ids)[:-1]))
    assert "lost end token" in [each.what for each in found.findings]
    found = verified(model, by_ids(model, lambda ids: [*limit(ids), ids[-1]]))
    assert "end token twice" in [each.what for each in found.findings]


def test_two_faults_together_are_both_named(model: Model) -> None:
    """A server that pools the mean, asked by a client that forgets the prompt."""
    workshop = Workshop(model, "query", "")

    def embed(texts: Sequence[str]) -> Rows:
        return workshop.pooled(workshop.ids([unprompted(model, text) for text in texts]))["pooling mean"]

    named = {each.what for each in verified(model, embed).findings}
    assert named == {"missing prompt", "pooling mean, where the model's is lasttoken"}


@pytest.mark.parametrize(
    ("cut", "named"),
    [
        (lambda ids: [*ids[:31], ids[-1]] if len(ids) > 32 else ids, "long texts are cut at 32 tokens, end token kept"),
        (lambda ids: ids[:64], "long texts are cut at 64 tokens, end token lost"),
        (lambda ids: ids[-64:], "long texts are cut at 64 tokens, beginning cut off"),
        (lambda ids: [*ids[:69], ids[-1]] if len(ids) > 70 else ids, "long texts are cut somewhere before 96 tokens"),
        (lambda ids: ids, "texts are read beyond the 96 tokens that the model was measured with"),
    ],
)
def test_where_long_texts_are_cut_is_named(tiny_model: Path, cut: Callable[[list[int]], list[int]], named: str) -> None:
    model = Model(tiny_model, query_prompt="q: ", max_length=96)
    found = verified(model, by_ids(model, cut))
    assert [each.what for each in found.findings if each.fails] == [named], str(found)


def test_refused_lengths_are_named(model: Model) -> None:
    counted = Workshop(model, "query", "")
    found = verified(model, right(model), refuse=lambda texts: "long" if max(map(len, counted.ids(texts, truncate=False))) > 96 else None)
    assert found.equal
    assert "refused" in found.findings[0].what
    found = verified(model, right(model), refuse=lambda texts: "long" if max(map(len, counted.ids(texts, truncate=False))) > 80 else None)
    assert not found.equal
    assert "refused (status 400: long)" in found.findings[0].what


@pytest.mark.parametrize("limit", [8, 16, 32, 64])
def test_a_model_that_reads_little_is_sent_what_it_reads(tiny_model: Path, limit: int) -> None:
    model = Model(tiny_model, query_prompt="q: ", max_length=limit)
    counted = Workshop(model, "query", "")
    lengths: list[int] = []

    def refuse(texts: list[Any]) -> str | None:
        lengths.append(max(map(len, counted.ids(texts, truncate=False))))
        return "long" if lengths[-1] > limit else None

    found = verified(model, right(model), refuse=refuse)
    assert found.equal, str(found)
    assert [each.what for each in found.findings] == [f"texts longer than {limit} tokens are refused; the model cuts them"]
    assert sum(length > limit for length in lengths) == 2  # the long text, of each side
    if limit > 8:
        named = {each.what for each in verified(model, by_ids(model, lambda ids: ids[: limit // 2])).findings}
        assert f"long texts are cut at {limit // 2} tokens, end token lost" in named


def test_a_prompt_that_leaves_no_room_is_an_error(tiny_model: Path) -> None:
    with pytest.raises(SettingError, match="0 different query texts"):
        verified(full := Model(tiny_model, max_length=8), right(full))


def test_length_is_named(model: Model) -> None:
    embed = right(model)
    found = verified(model, lambda texts: 7 * embed(texts))
    assert [each.what for each in found.findings] == ["embeddings are not of length 1 but of 7 to 7"]
    assert not found.equal


@pytest.mark.parametrize(
    ("damage", "fails"),
    [
        (lambda rows: rows.astype(np.float16).astype(np.float32), False),
        (lambda rows: (rows.view(np.uint32) & 0xFFFF0000).view(np.float32), False),
        (lambda rows: np.round(rows * 24) / 24, True),
        (lambda rows: rows + 0.004 * np.sin(1e4 * rows), False),
    ],
)
def test_damage_of_number_formats_is_told_by_its_size(model: Model, damage: Callable[[Rows], Rows], fails: bool) -> None:
    embed = right(model)
    found = verified(model, lambda texts: damage(embed(texts)))
    assert found.equal is not fails, str(found)
    if max(each.worst for each in found.compared) > 1e-5:
        assert any("less precision" in each.what or "rounded" in each.what for each in found.findings)
    strict = verified(model, lambda texts: damage(embed(texts)), tolerance=1e-6)
    assert not strict.equal or max(each.worst for each in found.compared) < 1e-5
    unsaid = [each.remedy for each in strict.findings if each.fails and "less precision" in each.what]
    assert all("which directory it was started with" in each for each in unsaid)  # nearly the same weights are the other explanation


def test_weights_that_are_nearly_the_models_are_no_cut(model: Model) -> None:
    """Short texts and long ones come out a little apart: as after a few updates."""
    embed = right(model)
    turn = np.eye(model.dimension) + 0.02 * np.random.default_rng(0).normal(size=(model.dimension, model.dimension))
    found = verified(model, lambda texts: embed(texts) @ turn)
    assert 0.002 < max(each.worst for each in found.compared) < 0.1
    assert not found.equal
    assert not [each.what for each in found.findings if "cut" in each.what]


def test_other_weights_are_named(model: Model, tmp_path: Path) -> None:
    other = Model(tiny_qwen3(tmp_path / "other", seed=7), max_length=96)
    found = verified(model, right(other))
    assert not found.equal
    assert "other embeddings altogether" in found.findings[0].what
    assert found.flips > 0


def test_the_untrained_base_is_named_whatever_flags_it_was_opened_with(tiny_model: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(tiny_model, tmp_path / "bare", ignore=shutil.ignore_patterns("modules.json", "1_Pooling")))
    base = Model(bare, pooling="lasttoken", document_prompt="passage: ", max_length=96, device="cpu")
    tuned = homing.merge(base, learned(base, "lora", tmp_path / "adapter"), out=tmp_path / "model")
    assert verified(tuned, right(base)).findings[0].what == "the weights of the untrained base"
    (bare / "config.json").unlink()
    assert "other embeddings altogether" in verified(tuned, right(base)).findings[0].what


def test_shorter_embeddings_are_named(model: Model) -> None:
    embed = right(model)
    found = verified(model, lambda texts: embed(texts)[:, :32] / np.linalg.norm(embed(texts)[:, :32], axis=1, keepdims=True))
    assert [each.what for each in found.findings if each.fails] == ["embeddings of 32 numbers, the model's have 64"]


def test_dimensions_of_an_address_are_asked_for_and_compared(model: Model) -> None:
    class Deaf(FakeServer):
        def answer(self, body: dict[str, Any], inputs: list[Any]) -> dict[str, Any]:
            return super().answer({name: body[name] for name in body if name != "dimensions"}, inputs)

    with serving(FakeServer(right(model))) as server, serving(Deaf(right(model))) as deaf:
        found, told = (verify(model, open_sides(f"{each.url}?dimensions=32#fake")[0]) for each in (server, deaf))
        assert found.equal, str(found)
        assert {body["dimensions"] for body in server.asked} == {32}
    assert [each.what for each in told.findings if each.fails] == ["embeddings of 64 numbers, asked for were 32"]


def test_texts_mixed_up_and_texts_that_depend_on_their_company_are_named(model: Model) -> None:
    embed = right(model)
    found = verified(model, lambda texts: embed(texts)[::-1])
    assert all("another text of the request" in each.what for each in found.findings)
    assert not found.equal

    def padded(texts: Sequence[str]) -> Rows:
        """Left padding without a mask: shorter texts see it."""
        workshop = Workshop(model, "query", "")
        rows = workshop.ids(list(texts))
        width = max(map(len, rows))
        pad = model.transformer.tokenizer.pad_token_id
        return workshop.pooled([[pad] * (width - len(row)) + row for row in rows])[""]

    found = verified(model, padded)
    assert any("depends on what else" in each.what for each in found.findings), str(found)


def test_bare_texts_are_for_servers_that_put_prompts(model: Model) -> None:
    told = lambda kind: lambda texts: model.encode(list(texts), kind)  # noqa: E731
    with endpoint(told("query")) as queries, endpoint(told("document")) as documents:
        assert verify(model, queries, documents, bare=True).equal
        found = verify(model, queries, bare=True)  # one prompt for both
    assert [(each.what, each.kinds) for each in found.findings] == [("the other side's prompt", ("document",))]
    found = verified(model, right(model), bare=True)
    assert [(each.what, each.kinds) for each in found.findings] == [("missing prompt", ("query", "document"))]


def test_both_sides_of_a_pair_are_compared_with_their_own_model(tiny_model: Path, tmp_path: Path) -> None:
    base, tuned = Model(tiny_model, max_length=64), Model(tiny_qwen3(tmp_path / "tuned", seed=3), max_length=64)
    pair = Pair(tuned, base)
    with endpoint(right(tuned)) as queries, endpoint(right(base)) as documents:
        assert verify(pair, queries, documents).equal
        swapped = verify(pair, queries, queries)
    assert [(each.what, each.kinds) for each in swapped.findings if each.fails] == [
        ("the weights of the model of the other side", ("document",))
    ], str(swapped)


def test_homing_serve_is_asked_with_its_task_too(model: Model) -> None:
    def embed(texts: Sequence[str]) -> Rows:
        return right(model)(texts)

    class Homing(FakeServer):
        def answer(self, body: dict[str, Any], inputs: list[Any]) -> dict[str, Any]:
            prompt = model.prompts[body["task"]] if "task" in body and not self.forgets else ""
            return super().answer(body, [prompt + text for text in inputs])

        async def listed(self, request: Any) -> Any:
            from starlette.responses import JSONResponse

            return JSONResponse({"data": [{"id": "fake", "fingerprint": "f", "max_model_len": 96}]})

        forgets = False

    with serving(Homing(embed)) as server:
        found = verify(model, Endpoint(server.url, "fake"))
        assert found.equal, str(found)
        assert {each.sent for each in found.compared} == {"with prompts", "with task"}
        server.forgets = True  # type: ignore[attr-defined]
        assert [each.what for each in verify(model, Endpoint(server.url, "fake")).findings] == ["missing prompt (sent with task)"]


def test_a_way_names_its_faults() -> None:
    assert Way().faults == ()
    assert Way("missing prompt", "", "pooling mean").faults == ("missing prompt", "pooling mean")


def test_too_little_and_no_server_are_errors(model: Model) -> None:
    with pytest.raises(SettingError, match="too little"):
        verified(model, right(model), queries=["a", "a"])
    for none in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(SettingError, match="tolerance"):
            verified(model, right(model), tolerance=none)
    gone = Endpoint("http://127.0.0.1:9/v1", "x", client=Client("http://127.0.0.1:9/v1", wait=0.001))
    with pytest.raises(EndpointError, match="does not answer"):
        verify(model, gone)


def test_the_verb(tiny_model: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Model(tiny_model)
    for embed, code, arguments in (
        (right(model), 0, ["--data", str(made)]),
        (right(model, str.lower), 3, []),
        (right(model), 0, ["--json"]),
    ):
        with endpoint(embed) as server, pytest.raises(SystemExit) as stop:
            main(["verify", str(tiny_model), "--endpoint", server.client.url, *arguments])
        printed = capsys.readouterr().out
        assert stop.value.code == code, printed
        assert all(len(line) <= 140 for line in printed.splitlines())
    assert json.loads(printed)["equal"] is True
