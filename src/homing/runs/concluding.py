"""What an evaluation came to: read back from its directory, and the verdict with what only its run knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from homing.checking import leaks
from homing.data import Splits
from homing.encoders.adapter import Adapter
from homing.formats.evaluation import read_causes, read_context, read_evaluation
from homing.measures.evaluations import Evaluation
from homing.settings import Evaluating
from homing.verdicts.slices import columns_of
from homing.verdicts.verdict import Verdict, compare
from homing.verdicts.wording import KEPT

SHARED = "The split lets positives be shared between train and test, as was asked for: new questions to known answers."


def conclude(evaluation: Path, splits: Splits, settings: Evaluating, run: Path | None) -> tuple[list[Evaluation], Verdict]:
    """The evaluations that a directory holds and the verdict on them, with what its run adds where it is of one.

    Causes of no gain are those that were found when training's circumstances were at hand. Raises FormatError where the directory
    holds no evaluation, or one of other splits.
    """
    found = read_evaluation(evaluation, splits)
    verdict = compare(
        found, settings.resamples, settings.seed, settings.worthwhile,
        columns=columns_of(splits.test.queries, settings.slice_by), context=read_context(evaluation),
    )  # fmt: skip
    causes = verdict.causes if verdict.outcome == "gained" else read_causes(evaluation)
    return found, annotated(replace(verdict, causes=causes), splits, run)


def annotated(verdict: Verdict, splits: Splits, run: Path | None) -> Verdict:
    """The verdict with notes on how its data was split, and on a training that dev kept nothing of."""
    kept = (KEPT,) if run is not None and (run / "adapter").is_dir() and Adapter(run / "adapter").scale == 0 else ()
    shared = (SHARED,) if splits.by == "query" else ()
    return replace(verdict, notes=(*kept, *verdict.notes, *shared, *_leaked(splits)))


def _leaked(splits: Splits) -> Iterator[str]:
    """What a test side that was given shares with train, and with dev."""
    if splits.by == "given":
        found = {each.first: each for each in leaks(splits) if each.second == "test"}
        leak = found["train"]
        if leak.queries or leak.near_queries or leak.positives:
            yield (
                f"Test was given as it is. Train shares {leak.queries:,} of its {len(splits.test.qrels.queries):,} queries, "
                f"{leak.near_queries:,} more in nearly the same words, and {leak.positives:,} of its relevant documents. Results may look "
                "better than they are."
            )
        if found["dev"].queries or found["dev"].near_queries:
            yield (
                f"{found['dev'].queries:,} test queries are in dev, {found['dev'].near_queries:,} nearly so: checkpoint, share and "
                "threshold were chosen on them. Results may look better than they are."
            )
