"""A BEIR folder: corpus.jsonl (`_id`, `title`, `text`), queries.jsonl (`_id`, `text`, `metadata`), qrels/{train,dev,test}.tsv.

The first two may be packed by gzip (corpus.jsonl.gz). Where there is no dev.tsv, validation.tsv is dev; other files in qrels/ are left
alone. A document's title and text are joined by a blank. Two ids of one text are one document. What stands beside a query's text, or in its
`metadata`, is a column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from homing.builder import Builder
from homing.data import SIDES, Dataset, Queries, Side, Splits
from homing.errors import FormatError, JudgmentError
from homing.formats.fields import columns, id_field, keys, relevance_field, shown, text_field, undecodable, unreadable
from homing.formats.files import present
from homing.formats.records import objects
from homing.formats.writing import write_records

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
HEADER = ("query-id", "corpus-id", "score")
CALLED = {"train": ("train",), "dev": ("dev", "validation"), "test": ("test",)}  # names of a split's file, the first one there counts
_LEFT_OUT = -1


def _file(path: Path, side: Side) -> Path | None:
    """The folder's qrels for a split."""
    files = (path / QRELS / f"{name}.tsv" for name in CALLED[side])
    return next((file for file in files if file.is_file()), None)


def sides(path: Path) -> tuple[Side, ...]:
    """The splits that the folder has qrels for."""
    return tuple(side for side in SIDES if _file(path, side))


def _told(path: Path) -> str:
    """What to do about a path that is no such folder, by what it is instead."""
    if (path / "recipe.toml").is_file():
        return f"This is a run: its data is in {path / 'dataset'}; to go on with it, give {path / 'recipe.toml'}."
    if (path / "config.json").is_file():
        return "This is a model: it goes to --model."
    if present(path / CORPUS).is_file() and present(path / QUERIES).is_file():
        if named := sorted((path / QRELS).glob("*.tsv")):
            return f"In {QRELS}/, call {', '.join(file.name for file in named[:8])} train.tsv, dev.tsv or test.tsv, by what each is for."
        if (path / f"{QRELS}.tsv").is_file():
            return f"Move {QRELS}.tsv to {QRELS}/train.tsv (or dev.tsv, test.tsv), by what it is for."
        return (
            "Homing learns from judgments, and measures by them: say for some of the queries (a hundred and more) which documents answer "
            f"them, in {QRELS}/train.tsv, a query id, a document id and 1 or 0 a line, with tabs between."
        )
    if any(path.glob("*.arrow")) or any(path.glob("*/*.arrow")):
        return 'Write what datasets saved there as JSON: load_from_disk(PATH)["train"].to_json("train.jsonl"), each split so.'
    files = {side: file for side, names in CALLED.items() for file in sorted(path.glob("*.*")) if file.name.lower().split(".")[0] in names}
    if "train" in files:
        flags = {"train": "", "dev": "--dev " if "test" in files else "--test ", "test": "--test "}
        return "Name its files: " + " ".join(f"{flags[side]}{file}" for side, file in files.items()) + "."
    return "Add what is missing, or name a file: JSON, JSONL, Parquet, CSV or .xlsx."


def demand(path: Path) -> None:
    """Raise FormatError, which says what is missing, where the path is no folder of this layout."""
    missing = [name for name in (CORPUS, QUERIES) if not present(path / name).is_file()]
    if not sides(path):
        missing.append(f"{QRELS}/train.tsv (or dev.tsv, test.tsv)")
    if missing:
        raise FormatError(
            "the directory is no BEIR folder: " + " and ".join(missing) + (" is missing" if len(missing) == 1 else " are missing")
            if path.is_dir()
            else "there is no such directory",
            where=str(path),
            expected=f"{CORPUS}, {QUERIES} and {QRELS}/train.tsv",
            remedy=_told(path),
        )


def read(path: Path, into: Builder, side: Side | None = None) -> None:
    """Read the folder into `into`: for a side the qrels of that name, where it has them; else all three, pooled as those of `side`.

    Counts in the notes: `empty_documents` and `empty_queries` (left out with their judgments, `judgments_of_empty_texts`),
    `negative_grades`, `pooled_splits` (qrels files, where more than one was pooled) and `ignored_qrels` (files of other names, where one
    of the three is missing). Raises FormatError for what cannot be read, JudgmentError for a judgment of an unknown query or document.
    """
    demand(path)
    found = sides(path)
    wanted = (side,) if side in found else found
    if len(wanted) > 1:
        into.notes["pooled_splits"] += len(wanted)
    _read(path, into, dict.fromkeys(wanted, side))


def read_splits(path: Path, into: Builder, files: Mapping[Side, Side] | None = None) -> None:
    """Read the folder into `into`: each of `files`, qrels by their names, as the side there (None: all, as their own). Like `read`."""
    demand(path)
    _read(path, into, files if files is not None else {side: side for side in sides(path)})


def write(data: Dataset | Splits, path: Path) -> None:
    """Write the folder: a dataset's judgments to qrels/train.tsv, those of splits to one file a side; judgments of 0 among them.

    Reading it back gives the same texts, ids and judgments in the same order.
    """
    parts = {side: getattr(data, side) for side in SIDES} if isinstance(data, Splits) else {"train": data}
    whole: Dataset = parts["train"]
    (path / QRELS).mkdir(parents=True, exist_ok=True)
    corpus, queries = whole.corpus, whole.queries
    write_records(path / CORPUS, ({"_id": name, "title": "", "text": text} for name, text in zip(corpus.ids, corpus.texts, strict=True)))
    write_records(path / QUERIES, _lines(queries))
    for side, part in parts.items():
        judged = (part.qrels.query.tolist(), part.qrels.document.tolist(), part.qrels.relevance.tolist())
        lines = [f"{queries.ids[query]}\t{corpus.ids[document]}\t{grade}\n" for query, document, grade in zip(*judged, strict=True)]
        (path / QRELS / f"{side}.tsv").write_text("\t".join(HEADER) + "\n" + "".join(lines), encoding="utf-8", newline="\n")


def _lines(queries: Queries) -> Iterator[dict[str, Any]]:
    for place, (name, text) in enumerate(zip(queries.ids, queries.texts, strict=True)):
        said = {column: values[place] for column, values in queries.columns.items() if values[place]}
        yield {"_id": name, "text": text, **({"metadata": said} if said else {})}


def _read(path: Path, into: Builder, files: Mapping[Side, Side | None]) -> None:
    documents = _texts(present(path / CORPUS), into.document, _document, into.notes, "empty_documents")
    queries = _texts(present(path / QUERIES), into.query, _query, into.notes, "empty_queries", into.describe)
    if sides(path) != SIDES:
        into.notes["ignored_qrels"] += len({*(path / QRELS).glob("*.tsv")} - {_file(path, side) for side in SIDES})
    for split, side in files.items():
        _judgments(_file(path, split) or path / QRELS / f"{split}.tsv", into, queries, documents, side)


def _document(record: dict[str, Any], where: str) -> str:
    title, text = ("" if record.get(key) is None else text_field(record[key], key, where) for key in ("title", "text"))
    return f"{title} {text}".strip()


def _query(record: dict[str, Any], where: str) -> str:
    return text_field(record["text"], "text", where)


def _texts(
    path: Path,
    add: Callable[[str, str | None], int],
    compose: Callable[[dict[str, Any], str], str],
    notes: Counter[str],
    empty: str,
    describe: Callable[[int, dict[str, str]], None] | None = None,
) -> dict[str, int]:
    """Hand each text of a file to `add`, and what its record says beside it to `describe`; the position of each id, and that of one
    without text `_LEFT_OUT`."""
    positions: dict[str, int] = {}
    lines: dict[str, str] = {}
    for record in objects(path):
        name = _id(record.value, record.where)
        text = compose(record.value, record.where)
        if name in positions:
            raise FormatError(
                f"the id {shown(name)} occurs twice", where=record.where, got=f"first in {lines[name]}", expected="an id of its own",
                remedy="Give each text its own id.",
            )  # fmt: skip
        lines[name] = record.where.removeprefix(f"{path} ")
        positions[name] = add(text, name) if text else _LEFT_OUT
        if not text:
            notes[empty] += 1
        elif describe is not None:
            describe(positions[name], columns(record, ("_id", "text")))
    return positions


def _id(record: dict[str, Any], where: str) -> str:
    missing = [key for key in ("_id", "text") if key not in record]
    if missing:
        raise FormatError(
            f"{missing[0]!r} is missing",
            where=where,
            got=f"the keys {keys(record)}",
            expected="'_id' and 'text'",
            remedy="Give each text its id and its content.",
        )
    return id_field(record["_id"], where)


def _judgments(path: Path, into: Builder, queries: dict[str, int], documents: dict[str, int], side: Side | None) -> None:
    try:
        lines = path.read_bytes().decode().removeprefix("\ufeff").split("\n")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise undecodable(error, path) from None
    for number, line in enumerate(lines, 1):
        cells = line.removesuffix("\r").split("\t")
        if cells == [""] or (number == 1 and _names(cells, queries)):
            continue
        where = f"{path} line {number}"
        if len(cells) != len(HEADER):
            raise FormatError(
                "a judgment has three columns",
                where=where,
                got=shown(line),
                expected="query id, document id and score with a tab between",
                remedy="Correct the line.",
            )
        if cells[0] not in queries:
            raise _unknown("query", cells[0], f"among the {len(queries):,} queries", QUERIES, where)
        if cells[1] not in documents:
            raise _unknown("document", cells[1], f"in the corpus ({len(documents):,} documents)", CORPUS, where)
        grade = relevance_field(cells[2], "score", where, into.notes)
        if _LEFT_OUT in (queries[cells[0]], documents[cells[1]]):
            into.notes["judgments_of_empty_texts"] += 1
        else:
            into.judge(queries[cells[0]], documents[cells[1]], grade, side)


def _names(cells: list[str], queries: dict[str, int]) -> bool:
    """Whether a first line is a header: the usual one, or other names in the places of an id and a number."""
    return cells[-1].strip().lower() == HEADER[-1] or (cells[0] not in queries and cells[-1].strip().isalpha())


def _unknown(kind: str, name: str, among: str, file: str, where: str) -> JudgmentError:
    remedy = f"Remove the judgment, or add the {kind} to {file}."
    return JudgmentError(f"{kind} {shown(name)} is not {among}", where=where, remedy=remedy)
