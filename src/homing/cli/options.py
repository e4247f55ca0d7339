"""Options that several verbs share, alone or together."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import click

FORMATS = (
    "candidates", "rows", "pairs", "beir", "trec", "llamaindex", "tevatron", "faq", "flagembedding", "sentence-transformers",
    "ms-swift",
)  # fmt: skip
TARGETS = (
    "candidates", "pairs", "llamaindex", "beir", "trec", "rows", "flagembedding", "sentence-transformers", "ms-swift", "ms-swift-old",
    "tevatron",
)  # fmt: skip


def _together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator."""
    return lambda function: reduce(lambda made, each: each(made), reversed(options), function)


data_ = click.argument("data", type=str)
format_ = click.option(
    "--format", type=click.Choice(FORMATS), default=None, metavar="FORMAT", help="how to read the data [found by content]"
)
splits_ = _together(
    click.option("--dev", type=str, default=None, metavar="FILE", help="dev data that is already split off"),
    click.option("--test", type=str, default=None, metavar="FILE", help="test data, or a run whose test set is kept"),
    click.option("--corpus", type=str, default=None, metavar="FILE", help="documents beside those of the data, to be mined"),
    format_,
)
learning_ = _together(
    click.option("--teacher", type=str, default=None, metavar="SOURCE", help="a better model (also a server), or a file of scores"),
    click.option("--general", type=str, default=None, metavar="DATA", help="judgments outside the domain: what is lost?"),
    click.option("--from", "start", type=str, default=None, metavar="ADAPTER", help="what to go on from, in place of the base"),
)
judgments_ = click.option(
    "--judgments",
    type=str,
    multiple=True,
    metavar="FILE",
    help="marks on audited negatives (repeatable)",
)
json_ = click.option("--json", "as_json", is_flag=True, help="the verdict as JSON on standard output")
dataset_ = click.option("--dataset", type=str, default=None, metavar="DIR", help="the dataset evaluated on [the run's]")
figures_ = click.option("--figures", type=str, default=None, metavar="DIR", help="each chart as SVG, and its numbers as CSV")


def out_(default: str | None, help: str) -> Callable[[Any], Any]:
    """Where a verb writes; its default stands in brackets, as that of every option does."""
    return click.option("--out", type=str, default=default, metavar="PATH", help=help if default is None else f"{help} [{default}]")
