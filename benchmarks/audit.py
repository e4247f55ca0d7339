"""False negatives planted in real judgments: how many an audit lists, and what training gains where it obeys what was found.

    python benchmarks/audit.py --find en-bash en-medical zh-statute
    python benchmarks/audit.py --train en-bash --seeds 0 1 --threads 1
    python benchmarks/audit.py --table          # benchmarks/results/audit.md

Queries with several positives are taken first, and of every second one all positives but one are judged not relevant. These sets hold other
false negatives too, which count as wrongly listed, so that the precision is a lower bound. In training a judge who knows the truth marks
the list's beginning.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import homing
from ablation import COMMON, SIZE
from homing import Mining, Model, Training
from homing.auditing import audit
from homing.data import UNSURE, Dataset, Qrels, keyed_pairs, pair_keys
from homing.encoders.kept import Kept
from homing.settings import Auditing
from homing.suspects import Suspects
from quality import MEASURES, RESULTS, SHARED, append, examined, held, lines, minilm
from runs import machine

ARMS = ("true judgments", "planted, ignored", "listed, dropped", "listed, relabelled", "all dropped", "all relabelled")
TOPS = (20, 50, 100, 200)


def planted(train: Dataset, queries: int, seed: int) -> tuple[Dataset, Dataset, NDArray[np.int64]]:
    """So many queries' true judgments, the same with false negatives, and the keys of these."""
    draw = np.random.default_rng(seed)
    asked = draw.permutation(np.array(sorted(train.qrels.positives)))
    several = np.array([len(train.qrels.positives[query]) > 1 for query in asked.tolist()])
    asked = asked[np.argsort(~several, kind="stable")][:queries]
    true = train.with_qrels(train.qrels.of(np.sort(asked)))
    relevance = true.qrels.relevance.copy()
    for query in asked[::2].tolist():
        positives = np.flatnonzero((true.qrels.query == query) & (relevance > 0))
        relevance[draw.permutation(positives)[1:]] = 0
    hidden = (true.qrels.relevance > 0) & (relevance == 0)
    return (
        true,
        true.with_qrels(Qrels(true.qrels.query, true.qrels.document, relevance)),
        pair_keys(true.qrels.query[hidden], true.qrels.document[hidden]),
    )


def precision(hit: NDArray[np.bool_], hidden: int) -> dict[str, float]:
    """Precision at several depths, among them as many as are hidden, and average precision."""
    places = np.flatnonzero(hit)
    return {
        **{f"P@{top}": float(hit[:top].mean()) for top in TOPS},
        "R-precision": float(hit[:hidden].mean()),
        "AP": float(((np.arange(len(places)) + 1) / (places + 1)).sum() / hidden),
    }


def ways(found: Suspects, base: Model, false: Dataset) -> dict[str, NDArray[np.int64]]:
    """What lists made otherwise hold: keys, best first. By the score alone, and by how far it is above a positive's."""
    qrels = false.qrels
    queries, documents = np.unique(qrels.query), np.unique(qrels.document)
    asked = base.encode([false.queries.texts[each] for each in queries.tolist()], "query")
    told = Kept(base).encode([false.corpus.texts[each] for each in documents.tolist()], "document")
    score = np.einsum("pd,pd->p", asked[np.searchsorted(queries, qrels.query)], told[np.searchsorted(documents, qrels.document)])
    lowest, highest = np.full(len(false.queries), np.inf), np.full(len(false.queries), -np.inf)
    relevant = qrels.relevance > 0
    np.minimum.at(lowest, qrels.query[relevant], score[relevant])
    np.maximum.at(highest, qrels.query[relevant], score[relevant])
    able = np.flatnonzero(~relevant & np.isfinite(lowest[qrels.query]))
    every = pair_keys(qrels.query, qrels.document)
    return {
        "score above the lowest positive's": every[able[np.argsort(-(score - lowest[qrels.query])[able], kind="stable")]],
        "score above the highest positive's": every[able[np.argsort(-(score - highest[qrels.query])[able], kind="stable")]],
        "score": every[able[np.argsort(-score[able], kind="stable")]],
        "audit, base": pair_keys(found.query, found.negative),
    }


def find(name: str, queries: int, seed: int, model: Path, max_length: int) -> list[dict[str, Any]]:
    """The precision of each way on one set."""
    base = Model(model, max_length=max_length, name="base")
    _, false, hidden = planted(held(SHARED, name)[0].lists.train, queries, seed)
    found = audit(false, [Kept(base)], Auditing(top=10**9))
    said = {"set": name, "seed": seed, "queries": queries, "negatives": found.of, "planted": len(hidden), "machine": machine()}
    return [
        {**said, "way": way, **precision(np.isin(listed, hidden), len(hidden))} for way, listed in ways(found, base, false).items()
    ]  # fmt: skip


@cache
def judged(name: str, queries: int, seed: int, model: Path, max_length: int, share: float) -> dict[str, Dataset]:
    """The training split of each arm; `share`: of the planted, how long the list is that the judge marks."""
    base = Model(model, max_length=max_length, name="base")
    true, false, hidden = planted(held(SHARED, name)[0].lists.train, queries, seed)
    found = audit(false, [Kept(base)], Auditing(top=int(share * len(hidden))))
    listed = pair_keys(found.query, found.negative)

    def marked(pairs: NDArray[np.int64], relevance: int) -> Dataset:
        pairs = pairs[np.isin(pairs, hidden)]
        return false.changed(Qrels(*keyed_pairs(pairs), np.full(len(pairs), relevance, dtype=np.int32)))

    arms = (true, false, marked(listed, UNSURE), marked(listed, 1), marked(hidden, UNSURE), marked(hidden, 1))
    return dict(zip(ARMS, arms, strict=True))


def train(name: str, arm: str, queries: int, seed: int, model: Path, max_length: int, share: float) -> dict[str, Any]:
    """One arm trained on as many queries as the others, in as many updates, and examined on dev's own judgments."""
    data = judged(name, queries, seed, model, max_length, share)[arm]
    base = Model(model, max_length=max_length, name="base")
    examination = examined(SHARED, name, "dev", base, SIZE)
    settings = Training(**{**COMMON, "epochs": 1.0, "seed": seed})
    work = Path(tempfile.mkdtemp(prefix="audit-"))
    try:
        dev = held(SHARED, name)[0].lists.dev
        adapter = homing.train(base, homing.mine(data, Mining()), dev, settings, out=work / "adapter", logs=work / "logs")
        figures = examination.measure(homing.merge(base, adapter, out=work / "model"))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    positives = int((data.qrels.relevance > 0).sum())
    return {"set": name, "arm": arm, "seed": seed, "queries": queries, "positives": positives, **figures, "training": asdict(settings),
            "threads": torch.get_num_threads(), "machine": machine()}  # fmt: skip


def table(path: Path) -> str:
    """The lines as Markdown, means over seeds."""
    found = lines(path)
    rows = ["| set | way | negatives, planted | P@20 | P@50 | P@100 | P@200 | R-precision | AP |", "|---|---|---|---|---|---|---|---|---|"]
    for name, way in dict.fromkeys((line["set"], line["way"]) for line in found if "way" in line):
        here = [line for line in found if (line["set"], line.get("way")) == (name, way)]
        figures = (sum(line[what] for line in here) / len(here) for what in (*(f"P@{top}" for top in TOPS), "R-precision", "AP"))
        rows.append(
            f"| {name} | {way} | {here[0]['negatives']:,}, {here[0]['planted']:,} | " + " | ".join(f"{each:.2f}" for each in figures) + " |"
        )
    rows += ["", "| set | judgments | positives | seeds | " + " | ".join(MEASURES) + " |", "|---|---|---|---|" + "---|" * len(MEASURES)]
    for name, arm in dict.fromkeys((line["set"], line["arm"]) for line in found if "arm" in line):
        here = [line for line in found if (line["set"], line.get("arm")) == (name, arm)]
        figures = (sum(line[what] for line in here) / len(here) for what in MEASURES)
        rows.append(f"| {name} | {arm} | {here[0]['positives']:,} | {len(here)} | " + " | ".join(f"{each:.4f}" for each in figures) + " |")
    return "\n".join(rows) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--find", nargs="*", default=[], metavar="SET")
    parser.add_argument("--train", nargs="*", default=[], metavar="SET")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--queries", type=int, default=800)
    parser.add_argument("--share", type=float, default=2.0, help="length of the list that is marked, as a multiple of the planted")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    said = parser.parse_args(arguments)
    path = said.results / "audit.jsonl"
    if said.table:
        print(table(path))
        return
    if said.threads:
        torch.set_num_threads(said.threads)
    model = said.model or minilm()
    for seed in said.seeds:
        for name in said.find:
            for line in find(name, said.queries, seed, model, said.max_length):
                append(path, line)
                print(f"{name:12}{line['way']:36}" + "  ".join(f"{what} {line[what]:.2f}" for what in ("P@50", "P@200", "AP")), flush=True)
        for name in said.train:
            for arm in said.arms:
                if any(
                    (line["set"], line.get("arm"), line["seed"], line["queries"]) == (name, arm, seed, said.queries) for line in lines(path)
                ):
                    continue
                line = train(name, arm, said.queries, seed, model, said.max_length, said.share)
                append(path, line)
                print(f"{name:12}{arm:20}" + "  ".join(f"{measure} {line[measure]:.4f}" for measure in MEASURES), flush=True)


if __name__ == "__main__":
    main()
