"""Mining 10,000 queries from 1,000,000 documents of made text: time, peak memory, and that a killed run goes on to the same rows.

    python benchmarks/mining_scale.py bm25                # by words
    python benchmarks/mining_scale.py dense               # by given vectors of 384 dimensions, mapped from disk
    python benchmarks/mining_scale.py bm25 --kill 20 60   # killed after 20 and 60 seconds and begun again, then compared with a whole run

Each run is a process of its own, so that its peak memory is its own; making the text is not in its time, and reading it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np

import homing
from homing import Mining
from homing.data import Corpus, Dataset, Qrels, Queries
from homing.encoders.given import Given
from homing.encoders.memory import peak
from runs import machine

WORDS, VOCABULARY, ASKED = 60, 200_000, 8
DIMENSION, SHARD = 384, 50_000


def make(place: Path, documents: int, queries: int, dense: bool) -> None:
    """Documents of 60 words drawn as if by Zipf's law, queries of 8 words of a document; and vectors near those of their positive."""
    generator = np.random.default_rng(0)
    syllables = ["ba", "do", "ke", "li", "mu", "no", "pa", "ri", "so", "tu", "ve", "za", "shi", "gre", "pla", "stu"]
    vocabulary = np.array(["".join(syllables[n >> shift & 15] for shift in (0, 4, 8, 12, 16)) for n in range(VOCABULARY)])
    asked = np.sort(generator.choice(documents, queries, replace=False))
    with (place / "documents.txt").open("w") as out, (place / "queries.txt").open("w") as asking:
        for first in range(0, documents, SHARD):
            ranks = generator.zipf(1.1, (min(SHARD, documents - first), WORDS)) % VOCABULARY
            words = vocabulary[ranks]
            out.writelines(" ".join(row) + f" {first + number}\n" for number, row in enumerate(words.tolist()))
            for document in asked[(asked >= first) & (asked < first + SHARD)].tolist():
                asking.write(" ".join(words[document - first, :ASKED].tolist()) + f" q{document}\n")
    np.save(place / "positive.npy", asked.astype(np.int32))
    if not dense:
        return
    held = np.lib.format.open_memmap(place / "documents.npy", mode="w+", dtype=np.float32, shape=(documents, DIMENSION))
    for first in range(0, documents, SHARD):
        drawn = generator.standard_normal((min(SHARD, documents - first), DIMENSION), dtype=np.float32)
        held[first : first + len(drawn)] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    near = np.asarray(held[asked]) + generator.standard_normal((queries, DIMENSION), dtype=np.float32) / DIMENSION**0.5
    np.save(place / "queries.npy", near / np.linalg.norm(near, axis=1, keepdims=True))


def work(place: Path, retriever: str) -> None:
    """One run; its figures go to standard output."""
    start = time.monotonic()
    texts = {name: tuple((place / f"{name}.txt").read_text().splitlines()) for name in ("documents", "queries")}
    corpus = Corpus(tuple(f"d{n}" for n in range(len(texts["documents"]))), texts["documents"])
    queries = Queries(tuple(f"q{n}" for n in range(len(texts["queries"]))), texts["queries"])
    positive = np.load(place / "positive.npy")
    train = Dataset(corpus, queries, Qrels(np.arange(len(positive)), positive, np.ones(len(positive))))
    read, used = time.monotonic(), time.process_time()
    encoder = Given.read(place, train) if retriever == "dense" else None
    mined = homing.mine(train, Mining(retriever=retriever), encoder=encoder)  # type: ignore[arg-type]
    state = blake2b(digest_size=16)
    assert mined.pool is not None
    for column in (mined.negative, mined.rank, mined.score, mined.source, mined.pool.document, mined.pool.kind):
        state.update(np.ascontiguousarray(column).tobytes())
    print(json.dumps({
        "read_seconds": round(read - start, 1), "mine_seconds": round(time.monotonic() - read, 1),
        "mine_cpu_seconds": round(time.process_time() - used, 1),
        "peak_gib": round(peak() / 2**30, 2), "rows": len(mined),
        "pool": len(mined.pool.query), "digest": state.hexdigest(),
    }))  # fmt: skip


def run(place: Path, retriever: str, cache: Path, kill: float | None = None) -> dict[str, float | str] | None:
    """A run as a process; None where it was killed after so many seconds."""
    command = [sys.executable, __file__, retriever, "--work", str(place)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HOMING_CACHE": str(cache)})
    try:
        out, _ = process.communicate(timeout=kill)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return None
    found: dict[str, float | str] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("retriever", choices=["bm25", "dense", "fused"])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--kill", type=float, nargs="*", default=[], help="seconds after which runs are killed, one after another")
    parser.add_argument("--place", type=Path, help="where the text is made and kept (a temporary directory)")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.work is not None:
        work(said.work, said.retriever)
        return
    place = said.place or Path(tempfile.mkdtemp(prefix="mining-scale-"))
    dense = said.retriever != "bm25"
    if not (place / ("queries.npy" if dense else "positive.npy")).is_file():
        place.mkdir(parents=True, exist_ok=True)
        make(place, said.documents, said.queries, dense)
    print(machine())
    print(f"{said.documents:,} documents, {said.queries:,} queries, {said.retriever}", flush=True)
    for cache in (place / "cache", place / "cache-killed"):
        shutil.rmtree(cache, ignore_errors=True)
    whole = run(place, said.retriever, place / "cache")
    print("whole:", json.dumps(whole), flush=True)
    print("again, from what was kept:", json.dumps(run(place, said.retriever, place / "cache")), flush=True)
    if said.kill:
        for seconds in said.kill:
            ended = run(place, said.retriever, place / "cache-killed", seconds)
            print(f"killed after {seconds:g} s" if ended is None else f"ended before {seconds:g} s", flush=True)
        resumed = run(place, said.retriever, place / "cache-killed")
        print("resumed:", json.dumps(resumed), flush=True)
        same = whole is not None and resumed is not None and whole["digest"] == resumed["digest"]
        print("the same rows and scores" if same else "OTHER ROWS", flush=True)
    if said.place is None:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
