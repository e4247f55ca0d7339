"""Find the false negatives: of all negatives, judged or mined, the ones most likely relevant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homing.data import Dataset, Floats, Ints, Mined, Run, Side, keyed_pairs, pair_keys
from homing.errors import JudgmentError, SettingError
from homing.protocols import Encoder
from homing.retrievers.dense import inner_products
from homing.settings import Auditing
from homing.suspects import DIFFERENT, ENOUGH, Suspects, fused, log_odds, resemblance
from homing.training.scorer import Scorer

FOLDS = 5
FIRST = 10  # documents of a run: those that nDCG@10 reads
_NONE = np.zeros(0, dtype=np.int64)


def audit(
    data: Dataset,
    models: Sequence[Encoder | Scorer],
    settings: Auditing | None = None,
    *,
    mined: Mined | None = None,
    side: Side = "train",
    runs: Sequence[Run] = (),
) -> Suspects:
    """The negatives of one side that are most likely relevant, at most `settings.top`, best first.

    `data` is that side: its judged negatives are looked at, those of `mined` (training rows) that nobody judged, and likewise the first ten
    documents of each query in `runs`. What several models suspect comes first. A query without a positive is left out, for there is
    nothing to compare with, and so are pairs that judges have looked at since (`data.changes`). Without a model, near-duplicates of a
    positive are listed alone.

    Raises JudgmentError where no query has both a positive and a negative, SettingError where two models have one name.
    """
    settings = settings or Auditing()
    names = tuple(model.name for model in models)
    if len(set(names)) < len(names):
        raise SettingError("two models have the same name", got=", ".join(names), remedy="Give directories with different names.")
    found = [_NONE, *map(_first, runs)] if mined is None else [_mined(mined), *map(_first, runs)]
    pairs = _Pairs.of(data, np.unique(np.concatenate(found)), settings)
    asked = pairs.relevance == 0
    if data.changes is not None:
        asked &= ~np.isin(pair_keys(pairs.query, pairs.document), pair_keys(data.changes.query, data.changes.document))
    if not asked.any():
        raise JudgmentError(
            "there is no negative to look at", got=f"{len(pairs.query):,} pairs of queries with a positive",
            remedy="Mine negatives first (homing mine), or give data with judged negatives.",
        )  # fmt: skip
    near, positive = resemblance(data, pairs.query, pairs.document, pairs.relevance > 0)
    heard = [_hear(data, model, pairs) for model in models]
    voices = [_voice(each, pairs, near) for each in heard] or [np.where(near > DIFFERENT, near, np.nan).astype(np.float64)]
    shown = np.where(positive >= 0, positive, pairs.document[pairs.most_alike(heard)])
    standing = fused([voice[asked] for voice in voices])
    order = np.argsort(-standing, kind="stable")
    order = order[standing[order] > 0][: settings.top]
    best = np.flatnonzero(asked)[order]
    score = np.column_stack([each.score for each in heard]) if heard else np.zeros((len(asked), 0))
    rival = score[pairs.places(pairs.query[best], shown[best])]
    return Suspects(
        data, side, names, pairs.query[best], shown[best], pairs.document[best], pairs.judged[best], near[best], score[best], rival,
        int(asked.sum()),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The pairs of the queries that are looked at, by query: positives, judged negatives, and those that were found.

    Shapes: `query`, `document`, `relevance`, `judged` (pairs,); `cell`, `rival` (cells,): every pair beside every positive of its query,
    both as positions among the pairs; `start` (pairs,): a pair's first cell.
    """

    query: Ints
    document: Ints
    relevance: Ints
    judged: NDArray[np.bool_]
    cell: NDArray[np.int64]
    rival: NDArray[np.int64]
    start: NDArray[np.int64]

    @classmethod
    def of(cls, data: Dataset, found: NDArray[np.int64], settings: Auditing) -> _Pairs:
        """`found`: keys of pairs that count as negatives where nobody judged them, each once; shape (found,)."""
        qrels = data.qrels
        queries = np.array(sorted(qrels.positives), dtype=np.int32)
        if settings.queries is not None and settings.queries < len(queries):
            queries = np.sort(np.random.default_rng(settings.seed).choice(queries, settings.queries, replace=False))
        wanted = np.isin(qrels.query, queries) & (qrels.relevance >= 0)
        query, document, relevance = qrels.query[wanted], qrels.document[wanted], qrels.relevance[wanted]
        judged = np.ones(len(query), dtype=bool)
        asked, told = keyed_pairs(found[~np.isin(found, pair_keys(qrels.query, qrels.document))])
        wanted = np.isin(asked, queries)
        query, document = np.append(query, asked[wanted]), np.append(document, told[wanted])
        relevance = np.append(relevance, np.zeros(wanted.sum(), dtype=np.int32))
        judged = np.append(judged, np.zeros(wanted.sum(), dtype=bool))
        order = np.argsort(query, kind="stable")
        query, document, relevance, judged = query[order], document[order], relevance[order], judged[order]
        positives = np.flatnonzero(relevance > 0)
        first, last = (np.searchsorted(query[positives], query, side) for side in ("left", "right"))
        width = last - first
        start = np.cumsum(width) - width
        cell = np.repeat(np.arange(len(query)), width)
        rival = positives[np.arange(len(cell)) - np.repeat(start - first, width)]
        return cls(query.astype(np.int32), document.astype(np.int32), relevance.astype(np.int32), judged, cell, rival, start)

    def over_others(self, values: Floats) -> tuple[Floats, Floats]:
        """Mean and greatest of a value a cell over each pair's positives, itself left out; NaN where there is no other. Shapes (pairs,)."""
        itself = self.cell == self.rival
        count = np.add.reduceat((~itself).astype(np.float64), self.start)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.add.reduceat(np.where(itself, 0.0, values), self.start) / count
        greatest = np.maximum.reduceat(np.where(itself, -np.inf, values), self.start)
        return mean, np.where(count > 0, greatest, np.nan)

    def most_alike(self, heard: Sequence[_Heard]) -> NDArray[np.int64]:
        """For each pair the positive of its query that its document resembles most, over all models; shape (pairs,)."""
        likeness = np.zeros(len(self.cell))
        for each in heard:
            likeness += each.score[self.rival] if each.likeness is None else each.likeness
        highest = np.maximum.reduceat(likeness, self.start)
        best = np.flatnonzero(likeness == highest[self.cell])
        first = np.unique(self.cell[best], return_index=True)[1]
        found: NDArray[np.int64] = self.rival[best[first]]
        return found

    def places(self, query: Ints, document: Ints) -> NDArray[np.int64]:
        """Where these pairs are, shape (of `query`,)."""
        keys = pair_keys(self.query, self.document)
        order = np.argsort(keys, kind="stable")
        found: NDArray[np.int64] = order[np.searchsorted(keys[order], pair_keys(query, document))]
        return found


@dataclass(frozen=True, eq=False)
class _Heard:
    """What one model says. Shapes: `score` (pairs,); `likeness` (cells,), the similarity of two documents, None for a mere scorer."""

    score: Floats
    likeness: Floats | None


def _hear(data: Dataset, model: Encoder | Scorer, pairs: _Pairs) -> _Heard:
    queries, query = np.unique(pairs.query, return_inverse=True)
    documents, document = np.unique(pairs.document, return_inverse=True)
    asked, told = [data.queries.texts[each] for each in queries.tolist()], [data.corpus.texts[each] for each in documents.tolist()]
    if isinstance(model, Scorer):
        texts = [(asked[one], told[other]) for one, other in zip(query.tolist(), document.tolist(), strict=True)]
        return _Heard(np.asarray(model.score(texts), dtype=np.float64), None)
    found = model.encode(told, "document", progress=f"{model.name}: documents")
    wanted = model.encode(asked, "query", progress=f"{model.name}: queries")
    score = inner_products(wanted, query, found, document, np.float64)
    return _Heard(score, inner_products(found, document[pairs.cell], found, document[pairs.rival], np.float64))


def _voice(heard: _Heard, pairs: _Pairs, near: Ints) -> Floats:
    """How likely relevant one model makes each negative, on a scale of its own; shape (pairs,).

    Log-odds, where enough positives have another beside them to learn from; else how far the score is above the positives' mean, and
    how much the document resembles them, near-duplicates first.
    """
    relevant = pairs.relevance > 0
    mean, highest = pairs.over_others(heard.score[pairs.rival])
    features = [heard.score, heard.score - highest, near.astype(np.float64)]
    plain = near + (heard.score if heard.likeness is None else heard.score - mean)
    if heard.likeness is not None:
        alike, _ = pairs.over_others(heard.likeness)  # not the greatest: of more positives it is greater
        features.append(alike)
        plain = plain + alike
    evidence = np.column_stack(features)
    known = np.asarray(np.isfinite(evidence).all(axis=1))
    fold = (np.unique(pairs.query, return_inverse=True)[1] % FOLDS).astype(np.int32)
    for some in (known & relevant, known & ~relevant):
        if some.sum() < ENOUGH or len(np.unique(fold[some])) == 1:  # a fold that has them all would learn from none
            return plain
    return log_odds(np.where(known[:, None], evidence, 0.0), relevant, known, fold)


def _first(run: Run) -> NDArray[np.int64]:
    """Every query with each of the first documents found for it; shape (pairs,), keys as of `pair_keys`."""
    row, column = np.nonzero(run.document[:, :FIRST] >= 0)
    return pair_keys(run.query[row], run.document[row, column])


def _mined(mined: Mined) -> NDArray[np.int64]:
    """Every query with each of its mined negatives, in rows and pool, once; shape (pairs,), keys as of `pair_keys`."""
    row, column = np.nonzero(mined.negative >= 0)
    keys = [pair_keys(mined.query[row], mined.negative[row, column])]
    if mined.pool is not None:
        keys.append(pair_keys(mined.pool.query, mined.pool.document))
    return np.unique(np.concatenate(keys))
