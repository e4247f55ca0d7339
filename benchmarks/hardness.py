"""What it brings to weigh harder negatives more, by the clock: three minutes of training with and without, examined on dev.

    python benchmarks/hardness.py full:en-medical:0 lora:en-bash:0     # what learns, a set, a seed
    python benchmarks/hardness.py --table

As benchmarks/quality.py trains and examines, but on dev: a default is not chosen on test. A line is appended for each finished run.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from homing import Training
from quality import MEASURES, RESULTS, SETS, SHARED, Bench, append, lines, minilm

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("homing", {}), "lora": ("homing-lora", {"tuning": "lora"}), "queries": ("homing-queries", {"train": "queries"})
}  # fmt: skip
WITHOUT, WITH = 0.0, 5.0
FILE = RESULTS / "hardness.jsonl"


def compare(kind: str, name: str, seed: int) -> None:
    """Both trainings of one kind on one set from one seed, where they have no line yet."""
    bench = Bench(SHARED, minilm(), 3.0, 128)
    arm, changed = KINDS[kind]
    for hardness in (WITHOUT, WITH):
        settings = Training(hardness=hardness, **changed)
        digest = bench.what(name, arm, seed, settings, "dev")["digest"]
        if all(line["digest"] != digest for line in lines(FILE)):
            line = bench.line(name, arm, seed, settings, "dev")
            append(FILE, {**line, "hardness": hardness})
            print(f"{name:14}{arm:16}seed {seed}  hardness {hardness:g}  " + "  ".join(f"{m} {line[m]:.4f}" for m in MEASURES), flush=True)


def table() -> str:
    """Each comparison as Markdown: without, and what it changes."""
    found: dict[tuple[str, str, int], dict[float, dict[str, Any]]] = {}
    for line in lines(FILE):
        found.setdefault((line["arm"], line["set"], line["seed"]), {})[line["hardness"]] = line
    both = {place: pair for place, pair in found.items() if len(pair) == 2}
    rows = ["| arm | set, seed | updates | " + " | ".join(MEASURES) + " | changed by |", "|---|---|---|" + "---|" * (len(MEASURES) + 1)]
    for (arm, name, seed), pair in both.items():
        cells = [f"{pair[WITHOUT][measure]:.4f}" for measure in MEASURES]
        changes = ", ".join(f"{pair[WITH][measure] - pair[WITHOUT][measure]:+.4f}" for measure in MEASURES)
        rows.append(f"| {arm} | {name}, {seed} | {pair[WITHOUT]['steps']}, {pair[WITH]['steps']} | {' | '.join(cells)} | {changes} |")
    means = (sum(pair[WITH][m] - pair[WITHOUT][m] for pair in both.values()) / max(len(both), 1) for m in MEASURES)
    return "\n".join([*rows, f"| mean | | | | | | {', '.join(f'{mean:+.4f}' for mean in means)} |"])


def _place(said: str) -> tuple[str, str, int]:
    """KIND:SET:SEED in its parts."""
    kind, name, seed = [*said.split(":"), "", ""][:3]
    if kind not in KINDS or name not in SETS or not seed.isdecimal() or said.count(":") != 2:
        raise argparse.ArgumentTypeError(f"{said!r} is not like full:en-bash:0")
    return kind, name, int(seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = f"of {', '.join(KINDS)}; of {', '.join(SETS)}; a number"
    parser.add_argument("what", nargs="*", type=_place, metavar="KIND:SET:SEED", help=what)
    parser.add_argument("--table", action="store_true", help="print all comparisons as Markdown")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1)")
    said = parser.parse_args()
    if not said.what and not said.table:
        parser.error("give KIND:SET:SEED, or --table")
    torch.set_num_threads(said.threads)
    for kind, name, seed in said.what:
        compare(kind, name, seed)
    if said.table:
        print(table())
