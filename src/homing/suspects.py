"""Negatives that are likely relevant: what models say of each, who agrees, and the list that comes of it, most likely first.

How to find them was measured (docs/log.md): a score above the positive's alone finds few, for hard negatives score high. What tells most
is how much a document resembles its query's positives. So each model's evidence on a pair (its score, how far that is from the
positives', how near the document lies to them, whether it nearly is one of them) is weighed by a logistic regression that learns from
the judged pairs of *other* queries what a positive looks like, as in confident learning (Northcutt, Jiang and Chuang, arXiv 1911.00068).
Its log-odds rank the negatives of one model; reciprocal-rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009) joins models, so that
what several suspect comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homing.data import Dataset, Floats, Ints, Side
from homing.texts.near import alike
from homing.texts.shingles import normal_form

DIFFERENT, NEAR, EQUAL = range(3)  # to a positive of the query: no near-duplicate, a near-duplicate, the same but for case and punctuation
ENOUGH = 20  # positives that have another beside them, from which it is learned what a positive looks like
RIDGE = 0.1
_CONSTANT = 60.0  # of reciprocal-rank fusion


@dataclass(frozen=True, eq=False)
class Suspects:
    """Negatives of one side, the most likely relevant first.

    Shapes: `query`, `positive`, `negative` (suspects,), positions in `data`: the positive is the one of the query that the negative
    resembles most, and stands beside it where people look. `judged`: judged negatives, others were mined. `near`: DIFFERENT, NEAR or EQUAL.
    `score` and `rival` (suspects, models): each model's score of the negative and of that positive. `of`: negatives there are in all.
    """

    data: Dataset
    side: Side
    models: tuple[str, ...]
    query: Ints
    positive: Ints
    negative: Ints
    judged: NDArray[np.bool_]
    near: Ints
    score: Floats
    rival: Floats
    of: int

    def __len__(self) -> int:
        return len(self.query)

    @property
    def beats(self) -> NDArray[np.bool_]:
        """Where a model scores the negative above that positive, shape (suspects, models)."""
        return self.score > self.rival


def log_odds(evidence: Floats, relevant: NDArray[np.bool_], known: NDArray[np.bool_], fold: Ints) -> Floats:
    """The log-odds that each pair is relevant, learned from the `known` pairs of the other folds; shape (pairs,).

    Shapes: `evidence` (pairs, features), the others (pairs,). A logistic regression with a ridge of `RIDGE` on standardised features and
    none on the intercept.
    """
    found = np.zeros(len(evidence))
    for each in np.unique(fold).tolist():
        learned = known & (fold != each)
        centre, spread = evidence[learned].mean(axis=0), evidence[learned].std(axis=0)
        x = np.column_stack([(evidence - centre) / np.where(spread > 0, spread, 1.0), np.ones(len(evidence))])
        found[fold == each] = x[fold == each] @ _logistic(x[learned], relevant[learned])
    return found


def _logistic(x: Floats, relevant: NDArray[np.bool_]) -> Floats:
    """Weights of the ridge's minimum, by Newton's method with halved steps; the last column of `x` is the constant."""
    ridge = np.full(x.shape[1], RIDGE)
    ridge[-1] = 0.0
    sign = np.where(relevant, 1.0, -1.0)

    def loss(weights: Floats) -> float:
        return float(np.logaddexp(0, -sign * (x @ weights)).sum() + 0.5 * ridge @ weights**2)

    weights = np.zeros(x.shape[1])
    for _ in range(50):
        chance = 0.5 * (1 + np.tanh(0.5 * (x @ weights)))
        gradient = x.T @ (chance - relevant) + ridge * weights
        step = np.linalg.solve((x.T * (chance * (1 - chance) + 1e-12)) @ x + np.diag(ridge + 1e-9), gradient)
        share = 1.0
        while share > 1e-6 and loss(weights - share * step) > loss(weights):
            share /= 2
        weights = weights - share * step
        if np.abs(share * step).max() < 1e-8:
            break
    return weights


def fused(voices: Sequence[Floats]) -> Floats:
    """Reciprocal-rank fusion of several orderings of the same things; shape (things,), higher is earlier. NaN: the voice is silent."""
    total = np.zeros(len(voices[0]))
    for voice in voices:
        heard = np.flatnonzero(~np.isnan(voice))
        _, place, count = np.unique(-voice[heard], return_inverse=True, return_counts=True)
        before = np.cumsum(count) - count
        total[heard] += 1 / (_CONSTANT + 1 + before[place])  # equals share the best of their ranks
    return total


def resemblance(data: Dataset, query: Ints, document: Ints, relevant: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """How near each pair's document is, as a text, to a positive of its query, and which positive that is (-1: to none); shapes (pairs,).

    A positive is compared with the query's other positives.
    """
    near, nearest = np.full(len(query), DIFFERENT, dtype=np.int32), np.full(len(query), -1, dtype=np.int32)
    held = np.lexsort((document, query))
    held = held[relevant[held]]
    first = np.searchsorted(query[held], query)
    width = np.searchsorted(query[held], query, "right") - first
    pair = np.repeat(np.arange(len(query)), width)
    rival = document[held[np.arange(len(pair)) - np.repeat(np.cumsum(width) - width - first, width)]]
    apart = document[pair] != rival
    pair, rival = pair[apart], rival[apart]
    documents, place = np.unique(np.stack((document[pair], rival), axis=1), return_inverse=True)
    texts, place = [data.corpus.texts[each] for each in documents.tolist()], place.reshape(-1, 2)
    for each in np.flatnonzero(alike(texts, place)).tolist():
        one, other = (normal_form(texts[text]) for text in place[each].tolist())
        kind = EQUAL if one == other else NEAR
        if kind > near[pair[each]]:
            near[pair[each]], nearest[pair[each]] = kind, rival[each]
    return near, nearest
