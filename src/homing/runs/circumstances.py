"""What is known of a run's training, from its directory: evidence for why it brought no gain."""

from __future__ import annotations

import json

import numpy as np

from homing.runs.work import Work
from homing.training.traininglog import FILE, records
from homing.verdicts.causes import Circumstances

SAMPLE = 512  # training positives whose length is counted


def circumstances(work: Work) -> Circumstances:
    """What the run's recipe, data and training logs tell; what is not there is None or empty."""
    train = work.splits.train
    positives = np.unique(train.qrels.document[train.qrels.relevance > 0])
    drawn = np.random.default_rng(0).permutation(positives)[:SAMPLE].tolist()
    counts, unknown = work.base.token_counts([train.corpus.texts[document] for document in drawn], "document")
    logs = work.directory / "training"
    log = records(logs / FILE)
    looks = [each for each in log if isinstance(each.get("dev_nDCG@10"), (int, float))]
    scales = logs / "scales.json"
    return Circumstances(
        train=train,
        groups=work.splits.groups,
        cut=float((counts > work.base.max_length).mean()) if len(counts) else None,
        unknown=float(unknown.sum() / counts.sum()) if len(counts) else None,
        max_length=work.base.max_length,
        learning_rate=work.recipe.training.learning_rate,
        looks=[float(each["dev_nDCG@10"]) for each in looks],
        dev=len(work.splits.dev.qrels.positives),
        general=[float(each["general_nDCG@10"]) for each in looks if isinstance(each.get("general_nDCG@10"), (int, float))],
        minutes=work.recipe.training.minutes,
        epochs=float(log[-1]["epoch"]) if log else None,
        updates=int(log[-1]["step"]) if log else 0,
        scale=json.loads(scales.read_text(encoding="utf-8"))["chosen"] if scales.is_file() else None,
    )
