"""Clients of an embeddings server, in a process of their own: each sends its next request when its last one is answered.

    python benchmarks/load.py PORT MODEL TEXTS.json --clients 8 --seconds 20
    python benchmarks/load.py PORT MODEL TEXTS.json --clients 64 --requests 20000 --expected EMBEDDINGS.npy
    python benchmarks/load.py PORT MODEL TEXTS.json --clients 64 --until-refused

Requests are made beforehand and answers are not parsed unless they are compared with what is expected, so that little of the machine's time
is the clients'. Every client keeps one connection, and opens another where the server closes it. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FAR = 1e-4  # of an embedding from the one that is expected: another text's is as far as 1


@dataclass
class Load:
    """What the clients send, and what came of it. `wrong`: answers that are another text's; `lost`: requests without a whole answer."""

    port: int
    requests: list[bytes]
    expected: NDArray[np.float32] | None
    end: float = float("inf")
    left: int = 1 << 60
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    lost: int = 0
    refused: int = 0

    async def client(self, number: int, clients: int) -> None:
        """One client, with every `clients`-th request from this one on."""
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while self.left > 0 and time.perf_counter() < self.end:
            self.left -= 1
            if streams is None:
                try:
                    streams = await asyncio.open_connection("127.0.0.1", self.port)
                except ConnectionRefusedError:
                    self.refused += 1
                    return
            if not await self._ask(*streams, number % len(self.requests)):
                await _closed(streams[1])
                streams = None
            number += clients
        if streams is not None:
            await _closed(streams[1])

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        """One request; whether the connection can take another."""
        begun = time.perf_counter()
        writer.write(self.requests[number])
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost += 1
            return False
        self.latencies.append(time.perf_counter() - begun)
        status = int(head.split(b" ", 2)[1])
        self.statuses[status] += 1
        if self.expected is not None and status == 200:
            self.wrong += self._differs(body, number)
        return b"connection: close" not in head

    def _differs(self, body: bytes, number: int) -> bool:
        assert self.expected is not None
        got = np.frombuffer(base64.b64decode(json.loads(body)["data"][0]["embedding"]), dtype="<f4")
        return not float(np.abs(got - self.expected[number]).max()) < FAR

    async def run(self, clients: int) -> dict[str, Any]:
        begun = time.perf_counter()
        await asyncio.gather(*(self.client(number, clients) for number in range(clients)))
        seconds = time.perf_counter() - begun
        found = np.array(self.latencies or [0.0]) * 1000
        return {
            "clients": clients, "seconds": seconds, "answered": len(self.latencies), "per_second": len(self.latencies) / seconds,
            **{f"p{share}": float(np.percentile(found, share)) for share in (50, 95, 99)},
            "statuses": self.statuses, "wrong": self.wrong, "lost": self.lost, "refused": self.refused,
        }  # fmt: skip


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def request(model: str, text: str, encoding: str) -> bytes:
    """One request as bytes."""
    body = json.dumps({"model": model, "input": text, "encoding_format": encoding}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("model")
    parser.add_argument("texts", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--expected", type=Path)
    parser.add_argument("--until-refused", action="store_true")
    said = parser.parse_args()
    expected = np.load(said.expected) if said.expected else None
    encoding = "float" if expected is None else "base64"
    load = Load(said.port, [request(said.model, text, encoding) for text in json.loads(said.texts.read_text(encoding="utf-8"))], expected)
    if said.seconds:
        load.end = time.perf_counter() + said.seconds
    if said.requests:
        load.left = said.requests
    print(json.dumps(asyncio.run(load.run(said.clients))))


if __name__ == "__main__":
    main()
