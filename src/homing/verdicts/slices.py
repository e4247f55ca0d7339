"""Where a model gained and where it got worse: test queries by length, language, positives, words in common, or a column of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from homing.data import Floats, Ints, Queries
from homing.errors import SettingError
from homing.measures.evaluations import Evaluation, Interval
from homing.measures.resampling import interval, means, units
from homing.measures.significance import holm, randomisation_p, signs
from homing.texts.words import is_chinese, words

FEWEST = 5  # queries of a slice that is shown
MOST = 8  # values of a user's column; the others are one slice
NOTHING = "none"  # the label of queries for which a user's column holds nothing
MEASURE = "nDCG@10"
PROPERTIES = ("query length", "document length", "language", "relevant documents", "words in common")  # a user's column may be called so


@dataclass(frozen=True, eq=False)
class Slice:
    """Some of the test queries: what they have in common, and what a model gained on them over another.

    `by` names the property, `label` its value or range. `queries`, shape (queries,), are their positions; `difference` is that of
    `measure`, paired, of the last model against the first. `worse`, `better`: the mean fell or rose, with p < .05 Holm-adjusted over all
    slices.
    """

    by: str
    label: str
    queries: Ints
    measure: str
    before: float
    after: float
    difference: Interval
    worse: bool = False
    better: bool = False


def columns_of(queries: Queries, names: str) -> dict[str, tuple[str, ...]]:
    """The columns with these names, which commas part; a table's have lower-case names. Raises SettingError for one that the data lacks."""
    found = {}
    for said in filter(None, (part.strip() for part in names.split(","))):
        name = said if said in queries.columns else said.lower()
        if name not in queries.columns:
            known = ", ".join(queries.columns) or "there is none"
            raise SettingError("--slice-by names no column of the data", got=said, expected=f"a field of the queries' records: {known}")
        found[name] = queries.columns[name]
    return found


def slices(
    first: Evaluation, last: Evaluation, draws: NDArray[np.uint16], columns: Mapping[str, Sequence[str]] | None = None, seed: int = 42
) -> tuple[Slice, ...]:
    """The slices of the test queries with at least `FEWEST` queries each, `last` against `first`.

    `draws` as `resampling.draw` gives them. `columns`: values of the user's for each query by position, by the column's name.
    """
    queries = first.queries
    judged = first.test.qrels.queries
    unit = units(first.groups, len(judged))[np.searchsorted(judged, queries)]
    change = last.per_query[MEASURE] - first.per_query[MEASURE]
    swaps = signs(draws.shape[1], len(draws) - 1, seed)
    found, p_values = list[Slice](), dict[int, float]()
    for by, label, mine in _members(first, columns or {}):
        if FEWEST <= mine.sum() < len(queries):
            gain = means(change[mine][:, None], unit[mine], draws)[:, 0]
            before, after = (float(each.per_query[MEASURE][mine].mean()) for each in (first, last))
            p_values[len(found)] = randomisation_p(swaps, change[mine], unit[mine])
            found.append(Slice(by, label, queries[mine], MEASURE, before, after, interval(gain, len(np.unique(unit[mine])))))
    adjusted = holm(p_values)
    clear = [adjusted[place] < 0.05 for place in range(len(found))]
    return tuple(
        replace(each, worse=told and each.difference.value < 0, better=told and each.difference.value > 0)
        for each, told in zip(found, clear, strict=True)
    )


def _members(evaluation: Evaluation, columns: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Each slice's property and label, and which of the evaluation's queries are in it, shape (queries,)."""
    test, queries = evaluation.test, evaluation.queries.tolist()
    positives = [sorted(test.qrels.positives[query]) for query in queries]
    asked = [test.queries.texts[query] for query in queries]
    chinese = np.array([is_chinese(text) for text in asked])
    counts = np.array([len(each) for each in positives])
    lengths = {document: len(test.corpus.texts[document]) for document in set().union(*positives)}
    yield from _thirds("query length", np.array([len(text) for text in asked]), lambda value: f"{value:.0f}", " characters")
    documents = np.array([np.mean([lengths[document] for document in each]) for each in positives])
    yield from _thirds("document length", documents, lambda value: f"{value:,.0f}", " characters")
    for label, mine in (("Chinese", chinese), ("other", ~chinese)):
        yield "language", label, mine
    for label, mine in (("1", counts == 1), ("2 to 4", (counts > 1) & (counts < 5)), ("5 or more", counts > 4)):
        yield "relevant documents", label, mine
    yield from _thirds("words in common", _overlap(evaluation, asked, positives), lambda value: f"{value:.0%}")
    for column, values in columns.items():
        name = f"column {column}" if column in PROPERTIES else column
        mine_of = np.array([str(values[query]) or NOTHING for query in queries])
        labels, sizes = np.unique(mine_of, return_counts=True)
        often = labels[np.argsort(-sizes, kind="stable")][:MOST]
        for label in often.tolist():
            yield name, label, mine_of == label
        yield name, "others", ~np.isin(mine_of, often)


def _thirds(
    by: str, values: Floats | NDArray[np.int64], write: Callable[[float], str], unit: str = ""
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """The lowest, the middle and the highest third of the queries by a number; fewer where many have the same."""
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    yield by, f"up to {write(low)}{unit}", values <= low
    if low != high:
        yield by, f"{write(low)} to {write(high)}{unit}", (values > low) & (values <= high)
    yield by, f"above {write(high)}{unit}", values > high


def _overlap(evaluation: Evaluation, asked: Sequence[str], positives: Sequence[Sequence[int]]) -> Floats:
    """The share of each query's words that stand in one of its relevant documents, at best; shape (queries,)."""
    texts, held = evaluation.test.corpus.texts, dict[tuple[int, bool], set[str]]()
    shares = np.zeros(len(asked))
    for row, (text, documents) in enumerate(zip(asked, positives, strict=True)):
        rule = is_chinese(text)
        mine = {word for word in words(text, rule) if word.strip()}
        for document in documents:
            if (document, rule) not in held:
                held[document, rule] = set(words(texts[document], rule))
            shares[row] = max(shares[row], len(mine & held[document, rule]) / max(len(mine), 1))
    return shares
