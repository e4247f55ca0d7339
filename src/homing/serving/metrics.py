"""Figures of a server in Prometheus' text format."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts of requests and of what was encoded. `encoded` is called by one thread at a time, `answered` by the loop's alone."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by endpoint and status
        self.slots: dict[str, list[int]] = {}  # of each endpoint: answers by SECONDS, and above
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.texts: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.batches, self.batch_texts, self.batch_tokens, self.batch_seconds = 0, 0, 0, 0.0

    def answered(self, endpoint: str, status: int, seconds: float, texts: int, tokens: int) -> None:
        """One request, however it ended."""
        self.requests[endpoint, status] += 1
        slots = self.slots.setdefault(endpoint, [0] * (len(SECONDS) + 1))
        slots[next((place for place, most in enumerate(SECONDS) if seconds <= most), len(SECONDS))] += 1
        self.seconds[endpoint] += seconds
        self.texts[endpoint] += texts
        self.tokens[endpoint] += tokens

    def encoded(self, texts: int, tokens: int, seconds: float) -> None:
        """One batch that went through the model."""
        self.batches += 1
        self.batch_texts += texts
        self.batch_tokens += tokens
        self.batch_seconds += seconds

    def text(self, *, waiting: int, memory: int, labels: dict[str, str]) -> str:
        """All figures; `waiting` texts and `memory` in bytes now, `labels` of the model that is served."""
        model = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
        lines = [
            *_family("homing_model_info", "gauge", "The model that is served.", [f"{{{model}}} 1"]),
            *_family("homing_waiting_texts", "gauge", "Texts that were accepted and have no embedding yet.", [f" {waiting}"]),
            *_family("homing_resident_memory_bytes", "gauge", "Memory of this process.", [f" {memory}"]),
            *_family(
                "homing_requests_total", "counter", "Requests that were answered, by status (499: the client had gone).",
                (f'{{endpoint="{name}",status="{status}"}} {count}' for (name, status), count in sorted(self.requests.items())),
            ),
            *_family("homing_texts_total", "counter", "Texts of answered requests.", _by_endpoint(self.texts)),
            *_family("homing_tokens_total", "counter", "Tokens of answered requests.", _by_endpoint(self.tokens)),
            *_family("homing_batches_total", "counter", "Batches that went through the model.", [f" {self.batches}"]),
            *_family("homing_batch_texts_total", "counter", "Texts in those batches.", [f" {self.batch_texts}"]),
            *_family("homing_batch_tokens_total", "counter", "Tokens in those batches.", [f" {self.batch_tokens}"]),
            *_family("homing_batch_seconds_total", "counter", "Seconds that the model took for them.", [f" {self.batch_seconds:.6f}"]),
            *_family("homing_request_seconds", "histogram", "Time from a request's first line to its answer.", self._histogram()),
        ]  # fmt: skip
        return "\n".join(lines) + "\n"

    def _histogram(self) -> Iterable[str]:
        for endpoint, slots in sorted(self.slots.items()):
            upto = 0
            for most, count in zip([*(f"{each:g}" for each in SECONDS), "+Inf"], slots, strict=True):
                upto += count
                yield f'_bucket{{endpoint="{endpoint}",le="{most}"}} {upto}'
            yield f'_sum{{endpoint="{endpoint}"}} {self.seconds[endpoint]:.6f}'
            yield f'_count{{endpoint="{endpoint}"}} {upto}'


def _family(name: str, kind: str, help: str, samples: Iterable[str]) -> list[str]:
    return [f"# HELP {name} {help}", f"# TYPE {name} {kind}", *(f"{name}{sample}" for sample in samples)]


def _by_endpoint(counts: Counter[str]) -> Iterable[str]:
    return (f'{{endpoint="{name}"}} {count}' for name, count in sorted(counts.items()))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
