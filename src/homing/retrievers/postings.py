"""Postings: of each term the documents that hold it and what it adds to their scores. Built shard by shard, kept on disk, mapped back.

Scores are worked out when the index is made and only summed up in a search (eager scoring: Lù, BM25S: Orders of magnitude faster lexical
search via eager sparse scoring, 2024).
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from homing.data import Floats, Ints
from homing.progress import BAR
from homing.retrievers.shards import mapped, put
from homing.texts.terms import Rule

SHARD = 1 << 16  # documents counted together: what a killed build loses at most, and what bounds its memory
_ARRAYS = ("start", "document", "weight")


@dataclass(frozen=True, eq=False)
class Postings:
    """The postings of a corpus of `documents` documents.

    Shapes: `start` (terms + 1,); `document` and `weight` (postings,): those of term t are `start[t]` to `start[t + 1]`, documents
    ascending. `terms` gives the number of each term; those without a posting (in half of the documents or more) are in it as well.
    """

    documents: int
    terms: dict[str, int]
    start: NDArray[np.int64]
    document: Ints
    weight: NDArray[np.float32]

    def save(self, directory: Path) -> bool:
        """Write the postings as a directory, which appears whole or not at all; one that is there already stays. False for a full disk."""
        files = {name: getattr(self, name) for name in _ARRAYS}
        return put(directory, files, {"documents": self.documents, "terms": list(self.terms)})

    @classmethod
    def read(cls, directory: Path) -> Postings:
        """The postings that `save` wrote, mapped from disk."""
        said = json.loads((directory / "said.json").read_text(encoding="utf-8"))
        terms = {term: number for number, term in enumerate(said["terms"])}
        return cls(said["documents"], terms, **{name: mapped(directory, name) for name in _ARRAYS})


@dataclass(frozen=True, eq=False)
class _Shard:
    """Terms of some documents in a row, sorted by term: shapes `document`, `term`, `count` (cells,), and `length` (documents,).

    `terms` are those that no shard before it had.
    """

    document: Ints
    term: Ints
    count: Ints
    length: Ints
    terms: list[str]


def build(documents: Sequence[str], rule: Rule, k1: float, b: float, directory: Path | None = None) -> Postings:
    """The postings of a corpus. `directory` keeps finished shards meanwhile, so that a build that was killed goes on from them.

    A term's weight is the robertson form of Okapi BM25: idf = ln((n - df + .5) / (df + .5)), 0 where that is negative; times
    f (k1 + 1) / (f + k1 (1 - b + b length / mean length)). That is rank_bm25.BM25Okapi at epsilon = 0.
    """
    shards, counter = [], _Counter(rule)
    with tqdm(total=len(documents), desc="BM25: words of the documents", unit=" texts", **BAR) as bar:
        for number, first in enumerate(range(0, len(documents), SHARD)):
            place = None if directory is None else directory / f"shard-{number:05}"
            if place is not None and (place / "said.json").is_file():
                shard = _read_shard(place)
            else:
                shard = counter.count(documents[first : first + SHARD], first)
                arrays = {name: getattr(shard, name) for name in ("document", "term", "count", "length")}
                if place is not None and put(place, arrays, {"terms": shard.terms}):
                    shard = _read_shard(place)
            counter.learn(shard.terms)
            shards.append(shard)
            bar.update(len(shard.length))
    return _weighed(shards, counter.terms, len(documents), k1, b)


def _read_shard(place: Path) -> _Shard:
    said = json.loads((place / "said.json").read_text(encoding="utf-8"))
    arrays: dict[str, Any] = {name: mapped(place, name) for name in ("document", "term", "count", "length")}
    return _Shard(**arrays, terms=said["terms"])


class _Counter:
    """Counts the terms of documents; each distinct word is stemmed once."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.terms: dict[str, int] = {}
        self._words: defaultdict[str, int] = defaultdict()
        self._words.default_factory = self._words.__len__
        self._term_of_word: list[int] = []

    def learn(self, terms: list[str]) -> None:
        """Take terms in that another run of this build counted."""
        for term in terms:
            self.terms.setdefault(term, len(self.terms))

    def count(self, documents: Sequence[str], first: int) -> _Shard:
        """The shard of these documents, the first of which has the position `first`."""
        known, numbers, length = len(self.terms), array("i"), np.empty(len(documents), dtype=np.int32)
        for place, text in enumerate(documents):
            cut = self.rule.cut(text)
            numbers.extend(map(self._words.__getitem__, cut))
            length[place] = len(cut)
        fresh = list(self._words)[len(self._term_of_word) :]
        self._term_of_word += [self.terms.setdefault(term, len(self.terms)) for term in self.rule.stem(fresh)]
        term = np.asarray(self._term_of_word, dtype=np.int64)[np.asarray(numbers, dtype=np.int32)]
        cell = np.sort(term * len(documents) + np.repeat(np.arange(len(documents)), length))
        begins = np.flatnonzero(np.append(True, cell[1:] != cell[:-1])[: len(cell)])
        count = np.diff(np.append(begins, len(cell))).astype(np.int32)
        term, document = np.divmod(cell[begins], max(1, len(documents)))
        return _Shard((document + first).astype(np.int32), term.astype(np.int32), count, length, list(self.terms)[known:])


def _weighed(shards: list[_Shard], terms: dict[str, int], documents: int, k1: float, b: float) -> Postings:
    """One list of postings from all shards, with weights instead of counts."""
    frequency = np.zeros(len(terms), dtype=np.int64)  # of documents
    for shard in shards:
        frequency += np.bincount(shard.term, minlength=len(terms))
    length = np.concatenate([shard.length for shard in shards] or [np.empty(0, np.int32)])
    norm = k1 * (1 - b + b * length / max(1e-9, length.mean())) if len(length) else np.empty(0)
    idf: Floats = np.log(documents - frequency + 0.5) - np.log(frequency + 0.5)
    held = np.where(idf > 0, frequency, 0)
    start = np.append(0, np.cumsum(held))
    document, weight = np.empty(start[-1], dtype=np.int32), np.empty(start[-1], dtype=np.float32)
    head = start[:-1].copy()
    for shard in shards:
        keep = idf[shard.term] > 0
        term, count = shard.term[keep], shard.count[keep]
        cell = head[term] + np.arange(len(term)) - np.searchsorted(term, term)
        document[cell] = shard.document[keep]
        weight[cell] = idf[term] * count * (k1 + 1) / (count + norm[shard.document[keep]])
        head += np.where(idf > 0, np.bincount(shard.term, minlength=len(terms)), 0)
    return Postings(documents, terms, start, document, weight)
