"""What training learns from each kind of negatives, at the same budget: the same queries and updates, examined on dev.

    python benchmarks/negatives.py --sets en-bash en-medical --threads 1
    python benchmarks/negatives.py --table          # for benchmarks/results/negatives.md

"lists" has the judged negatives, "pairs" is the same data without them: there every negative is found in the corpus, or drawn by chance. A
line is appended for each finished run, and what has a line is not done again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import homing
from ablation import COMMON, SIZE, compete
from homing import Mining, Model, Training
from homing.data import Dataset, Mined, Qrels
from homing.encoders.kept import Kept
from quality import MEASURES, SHARED, examined, held, lines
from runs import machine

THREE = {"negatives": 3, "hard": 3}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "in-batch alone": ("pairs", {"negatives": 0, "hard": 0}),
    "lists: 1 hard, 2 easy": ("lists", {"retriever": "list"}),
    "lists: 3 hard": ("lists", {"retriever": "list", **THREE}),
    "lists, corpus statistics: 1 hard, 2 easy": ("lists", {"retriever": "bm25"}),
    "lists, by the model: 1 hard, 2 easy": ("lists", {"retriever": "dense"}),
    "pairs: 3 by chance": ("pairs", {"retriever": "list"}),
    "pairs, bm25: 1 hard, 2 easy": ("pairs", {"retriever": "bm25"}),
    "pairs, bm25: 3 hard": ("pairs", {"retriever": "bm25", **THREE}),
    "pairs, dense: 1 hard, 2 easy": ("pairs", {"retriever": "dense"}),
    "pairs, dense: 3 hard": ("pairs", {"retriever": "dense", **THREE}),
    "pairs, dense without a cap: 3 hard": ("pairs", {"retriever": "dense", "cap": 100.0, **THREE}),
    "pairs, fused: 1 hard, 2 easy": ("pairs", {"retriever": "fused"}),
    "pairs, fused: 3 hard": ("pairs", {"retriever": "fused", **THREE}),
}


def positives(train: Dataset) -> Dataset:
    """The same without its judged negatives."""
    keep = train.qrels.relevance > 0
    return train.with_qrels(Qrels(train.qrels.query[keep], train.qrels.document[keep], train.qrels.relevance[keep]))


def described(mined: Mined) -> dict[str, float]:
    """Shares of the rows' negatives by source, and their mean rank where they have one."""
    there = mined.negative >= 0
    counts = np.bincount(mined.source[there], minlength=len(Mined.SOURCES)) / max(1, int(there.sum()))
    return {name: round(float(share), 3) for name, share in zip(Mined.SOURCES, counts, strict=True) if share}


def run(name: str, variant: str, seed: int, queries: int, max_length: int, model: Path) -> dict[str, Any]:
    """Train on one kind of negatives for `queries` queries of a set, and examine on dev."""
    found, _ = held(SHARED, name)
    kind, settings = VARIANTS[variant]
    base = Model(model, max_length=max_length, name="base")
    start = time.monotonic()
    train = found.lists.train if kind == "lists" else positives(found.lists.train)
    mined = homing.mine(train, Mining(**settings, seed=seed), encoder=Kept(base))
    mining_seconds = time.monotonic() - start
    examination = examined(SHARED, name, "dev", base, SIZE)
    training = Training(**{**COMMON, "epochs": min(1.0, queries / len(set(mined.query.tolist()))), "seed": seed})
    work = Path(tempfile.mkdtemp(prefix="negatives-"))
    try:
        start = time.monotonic()
        adapter = homing.train(base, mined, found.lists.dev, training, out=work / "adapter", logs=work / "logs")
        seconds = time.monotonic() - start
        updates = [json.loads(line) for line in (work / "logs" / "metrics.jsonl").read_text().splitlines() if "grad_norm" in line]
        figures = examination.measure(homing.merge(base, adapter, out=work / "model"))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {
        "set": name, "variant": variant, "seed": seed, "mining": settings, "sources": described(mined), **figures, "updates": len(updates),
        "mining_seconds": round(mining_seconds, 1), "seconds": round(seconds, 1), "threads": torch.get_num_threads(), "machine": machine(),
    }  # fmt: skip


def table(path: Path) -> str:
    """The lines as Markdown: the measures of each kind, averaged over seeds."""
    found = lines(path)
    sets, seeds = list(dict.fromkeys(line["set"] for line in found)), sorted({line["seed"] for line in found})
    rows = [
        f"| negatives (seeds {', '.join(map(str, seeds))}) | "
        + " | ".join(f"{name} {measure}" for name in sets for measure in MEASURES)
        + " |"
    ]
    rows.append("|---|" + "--:|" * len(sets) * len(MEASURES))
    for variant in ["base", *VARIANTS]:
        here = [line for line in found if line["variant"] == variant]
        if not here:
            continue
        means = [[line[measure] for line in here if line["set"] == name] for name in sets for measure in MEASURES]
        rows.append(f"| {variant} | " + " | ".join(f"{sum(each) / len(each):.4f}" if each else "" for each in means) + " |")
    return "\n".join(rows) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    compete(arguments, __doc__, VARIANTS, "negatives.jsonl", run, table)


if __name__ == "__main__":
    main()
