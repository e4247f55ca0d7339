"""What is asked of every model, worked out once: queries, measures, groups, and what may not be ranked."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from homing.data import Dataset, Floats, Ints, Run, digest
from homing.errors import JudgmentError
from homing.measures.formulas import Measure, parse_measures
from homing.measures.resampling import units
from homing.measures.significance import resample
from homing.measures.thresholds import bagged_threshold
from homing.settings import Evaluating
from homing.texts.itself import Itself

OVER_CORPUS = ("nDCG@10", "R@10", "R@100", "RR@10", "Judged@10")
BAGS = 200  # resamples of dev that a threshold is the mean of, at most
_BAGGED = 50_000_000  # pairs in all of them, about


class Exam:
    """What is asked of every model, worked out once."""

    def __init__(self, dev: Dataset, test: Dataset, settings: Evaluating, groups: Ints) -> None:
        self.dev, self.test, self.settings = dev, test, settings
        self.queries = np.array(sorted(test.qrels.positives), dtype=np.int32)
        if not len(self.queries):
            raise JudgmentError("test has no query with a relevant document", remedy="Give more judgments, or a larger --test-share.")
        self.asked = np.unique(np.concatenate([dev.qrels.queries, test.qrels.queries])).astype(np.int32)
        self.groups = groups[test.qrels.queries]
        self.dev_unit = units(groups[dev.qrels.queries], len(dev.qrels.queries))
        self.redrawn = resample(int(self.dev_unit.max(initial=0)) + 1, settings.resamples, settings.seed)
        depth = settings.top_k
        said = parse_measures(settings.measures)
        self.measures = dict.fromkeys(
            replace(each, cutoff=depth) if _open(each) else each for each in (*map(Measure.parse, OVER_CORPUS), *said)
        )
        self.depth = max(depth, *(each.cutoff or 0 for each in self.measures))
        if any(each.name == "Rprec" for each in self.measures):  # reads as many ranks as documents are relevant
            self.depth = max(self.depth, *map(len, test.qrels.positives.values()))
        self.itself = Itself.of(test, self.asked, judged=(dev.qrels,))
        self.ties = _ties(test)
        relevant = [data.qrels.relevance > 0 for data in (dev, test)]
        self.decides = not any(each.all() or not each.any() for each in relevant)
        graded = np.column_stack((test.qrels.query, test.qrels.relevance))
        self.orders = len(np.unique(graded, axis=0)) > len(test.qrels.queries)  # else every list is ordered rightly by anything

    @cached_property
    def dataset(self) -> str:
        """A digest of what dev decides by: its pairs and their relevance."""
        qrels, dev = self.dev.qrels, self.dev
        pairs = zip(qrels.query.tolist(), qrels.document.tolist(), qrels.relevance.tolist(), strict=True)
        return digest([part for q, d, grade in pairs for part in (dev.queries.ids[q], dev.corpus.ids[d], str(grade))])

    def chosen(self, scores: Floats) -> tuple[float, float]:
        """The threshold that dev chooses for the scores of its judged pairs, and its F1 on dev."""
        qrels = self.dev.qrels
        return bagged_threshold(scores, qrels.relevance > 0, self.dev_owner(qrels.query), self.bags(len(scores)))

    def bags(self, pairs: int) -> NDArray[np.uint16]:
        """The resamples that a threshold is the mean of, shape (resamples, groups of dev): fewer where pairs are many, and each is near the
        others."""
        return self.redrawn[: max(20, min(BAGS, _BAGGED // max(pairs, 1)))]

    def dev_owner(self, queries: Ints) -> Ints:
        """The group of judged queries of dev; shape (queries,)."""
        return self.dev_unit[np.searchsorted(self.dev.qrels.queries, queries)]

    def texts(self) -> list[str]:
        """The judged queries of dev and test, those of `asked`."""
        return [self.test.queries.texts[query] for query in self.asked.tolist()]

    def rows(self, data: Dataset) -> NDArray[np.intp]:
        """The place in `asked` of the query of each judgment; shape (judgments,)."""
        return np.searchsorted(self.asked, data.qrels.query)

    def ranked(self, run: Run, queries: Ints) -> Run:
        """The rows of a run over `asked` that are these queries', equal scores by id and not by place in the file."""
        place = np.searchsorted(self.asked, queries)
        document, score = run.document[place], run.score[place]
        keys = np.where(document >= 0, self.ties[document], -1)
        best = np.lexsort((-keys, -np.where(document >= 0, score, -np.inf)), axis=-1)
        return Run(queries, np.take_along_axis(document, best, axis=1), np.take_along_axis(score, best, axis=1))


def _open(measure: Measure) -> bool:
    """Whether a measure would read the whole ranking, where there is only its top: then its name shall say so."""
    return measure.cutoff is None and measure.name != "Rprec"


def _ties(data: Dataset) -> Ints:
    """The rank of each document's id in ascending order: of equal scores the higher id comes first, as in trec_eval."""
    ties = np.empty(len(data.corpus), dtype=np.int32)
    ids = data.corpus.ids  # sorted as they are: an array of them gives each the room of the longest
    ties[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids), dtype=np.int32)
    return ties
