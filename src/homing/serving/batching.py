"""Texts of all requests that wait, tokenised together and encoded together, in threads beside the event loop.

The tokenising thread takes whatever has come since it last looked. An encoding thread takes from everything that is tokenised a round of
a few chunks' tokens: a text of each request in turn, so that a request of thousands of texts delays nobody's single one. Within a round
texts of like length share a chunk, shortest chunks first, and a request is answered as soon as its last text is done.

On a CPU two threads encode side by side, each with its share of what waits and of the cores: a small batch leaves cores idle between one
layer's product and the next, which the other thread's batch then fills. The first has all cores where it is alone, the second works
beside it only, on its share: OpenMP's threads wait awake for the next product only while there are no more of them than cores, counted
over all threads that ever encoded. A text that comes alone is encoded at once. Where a thread's last round had more texts than wait
now, their clients are likely to come again: on a CPU it gives them a moment.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue

import numpy as np
import torch
from numpy.typing import NDArray

from homing.encoders.devices import return_freed_memory, token_budget
from homing.encoders.model import Model
from homing.encoders.tokens import Tokens
from homing.serving.logs import log
from homing.serving.metrics import Metrics
from homing.serving.refusals import Refusal, fault, invalid, queue_full

CHUNKS = 4  # of a round: enough to choose texts of like length from, few enough to keep nobody waiting
LONGEST_WAIT = 60  # seconds that a client is told to wait at most
SIDE_BY_SIDE = 2  # rounds that a CPU works on at a time
MOMENT = 0.003  # seconds that a CPU waits at most for as many texts as a thread had last
TIDY = 2.0  # seconds between the times that a thread gives freed memory back to the system


class Work:
    """Texts of one request for one model, prompts included, or token ids; and its embeddings once they are there.

    Shapes: `embeddings` (texts, dimension), `lengths` (texts,). `param` is the request's field that texts are named by in an error.
    """

    def __init__(self, model: Model, texts: Sequence[str] | Tokens, param: str) -> None:
        self.model, self.param = model, param
        self.texts: Sequence[str] = () if isinstance(texts, Tokens) else texts
        self.tokens: Tokens | None = texts if isinstance(texts, Tokens) else None
        self.embeddings = np.empty((len(texts), model.dimension), dtype=np.float32)
        self.untaken: list[int] = []  # texts that no round took yet, the next one last
        self.undone = len(texts)
        self.dropped = False
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def token_count(self) -> int:
        return 0 if self.tokens is None else len(self.tokens.ids)

    def tokenised(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.untaken = np.argsort(tokens.lengths, kind="stable").tolist()

    def end(self, refusal: Refusal | None = None) -> None:
        """Let whoever awaits it go on; from any thread, and more than once."""
        self.loop.call_soon_threadsafe(self._end, refusal)

    def _end(self, refusal: Refusal | None) -> None:
        if self.done.done():
            return
        if refusal is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(refusal)


class Batcher:
    """Encodes the work of all requests on a device. At most `most` texts wait; a text longer than its model takes is cut, or refused.

    `encode` and `waiting` belong to the event loop's thread, `start` and `stop` to whoever owns the batcher.
    """

    def __init__(self, device: torch.device, most: int, truncate: bool, metrics: Metrics) -> None:
        self.most, self.truncate, self.metrics = most, truncate, metrics
        self.waiting = 0
        self.alive = True
        self._cores = torch.get_num_threads()
        self.rounds = min(SIDE_BY_SIDE, self._cores) if device.type == "cpu" else 1
        self._moment = MOMENT if device.type == "cpu" else 0.0
        self._arrived: SimpleQueue[Work | None] = SimpleQueue()
        self._changed = threading.Condition()  # for what follows
        self._ready: deque[Work] = deque()
        self._untaken, self._in_hand, self._busy = 0, 0, 0  # texts that are ready, texts of rounds now, threads that have a round
        self._cores_of_a_round = self._cores
        self._stopping = False
        runs = [
            ("tokenising", self._tokenise_all),
            *(("encoding", partial(self._encode_all, number == 0)) for number in range(self.rounds)),
        ]
        self._threads = [threading.Thread(target=self._guarded, args=(run,), name=name, daemon=True) for name, run in runs]

    def start(self) -> None:
        """Begin to take what is handed in."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads after all work that was handed in."""
        self._arrived.put(None)
        for thread in self._threads:
            thread.join()
        torch.set_num_threads(self._cores)

    async def encode(self, *works: Work) -> None:
        """Embeddings into each work. Raises Refusal where the queue is full or a text too long; a cancelled call drops its work."""
        texts = sum(len(work) for work in works)
        if self.waiting + texts > self.most:
            raise queue_full(self.waiting, self._seconds_left())
        self.waiting += texts
        try:
            for work in works:
                self._arrived.put(work)
            for work in works:
                await work.done
        finally:
            self.waiting -= texts
            for work in works:
                work.dropped = True
                if work.done.done() and not work.done.cancelled():
                    work.done.exception()

    def _seconds_left(self) -> int:
        """About when what waits will be done, at the rate so far."""
        rate = self.rounds * self.metrics.batch_texts / self.metrics.batch_seconds if self.metrics.batch_seconds else 0.0
        return min(LONGEST_WAIT, max(1, math.ceil(self.waiting / rate))) if rate else 1

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            self.alive = False
            log("a thread ended", 50, error=error)
            raise

    def _tokenise_all(self) -> None:
        while not self._stopping:
            works, last = [self._arrived.get()], False
            while not last:
                try:
                    works.append(self._arrived.get_nowait())
                except Empty:
                    last = True
            stopping = None in works
            ready = self._tokenise([work for work in works if work is not None and not work.dropped])
            with self._changed:
                self._ready.extend(ready)
                self._untaken += sum(len(work.untaken) for work in ready)
                self._stopping = stopping
                self._changed.notify_all()

    def _tokenise(self, works: Sequence[Work]) -> list[Work]:
        """These works with their tokens; those that cannot be tokenised, or are too long, are ended here."""
        for model in {work.model for work in works}:
            those = [work for work in works if work.model is model and work.tokens is None]
            try:
                tokens = model.tokenize([text for work in those for text in work.texts], None, truncate=self.truncate)
            except Exception as error:
                log("tokenising failed", 40, error=error)
                for work in those:
                    work.end(fault())
                continue
            start = 0
            for work in those:
                upto = start + len(work.texts)
                begin, end = tokens.offsets[start], tokens.offsets[upto]
                work.tokens, work.texts = Tokens(tokens.ids[begin:end], tokens.offsets[start : upto + 1] - begin), ()
                start = upto
        return [work for work in works if work.tokens is not None and self._admitted(work, work.tokens)]

    def _admitted(self, work: Work, tokens: Tokens) -> bool:
        lengths, most = tokens.lengths, work.model.max_length
        if lengths.max() > most or lengths.min() == 0:
            text = int(lengths.argmax() if lengths.max() > most else lengths.argmin())
            work.end(_wrong_length(work.param, text, int(lengths[text]), most))
            return False
        work.tokenised(tokens)
        return True

    def _encode_all(self, first: bool) -> None:
        tidied, untidy, texts = time.monotonic(), False, 0
        while True:
            if untidy and time.monotonic() - tidied >= TIDY:
                return_freed_memory()
                tidied, untidy = time.monotonic(), False
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or (self._ready and (first or self._busy)), TIDY if untidy else None)
                self._changed.wait_for(partial(self._as_many, texts), self._moment)
                if not self._ready:
                    if self._stopping:
                        return
                    continue
                taken = self._round()
                texts = len(taken)
                self._in_hand += texts
                self._busy += 1
                self._share_cores(first)
                self._changed.notify_all()
            if taken:
                self._encode(taken)
            untidy = True
            with self._changed:
                self._in_hand -= texts
                self._busy -= 1

    def _as_many(self, texts: int) -> bool:
        return self._untaken >= texts or self._stopping

    def _share_cores(self, first: bool) -> None:
        """Let this thread's round have its part of the cores. Of the libraries beneath, one keeps the number a thread, one a process."""
        cores = max(1, self._cores // (self._busy if first else self.rounds))
        if cores != self._cores_of_a_round or cores != torch.get_num_threads():
            torch.set_num_threads(cores)
            self._cores_of_a_round = cores

    def _round(self) -> list[tuple[Work, int]]:
        """The texts to encode next, of one model: one of each request in turn until there are enough tokens, or a thread's share."""
        model = self._ready[0].model
        share = math.ceil((self._untaken + self._in_hand) / self.rounds)
        budget = CHUNKS * token_budget(model.device, packed=model.packer is not None)
        taken: list[tuple[Work, int]] = []
        others: deque[Work] = deque()
        while self._ready and budget > 0 and len(taken) < share:
            work = self._ready.popleft()
            if work.dropped or work.tokens is None:
                self._untaken -= len(work.untaken)
                continue
            if work.model is not model:
                others.append(work)
                continue
            text = work.untaken.pop()
            self._untaken -= 1
            taken.append((work, text))
            budget -= int(work.tokens.offsets[text + 1] - work.tokens.offsets[text])
            if work.untaken:
                self._ready.append(work)
        self._ready.extendleft(reversed(others))
        return taken

    def _encode(self, taken: Sequence[tuple[Work, int]]) -> None:
        model = taken[0][0].model
        tokens = Tokens.of(work.tokens[text] for work, text in taken if work.tokens is not None)
        for chunk in reversed(list(model.chunks(tokens.lengths))):
            begun = time.perf_counter()
            try:
                embeddings = embed(model, tokens, chunk)
            except Exception as error:
                log("encoding failed", 40, error=error, texts=len(chunk), tokens=int(tokens.lengths[chunk].sum()))
                for text in chunk.tolist():
                    taken[text][0].dropped = True
                    taken[text][0].end(fault())
                continue
            broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
            if len(broken):
                log("embeddings are not finite: the weights are damaged, or the number format is too narrow", 40, texts=len(broken))
            for row in broken.tolist():
                taken[chunk[row]][0].dropped = True
                taken[chunk[row]][0].end(fault())
            with self._changed:
                self.metrics.encoded(len(chunk), int(tokens.lengths[chunk].sum()), time.perf_counter() - begun)
                for row, text in enumerate(chunk.tolist()):
                    work, place = taken[text]
                    work.embeddings[place] = embeddings[row]
                    work.undone -= 1
                    if not work.undone:
                        work.end()


def embed(model: Model, tokens: Tokens, texts: NDArray[np.integer]) -> NDArray[np.float32]:
    """Embeddings of these texts, shape (texts, dimension)."""
    with torch.inference_mode():
        return model.embed_as_fits(tokens, texts).cpu().numpy()


def _wrong_length(param: str, text: int, tokens: int, most: int) -> Refusal:
    if not tokens:
        return invalid(f"Text {text} of {param} has no tokens.", param)
    message = f"Text {text} of {param} has {tokens:,} tokens, prompt included; this model takes {most:,} (or start with --truncate)."
    return invalid(message, param, "context_length_exceeded")
