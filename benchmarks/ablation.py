"""What each default brings: one setting changed at a time, the same queries and updates, examined on dev.

    python benchmarks/ablation.py --sets en-bash en-medical --threads 1
    python benchmarks/ablation.py --table          # benchmarks/results/ablation.md

A line is appended for each finished run, and what has a line is not done again. Every run sees the same number of queries once, so that
a busy machine changes the seconds alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import homing
from examination import Size
from homing import Mining, Model, Training
from homing.manifest import key
from quality import MEASURES, RESULTS, SHARED, append, examined, held, lines, minilm
from runs import machine

SIZE = Size(pool=1200, queries=400, lists=150, dev_lists=150, tokens=110_000)
# "default" has no hardness: the lines were measured so (benchmarks/hardness.py has what that changes).
COMMON: dict[str, Any] = {"tuning": "full", "learning_rate": 2e-4, "hardness": 0.0, "evaluations": 1, "scale": 1.0}
LORA: dict[str, Any] = {"tuning": "lora", "learning_rate": 1e-3}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "LoRA 1e-3": (LORA, {}),
    "temperature .03": ({"temperature": 0.03}, {}),
    "margin .1": ({"margin": 0.1}, {}),
    "cross-query .1": ({"cross_query": 0.1}, {}),
    "3 hard": ({}, {"negatives": 3, "hard": 3}),
    "no negatives": ({}, {"negatives": 0, "hard": 0}),
    "batch 64": ({"batch_size": 64}, {}),
    "positives summed": ({"positives": "sum"}, {}),
    "6 negatives": ({}, {"negatives": 6, "hard": 2}),
    "all weights 4e-4": ({"learning_rate": 4e-4}, {}),
    "all weights 1e-4": ({"learning_rate": 1e-4}, {}),
    "temperature .02": ({"temperature": 0.02}, {}),
    "margin 0": ({"margin": 0.0}, {}),
    "cross-query .3": ({"cross_query": 0.3}, {}),
    "batch 16": ({"batch_size": 16}, {}),
    "scale chosen": ({"scale": None}, {}),
    "LoRA 2e-3": ({**LORA, "learning_rate": 2e-3}, {}),
    "LoRA 1e-3, rank 64": ({**LORA, "rank": 64, "alpha": 128.0}, {}),
    "LoRA 1e-3, dropout .05": ({**LORA, "dropout": 0.05}, {}),
    "rsLoRA 1e-3": ({**LORA, "tuning": "rslora"}, {}),
    "DoRA 1e-3": ({**LORA, "tuning": "dora"}, {}),
    "queries only": ({"train": "queries"}, {}),
    "1 hard": ({}, {"negatives": 1, "hard": 1}),
    "no in-batch": ({"in_batch": False}, {}),
    "temperature .1": ({"temperature": 0.1}, {}),
    "dimensions 128,64": ({"dimensions": "128,64"}, {}),
    "hardness 1": ({"hardness": 1.0}, {}),
    "hardness 5": ({"hardness": 5.0}, {}),
    "hardness 10": ({"hardness": 10.0}, {}),
}


def run(name: str, variant: str, seed: int, queries: int, max_length: int, model: Path) -> dict[str, Any]:
    """Train one variant on `queries` queries of a set and examine it on dev."""
    found, _ = held(SHARED, name)
    training, mining = VARIANTS[variant]
    mined = homing.mine(found.lists.train, Mining(**mining))
    base = Model(model, max_length=max_length, name="base")
    examination = examined(SHARED, name, "dev", base, SIZE)
    settings = Training(**{**COMMON, "epochs": min(1.0, queries / len(set(mined.query.tolist()))), "seed": seed, **training})
    work = Path(tempfile.mkdtemp(prefix="ablation-"))
    try:
        start = time.monotonic()
        adapter = homing.train(base, mined, found.lists.dev, settings, out=work / "adapter", logs=work / "logs")
        seconds = time.monotonic() - start
        updates = [json.loads(line) for line in (work / "logs" / "metrics.jsonl").read_text().splitlines() if "grad_norm" in line]
        tuned = homing.merge(base, adapter, out=work / "model")
        figures = examination.measure(tuned) if settings.train == "both" else examination.measure(tuned, documents=base)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {
        "set": name, "variant": variant, "seed": seed, "training": asdict(settings), "mining": mining, **figures, "scale": adapter.scale,
        "updates": len(updates), "seconds": round(seconds, 1), "threads": torch.get_num_threads(), "machine": machine(),
    }  # fmt: skip


def table(path: Path) -> str:
    """The lines as Markdown: each variant's measures less the default's of the same set and seed, averaged."""
    found = {(line["set"], line["variant"], line["seed"]): line for line in lines(path)}
    sets = list(dict.fromkeys(name for name, _, _ in found))
    rows = ["| variant | " + " | ".join(f"{name} {measure}" for name in sets for measure in MEASURES) + " |"]
    rows.append("|---|" + "---|" * len(sets) * len(MEASURES))
    for variant in ["base", *VARIANTS]:
        cells = []
        for name in sets:
            here = [(seed, line) for (data, which, seed), line in found.items() if (data, which) == (name, variant)]
            for measure in MEASURES:
                if not here:
                    cells.append("")
                elif variant in ("base", "default"):
                    cells.append(f"{sum(line[measure] for _, line in here) / len(here):.4f}")
                else:
                    less = [line[measure] - found[name, "default", seed][measure] for seed, line in here]
                    cells.append(f"{sum(less) / len(less):+.4f}")
        if any(cells):
            rows.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def compete(
    arguments: Sequence[str] | None, told: str | None, variants: Mapping[str, Any], file: str, run: Callable[..., dict[str, Any]],
    table: Callable[[Path], str],
) -> None:  # fmt: skip
    """The command line of a benchmark that trains variants alike and examines each on dev, a line for each finished run."""
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["en-bash", "en-medical"])
    parser.add_argument("--variants", nargs="+", default=["base", *variants], choices=["base", *variants])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--queries", type=int, default=800, help="training queries a run")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    said = parser.parse_args(arguments)
    path = said.results / file
    if said.table:
        print(table(path))
        return
    if said.threads:
        torch.set_num_threads(said.threads)
    model = said.model or minilm()
    for seed in said.seeds:
        for variant in said.variants:
            for name in said.sets:
                digest = key([name, variant, seed, said.queries, said.max_length, variants.get(variant), COMMON, asdict(SIZE)])
                if any(line["digest"] == digest for line in lines(path)):
                    continue
                if variant == "base":
                    base = Model(model, max_length=said.max_length)
                    line = {"set": name, "variant": variant, "seed": seed, **examined(SHARED, name, "dev", base, SIZE).measure(base)}
                else:
                    line = run(name, variant, seed, said.queries, said.max_length, model)
                append(path, {**line, "queries": said.queries, "digest": digest})
                print(f"{name:14}{variant:42}" + "  ".join(f"{measure} {line[measure]:.4f}" for measure in MEASURES), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    compete(arguments, __doc__, VARIANTS, "ablation.jsonl", run, table)


if __name__ == "__main__":
    main()
