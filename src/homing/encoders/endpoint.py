"""A model behind an OpenAI-compatible API as an encoder."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from homing.arguments import demand_texts
from homing.encoders.client import Client, RefusedError, about_tokens
from homing.encoders.directory import prompts
from homing.encoders.repeated import each_once
from homing.encoders.underway import UnderWay
from homing.errors import EndpointError, SettingError
from homing.progress import BAR, Say
from homing.protocols import Kind
from homing.settings import Encoding

PROBE = "Homing asks for one embedding."
TEXTS_A_REQUEST = 64
TOKENS_A_REQUEST = 16_384
SHORTEST_CUT, LEAST_CUT = 1_000, 32  # characters; a text is refused at the first for another reason, unless the server speaks of length
OF_LENGTH = re.compile(r"length|long|large|token|status 413|超|长度", re.IGNORECASE)
LENGTH_OFF = 1e-2  # of an embedding, from 1: beyond what number formats do
KEPT_EVERY = 10.0  # seconds: what a kill can cost
Answer = tuple[NDArray[np.float32], int]
Keep = Callable[[Sequence[str], NDArray[np.float32]], None]


def of_each_kind(served: Collection[str]) -> dict[Kind, str]:
    """The names by kind where homing serve has a query encoder and its documents' model, and nothing else; empty for any other server."""
    name = min(served, default="").removesuffix(":document")
    found: dict[Kind, str] = {"query": f"{name}:query", "document": f"{name}:document"}
    return found if {*served} == {*found.values()} else {}


def to_stderr(line: str) -> None:
    """Who hears what an encoder says, unless somebody else is named."""
    print(line, file=sys.stderr)


@dataclass(eq=False)
class _Batch:
    """The texts of a request. Where both halves of a refused one are taken as they are, their number was the matter, not one of them."""

    texts: list[int]
    refused: _Batch | None = None
    taken: int = 0

    def halves(self) -> list[_Batch]:
        middle = len(self.texts) // 2
        return [_Batch(self.texts[:middle], self), _Batch(self.texts[middle:], self)]

    def learned(self) -> int:
        """This batch was taken: how many texts a request may have, as far as is known by now."""
        if self.refused is None:
            return TEXTS_A_REQUEST
        self.refused.taken += 1
        return -(-len(self.refused.texts) // 2) if self.refused.taken == 2 else TEXTS_A_REQUEST


class Endpoint:
    """An `Encoder` over `URL/embeddings` of an OpenAI-compatible server (OpenAI, vLLM, TEI, homing serve ...).

    Prompts are put before the texts here, as with a local model: those that are given, or that the server lists for its model, as homing
    serve does; other servers don't say which prompts a model was trained with, and there are none. Embeddings are brought to length 1 here;
    `say` hears it where the server doesn't do that.

    Texts of like lengths go into a request, `concurrency` requests at a time, limited by estimated tokens and by a number of texts. A
    request that the server refuses is halved: where both halves are taken, later ones are no larger, and a text that is refused alone is
    cut until it is taken, and `say` hears how many were. Before the first request of a call `say` hears what leaves this machine, and what
    it costs where a `price` (of a million tokens) is given.

    `model`: by default the only one that the server has. Where it has no NAME, but NAME:query and NAME:document, each kind is asked of its
    own; homing serve, which has these for a query encoder beside its documents' model, puts their prompts. `dimensions` is sent along where
    it is given. `key` names an environment variable; see `Client` for it and for what is tried again. Raises SettingError, also for a
    prompt where the server puts its own, and on first use EndpointError, which names what the server does wrong.
    """

    def __init__(
        self, url: str, model: str | None = None, *, key: str | None = None, dimensions: int | None = None, price: float | None = None,
        query_prompt: str | None = None, document_prompt: str | None = None, instruction: str | None = None,
        name: str | None = None, concurrency: int = 8, client: Client | None = None, say: Say = to_stderr,
    ) -> None:  # fmt: skip
        self.client = client or Client(url, key=key)
        served = dict[str, dict[str, Any]]()
        with suppress(EndpointError) if model else nullcontext():
            served = self.client.models(tries=1 if model else 3)
        self.model = model or self._only_model(sorted(served))
        self.name = name or self.model.rstrip("/").rsplit("/", 1)[-1]
        sides: dict[Kind, str] = {"query": f"{self.model}:query", "document": f"{self.model}:document"}
        self._sides = sides if {*sides.values()} <= {*served} and self.model not in served else {}
        own = served.get(self.model, {}).get("prompts") if f"{self.model}:query" in served else None
        self.prompts = prompts(own if isinstance(own, dict) else {}, None, Encoding(query_prompt, document_prompt, instruction))
        if any(self.prompts[kind] and served[side].get("prompt") for kind, side in self._sides.items()):
            raise SettingError(
                "the server puts the prompts of its two models itself", where=self.client.url, got=f"prompts {self.prompts}",
                remedy="Give none, or say ?query_prompt=&document_prompt= in its address where they are meant for other models.",
            )  # fmt: skip
        self.dimensions, self.price, self.concurrency = dimensions, price, concurrency
        self.texts_a_request = TEXTS_A_REQUEST
        self._say, self._announced, self._dimension = say, 0, 0
        self._texts = self._tokens = self._requests = self._cut = 0
        self._seconds, self._lengths = 0.0, (1.0, 1.0)

    def __repr__(self) -> str:
        return f"Endpoint({self.client.url!r}, {self.model!r})"

    def _only_model(self, served: Sequence[str]) -> str:
        """The only model among these names, of which homing serve has several for one."""
        names = {each.removesuffix(":query").removesuffix(":document") for each in served}
        if len(served) == 1:
            names = {*served}
        if len(names) != 1:
            raise EndpointError(
                "which model of the server is meant is not said", where=self.client.url, got=", ".join(served[:8]) or "no list of models",
                remedy="Name it behind a #: http://127.0.0.1:8000/v1#MODEL.",
            )  # fmt: skip
        return names.pop()

    @property
    def digest(self) -> str:
        """Changes with address, model, dimensions and prompts. `Kept` tries for what a server changes behind a name."""
        return self._digest(self.model, self.prompts)

    def digest_of(self, kind: Kind) -> str:
        """As `digest`, with the prompt of this kind alone."""
        return self._digest(self._sides.get(kind, self.model), {kind: self.prompts[kind]})

    def _digest(self, model: str, said: dict[Kind, str]) -> str:
        return sha256(json.dumps(["endpoint", self.client.url, model, self.dimensions, said], sort_keys=True).encode()).hexdigest()[:32]

    @property
    def similarity(self) -> str:
        return "cosine"

    @property
    def dimension(self) -> int:
        """Numbers an embedding; the first time, a made-up text is embedded to know it."""
        if not self._dimension:
            try:
                found, tokens = self.client.embeddings(self._sides.get("query", self.model), [PROBE], tries=4, **self.parameters)
            except RefusedError as error:
                raise EndpointError(
                    "the server refuses to embed a short text", where=self.client.url, got=error.got,
                    remedy="Check the model's name, and whether it takes dimensions." if self.dimensions else "Check the model's name.",
                ) from None  # fmt: skip
            self._dimension = found.shape[1]
            self._count(1, tokens)
            if self.dimensions not in (None, self._dimension):
                raise EndpointError(
                    "the server gives another dimension than was asked for", where=self.client.url, got=str(self._dimension),
                    expected=str(self.dimensions),
                    remedy=f"Leave dimensions out, and cut here where the model allows it: ...@{self.dimensions}.",
                )  # fmt: skip
        return self._dimension

    @property
    def parameters(self) -> dict[str, Any]:
        """What is said with each request beside its texts."""
        return {"dimensions": self.dimensions} if self.dimensions else {}

    @property
    def cost(self) -> dict[str, float]:
        """What was asked so far: texts, requests, what was tried again, seconds, texts that were cut; and where the server counted them,
        tokens, and their price where that is known.
        """
        found: dict[str, float] = {
            "texts": self._texts, "requests": self._requests, "retries": self.client.retries, "seconds": round(self._seconds, 2),
            "texts cut": self._cut,
        }  # fmt: skip
        if self._tokens:
            found["tokens"] = self._tokens
            if self.price is not None:
                found["price"] = round(self._tokens / 1e6 * self.price, 6)
        return found

    def announce(self, texts: Sequence[str], kind: Kind) -> None:
        """Say what is about to leave this machine; `encode` then says it of no more than these texts again."""
        texts = list(dict.fromkeys(texts))
        sent = [self.prompts[kind] + text for text in texts]
        characters, tokens = sum(map(len, sent)), sum(map(about_tokens, sent))
        many = f"{len(texts):,} {'queries' if kind == 'query' else 'documents'}" if len(texts) != 1 else f"1 {kind}"
        price = f", {tokens / 1e6 * self.price:,.4f} at {self.price:g} a million" if self.price is not None else ""
        self._say(f"{self.name}: sends {many}, {characters:,} characters (about {tokens:,} tokens{price}), to {self.client.host}")
        self._announced = len(texts)

    def encode(
        self, texts: Sequence[str], kind: Kind = "document", *, progress: str = "", keep: Keep = lambda texts, rows: None
    ) -> NDArray[np.float32]:
        """Embeddings of texts, shape (texts, dimension), of length 1; equal texts are asked for once. Raises EndpointError.

        `keep` is given each text with its embedding once: soon after it was answered, and before an error leaves this call.
        """
        demand_texts(texts)
        distinct, rows = each_once(texts)
        out = np.empty((len(distinct), self.dimension), dtype=np.float32)
        if len(distinct) > self._announced:
            self.announce(distinct, kind)
        self._announced -= len(distinct)
        start = kept = time.perf_counter()
        new, cut = list[int](), dict[int, str]()
        try:
            for places, found in self._answers(distinct, kind, cut, progress):
                out[places] = found
                new += places
                if time.perf_counter() - kept > KEPT_EVERY:
                    keep([distinct[text] for text in new], out[new])
                    new, kept = [], time.perf_counter()
        finally:
            if new:
                new.sort()  # as they are asked for again: rows that lie in order are mapped
                keep([distinct[text] for text in new], out[new])
        self._seconds, self._cut = self._seconds + time.perf_counter() - start, self._cut + len(cut)
        if cut:
            many = f"{len(cut):,} texts were refused" if len(cut) > 1 else "1 text was refused"
            self._say(f"{self.name}: {many}, and cut until taken (the server: {next(iter(cut.values()))})")
        return out[rows]

    def _answers(
        self, texts: Sequence[str], kind: Kind, cut: dict[int, str], progress: str
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Ask for all texts: places of some and their embeddings, as they come. `cut` is told of each that is shortened, and why."""
        given, texts = texts, [self.prompts[kind] + text for text in texts]
        waiting = sorted(range(len(texts)), key=lambda text: len(texts[text]))  # the longest are taken first, from the end
        halves: list[_Batch] = []
        asked = UnderWay[_Batch, Answer](self.client.stop)
        ask = partial(self.client.embeddings, self._sides.get(kind, self.model), **self.parameters)
        at_once = 1  # one request, until the server has taken one
        with tqdm(total=len(texts), desc=progress, unit="text", disable=not progress, **BAR) as bar, asked:
            while waiting or halves or asked:
                while (waiting or halves) and len(asked) < at_once:
                    batch = halves.pop() if halves else self._next(waiting, texts)
                    asked.ask(batch, ask, [texts[text] for text in batch.texts])
                for batch, answer in asked.answered():
                    try:
                        found, tokens = answer.result()
                    except RefusedError as error:
                        if len(batch.texts) > 1:
                            halves += batch.halves()
                            continue
                        (text,) = batch.texts
                        texts[text] = self._shorter(texts[text], given[text], error)
                        cut.setdefault(text, error.got)
                        halves.append(_Batch(batch.texts))
                        continue
                    self._demand_dimension(found.shape[1])
                    self._bring_to_length_one(found)
                    at_once = self.concurrency
                    self.texts_a_request = min(self.texts_a_request, batch.learned())
                    self._count(len(batch.texts), tokens)
                    bar.update(len(batch.texts))
                    yield batch.texts, found

    def _next(self, waiting: list[int], texts: list[str]) -> _Batch:
        """Take the texts of the next request off the end of `waiting`."""
        batch, tokens = list[int](), 0
        while waiting and len(batch) < self.texts_a_request:
            tokens += about_tokens(texts[waiting[-1]])
            if batch and tokens > TOKENS_A_REQUEST:
                break
            batch.append(waiting.pop())
        return _Batch(batch)

    def _demand_dimension(self, dimension: int) -> None:
        if dimension != self._dimension:
            raise EndpointError(
                "the server gives embeddings of several dimensions", where=self.client.url, got=str(dimension),
                expected=str(self._dimension), remedy="Check that one model alone answers at this address.",
            )  # fmt: skip

    def _shorter(self, text: str, given: str, error: RefusedError) -> str:
        """Three quarters of a text that was refused alone; `given` is the whole of it without its prompt."""
        shortest = LEAST_CUT if OF_LENGTH.search(error.got) else SHORTEST_CUT
        if len(text) <= shortest:
            raise EndpointError(
                "the server refuses a text", where=self.client.url,
                got=f"{error.got}, for a text of {len(given):,} characters that begins {given[:60]!r}",
                remedy="Leave the text out, or shorten it." if given else "Leave the empty text out.",
            )  # fmt: skip
        return text[: max(shortest, len(text) * 3 // 4)]

    def _count(self, texts: int, tokens: int) -> None:
        self._texts, self._tokens, self._requests = self._texts + texts, self._tokens + tokens, self._requests + 1

    def _bring_to_length_one(self, out: NDArray[np.float32]) -> None:
        lengths = np.linalg.norm(out, axis=1, keepdims=True)
        if lengths.min() == 0:
            raise EndpointError(
                "the server gives an embedding of zeros", where=self.client.url, got=f"{int((lengths == 0).sum())} of {len(out)} texts",
                remedy="Check the server: a model that fails in half precision does this.",
            )  # fmt: skip
        if np.abs(lengths - 1).max() > LENGTH_OFF and self._lengths == (1.0, 1.0):
            self._lengths = float(lengths.min()), float(lengths.max())
            low, high = self._lengths
            self._say(
                f"{self.name}: its embeddings are not of length 1 but of {low:.3g} to {high:.3g}: they are normalised here, "
                "and an index that compares by inner product needs the same"
            )
        out /= lengths
