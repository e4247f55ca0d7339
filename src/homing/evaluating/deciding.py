"""Is this document relevant? Thresholds, calibration, trades and a background, chosen on dev, and what they come to on test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homing.data import Dataset, Floats
from homing.evaluating.answers import Answers
from homing.evaluating.exam import Exam
from homing.measures.calibration import fit_platt, reliability
from homing.measures.decision import ChosenOn, Decision, Offset, Threshold
from homing.measures.evaluations import Background, Evaluation, Returned, Trade
from homing.measures.formulas import judge
from homing.measures.resampling import Draws, decided, independent, interval, units
from homing.measures.significance import LEAST_GROUPS
from homing.measures.thresholds import bagged_threshold, best_threshold, precision_recall, threshold_for

NEIGHBOURS = (1, 3, 10, 30)  # a query's background, tried on dev
TRADES = (("precision", 0.9), ("precision", 0.8), ("recall", 0.9), ("recall", 0.8))
COUNTED = 1000  # test queries whose documents above a threshold are counted
_SCORES = 1 << 24  # at once


def decide(evaluation: Evaluation, answers: Answers, threshold: float, dev_f1: float, exam: Exam, draws: Draws) -> Evaluation:
    """The evaluation with all that is chosen on dev: thresholds, calibration, trades, offset."""
    dev, test = exam.dev.qrels.relevance > 0, evaluation.relevant
    fitted = fit_platt(answers.dev_scores, dev)
    calibration = fitted if fitted.slope > 0 else None  # a probability that falls with the score would contradict the ranking
    in_list = Threshold.of(threshold, dev_f1, _chosen_on(exam, len(exam.dev.qrels.queries), dev), normalised=answers.normalised)
    retrieval = _retrieval(answers, exam)
    background = _background(answers, threshold, dev_f1, exam, draws, independent(evaluation))
    trades = []
    for wanted, level in TRADES:
        at = threshold_for(answers.dev_scores, dev, wanted, level)
        if at is not None:
            trades.append(Trade(wanted, level, at, *precision_recall(answers.test_scores, test, at)))  # type: ignore[arg-type]
    returned = {}
    if answers.embedded is not None:
        cuts = {"list": threshold} | ({"retrieval": retrieval.inner_product} if retrieval is not None else {})
        returned = _returned(cuts, *answers.embedded, exam)
    offset = Offset(background.neighbours, background.threshold, background.dev_f1) if background is not None and background.helps else None
    return replace(
        evaluation,
        decision=Decision(in_list, retrieval, calibration, offset) if answers.kind == "model" else None,
        test_best=best_threshold(answers.test_scores, test),
        reliability=reliability(calibration.probability(answers.test_scores), test) if calibration is not None else None,
        trades=tuple(trades),
        returned=returned,
        background=background,
    )


def _chosen_on(exam: Exam, queries: int, relevant: NDArray[np.bool_]) -> ChosenOn:
    """Pairs of so many dev queries, by whether each is relevant."""
    return ChosenOn("dev", queries, len(relevant), float(relevant.mean()), exam.dataset)


def _retrieval(answers: Answers, exam: Exam) -> Threshold | None:
    """The threshold for the top k of a search, whatever is not judged counting as not relevant: chosen on dev's searches."""
    queries = np.array(sorted(exam.dev.qrels.positives), dtype=np.int32)
    k = exam.settings.top_k
    run = exam.ranked(answers.run, queries)
    ranking = judge(run.document[:, :k], queries, exam.dev.qrels, len(exam.dev.corpus))
    scores, relevant = run.score[:, :k][ranking.there].astype(np.float64), (ranking.relevance > 0)[ranking.there]
    if not relevant.any():
        return None
    owner = exam.dev_owner(queries)
    positives = np.bincount(owner, (ranking.ideal > 0).sum(axis=1), exam.redrawn.shape[1]).astype(np.float64)
    of_pair = np.repeat(owner, ranking.there.sum(axis=1))
    found, best = bagged_threshold(scores, relevant, of_pair, exam.bags(len(scores)), positives)
    return Threshold.of(found, best, _chosen_on(exam, len(queries), relevant), normalised=answers.normalised, top_k=k)


def _background(answers: Answers, own: float, without: float, exam: Exam, draws: Draws, groups: int) -> Background | None:
    """A query's mean score to its nearest documents taken off its scores, by as many neighbours as dev likes best; `own` is the threshold
    without that, and `without` its F1 on dev.

    It helps where F1 on dev is higher by more than the standard error of that difference, by groups, of which a handful tell nothing. The
    nearest documents are those of the whole corpus, judged or not, as a service would find them. Source: the local scaling of Conneau et
    al. 2018 (CSLS), one-sided.
    """
    dev, test = exam.dev.qrels.relevance > 0, exam.test.qrels.relevance > 0
    scores = np.where(answers.run.document >= 0, answers.run.score, 0).astype(np.float64)

    def less(data: Dataset, plain: Floats, neighbours: int) -> Floats:
        return np.asarray(plain - scores[:, :neighbours].mean(axis=1)[exam.rows(data)])

    if not scores.shape[1]:
        return None
    tried = {each: exam.chosen(less(exam.dev, answers.dev_scores, each)) for each in NEIGHBOURS}
    neighbours = max(tried, key=lambda each: tried[each][1])
    threshold, dev_f1 = tried[neighbours]
    owner = exam.dev_owner(exam.dev.qrels.query)
    gains = [
        decided(called, dev, owner, exam.redrawn)[0]
        for called in (less(exam.dev, answers.dev_scores, neighbours) >= threshold, answers.dev_scores >= own)
    ]
    judged = exam.test.qrels.queries
    owner = units(exam.groups, len(judged))[np.searchsorted(judged, exam.test.qrels.query)]
    on_test = decided(less(exam.test, answers.test_scores, neighbours) >= threshold, test, owner, draws)[0]
    helps = exam.redrawn.shape[1] >= LEAST_GROUPS and dev_f1 - without > float(np.std(gains[0] - gains[1]))
    return Background(neighbours, threshold, dev_f1, without, helps, interval(on_test, groups))


def _returned(
    thresholds: Mapping[str, float], embedded: NDArray[np.float32], documents: NDArray[np.float32], exam: Exam
) -> dict[str, Returned]:
    """How many documents of the corpus lie above each threshold, for at most `COUNTED` test queries, evenly chosen."""
    place = np.searchsorted(exam.asked, exam.queries)
    some = embedded[place[np.linspace(0, len(place) - 1, min(COUNTED, len(place))).astype(int)]]
    counts = np.zeros((len(thresholds), len(some)))
    block = max(1, _SCORES // len(some))
    for at in range(0, len(documents), block):
        scores = some @ documents[at : at + block].T
        counts += np.stack([(scores >= each).sum(axis=1) for each in thresholds.values()])

    def said(threshold: float, found: NDArray[Any]) -> Returned:
        median, p90 = np.quantile(found, [0.5, 0.9])
        return Returned(threshold, float(found.mean()), float(median), float(p90), float((found == 0).mean()))

    return {name: said(each, found) for (name, each), found in zip(thresholds.items(), counts, strict=True)}
