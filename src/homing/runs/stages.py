"""What each stage of a run does: it reads what the stages before it left in the run's directory, and leaves its own there, whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from homing.checking import check, kept_by
from homing.data import Mined, Splits
from homing.encoders.adapter import Adapter
from homing.encoders.kept import Kept
from homing.encoders.pair import open_model
from homing.encoders.prompted import prompted
from homing.estimating import OUTSIDE, demand_room, estimate
from homing.evaluating import evaluate
from homing.formats.evaluation import read_summary, save_evaluation
from homing.formats.judgments import read as read_judgments
from homing.formats.mined import save_mined
from homing.general import MADE
from homing.judgments import obey
from homing.loading import save_dataset
from homing.manifest import replace_directory, write_json
from homing.measures.evaluations import Evaluation
from homing.merging import plan, write
from homing.mining import mine
from homing.progress import duration
from homing.protocols import Encoder
from homing.reporting import report
from homing.runs.circumstances import circumstances
from homing.runs.comparing import context, instructions, nested, with_bare_queries
from homing.runs.concluding import annotated, conclude
from homing.runs.rundir import further, share_of
from homing.runs.work import Work
from homing.settings import Mining
from homing.shipping.card import complete
from homing.splitting import split
from homing.training.teacher import open_teacher
from homing.training.train import train
from homing.verdicts.context import Context
from homing.verdicts.slices import columns_of
from homing.verdicts.verdict import Verdict, compare


def do_check(work: Work) -> None:
    recipe = work.recipe
    found = check(work.loaded, work.base, by=work.recipe.splitting.by)
    work.say(str(found))
    work.say(f"  {work.base.manner}")
    needed = estimate(work.base, work.loaded, recipe.splitting, recipe.mining, recipe.training, work.further, outside=_tokens_outside(work))
    work.say(f"  the run will take {needed}")
    demand_room(needed, work.base, work.directory)
    write_json(work.directory / "check.json", {**found.to_dict(), "estimate": asdict(needed), "prompts": work.base.prompts})


def _tokens_outside(work: Work) -> int:
    """Tokens of what is measured outside the domain; of NanoBEIR, which is not here yet, none."""
    if work.recipe.general in (None, MADE):
        return OUTSIDE
    general = work.general
    return len(work.base.tokenize(general.corpus.texts, "document").ids) if general is not None else 0


def do_split(work: Work) -> None:
    splits = work.loaded if isinstance(work.loaded, Splits) else split(work.loaded, work.recipe.splitting)
    with replace_directory(work.directory / "dataset") as fresh:
        save_dataset(splits, fresh)
    work.forget("splits")
    for name in ("train", "dev", "test"):
        qrels = getattr(splits, name).qrels
        work.say(
            f"  {name:5} {len(qrels.queries):>7,} queries  {len(qrels):>9,} judgments  {int((qrels.relevance > 0).sum()):>8,} relevant"
        )
    if splits.removed:
        work.say(f"  removed, as they would have leaked between the splits: {len(splits.removed):,}")
        if keeps := kept_by(splits):
            work.say(f"  {keeps}")
    if dealt := splits.test.notes.get("dev_from_train"):
        work.say(f"  test is taken as it is given; {dealt:,} queries were dealt from train to dev")
    if newer := splits.test.notes.get("newer_judgments_of_test"):
        work.say(f"  {newer:,} new judgments of test queries were left out: the test set stays as it was")


def do_mine(work: Work) -> None:
    mined = _mined(work, work.recipe.mining)
    with replace_directory(work.directory / "mined") as fresh:
        save_mined(mined, fresh)
    work.forget("mined")


def _mined(work: Work, settings: Mining) -> Mined:
    return mine(_judged(work).train, settings, encoder=Kept(work.base), say=lambda line: work.say(f"  {line}"))


def _judged(work: Work) -> Splits:
    """The splits as judges changed train."""
    if not work.recipe.judgments:
        return work.splits
    splits, obeyed = obey([each for path in work.recipe.judgments for each in read_judgments(path)], work.splits)
    work.say(f"  {obeyed}")
    return splits


def do_train(work: Work) -> None:
    training = work.recipe.training
    passes = "1 epoch" if training.epochs == 1 else f"{training.epochs:g} epochs"
    work.say(
        f"  {'all weights' if training.tuning == 'full' else f'{training.tuning}, rank {training.rank}'}, "
        f"learning rate {training.learning_rate:.3g}, {len(work.mined):,} rows, "
        + (duration(60 * training.minutes) if training.minutes is not None else passes)
    )
    if work.start is not None:
        work.say(f"  going on from {work.start.path}")
    _train(work, work.mined, work.directory, training.seed, work.start)


def do_seed(work: Work, stage: str) -> None:
    """The same training under another seed, of the negatives' draw too."""
    seed = int(stage.split()[1])
    mined = _mined(work, replace(work.recipe.mining, seed=seed))
    _train(work, mined, work.directory / further(stage), seed, work.start)


def do_share(work: Work, stage: str) -> None:
    """The same training on a share of the judgments: whole groups, and a smaller share is part of a larger one."""
    share = share_of(stage)
    mined = work.mined.of(nested(work.splits, share, work.recipe.training.seed))
    work.say(f"  {len(mined):,} of {len(work.mined):,} rows")
    _train(work, mined, work.directory / further(stage), work.recipe.training.seed, work.start, share)


def do_anew(work: Work, stage: str) -> None:
    """The same training begun with the base, where the run's own goes on from an adapter."""
    _train(work, work.mined, work.directory / further(stage), work.recipe.training.seed, None)


def _train(work: Work, mined: Mined, directory: Path, seed: int, start: Adapter | None, share: float = 1.0) -> None:
    """Train on these rows in `directory`, going on from `start` or beginning with the base.

    Where a budget of time is given, a share of the judgments gets that share of it.
    """
    training = replace(work.recipe.training, seed=seed)
    if training.minutes is not None:
        training = replace(training, minutes=training.minutes * share)
    logs, teacher = directory / "training", None
    if work.recipe.teacher is not None:
        fixed = training.train == "queries"
        teacher = open_teacher(
            work.recipe.teacher, mined, logs / "teacher", fixed_documents=fixed, say=lambda line: work.say(f"  {line}")
        )  # fmt: skip
    train(
        work.base, mined, work.splits.dev, training, out=directory / "adapter", logs=logs, teacher=teacher, general=work.general,
        start=start, say=lambda line: work.say(f"  {line}"),
    )  # fmt: skip


def do_merge(work: Work) -> None:
    test = work.splits.test
    texts = [test.queries.texts[query] for query in test.qrels.queries[:16].tolist()]
    texts += [test.corpus.texts[document] for document in test.qrels.document[:16].tolist()]
    adapter = Adapter(work.directory / "adapter")
    planned = plan(work.base, adapter, out=work.directory / "model")
    origin = write(planned, texts)
    verified = origin.verified
    if adapter.scale == 0:
        work.say("  dev keeps the base: the model's directory holds the base's own weights")
    else:
        work.say(f"  scale {planned.scale:g}, {planned.chosen}")
        work.say(f"  {verified.tensors:,} tensors as planned; {verified.texts} texts as with the adapter, {verified.apart(origin.dtype)}")
    if adapter.side == "queries":
        work.say(f"  it encodes queries alone: documents, and an index of them, stay those of {work.base.source}")


def do_evaluate(work: Work) -> None:
    settings = work.recipe.evaluating
    tried = instructions(work)
    base = work.base if tried is None else prompted(work.base, tried.chosen)
    trusted = work.base.trust_remote_code
    tuned = open_model(
        work.directory / "model", documents=work.base, device=base.device, dtype=base.dtype, name="tuned", trust_remote_code=trusted
    )
    models: list[Encoder] = [Kept(base), *([] if work.deployed is None else [work.deployed]), Kept(tuned)]
    found = evaluate(models, work.splits.dev, work.splits.test, settings, groups=work.splits.groups)
    found = with_bare_queries(work, models, found)
    beside = context(work, tried, models, tuned, found[: len(models)])
    save_evaluation(found, compared(work, found, beside), work.directory / "evaluation", settings)
    if (decision := found[len(models) - 1].decision) is not None:
        decision.write(work.directory / "model")


def compared(work: Work, found: Sequence[Evaluation], beside: Context) -> Verdict:
    """The verdict on these evaluations, with what is known of the training and what was measured beside the test set."""
    settings = work.recipe.evaluating
    verdict = compare(
        found, settings.resamples, settings.seed, settings.worthwhile, circumstances=circumstances(work),
        columns=columns_of(work.splits.test.queries, settings.slice_by), context=beside,
    )  # fmt: skip
    return annotated(verdict, work.splits, work.directory)


def do_report(work: Work, manifest: Mapping[str, Any]) -> None:
    found, verdict = conclude(work.directory / "evaluation", work.splits, work.recipe.evaluating, work.directory)
    report(
        *found, out=work.directory / "report.html", run=work.directory, checked=_checked(work), verdict=verdict,
        settings=work.recipe.reporting,
    )  # fmt: skip
    complete(work.directory / "model", read_summary(work.directory / "evaluation"), _data_digests(manifest))


def _checked(work: Work) -> dict[str, Any]:
    """What the check finds in the splits as they were dealt, with the lengths that it counted before."""
    before = json.loads((work.directory / "check.json").read_text(encoding="utf-8"))
    return {**check(work.splits).to_dict(), "lengths": before["lengths"], "max_length": before["max_length"]}


def _data_digests(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the data that the model was trained and measured on, by name."""
    digests = manifest["digests"]["data"]
    named = {"data": "data", "dev": "dev data", "test": "test data"}
    return {named.get(name, name): str(value) for name, value in (digests.items() if isinstance(digests, Mapping) else [("data", digests)])}


def verdict(work: Work) -> Verdict:
    """The verdict on the evaluation that is there."""
    return conclude(work.directory / "evaluation", work.splits, work.recipe.evaluating, work.directory)[1]


def do(stage: str, work: Work, manifest: Mapping[str, Any]) -> None:
    """Do one stage."""
    plain: dict[str, Callable[[Work], None]] = {
        "check": do_check, "split": do_split, "mine": do_mine, "train": do_train, "merge": do_merge, "evaluate": do_evaluate,
    }  # fmt: skip
    if stage in plain:
        plain[stage](work)
    elif stage == "report":
        do_report(work, manifest)
    else:
        {"seed": do_seed, "share": do_share, "start": do_anew}[stage.split()[0]](work, stage)
