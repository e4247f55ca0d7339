"""Choose the negatives of each training row from its query's own candidates, by their BM25 rank among all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from homing.data import Dataset, Mined, Pool, Qrels
from homing.errors import JudgmentError, RunError
from homing.negatives import EASY, HARD, OTHER, draw, places
from homing.retrievers.bm25 import score_lists
from homing.settings import Mining

FILE, POOL, CHANGES = "rows.parquet", "pool.parquet", "changes.parquet"
_WINDOW = 10  # hard: ranks 1 to 10; easy: the last 10 of the list


def mine(train: Dataset, settings: Mining | None = None, *, seed: int | None = None) -> Mined:
    """Rows of a query, one of its positives and up to `settings.negatives` negatives; `seed`, where given, stands for the settings' own.

    Every candidate of a query is ranked by BM25 over its list, relevant ones too, ties by list position. Hard are the non-relevant ones at
    ranks 1 to 10, easy those among the last 10 that are not hard. A row draws `settings.hard` hard ones, then easy ones, and where
    these run out the remaining hard ones, then any other (`negatives.draw`; training draws anew from `Mined.pool` in each epoch). A query
    without a positive gives no row; where there are too few candidates a row ends short, down to no negative at all.
    """
    settings = settings or Mining()
    qrels = train.qrels
    scores = score_lists(train)
    order = np.lexsort((-scores, qrels.query))
    _, of_list, size = np.unique(qrels.query, return_inverse=True, return_counts=True)
    start = np.cumsum(size) - size
    rank = np.empty(len(qrels), dtype=np.int32)
    rank[order] = np.arange(len(qrels)) - start[of_list] + 1
    kind = np.select([rank <= _WINDOW, rank > size[of_list] - _WINDOW], [HARD, EASY], OTHER).astype(np.int32)

    positives, cells = np.flatnonzero(qrels.relevance > 0), np.flatnonzero(qrels.relevance == 0)
    pool = Pool(
        qrels.query[cells], qrels.document[cells], kind[cells], settings.negatives, settings.hard, settings.seed if seed is None else seed
    )
    query, positive = qrels.query[positives], qrels.document[positives]
    row, drawn = draw(train, pool, query, positive)
    place, cell = places(row), cells[drawn]
    mined = _empty(train, query, positive, int(place.max(initial=-1)) + 1, pool=pool)
    for column, values in ((mined.negative, qrels.document), (mined.kind, kind), (mined.rank, rank), (mined.score, scores)):
        column[row, place] = values[cell]
    mined.judged[row, place] = True
    return mined


def save_mined(mined: Mined, directory: Path) -> None:
    """Write the rows as `rows.parquet` into an existing directory: ids of query, positive and negatives, and the negatives' records.

    Beside it `pool.parquet`: the candidates that later epochs draw from; and `changes.parquet`, where judges changed the training split.
    """
    held = mined.negative >= 0
    offsets = pa.array(np.append(0, np.cumsum(held.sum(axis=1))), pa.int32())

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values)

    queries, documents = pa.array(mined.train.queries.ids, pa.string()), pa.array(mined.train.corpus.ids, pa.string())
    table = pa.table(
        {
            "query_id": queries.take(pa.array(mined.query)),
            "positive_id": documents.take(pa.array(mined.positive)),
            "negative_ids": lists(documents.take(pa.array(mined.negative[held]))),
            "kinds": lists(pa.array(Mined.KINDS).take(pa.array(mined.kind[held]))),
            "ranks": lists(pa.array(mined.rank[held])),
            "scores": lists(pa.array(mined.score[held])),
            "judged": lists(pa.array(mined.judged[held])),
        }
    )
    pq.write_table(table.replace_schema_metadata({"source": mined.source}), directory / FILE)
    if (pool := mined.pool) is not None:
        columns = {
            "query_id": queries.take(pa.array(pool.query)),
            "document_id": documents.take(pa.array(pool.document)),
            "kind": pa.array(Mined.KINDS).take(pa.array(pool.kind)),
        }
        said = {"negatives": str(pool.negatives), "hard": str(pool.hard), "seed": str(pool.seed)}
        pq.write_table(pa.table(columns).replace_schema_metadata(said), directory / POOL)
    _save_changes(mined.train, directory / CHANGES)


def _save_changes(train: Dataset, path: Path) -> None:
    if (changes := train.changes) is None:
        return
    columns = {
        "query_id": [train.queries.ids[query] for query in changes.query.tolist()],
        "document_id": [train.corpus.ids[document] for document in changes.document.tolist()],
        "relevance": changes.relevance,
    }
    pq.write_table(pa.table(columns), path)


def _with_changes(train: Dataset, path: Path) -> Dataset:
    """The training split as judges changed it before it was mined."""
    if not path.is_file():
        return train
    table = pq.read_table(path)
    query = _positions(table["query_id"], train.queries.ids, "query", path)
    document = _positions(table["document_id"], train.corpus.ids, "document", path)
    return train.changed(Qrels(query, document, table["relevance"].to_numpy()))


def read_mined(directory: Path, train: Dataset) -> Mined:
    """The rows that `save_mined` wrote, over the training split that they were mined from, with what judges changed in it.

    Raises RunError where there is no such file, JudgmentError where it names a query or document that `train` does not hold.
    """
    path = directory / FILE
    try:
        table = pq.read_table(path)
        source = table.schema.metadata[b"source"].decode()
    except (FileNotFoundError, pa.ArrowInvalid, TypeError, KeyError) as error:
        raise RunError("there are no mined rows here", where=str(path), remedy="Run `homing mine` again.") from error
    train = _with_changes(train, directory / CHANGES)
    width = np.diff(table["negative_ids"].combine_chunks().offsets.to_numpy())
    query = _positions(table["query_id"], train.queries.ids, "query", path)
    positive = _positions(table["positive_id"], train.corpus.ids, "document", path)
    mined = _empty(train, query, positive, int(width.max(initial=0)), source, _read_pool(directory / POOL, train))
    row = np.repeat(np.arange(len(width)), width)
    place = places(row)
    mined.negative[row, place] = _positions(_flat(table["negative_ids"]), train.corpus.ids, "document", path)
    mined.kind[row, place] = _positions(_flat(table["kinds"]), Mined.KINDS, "kind of negative", path)
    for column, name in ((mined.rank, "ranks"), (mined.score, "scores"), (mined.judged, "judged")):
        column[row, place] = _flat(table[name]).to_numpy(zero_copy_only=False)
    return mined


def _read_pool(path: Path, train: Dataset) -> Pool | None:
    """The pool beside the rows; None for rows that came without one."""
    if not path.is_file():
        return None
    table = pq.read_table(path)
    query, document = (
        _positions(table[name], known, what, path)
        for name, known, what in (("query_id", train.queries.ids, "query"), ("document_id", train.corpus.ids, "document"))
    )
    said = {name.decode(): int(value) for name, value in table.schema.metadata.items() if name in (b"negatives", b"hard", b"seed")}
    kind = _positions(table["kind"], Mined.KINDS, "kind of negative", path)
    by_query = np.argsort(query, kind="stable")
    return Pool(query[by_query], document[by_query], kind[by_query], **said)


def _empty(
    train: Dataset, query: NDArray[np.int32], positive: NDArray[np.int32], width: int, source: str = "list:bm25", pool: Pool | None = None
) -> Mined:
    """Rows with room for so many negatives: -1 as negative and kind, 0 as rank and score."""
    shape = len(query), width
    none = np.full(shape, -1, dtype=np.int32)
    return Mined(train, query, positive, none, none.copy(), np.zeros(shape, np.int32), np.zeros(shape), np.zeros(shape, bool), source, pool)


def _flat(lists: pa.ChunkedArray) -> pa.Array:
    return lists.combine_chunks().flatten()


def _positions(names: pa.Array, known: Sequence[str], what: str, path: Path) -> NDArray[np.int32]:
    """Where each name is in `known`."""
    position = {name: number for number, name in enumerate(known)}
    try:
        return np.array([position[name] for name in names.to_pylist()], dtype=np.int32)
    except KeyError as error:
        raise JudgmentError(
            f"{what} {error.args[0]!r} of a mined row is unknown",
            where=str(path),
            expected=f"one of the training split's {len(position):,}",
            remedy="The rows were mined from other data: run `homing mine` again.",
        ) from None
