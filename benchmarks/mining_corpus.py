"""Mining from a corpus beside its peers: BM25 against bm25s and rank_bm25, a model against sentence-transformers' mine_hard_negatives.

    python benchmarks/mining_corpus.py bm25                          # every set of ../shared/data
    python benchmarks/mining_corpus.py dense --sets en-bash          # all-MiniLM-L6-v2 at 64 tokens

BM25: the same terms for all, cut beforehand; index, and search of the training queries, top 100; arms take turns, the fastest counts.
bm25s is used plainly: `index` and `retrieve`, method robertson. rank_bm25 searches the first queries alone. "equal" is the share of
queries whose scores agree with bm25s' (times 2.5) to 1e-3.

Dense: each side is a process of its own, reads the pairs, encodes, and mines ten negatives a query below 0.95 of the positive's score out
of 100. "same" is the share of Homing's that both found, over queries with one positive. Seconds are the processor's, for mining,
encoding included; memory "for mining" is the process's peak less what it held before: imports, the data, and the model, which has encoded
a few texts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rank_bm25 import BM25Okapi

import homing
from homing import Mining
from homing.data import Dataset
from homing.retrievers import bm25 as ours
from homing.texts.terms import Rule, rule_of
from mining import dataset, race, read
from quality import SHARED, minilm
from runs import machine

TOP_K, NEGATIVES, TOKENS = 100, 10, 64


class Cut(Rule):
    """A rule whose terms were cut before: it splits at blanks."""

    def cut(self, text: str) -> list[str]:
        return text.split(" ") if text else []

    def stem(self, cut: list[str]) -> list[str]:  # type: ignore[override]
        return cut


def words_of(data: Dataset) -> tuple[list[list[str]], list[list[str]]]:
    rule = rule_of(data.corpus.texts)
    queries = [data.queries.texts[query] for query in data.qrels.queries.tolist()]
    return [rule.terms(text) for text in data.corpus.texts], [rule.terms(text) for text in queries]


def race_bm25(name: str, turns: int, slow: int) -> None:
    import bm25s

    data = homing.load(SHARED / name / "train.json")
    documents, queries = words_of(data)
    queries = [query for query in queries if query]
    joined, asked = [" ".join(each) for each in documents], [" ".join(each) for each in queries]
    plain, own, okapi = bm25s.BM25(method="robertson"), ours.BM25(Cut()), [BM25Okapi(documents, epsilon=0)]
    top_k = min(TOP_K, len(documents))

    def index_plain() -> None:
        plain.index(documents, show_progress=False)

    def search_plain() -> tuple[np.ndarray, np.ndarray]:
        return plain.retrieve(queries, k=top_k, show_progress=False)  # type: ignore[no-any-return]

    arms: dict[str, Callable[[], object]] = {
        "bm25s index": index_plain, "index": lambda: own.fit(joined), "bm25s search": search_plain,
        "search": lambda: own.search(asked, top_k), "rank_bm25 search": lambda: [okapi[0].get_scores(query) for query in queries[:slow]],
    }  # fmt: skip
    seconds = race(arms, turns)
    _, scores = search_plain()
    run = own.search(asked, top_k)
    equal = np.isclose(np.maximum(scores, 0) * 2.5, run.score, atol=1e-3, rtol=1e-4).all(axis=1).mean()
    rate = {arm: len(queries) / seconds[arm] for arm in ("bm25s search", "search")}
    rate["rank_bm25 search"] = min(slow, len(queries)) / seconds["rank_bm25 search"]
    cells = [name, f"{len(documents):,}", f"{len(queries):,}", f"{seconds['bm25s index']:.2f}", f"{seconds['index']:.2f}"]
    cells += [f"{rate['rank_bm25 search']:,.0f}", f"{rate['bm25s search']:,.0f}", f"{rate['search']:,.0f}"]
    cells += [f"**{rate['search'] / rate['bm25s search']:.1f}**", f"{equal:.3f}"]
    print("|", " | ".join(cells), "|", flush=True)


def pairs(name: str, lists: int) -> Dataset:
    from negatives import positives

    return positives(dataset(read(SHARED / name / "train.json")[:lists]))


class Watch:
    """Time and memory from here on: seconds of the processor, the process's peak and what of it came on top, in GiB (Linux)."""

    def __init__(self) -> None:
        self.held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**30
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        self.start = time.process_time()

    def figures(self) -> list[float]:
        status = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**20
        return [time.process_time() - self.start, peak, peak - self.held]


def mine_ours(name: str, lists: int, model: Path, out: Path) -> None:
    data = pairs(name, lists)
    settings = Mining(retriever="dense", negatives=NEGATIVES, hard=NEGATIVES)
    encoder = homing.Model(model, max_length=TOKENS)
    encoder.encode(data.queries.texts[:64], "query")
    watch = Watch()
    mined = homing.mine(data, settings, encoder=encoder)
    Path(f"{out}.figures").write_text(json.dumps(watch.figures()))
    assert mined.pool is not None
    found: dict[int, list[int]] = {}
    for query, document, source in zip(mined.pool.query.tolist(), mined.pool.document.tolist(), mined.pool.source.tolist(), strict=True):
        if mined.SOURCES[source] == "dense" and len(found.setdefault(query, [])) < NEGATIVES:
            found[query].append(document)
    out.write_text(json.dumps({data.queries.texts[q]: [data.corpus.texts[d] for d in ds] for q, ds in found.items()}))


def mine_theirs(name: str, lists: int, model: Path, out: Path) -> None:
    from datasets import Dataset as Table
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    data = pairs(name, lists)
    query, document = data.qrels.query.tolist(), data.qrels.document.tolist()
    table = Table.from_dict({"query": [data.queries.texts[q] for q in query], "answer": [data.corpus.texts[d] for d in document]})
    encoder = SentenceTransformer(str(model), device="cpu")
    encoder.max_seq_length = TOKENS
    encoder.encode(list(data.queries.texts[:64]))
    watch = Watch()
    mined = mine_hard_negatives(
        table, encoder, corpus=list(data.corpus.texts), range_max=TOP_K, relative_margin=0.05, num_negatives=NEGATIVES,
        sampling_strategy="top", output_format="triplet", batch_size=32, verbose=False,
    )  # fmt: skip
    Path(f"{out}.figures").write_text(json.dumps(watch.figures()))
    found: dict[str, list[str]] = {}
    for row in mined:
        found.setdefault(row["query"], []).append(row["negative"])
    out.write_text(json.dumps(found))


def race_dense(name: str, lists: int, model: Path) -> None:
    figures, found = {}, {}
    for side in ("theirs", "ours"):
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "found.json"
            command = [sys.executable, __file__, "dense", "--sets", name, "--lists", str(lists), "--model", str(model), "--side", side]
            subprocess.run([*command, "--out", str(out)], check=True, env={**os.environ, "HOMING_CACHE": "off"})
            figures[side] = json.loads(Path(f"{out}.figures").read_text())
            found[side] = json.loads(out.read_text())
    data = pairs(name, lists)
    single = [data.queries.texts[query] for query, positives in data.qrels.positives.items() if len(positives) == 1]
    both = [(set(found["ours"].get(query, ())), set(found["theirs"].get(query, ()))) for query in single]
    same = sum(len(one & other) for one, other in both) / max(1, sum(len(one) for one, _ in both))
    cells = [name, f"{len(data.corpus):,}", f"{len(data.qrels.queries):,}"]
    cells += [f"{figures[side][0]:.0f}" for side in ("theirs", "ours")]
    cells += [f"{figures[side][1]:.2f}" for side in ("theirs", "ours")]
    cells += [f"{1024 * figures[side][2]:.0f}" for side in ("theirs", "ours")]
    print("|", " | ".join([*cells, f"{same:.3f}"]), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bm25", "dense"])
    parser.add_argument("--sets", nargs="+", default=["en-bash", "en-medical", "zh-statute", "zh-cli"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--slow", type=int, default=200, help="queries that rank_bm25 searches")
    parser.add_argument("--lists", type=int, default=100_000, help="candidate lists whose documents are the corpus of the dense race")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args()
    model = said.model or minilm()
    if said.side is not None:
        (mine_ours if said.side == "ours" else mine_theirs)(said.sets[0], said.lists, model, said.out)
        return
    print(machine() + "\n")
    if said.what == "bm25":
        os.environ["HOMING_CACHE"] = "off"
        print("| set | documents | queries | bm25s index, s | index, s | rank_bm25, queries/s | bm25s | Homing | **ratio** | equal |")
        print("|---|" + "--:|" * 9)
    else:
        columns = "set | documents | queries | mine_hard_negatives, s | Homing, s | its peak, GiB | peak, GiB"
        print(f"| {columns} | its memory for mining, MiB | memory for mining, MiB | same |")
        print("|---|" + "--:|" * 9)
    for name in said.sets:
        race_bm25(name, said.turns, said.slow) if said.what == "bm25" else race_dense(name, said.lists, model)


if __name__ == "__main__":
    main()
