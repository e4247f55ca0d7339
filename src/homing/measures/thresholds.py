"""Deciding by a threshold: is this document relevant? F1 against threshold, chosen on dev, applied on test."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homing.data import Floats, Ints

NAMED = (0.4, 0.5, 0.6, 0.7)
GRID: Floats = np.round(np.arange(-20, 101) / 100, 2)


def cosines(scores: Floats) -> bool:
    """Whether the scores can be those of embeddings of length 1."""
    return bool((np.abs(scores) <= 1.001).all())


def grid(scores: Floats) -> Floats:
    """Thresholds that a curve over these scores is drawn at: `GRID` for cosines, else as many from the lowest score to the highest;
    shape (thresholds,)."""
    if cosines(scores):
        return GRID
    room = max(0.01 * float(np.ptp(scores)), 0.01)
    return np.linspace(scores.min() - room, scores.max() + room, len(GRID))


def f1(hits: ArrayLike, called: ArrayLike, relevant: ArrayLike) -> Floats:
    """F1 from counts: relevant pairs called relevant, pairs called relevant, relevant pairs. 0 where nothing is called or relevant.

    Any shapes that broadcast; returns theirs.
    """
    total = np.asarray(called, dtype=np.float64) + np.asarray(relevant, dtype=np.float64)
    return np.divide(2.0 * np.asarray(hits, dtype=np.float64), total, out=np.zeros_like(total), where=total > 0)


def f1_of_all(relevant: NDArray[np.bool_]) -> float:
    """The F1 of calling every pair relevant: what a constant answer reaches at this share of relevant pairs."""
    return float(f1(relevant.sum(), len(relevant), relevant.sum()))


def _cuts(scores: Floats, relevant: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Every cut between two different scores, from the highest: its threshold, the pairs called relevant, and the hits among them.

    A threshold lies half-way between its neighbours, so that neither of them sits on it.
    """
    by_score = np.argsort(-scores, kind="stable")
    ranked = scores[by_score]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    below = np.append(ranked[ends[:-1] + 1], ranked[-1] - 2e-6)
    return (ranked[ends] + below) / 2, ends + 1.0, np.cumsum(relevant[by_score])[ends].astype(np.float64)


def best_threshold(scores: Floats, relevant: NDArray[np.bool_], missed: int = 0) -> tuple[float, float]:
    """The threshold (a pair is called relevant at this score or above) of the best F1, and that F1.

    Every cut between two different scores is tried; of equal F1 the highest threshold wins. Shapes: (pairs,) both. `missed`: relevant
    pairs that are not among these, because a retrieval did not find them: they count as not called.
    """
    thresholds, called, hits = _cuts(scores, relevant)
    values = f1(hits, called, float(relevant.sum()) + missed)
    best = int(np.argmax(values))
    return float(thresholds[best]), float(values[best])


def bagged_threshold(
    scores: Floats, relevant: NDArray[np.bool_], owner: Ints, draws: NDArray[np.integer], positives: Floats | None = None
) -> tuple[float, float]:
    """The mean, over draws of groups, of the threshold of the best F1, and the F1 that it has on the groups themselves.

    The best cut of one sample is a matter of few pairs, where F1 is flat or the sample small; its mean over resamples (bagging,
    Breiman 1996) is steadier. Shapes: `scores`, `relevant`, `owner` (the group) (pairs,); `draws` (resamples, groups): how often each
    group counts; `positives` (groups,): the relevant pairs of each group, where some are not among these. Draws without a relevant pair
    are left out; `best_threshold` where none is left.
    """
    counted = np.bincount(owner, relevant, draws.shape[1]) if positives is None else positives
    by_score = np.argsort(-scores, kind="stable")
    ranked, right, group = scores[by_score], relevant[by_score], owner[by_score]
    thresholds, called, _ = _cuts(scores, relevant)
    ends = called.astype(np.intp) - 1
    found = []
    for draw in draws:
        total = float(draw @ counted)
        if total > 0:
            times = draw[group].astype(np.float64)
            found.append(thresholds[np.argmax(f1(np.cumsum(times * right)[ends], np.cumsum(times)[ends], total))])
    if not found:
        return best_threshold(scores, relevant, int(counted.sum() - relevant.sum()))
    threshold = float(np.mean(found))
    above = ranked >= threshold
    return threshold, float(f1((above & right).sum(), above.sum(), counted.sum()))


def threshold_for(scores: Floats, relevant: NDArray[np.bool_], wanted: str, level: float) -> float | None:
    """The threshold that reaches `level` of `wanted` ("precision" or "recall") with the most of the other; None where none does."""
    precision, recall, thresholds = precision_recall_curve(scores, relevant)
    one, other = (precision, recall) if wanted == "precision" else (recall, precision)
    reached = one >= level - 1e-12
    return float(thresholds[np.argmax(np.where(reached, other, -1.0))]) if reached.any() else None


def precision_recall(scores: Floats, relevant: NDArray[np.bool_], threshold: float) -> tuple[float, float]:
    """Precision (NaN where nothing is called relevant) and recall at a threshold. Shapes: (pairs,) both."""
    called = scores >= threshold
    hits, calls, total = float((called & relevant).sum()), int(called.sum()), int(relevant.sum())
    return hits / calls if calls else float("nan"), hits / total if total else float("nan")


def precision_recall_curve(scores: Floats, relevant: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and threshold at every cut, from the highest threshold; shapes (cuts,)."""
    thresholds, called, hits = _cuts(scores, relevant)
    return hits / called, hits / max(float(relevant.sum()), 1.0), thresholds


def f1_curve(scores: Floats, relevant: NDArray[np.bool_], grid: Floats = GRID) -> Floats:
    """F1 at each threshold of `grid`; shape (grid,)."""
    ascending, positives = np.sort(scores), np.sort(scores[relevant])
    called = len(scores) - np.searchsorted(ascending, grid, side="left")
    hits = len(positives) - np.searchsorted(positives, grid, side="left")
    return f1(hits, called, float(len(positives)))
