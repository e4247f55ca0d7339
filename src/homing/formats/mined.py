"""Mined rows on disk: each negative with its record, what later epochs draw from, and what judges changed before; ids alone, as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from homing.data import Dataset, Mined, Pool, Qrels
from homing.errors import FormatError, JudgmentError, first_line
from homing.negatives import places

FILE, POOL, CHANGES = "rows.parquet", "pool.parquet", "changes.parquet"
_DRAWN = ("negatives", "hard", "medium", "seed")


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
            "sources": lists(pa.array(Mined.SOURCES).take(pa.array(mined.source[held]))),
        }
    )
    pq.write_table(table, directory / FILE)
    if (pool := mined.pool) is not None:
        columns = {
            "query_id": queries.take(pa.array(pool.query)),
            "document_id": documents.take(pa.array(pool.document)),
            "kind": pa.array(Mined.KINDS).take(pa.array(pool.kind)),
            "rank": pa.array(pool.rank),
            "score": pa.array(pool.score),
            "judged": pa.array(pool.judged),
            "source": pa.array(Mined.SOURCES).take(pa.array(pool.source)),
        }
        said = {name: str(getattr(pool, name)) for name in _DRAWN}
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
    table = _table(path, "query_id")
    query = _positions(table["query_id"], train.queries.ids, "query", path)
    document = _positions(table["document_id"], train.corpus.ids, "document", path)
    return train.changed(Qrels(query, document, table["relevance"].to_numpy()))


def read_mined(directory: Path, train: Dataset) -> Mined:
    """The rows that `save_mined` wrote, over the training split that they were mined from, with what judges changed in it.

    Raises FormatError where there is no such file, JudgmentError where it names a query or document that `train` does not hold.
    """
    path = directory / FILE
    table = _table(path, "sources")
    train = _with_changes(train, directory / CHANGES)
    width = np.diff(table["negative_ids"].combine_chunks().offsets.to_numpy())
    query = _positions(table["query_id"], train.queries.ids, "query", path)
    positive = _positions(table["positive_id"], train.corpus.ids, "document", path)
    mined = Mined.empty(train, query, positive, int(width.max(initial=0)), _read_pool(directory / POOL, train))
    row = np.repeat(np.arange(len(width)), width)
    place = places(row)
    mined.negative[row, place] = _positions(_flat(table["negative_ids"]), train.corpus.ids, "document", path)
    mined.kind[row, place] = _positions(_flat(table["kinds"]), Mined.KINDS, "kind of negative", path)
    mined.source[row, place] = _positions(_flat(table["sources"]), Mined.SOURCES, "source", path)
    for column, name in ((mined.rank, "ranks"), (mined.score, "scores"), (mined.judged, "judged")):
        column[row, place] = _flat(table[name]).to_numpy(zero_copy_only=False)
    return mined


def _table(path: Path, column: str) -> pa.Table:
    """One of the files that `save_mined` wrote. Raises FormatError where it is missing, not whole, or lacks this column."""
    if not path.is_file():
        raise FormatError("there are no mined rows here", where=str(path), remedy="Give what homing mine wrote, as RUN/mined.")
    try:
        table = pq.read_table(path)
        _ = table[column]
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise FormatError(
            "the mined rows are not whole", where=str(path), got=first_line(error),
            remedy="Run `homing mine` again.",
        ) from error  # fmt: skip
    return table


def _read_pool(path: Path, train: Dataset) -> Pool | None:
    """The pool beside the rows; None for rows that came without one."""
    if not path.is_file():
        return None
    table = _table(path, "query_id")
    query, document = (
        _positions(table[name], known, what, path)
        for name, known, what in (("query_id", train.queries.ids, "query"), ("document_id", train.corpus.ids, "document"))
    )
    said: dict[str, Any] = {name.decode(): int(value) for name, value in table.schema.metadata.items() if name.decode() in _DRAWN}
    columns: dict[str, Any] = {
        "query": query, "document": document, "kind": _positions(table["kind"], Mined.KINDS, "kind of negative", path),
        "source": _positions(table["source"], Mined.SOURCES, "source", path),
        **{name: table[name].to_numpy() for name in ("rank", "score", "judged")},
    }  # fmt: skip
    by_query = np.argsort(query, kind="stable")
    return Pool(**{name: values[by_query] for name, values in columns.items()}, **said)


def _flat(lists: pa.ChunkedArray) -> pa.Array:
    return lists.combine_chunks().flatten()


def _positions(names: pa.Array | pa.ChunkedArray, known: Sequence[str], what: str, path: Path) -> NDArray[np.int32]:
    """Where each name is in `known`."""
    found = pc.index_in(names, value_set=pa.array(known, pa.string()))
    if found.null_count:
        raise JudgmentError(
            f"{what} {names.filter(found.is_null())[0].as_py()!r} of a mined row is unknown",
            where=str(path),
            expected=f"one of the training split's {len(known):,}",
            remedy="The rows were mined from other data: run `homing mine` again.",
        )
    positions: NDArray[np.int32] = found.to_numpy(zero_copy_only=False)
    return positions
