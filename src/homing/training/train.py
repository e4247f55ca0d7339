"""Train on mined rows: what is left open chosen, one training done (`session`), and what was learned handed over as an adapter."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from homing import conventions
from homing.arguments import demand, demand_path
from homing.data import Dataset, Mined
from homing.encoders.adapter import MARKS, Adapter
from homing.encoders.memory import total
from homing.encoders.model import Model
from homing.encoders.tuning import default_tuning
from homing.errors import JudgmentError, SettingError
from homing.manifest import demand_replaceable, replace_directory
from homing.progress import Say
from homing.settings import Training
from homing.training.journal import CHECKPOINT_ONLY
from homing.training.learner import Teacher
from homing.training.objective import temperature_and_hardness
from homing.training.schedule import default_learning_rate
from homing.training.session import Session


def train(
    base: Model,
    mined: Mined,
    dev: Dataset,
    settings: Training | None = None,
    *,
    out: str | Path = "runs/adapter",
    logs: str | Path | None = None,
    teacher: Teacher | None = None,
    general: Dataset | None = None,
    start: Adapter | None = None,
    say: Say = lambda line: None,
) -> Adapter:
    """Train `base` on mined rows; returns what was learned, at the checkpoint with the best nDCG@10 on dev and the scale that dev chose.

    `out` becomes the adapter's directory. `logs` (by default `training` beside it) holds metrics.jsonl, a line an update and a line a look
    at dev, scales.json and the last checkpoints: called again with the same inputs after a stop, training goes on from the last one and
    ends with the same weights (with `settings.minutes` a clock decides how many updates there are, and two trainings differ). `base`
    itself is not changed. `general`: judgments outside the domain, looked at beside dev to show what is forgotten. `start`: what training
    goes on from in place of the base, at the share of it that was kept; the first checkpoint, and the best until another is better.

    Raises JudgmentError where there is nothing to train on, TrainingError where a loss or gradient is not finite, ModelError where
    `start` is not of this base, SettingError where it is of another kind than the settings ask for and where an argument is of another
    kind than it has to be, RunError where `out` holds something that is no adapter.
    """
    began = time.monotonic()
    demand(Model, base=base)
    demand(Mined, mined=mined)
    demand(Dataset, dev=dev)
    demand(Training | None, settings=settings)
    demand(Dataset | None, general=general)
    demand(Adapter | None, start=start)
    demand_path(out=out, logs=out if logs is None else logs)
    if teacher is not None and not callable(getattr(type(teacher), "teach", None)):
        raise SettingError(
            "teacher is not what belongs there", got=type(teacher).__name__, expected="a teacher",
            remedy="homing.training.teacher.open_teacher(source, mined, directory) makes one, of a model's directory or a file of scores.",
        )  # fmt: skip
    settings = settings or Training()
    out = Path(out)
    logs = Path(logs) if logs is not None else out.parent / "training"
    if not len(mined):
        raise JudgmentError("there is no row to train on", remedy="Training needs at least one query with a relevant document.")
    if teacher is None and not _contrasts(mined, settings):
        raise JudgmentError(
            "there is no negative to train against",
            remedy="Give --negatives 1 or more, or several queries an update (--batch-size) that contrast (no --no-in-batch).",
        )
    demand_replaceable(out, *MARKS)
    settings = resolved(base, settings, start)
    session = Session(base, mined, dev, settings, logs, teacher, general, start, say, began)
    try:
        best, scale = session.run()
    finally:
        session.learner.tuning.detach()
    with replace_directory(out, *MARKS) as fresh:
        shutil.copytree(best, fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*CHECKPOINT_ONLY, "README.md"))
        conventions.put(fresh, scale=scale, train=settings.train)
    return Adapter(out)


def _contrasts(mined: Mined, settings: Training) -> bool:
    """Whether anything stands against any positive: a drawn negative, another query's document, or with fixed documents the corpus."""
    others = settings.train == "queries" or (settings.batch_size > 1 and len(np.unique(mined.query)) > 1)
    return bool((mined.negative >= 0).any()) or (settings.in_batch and others)


def resolved(base: Model, settings: Training, start: Adapter | None = None) -> Training:
    """The settings with what was left open chosen by the model and the free memory; kind, rank and alpha are those of `start`.

    Raises SettingError where another kind is asked for than that of `start`, dimensions that the model's embeddings don't have, or a prompt
    that leaves no room for a text.
    """
    if not all(1 <= each <= base.dimension for each in settings.shorter):
        raise SettingError(
            "--dimensions names one that the model's embeddings don't have", got=settings.dimensions,
            expected=f"each from 1 to {base.dimension}", remedy="Name shorter embeddings than the model's own, as 256,128.",
        )  # fmt: skip
    for kind in base.prompts:
        taken = len(base.tokenize([""], kind, truncate=False).ids)
        if taken >= base.max_length:
            raise SettingError(
                f"the prompt leaves no room for a {kind}", where=base.name, got=f"{taken} tokens of {base.max_length}",
                remedy="Give a larger --max-length, or a shorter prompt.",
            )  # fmt: skip
    if start is not None:
        if settings.tuning not in (None, start.tuning):
            raise SettingError(
                "--tuning is not that of the adapter that training goes on from", got=settings.tuning or "", where=str(start.path),
                expected=start.tuning, remedy="Leave --tuning out, or --from.",
            )  # fmt: skip
        settings = replace(settings, tuning=start.tuning, **start.shape)
    tuning = settings.tuning or default_tuning(base.parameters, total(base.device))
    temperature, hardness = temperature_and_hardness(settings, base.unit_length)
    return replace(
        settings,
        tuning=tuning,
        learning_rate=settings.learning_rate or default_learning_rate(base.parameters, tuning),
        temperature=temperature,
        hardness=hardness,
    )
