"""Load data from files into one vocabulary, as a dataset to be split or as the splits that it came in; and keep splits on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from homing import formats
from homing.arguments import demand_path
from homing.builder import Builder
from homing.data import SIDES, Dataset, Side, Splits
from homing.errors import FormatError, SettingError
from homing.formats import beir, documents, trec
from homing.ties import groups_of_given

SPLIT = "split.json"


def load(path: str | Path, format: str | None = None, corpus: str | Path | None = None) -> Dataset:
    """All judgments of a file or a BEIR folder, as one dataset.

    `format` is a name in `homing.formats.FORMATS`; None finds it by content. A BEIR folder's train, dev and test judgments are pooled
    (`notes["pooled_splits"]` says so); `load_splits` keeps them apart. `corpus` is a file of further documents (`formats.documents`).

    Raises FormatError for a file that cannot be read as its format, JudgmentError where nothing is judged relevant or a judgment names
    an unknown text.
    """
    demand_path(path=path)
    if corpus is not None:
        demand_path(corpus=corpus)
    path, builder = Path(path), Builder()
    formats.FORMATS[formats.named(format, path)].read(path, builder)
    if corpus is not None:
        documents.read(Path(corpus), builder)
    return builder.dataset(where=str(path))


class Halves(NamedTuple):
    """What came split in two, over one corpus and one set of queries: `train`, of which dev is still to be dealt, and the test given."""

    train: Dataset
    test: Dataset


def load_splits(
    train: str | Path, dev: str | Path | None = None, test: str | Path | None = None, format: str | None = None,
    corpus: str | Path | None = None, by: Literal["group", "query"] = "group",
) -> Dataset | Splits | Halves:  # fmt: skip
    """The splits that the data came in, over one corpus and one set of queries; or a dataset to be split, where it came in none.

    Sides are given by their paths, or by the qrels of one BEIR or TREC folder, whose own fill in for a path that is missing; a path that
    is such a folder stands for the qrels of its own side alone. `groups` of given splits hold what hangs together within a side
    (`ties.groups_of_given`); with `by` "query" documents in common tie nothing. `corpus` is a file of further documents.

    Test without dev gives `Halves`, for `splitting.deal_dev`. So do two qrels files: the last one in the order of train, dev and test is
    the test, also where that is dev (`notes["dev_as_test"]` counts its queries), as in published figures on MS MARCO. One qrels file
    is a dataset to be split, whatever its name (`notes["dealt_anew"]` counts its queries where it is not train).

    Raises SettingError where dev is given without a test, and the errors of `load`.
    """
    path, builder = Path(train), Builder()
    given: dict[Side, Path] = {"dev": Path(dev)} if dev is not None else {}
    given |= {"test": Path(test)} if test is not None else {}
    name = formats.named(format, path)
    folder = {"beir": beir, "trec": trec}.get(name)
    own = _own(folder.sides(path) if folder is not None else (), tuple(given))
    if not own and not given:
        data, there = load(path, format, corpus), folder.sides(path) if folder is not None else ()
        if there in (("dev",), ("test",)):
            data.notes["dealt_anew"] = len(data.qrels.queries)
        return data
    if folder is not None and own:
        folder.read_splits(path, builder, own)
    else:
        formats.FORMATS[name].read(path, builder, "train")
    for side, each in given.items():
        formats.FORMATS[formats.named(format, each)].read(each, builder, side)
    if corpus is not None:
        documents.read(Path(corpus), builder)
    if own.get("dev") == "test":
        builder.notes["dev_as_test"] = len(builder.qrels("test").queries)
    whole, test_part = (builder.dataset(side, where=str(given.get(side, train))) for side in ("train", "test"))
    if "dev" not in {*own.values(), *given}:
        return Halves(whole, whole.with_qrels(test_part.qrels))
    sides = (whole, whole.with_qrels(builder.dataset("dev", where=str(given.get("dev", train))).qrels), whole.with_qrels(test_part.qrels))
    return Splits(*sides, by="given", groups=groups_of_given(sides, by))


def _own(there: tuple[Side, ...], given: tuple[Side, ...]) -> dict[Side, Side]:
    """Which of a folder's qrels files, of those that are there, stands for which side beside the sides that are given by paths.

    Empty where the whole of the data is train, or all of it is to be split. Raises SettingError for dev without a test.
    """
    if given == ("dev",) and not {"train", "test"} <= set(there):
        raise SettingError(
            "--dev is given without --test", expected="--dev and --test, or --test alone",
            remedy="Give the file as --test: then dev is dealt from the training data. Or give neither: then all three are.",
        )  # fmt: skip
    if not given and len(there) == 2:
        return {there[0]: "train", there[1]: "test"}
    if given != ("dev", "test") and set(SIDES) <= {*there, *given} and "train" in there:
        return {side: side for side in there if side not in given}
    return {}


def save_dataset(splits: Splits, directory: str | Path) -> None:
    """Write splits into a fresh directory: the BEIR layout, and split.json with what that has no place for.

    `read_dataset` gives the same splits back.
    """
    directory, names = Path(directory), splits.train.queries.ids
    beir.write(splits, directory)
    said = {
        "by": splits.by,
        "removed": [names[query] for query in splits.removed],
        "notes": {side: getattr(splits, side).notes for side in SIDES},
        "groups": dict(zip(names, splits.groups.tolist(), strict=True)),
    }
    (directory / SPLIT).write_text(json.dumps(said, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", newline="\n")


def read_dataset(directory: str | Path) -> Splits:
    """The splits that `save_dataset` wrote, with equal texts, ids, judgments, groups and notes, all in the same order.

    Raises FormatError or JudgmentError where the directory is not of that kind, or was changed since so that its parts disagree.
    """
    directory = Path(directory)
    if not (directory / SPLIT).is_file():
        raise FormatError(
            "this is no dataset that was split" if directory.exists() else "there is no such directory", where=str(directory),
            expected=f"a directory with {SPLIT}", remedy="Split the data first (homing split DATA --out dataset), and give that directory.",
        )  # fmt: skip
    said = _said(directory / SPLIT)
    if missing := set(SIDES) - set(beir.sides(directory)):
        raise _foreign(directory, "no " + " and ".join(f"{beir.QRELS}/{side}.tsv" for side in sorted(missing)))
    builder = Builder()
    beir.read_splits(directory, builder)
    whole = builder.dataset("train", where=str(directory))
    index = whole.queries.index
    try:
        groups = np.array([said["groups"][name] for name in whole.queries.ids], dtype=np.int32)
        removed = tuple(index[name] for name in said["removed"])
        parts = {side: Dataset(whole.corpus, whole.queries, builder.qrels(side), dict(said["notes"][side])) for side in SIDES}
        return Splits(**parts, by=said["by"], groups=groups, removed=removed)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _foreign(directory / SPLIT, f"{type(error).__name__}: {error}") from None


def dataset_directory(path: str | Path) -> Path | None:
    """The directory of a dataset that was saved with its splits: `path` itself, or a run's at `path`; None for anything else."""
    return next((each for each in (Path(path), Path(path) / "dataset") if (each / SPLIT).is_file()), None)


def open_dataset(path: str | Path) -> Splits:
    """The split dataset of a directory, or of the run there. Raises what `read_dataset` raises."""
    return read_dataset(dataset_directory(path) or path)


def _said(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_bytes())
    except OSError as error:
        raise _foreign(path, error.strerror or str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _foreign(path, str(error)) from None
    if not isinstance(said, dict) or said.get("by") not in ("group", "query", "given"):
        raise _foreign(path, "no 'by' that is group, query or given")
    return said


def _foreign(path: Path, got: str) -> FormatError:
    remedy = "Split the data again; files of a run's dataset are not for editing."
    return FormatError("the directory is not a dataset that was saved with its splits", where=str(path), got=got, remedy=remedy)
