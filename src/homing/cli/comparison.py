"""The verb that sets several runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homing.cli.options import dataset_, figures_, json_, out_
from homing.cli.verbs import make, print_json, settings, speaker, verb
from homing.errors import SettingError

if TYPE_CHECKING:
    from homing.reporting import Compared
    from homing.runs.finished import Finished


@settings("reporting")
@verb("homing compare runs/insurance runs/insurance-rank32 --out compare.html\nhoming compare evaluation-a evaluation-b --dataset dataset")
@click.argument("runs", metavar="RUN|EVALUATION...", type=str, nargs=-1, required=True)
@dataset_
@out_("compare.html", "the file to write")
@figures_
@json_
def compare(runs: Sequence[str], dataset: str | None, out: str, figures: str | None, as_json: bool, **options: Any) -> None:
    """Set the tuned models of several runs side by side in one page: paired by query where they share a test set."""
    from homing.reporting import compare_runs, comparison_page
    from homing.runs.finished import finished
    from homing.terminal import comparison_table

    chosen = make(options, "reporting")
    opened = [_compared(name, finished(Path(path), dataset)) for name, path in zip(names(runs), runs, strict=True)]
    found = compare_runs(opened)
    path = comparison_page(found, out, chosen, figures)
    say = speaker(as_json)
    say(comparison_table(found, chosen.language))
    say(f"written to {path}")
    if as_json:
        print_json({**found.plain(), "report": str(path)})


def _compared(name: str, found: Finished) -> Compared:
    from homing.reporting import Compared, flat
    from homing.runs.rundir import read_manifest

    if found.run is None or found.recipe is None:
        return Compared(name, found.evaluations, found.verdict)
    stages = (read_manifest(found.run) or {"stages": {}})["stages"].values()
    recipe = flat({name: value for name, value in asdict(found.recipe).items() if name != "reporting"})
    return Compared(name, found.evaluations, found.verdict, recipe, found.run / "training", sum(each["seconds"] for each in stages))


def names(paths: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that tell them apart. Raises SettingError where one is given twice."""
    parts = [Path(path).resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise SettingError("one run is given twice", got=", ".join(paths), remedy="Name each once.")
    depth = next(depth for depth in range(1, 1000) if len({part[-depth:] for part in parts}) == len(parts))
    return ["/".join(part[-depth:]) for part in parts]
