"""The verb that speaks other programs' formats."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from homing.cli.options import TARGETS, format_
from homing.cli.verbs import verb
from homing.errors import SettingError


@verb("homing convert data.xlsx --to candidates --out data.jsonl\nhoming convert runs/mine/mined --to flagembedding --out train.jsonl")
@click.argument("source", type=str)
@click.option("--to", type=click.Choice(TARGETS), required=True, help="the format to write")
@click.option("--out", type=str, required=True, metavar="PATH", help="the file (.jsonl, .json, .parquet, .csv) or folder to write")
@format_
@click.option(
    "--split", type=click.Choice(("train", "dev", "test")), default=None, help="this split alone [all, pooled where they must be]"
)
@click.option("--dataset", type=str, default=None, metavar="DIR", help="of a directory of mined rows: the dataset [the one beside it]")
def convert(source: str, to: str, out: str, format: str | None, split: Literal["train", "dev", "test"] | None, dataset: str | None) -> None:
    """Write judgments or mined rows as other programs take them; SOURCE is anything that can be read."""
    from homing.converting import convert as write
    from homing.converting import one_side
    from homing.data import Dataset, Mined, Splits
    from homing.formats.mined import FILE, read_mined
    from homing.loading import Halves, load, load_splits, open_dataset

    path = Path(source)
    if path.resolve() == Path(out).resolve():
        raise SettingError("--out is the source itself", got=out, remedy="Give --out another name.")
    data: Dataset | Splits | Mined
    if (path / FILE).is_file():
        if split not in (None, "train"):
            raise SettingError("mined rows are of the training split", got=f"--split {split}", remedy="Leave --split out.")
        beside = Path(dataset) if dataset is not None else path.absolute().parent / "dataset"
        data = read_mined(path, open_dataset(beside).train)
    else:
        found = load_splits(path, format=format)
        data = load(path, format) if isinstance(found, Halves) else found
        if split is not None:
            if not isinstance(data, Splits):
                raise SettingError("the source holds no splits", where=source, got=f"--split {split}", remedy="Leave --split out.")
            data = one_side(data, split)
    made = write(data, to, out)
    click.echo(", ".join(f"{count:,} {name}" for name, count in made.counts.items()) + f"; written to {made.path}")
    for name, count in made.left_out.items():
        if count:
            click.echo(f"{to} has no place for {count:,} {name}")
