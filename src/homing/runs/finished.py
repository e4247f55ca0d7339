"""Runs and evaluations as they lie on disk, opened for a report or a comparison: where their dataset is, and what they came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from homing.data import Splits
from homing.errors import FormatError
from homing.formats.evaluation import read_settings
from homing.loading import read_dataset
from homing.measures.evaluations import Evaluation
from homing.runs.concluding import conclude
from homing.runs.recipe import Recipe
from homing.verdicts.verdict import Verdict


@dataclass(frozen=True, eq=False)
class Finished:
    """What was opened; `run` is None for an evaluation that lies in no run, and then so is `recipe`."""

    splits: Splits
    evaluations: list[Evaluation]
    verdict: Verdict
    run: Path | None
    recipe: Recipe | None


def finished(path: Path, dataset: str | None = None) -> Finished:
    """A run, or an evaluation with its dataset: the one given, or that of the run that it lies in.

    Raises FormatError where there is no evaluation, where it is of another dataset, and where no dataset is given that is needed.
    """
    folder = path / "evaluation" if (path / "evaluation").is_dir() else path
    if not (folder / "metrics.json").is_file():
        begun = path / "recipe.toml"
        remedy = "Give a run's directory, or what homing evaluate wrote."
        if begun.is_file():
            remedy = f"This run has not come to it yet: go on with homing run {begun}."
        raise FormatError("the directory holds no evaluation", where=str(path), expected="metrics.json", remedy=remedy)
    around = folder.absolute().parent
    run = around if folder.name == "evaluation" and (around / "recipe.toml").is_file() else None
    if dataset is None and run is None:
        raise FormatError("an evaluation alone doesn't say what it was made on", where=str(path), remedy="Give its dataset: --dataset DIR.")
    splits = read_dataset(Path(dataset) if dataset is not None else around / "dataset")
    recipe = Recipe.read(run / "recipe.toml") if run is not None else None
    evaluations, verdict = conclude(folder, splits, recipe.evaluating if recipe is not None else read_settings(folder), run)
    return Finished(splits, evaluations, verdict, run, recipe)
