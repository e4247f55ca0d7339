"""Data as it is given: to be split, split already, or to be split around a test set that is given or frozen. Light: no torch."""

from __future__ import annotations

from homing.data import Dataset, Splits
from homing.loading import Halves, dataset_directory, load_splits, read_dataset
from homing.settings import Splitting
from homing.splitting import deal_dev, freeze


def opened(
    data: str, dev: str | None, test: str | None, format: str | None, splitting: Splitting | None = None, corpus: str | None = None
) -> Dataset | Splits:
    """The data, or its splits where it comes split: by its own, by `dev` and `test`, or by the frozen test of a run or a split dataset.

    Where a test is given and no dev, dev is dealt from train. A test that the data has itself gives way to a frozen one.

    Raises the errors of `load_splits`, `deal_dev` and `freeze`.
    """
    frozen = dataset_directory(test) if test is not None else None
    if frozen is None:
        given = load_splits(data, dev, test, format=format, corpus=corpus, by=splitting.by if splitting is not None else "group")
        return deal_dev(*given, splitting) if isinstance(given, Halves) else given
    given = load_splits(data, dev, None if dev is None else frozen, format=format, corpus=corpus)
    return freeze(given.train if isinstance(given, Halves) else given, read_dataset(frozen), splitting)
