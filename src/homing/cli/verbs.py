"""What every verb is made of: the group, a verb's look, options made from settings.py, and what it says."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, Literal

import click

from homing.progress import Say
from homing.settings import Auditing, Comparing, Encoding, Evaluating, Judging, Mining, Reporting, Serving, Splitting, Training

SECTIONS: dict[str, type[Any]] = {
    "encoding": Encoding, "splitting": Splitting, "mining": Mining, "training": Training, "evaluating": Evaluating,
    "comparing": Comparing, "reporting": Reporting,
}  # fmt: skip
EVERY: dict[str, type[Any]] = {
    **SECTIONS,
    "auditing": Auditing,
    "judging": Judging,
    "serving": Serving,
}  # those of a recipe, and the others
VERBS = {
    "Whole runs": ("demo", "check", "run", "status", "compare"),
    "Stage by stage": ("split", "mine", "train", "merge", "evaluate", "report"),
    "Judgments": ("audit", "judge", "convert"),
    "Deployment": ("serve", "verify", "export"),
}
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


class Verbs(click.Group):
    """The verbs as they are used, under headings; what each does up to the first pause of its help."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, names in VERBS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, re.split("[,.:;]", self.commands[name].help or "")[0]) for name in names])


def _flag(each: Any) -> str:
    return str(each.metadata.get("flag") or each.name.replace("_", "-"))


def _option(section: str, each: Any, kind: Any, shown: bool) -> click.Option:
    """One option of a setting: its type, default and help are the dataclass's."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    name, help = f"{section}__{each.name}", each.metadata["help"]
    if kind is bool:
        default = " [yes]" if each.default else " [no]"
        return click.Option([f"--{_flag(each)}/--no-{_flag(each)}", name], default=None, help=help + default, hidden=not shown)
    default = "" if each.default in (None, "") else f" [{each.default:g}]" if isinstance(each.default, float) else f" [{each.default}]"
    choice = click.Choice(typing.get_args(kind)) if typing.get_origin(kind) is Literal else kind
    metavar = {int: "N", float: "X", str: "TEXT"}.get(kind, "")
    return click.Option(
        [f"--{_flag(each)}", name], type=choice, default=None, help=help + default, metavar=metavar or None, hidden=not shown
    )


def settings(*sections: str, shown: Sequence[str] | None = None) -> Callable[[click.Command], click.Command]:
    """Options for every setting of these sections; `seed` is one option for all. `shown`: those that the help lists (None: all)."""

    def decorate(command: click.Command) -> click.Command:
        for section in sections:
            kinds = typing.get_type_hints(EVERY[section])
            for each in fields(EVERY[section]):
                if each.name != "seed":
                    command.params.append(_option(section, each, kinds[each.name], shown is None or each.name in shown))
        if any(each.name == "seed" for section in sections for each in fields(EVERY[section])):
            command.params.append(
                click.Option(["--seed", "seed"], type=int, default=None, metavar="N", help="seed of everything drawn [42]")
            )
        return command

    return decorate


def given(options: dict[str, Any], section: str) -> dict[str, Any]:
    """The settings of a section that were given on the command line."""
    given = {name.split("__")[1]: value for name, value in options.items() if name.startswith(f"{section}__") and value is not None}
    if options.get("seed") is not None and any(each.name == "seed" for each in fields(EVERY[section])):
        given["seed"] = options["seed"]
    return given


def make(options: dict[str, Any], section: str) -> Any:
    return EVERY[section](**given(options, section))


@click.group(cls=Verbs, context_settings=CONTEXT)
@click.version_option(package_name="homing")
def cli() -> None:
    """Align a text-embedding model with one retrieval task, and prove it.

    \b
    homing demo                                         see it work, without data
    homing run data.json --model MODEL --out runs/mine  from judgments to verdict
    """


def verb(example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Register a function as a verb; its parameters are one dict of options beside the arguments."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        return cli.command(cls=Verb, example=example, context_settings=CONTEXT)(function)

    return decorate


def speaker(as_json: bool) -> Say:
    """Who is told what happens: standard output, or standard error where JSON goes there."""
    return partial(click.echo, err=as_json)


def print_json(value: Any) -> None:
    """One JSON value on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))
