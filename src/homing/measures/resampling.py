"""Every measure of an evaluation under resampled groups of test queries: what stands behind intervals and differences."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from homing.data import Floats, Ints
from homing.measures.evaluations import Evaluation, Interval
from homing.measures.formulas import average_precision, judge, share
from homing.measures.significance import LEAST_GROUPS, percentile_interval, resample, totals
from homing.measures.thresholds import f1

Draws = NDArray[np.uint16]


def units(groups: Ints | None, queries: int) -> Ints:
    """The group of each of `queries` judged test queries, numbered from 0; each its own, where there are no groups.

    Shapes: `groups` and the answer (queries,).
    """
    return np.arange(queries, dtype=np.int32) if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int32)


def draw(evaluation: Evaluation, resamples: int, seed: int) -> Draws:
    """How often each group counts in each resample, the same for every model of one test set; shape (1 + resamples, groups).

    The first row is the test set itself, each group once. With fewer than `LEAST_GROUPS` there is no other: so few tell nothing.
    """
    return _drawn(int(units(evaluation.groups, len(evaluation.test.qrels.queries)).max()) + 1, resamples, seed)


@lru_cache(maxsize=2)
def _drawn(groups: int, resamples: int, seed: int) -> Draws:
    drawn = [resample(groups, resamples, seed)] if groups >= LEAST_GROUPS else []
    draws = np.concatenate([np.ones((1, groups), dtype=np.uint16), *drawn])
    draws.setflags(write=False)
    return draws


def decided(called: NDArray[np.bool_], relevant: NDArray[np.bool_], owner: Ints, draws: Draws, positives: Floats | None = None) -> Floats:
    """F1, precision and recall of a decision under each row of `draws`; shape (3, draws).

    Shapes: `called`, `relevant`, `owner` (the group) (pairs,). `positives`: relevant pairs of each group, shape (groups,), where some are
    not among these.
    """
    groups = draws.shape[1]
    counts = (np.bincount(owner, part, groups) for part in (called & relevant, called, relevant))
    of_group = np.stack(list(counts), axis=1)
    if positives is not None:
        of_group[:, 2] = positives
    hits, calls, total = totals(draws, of_group).T
    return np.stack([f1(hits, calls, total), share(hits, calls, np.nan), share(hits, total, np.nan)])


def samples(evaluation: Evaluation, draws: Draws) -> dict[str, Floats]:
    """Each measure of an evaluation under each row of `draws`; shape (1 + resamples,) each, the value itself first.

    A group is drawn whole, all its queries with all their pairs. The thresholds stay those that dev chose. Measures that dev or test
    cannot give (no judged non-relevant pair) are left out.
    """
    judged = evaluation.test.qrels.queries
    unit, groups = units(evaluation.groups, len(judged)), draws.shape[1]
    asked = unit[np.searchsorted(judged, evaluation.queries)]
    found = dict(zip(evaluation.per_query, means(np.stack(list(evaluation.per_query.values()), axis=1), asked, draws).T, strict=True))

    relevant, owner = evaluation.relevant, unit[np.searchsorted(judged, evaluation.test.qrels.query)]
    if not relevant.all() and evaluation.has_scores:
        scores = evaluation.test_scores
        found["AP"] = average_precision(scores, relevant, draws, owner)
        if evaluation.threshold is not None:
            found["F1"], found["precision"], found["recall"] = decided(scores >= evaluation.threshold, relevant, owner, draws)
    retrieval = evaluation.decision.retrieval if evaluation.decision is not None else None
    if retrieval is not None and evaluation.found is not None:
        run = evaluation.found
        ranking = judge(run.document[:, : retrieval.top_k], evaluation.queries, evaluation.test.qrels, len(evaluation.test.corpus))
        called = ranking.there & (run.score[:, : retrieval.top_k] >= retrieval.inner_product)
        pairs = called.ravel(), (ranking.relevance > 0).ravel(), np.repeat(asked, called.shape[1])
        figures = decided(*pairs, draws, np.bincount(asked, (ranking.ideal > 0).sum(axis=1), groups).astype(np.float64))
        found |= dict(zip(("retrieval F1", "retrieval precision", "retrieval recall"), figures, strict=True))
    return found


def means(values: Floats, unit: Ints, draws: Draws) -> Floats:
    """The mean of each column of values that queries have, under each row of `draws`; NaN where none of the queries is drawn, and under
    every resample where they are of fewer than `LEAST_GROUPS` groups.

    Shapes: `values` (queries, columns), `unit` (queries,), the group of each; returns (draws, columns).
    """
    groups = draws.shape[1]
    sums = np.stack([np.bincount(unit, column, groups) for column in (*values.T, np.ones(len(unit)))], axis=1)
    *found, counted = totals(draws, sums).T
    of_draws = np.stack([share(each, counted, np.nan) for each in found], axis=1)
    if len(np.unique(unit)) < LEAST_GROUPS:
        of_draws[1:] = np.nan
    return of_draws


def of_queries(evaluation: Evaluation, values: Floats, draws: Draws) -> Floats:
    """The mean of a value that each query of an evaluation has, shape (queries,), under each row of `draws`; shape (1 + resamples,)."""
    judged = evaluation.test.qrels.queries
    asked = units(evaluation.groups, len(judged))[np.searchsorted(judged, evaluation.queries)]
    return means(values[:, None], asked, draws)[:, 0]


def independent(evaluation: Evaluation) -> int:
    """How many parts of the queries that are ranked vary independently of each other."""
    if evaluation.groups is None:
        return len(evaluation.queries)
    return len(np.unique(evaluation.groups[np.searchsorted(evaluation.test.qrels.queries, evaluation.queries)]))


def interval(values: Floats, groups: int) -> Interval:
    """A value, the first of these, with the percentile interval of its resampled values, the others, drawn from so many groups."""
    return Interval(float(values[0]), *percentile_interval(values[1:], groups))
