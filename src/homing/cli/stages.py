"""The verbs of the path, a stage each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from homing.cli.options import data_, dataset_, figures_, json_, judgments_, learning_, out_, splits_
from homing.cli.verbs import given, make, print_json, settings, speaker, verb
from homing.errors import HomingError, SettingError
from homing.settings import Encoding, Mining, Splitting, Training

if TYPE_CHECKING:
    from homing.protocols import Encoder

model_ = click.option("--model", type=str, required=True, metavar="MODEL", help="a model's directory or hub name")


@settings("encoding")
@verb("homing check data.json --model Qwen/Qwen3-Embedding-0.6B")
@data_
@splits_
@click.option("--model", type=str, default=None, metavar="MODEL", help="count in this model's tokens")
def check(data: str, dev: str | None, test: str | None, corpus: str | None, format: str | None, model: str | None, **options: Any) -> None:
    """Look at data before anything costs time: counts, lengths, duplicates, leaks.

    With a model also the time, memory and disk that a run on it will take.
    """
    from homing.checking import check as look
    from homing.runs.opening import opened

    if model is None and (said := given(options, "encoding")):
        flags = ", ".join("--" + name.replace("_", "-") for name in said)
        raise SettingError("how a model reads is said, and no model", got=flags, remedy="Add --model MODEL, or leave that out.")
    loaded = opened(data, dev, test, format, corpus=corpus)
    if model is None:
        click.echo(str(look(loaded)))
        return
    from homing.encoders.model import Model
    from homing.estimating import estimate

    encoder = Model(model, **asdict(make(options, "encoding")))
    click.echo(str(look(loaded, encoder)))
    click.echo(f"  {encoder.manner}")
    click.echo(f"  a run will take {estimate(encoder, loaded, Splitting(), Mining(), Training())}")


@settings("splitting")
@verb("homing split data.json --out dataset")
@data_
@splits_
@out_("dataset", "the directory to write, in BEIR layout")
@click.option("--judgments", type=str, multiple=True, metavar="FILE", help="take these over first, dev and test too: the exam changes")
def split(
    data: str, dev: str | None, test: str | None, corpus: str | None, format: str | None, out: str, judgments: Sequence[str],
    **options: Any,
) -> None:  # fmt: skip
    """Deal queries to sides that share nothing: train, dev and test.

    With --judgments, a run or a dataset that was split keeps its sides, so that its models can be measured again.
    """
    from homing.checking import kept_by
    from homing.data import Splits
    from homing.formats.judgments import read
    from homing.judgments import obey_after_split, obey_before_split
    from homing.loading import SPLIT, dataset_directory, read_dataset, save_dataset
    from homing.manifest import replace_directory
    from homing.runs.opening import opened
    from homing.splitting import split as deal

    splitting, place = make(options, "splitting"), dataset_directory(data)
    loaded = read_dataset(place) if judgments and place is not None else opened(data, dev, test, format, splitting, corpus)
    if judgments:
        marks = [each for path in judgments for each in read(path)]
        if isinstance(loaded, Splits) and place is None:
            raise SettingError(
                "judgments are taken over before a split, and this data came split",
                where=data,
                remedy="Give them to homing mine or homing run; or split without them, and give that dataset and them to homing split.",
            )
        loaded, obeyed = obey_after_split(marks, loaded) if isinstance(loaded, Splits) else obey_before_split(marks, loaded)
        click.echo(str(obeyed))
    splits = loaded if isinstance(loaded, Splits) else deal(loaded, splitting)
    with replace_directory(Path(out), SPLIT) as fresh:
        save_dataset(splits, fresh)
    for name in ("train", "dev", "test"):
        click.echo(f"{name:5} {len(getattr(splits, name).qrels.queries):,} queries")
    if dealt := splits.test.notes.get("dev_from_train"):
        click.echo(f"test is taken as it is given; {dealt:,} queries were dealt from train to dev")
    click.echo(f"removed {len(splits.removed):,} queries; written to {out}")
    if keeps := kept_by(splits):
        click.echo(keeps)


@settings("encoding", "mining", shown=[each.name for each in fields(Mining)])
@verb("homing mine dataset --out mined\nhoming mine dataset --out mined --retriever dense --model MODEL")
@click.argument("dataset", type=str)
@out_("mined", "the directory to write")
@click.option("--model", type=str, default=None, metavar="MODEL", help="finds negatives, where dense or fused asks for a model")
@click.option("--vectors", type=str, default=None, metavar="DIR", help="in its place queries.npy and documents.npy, a row a text")
@judgments_
def mine(dataset: str, out: str, model: str | None, vectors: str | None, judgments: Sequence[str], **options: Any) -> None:
    """Choose each training query's negatives: judged ones first, then from the whole corpus, by words or by a model.

    Without judged negatives the corpus is searched: by the model where one is given, else by words (BM25).
    """
    from homing.formats.judgments import read
    from homing.formats.mined import FILE, save_mined
    from homing.judgments import obey
    from homing.loading import open_dataset
    from homing.manifest import demand_replaceable, replace_directory
    from homing.mining import mine as choose

    chosen = make(options, "mining")
    encoder: Encoder | None = None
    demand_replaceable(Path(out), FILE)
    splits, obeyed = obey([each for path in judgments for each in read(path)], open_dataset(dataset))
    if judgments:
        click.echo(str(obeyed))
    if model is not None and vectors is not None:
        raise SettingError("--model and --vectors exclude each other", remedy="Give one of the two.")
    if vectors is not None:
        from homing.encoders.given import Given

        encoder = Given.read(vectors, splits.train)
    elif model is not None and chosen.retriever not in ("list", "bm25"):
        from homing.encoders.kept import Kept
        from homing.encoders.pair import open_model

        encoder = Kept(open_model(model, **asdict(make(options, "encoding"))))
    mined = choose(splits.train, chosen, encoder=encoder, say=click.echo)
    with replace_directory(Path(out), FILE) as fresh:
        save_mined(mined, fresh)
    click.echo(f"written to {out}")


LEARNING = (
    "query_prompt", "instruction", "max_length", "train", "tuning", "rank", "learning_rate", "epochs", "minutes", "batch_size",
    "dimensions", "scale", "report_to",
)  # fmt: skip


@settings("encoding", "training", shown=LEARNING)
@verb("homing train mined --dataset dataset --model Qwen/Qwen3-Embedding-0.6B --out adapter")
@click.argument("mined", type=str)
@click.option("--dataset", type=str, required=True, metavar="DIR", help="the split dataset")
@model_
@out_("adapter", "the adapter's directory; logs go to 'training' beside it")
@learning_
def train(
    mined: str, dataset: str, model: str, out: str, teacher: str | None, general: str | None, start: str | None, **options: Any
) -> None:
    """Train on mined rows; goes on where it stopped. More settings are taken than are listed here: the README has them all."""
    from homing.encoders.adapter import Adapter
    from homing.encoders.model import Model
    from homing.formats.mined import read_mined
    from homing.loading import load, open_dataset
    from homing.training.teacher import kind_of, open_teacher
    from homing.training.train import train as fit

    chosen = make(options, "training")
    if teacher is not None:
        kind_of(teacher)
    away = load(general) if general is not None else None
    begins = Adapter(Path(start)) if start is not None else None
    splits = open_dataset(dataset)
    rows = read_mined(Path(mined), splits.train)
    base = Model(model, **asdict(make(options, "encoding")))
    taught_by = None
    if teacher is not None:
        answers = Path(out).parent / "training" / "teacher"
        taught_by = open_teacher(teacher, rows, answers, fixed_documents=chosen.train == "queries", say=click.echo)
    fit(base, rows, splits.dev, chosen, out=out, teacher=taught_by, general=away, start=begins, say=click.echo)
    click.echo(f"written to {out}")


@verb("homing merge adapter --model Qwen/Qwen3-Embedding-0.6B --out model")
@click.argument("adapter", type=str)
@model_
@out_("model", "the merged model's directory")
@click.option("--scale", type=str, default="auto", metavar="X", help="share of what was learned that is kept, 0 to 1 [auto: as dev chose]")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default=None, help="number format [as the base's]")
@click.option("--router", type=str, default=None, metavar="PATH", help="queries only: also both sides as one sentence-transformers Router")
@click.option("--trust-remote-code", is_flag=True, help="run code that comes with the model, as you")
@click.option("--dry-run", is_flag=True, help="print what would be done, and do nothing")
def merge(
    adapter: str, model: str, out: str, scale: str, dtype: str | None, router: str | None, trust_remote_code: bool, dry_run: bool
) -> None:
    """Merge an adapter into its base, verified, as a directory that can be served; a file at a time, so that memory stays small."""
    from homing.encoders.adapter import Adapter
    from homing.encoders.model import Model
    from homing.manifest import demand_disk, demand_replaceable
    from homing.merging import plan, write
    from homing.shipping.router import ROUTER, write_router

    trained = Adapter(Path(adapter))
    said = trained.conventions
    prompts = said.get("prompts", {})
    encoding = Encoding(prompts.get("query"), prompts.get("document"), None, None, said.get("max_length"), trust_remote_code)
    try:
        base = Model(model, **asdict(encoding), device="meta")
    except HomingError as error:
        if "pooling" not in said or type(error).__name__ != "PoolingError":
            raise
        base = Model(model, **asdict(replace(encoding, pooling=said["pooling"])), device="meta")
    if router is not None and trained.side != "queries":
        raise SettingError("--router is for an adapter of queries alone", got=trained.side, remedy="Leave it out.")
    planned = plan(base, trained, out=out, scale=_scale(scale), dtype=dtype)
    if router is not None:
        if Path(router).resolve() == Path(out).resolve():
            raise SettingError("--router and --out are one place", got=router, remedy="Give two.")
        demand_replaceable(Path(router), ROUTER)
        demand_disk(Path(router), 2 * planned.size + planned.weights.size)
    click.echo(str(planned))
    if dry_run:
        return
    origin = write(planned)
    verified = origin.verified
    click.echo(f"verified: {verified.tensors:,} tensors; {verified.texts} texts {verified.apart(origin.dtype)}; written to {out}")
    if router is not None:
        write_router(Path(out), base.path, Path(router))
        click.echo(f"queries and documents in one: written to {router}")


def _scale(said: str) -> float | Literal["auto"]:
    if said == "auto":
        return "auto"
    try:
        return float(said)
    except ValueError:
        raise SettingError("--scale is no number", got=said, expected="0 to 1, or auto") from None


@settings("encoding", "evaluating")
@verb("homing evaluate dataset --model BASE --model model --out evaluation")
@click.argument("dataset", type=str)
@click.option(
    "--model", "models", type=str, required=True, multiple=True, metavar="MODEL", help="a model, or what docs/verdict.md lists; repeat it"
)
@out_("evaluation", "the directory to write")
@json_
def evaluate(dataset: str, models: tuple[str, ...], out: str, as_json: bool, **options: Any) -> None:
    """Compare models on the test split; the first is the one to beat, the last the one that the verdict is on."""
    from homing.encoders.opening import open_encoders
    from homing.evaluating import evaluate as measure
    from homing.formats.evaluation import METRICS, save_evaluation, summary
    from homing.loading import open_dataset
    from homing.manifest import demand_replaceable
    from homing.runs.concluding import annotated
    from homing.terminal import verdict_table
    from homing.verdicts.slices import columns_of
    from homing.verdicts.verdict import compare

    demand_replaceable(Path(out), METRICS)
    splits, chosen = open_dataset(dataset), make(options, "evaluating")
    columns = columns_of(splits.test.queries, chosen.slice_by)
    loaded = open_encoders(models, **asdict(make(options, "encoding")))
    found = measure(loaded, splits.dev, splits.test, chosen, groups=splits.groups)
    verdict = annotated(compare(found, chosen.resamples, chosen.seed, chosen.worthwhile, columns=columns), splits, None)
    save_evaluation(found, verdict, Path(out), chosen)
    say = speaker(as_json)
    say(verdict_table(found, verdict))
    say(f"written to {out}")
    if as_json:
        print_json(summary(found, verdict))


@settings("reporting")
@verb("homing report runs/insurance --no-texts --out report.html\nhoming report evaluation --dataset dataset --training training")
@click.argument("evaluation", metavar="RUN|EVALUATION", type=str)
@dataset_
@click.option("--training", type=str, default=None, metavar="DIR", help="the training's logs, for its curves [the run's]")
@out_("report.html", "the file to write")
@figures_
@json_
def report(
    evaluation: str, dataset: str | None, training: str | None, out: str, figures: str | None, as_json: bool, **options: Any
) -> None:
    """Write the report as one HTML file that needs no network, in English and Chinese."""
    from homing.checking import check
    from homing.formats.evaluation import summary
    from homing.reporting import report as write
    from homing.runs.finished import finished

    found = finished(Path(evaluation), dataset)
    path = write(
        *found.evaluations, out=out, training=Path(training) if training else None, run=found.run, verdict=found.verdict,
        checked=check(found.splits).to_dict(), settings=make(options, "reporting"), figures=figures,
    )  # fmt: skip
    speaker(as_json)(f"written to {path}")
    if as_json:
        print_json({**summary(found.evaluations, found.verdict), "report": str(path)})
