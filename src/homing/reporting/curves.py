"""The curves of a training, from what it left in its logs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from homing.figures.canvas import Line, Mark
from homing.figures.chart import Chart
from homing.figures.history import history
from homing.reporting import phrases
from homing.reporting.language import Phrase
from homing.training import traininglog

Record = dict[str, float]


def training_charts(training: Path | None) -> list[tuple[Phrase, Chart]]:
    """A caption and a chart for each thing that `training` (a directory, or its `metrics.jsonl`) recorded; none where it holds nothing."""
    return [*_curves(records(training)), *_kept(_scales(training))]


def records(training: Path | None) -> list[Record]:
    """The records of `metrics.jsonl`; a step that was run again after a resume counts once, a line cut off by a kill not at all."""
    if training is None:
        return []
    steps: dict[tuple[float, bool], Record] = {}
    for record in traininglog.records(training / traininglog.FILE if training.is_dir() else training):
        if isinstance(record.get("step"), (int, float)):
            numbers = {key: float(value) for key, value in record.items() if isinstance(value, (int, float))}
            steps[numbers["step"], any(key.startswith("dev_") for key in numbers)] = numbers
    return [steps[key] for key in sorted(steps)]


def line(
    history: Sequence[Record], key: str, label: str = "", tone: str = "series-1", *, noisy: bool = False, dashed: bool = False
) -> list[Line]:
    """The line of one key over the steps; none where it was never recorded as a number."""
    points = [(record["step"], record[key]) for record in history if math.isfinite(record.get(key, math.nan))]
    x, y = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return [Line(label, x, y, tone, noisy=noisy, dashed=dashed)] if points else []


def _scales(training: Path | None) -> dict[str, Any]:
    """What `scales.json` holds: nDCG@10 at each share of what was learned, and the share that dev chose; nothing where there is none."""
    path = training / "scales.json" if training is not None and training.is_dir() else None
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path is not None and path.is_file() else {}


def _kept(scales: Mapping[str, Any]) -> list[tuple[Phrase, Chart]]:
    """The panel of the shares: what was gained on dev beside what was lost on the general set, where there is one."""
    if not scales:
        return []
    found = scales["scales"]
    x = np.array([each["scale"] for each in found], dtype=np.float64)
    chosen = int(np.flatnonzero(x == scales["chosen"])[0])
    lines = []
    for key, label, tone in (("dev_nDCG@10", "dev", "series-2"), ("general_nDCG@10", "general", "series-1")):
        if all(each.get(key) is not None for each in found):
            y = np.array([each[key] for each in found], dtype=np.float64)
            lines.append(Line(label, x, y, tone, (Mark(float(x[chosen]), float(y[chosen])),)))
    title = phrases.SHARE_KEPT
    return [(title, history("training-scales", title.en, lines, "share kept"))]


def _curves(found: Sequence[Record]) -> list[tuple[Phrase, Chart]]:
    panels: list[tuple[Phrase, list[Line]]] = [
        (phrases.TRAINING_LOSS, line(found, "loss", noisy=True)),
        (phrases.DEV_LOSS, line(found, "dev_loss", tone="series-2")),
    ]
    known = {"dev_loss", "dev_positive_score", "dev_negative_score"}
    for key in dict.fromkeys(key for record in found for key in record if key.startswith("dev_") and key not in known):
        on_dev = line(found, key, tone="series-2")
        if on_dev:
            best = int(np.argmax(on_dev[0].y))
            on_dev = [replace(on_dev[0], marks=(Mark(float(on_dev[0].x[best]), float(on_dev[0].y[best])),))]
            if away := line(found, key.replace("dev_", "general_"), "general", "series-1"):
                on_dev = [replace(on_dev[0], label="dev"), *away]
        panels.append((phrases.ON_DEV.format(measure=key.removeprefix("dev_")), on_dev))
    scores = [
        *line(found, "positive_score", "positives", "relevant", noisy=True),
        *line(found, "dev_positive_score", "on dev", "relevant", dashed=True),
        *line(found, "negative_score", "negatives", "other", noisy=True),
        *line(found, "dev_negative_score", "on dev", "other", dashed=True),
    ]
    panels += [
        (phrases.MEAN_SCORES, scores),
        (phrases.LEARNING_RATE, line(found, "learning_rate", tone="series-0")),
        (phrases.GRADIENT_NORM, line(found, "grad_norm", tone="series-0", noisy=True)),
    ]
    return [(title, history(f"training-{place}", title.en, lines)) for place, (title, lines) in enumerate(panels) if lines]
