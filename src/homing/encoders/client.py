"""An OpenAI-compatible server asked for embeddings or judgments: patient with what passes, plain about what does not."""

from __future__ import annotations

import base64
import binascii
import json
import os
import random
import re
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from typing import Any, NamedTuple

import httpx2
import numpy as np
import orjson
from numpy.typing import NDArray

from homing.errors import EndpointError, SettingError

DEFAULT_KEY = "OPENAI_API_KEY"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
REFUSALS = (400, 413, 422)
UNLISTED = (400, 403, 404, 405)  # of a list of models: there is none, or not for this key
LONGEST_WAIT = 300.0  # seconds; a server that asks for more is not waited for
LONGEST_BACK_OFF = 60.0
# What an error without a number means, by the words of its code, type or status; the first that fits counts.
MEANINGS = (
    (re.compile(r"rate.?limit|too.?many.?requests|throttl|exhausted|quota"), 429),
    (re.compile(r"auth|api.?key|permission|forbidden"), 401),
    (re.compile(r"not.?found"), 404),
    (re.compile(r"overload|unavailable|time.?out|deadline|capacity|internal|server.?error"), 503),
    (re.compile(r"invalid|bad.?request|too.?long|context.?length|unsupported|moderation|content.?(filter|policy)"), 400),
)
PASSES = re.compile(
    r"rate.?limit|too many requests|overload|tim(ed|e).?out|try again|稍后|频繁|繁忙|限流|过载"
)  # in its message: try again
# A refusal that comes as a fault or a limit: llama.cpp says 500 to a text that is too long, OpenAI 429 to more than a minute's tokens.
TOO_LARGE = re.compile(
    r"(input|prompt|text)s?\b[^.]{0,40}\btoo (large|long|big)|request too large|context.?(length|size|window)|physical batch", re.IGNORECASE
)
UNPAID = re.compile(
    r"insufficient.{0,12}(balance|credit|fund)|balance.{0,12}insufficient|arrearage|overdue|budget.{0,12}exceeded|"
    r"free tier.{0,30}exhausted|欠费|余额不足", re.IGNORECASE
)  # fmt: skip


class RefusedError(EndpointError):
    """The server takes this request not as it stands: too many texts, one too long, a parameter that it doesn't know."""


class Said(NamedTuple):
    """What a chat model said: its text, its refusal (empty where there is none), the tokens in and out, and whether it was `cut` off at
    the most that it was allowed."""

    text: str
    refusal: str
    tokens: tuple[int, int]
    cut: bool


class Client:
    """Speaks to `URL/embeddings`, `URL/chat/completions` and `URL/models`, from several threads at once.

    429, time-outs, 5xx and broken connections are tried again after a back-off that doubles and is drawn at random up to its half, or
    after what the server's Retry-After says; where one request is told to wait, all of them do, and as long as others are answered, 429 is
    no reason to give up. An answer of status 200 that holds an
    error in place of what was asked for, as gateways give it, counts as the status that the error means.

    The key is read from the environment variable that `key` names, by default OPENAI_API_KEY where it is set; it is in no message, no
    repr and nothing that is kept. Over http it goes to this machine alone unless its variable is named.

    `host` is the address's, with its port; `on_this_machine` tells whether that is a loopback address, so that nothing leaves the machine.
    `retries` counts what was tried again; while `stop` is set, nothing is. Raises SettingError for an address that is none or that
    carries a password, and for a variable that is not set.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 60.0, tries: int = 8, wait: float = 1.0) -> None:
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL:
            parsed = httpx2.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise SettingError("the endpoint is no address", where=url, expected="like http://127.0.0.1:8000/v1")
        if parsed.userinfo:
            raise SettingError(
                "an endpoint's address holds no password", where=parsed.host, remedy="Name an environment variable: ?key=NAME."
            )
        self.url, self.host = str(parsed).rstrip("/").removesuffix("/embeddings"), parsed.host
        self.on_this_machine = parsed.host in LOOPBACK
        if parsed.port is not None:
            self.host += f":{parsed.port}"
        self.retries, self._tries, self._wait = 0, tries, wait
        self._format = {"encoding_format": "float"}  # the API's default, which not every gateway takes for its own
        self._not_before, self._answered, self._lock = 0.0, 0, Lock()
        self.stop = Event()
        self._key = _key(key, open_line=parsed.scheme == "http" and not self.on_this_machine)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
        self._http = httpx2.Client(headers=headers, timeout=timeout, limits=limits)
        weakref.finalize(self, self._http.close)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def models(self, tries: int = 3) -> dict[str, dict[str, Any]]:
        """What the server says of each model that it serves, by name; empty where it has no such list, as text-embeddings-inference, or
        doesn't show it to this key.

        Raises EndpointError.
        """
        try:
            said = json.loads(self._ask("GET", "/models", None, tries))
            return {str(each["id"]): dict(each) for each in said["data"]}
        except (ValueError, KeyError, TypeError):
            return {}

    def embeddings(
        self, model: str, texts: Sequence[str] | Sequence[Sequence[int]], tries: int | None = None, **parameters: Any
    ) -> tuple[NDArray[np.float32], int]:
        """Embeddings of texts (or of token ids) as the server gives them, shape (texts, dimension), and the tokens that it counted.

        Raises RefusedError for a request that it doesn't take, EndpointError where it cannot be reached, or answers with something else
        than one embedding a text, all of one length and of finite numbers.
        """
        body, form = {"model": model, "input": texts, **parameters}, self._format
        try:
            content = self._ask("POST", "/embeddings", orjson.dumps({**body, **form}), tries)
        except RefusedError as error:
            if not form or "encoding_format" not in error.got:
                raise
            self._format = {}  # Voyage takes base64 or no word of it
            content = self._ask("POST", "/embeddings", orjson.dumps(body), tries)
        try:
            answer = _json(content)
            data, usage = answer["data"], answer.get("usage")
            places = [place if each.get("index") is None else int(each["index"]) for place, each in enumerate(data)]
            rows: list[Any] = [None] * len(data)
            for place, each in zip(places, data, strict=True):
                rows[place] = _row(each["embedding"])
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, binascii.Error):
            raise self._wrong(
                "is no list of embeddings", content[:80].decode("utf-8", "replace"), 'like {"data": [{"embedding": ...}]}'
            ) from None
        if len(rows) != len(texts) or sorted(places) != list(range(len(texts))):
            raise self._wrong(
                "holds other embeddings than were asked for", f"{len(rows)} with indexes {places[:8]}", f"{len(texts)}, one a text"
            )
        lengths = {len(row) for row in rows}
        if len(lengths) > 1:
            raise self._wrong("holds embeddings of several dimensions", ", ".join(map(str, sorted(lengths))), "one dimension")
        found = np.stack(rows)
        if not np.isfinite(found).all():
            bad = int((~np.isfinite(found).all(axis=1)).sum())
            raise self._wrong("holds numbers that are not finite", f"{bad} of {len(rows)} embeddings", "finite numbers")
        return found, _tokens(usage, "prompt_tokens") or _tokens(usage, "total_tokens")

    def chat(self, model: str, messages: Sequence[dict[str, str]], **parameters: Any) -> Said:
        """The answer of a chat model.

        Raises RefusedError for a request that the server doesn't take, EndpointError where it cannot be reached or answers something else.
        """
        content = self._ask("POST", "/chat/completions", orjson.dumps({"model": model, "messages": messages, **parameters}))
        try:
            answer = _json(content)
            choice, usage = answer["choices"][0], answer.get("usage")
            message = choice["message"]
            said, refusal = _text(message.get("content")), message.get("refusal") or ""
            if not said and choice.get("finish_reason") == "stop":  # vLLM's reasoning parsers take an answer without thoughts for a thought
                said = message.get("reasoning_content") or message.get("reasoning") or ""
            if choice.get("finish_reason") == "content_filter":
                refusal = refusal or "content filter"
            used = _tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise self._wrong(
                "is no chat completion", content[:80].decode("utf-8", "replace"), 'like {"choices": [{"message": ...}]}', "chat"
            ) from None
        return Said(str(said), str(refusal), used, choice.get("finish_reason") == "length")

    def _wrong(self, what: str, got: str, expected: str, kind: str = "embedding") -> EndpointError:
        return EndpointError(
            f"the server's answer {what}", where=self.url, got=self._clean(got), expected=expected,
            remedy=f"Check the address and the model's name, and that the server serves {kind} models.",
        )  # fmt: skip

    def _ask(self, method: str, path: str, body: bytes | None, tries: int | None = None) -> bytes:
        tries, failures, answered = tries or self._tries, 0, self._answered
        while failures < tries:
            self._pause(self._not_before - time.monotonic())
            asked, status = 0.0, 0
            try:
                answer = self._http.request(method, self.url + path, content=body, headers={"Content-Type": "application/json"})
            except httpx2.RequestError as error:
                problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            else:
                status = answer.status_code
                failed = _failed(answer.content) if status == 200 else None
                ended = status != 200 or not _cut_off(answer.content)
                if (status == 200 and failed is None and ended) or (method == "GET" and status in UNLISTED):
                    self._answered += method == "POST"
                    return answer.content
                problem = f"status {status}{' with an error' if failed is not None else ''}: {_message(answer)}"
                status = status if failed is None else _status(failed)
                asked = _retry_after(answer.headers.get("retry-after", ""))
                if ended:
                    self._give_up(answer, status, problem, asked)
                else:
                    problem = f"status 200 with an answer that is cut off after {len(answer.content):,} bytes"
            busy = status == 429 and self._answered != answered  # it answers others, and this one's turn comes
            failures, answered = 0 if busy else failures + 1, self._answered
            if failures < tries:
                back_off = min(LONGEST_BACK_OFF, self._wait * 2 ** max(0, failures - 1)) * random.uniform(0.5, 1.0)
                with self._lock:
                    self.retries += 1
                    if status == 429:
                        self._not_before = max(self._not_before, time.monotonic() + max(asked, back_off))
                self._pause(max(asked, back_off))
        raise EndpointError(
            "the server does not answer", where=self.url, got=f"{self._clean(problem)}, after {tries} tries",
            remedy="Check the address and that the server is up; what was answered so far is kept, and the same command goes on.",
        )  # fmt: skip

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(max(0.0, seconds)):
            raise EndpointError("the request was called off", where=self.url)

    def _give_up(self, answer: httpx2.Response, status: int, problem: str, asked: float) -> None:
        """Raise what another try would not mend."""
        problem = self._clean(problem)
        # Model Studio says insufficient_quota of a limit of tokens a minute too: whom it has answered, it will answer again.
        if status == 402 or UNPAID.search(problem) or ("insufficient_quota" in problem and not self._answered):
            raise EndpointError("the account has no quota left", where=self.url, got=problem, remedy="What was answered so far is kept.")
        if status in REFUSALS or ((status == 429 or status >= 500) and TOO_LARGE.search(problem)):
            raise RefusedError("the server refuses the request", where=self.url, got=problem)
        if status in (401, 403):
            remedy = "Check the key in the environment variable." if self._key else f"Set {DEFAULT_KEY}, or name the variable: ?key=NAME."
            raise EndpointError("the server wants another key", where=self.url, got=problem, remedy=remedy)
        if asked > LONGEST_WAIT:
            raise EndpointError(
                "the server asks for a long pause",
                where=self.url,
                got=f"{problem}; {asked:.0f} s",
                remedy="Go on later: what was answered is kept.",
            )
        if status != 429 and status != 408 and status < 500:
            remedy = "Check the address (it ends in /v1 with most servers) and the model's name."
            if answer.has_redirect_location:
                problem += f" to {self._clean(answer.headers['location'])}"
                remedy = "Give the address that it names: no text and no key follows to wherever a server points."
            elif answer.request.method == "POST":
                with suppress(EndpointError):
                    names = ", ".join(sorted(self.models())[:8])
                    remedy += f" The server has: {names}." if names else ""
            raise EndpointError("the server cannot be asked so", where=self.url, got=problem, remedy=remedy)

    def _clean(self, said: str) -> str:
        """What a server said, without the key, on one line."""
        said = " ".join(said.split())
        return (said.replace(self._key, "[key]") if self._key else said)[:300]


def about_tokens(text: str) -> int:
    """About how many tokens a text is: a quarter of its bytes, which suits English and Chinese, and a few more for its marks."""
    return len(text.encode("utf-8", "replace")) // 4 + 2


def _key(variable: str | None, open_line: bool) -> str:
    if variable is None and open_line:
        return ""
    said = os.environ.get(variable or DEFAULT_KEY, "").strip()  # a file's key ends in a line break
    if variable is not None and (not variable.isidentifier() or not said):
        raise SettingError(
            "a key's name is that of an environment variable that is set", expected=f"like {DEFAULT_KEY}",
            remedy="export NAME=... first. A key itself never stands in a command: other users of a machine can read those.",
        )  # fmt: skip
    if not (said.isascii() and said.isprintable()):
        raise SettingError("the key holds what no header can", where=variable or DEFAULT_KEY, expected="printable ASCII on one line")
    return said


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:  # NaN and Infinity, which are no JSON and which some servers write
        return json.loads(content)


def _text(content: Any) -> str:
    """The text of a message, which may come in parts, thoughts among them."""
    if isinstance(content, list):
        return "".join(str(part["text"]) for part in content if part.get("type", "text") == "text")
    return str(content or "")


def _row(said: Any) -> NDArray[np.float32]:
    row = np.frombuffer(base64.b64decode(said, validate=True), "<f4") if isinstance(said, str) else np.array(said, dtype=np.float32)
    if row.ndim != 1 or not len(row):
        raise ValueError
    return row


def _tokens(usage: Any, name: str) -> int:
    """Tokens that a server counted, 0 where it doesn't say so in a number."""
    said = usage.get(name) if isinstance(usage, dict) else None
    return said if isinstance(said, int) else 0


def _cut_off(content: bytes) -> bool:
    """Whether an answer is nothing, or a JSON object without its end."""
    content = content.strip()
    return not content or (content.startswith(b"{") and not content.endswith(b"}"))


def _failed(content: bytes) -> Any:
    """The error that an answer of status 200 holds in place of embeddings or choices, or in its first choice; None where it is none."""
    if b'"error"' not in content:
        return None
    try:
        said = _json(content)
        if said.get("data"):
            return None
        if choices := said.get("choices"):
            return choices[0].get("error")
        return said.get("error") or (said if said.get("object") == "error" else None)
    except (ValueError, AttributeError, TypeError, LookupError):
        return None


def _status(error: Any) -> int:
    """The HTTP status that an error means: the number that it holds, or what its words say; 200 where neither tells."""
    said = error if isinstance(error, dict) else {"message": error}
    named = [str(said[name]) for name in ("code", "status", "status_code", "type") if said.get(name)]
    numbers = [int(each) for each in named if re.fullmatch("[45][0-9][0-9]", each)]
    if numbers:
        return numbers[0]
    meant = next((status for word in named for meaning, status in MEANINGS if meaning.search(word.lower())), 0)
    return meant or (429 if PASSES.search(str(said.get("message", "")).lower()) else 200)


def _message(answer: httpx2.Response) -> str:
    """The error that a server wrote, wherever in its answer it stands."""
    try:
        said = answer.json()
        choices = said.get("choices")
        error = said.get("error") or said.get("message") or said.get("detail") or (choices and choices[0].get("error")) or said
        if isinstance(error, dict):
            return " ".join(str(error[name]) for name in ("code", "message") if error.get(name)) or str(error)
        return str(error)
    except (ValueError, AttributeError, LookupError, TypeError):
        return answer.text[:300]


def _retry_after(said: str) -> float:
    """Seconds that a Retry-After header asks for, 0 for none; it holds seconds or a date (RFC 9110, 10.2.3)."""
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
