"""Candidate lists scored by Homing and by the plain script (jieba and rank_bm25, list by list, in any language), side by side.

    python benchmarks/mining.py                          # ../shared/data, or made text where that is absent
    python benchmarks/mining.py --data DIR --lists 400   # DIR/*/train.json, JSON lists of judged candidates

One warm process, one thread. The arms take turns, an arm over and over for at least half a second, and the fastest turn of each counts.
"first" is the first lists of a file, "whole" all of them. "split" is a plain script that cuts English by `lower().split()` instead, which
is cheaper than jieba and leaves punctuation on its words. "same words" leaves the cutting out: both sides get the very same words,
Homing's; on these the scores are compared.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rank_bm25 import BM25Okapi

from homing.builder import Builder
from homing.data import Dataset
from homing.mining import mine
from homing.retrievers.bm25 import okapi, score_lists
from homing.texts.words import is_chinese, words
from runs import machine

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jieba

Lists = list[tuple[str, list[tuple[str, int]]]]
Cut = Callable[[str], list[str]]
TURN = 0.5  # seconds
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def read(path: Path) -> Lists:
    records = json.loads(path.read_text())
    keys = ("content_private", "content_public")
    return [(r["query"], [(c["content"], int(c["is_relevant"])) for key in keys for c in r.get(key, ())]) for r in records]


def made(count: int = 1000) -> Lists:
    """Lists of 21 candidates out of 5 * count documents; the words are drawn as if by Zipf's law."""
    generator = np.random.default_rng(0)
    vocabulary = np.array(["".join(random.Random(number).choices("aeioulnrst", k=3 + number % 7)) for number in range(20_000)])
    documents = [" ".join(vocabulary[generator.zipf(1.2, 80) % 20_000]) for _ in range(5 * count)]
    chosen = [generator.choice(len(documents), 21, replace=False).tolist() for _ in range(count)]
    return [(" ".join(documents[c[0]].split()[:8]) + f" {n}", [(documents[d], int(d == c[0])) for d in c]) for n, c in enumerate(chosen)]


def dataset(lists: Lists) -> Dataset:
    builder = Builder()
    for query, candidates in lists:
        for text, relevance in candidates:
            builder.judge(builder.query(query), builder.document(text), relevance)
    return builder.dataset()


def plain(data: Dataset, cut: Cut) -> Iterator[np.ndarray]:
    """The plain script: each list by itself."""
    for query, documents, _ in data.qrels.lists():
        yield BM25Okapi([cut(data.corpus.texts[document]) for document in documents]).get_scores(cut(data.queries.texts[query]))


def race(arms: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Seconds of the fastest turn of each arm, the arms taking turns; a turn is the mean over as many calls as fill half a second."""
    best = dict.fromkeys(arms, float("inf"))
    for _ in range(turns):
        for name, arm in arms.items():
            start, calls, seconds = time.perf_counter(), 0, 0.0
            while seconds < TURN:
                arm()
                calls, seconds = calls + 1, time.perf_counter() - start
            best[name] = min(best[name], seconds / calls)
    return best


COLUMNS = (
    *("lists", "queries", "plain", "scores", "**ratio**", "mine", "ratio", "split", "ratio of scores"),
    *("same words: plain", "scores", "ratio", "largest difference"),
)


def measure(name: str, lists: Lists, turns: int) -> list[str]:
    """The cells of one row of the table; speeds are queries a second."""
    data = dataset(lists)
    chinese = sum(is_chinese(query) for query, _ in lists) > 0.5 * len(lists)
    cut = {text: words(text, chinese) for text in (*data.queries.texts, *data.corpus.texts)}
    queries, documents = [cut[text] for text in data.queries.texts], [cut[text] for text in data.corpus.texts]
    pairs = data.qrels.query, data.qrels.document
    arms: dict[str, Callable[[], object]] = {
        "plain": lambda: list(plain(data, jieba.lcut)),
        "scores": lambda: score_lists(data),
        "mine": lambda: mine(data),
        "same plain": lambda: list(plain(data, cut.__getitem__)),
        "same scores": lambda: okapi(queries, documents, *pairs),
    }
    if not chinese:
        arms["split"] = lambda: list(plain(data, lambda text: text.lower().split()))
    rate = {arm: len(lists) / second for arm, second in race(arms, turns).items()}
    difference = np.abs(np.concatenate(list(plain(data, cut.__getitem__))) - okapi(queries, documents, *pairs)).max()
    return [
        *(name, f"{len(lists):,}", f"{rate['plain']:,.0f}", f"{rate['scores']:,.0f}", f"**{rate['scores'] / rate['plain']:.1f}**"),
        *(f"{rate['mine']:,.0f}", f"{rate['mine'] / rate['plain']:.1f}"),
        *((f"{rate['split']:,.0f}", f"{rate['scores'] / rate['split']:.1f}") if "split" in rate else ("", "")),
        *(f"{rate['same plain']:,.0f}", f"{rate['same scores']:,.0f}", f"{rate['same scores'] / rate['same plain']:.1f}"),
        f"{difference:.0e}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Candidate lists against jieba + rank_bm25.")
    parser.add_argument("--data", type=Path, default=SHARED, help="a folder of folders with a train.json")
    parser.add_argument("--lists", type=int, default=400, help="lists of the short arm")
    parser.add_argument("--turns", type=int, default=3, help="turns of each arm; the fastest counts")
    arguments = parser.parse_args()

    jieba.setLogLevel(logging.ERROR)
    jieba.initialize()
    words("预热")
    print(machine("numpy", "scipy", "rjieba", "jieba", "rank-bm25") + "\n")
    print("|", " | ".join(COLUMNS), "|")
    print("|" + "--:|" * len(COLUMNS))
    files = sorted(arguments.data.glob("*/train.json"))
    for name, lists in ((file.parent.name, read(file)) for file in files) if files else [("made text", made())]:
        for part, chosen in (("first", lists[: arguments.lists]), ("whole", lists)):
            print("|", " | ".join(measure(f"{name}, {part}", chosen, arguments.turns)), "|", flush=True)


if __name__ == "__main__":
    main()
