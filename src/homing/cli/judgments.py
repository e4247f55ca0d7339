"""The verbs about negatives that may be relevant: list them, and let a model judge them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import click

from homing.cli.options import judgments_
from homing.cli.verbs import make, settings, verb
from homing.data import SIDES, Side
from homing.errors import FormatError, SettingError

if TYPE_CHECKING:
    from homing.data import Mined, Run, Splits
    from homing.encoders.chat import ChatJudge
    from homing.protocols import Encoder
    from homing.suspects import Suspects
    from homing.training.scorer import Scorer


@settings("encoding", "auditing", shown=("query_prompt", "instruction", "max_length", "top", "queries"))
@verb("homing audit runs/insurance\nhoming audit dataset --model Qwen/Qwen3-Embedding-0.6B --model model --mined mined --out audit")
@click.argument("data", metavar="RUN|DATASET", type=str)
@click.option("--model", "sources", type=str, multiple=True, metavar="MODEL", help="an encoder's or cross-encoder's place; repeatable")
@click.option("--mined", type=str, default=None, metavar="DIR", help="mined rows: looks at their unjudged negatives too")
@click.option("--out", type=str, default=None, metavar="DIR", help="the directory to write [RUN/audit, or audit]")
@judgments_
@click.option("--dev", "side", flag_value="dev", help="audit dev, on which thresholds and checkpoints are chosen")
@click.option("--test", "side", flag_value="test", help="audit test: obeying it changes the exam, so that older verdicts no longer compare")
def audit(
    data: str, sources: Sequence[str], mined: str | None, out: str | None, judgments: Sequence[str], side: Side | None, **options: Any
) -> None:
    """List the negatives that are most likely relevant, as a sheet and as a page on which a person marks them.

    A run brings its base, its tuned model and its mined rows. Only the training split is looked at, unless another is asked for; with
    --test also what the models of its evaluation put first and nobody judged.
    """
    from homing.auditing import audit as look
    from homing.formats.judgments import demand_unmarked, read
    from homing.formats.mined import read_mined
    from homing.judgments import obey
    from homing.loading import read_dataset
    from homing.suspects import NEAR

    chosen, directory = make(options, "auditing"), Path(data)
    marked = [each for path in judgments for each in read(path)]
    is_run = (directory / "recipe.toml").is_file()
    kept = Path(out) if out else directory / "audit" if is_run else Path("audit")
    demand_unmarked(kept / "suspects.csv")
    splits: Splits = read_dataset(directory / "dataset" if is_run else directory)
    models = [*(_run_models(directory) if is_run else []), *(_opened(source, options) for source in sources)]
    splits, obeyed = obey(marked, splits)
    if marked:
        click.echo(str(obeyed))
    audited: Side = side or "train"
    rows: Mined | None = None
    if audited == "train":
        folder = Path(mined) if mined else directory / "mined" if is_run and (directory / "mined").is_dir() else None
        rows = read_mined(folder, splits.train) if folder is not None else None
    elif mined is not None:
        raise SettingError("--mined holds training rows", got=f"--{audited}", remedy=f"Leave --mined or --{audited} out.")
    if audited == "test":
        click.echo(
            "test is the exam: judgments made from this list change it, and verdicts from before no longer compare with those after."
        )
    looked = rows.train if rows is not None else getattr(splits, audited)
    runs = _runs(directory / "evaluation", splits) if is_run and audited == "test" else []
    found = look(looked, models, chosen, mined=rows, side=audited, runs=runs)
    said = {
        "models": [{"name": each.name, "digest": getattr(each, "digest", ""), "weights": _weights(each)} for each in models],
        **asdict(chosen),
    }
    _write(found, kept, {"dataset": str((directory / "dataset" if is_run else directory).absolute()), **said})
    told = [f"{int((found.near >= NEAR).sum()):,} near-duplicates of the positive"]
    told += [f"{beats:,} beat it for {name}" for name, beats in zip(found.models, found.beats.sum(axis=0).tolist(), strict=True)]
    click.echo(f"{len(found):,} of {found.of:,} negatives of {audited} listed: {', '.join(told)}")
    if models and len(found) < found.of:
        click.echo(f"the likeliest are listed; all are with --top {found.of}")
    if not models:
        click.echo("without a model, near-duplicates alone are found: give --model MODEL to find more")
    if not len(found):
        return
    click.echo(f"mark them: {kept / 'suspects.html'} in a browser, or {kept / 'suspects.csv'} in a spreadsheet (1, 0 or u under 'mark')")
    click.echo(_then(data, audited, "FILE"))


def _weights(model: Encoder | Scorer) -> str:
    """The digest of a local encoder's weights, under whatever prompts and length it is used; empty for anything else."""
    return str(getattr(getattr(model, "encoder", model), "weights_digest", ""))


def _then(data: str, side: Side, file: str) -> str:
    """What to do with judgments on a side of a run or a dataset."""
    is_run = (Path(data) / "recipe.toml").is_file()
    if side == "train":
        return f"then: homing {'run' if is_run else 'mine'} {quote(f'{data}/recipe.toml' if is_run else data)} --judgments {file}"
    again = _again(Path(data)) if is_run else "--model BASE"
    return f"then: homing split {quote(data)} --judgments {file} --out judged, and homing evaluate judged {again}"


def _again(run: Path) -> str:
    """The flags that measure a run's base and tuned model as the run did."""
    from homing.runs.recipe import Recipe

    recipe = Recipe.read(run / "recipe.toml")
    said = {name: value for name, value in asdict(recipe.encoding).items() if value not in (None, False)}
    flags = [f"--{name.replace('_', '-')}" + ("" if value is True else f" {quote(str(value))}") for name, value in said.items()]
    return " ".join([f"--model {quote(recipe.model)} --model {quote(str(run / 'model'))}", *flags])


def _runs(evaluation: Path, splits: Splits) -> list[Run]:
    """What each model of a run's evaluation found for the test queries; nothing where there is none yet."""
    from homing.formats.evaluation import METRICS, read_evaluation

    if not (evaluation / METRICS).is_file():
        return []
    return [each.found for each in read_evaluation(evaluation, splits) if each.found is not None]


def _write(found: Suspects, directory: Path, said: dict[str, Any]) -> None:
    """Each file whole or not at all; what else lies there, a judge's answers among it, stays."""
    from homing.formats import sheet
    from homing.formats.suspects import save
    from homing.manifest import replace_directory, write_json
    from homing.marking import marking_page

    directory.mkdir(parents=True, exist_ok=True)
    with replace_directory(directory / ".fresh") as fresh:
        save(found, fresh)
        sheet.write(found, fresh / "suspects.csv")
        marking_page(found, fresh / "suspects.html")
        counts = {"negatives": found.of, "listed": len(found)}
        write_json(fresh / "audit.json", {"split": found.side, "changes_the_exam": found.side == "test", **counts, **said})
    for file in sorted((directory / ".fresh").iterdir()):
        os.replace(file, directory / file.name)
    (directory / ".fresh").rmdir()


def _run_models(run: Path) -> list[Encoder]:
    """The run's base, and its tuned model where there is one that is not the base."""
    from homing.encoders.adapter import Adapter
    from homing.encoders.kept import Kept
    from homing.encoders.model import Model
    from homing.encoders.pair import open_model
    from homing.runs.recipe import Recipe

    recipe = Recipe.read(run / "recipe.toml")
    base = Model(recipe.model, **asdict(recipe.encoding), name="base")
    if not (run / "model").is_dir() or Adapter(run / "adapter").scale == 0:
        return [Kept(base)]
    return [Kept(base), Kept(open_model(run / "model", documents=base, device=base.device, dtype=base.dtype, name="tuned"))]


def _opened(source: str, options: dict[str, Any]) -> Encoder | Scorer:
    """An encoder, or what scores pairs: a cross-encoder's directory. Raises FormatError for a file."""
    from homing.cache import cache_directory
    from homing.encoders.opening import open_encoder
    from homing.training.scorer import cross_encoder
    from homing.training.teacher import kind_of

    path = Path(source)
    if path.is_file():
        raise FormatError("a file is no model", where=source, remedy="Give a model's directory, hub name or address.")
    if path.is_dir() and (path / "config.json").is_file() and kind_of(path) == "cross-encoder":
        return cross_encoder(path, cache_directory("answers") or Path("answers"))
    return open_encoder(source, **asdict(make(options, "encoding")))


ASKED = ("rubric", "task", "relevant", "known", "limit", "per_minute", "concurrency", "price")


@settings("encoding", "judging", shown=ASKED)
@verb(
    "homing judge audit --chat http://127.0.0.1:8000/v1#Qwen/Qwen3-32B\n"
    "homing judge audit --chat https://api.example.com/v1?key=NAME#MODEL --price 0.15,0.6\n"
    "homing judge audit --model BAAI/bge-reranker-v2-m3"
)
@click.argument("audit", metavar="AUDIT", type=str)
@click.option("--chat", type=str, default=None, metavar="URL#MODEL", help="a chat model behind an OpenAI-compatible API")
@click.option("--model", type=str, default=None, metavar="MODEL", help="or a cross-encoder, or an encoder, also a remote one")
@click.option("--dataset", type=str, default=None, metavar="DIR", help="the dataset that was audited [the one that the audit names]")
@click.option("--out", type=str, default=None, metavar="FILE", help="the judgments to write [AUDIT/judgments-NAME.jsonl]")
@click.option("--yes", is_flag=True, help="send the texts without asking")
def judge(audit: str, chat: str | None, model: str | None, dataset: str | None, out: str | None, yes: bool, **options: Any) -> None:
    """Let a model judge what homing audit listed, by a written rubric; it is tried on known judgments first.

    What is sent where, how many and at what cost is said before the first text leaves this machine, and asked. Answers are kept as they
    come: a killed call goes on. A key is an environment variable's: OPENAI_API_KEY, or that of ?key=NAME.
    """
    from homing.formats.judgments import write
    from homing.judging import ask_chat, ask_scorer
    from homing.judgments import slug
    from homing.rubric import rubric
    from homing.training.scorer import Scorer, by_embeddings

    if (chat is None) == (model is None):
        raise SettingError("there is no judge, or there are two", expected="--chat URL#MODEL or --model MODEL")
    (suspects, listed), chosen, directory = _suspects(Path(audit), dataset), make(options, "judging"), Path(audit)
    if chat is not None:
        like = " ".join(suspects.data.queries.texts[query] for query in suspects.query[:50].tolist())
        asked = _chat(chat, rubric(chosen.rubric, like=like, task=chosen.task), chosen.per_minute)
        name, judged = asked.model, ask_chat(suspects, asked, directory, chosen, say=click.echo, agree=lambda told: yes or _confirmed())
    else:
        opened = _opened(str(model), options)
        scorer = opened if isinstance(opened, Scorer) else by_embeddings(opened)
        itself = _weights(opened) in {each.get("weights") or None for each in listed.get("models", ())}
        name, judged = scorer.name, ask_scorer(suspects, scorer, chosen, itself=itself, say=click.echo)
    file = Path(out) if out else directory / f"judgments-{slug(name)}.jsonl"
    write(judged.judgments, file)
    marks = [each.mark for each in judged.judgments]
    click.echo(f"{len(marks):,} judged: " + ", ".join(f"{marks.count(mark):,} {mark}" for mark in ("relevant", "not", "unsure")))
    if any(judged.tokens):
        paid = ""
        if chosen.prices:
            paid = f", {sum(count * price for count, price in zip(judged.tokens, chosen.prices, strict=True)):.2f} at the price given"
        click.echo(f"{judged.tokens[0]:,} tokens in and {judged.tokens[1]:,} out were counted{paid}")
    place = Path(dataset or listed["dataset"])
    run = place.parent if place.name == "dataset" and (place.parent / "recipe.toml").is_file() else place
    click.echo(f"written to {file}")
    click.echo(_then(str(run), suspects.side, quote(str(file))))


def _suspects(audit: Path, dataset: str | None) -> tuple[Suspects, dict[str, Any]]:
    """What an audit listed, and what it says of itself."""
    import json

    from homing.formats.suspects import read
    from homing.loading import read_dataset

    try:
        said = json.loads((audit / "audit.json").read_text(encoding="utf-8"))
        place, side = Path(dataset or said["dataset"]), SIDES[SIDES.index(said["split"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError("there is no audit here", where=str(audit), got=str(error), remedy="Make one: homing audit.") from None
    return read(audit, getattr(read_dataset(place), side)), said


def _chat(address: str, rubric: Any, per_minute: float | None) -> ChatJudge:
    from homing.encoders.chat import ChatJudge
    from homing.encoders.client import Client

    parts = urlsplit(address)
    said = parse_qs(parts.query)
    if not parts.fragment or set(said) - {"key"}:
        raise SettingError("the judge's address is not complete", where=address, expected="URL#MODEL, like https://host/v1?key=NAME#MODEL")
    client = Client(urlunsplit(parts._replace(query="", fragment="")), key=said.get("key", [None])[0], timeout=300.0)
    return ChatJudge(client, parts.fragment, rubric, per_minute=per_minute)


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise SettingError("texts would leave this machine, and nobody is here to ask", remedy="Give --yes where they may.")
    return click.confirm("Send them?", default=False)
