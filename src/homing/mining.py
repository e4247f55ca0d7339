"""Choose the negatives of each training row from its query's own candidates, by their BM25 rank among all of them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from homing.data import Dataset, Mined
from homing.errors import JudgmentError, RunError
from homing.retrievers.bm25 import score_lists
from homing.settings import Mining

FILE = "rows.parquet"
_WINDOW = 10  # hard: ranks 1 to 10; easy: the last 10 of the list
_HARD, _EASY, _OTHER = range(3)  # of Mined.KINDS


def mine(train: Dataset, settings: Mining | None = None, *, seed: int | None = None) -> Mined:
    """Rows of a query, one of its positives and up to `settings.negatives` negatives; `seed`, where given, stands for the settings' own.

    Every candidate of a query is ranked by BM25 over its list, relevant ones too, ties by list position. Hard are the non-relevant ones at
    ranks 1 to 10, easy those among the last 10 that are not hard. A row draws `settings.hard` hard ones, then easy ones, and where
    these run out the remaining hard ones, then any other. A query without a positive gives no row; where there are too few candidates
    a row ends short, down to no negative at all.

    A draw depends on the seed and on the texts of query, positive and candidates alone: other queries and the order of a list do not
    move it (but for ties in rank).
    """
    settings = settings or Mining()
    qrels = train.qrels
    scores = score_lists(train)
    order = np.lexsort((-scores, qrels.query))
    lists, of_list, size = np.unique(qrels.query, return_inverse=True, return_counts=True)
    start = np.cumsum(size) - size
    rank = np.empty(len(qrels), dtype=np.int32)
    rank[order] = np.arange(len(qrels)) - start[of_list] + 1
    kind = np.select([rank <= _WINDOW, rank > size[of_list] - _WINDOW], [_HARD, _EASY], _OTHER).astype(np.int32)

    # One cell for each row with each non-relevant candidate of its query.
    positives = np.flatnonzero(qrels.relevance > 0)
    negatives = np.flatnonzero(qrels.relevance <= 0)
    count = np.bincount(of_list[negatives], minlength=len(lists))
    width = count[of_list[positives]]
    row = np.repeat(np.arange(len(positives)), width)
    first = (np.cumsum(count) - count)[of_list[positives]]
    cell = negatives[np.arange(len(row)) - np.repeat(np.cumsum(width) - width, width) + np.repeat(first, width)]

    query_key, document_key = _keys(train.queries.texts, qrels.query), _keys(train.corpus.texts, qrels.document)
    row_key = _mixed(_mixed(query_key[positives]) ^ document_key[positives] ^ _key(str(settings.seed if seed is None else seed)))
    draw = _mixed(row_key[row] ^ document_key[cell])
    drawn = np.lexsort((draw, kind[cell], row))  # each kind of each row in the order drawn
    row, cell = row[drawn], cell[drawn]
    surplus = (kind[cell] == _HARD) & (_place(row * 3 + kind[cell]) >= settings.hard)
    turn = np.argsort(row * 4 + np.select([surplus, kind[cell] == _OTHER], [2, 3], kind[cell]), kind="stable")
    row, cell = row[turn], cell[turn]
    place = _place(row)
    taken = place < settings.negatives
    row, cell, place = row[taken], cell[taken], place[taken]

    mined = _empty(train, qrels.query[positives], qrels.document[positives], int(place.max(initial=-1)) + 1)
    for column, values in ((mined.negative, qrels.document), (mined.kind, kind), (mined.rank, rank), (mined.score, scores)):
        column[row, place] = values[cell]
    mined.judged[row, place] = True
    return mined


def save_mined(mined: Mined, directory: Path) -> None:
    """Write the rows as `rows.parquet` into an existing directory: ids of query, positive and negatives, and the negatives' records."""
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


def read_mined(directory: Path, train: Dataset) -> Mined:
    """The rows that `save_mined` wrote, over the training split that they were mined from.

    Raises RunError where there is no such file, JudgmentError where it names a query or document that `train` does not hold.
    """
    path = directory / FILE
    try:
        table = pq.read_table(path)
        source = table.schema.metadata[b"source"].decode()
    except (FileNotFoundError, pa.ArrowInvalid, TypeError, KeyError) as error:
        raise RunError("there are no mined rows here", where=str(path), remedy="Run `homing mine` again.") from error
    width = np.diff(table["negative_ids"].combine_chunks().offsets.to_numpy())
    query = _positions(table["query_id"], train.queries.ids, "query", path)
    positive = _positions(table["positive_id"], train.corpus.ids, "document", path)
    mined = _empty(train, query, positive, int(width.max(initial=0)), source)
    row = np.repeat(np.arange(len(width)), width)
    place = _place(row)
    mined.negative[row, place] = _positions(_flat(table["negative_ids"]), train.corpus.ids, "document", path)
    mined.kind[row, place] = _positions(_flat(table["kinds"]), Mined.KINDS, "kind of negative", path)
    for column, name in ((mined.rank, "ranks"), (mined.score, "scores"), (mined.judged, "judged")):
        column[row, place] = _flat(table[name]).to_numpy(zero_copy_only=False)
    return mined


def _empty(train: Dataset, query: NDArray[np.int32], positive: NDArray[np.int32], width: int, source: str = "list:bm25") -> Mined:
    """Rows with room for so many negatives: -1 as negative and kind, 0 as rank and score."""
    shape = len(query), width
    none = np.full(shape, -1, dtype=np.int32)
    return Mined(train, query, positive, none, none.copy(), np.zeros(shape, np.int32), np.zeros(shape), np.zeros(shape, bool), source)


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


def _place(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each element among those of its group, from 0; `group` is sorted."""
    return np.arange(len(group)) - np.searchsorted(group, group)


def _keys(texts: Sequence[str], position: NDArray[np.int32]) -> NDArray[np.uint64]:
    """64 bits of the content of each position's text; each distinct text is hashed once."""
    distinct, place = np.unique(position, return_inverse=True)
    return np.array([_key(texts[number]) for number in distinct.tolist()], dtype=np.uint64)[place]


def _key(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"))


def _mixed(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each bit a function of all bits: the finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014), so that orders are as drawn."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
