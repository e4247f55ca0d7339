"""Ranking measures in ir_measures' language: `nDCG@10`, `R@100`, `RR@10`, `AP`, `P(rel=2)@5`, `Judged@10`; one value a query, on arrays.

A run becomes a ranking (`rank`), a ranking meets its judgments (`judge`), and a measure reads both (`Measure.of`). Values are those of
trec_eval: scores are compared as float32, of equal ones the higher document id comes first, gains are linear, and a query that the run
lacks counts 0. Tests compare with pytrec_eval and sklearn.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from homing.data import Floats, Ints, Qrels
from homing.errors import SettingError

_BLOCK = 1 << 20  # numbers at once, so that they stay near the processor


def order(scores: NDArray[np.floating], ties: Ints) -> NDArray[np.intp]:
    """Positions of each row's scores from best to worst; equal scores by descending `ties` (trec_eval: by document id, descending).

    Shapes: `scores` and `ties` (queries, candidates) or (candidates,); -inf marks padding and comes last.
    """
    return np.lexsort((-ties, -scores), axis=-1)


def rank(query: NDArray[Any], document: NDArray[Any], score: NDArray[np.floating], queries: Ints, ties: NDArray[Any]) -> Ints:
    """The ranking of a run that is given as columns, in any order; shape (queries, longest), -1 where a row ended.

    Shapes: `query`, `document`, `score` (results,), positions and scores; `queries` (queries,), ascending, the rows wanted: results of
    others are left out, a query without a result is a row of -1. `ties` (documents,): of equal scores the higher comes first.
    """
    place = np.minimum(np.searchsorted(queries, query), len(queries) - 1)
    wanted = queries[place] == query
    if not wanted.all():
        place, document, score = place[wanted], document[wanted], score[wanted]
    if len(place) and (np.diff(place) < 0).any():
        by_query = np.argsort(place, kind="stable")
        place, document, score = place[by_query], document[by_query], score[by_query]
    counts = np.bincount(place, minlength=len(queries))
    longest = int(counts.max(initial=0))
    column = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.full((len(queries), longest), -1, dtype=np.int32)
    keys = np.full((len(queries), longest), np.iinfo(np.uint64).max, dtype=np.uint64)
    found[place, column] = document
    keys[place, column] = _key(score, ties[document])
    best = np.argsort(keys, axis=1)
    ranked: Ints = np.take_along_axis(found, best, axis=1)
    return ranked


def _key(score: NDArray[np.floating], ties: NDArray[Any]) -> NDArray[np.uint64]:
    """A number that ascends from the best result to the worst: the float32 score's bits, made monotonous, above the ties."""
    bits = (score.astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0: -0 and 0 are one score
    descending = np.where(bits >> 31, bits, ~(bits | np.uint32(1 << 31)))
    return (descending.astype(np.uint64) << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - ties.astype(np.uint64))


@dataclass(frozen=True, eq=False)
class Ranking:
    """What stands at each rank, and what could have.

    Shapes: `relevance` (queries, ranks), 0 where what stands there is not judged or nothing does; `judged` and `there` (queries, ranks).
    `ideal` (queries, most judged): each query's relevances in descending order, padded with 0.
    """

    relevance: Ints
    judged: NDArray[np.bool_]
    there: NDArray[np.bool_]
    ideal: Ints

    @cached_property
    def judged_only(self) -> Ranking:
        """The ranking without what is not judged (a condensed list). Source: Sakai 2007, Alternatives to Bpref."""
        first = np.argsort(~self.judged, axis=1, kind="stable")
        judged = np.take_along_axis(self.judged, first, axis=1)
        return Ranking(np.take_along_axis(self.relevance, first, axis=1), judged, judged, self.ideal)


def judge(found: Ints, queries: Ints, qrels: Qrels, documents: int) -> Ranking:
    """The ranking `found` (queries, ranks), -1 where nothing stands, in the light of the judgments; rows are `queries`, ascending.

    `documents`: how many the corpus has.
    """
    mine = np.isin(qrels.query, queries)
    row, relevance = np.searchsorted(queries, qrels.query[mine]), qrels.relevance[mine]
    pairs = row.astype(np.int64) * documents + qrels.document[mine]
    by_pair = np.argsort(pairs, kind="stable")
    pairs, grades = np.append(pairs[by_pair], np.iinfo(np.int64).max), np.append(relevance[by_pair], 0)  # one past the end
    there = found >= 0
    wanted = (np.arange(len(found), dtype=np.int64)[:, None] * documents + found).ravel()
    place = np.searchsorted(pairs, wanted)
    judged = there & (pairs[place] == wanted).reshape(found.shape)
    standing = np.where(judged, grades[place].reshape(found.shape), 0)
    counts = np.bincount(row, minlength=len(queries))
    ideal = np.zeros((len(queries), int(counts.max(initial=0))), dtype=np.int32)
    ideal[row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)] = np.maximum(relevance, 0)
    return Ranking(standing.astype(np.int32), judged, there, -np.sort(-ideal, axis=1))


_NAME = re.compile(r"(?P<name>[A-Za-z]+)(?:\((?P<said>[^)]*)\))?(?:@(?P<cutoff>\d+))?$")


@dataclass(frozen=True)
class Measure:
    """A measure as ir_measures names it: NAME, parameters in brackets, a cutoff after @.

    Names: nDCG, R, P, RR, AP, Success, Rprec, Judged. `rel`: the smallest relevance that counts as relevant (not for nDCG, whose gains
    are graded, nor Judged). `judged_only`: unjudged documents are taken out of the ranking first.
    """

    name: str
    cutoff: int | None = None
    rel: int = 1
    judged_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Measure:
        """The measure of this name. Raises SettingError for what is none."""
        matched = _NAME.match(text.strip())
        name = matched["name"] if matched else ""
        name = {"MRR": "RR", "NDCG": "nDCG", "MAP": "AP", "Recall": "R", "Precision": "P"}.get(name, name)
        if matched is None or name not in MEASURES:
            raise _unknown(text, "one of " + ", ".join(MEASURES))
        brackets = (matched["said"] or "").replace(" ", "").split(",")
        said = {part.partition("=")[0]: part.partition("=")[2] for part in brackets if part}
        if unknown := set(said) - {"rel", "judged_only"}:
            raise _unknown(text, f"rel or judged_only in the brackets, not {sorted(unknown)[0]}")
        rel, judged_only = said.get("rel", "1"), said.get("judged_only", "False")
        if not rel.isdigit() or int(rel) < 1 or judged_only not in ("True", "False"):
            raise _unknown(text, "rel=1 or more, judged_only=True or False")
        cutoff = None if matched["cutoff"] is None else int(matched["cutoff"])
        if cutoff == 0 or (cutoff is None and name in ("P", "Judged", "Success", "R")):
            raise _unknown(text, f"a cutoff, as {name}@10")
        if "rel" in said and name in ("nDCG", "Judged"):
            raise _unknown(text, f"{name} without rel: it has no threshold of relevance")
        return cls(name, cutoff, int(rel), judged_only == "True")

    def __str__(self) -> str:
        said = ([f"rel={self.rel}"] if self.rel > 1 else []) + (["judged_only=True"] if self.judged_only else [])
        return self.name + (f"({','.join(said)})" if said else "") + (f"@{self.cutoff}" if self.cutoff is not None else "")

    def of(self, ranking: Ranking) -> Floats:
        """The measure of each query, shape (queries,)."""
        return MEASURES[self.name](ranking.judged_only if self.judged_only else ranking, self.cutoff, self.rel)


def _unknown(text: str, expected: str) -> SettingError:
    return SettingError("there is no such measure", got=text, expected=expected, remedy="Name it as ir_measures does: nDCG@10, P(rel=2)@5.")


def parse_measures(text: str) -> tuple[Measure, ...]:
    """Measures separated by commas or spaces (not those in brackets), each once."""
    parts = re.findall(r"[^\s,(]+(?:\([^)]*\)[^\s,]*)?", text)
    return tuple(dict.fromkeys(Measure.parse(part) for part in parts))


def discounted_gain(gains: NDArray[np.number], k: int | None) -> Floats:
    """DCG@k with linear gains and log2 discount, as trec_eval computes it; shape (queries,).

    Source: Järvelin and Kekäläinen 2002, in trec_eval's form (gain / log2(rank + 1)).
    """
    top = np.maximum(np.asarray(gains, dtype=np.float64)[:, :k], 0)
    gain: Floats = top @ (1.0 / np.log2(np.arange(2, top.shape[1] + 2)))
    return gain


def ndcg(gains: NDArray[np.number], ideal: NDArray[np.number], k: int | None) -> Floats:
    """nDCG@k, 0 where nothing is relevant; shape (queries,).

    `ideal` (queries, most relevant) holds each query's relevances in descending order. Source: Järvelin and Kekäläinen 2002.
    """
    best = discounted_gain(ideal, k)
    return share(discounted_gain(gains, k), best)


def reciprocal_rank(hits: NDArray[np.bool_]) -> Floats:
    """One over the rank of the first relevant document, 0 where there is none; shape (queries,), from whether each is, (queries, ranks)."""
    if hits.shape[1] == 0:
        return np.zeros(len(hits))
    return np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1.0), 0.0)


def share(part: Floats, whole: Floats, of_nothing: float = 0.0) -> Floats:
    """`part` of `whole`, and `of_nothing` where that is 0; shapes (any,)."""
    found: Floats = np.divide(part, whole, out=np.full(len(whole), of_nothing), where=whole > 0)
    return found


def _relevant(ranking: Ranking, k: int | None, rel: int) -> tuple[NDArray[np.bool_], Floats]:
    """Whether what stands at each of the first k ranks is relevant, and how many documents are."""
    return ranking.relevance[:, :k] >= rel, (ranking.ideal >= rel).sum(axis=1).astype(np.float64)


def _recall(ranking: Ranking, k: int | None, rel: int) -> Floats:
    hits, relevant = _relevant(ranking, k, rel)
    return share(hits.sum(axis=1).astype(np.float64), relevant)


def _precision(ranking: Ranking, k: int | None, rel: int) -> Floats:
    found: Floats = _relevant(ranking, k, rel)[0].sum(axis=1).astype(np.float64) / (k or 1)
    return found


def _success(ranking: Ranking, k: int | None, rel: int) -> Floats:
    return np.asarray(_relevant(ranking, k, rel)[0].any(axis=1), dtype=np.float64)


def _mean_precision(ranking: Ranking, k: int | None, rel: int) -> Floats:
    """AP: precision at each relevant document's rank, over all relevant documents; those not found count 0."""
    hits, relevant = _relevant(ranking, k, rel)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return share((precision * hits).sum(axis=1), relevant)


def _precision_at_relevant(ranking: Ranking, k: int | None, rel: int) -> Floats:
    """Rprec: precision at the rank of as many documents as are relevant."""
    hits, relevant = _relevant(ranking, k, rel)
    within = np.arange(hits.shape[1]) < relevant[:, None]
    return share((hits & within).sum(axis=1).astype(np.float64), relevant)


def _judged(ranking: Ranking, k: int | None, rel: int) -> Floats:
    """Judged@k: the share of the first k results that are judged; of those that there are, where fewer were found."""
    return share(ranking.judged[:, :k].sum(axis=1).astype(np.float64), ranking.there[:, :k].sum(axis=1).astype(np.float64))


MEASURES: dict[str, Callable[[Ranking, int | None, int], Floats]] = {
    "nDCG": lambda ranking, k, rel: ndcg(ranking.relevance, ranking.ideal, k),
    "R": _recall,
    "P": _precision,
    "RR": lambda ranking, k, rel: reciprocal_rank(_relevant(ranking, k, rel)[0]),
    "AP": _mean_precision,
    "Success": _success,
    "Rprec": _precision_at_relevant,
    "Judged": _judged,
}


def average_precision(scores: Floats, relevant: NDArray[np.bool_], draws: NDArray[Any] | None = None, unit: Ints | None = None) -> Floats:
    """Average precision of pooled pairs, once for each row of `draws`; pairs of equal score enter together, as in sklearn.

    Shapes: `scores`, `relevant` (pairs,); `draws` (resamples, units), how often each unit counts, and `unit` (pairs,), the unit of each
    pair; returns (resamples,), or (1,) without draws; NaN where no relevant pair counts.
    """
    by_score = np.argsort(-scores, kind="stable")
    ranked, hit = scores[by_score], relevant[by_score]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    steps = np.unique(ends[np.searchsorted(ends, np.flatnonzero(hit))])  # where precision counts: after each relevant pair and its ties
    if not len(steps):
        return np.full(1 if draws is None else len(draws), np.nan)
    counts = np.ones((1, 1)) if draws is None else draws
    owner = np.zeros(len(scores), dtype=np.int64) if unit is None else unit[by_score]
    step = np.searchsorted(steps, np.arange(steps[-1] + 1))
    shape = (len(steps), counts.shape[1])
    pairs = csr_array((np.ones(len(step)), (step, owner[: len(step)])), shape=shape)
    positives = csr_array((hit[: len(step)].astype(np.float64), (step, owner[: len(step)])), shape=shape)
    averages = np.empty(len(counts))
    block = max(4, _BLOCK // len(steps))
    for at in range(0, len(counts), block):
        each = np.ascontiguousarray(counts[at : at + block].T, dtype=np.float64)
        averages[at : at + block] = average_precision_of_counts(positives @ each, pairs @ each)
    return averages


def average_precision_of_counts(relevant: Floats, pairs: Floats) -> Floats:
    """Average precision from how many relevant pairs, and how many in all, come with each step down the ranking; shapes (steps, draws).

    Returns (draws,); NaN where no relevant pair counts. Pairs of one step enter together.
    """
    hits, seen = np.cumsum(relevant, axis=0), np.cumsum(pairs, axis=0)
    total = hits[-1]
    gain = (relevant * np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)).sum(axis=0)
    average: Floats = np.divide(gain, total, out=np.full(len(total), np.nan), where=total > 0)
    return average


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
