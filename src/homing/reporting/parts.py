"""Where the last model gained and where it got worse, on parts of the test queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from homing.measures.evaluations import Evaluation
from homing.reporting import phrases
from homing.reporting.header import Whisker, reach, whisker
from homing.reporting.language import Phrase
from homing.reporting.movers import query_text
from homing.reporting.numbers import between, count, number, signed
from homing.reporting.passages import Passage
from homing.reporting.sentences import label_in_both
from homing.verdicts.slices import Slice

SHOWN = 5
"""Queries shown of a part that got worse."""


@dataclass(frozen=True)
class Part:
    """One part of the test queries, with the queries that lost most where it got worse."""

    label: Phrase
    queries: str
    before: str
    after: str
    change: str
    interval: str
    sign: str
    whisker: Whisker | None
    worse: bool
    lost: list[tuple[Passage, str]]


@dataclass(frozen=True)
class Property:
    """The parts by one property of a query."""

    title: Phrase
    parts: list[Part]


def properties(slices: Sequence[Slice], first: Evaluation, last: Evaluation, *, texts: bool) -> list[Property]:
    """The slices, by what they were cut by. Without `texts`, names and values that come from the data are numbered."""
    scale = reach([each.difference for each in slices])
    found: dict[str, list[Part]] = {}
    for each in slices:
        parts = found.setdefault(each.by, [])
        known = texts or each.by in phrases.SLICE_NAMES
        sign = "loss" if each.worse else "gain" if each.better else "open"
        label = label_in_both(each.label) if known else phrases.HIDDEN_VALUE.format(n=len(parts) + 1)
        parts.append(
            Part(
                label,
                count(len(each.queries)),
                number(each.before),
                number(each.after),
                signed(each.difference.value),
                between(each.difference, signed),
                sign,
                whisker(each.difference, scale),
                each.worse,
                _lost(each, first, last, texts) if each.worse else [],
            )
        )
    hidden = [by for by in found if by not in phrases.SLICE_NAMES]
    return [
        Property(
            phrases.SLICE_NAMES[by]
            if by in phrases.SLICE_NAMES
            else Phrase(by, by)
            if texts
            else phrases.HIDDEN_COLUMN.format(n=hidden.index(by) + 1),
            parts,
        )
        for by, parts in found.items()
    ]


def _lost(part: Slice, first: Evaluation, last: Evaluation, texts: bool) -> list[tuple[Passage, str]]:
    if part.measure not in first.per_query or part.measure not in last.per_query:
        return []
    rows = np.flatnonzero(np.isin(last.queries, part.queries))
    change = last.per_query[part.measure][rows] - first.per_query[part.measure][rows]
    worst = rows[np.argsort(change, kind="stable")][:SHOWN]
    both = first.per_query[part.measure], last.per_query[part.measure]
    return [
        (query_text(last.test, int(last.queries[row]), texts), signed(float(both[1][row] - both[0][row])))
        for row in worst
        if both[1][row] < both[0][row]
    ]
