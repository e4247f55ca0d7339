"""The verbs about whole runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homing.cli.options import data_, json_, judgments_, learning_, out_, splits_
from homing.cli.verbs import SECTIONS, given, make, print_json, settings, speaker, verb
from homing.errors import SettingError

if TYPE_CHECKING:
    from homing.runs.recipe import Recipe

PLAIN = ("dev", "test", "corpus", "format", "teacher", "general", "baseline", "start", "instructions")
COMMON = (
    "query_prompt", "instruction", "max_length", "by", "negatives", "train", "tuning", "learning_rate", "epochs", "minutes", "batch_size",
    "seeds", "learning_curve",
)  # fmt: skip


@settings("encoding", "splitting", "mining", "training", "evaluating", "comparing", "reporting", shown=COMMON)
@verb("homing run data.json --model Qwen/Qwen3-Embedding-0.6B --out runs/mine\nhoming run runs/mine/recipe.toml")
@data_
@click.option("--model", type=str, default=None, metavar="MODEL", help="a model's directory or hub name")
@out_(None, "the run's directory [runs/NAME of the data]")
@splits_
@learning_
@judgments_
@click.option("--baseline", type=str, default=None, metavar="MODEL", help="the model in use now, compared as well")
@click.option("--instructions", type=str, default=None, metavar="FILE", hidden=True)
@json_
def run(data: str, model: str | None, out: str | None, as_json: bool, **options: Any) -> None:
    """From judged data to a verdict and a model: check, split, mine, train, merge, evaluate, report. Goes on where it stopped.

    A changed setting redoes what depends on it. Every setting of those verbs is taken.
    """
    from homing.runs.pipeline import run as go

    recipe, directory = _recipe(data, model, out, options)
    go(recipe, directory, speaker(as_json))
    if as_json:
        from homing.formats.evaluation import summary
        from homing.runs.finished import finished

        found = finished(directory)
        paths = {name: str(directory / file) for name, file in (("report", "report.html"), ("model", "model"))}
        print_json({**summary(found.evaluations, found.verdict), **paths})


def _recipe(data: str, model: str | None, out: str | None, options: dict[str, Any]) -> tuple[Recipe, Path]:
    """The recipe that DATA (data, or a recipe.toml) and the flags make, and the run's directory."""
    flags: dict[str, Any] = {name: options[name] for name in PLAIN if options[name] is not None}
    if options["judgments"]:
        flags["judgments"] = tuple(options["judgments"])
    if model is not None:
        flags["model"] = model
    return _repeated(Path(data), flags, out, options) if Path(data).suffix == ".toml" else _new(data, flags, out, options)


def _repeated(file: Path, flags: dict[str, Any], out: str | None, options: dict[str, Any]) -> tuple[Recipe, Path]:
    """A recipe's file, and what flags change in it."""
    from homing.runs.recipe import Recipe

    recipe = Recipe.read(file)
    own = file.parent if (file.parent / "manifest.json").is_file() else None
    directory = Path(out) if out else own
    if directory is None:
        raise SettingError("--out is missing", where=str(file), remedy="Give the run's directory: --out runs/NAME.")
    changed = {section: given(options, section) for section in SECTIONS}
    changed["encoding"].setdefault("trust_remote_code", False)  # a file never says it for the user
    if changed["encoding"].keys() & {"instruction", "query_prompt"}:  # either stands in place of what the recipe says of both
        changed["encoding"] = {"instruction": None, "query_prompt": None, **changed["encoding"]}
    sections = {section: replace(getattr(recipe, section), **values) for section, values in changed.items()}
    return replace(recipe, **flags, **sections), directory


def _new(data: str, flags: dict[str, Any], out: str | None, options: dict[str, Any]) -> tuple[Recipe, Path]:
    """A recipe for data, of flags and defaults."""
    from homing.runs.recipe import Recipe

    if "model" not in flags:
        if (Path(data) / "recipe.toml").is_file():
            raise SettingError("a run is no data", where=data, remedy=f"To go on with it, give its recipe: {Path(data) / 'recipe.toml'}.")
        raise SettingError("--model is missing", remedy="Give a model's directory or hub name: --model Qwen/Qwen3-Embedding-0.6B.")
    made: dict[str, Any] = {section: make(options, section) for section in SECTIONS}
    directory = Path(out) if out else Path("runs") / Path(data).stem
    if out is None:
        _demand_own(directory, flags["model"])
    return Recipe(data=data, **flags, **made), directory


def _demand_own(directory: Path, model: str) -> None:
    """Raise SettingError where the run that nobody named is of another model: a finished one would be lost.

    One of other data is refused wherever it lies (`pipeline.run`).
    """
    from homing.runs.recipe import Recipe

    if not (directory / "recipe.toml").is_file():
        return
    was = Recipe.read(directory / "recipe.toml").model
    if was not in (model, str(Path(model).absolute())):
        raise SettingError(
            "the run of this name is of another model, and would be replaced", where=str(directory), got=model, expected=was,
            remedy="Give --out another directory, or this one if the run there may go.",
        )  # fmt: skip


@verb("homing demo")
@out_("runs/demo", "the run's directory")
def demo(out: str) -> None:
    """See the whole path work, in minutes, on data made from this Python's standard library; needs no network."""
    from homing.demo import demo as show

    show(Path(out))


@verb("homing status runs/mine")
@click.argument("directory", metavar="RUN", type=str)
def status(directory: str) -> None:
    """Tell where a run stands, also from another terminal."""
    from homing.runs.rundir import status as stands

    click.echo(stands(Path(directory)))
