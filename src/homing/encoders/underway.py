"""What a server was asked and has not answered yet, each in a thread of its own: who is interrupted, or fails, waits for none of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Event, Thread
from typing import Any, Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class UnderWay(Generic[Asked, Answer]):
    """Requests under way. Who leaves this context before all are answered calls the others off, by the `stop` of their client.

    The program ends without them: they are no threads of an executor, which its end would wait for.
    """

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        self._asked: dict[Future[Answer], Asked] = {}

    def __enter__(self) -> UnderWay[Asked, Answer]:
        self._stop.clear()
        return self

    def __exit__(self, *error: object) -> None:
        if self._asked:
            self._stop.set()

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, asked: Asked, work: Callable[..., Answer], *arguments: Any) -> None:
        """Begin this work, which answers what is `asked`."""
        future: Future[Answer] = Future()

        def do() -> None:
            try:
                future.set_result(work(*arguments))
            except BaseException as error:
                future.set_exception(error)

        self._asked[future] = asked
        Thread(target=do, daemon=True).start()

    def answered(self, timeout: float | None = None) -> Iterator[tuple[Asked, Future[Answer]]]:
        """What has been answered, each with its answer or error to come out of the future; at least one is waited for, so many seconds."""
        for future in wait(self._asked, timeout, FIRST_COMPLETED).done:
            yield self._asked.pop(future), future
