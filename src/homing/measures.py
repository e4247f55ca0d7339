"""Ranking measures, one value a query, on arrays. Names as in ir_measures: nDCG@10, R@100, RR@10.

A ranking is given as `gains`: the relevance of what stands at each rank, shape (queries, ranks), 0 where nothing or something not
relevant stands. What a query could have had at best comes beside it. Tests compare with pytrec_eval and sklearn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from homing.data import Floats, Ints


def order(scores: NDArray[np.floating], ties: Ints) -> NDArray[np.intp]:
    """Positions of each row's scores from best to worst; equal scores by descending `ties` (trec_eval: by document id, descending).

    Shapes: `scores` and `ties` (queries, candidates) or (candidates,); -inf marks padding and comes last.
    """
    return np.lexsort((-ties, -scores), axis=-1)


def discounted_gain(gains: NDArray[np.number], k: int) -> Floats:
    """DCG@k with linear gains and log2 discount, as trec_eval computes it; shape (queries,).

    Source: Järvelin and Kekäläinen 2002, in trec_eval's form (gain / log2(rank + 1)).
    """
    top = np.asarray(gains, dtype=np.float64)[:, :k]
    gain: Floats = top @ (1.0 / np.log2(np.arange(2, top.shape[1] + 2)))
    return gain


def ndcg(gains: NDArray[np.number], ideal: NDArray[np.number], k: int) -> Floats:
    """nDCG@k; `ideal` (queries, most relevant) holds each query's relevances in descending order. 0 where nothing is relevant."""
    best = discounted_gain(ideal, k)
    share: Floats = np.divide(discounted_gain(gains, k), best, out=np.zeros_like(best), where=best > 0)
    return share


def recall(gains: NDArray[np.number], relevant: NDArray[np.number], k: int) -> Floats:
    """R@k: the share of a query's `relevant` (queries,) documents among the first k. 0 where nothing is relevant."""
    found = (np.asarray(gains)[:, :k] > 0).sum(axis=1).astype(np.float64)
    total = np.asarray(relevant, dtype=np.float64)
    share: Floats = np.divide(found, total, out=np.zeros_like(total), where=total > 0)
    return share


def reciprocal_rank(gains: NDArray[np.number], k: int | None = None) -> Floats:
    """RR@k: one over the rank of the first relevant document, 0 where none is among the first k (all, for None)."""
    hits = np.asarray(gains)[:, :k] > 0
    if hits.shape[1] == 0:
        return np.zeros(len(hits))
    return np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1.0), 0.0)


def average_precision(scores: Floats, relevant: NDArray[np.bool_], weights: Floats | None = None) -> Floats:
    """Average precision of pooled pairs, once for each row of `weights`; pairs of equal score enter together, as in sklearn.

    Shapes: `scores`, `relevant` (pairs,); `weights` (resamples, pairs), how often each pair counts; returns (resamples,), NaN where
    no relevant pair counts.
    """
    by_score = np.argsort(-scores, kind="stable")
    ranked = scores[by_score]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    counts = np.ones((1, len(scores))) if weights is None else weights[:, by_score]
    hits = np.cumsum(counts * relevant[by_score], axis=1)[:, ends]
    seen = np.cumsum(counts, axis=1)[:, ends]
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    gained = np.diff(hits, axis=1, prepend=0.0)
    total = hits[:, -1]
    averages: Floats = np.divide((gained * precision).sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)
    return averages


def roc_auc(scores: Floats, relevant: NDArray[np.bool_]) -> float:
    """Area under the ROC curve by the rank-sum statistic; the chance that a relevant pair outscores another. NaN for one class alone.

    Source: Hanley and McNeil 1982. Shapes: (pairs,) both.
    """
    positives = int(relevant.sum())
    negatives = len(relevant) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[relevant].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def cohen_kappa(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """The agreement of two judges beyond chance, 1 at most; NaN where both say the same of everything. Shapes: (pairs,).

    Source: Cohen 1960, A coefficient of agreement for nominal scales.
    """
    agreed = float((one == other).mean())
    chance = float(one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean()))
    return (agreed - chance) / (1 - chance) if chance < 1 else float("nan")
