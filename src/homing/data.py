"""The vocabulary of the data: texts, judgments, splits, mined rows, runs. Columnar; no disk, no torch.

A text is known by its position in its `Corpus` or `Queries`; judgments and rows are NumPy columns of such positions.
A document that appears in many lists is one document here: equal text is one text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from homing.arguments import demand
from homing.errors import JudgmentError, SettingError

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Side = Literal["train", "dev", "test"]
SIDES: tuple[Side, ...] = ("train", "dev", "test")
UNSURE = -1  # a relevance: neither a positive nor a negative


@dataclass(frozen=True, eq=False, repr=False)
class Texts:
    """Texts with their ids, in a fixed order: as many of the one as of the other, and no id twice; equal texts are for a reader to merge.

    Raises SettingError where that is not so, and for what is no list of texts.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("ids", "texts"):
            values = getattr(self, name)
            if isinstance(values, str) or not all(isinstance(each, str) for each in values):
                raise SettingError(f"{name} of a {type(self).__name__} are strings, in a tuple", got=repr(values)[:100])
            object.__setattr__(self, name, tuple(values))
        if len(self.ids) != len(self.texts) or len(set(self.ids)) < len(self.ids):
            raise SettingError(
                f"the ids of a {type(self).__name__} don't fit its texts",
                got=f"{len(self.ids):,} ids, {len(set(self.ids)):,} of them different, of {len(self.texts):,} texts",
                expected="an id of its own for each text",
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} texts)"

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each id."""
        return {name: position for position, name in enumerate(self.ids)}


class Corpus(Texts):
    """The documents that can be retrieved."""


@dataclass(frozen=True, eq=False, repr=False)
class Queries(Texts):
    """The queries. `columns`: what the data says of each beside its text, by name; a value a query, empty where there is none.

    `values`: all that the records said in a column, those among it that another record of the query had said otherwise before.

    Raises SettingError as `Texts` does, and for a column of fewer values or more.
    """

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        demand_values(self.columns, len(self))


@dataclass(frozen=True, eq=False, repr=False)
class Qrels:
    """Judgments as columns, grouped by query, in list order within a query.

    Shapes: `query`, `document`, `relevance` are all (judgments,). Relevance 0 is an explicit "not relevant", 1 and more "relevant", and
    UNSURE (-1) that whoever looked could not tell: such a document is neither a positive nor a negative of its query. Only judges
    (`homing.judgments`) and mining write it, into the training split; no format holds it.

    Raises SettingError for columns that are not as long as each other, or not of whole numbers.
    """

    query: Ints
    document: Ints
    relevance: Ints

    def __post_init__(self) -> None:
        names = ("query", "document", "relevance")
        columns = [np.asarray(getattr(self, name)) for name in names]
        whole = all(column.dtype.kind in "iub" or not column.size for column in columns)
        if not whole or columns[0].ndim != 1 or len({column.shape for column in columns}) > 1:
            got = ", ".join(f"{name} {column.dtype} {column.shape}" for name, column in zip(names, columns, strict=True))
            raise SettingError("the columns of Qrels don't fit each other", got=got, expected="whole numbers, one a judgment in each")
        order = np.argsort(columns[0], kind="stable")
        for name, values in zip(names, columns, strict=True):
            column = np.ascontiguousarray(values.astype(np.int32)[order])
            column.setflags(write=False)
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.query)

    def __repr__(self) -> str:
        return f"Qrels({len(self):,} judgments of {len(self.queries):,} queries, {(self.relevance > 0).sum():,} relevant)"

    @cached_property
    def queries(self) -> Ints:
        """The queries that have a judgment, ascending; shape (judged queries,)."""
        return np.unique(self.query).astype(np.int32)

    def lists(self) -> Iterator[tuple[int, Ints, Ints]]:
        """For each judged query: its position, its documents in list order, and their relevance; shapes (judgments of the query,)."""
        starts, ends = (np.searchsorted(self.query, self.queries, side) for side in ("left", "right"))
        for query, start, end in zip(self.queries.tolist(), starts.tolist(), ends.tolist(), strict=True):
            yield query, self.document[start:end], self.relevance[start:end]

    def of(self, queries: NDArray[Any]) -> Qrels:
        """The judgments of these queries alone."""
        keep = np.isin(self.query, queries)
        return Qrels(self.query[keep], self.document[keep], self.relevance[keep])

    @classmethod
    def joined(cls, parts: Iterable[Qrels]) -> Qrels:
        """The judgments of all of these, one part after the other within a query."""
        each = list(parts)
        return cls(*(np.concatenate([getattr(part, name) for part in each]) for name in ("query", "document", "relevance")))

    def changed(self, changes: Qrels) -> Qrels:
        """With the relevance of these pairs in place of their own; pairs that it doesn't have come last in their query's list."""
        own, other = (pair_keys(each.query, each.document) for each in (self, changes))
        order = np.argsort(other, kind="stable")
        place = np.minimum(np.searchsorted(other[order], own), max(0, len(other) - 1))
        known = other[order][place] == own if len(other) else np.zeros(len(own), dtype=bool)
        relevance = self.relevance.copy()
        relevance[known] = changes.relevance[order][place[known]]
        new = ~np.isin(other, own)
        return Qrels(
            np.append(self.query, changes.query[new]), np.append(self.document, changes.document[new]),
            np.append(relevance, changes.relevance[new]),
        )  # fmt: skip

    @cached_property
    def positives(self) -> dict[int, frozenset[int]]:
        """The relevant documents of each query that has one."""
        found: dict[int, set[int]] = {}
        for query, document in zip(self.query[self.relevance > 0].tolist(), self.document[self.relevance > 0].tolist(), strict=True):
            found.setdefault(query, set()).add(document)
        return {query: frozenset(documents) for query, documents in found.items()}


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A corpus, queries, and judgments. Splits of one dataset share `corpus` and `queries` and differ in `qrels`.

    `notes` counts what was seen and mended on the way in (equal texts merged, repeated judgments, empty lists ...). `changes`: what judges
    and mining said of it afterwards, which `qrels` has already taken over.

    Raises SettingError for parts of another kind, JudgmentError for a judgment of a position that is in neither of them.
    """

    corpus: Corpus
    queries: Queries
    qrels: Qrels
    notes: dict[str, int] = field(default_factory=dict)
    changes: Qrels | None = None

    def __post_init__(self) -> None:
        demand(Corpus, corpus=self.corpus)
        demand(Queries, queries=self.queries)
        demand(Qrels, qrels=self.qrels)
        for kind, column, texts in (("query", self.qrels.query, self.queries), ("document", self.qrels.document, self.corpus)):
            if len(column) and (column.min() < 0 or column.max() >= len(texts)):
                wrong = column[(column < 0) | (column >= len(texts))][0]
                raise JudgmentError(
                    f"there is no {kind} {wrong}", got=f"positions from {column.min()} to {column.max()}",
                    expected=f"0 to {len(texts) - 1:,}, for {len(texts):,} texts", remedy="Positions are places in ids and texts, from 0.",
                )  # fmt: skip

    def __repr__(self) -> str:
        return f"Dataset({self.corpus}, {self.queries}, {self.qrels})"

    def with_qrels(self, qrels: Qrels) -> Dataset:
        return replace(self, qrels=qrels)

    def changed(self, changes: Qrels) -> Dataset:
        """With these judgments in place of what it said of the same pairs, and beside what it said of others."""
        return replace(self, qrels=self.qrels.changed(changes), changes=self.changes.changed(changes) if self.changes else changes)


@dataclass(frozen=True, eq=False, repr=False)
class Splits:
    """Train, dev and test over one corpus; unpacks as `train, dev, test = splits`.

    `groups`: shape (queries,), the connected group of each query (queries that share a positive document or nearly the text).
    `by`: "group", "query" (positives may be shared, as was asked for) or "given" (the data came split).
    `removed`: queries that were taken out because keeping them would have leaked.
    """

    train: Dataset
    dev: Dataset
    test: Dataset
    by: Literal["group", "query", "given"]
    groups: Ints
    removed: tuple[int, ...] = ()

    @property
    def queries(self) -> Queries:
        """The queries of all sides."""
        return self.train.queries

    def __repr__(self) -> str:
        return f"Splits(by {self.by!r}, train={self.train.qrels}, dev={self.dev.qrels}, test={self.test.qrels})"

    def __iter__(self) -> Iterator[Dataset]:
        return iter((self.train, self.dev, self.test))


@dataclass(frozen=True, eq=False)
class Pool:
    """What the negatives of each query may be drawn from, and how many of which kind a row draws.

    Shapes: all columns are (candidates,), ordered by query; they mean what they mean in `Mined`. No judged positive is among them.
    """

    query: Ints
    document: Ints
    kind: Ints
    rank: Ints
    score: Floats
    judged: NDArray[np.bool_]
    source: Ints
    negatives: int
    hard: int
    medium: int
    seed: int


@dataclass(frozen=True, eq=False, repr=False)
class Mined:
    """Training rows: a query, one of its positives, and negatives with their record.

    Shapes: `query` and `positive` (rows,); `negative`, `kind`, `rank`, `score`, `judged`, `source` (rows, most negatives), where a row that
    ended short holds -1 in `negative`, `kind` and `source`. `kind` indexes `KINDS`; `judged` tells a judged negative from an unjudged
    document; `source` indexes `SOURCES`: the query's own judged candidates, what a retriever found in the corpus, or chance. `rank` counts
    from 1 in the ranking of that source (0: it has none), and `score` is the score there. `train` holds the texts and every judged
    positive of the training split. `pool`, where there is one, is what later epochs draw their negatives from; without it every epoch has
    the same.
    """

    KINDS = ("hard", "easy", "medium", "random")
    SOURCES = ("list", "bm25", "dense", "fused", "random")

    train: Dataset
    query: Ints
    positive: Ints
    negative: Ints
    kind: Ints
    rank: Ints
    score: Floats
    judged: NDArray[np.bool_]
    source: Ints
    pool: Pool | None = None

    def __len__(self) -> int:
        return len(self.query)

    def __repr__(self) -> str:
        return f"Mined({len(self):,} rows, {(self.negative >= 0).sum():,} negatives)"

    @classmethod
    def empty(cls, train: Dataset, query: Ints, positive: Ints, width: int, pool: Pool | None) -> Mined:
        """Rows with room for so many negatives, to be filled in: -1 as negative, kind and source, 0 as rank and score."""
        shape = len(query), width
        none = np.full(shape, -1, dtype=np.int32)
        zeros = np.zeros(shape, np.int32), np.zeros(shape), np.zeros(shape, bool)
        return cls(train, query, positive, none, none.copy(), *zeros, none.copy(), pool)

    def of(self, queries: NDArray[Any]) -> Mined:
        """The rows, the pool and the judgments of these queries alone: what mining would have given without the others' judgments."""

        def those(columns: Any) -> dict[str, Any]:
            keep = np.isin(columns.query, queries)
            named = {each.name: getattr(columns, each.name) for each in fields(columns)}
            return {name: value[keep] for name, value in named.items() if isinstance(value, np.ndarray) and len(value) == len(keep)}

        pool = None if self.pool is None else replace(self.pool, **those(self.pool))
        return replace(self, train=self.train.with_qrels(self.train.qrels.of(queries)), pool=pool, **those(self))


@dataclass(frozen=True, eq=False)
class Run:
    """A ranked result: for each query the best documents, best first.

    Shapes: `query` (queries,); `document` and `score` (queries, top k), with -1 in `document` where fewer were found.
    """

    query: Ints
    document: Ints
    score: NDArray[np.float32]


def demand_values(columns: Mapping[str, Sequence[str]], queries: int) -> None:
    """Raise SettingError for a column of the queries that has not one value a query."""
    for name, values in columns.items():
        if len(values) != queries:
            raise SettingError(
                f"the column {name!r} has not one value a query", got=f"{len(values):,} values",
                expected=f"{queries:,}, in the order of the queries, judged or not",
            )  # fmt: skip


def pair_keys(query: NDArray[np.integer], document: NDArray[np.integer]) -> NDArray[np.int64]:
    """One number a pair of positions, in the order of query, then document; shapes (pairs,)."""
    keys: NDArray[np.int64] = query.astype(np.int64) << 32 | document
    return keys


def keyed_pairs(keys: NDArray[np.int64]) -> tuple[Ints, Ints]:
    """The queries and the documents of `pair_keys`; shapes (pairs,)."""
    return (keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32)


def text_id(prefix: str, text: str) -> str:
    """An id made of the text itself, so that it is the same in next month's file: `prefix-` and 16 hexadecimal digits."""
    return f"{prefix}-{blake2b(text.encode(), digest_size=8).hexdigest()}"


NO_WIDTH = "\u200b\u2060\ufeff"  # what web pages and chats leave in texts that are copied from them
_WITHOUT = str.maketrans("", "", NO_WIDTH)


def spaced(text: str) -> str:
    """What equal texts have in common: composed characters (NFC), one blank for each run of white space, and nothing that has no width."""
    form = " ".join((text if text.isascii() else normalize("NFC", text).translate(_WITHOUT)).split())
    return text if form == text else form  # the same object, where it is the same text


def digest(parts: Sequence[str]) -> str:
    """A digest of texts in their order, unambiguous about where one ends and the next begins."""
    state = blake2b(digest_size=16)
    for part in parts:
        raw = part.encode()
        state.update(len(raw).to_bytes(8, "little"))
        state.update(raw)
    return state.hexdigest()
