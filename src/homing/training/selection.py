"""Looks at dev while training, and what is chosen by them: the best checkpoint, and the share of what was learned that is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homing.data import Dataset, Floats, Ints
from homing.encoders.model import Model
from homing.encoders.tuning import Tuning
from homing.errors import JudgmentError
from homing.measures.formulas import average_precision, ndcg, order
from homing.retrievers.bm25 import BM25
from homing.settings import Training
from homing.texts.itself import Itself

FEWEST_LISTS = 50  # below, rather fewer looks
FEWEST_TO_CHOOSE = 25  # below, the scale is not chosen on dev: all that was learned is kept
DEAREST = 3  # times what is affordable: more than that no looks take of a clock, but the first and the last
STAND_INS = 20  # documents in the place of judged negatives, where there are none
SCALES = (0.25, 0.5, 0.75)  # beside 0, the base, and 1, all that was learned


@dataclass(frozen=True)
class Looks:
    """How often dev is looked at while training, at how many lists, and whether the scale is chosen afterwards (`SCALES` more looks)."""

    evaluations: int
    lists: int
    choose: bool


def plan_looks(affordable: float, always: float, there: int, settings: Training) -> Looks:
    """So many looks that they cost `affordable` of the lists that are `there`, the one at the base included; `always` of a look are free.

    Fewer looks rather than fewer than 50 lists each; and where not even 25 are left for each, no scale is chosen. Under a clock neither
    happens for looks that are free where these take much more than what is affordable: on a slow machine they would leave no time to learn.
    """

    def lists(looks: int) -> int:
        return max(1, int(max(affordable / looks, always)))

    def worth(looks: int, fewest: int) -> bool:
        dear = settings.minutes is not None and looks * min(lists(looks), there) > DEAREST * affordable
        return lists(looks) >= fewest and not dear

    choose = settings.scale is None and worth(2 + len(SCALES), FEWEST_TO_CHOOSE)
    others = 1 + (len(SCALES) if choose else 0)
    evaluations = next((each for each in range(settings.evaluations, 1, -1) if worth(each + others, FEWEST_LISTS)), 1)
    return Looks(evaluations, lists(evaluations + others), choose)


def tokens_a_list(model: Model, dev: Dataset, seed: int, *, fixed: bool) -> float:
    """Tokens that a look encodes for each list of dev, stand-ins included; of documents that are `fixed`, none. Measured on a sample."""
    queries, corpus = dev.queries.texts, dev.corpus.texts
    asking = len(model.tokenize(queries[:100], "query").ids) / max(1, min(100, len(queries)))
    lists = [(candidates, relevance) for _, candidates, relevance in dev.qrels.lists() if (relevance > 0).any()]
    if fixed or not lists:
        return asking
    drawn = np.random.default_rng(seed).permutation(len(lists))[:50]
    sample = np.unique(np.concatenate([lists[index][0] for index in drawn.tolist()]))
    a_document = len(model.tokenize([corpus[document] for document in sample.tolist()], "document").ids) / len(sample)
    documents = len(sample) / len(drawn)
    if not any((relevance == 0).any() for _, relevance in lists):
        documents = max(documents, min(documents + STAND_INS, len(corpus) / len(lists)))  # looks at all lists encode the corpus at most
    return asking + a_document * documents


@dataclass(frozen=True)
class Look:
    """What one look found: `figures` by name, and nDCG@10 of each query, shape (queries,)."""

    figures: dict[str, float]
    per_query: Floats

    @property
    def rank(self) -> tuple[float, float]:
        """What checkpoints compete by: nDCG@10, then the smaller loss."""
        return self.figures["nDCG@10"], -self.figures["loss"]


class DevLists:
    """A sample of the judged lists of dev: each query ranked among all documents of the sample, and over its own list.

    `lists` as many, drawn by the seed, or all. Where no list has a judged negative, each gets the first documents that BM25 finds in the
    corpus in their place: among positives alone, or documents by chance, nearly any model is right. `documents`, where given, holds fixed
    embeddings of the whole corpus by position: then a look encodes the queries alone. Raises JudgmentError where no query has a relevant
    document.
    """

    def __init__(
        self, model: Model, dev: Dataset, lists: int, temperature: float, seed: int, documents: NDArray[np.float32] | None = None
    ) -> None:
        whole = dev.qrels.lists()
        judged = [(query, candidates, relevance) for query, candidates, relevance in whole if (relevance > 0).any()]
        if not judged:
            raise JudgmentError("dev has no query with a relevant document", remedy="Give more judgments, or a larger --dev-share.")
        drawn = np.random.default_rng(seed).permutation(len(judged))[:lists]
        judged = [judged[index] for index in drawn.tolist()]
        if not any((relevance == 0).any() for _, _, relevance in judged):
            judged = _filled(dev, judged, seed)
        self.model, self.temperature = model, temperature
        self.documents = np.unique(np.concatenate([candidates for _, candidates, _ in judged]))
        width = max(len(candidates) for _, candidates, _ in judged)
        self.candidates = np.full((len(judged), width), -1, dtype=np.int32)
        self.relevance = np.zeros((len(judged), width), dtype=np.int32)
        for row, (_, candidates, relevance) in enumerate(judged):
            self.candidates[row, : len(candidates)] = np.searchsorted(self.documents, candidates)
            self.relevance[row, : len(candidates)] = relevance
        asked = [dev.queries.texts[query] for query, _, _ in judged]
        itself = Itself.of(dev, np.array([query for query, _, _ in judged], dtype=np.int32), self.documents)
        self._itself = itself.row, itself.document
        self._queries = model.tokenize(asked, "query")
        self._fixed = None if documents is None else documents[self.documents]
        texts = [dev.corpus.texts[document] for document in self.documents.tolist()] if documents is None else []
        self._documents = model.tokenize(texts, "document")

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def tokens(self) -> int:
        """Tokens that a look encodes."""
        return len(self._queries.ids) + len(self._documents.ids)

    def look(self) -> Look:
        """nDCG@10 over the sample's documents; loss, AP and mean scores over the judged lists; of the model as it stands."""
        was_training = {name for name, module in self.model.transformer.named_modules() if module.training}
        self.model.transformer.eval()
        queries = self.model.encode_tokens(self._queries)
        documents = self.model.encode_tokens(self._documents) if self._fixed is None else self._fixed
        for name, module in self.model.transformer.named_modules():
            module.training = name in was_training
        scores = (queries @ documents.T).astype(np.float64)
        there = self.candidates >= 0
        listed = np.where(there, np.take_along_axis(scores, np.maximum(self.candidates, 0), axis=1), -np.inf)
        relevant, other = self.relevance > 0, there & (self.relevance == 0)
        per_query = self._ndcg(scores)
        return Look(
            {
                "loss": self._loss(listed, relevant, other),
                "nDCG@10": float(per_query.mean()),
                "AP": average_precision(listed[there], relevant[there]).item(),
                "positive_score": float(listed[relevant].mean()),
                **({"negative_score": float(listed[other].mean())} if other.any() else {}),
            },
            per_query,
        )

    def _ndcg(self, scores: Floats) -> Floats:
        """nDCG@10 of each query over all documents of the sample but the query itself; what isn't judged for it counts as not relevant."""
        scores = scores.copy()
        scores[self._itself] = -np.inf
        top = np.argpartition(-scores, min(20, scores.shape[1] - 1), axis=1)[:, :20].astype(np.int32)
        top = np.take_along_axis(top, order(np.take_along_axis(scores, top, axis=1), top), axis=1)
        gains = np.zeros(scores.shape, dtype=np.int32)
        row, column = np.nonzero(self.relevance > 0)
        gains[row, self.candidates[row, column]] = self.relevance[row, column]
        return ndcg(np.take_along_axis(gains, top, axis=1), -np.sort(-self.relevance, axis=1), 10)

    def _loss(self, listed: Floats, relevant: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
        """InfoNCE of each positive against its list's judged non-relevant documents, averaged over positives."""
        logits = np.where(relevant | other, listed, 0.0) / self.temperature
        against = np.logaddexp.reduce(np.where(other, logits, -np.inf), axis=1, keepdims=True)
        return float(np.logaddexp(0.0, against - logits)[relevant].mean())


def _filled(dev: Dataset, judged: list[tuple[int, Ints, Ints]], seed: int) -> list[tuple[int, Ints, Ints]]:
    """The lists (a query, its candidates and their relevance) with stand-ins that count as not relevant: BM25's first, then by chance."""
    retriever, filled = BM25(), []
    retriever.fit(dev.corpus.texts)
    most = max(len(candidates) for _, candidates, _ in judged)
    asked = [dev.queries.texts[query] for query, _, _ in judged]
    run = retriever.search(asked, STAND_INS + most)
    own = Itself.of(dev, np.array([query for query, _, _ in judged], dtype=np.int32))
    itself = set(zip(own.row.tolist(), own.document.tolist(), strict=True))
    for row, ((query, candidates, relevance), ranked) in enumerate(zip(judged, run.document, strict=True)):
        chance = np.random.default_rng([seed, query]).choice(len(dev.corpus), min(len(dev.corpus), 2 * STAND_INS + most), replace=False)
        others = list(dict.fromkeys(np.concatenate([ranked[ranked >= 0], chance.astype(np.int32)]).tolist()))
        others = [document for document in others if document not in candidates and (row, document) not in itself][:STAND_INS]
        none = np.zeros(len(others), dtype=np.int32)
        filled.append((query, np.append(candidates, np.array(others, dtype=np.int32)), np.append(relevance, none)))
    return filled


@dataclass(frozen=True)
class Scales:
    """What dev said of each share of what was learned (`looks`), and a set outside the domain (`general`, nDCG@10), by the share.

    `chosen` is the share that is kept; `lists` how many dev lists a look ranked.
    """

    looks: Mapping[float, Look]
    general: Mapping[float, float]
    chosen: float
    lists: int

    @classmethod
    def of(cls, tuning: Tuning, dev: DevLists, general: DevLists | None, base: Look, learned: Look) -> Scales:
        """Look at `SCALES`, with the tuning's scale set to each of them and then back to 1; what 0 and 1 gave on dev is known."""
        looks, away = {0.0: base, 1.0: learned}, dict[float, float]()
        for scale in SCALES if general is None else (0.0, *SCALES, 1.0):
            tuning.set_scale(scale)
            if scale in SCALES:
                looks[scale] = dev.look()
            if general is not None:
                away[scale] = general.look().figures["nDCG@10"]
        tuning.set_scale(1.0)
        return cls(looks, away, best_scale(looks), len(dev))

    def plain(self) -> dict[str, Any]:
        """What scales.json holds."""
        scales = [
            {
                "scale": scale,
                **{f"dev_{name}": look.figures[name] for name in ("nDCG@10", "AP")},
                "general_nDCG@10": self.general.get(scale),
            }
            for scale, look in sorted(self.looks.items())
        ]
        return {"chosen": self.chosen, "queries": self.lists, "scales": scales}

    def lines(self) -> Iterator[str]:
        """The same in words."""
        for scale, look in sorted(self.looks.items()):
            away = f", general nDCG@10 {self.general[scale]:.4f}" if scale in self.general else ""
            yield f"scale {scale:.2f}: dev nDCG@10 {look.figures['nDCG@10']:.4f}{away}{' <- chosen' if scale == self.chosen else ''}"
        if self.chosen == 0.0:
            yield "nothing that was learned is better on dev than the base by more than the standard error: keep the base"


def best_scale(looks: Mapping[float, Look]) -> float:
    """Of the scales that are better than the base, 0, the one with the highest sum of nDCG@10 and AP; 0 where none is better.

    Better is an nDCG@10 that is higher by more than one standard error of the paired difference over the queries. On the path from the
    base to what was learned (Wortsman et al. 2022, arXiv 2109.01903) nDCG@10 flattens early while AP goes on rising, and both count in
    the verdict. Of equals the smallest scale.
    """

    def better(look: Look) -> bool:
        gain = look.per_query - looks[0.0].per_query
        error = float(gain.std(ddof=1)) / len(gain) ** 0.5 if len(gain) > 1 else 0.0
        return float(gain.mean()) > error

    candidates = [scale for scale in sorted(looks) if scale and better(looks[scale])]
    return max(candidates, key=lambda scale: looks[scale].figures["nDCG@10"] + looks[scale].figures["AP"], default=0.0)
