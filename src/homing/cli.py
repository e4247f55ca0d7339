"""The command line: a verb a stage, its options made from settings.py."""

from __future__ import annotations

import os
import sys
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from homing.errors import HomingError, SettingError
from homing.settings import Encoding, Evaluating, Mining, Splitting, Training

if TYPE_CHECKING:
    from homing.data import Dataset, Splits
    from homing.recipe import Recipe

FORMATS = ("candidates", "rows", "beir")
SECTIONS: dict[str, type[Any]] = {
    "encoding": Encoding, "splitting": Splitting, "mining": Mining, "training": Training, "evaluating": Evaluating,
}  # fmt: skip
CONTEXT = {"token_normalize_func": lambda token: token.replace("_", "-"), "help_option_names": ["-h", "--help"], "max_content_width": 100}


class Verb(click.Command):
    """A command whose help starts with an example and fits a screen."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for line in self.example.splitlines():
            formatter.write(f"    {line}\n")
        formatter.write("\n")
        formatter.write_text(" ".join((self.help or "").split()))
        self.format_options(ctx, formatter)


def _flag(each: Any) -> str:
    return str(each.metadata.get("flag") or each.name.replace("_", "-"))


def _option(section: str, each: Any, kind: Any, shown: bool) -> click.Option:
    """One option of a setting: its type, default and help are the dataclass's."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    name, help = f"{section}__{each.name}", each.metadata["help"]
    default = "" if each.default in (None, "") else f" [{each.default:g}]" if isinstance(each.default, float) else f" [{each.default}]"
    if kind is bool:
        return click.Option([f"--{_flag(each)}/--no-{_flag(each)}", name], default=None, help=help + default, hidden=not shown)
    choice = click.Choice(typing.get_args(kind)) if typing.get_origin(kind) is Literal else kind
    metavar = {int: "N", float: "X", str: "TEXT"}.get(kind, "")
    return click.Option(
        [f"--{_flag(each)}", name], type=choice, default=None, help=help + default, metavar=metavar or None, hidden=not shown
    )


def settings(*sections: str, shown: Sequence[str] | None = None) -> Callable[[click.Command], click.Command]:
    """Options for every setting of these sections; `seed` is one option for all. `shown`: those that the help lists (None: all)."""

    def decorate(command: click.Command) -> click.Command:
        for section in sections:
            kinds = typing.get_type_hints(SECTIONS[section])
            for each in fields(SECTIONS[section]):
                if each.name != "seed":
                    command.params.append(_option(section, each, kinds[each.name], shown is None or each.name in shown))
        if set(sections) - {"encoding"}:
            command.params.append(
                click.Option(["--seed", "seed"], type=int, default=None, metavar="N", help="seed of everything drawn [42]")
            )
        return command

    return decorate


def _given(options: dict[str, Any], section: str) -> dict[str, Any]:
    """The settings of a section that were given on the command line."""
    given = {name.split("__")[1]: value for name, value in options.items() if name.startswith(f"{section}__") and value is not None}
    if options.get("seed") is not None and any(each.name == "seed" for each in fields(SECTIONS[section])):
        given["seed"] = options["seed"]
    return given


def _make(options: dict[str, Any], section: str) -> Any:
    return SECTIONS[section](**_given(options, section))


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="homing")
def cli() -> None:
    """Align a text-embedding model with one retrieval task, and prove it.

    \b
    homing demo                                          see it work, without data
    homing run data.json --model MODEL --out runs/mine   from judgments to a verdict
    """


def verb(example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Register a function as a verb; its parameters are one dict of options beside the arguments."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        return cli.command(cls=Verb, example=example, context_settings=CONTEXT)(function)

    return decorate


_data = click.argument("data", type=str)
_format = click.option("--format", type=click.Choice(FORMATS), default=None, help="how to read the data (found by content)")
_dev = click.option("--dev", type=str, default=None, metavar="FILE", help="dev data that is already split off")
_test = click.option("--test", type=str, default=None, metavar="FILE", help="test data that is already split off")
_teacher = click.option(
    "--teacher", type=str, default=None, metavar="SOURCE", help="a better model's directory, a cross-encoder's, or a file of its scores"
)
_general = click.option("--general", type=str, default=None, metavar="DATA", help="judgments outside the domain: shows what is forgotten")
_model = click.option("--model", type=str, required=True, metavar="MODEL", help="a model's directory or hub name")


def _out(default: str | None, help: str) -> Callable[[Any], Any]:
    return click.option("--out", type=str, default=default, required=False, metavar="PATH", help=help, show_default=default is not None)


def _loaded(data: str, dev: str | None, test: str | None, format: str | None) -> Dataset | Splits:
    from homing.loading import load_splits

    return load_splits(data, dev, test, format=format)


def _splits(directory: str) -> Splits:
    from homing.loading import read_dataset

    return read_dataset(Path(directory))


@settings("encoding")
@verb("homing check data.json --model Qwen/Qwen3-Embedding-0.6B")
@_data
@_dev
@_test
@_format
@click.option("--model", type=str, default=None, metavar="MODEL", help="count in this model's tokens")
def check(data: str, dev: str | None, test: str | None, format: str | None, model: str | None, **options: Any) -> None:
    """Look at data before anything costs time: counts, lengths, duplicates, leaks."""
    from homing.checking import check as look

    loaded = _loaded(data, dev, test, format)
    if model is None:
        click.echo(str(look(loaded)))
        return
    from homing.encoders.model import Model
    from homing.estimating import estimate

    encoder = Model(model, **asdict(_make(options, "encoding")))
    click.echo(str(look(loaded, encoder)))
    click.echo(f"  prompts: query {encoder.prompts['query']!r}, document {encoder.prompts['document']!r}")
    click.echo(f"  a run will take {estimate(encoder, loaded, Splitting(), Mining(), Training())}")


@settings("splitting")
@verb("homing split data.json --out dataset")
@_data
@_dev
@_test
@_format
@_out("dataset", "the directory to write, in BEIR layout")
def split(data: str, dev: str | None, test: str | None, format: str | None, out: str, **options: Any) -> None:
    """Deal queries to train, dev and test, so that nothing leaks between them."""
    from homing.data import Splits
    from homing.loading import save_dataset
    from homing.manifest import replace_directory
    from homing.splitting import split as deal

    loaded = _loaded(data, dev, test, format)
    splits = loaded if isinstance(loaded, Splits) else deal(loaded, _make(options, "splitting"))
    with replace_directory(Path(out)) as fresh:
        save_dataset(splits, fresh)
    for name in ("train", "dev", "test"):
        click.echo(f"{name:5} {len(getattr(splits, name).qrels.queries):,} queries")
    click.echo(f"removed {len(splits.removed):,} queries; written to {out}")


@settings("mining")
@verb("homing mine dataset --out mined")
@click.argument("dataset", type=str)
@_out("mined", "the directory to write")
def mine(dataset: str, out: str, **options: Any) -> None:
    """Choose each training query's negatives from its own candidates, by BM25."""
    from homing.manifest import replace_directory
    from homing.mining import mine as choose
    from homing.mining import save_mined

    mined = choose(_splits(dataset).train, _make(options, "mining"))
    with replace_directory(Path(out)) as fresh:
        save_mined(mined, fresh)
    click.echo(f"{len(mined):,} rows, {int((mined.negative >= 0).sum()):,} negatives; written to {out}")


LEARNING = (
    "query_prompt", "instruction", "max_length", "train", "tuning", "rank", "learning_rate", "epochs", "minutes", "batch_size",
    "dimensions", "scale", "report_to",
)  # fmt: skip


@settings("encoding", "training", shown=LEARNING)
@verb("homing train mined --dataset dataset --model Qwen/Qwen3-Embedding-0.6B --out adapter")
@click.argument("mined", type=str)
@click.option("--dataset", type=str, required=True, metavar="DIR", help="the split dataset")
@_model
@_out("adapter", "the adapter's directory; logs go to 'training' beside it")
@_teacher
@_general
def train(mined: str, dataset: str, model: str, out: str, teacher: str | None, general: str | None, **options: Any) -> None:
    """Train on mined rows; goes on where it stopped. More settings are taken than are listed here: the README has them all."""
    from homing.encoders.model import Model
    from homing.encoders.teacher import kind_of, open_teacher
    from homing.loading import load
    from homing.mining import read_mined
    from homing.training import train as fit

    chosen = _make(options, "training")
    if teacher is not None:
        kind_of(teacher)
    away = load(general) if general is not None else None
    splits = _splits(dataset)
    rows = read_mined(Path(mined), splits.train)
    base = Model(model, **asdict(_make(options, "encoding")))
    taught_by = None
    if teacher is not None:
        answers = Path(out).parent / "training" / "teacher"
        taught_by = open_teacher(teacher, rows, answers, fixed_documents=chosen.train == "queries", say=click.echo)
    fit(base, rows, splits.dev, chosen, out=out, teacher=taught_by, general=away, say=click.echo)
    click.echo(f"written to {out}")


@verb("homing merge adapter --model Qwen/Qwen3-Embedding-0.6B --out model")
@click.argument("adapter", type=str)
@_model
@_out("model", "the merged model's directory")
@click.option("--scale", type=float, default=None, metavar="X", help="share of what was learned that is kept [as dev chose]")
def merge(adapter: str, model: str, out: str, scale: float | None) -> None:
    """Merge an adapter into its base, verified, as a directory that can be served."""
    from homing.encoders.adapter import Adapter
    from homing.encoders.model import Model
    from homing.merging import merge as join

    trained = Adapter(Path(adapter))
    said = trained.conventions
    prompts = said.get("prompts", {})
    encoding = Encoding(prompts.get("query"), prompts.get("document"), None, None, said.get("max_length"))
    try:
        base = Model(model, **asdict(encoding))
    except HomingError as error:
        if "pooling" not in said or type(error).__name__ != "PoolingError":
            raise
        base = Model(model, **asdict(replace(encoding, pooling=said["pooling"])))
    join(base, trained, out=out, scale=scale)
    click.echo(f"verified, and written to {out}")


@settings("encoding", "evaluating")
@verb("homing evaluate dataset --model BASE --model model --out evaluation")
@click.argument("dataset", type=str)
@click.option("--model", "models", type=str, required=True, multiple=True, metavar="MODEL", help="a model; repeat it for more")
@_out("evaluation", "the directory to write")
def evaluate(dataset: str, models: tuple[str, ...], out: str, **options: Any) -> None:
    """Compare models on the test split; the first is the one to beat."""
    from homing.encoders.pair import open_model
    from homing.evaluating import evaluate as measure
    from homing.evaluating import save_evaluation
    from homing.terminal import verdict_table
    from homing.verdicts import compare

    splits, chosen = _splits(dataset), _make(options, "evaluating")
    encoding = asdict(_make(options, "encoding"))
    loaded = [open_model(model, **encoding, name=name) for model, name in zip(models, _names(models), strict=True)]
    found = measure(loaded, splits.dev, splits.test, chosen)
    verdict = compare(found, chosen.resamples, chosen.seed)
    save_evaluation(found, verdict, Path(out))
    click.echo(verdict_table(found, verdict))
    click.echo(f"written to {out}")


def _names(models: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that tell the models apart."""
    if len(set(models)) < len(models):
        raise SettingError("one --model is given twice", got=", ".join(models), remedy="Name each model once.")
    parts = [Path(model).absolute().parts for model in models]
    depth = next(depth for depth in range(1, 1000) if len({part[-depth:] for part in parts}) == len(parts))
    return ["/".join(part[-depth:]) for part in parts]


@verb("homing report evaluation --dataset dataset --out report.html")
@click.argument("evaluation", type=str)
@click.option("--dataset", type=str, required=True, metavar="DIR", help="the dataset that was evaluated on")
@click.option("--training", type=str, default=None, metavar="DIR", help="the training's logs, for its curves")
@_out("report.html", "the file to write")
def report(evaluation: str, dataset: str, training: str | None, out: str) -> None:
    """Write the report as one HTML file that needs no network."""
    from homing.evaluating import read_evaluation
    from homing.reporting import report as write

    found = read_evaluation(Path(evaluation), _splits(dataset))
    click.echo(f"written to {write(*found, out=out, training=Path(training) if training else None)}")


COMMON = (
    "query_prompt", "instruction", "max_length", "by", "negatives", "train", "tuning", "learning_rate", "epochs", "minutes", "batch_size",
)  # fmt: skip


@settings("encoding", "splitting", "mining", "training", "evaluating", shown=COMMON)
@verb("homing run data.json --model Qwen/Qwen3-Embedding-0.6B --out runs/mine\nhoming run runs/mine/recipe.toml")
@_data
@click.option("--model", type=str, default=None, metavar="MODEL", help="a model's directory or hub name")
@_out(None, "the run's directory [runs/NAME of the data]")
@_dev
@_test
@_format
@_teacher
@_general
def run(data: str, model: str | None, out: str | None, **options: Any) -> None:
    """From judged data to a verdict and a model: check, split, mine, train, merge, evaluate, report. Goes on where it stopped.

    A changed setting redoes what depends on it. Every option of those verbs is taken, also those not listed here.
    """
    from homing.pipeline import run as go

    recipe, directory = _recipe(data, model, out, options)
    go(recipe, directory)


def _recipe(data: str, model: str | None, out: str | None, options: dict[str, Any]) -> tuple[Recipe, Path]:
    """The recipe that DATA (data, or a recipe.toml) and the flags make, and the run's directory."""
    from homing.recipe import Recipe

    flags: dict[str, Any] = {name: options[name] for name in ("dev", "test", "format", "teacher", "general") if options[name] is not None}
    if model is not None:
        flags["model"] = model
    if Path(data).suffix == ".toml":
        file = Path(data)
        recipe = Recipe.read(file)
        own = file.parent if (file.parent / "manifest.json").is_file() else None
        directory = Path(out) if out else own
        if directory is None:
            raise SettingError("--out is missing", where=data, remedy="Give the run's directory: --out runs/NAME.")
        given = {section: _given(options, section) for section in SECTIONS}
        if "instruction" in given["encoding"]:
            given["encoding"]["query_prompt"] = None
        sections = {section: replace(getattr(recipe, section), **values) for section, values in given.items()}
        return replace(recipe, **flags, **sections), directory
    if model is None:
        raise SettingError("--model is missing", remedy="Give a model's directory or hub name: --model Qwen/Qwen3-Embedding-0.6B.")
    made: dict[str, Any] = {section: _make(options, section) for section in SECTIONS}
    return Recipe(data=data, **{"model": model, **flags}, **made), Path(out) if out else Path("runs") / Path(data).stem


@verb("homing demo")
@_out("runs/demo", "the run's directory")
def demo(out: str) -> None:
    """See the whole path work, in minutes, on data made from this Python's standard library; needs no network."""
    from homing.demo import demo as show

    show(Path(out))


@verb("homing status runs/mine")
@click.argument("directory", metavar="RUN", type=str)
def status(directory: str) -> None:
    """Tell where a run stands, also from another terminal."""
    from homing.rundir import status as stands

    click.echo(stands(Path(directory)))


def main(arguments: Sequence[str] | None = None) -> None:
    """The `homing` command. Exit codes: 0 done, 1 failed, 2 unusable input."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        cli.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except HomingError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        click.echo(
            f"This is a fault in Homing ({type(error).__name__}), not in your data: please report it with the lines above.", err=True
        )
        sys.exit(1)
