"""The routes: from a request's bytes to its answer, within its time, for as long as the client is there."""

from __future__ import annotations

import asyncio
import hmac
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import psutil
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from homing.encoders.tokens import Tokens
from homing.protocols import Kind
from homing.serving import requests
from homing.serving.batching import Batcher, Work
from homing.serving.logs import log
from homing.serving.metrics import Metrics
from homing.serving.refusals import Refusal, fault, gone, no_key, too_large, too_slow
from homing.serving.served import Served
from homing.settings import Serving

JSON = "application/json"
MOST_TO_DISCARD = 8  # times the largest body: what is read and thrown away, so that the client gets to read why
ROWS = 64  # of an answer's embeddings, written at a time, so that others get their turn in between


@dataclass
class Asked:
    """A request on its way: its body, and what its line in the log and its figures will say."""

    body: bytes = b""
    works: Sequence[Work] = ()

    @property
    def texts(self) -> int:
        return sum(map(len, self.works))

    @property
    def tokens(self) -> int:
        return sum(work.token_count for work in self.works)

    @property
    def usage(self) -> dict[str, int]:
        return {"prompt_tokens": self.tokens, "total_tokens": self.tokens}

    def drop(self, refusal: Refusal) -> None:
        """Answer with the refusal, whatever of the work is done."""
        for work in self.works:
            work.end(refusal)


Handler = Callable[["Service", Asked], Awaitable[bytes]]


class Service:
    """What every route needs. `key_digest`: of the API key, where there is one. While `stopping`, connections end with their answer."""

    def __init__(self, served: Served, settings: Serving, key: str | None) -> None:
        self.served, self.settings = served, settings
        self.key_digest = None if key is None else sha256(key.encode()).digest()
        self.metrics = Metrics()
        self.batcher = Batcher(served.queries.device, settings.max_waiting, settings.truncate, self.metrics)
        self.stopping = False
        self.busy = 0
        self.process = psutil.Process()

    def application(self) -> Starlette:
        """The ASGI application."""
        posts: dict[str, Handler] = {"/v1/embeddings": embeddings, "/v1/score": score, "/v1/rerank": rerank}
        gets: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/v1/models": self.models, "/v1/models/{name:path}": self.models, "/health": self.health, "/metrics": self.figures,
        }  # fmt: skip
        return Starlette(
            routes=[
                *(Route(path, Endpoint(self, path.rpartition("/")[2], handler), methods=["POST"]) for path, handler in posts.items()),
                *(Route(path, endpoint, methods=["GET"]) for path, endpoint in gets.items()),
            ],
            exception_handlers={HTTPException: self.no_route, Refusal: self.refused},
        )

    def admit(self, headers: Mapping[str, str]) -> None:
        """Raises Refusal without the API key, where there is one. The comparison takes as long wherever the two differ."""
        if self.key_digest is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(sha256(given.strip().encode("utf-8", "surrogateescape")).digest(), self.key_digest)
        if not same or scheme.lower() != "bearer":
            raise no_key()

    async def encode(self, asked: Asked, *works: Work) -> None:
        """Embeddings into each work."""
        asked.works = works
        await self.batcher.encode(*works)

    def work(self, texts: Sequence[str] | Tokens, kind: Kind | None, param: str) -> Work:
        prompt = self.served.prompt(kind)
        return Work(self.served.model(kind), texts if isinstance(texts, Tokens) or not prompt else [prompt + text for text in texts], param)

    async def models(self, request: Request) -> Response:
        self.admit(request.headers)
        name = request.path_params.get("name")
        if name is None:
            return Response(orjson.dumps({"object": "list", "data": self.served.listed()}), media_type=JSON)
        return Response(orjson.dumps(self.served.described(self.served.side(name))), media_type=JSON)

    async def health(self, request: Request) -> Response:
        status = "stopping" if self.stopping else "ok" if self.batcher.alive else "failed"
        return Response(orjson.dumps({"status": status}), 200 if status == "ok" else 503, media_type=JSON)

    async def figures(self, request: Request) -> Response:
        self.admit(request.headers)
        labels = {"model": self.served.name, "fingerprint": self.served.fingerprint}
        text = self.metrics.text(waiting=self.batcher.waiting, memory=self.process.memory_info().rss, labels=labels)
        return Response(text, media_type="text/plain; version=0.0.4")

    async def no_route(self, request: Request, error: Exception) -> Response:
        """404 and 405 in the API's shape."""
        assert isinstance(error, HTTPException)
        what = "There is no such path here." if error.status_code == 404 else "This path takes another method."
        return await self.refused(request, Refusal(error.status_code, what, code="no_route"))

    async def refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return Response(error.body, error.status, error.headers, JSON)


class Endpoint:
    """One POST route as an ASGI application: key, body, time limit, the client's going away, figures and the line in the log."""

    def __init__(self, service: Service, name: str, handle: Handler) -> None:
        self.service, self.name, self.handle = service, name, handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, began, number = self.service, time.perf_counter(), uuid4().hex
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        asked, refusal, error = Asked(), None, None
        service.busy += 1
        try:
            try:
                body = await self._answer(headers, asked, receive)
            except Refusal as reason:
                body, refusal = reason.body, reason
            except Exception as reason:
                refusal, error = fault(), reason
                body = refusal.body
            status = refusal.status if refusal else 200
            if status != 499:
                said = {"content-type": JSON, "content-length": str(len(body)), "x-request-id": number}
                if refusal:
                    said |= refusal.headers
                if service.stopping or status == 413:
                    said["connection"] = "close"
                start: Message = {
                    "type": "http.response.start",
                    "status": status,
                    "headers": [(name.encode(), value.encode()) for name, value in said.items()],
                }
                await send(start)
                await send({"type": "http.response.body", "body": body})
        finally:
            service.busy -= 1
        seconds = time.perf_counter() - began
        service.metrics.answered(self.name, status, seconds, asked.texts, asked.tokens)
        fields = {"endpoint": self.name, "status": status, "ms": round(1000 * seconds, 1), "texts": asked.texts, "tokens": asked.tokens}
        log("request", 40 if error else 20, error=error, **fields, **({"code": refusal.code} if refusal else {}), id=number)

    async def _answer(self, headers: Mapping[str, str], asked: Asked, receive: Receive) -> bytes:
        service = self.service
        service.admit(headers)
        try:
            async with asyncio.timeout(service.settings.timeout):
                asked.body = await _body(headers, receive, int(service.settings.max_megabytes * 1e6))
                watch = asyncio.ensure_future(_gone(receive))
                watch.add_done_callback(lambda watched: None if watched.cancelled() else asked.drop(gone()))
                try:
                    return await self.handle(service, asked)
                finally:
                    watch.cancel()
        except TimeoutError:
            raise too_slow(service.settings.timeout) from None


async def _body(headers: Mapping[str, str], receive: Receive, most: int) -> bytes:
    """The whole body. Raises Refusal where it is larger than `most` bytes, or where the client goes before its end."""
    said = headers.get("content-length", "")
    size, pieces, more = 0, list[bytes](), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise gone()
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size <= most:
            pieces.append(piece)
        elif size > MOST_TO_DISCARD * most:
            break
    if size > most or (said.isdigit() and int(said) > most):
        raise too_large(most / 1e6)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def embeddings(service: Service, asked: Asked) -> bytes:
    """POST /v1/embeddings, as OpenAI has it; `task`, `fingerprint` are ours."""
    said = requests.Embeddings.of(requests.read(asked.body), service.served, service.settings)
    work = service.work(said.input, said.kind, "input")
    await service.encode(asked, work)
    rows = service.served.shortened(work.embeddings, said.dimensions)
    pieces = []
    for start in range(0, len(rows), ROWS):
        if start:
            await asyncio.sleep(0)
        pieces.append(_listed(rows[start : start + ROWS], start, said.base64))
    fingerprint = service.served.fingerprint if said.kind is None else service.served.fingerprints[said.kind]
    rest = orjson.dumps({"model": service.served.name, "fingerprint": fingerprint, "usage": asked.usage})
    return b'{"object":"list","data":[' + b",".join(pieces) + b"]," + rest[1:]


def _listed(rows: NDArray[np.float32], start: int, base64: bool) -> bytes:
    """The objects of these embeddings as JSON, without the list's brackets; base64 is of little-endian float32."""
    values: Sequence[Any] = [b64encode(row).decode() for row in rows.astype("<f4", copy=False)] if base64 else list(rows)
    objects = [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(values, start)]
    return orjson.dumps(objects, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


async def score(service: Service, asked: Asked) -> bytes:
    """POST /v1/score, as vLLM has it; `probability` and `relevant` are ours."""
    said = requests.Score.of(requests.read(asked.body), service.served, service.settings)
    scores = await _scores(service, asked, said.queries, said.documents, ("text_1", "text_2"))
    decided = service.served.decided(scores, "list")
    data = [{"object": "score", "index": index, **each} for index, each in enumerate(decided.pairs("score"))]
    return _dumped({"object": "list", "data": data, **decided.how, "model": service.served.name, "usage": asked.usage})


async def rerank(service: Service, asked: Asked) -> bytes:
    """POST /v1/rerank, as Cohere, Jina and vLLM have it; `probability` and `relevant` are ours."""
    said = requests.Rerank.of(requests.read(asked.body), service.served, service.settings)
    scores = await _scores(service, asked, [said.query], said.documents, ("query", "documents"))
    decided = service.served.decided(scores, "retrieval")
    pairs = decided.pairs("relevance_score")
    best = np.argsort(-scores, kind="stable")[: said.top_n].tolist()
    results = [{"index": index, **pairs[index]} for index in best]
    if said.return_documents:
        results = [{**each, "document": {"text": said.documents[each["index"]]}} for each in results]
    return _dumped({"results": results, **decided.how, "model": service.served.name, "usage": asked.usage})


async def _scores(
    service: Service, asked: Asked, queries: Sequence[str], documents: Sequence[str], params: tuple[str, str]
) -> NDArray[np.float32]:
    """The score of each document with its query, or with the only one; shape (documents,)."""
    works = service.work(queries, "query", params[0]), service.work(documents, "document", params[1])
    await service.encode(asked, *works)
    scores: NDArray[np.float32] = (works[0].embeddings * works[1].embeddings).sum(axis=1)
    return scores


def _dumped(said: dict[str, Any]) -> bytes:
    return orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)
