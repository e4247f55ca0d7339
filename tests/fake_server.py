"""An OpenAI-compatible embedding server on loopback whose faults are planted; imports no torch."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Embed = Callable[[Sequence[Any]], NDArray[np.float32]]


@dataclass
class FakeServer:
    """`embed` gives the embeddings of a request's inputs. `faults` are taken one a request: a status, or what makes the response of the
    right one. `refuse` says why a request is refused, with 400 or in a response of its own (None: it is taken). `asked` and `headers` keep
    what came. Without `models` there is no list of them, and any name is taken, as text-embeddings-inference does.
    """

    embed: Embed
    models: list[str] = field(default_factory=lambda: ["fake"])
    faults: list[int | tuple[int, dict[str, str]] | Callable[[dict[str, Any]], Response | dict[str, Any]]] = field(default_factory=list)
    refuse: Callable[[list[Any]], str | Response | None] = lambda texts: None
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def embeddings(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.headers.append(dict(request.headers))
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, int):
                fault = (fault, {})
            if isinstance(fault, tuple):
                return JSONResponse({"error": {"message": "planted"}}, fault[0], headers=fault[1])
            made = fault(await run_in_threadpool(self.answer, body, inputs))
            return made if isinstance(made, Response) else Response(json.dumps(made), media_type="application/json")
        if self.models and body["model"] not in self.models:
            return JSONResponse({"error": {"message": f"The model {body['model']} does not exist"}}, 404)
        why = self.refuse(inputs)
        if isinstance(why, Response):
            return why
        if why is not None:
            return JSONResponse({"error": {"message": why}}, 400)
        self.asked.append(body)
        return JSONResponse(await run_in_threadpool(self.answer, body, inputs))

    def answer(self, body: dict[str, Any], inputs: list[Any]) -> dict[str, Any]:
        rows = self.embed(inputs)
        if "dimensions" in body:
            rows = rows[:, : body["dimensions"]] / np.linalg.norm(rows[:, : body["dimensions"]], axis=1, keepdims=True)
        data = [{"object": "embedding", "index": place, "embedding": row.tolist()} for place, row in enumerate(rows)]
        tokens = sum(len(each) for each in inputs)
        return {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}

    async def listed(self, request: Request) -> Response:
        if not self.models:
            return Response(status_code=404)
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    @property
    def texts(self) -> list[Any]:
        """Every input of the requests that were answered well, in order."""
        return [each for body in self.asked for each in body["input"]]


@contextmanager
def serving(server: FakeServer) -> Iterator[FakeServer]:
    """The server in a thread, on a free port of 127.0.0.1."""
    routes = [Route("/v1/embeddings", server.embeddings, methods=["POST"]), Route("/v1/models", server.listed)]
    with running(Starlette(routes=routes)) as address:
        server.url = f"{address}/v1"
        yield server


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    """An application in a thread, on a free port of 127.0.0.1; its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, ws="none", lifespan="off")
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not runner.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        runner.should_exit = True
        thread.join(10)
        listener.close()
