"""Draw the negatives of each training row from its query's candidates: judged ones first, so many of each kind, then what there is."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from homing.data import Dataset, Ints, Mined, Pool

HARD, EASY, MEDIUM, RANDOM = range(4)  # of Mined.KINDS


def draw(train: Dataset, pool: Pool, query: Ints, positive: Ints, epoch: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The draw of one epoch for these rows: shapes (drawn,) and (drawn,), the row and the position in the pool, in the order drawn.

    A draw depends on the seed, the epoch and the texts of query, positive and candidates alone: other queries and the order of a list do
    not move it. A row takes judged ones before unjudged ones, and of these `pool.hard` hard ones, `pool.medium` medium ones, then easy
    ones; where these run out the remaining hard ones, then medium ones, and documents taken by chance at the very last.
    """
    first, last = np.searchsorted(pool.query, query, "left"), np.searchsorted(pool.query, query, "right")
    width = last - first
    row = np.repeat(np.arange(len(query)), width)
    cell = np.arange(len(row)) - np.repeat(np.cumsum(width) - width, width) + np.repeat(first, width)

    told = str(pool.seed) if epoch == 0 else f"{pool.seed}/{epoch}"
    row_key = mixed(mixed(keys(train.queries.texts, query)) ^ keys(train.corpus.texts, positive) ^ _key(told))
    order = mixed(row_key[row] ^ keys(train.corpus.texts, pool.document)[cell])
    unjudged = (~pool.judged[cell]).astype(np.int64)
    drawn = np.lexsort((order, unjudged, pool.kind[cell], row))  # each kind of each row in the order drawn, judged ones first
    row, cell, unjudged = row[drawn], cell[drawn], unjudged[drawn]
    kind = pool.kind[cell]
    place = places(row * len(Mined.KINDS) + kind)
    turns = [(HARD, pool.hard, 0, 3), (MEDIUM, pool.medium, 1, 4), (EASY, pool.negatives, 2, 2), (RANDOM, 0, 5, 5)]
    turn = np.zeros(len(row), dtype=np.int64)
    for which, wanted, within, beyond in turns:
        turn = np.where(kind == which, np.where(place < wanted, within, beyond), turn)
    in_turn = np.argsort(row * 12 + unjudged * 6 + turn, kind="stable")
    row, cell = row[in_turn], cell[in_turn]
    taken = places(row) < pool.negatives
    return row[taken], cell[taken]


def redraw(mined: Mined, epoch: int) -> Ints:
    """The negatives of each row in this epoch, shape (rows, most negatives), -1 where a row ends short; epoch 0 has those of `mined`."""
    if mined.pool is None or epoch == 0:
        return mined.negative
    row, cell = draw(mined.train, mined.pool, mined.query, mined.positive, epoch)
    place = places(row)
    negative = np.full((len(mined), int(place.max(initial=-1)) + 1), -1, dtype=np.int32)
    negative[row, place] = mined.pool.document[cell]
    return negative


def places(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each element among those of its group, from 0; `group` is sorted; shapes (elements,)."""
    return np.arange(len(group)) - np.searchsorted(group, group)


def keys(texts: Sequence[str], position: Ints) -> NDArray[np.uint64]:
    """64 bits of the content of each position's text; each distinct text is hashed once; shapes (positions,)."""
    distinct, place = np.unique(position, return_inverse=True)
    return np.array([_key(texts[number]) for number in distinct.tolist()], dtype=np.uint64)[place]


def _key(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"))


def mixed(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each bit a function of all bits: the finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014), so that orders are as drawn.

    Any shape, which is kept.
    """
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
