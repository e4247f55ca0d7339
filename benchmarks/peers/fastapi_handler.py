"""sentence-transformers behind a plain FastAPI handler, as one writes it: no batching over requests.

    python benchmarks/peers/fastapi_handler.py MODEL PORT [threads|loop]

`threads`: a `def` handler, which FastAPI runs in its threads, many at a time. `loop`: an `async def` handler, which encodes on the event
loop, one request at a time.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Request(BaseModel):
    """What the benchmark sends; other fields are let pass."""

    model: str
    input: str | list[str]


def application(path: str, kind: str = "threads") -> FastAPI:
    """The application, with its model loaded."""
    model = SentenceTransformer(path, device="cpu")
    app = FastAPI()

    def answer(request: Request) -> dict[str, Any]:
        texts = [request.input] if isinstance(request.input, str) else request.input
        embeddings = model.encode(texts)
        data = [{"object": "embedding", "index": index, "embedding": each.tolist()} for index, each in enumerate(embeddings)]
        return {"object": "list", "data": data, "model": request.model}

    if kind == "threads":

        @app.post("/v1/embeddings")
        def threaded(request: Request) -> dict[str, Any]:
            return answer(request)

    else:

        @app.post("/v1/embeddings")
        async def looped(request: Request) -> dict[str, Any]:
            return answer(request)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1], *sys.argv[3:]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
