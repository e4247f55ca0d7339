"""A TREC folder: `collection.tsv` (document id, text), `queries.tsv` (query id, text), `qrels.txt` (query id, 0, document id, relevance).

Qrels of splits are `qrels.train.txt`, `qrels.dev.txt`, `qrels.test.txt`; the queries may be parted likewise (`queries.train.tsv`, …), and
qrels end in `.tsv`, as in MS MARCO and T2Ranking; what MS MARCO calls `dev.small` is dev where there is no other. A first line that names
the columns is left aside. A ranked result (a run) has the columns query id, Q0, document id, rank, score and tag; mined negatives that
nobody judged go there, `negatives.run`, for they are no judgments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from homing.builder import Builder
from homing.data import SIDES, Dataset, Mined, Side, Splits, Texts
from homing.errors import FormatError, JudgmentError
from homing.formats.fields import relevance_field, shown, text_field, undecodable, unreadable
from homing.manifest import replaced

CORPUS, QUERIES, QRELS, RUN = "collection.tsv", "queries.tsv", "qrels", "negatives.run"
_IDS = ("id", "_id", "pid", "did", "docid", "doc_id", "qid", "query_id", "query-id", "corpus-id")  # what a first line calls them
_TEXTS = ("text", "passage", "document", "content", "contents", "query", "question")
_GRADES = ("rel", "relevance", "score", "label", "grade")


def recognises(path: Path) -> bool:
    """Whether the folder holds a collection."""
    return (path / CORPUS).is_file()


def sides(path: Path) -> tuple[Side, ...]:
    """The splits that the folder has qrels for."""
    return tuple(side for side in SIDES if side in _qrels(path))


def read(path: Path, into: Builder, side: Side | None = None) -> None:
    """Read the folder into `into`: for a side its own qrels, where it has them; else all there are, pooled, as those of `side`.

    Counts `empty_documents`, `empty_queries`, `negative_grades`, `pooled_splits` and `ignored_qrels` (files of other names, where a split
    is missing) in the notes. Raises FormatError for what cannot be read, JudgmentError for a judgment of an unknown query or document.
    """
    files = _demand(path)
    wanted = [files[side]] if side in files else list(files.values())
    if len(wanted) > 1:
        into.notes["pooled_splits"] += len(wanted)
    _read(path, into, dict.fromkeys(wanted, side))


def read_splits(path: Path, into: Builder, wanted: Mapping[Side, Side] | None = None) -> None:
    """Read the folder into `into`: each of `wanted`, qrels of splits, as the side there (None: all, as their own). Like `read`.

    `qrels.txt`, which is of no split, is left alone and counted (`ignored_qrels`).
    """
    files = _demand(path)
    wanted = wanted if wanted is not None else {side: side for side in sides(path)}
    into.notes["ignored_qrels"] += None in files
    _read(path, into, {files[name]: side for name, side in wanted.items()})


def write(data: Dataset | Splits, path: Path) -> None:
    """Write the folder. Tabs and line breaks within a text become blanks: a text is one cell of one line here."""
    whole = data.train if isinstance(data, Splits) else data
    path.mkdir(parents=True, exist_ok=True)
    for name, texts in ((CORPUS, whole.corpus), (QUERIES, whole.queries)):
        with replaced(path / name) as file:
            file.writelines(_cells(texts))
    parts = {f"{QRELS}.{side}.txt": getattr(data, side) for side in SIDES} if isinstance(data, Splits) else {f"{QRELS}.txt": data}
    for name, part in parts.items():
        columns = (part.qrels.query.tolist(), part.qrels.document.tolist(), part.qrels.relevance.tolist())
        with replaced(path / name) as file:
            file.writelines(
                f"{whole.queries.ids[query]} 0 {whole.corpus.ids[document]} {grade}\n"
                for query, document, grade in zip(*columns, strict=True)
            )


def write_unjudged(mined: Mined, path: Path) -> None:
    """Write the negatives that nobody judged as a run, ranked by score within each query."""
    found: dict[int, dict[int, float]] = {}
    for row in range(len(mined)):
        for negative, score, judged in zip(
            mined.negative[row].tolist(), mined.score[row].tolist(), mined.judged[row].tolist(), strict=True
        ):
            if negative >= 0 and not judged:
                found.setdefault(int(mined.query[row]), {})[negative] = score
    names = mined.train
    with replaced(path) as file:
        for query, scores in sorted(found.items()):
            for rank, (document, score) in enumerate(sorted(scores.items(), key=lambda item: (-item[1], item[0])), 1):
                file.write(f"{names.queries.ids[query]} Q0 {names.corpus.ids[document]} {rank} {score:.6g} homing\n")


def _read(path: Path, into: Builder, files: Mapping[Path, Side | None]) -> None:
    documents = _positions([path / CORPUS], into.document, into.notes, "empty_documents")
    queries = _positions(_queries(path), into.query, into.notes, "empty_queries")
    if sides(path) != SIDES:
        into.notes["ignored_qrels"] += len({*path.glob(f"{QRELS}.*.t[xs][tv]")} - {*_qrels(path).values()})
    for file, side in files.items():
        for number, line in _lines(file):
            cells, where = line.split(), f"{file} line {number}"
            if number == 1 and cells[0].lower() in _IDS and cells[-1].lower() in _GRADES:
                continue
            if len(cells) != 4:
                raise FormatError(
                    "a judgment has four columns", where=where, got=shown(line), expected="query id, 0, document id, relevance",
                    remedy="Correct the line.",
                )  # fmt: skip
            for name, known, kind in ((cells[0], queries, "query"), (cells[2], documents, "document")):
                if name not in known:
                    raise JudgmentError(f"{kind} {shown(name)} is unknown", where=where, remedy=f"Remove the judgment, or add the {kind}.")
            grade = relevance_field(cells[3], "relevance", where, into.notes)
            query, document = queries[cells[0]], documents[cells[2]]
            if query is not None and document is not None:
                into.judge(query, document, grade, side)


def _positions(files: Sequence[Path], add: Callable[[str, str | None], int], notes: Counter[str], empty: str) -> dict[str, int | None]:
    """The position of each id; None for one without a text, which is left out with its judgments."""
    positions: dict[str, int | None] = {}
    for name, text in _texts(files):
        positions[name] = add(text, name) if text else None
        notes[empty] += not text
    return positions


def _demand(path: Path) -> dict[Side | None, Path]:
    """The folder's qrels files. Raises FormatError, which says what is missing, where the path is no folder of this layout."""
    missing = [CORPUS] * (not (path / CORPUS).is_file()) + [QUERIES] * (not _queries(path))
    if not (files := _qrels(path)):
        missing.append(f"{QRELS}.txt (or {QRELS}.train.txt, …)")
    if missing:
        raise FormatError(
            f"the directory is no TREC folder: {' and '.join(missing)} missing" if path.is_dir() else "there is no such directory",
            where=str(path), expected=f"{CORPUS}, {QUERIES} and {QRELS}.txt", remedy="Add what is missing, or name a file.",
        )  # fmt: skip
    return files


def _qrels(path: Path) -> dict[Side | None, Path]:
    """The folder's qrels, by the split that each is of; None for those of no split."""
    found = {side: _first(path, QRELS, side, (".txt", ".tsv")) for side in (None, *SIDES)}
    return {side: file for side, file in found.items() if file is not None}


def _queries(path: Path) -> list[Path]:
    """The folder's files of queries: the one of all, or those of splits."""
    if (path / QUERIES).is_file():
        return [path / QUERIES]
    return [file for side in SIDES if (file := _first(path, "queries", side, (".tsv",))) is not None]


def _first(path: Path, name: str, side: Side | None, endings: Sequence[str]) -> Path | None:
    """The folder's file of this name for a split, or of its part that MS MARCO calls small; None where it has neither."""
    names = [name] if side is None else [f"{name}.{side}", f"{name}.{side}.small"]
    return next((file for each in names for ending in endings if (file := path / f"{each}{ending}").is_file()), None)


def _cells(texts: Texts) -> Iterator[str]:
    for name, text in zip(texts.ids, texts.texts, strict=True):
        if len(name.split()) != 1:
            raise FormatError(
                "an id holds white space", got=shown(name), expected="an id without any", remedy="Convert to beir, or rename."
            )
        yield f"{name}\t{' '.join(text.split())}\n"


def _texts(files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for path in files:
        for number, line in _lines(path):
            name, tab, text = line.partition("\t")
            where = f"{path} line {number}"
            if number == 1 and name.lower() in _IDS and text.strip().lower() in _TEXTS:
                continue
            if not tab or not name or name in seen:
                raise FormatError(
                    "the id occurs twice" if name in seen else "a line has an id, a tab and a text", where=where, got=shown(line),
                    expected="an id of its own, a tab, a text", remedy="Correct the line.",
                )  # fmt: skip
            seen.add(name)
            yield name, text_field(text, "text", where)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError:
        try:
            path.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise undecodable(error, path) from None
