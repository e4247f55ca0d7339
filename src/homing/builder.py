"""Texts and judgments collected into one vocabulary, whatever format they come in: equal texts are one, repeated judgments are joined."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from homing.data import Corpus, Dataset, Qrels, Queries, Side, pair_keys, spaced, text_id
from homing.errors import JudgmentError


class _Merged(NamedTuple):
    """Judgments of which each pair occurs once; how many were repetitions, and how many pairs had been judged both ways."""

    qrels: Qrels
    repeated: int
    both_ways: int


class _Column:
    """A value for some of the queries. It takes four bytes a query, for a column of more than `MOST` values, or of long ones, is none."""

    MOST = 1000  # different values: more tell queries apart, and don't put them together
    LONGEST = 100  # characters: what is longer is a text

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self.codes = array("i")
        self.kept = True
        self.others = 0  # values of a query that had another one already

    def add(self, query: int, value: str) -> None:
        code = self.words.setdefault(value, len(self.words) + 1)
        self.codes.extend([0] * (query + 1 - len(self.codes)))
        if not self.codes[query]:
            self.codes[query] = code
        self.others += self.codes[query] != code
        if len(value) > self.LONGEST or len(self.words) > self.MOST:
            self.kept, self.words, self.codes = False, {}, array("i")

    def values(self, queries: int) -> tuple[str, ...]:
        words = ["", *self.words]
        return (*(words[code] for code in self.codes), *[""] * (queries - len(self.codes)))


class Builder:
    """Collects texts and judgments from any format into one vocabulary, merging equal texts and counting what it merged.

    A reader calls `document`, `query`, `describe` and `judge`; `dataset` and `qrels` hand out the result. Texts are stripped of
    surrounding white space; those that differ in white space or in Unicode's composition alone are equal, and the first stands. A judgment
    takes 12 bytes until then. A pair judged repeatedly has the highest of its grades: one judged both ways counts as relevant, and
    `dataset` counts it in `notes["judged_both_ways"]`, each repetition in `notes["repeated_judgments"]`.
    """

    def __init__(self) -> None:
        self.notes: Counter[str] = Counter()
        self._documents: dict[str, int] = {}
        self._queries: dict[str, int] = {}
        self._ids: dict[str, list[str]] = {"d": [], "q": []}
        self._texts: dict[str, list[str]] = {"d": [], "q": []}
        self._columns: dict[str, _Column] = {}
        self._judged: dict[Side | None, array[int]] = {}

    def document(self, text: str, name: str | None = None) -> int:
        """The position of this document; `name` is its id where the format has one."""
        return self._add(self._documents, "d", text, name)

    def query(self, text: str, name: str | None = None) -> int:
        """The position of this query; `name` is its id where the format has one."""
        return self._add(self._queries, "q", text, name)

    def _add(self, known: dict[str, int], prefix: str, text: str, name: str | None) -> int:
        text = text.strip()
        key = text if text in known else spaced(text)
        if key in known:
            self.notes["equal_queries" if prefix == "q" else "equal_documents"] += 1
            return known[key]
        known[key] = len(known)
        self._texts[prefix].append(text)
        self._ids[prefix].append(text_id(prefix, text) if name is None else name)
        return known[key]

    def describe(self, query: int, values: Mapping[str, str]) -> None:
        """Note what a record says of a query beside its text, by the column's name; what a query had first stays."""
        for name, value in values.items():
            column = self._columns.setdefault(name, _Column())
            if column.kept:
                column.add(query, value)

    def judge(self, query: int, document: int, relevance: int, side: Side | None = None) -> None:
        """Record one judgment; `side` is the split that the data itself names, None where it names none."""
        self._judged.setdefault(side, array("i")).extend((query, document, relevance))

    @property
    def sides(self) -> set[Side | None]:
        """The splits that judgments were recorded for."""
        return set(self._judged)

    def qrels(self, side: Side | None = None) -> Qrels:
        return self._merged(side).qrels

    def _merged(self, side: Side | None) -> _Merged:
        """The judgments of a side, each pair once, in the order of their first judgment."""
        query, document, relevance = np.array(self._judged.get(side, ()), dtype=np.int32).reshape(-1, 3).T
        pair = pair_keys(query, document)
        order = np.argsort(pair, kind="stable")
        starts = np.flatnonzero(np.append(True, pair[order][1:] != pair[order][:-1])[: len(pair)])
        highest, lowest = (
            reduce(relevance[order], starts) if len(pair) else relevance for reduce in (np.maximum.reduceat, np.minimum.reduceat)
        )
        kept = np.argsort(order[starts], kind="stable")
        first = order[starts][kept]
        return _Merged(
            Qrels(query[first], document[first], highest[kept]), len(pair) - len(first), int(((highest > 0) & (lowest <= 0)).sum())
        )

    def dataset(self, side: Side | None = None, where: str = "") -> Dataset:
        """The whole vocabulary with the judgments of one side (None: those recorded without a side).

        Raises JudgmentError where there is no text or no relevant judgment at all.
        """
        for kind, known in (("query", self._queries), ("document", self._documents)):
            if not known:
                raise JudgmentError(
                    f"there is no {kind} in the whole input", where=where, remedy="See 'Formats' in the README for what is read."
                )
        for prefix, kind in (("d", "document"), ("q", "query")):
            if len(set(self._ids[prefix])) < len(self._ids[prefix]):
                repeated = next(name for name, count in Counter(self._ids[prefix]).items() if count > 1)
                raise JudgmentError(
                    f"{kind} id {repeated!r} stands for two different texts",
                    where=where,
                    remedy="Give each text its own id, or leave the ids out.",
                )
        corpus = Corpus(tuple(self._ids["d"]), tuple(self._texts["d"]))
        columns = {name: column for name, column in sorted(self._columns.items()) if column.kept}
        queries = Queries(
            tuple(self._ids["q"]), tuple(self._texts["q"]), {name: each.values(len(self._queries)) for name, each in columns.items()},
            {name: frozenset(each.words) for name, each in columns.items()},
        )  # fmt: skip
        merged = [self._merged(each) for each in self._judged]
        counts = {"repeated_judgments": sum(each.repeated for each in merged), "judged_both_ways": sum(each.both_ways for each in merged)}
        counts["other_values"] = sum(each.others for each in columns.values())
        dataset = Dataset(corpus, queries, self.qrels(side), dict(self.notes + Counter(counts)))
        if not (dataset.qrels.relevance > 0).any():
            raise JudgmentError(
                "no document is judged relevant to any query" + (f" in the {side} split" if side else ""),
                where=where,
                expected="at least one relevant candidate",
                remedy="Check that the label's name and values are those of the README's 'Formats'.",
            )
        return dataset
