"""The server, from its start to the last answer."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType

import uvicorn

from homing.arguments import demand
from homing.encoders.model import Model
from homing.encoders.pair import Pair
from homing.errors import SettingError
from homing.serving.application import Service
from homing.serving.logs import log, to_standard_error
from homing.serving.served import Served
from homing.settings import Serving

KEY = "HOMING_API_KEY"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
BACKLOG = 2048
KEEP_ALIVE = 75  # seconds that a connection may rest: longer than clients and proxies keep theirs, so that it is they who close
QUIET = 0.5  # seconds without a request after which a stopping server closes the connections that are left


class Server:
    """One encoder behind the API. The socket is bound when this is made; `run` serves until SIGTERM, SIGINT or `stop`.

    Raises SettingError where the address cannot be had. The API key, where there is one, is the environment's HOMING_API_KEY.
    """

    def __init__(self, encoder: Model | Pair, settings: Serving | None = None) -> None:
        self.settings = settings or Serving()
        self.key = os.environ.get(KEY, "").strip() or None
        self.served = Served(encoder, self.settings.name, self.settings.dimensions)
        self.service = Service(self.served, self.settings, self.key)
        self.socket = _bound(self.settings.host, self.settings.port)
        config = uvicorn.Config(
            self.service.application(),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=int(self.settings.timeout) + 5,
        )
        self._uvicorn = _Uvicorn(config, self.service)

    @property
    def url(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self) -> None:
        """Serve until told to stop; returns when everything that was accepted is answered."""
        with ThreadPoolExecutor(1) as apart:  # its threads of OpenMP end with it, and don't count beside those that encode
            apart.submit(self._warm_up).result()
        self.service.batcher.start()
        log("started", url=self.url, model=self.served.name, fingerprint=self.served.fingerprint, key=self.key is not None)
        if self.key is None and self.settings.host not in LOOPBACK:
            log(f"whoever reaches {self.settings.host} can use this server: set {KEY} to ask for a key", 30)
        began = time.perf_counter()
        with _signals_are_no_errors():
            self._uvicorn.run([self.socket])
        self.service.batcher.stop()
        log("stopped", seconds=round(time.perf_counter() - began, 1), requests=sum(self.service.metrics.requests.values()))

    def _warm_up(self) -> None:
        for kind in ("query", "document"):
            self.served.encoder.encode(["The first text takes longest."], kind)

    def stop(self) -> None:
        """Stop as SIGTERM does; from any thread."""
        self._uvicorn.should_exit = True

    @contextmanager
    def in_background(self) -> Iterator[str]:
        """Serve in a thread of this process while the block runs; gives the URL."""
        thread = threading.Thread(target=self.run, name="server")
        thread.start()
        while not self._uvicorn.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield self.url
        finally:
            self.stop()
            thread.join()


class _Uvicorn(uvicorn.Server):
    """uvicorn, with a stop that clients don't notice.

    uvicorn closes a resting connection at once, and with it a request that is on its way there. Here new connections are refused first,
    and each open one ends with its next answer, which says so; what still rests after a quiet moment is closed.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.stopping = True
        log("stopping", busy=self._service.busy)
        for server in self.servers:
            server.close()
        last = self._service.metrics.requests.total()
        until, quiet_since = time.monotonic() + self._service.settings.timeout, time.monotonic()
        while self.server_state.connections and not self.force_exit and time.monotonic() < until:
            await asyncio.sleep(0.02)
            now = self._service.metrics.requests.total()
            if self._service.busy or now != last:
                last, quiet_since = now, time.monotonic()
            elif time.monotonic() - quiet_since > QUIET:
                break
        await super().shutdown(sockets)


@contextmanager
def _signals_are_no_errors() -> Iterator[None]:
    """uvicorn raises the signal that stopped it once more when all is done: a stop that was asked for ends the process with 0."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignore: Callable[[int, FrameType | None], None] = lambda number, frame: None  # noqa: E731
    before = {number: signal.signal(number, ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def demand_address(settings: Serving) -> None:
    """Raise SettingError where the address cannot be had: before a model is loaded for it."""
    _bound(settings.host, settings.port).close()


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        # asyncio does so only for sockets whose protocol is said. Otherwise an answer's second part waits for the client's delayed ACK.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return bound
    except OSError as error:
        raise SettingError(
            "the server cannot listen there", where=f"{host}:{port}", got=error.strerror or str(error),
            remedy="Choose another --port (0: any that is free) or --host.",
        ) from None  # fmt: skip


def serve(encoder: Model | Pair, settings: Serving | None = None) -> None:
    """Serve an encoder until SIGTERM or SIGINT, with a line of JSON on standard error for each request."""
    demand(Model | Pair, encoder=encoder)
    demand(Serving | None, settings=settings)
    to_standard_error()
    Server(encoder, settings).run()
