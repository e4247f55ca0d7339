"""The verbs about negatives that may be relevant: list them, and let a model judge them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homing.cli.options import judgments_, make, settings, verb
from homing.data import Side
from homing.errors import FormatError, SettingError

if TYPE_CHECKING:
    from homing.auditing import Scorer
    from homing.data import Mined, Splits
    from homing.protocols import Encoder


@settings("encoding", "auditing", shown=("query_prompt", "instruction", "max_length", "top", "queries"))
@verb("homing audit runs/insurance\nhoming audit dataset --model Qwen/Qwen3-Embedding-0.6B --model model --mined mined --out audit")
@click.argument("data", metavar="RUN|DATASET", type=str)
@click.option("--model", "sources", type=str, multiple=True, metavar="MODEL", help="an embedding model or cross-encoder; repeatable")
@click.option("--mined", type=str, default=None, metavar="DIR", help="mined rows: looks at their unjudged negatives too")
@click.option("--out", type=str, default=None, metavar="DIR", help="the directory to write [RUN/audit, or audit]")
@judgments_
@click.option("--dev", "side", flag_value="dev", help="audit dev, on which thresholds and checkpoints are chosen")
@click.option("--test", "side", flag_value="test", help="audit test: obeying it changes the exam, so that older verdicts no longer compare")
def audit(
    data: str, sources: Sequence[str], mined: str | None, out: str | None, judgments: Sequence[str], side: Side | None, **options: Any
) -> None:
    """List the negatives that are most likely relevant, as a sheet and as a page on which a person marks them.

    A run brings its base, its tuned model and its mined rows. Only the training split is looked at, unless another is asked for.
    """
    from homing.auditing import audit as look
    from homing.formats import sheet
    from homing.formats.judgments import read
    from homing.judgments import obey
    from homing.loading import read_dataset
    from homing.manifest import replace_directory, write_json
    from homing.marking import marking_page
    from homing.mining import read_mined
    from homing.suspects import NEAR, save

    chosen, directory = make(options, "auditing"), Path(data)
    marked = [each for path in judgments for each in read(path)]
    is_run = (directory / "recipe.toml").is_file()
    splits: Splits = read_dataset(directory / "dataset" if is_run else directory)
    models = [*(_run_models(directory) if is_run else []), *(_opened(source, options) for source in sources)]
    kept = Path(out) if out else directory / "audit" if is_run else Path("audit")
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
    found = look(looked, models, chosen, mined=rows, side=audited)
    with replace_directory(kept) as fresh:
        save(found, fresh)
        sheet.write(found, fresh / "suspects.csv")
        marking_page(found, fresh / "suspects.html")
        write_json(
            fresh / "audit.json",
            {"split": audited, "changes_the_exam": audited == "test", "models": [{"name": each.name, "digest": getattr(each, "digest", "")}
             for each in models], "negatives": found.of, "listed": len(found), **asdict(chosen)},
        )  # fmt: skip
    told = [f"{int((found.near >= NEAR).sum()):,} near-duplicates of the positive"]
    told += [f"{beats:,} beat it for {name}" for name, beats in zip(found.models, found.beats.sum(axis=0).tolist(), strict=True)]
    click.echo(f"{len(found):,} of {found.of:,} negatives of {audited} listed: {', '.join(told)}")
    click.echo(f"mark them: {kept / 'suspects.html'} in a browser, or {kept / 'suspects.csv'} in a spreadsheet (1, 0 or u under 'mark')")
    click.echo(f"then: homing {f'run {data}/recipe.toml' if is_run else f'mine {data}'} --judgments FILE")


def _run_models(run: Path) -> list[Encoder]:
    """The run's base, and its tuned model where there is one that is not the base."""
    from homing.encoders.adapter import Adapter
    from homing.encoders.kept import Kept
    from homing.encoders.model import Model
    from homing.encoders.pair import open_model
    from homing.recipe import Recipe

    recipe = Recipe.read(run / "recipe.toml")
    base = Model(recipe.model, **asdict(recipe.encoding), name="base")
    if not (run / "model").is_dir() or Adapter(run / "adapter").scale == 0:
        return [Kept(base)]
    return [Kept(base), Kept(open_model(run / "model", documents=base, device=base.device, dtype=base.dtype, name="tuned"))]


def _opened(source: str, options: dict[str, Any]) -> Encoder | Scorer:
    """An embedding model, or what scores pairs. Raises FormatError for a file."""
    from homing.auditing import Scorer
    from homing.cache import cache_directory
    from homing.encoders.kept import Kept
    from homing.encoders.model import Model
    from homing.encoders.pair import open_model
    from homing.encoders.teacher import kind_of, score_pairs

    path = Path(source)
    if path.is_file():
        raise FormatError("a file is no model", where=source, remedy="Give a model's directory or hub name.")
    if path.is_dir() and kind_of(path) == "cross-encoder":
        kept = cache_directory("answers") or Path("audit-answers")
        return Scorer(path.name, lambda pairs: score_pairs(path, pairs, kept))
    encoding = make(options, "encoding")
    model = Model(source, **asdict(encoding))
    if path.is_dir() and model.document_model is not None:
        return Kept(open_model(path, name=path.name))
    return Kept(model)
