"""From a score to a probability: Platt's sigmoid, fitted on dev, and the bins that show how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homing.data import Floats

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """The chance that a pair of this score is relevant: 1 / (1 + exp(-(slope * score + intercept)))."""

    slope: float
    intercept: float

    def probability(self, scores: ArrayLike) -> Floats:
        """Shape in, shape out."""
        return sigmoid(self.slope * np.asarray(scores, dtype=np.float64) + self.intercept)


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-logits)), without overflow; any shape, which is kept."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


def fit_platt(scores: Floats, relevant: NDArray[np.bool_]) -> Calibration:
    """The sigmoid of the greatest likelihood, with Platt's targets in place of 0 and 1, by Newton's method with halved steps.

    The targets, (n+ + 1) / (n+ + 2) and 1 / (n- + 2), keep the slope finite where a threshold separates the classes. Source: Platt 1999;
    Lin, Lin and Weng 2007 (A note on Platt's probabilistic outputs). Shapes: (pairs,) both, at least one of each class.
    """
    positives = float(relevant.sum())
    target = np.where(relevant, (positives + 1) / (positives + 2), 1 / (len(relevant) - positives + 2))
    centre, spread = float(scores.mean()), float(scores.std()) or 1.0
    x = (scores - centre) / spread  # the same fit, but Newton's matrix is well conditioned

    def loss(at: Floats) -> float:
        logits = at[0] * x + at[1]
        return float((np.logaddexp(0.0, logits) - target * logits).sum())

    here = np.array([0.0, np.log((positives + 1) / (len(relevant) - positives + 1))])
    now = loss(here)
    for _ in range(100):
        chance = sigmoid(here[0] * x + here[1])
        off, weight = chance - target, chance * (1 - chance)
        gradient = np.array([off @ x, off.sum()])
        curvature = np.array([[weight @ (x * x), weight @ x], [weight @ x, weight.sum()]]) + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        share = 1.0
        while share > 1e-10 and (then := loss(here - share * step)) > now - 1e-4 * share * float(gradient @ step):
            share /= 2
        if share <= 1e-10 or np.abs(gradient).max() < 1e-9 * len(x):
            break
        here, now = here - share * step, then
    slope = float(here[0] / spread)
    return Calibration(slope, float(here[1] - slope * centre))


@dataclass(frozen=True, eq=False)
class Reliability:
    """What was promised and what came, bin by bin: equally many pairs each, ordered by probability.

    Shapes: `promised` (mean probability), `came` (share relevant) and `pairs`, all (bins,). `error` is the expected calibration error,
    `brier` the mean squared error of the probability, `brier_of_share` that of always promising the share of relevant pairs.
    """

    promised: Floats
    came: Floats
    pairs: Floats
    error: float
    brier: float
    brier_of_share: float


def reliability(probability: Floats, relevant: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """How far these probabilities can be trusted; shapes (pairs,) both.

    Source: Naeini et al. 2015 (expected calibration error), with bins of equal counts (Nguyen and O'Connor 2015).
    """
    by_chance = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(by_chance, min(bins, len(by_chance))) if len(part)]
    promised = np.array([probability[part].mean() for part in parts])
    came = np.array([relevant[part].mean() for part in parts])
    pairs = np.array([len(part) for part in parts], dtype=np.float64)
    share = float(relevant.mean())
    return Reliability(
        promised, came, pairs,
        error=float(np.abs(promised - came) @ pairs / pairs.sum()),
        brier=float(((probability - relevant) ** 2).mean()),
        brier_of_share=share * (1 - share),
    )  # fmt: skip
