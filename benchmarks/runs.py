"""Whole runs on real data, as a table: the verdict, times and peak memory of run directories that `homing run` left.

homing run DATA/train.json --dev DATA/dev.json --test DATA/test.json --model MODEL --out runs/NAME
python benchmarks/runs.py runs/NAME ... > benchmarks/results/runs.md
"""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from homing.runs.recipe import Recipe
from homing.runs.rundir import STAGES


def machine(*packages: str) -> str:
    """The processor's name and the cores that this process may use; behind them, where packages are named, Python's version and theirs."""
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    told = f"{names[0] if names else 'unknown processor'}, {len(os.sched_getaffinity(0))} cores"
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{told}, Python {platform.python_version()}; {versions}" if packages else told


def _interval(found: dict[str, float | None]) -> str:
    if found["low"] is None:
        return f"{found['value']:.4f}"
    return f"{found['value']:.4f} [{found['low']:.3f}, {found['high']:.3f}]"


def section(directory: Path) -> str:
    """One run as Markdown."""
    said = json.loads((directory / "evaluation" / "metrics.json").read_text())
    manifest = json.loads((directory / "manifest.json").read_text())
    recipe = Recipe.read(directory / "recipe.toml")
    counts, models = said["counts"], said["models"]
    training = recipe.training
    lines = [
        f"## {directory.name}",
        "",
        f"{said['verdict']['sentence']}",
        "",
        f"{counts['documents']:,} documents, {counts['test_queries']:,} test queries, {counts['test_pairs']:,} judged test pairs "
        f"({counts['relevant_share']:.1%} relevant; F1 of calling everything relevant {counts['f1_of_calling_everything_relevant']:.4f}). "
        f"{training.epochs:g} epochs, LoRA rank {training.rank}, learning rate {training.learning_rate:g}, "
        f"{recipe.encoding.max_length} tokens a text, seed {training.seed}.",
        "",
        "| test | " + " | ".join(model["name"] for model in models) + " |",
        "|---|" + "---|" * len(models),
    ]
    for name in ("nDCG@10", "R@10", "R@100", "RR@10", "AP", "ROC AUC", "list nDCG", "list RR", "F1", "precision", "recall"):
        cells = [_interval(model["measures"][name]) if name in model["measures"] else "-" for model in models]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("| threshold (dev) | " + " | ".join(f"{model['threshold']:.4f}" if model["threshold"] else "-" for model in models) + " |")
    lines += [f"| F1 at {at} | " + " | ".join(f"{model['f1_at'][at]:.4f}" for model in models) + " |" for at in models[0]["f1_at"]]
    for each in said["differences"]:
        found = ", ".join(
            f"{name} {value['value']:+.4f} [{value['low']:+.4f}, {value['high']:+.4f}]"
            for name, value in each.items()
            if isinstance(value, dict) and "value" in value
        )
        lines += ["", f"{each['model']} - {each['against']}, paired, 95 %: {found}."]
    stages = manifest["stages"]
    lines += ["", "| stage | " + " | ".join(STAGES) + " |", "|---|" + "---|" * len(STAGES)]
    lines.append("| seconds | " + " | ".join(f"{stages[stage]['seconds']:.0f}" for stage in STAGES) + " |")
    peaks = (f"{stages[stage]['peak_memory_bytes'] / 1e9:.1f}" for stage in STAGES)
    lines.append("| peak memory so far, GB | " + " | ".join(peaks) + " |")
    return "\n".join(lines)


def main(directories: list[str]) -> None:
    """Print the runs, with the machine and the versions that they ran on."""
    first = json.loads((Path(directories[0]) / "manifest.json").read_text())["versions"]
    print(
        f"# Whole runs\n\n{machine()}; " + ", ".join(f"{name} {version}" for name, version in first.items() if name != "platform") + ".\n"
    )
    print("\n\n".join(section(Path(directory)) for directory in directories))


if __name__ == "__main__":
    main(sys.argv[1:])
