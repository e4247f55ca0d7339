"""Data as it is given: to be split, split already, or to be split around a test set that is frozen. Light: no torch."""

from __future__ import annotations

from homing.data import Dataset, Splits
from homing.loading import dataset_directory, load_splits, read_dataset
from homing.settings import Splitting
from homing.splitting import freeze


def opened(
    data: str, dev: str | None, test: str | None, format: str | None, splitting: Splitting | None = None, corpus: str | None = None
) -> Dataset | Splits:
    """The data, or its splits where it comes split: by its own, by `dev` and `test`, or by the frozen test of a run or a split dataset.

    Raises the errors of `load_splits` and `freeze`.
    """
    frozen = dataset_directory(test) if test is not None else None
    if frozen is None:
        return load_splits(data, dev, test, format=format, corpus=corpus, by=splitting.by if splitting is not None else "group")
    given = load_splits(data, dev, None if dev is None else frozen, format=format, corpus=corpus)
    return freeze(given, read_dataset(frozen), splitting)
