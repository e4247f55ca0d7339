"""Deciding by a threshold: is this document relevant? F1 against threshold, chosen on dev, applied on test."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homing.data import Floats

NAMED = (0.4, 0.5, 0.6, 0.7)
GRID: Floats = np.round(np.arange(-20, 101) / 100, 2)


def f1(hits: ArrayLike, called: ArrayLike, relevant: ArrayLike) -> Floats:
    """F1 from counts: relevant pairs called relevant, pairs called relevant, relevant pairs. 0 where nothing is called or relevant."""
    total = np.asarray(called, dtype=np.float64) + np.asarray(relevant, dtype=np.float64)
    return np.divide(2.0 * np.asarray(hits, dtype=np.float64), total, out=np.zeros_like(total), where=total > 0)


def f1_of_all(relevant: NDArray[np.bool_]) -> float:
    """The F1 of calling every pair relevant: what a constant answer reaches at this share of relevant pairs."""
    return float(f1(relevant.sum(), len(relevant), relevant.sum()))


def best_threshold(scores: Floats, relevant: NDArray[np.bool_]) -> tuple[float, float]:
    """The threshold (a pair is called relevant at this score or above) of the best F1, and that F1.

    Every cut between two different scores is tried; the threshold lies half-way between them, so that neither neighbour sits on it.
    Of equal F1 the highest threshold wins. Shapes: (pairs,) both.
    """
    by_score = np.argsort(-scores, kind="stable")
    ranked = scores[by_score]
    hits = np.cumsum(relevant[by_score])
    values = f1(hits, np.arange(1, len(scores) + 1), float(relevant.sum()))
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    best = int(ends[np.argmax(values[ends])])
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best] - 1e-6
    return float((ranked[best] + below) / 2), float(values[best])


def f1_curve(scores: Floats, relevant: NDArray[np.bool_], grid: Floats = GRID) -> Floats:
    """F1 at each threshold of `grid`; shape (grid,)."""
    ascending, positives = np.sort(scores), np.sort(scores[relevant])
    called = len(scores) - np.searchsorted(ascending, grid, side="left")
    hits = len(positives) - np.searchsorted(positives, grid, side="left")
    return f1(hits, called, float(len(positives)))
