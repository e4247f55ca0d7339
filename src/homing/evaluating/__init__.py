"""Compare models: every judged pair scored, every judged query searched in the whole corpus; each distinct text encoded once a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from homing.arguments import demand, demand_encoder
from homing.data import Dataset, Floats, Ints
from homing.errors import SettingError
from homing.evaluating.answers import Answers, by_words, encoded_by, fused_with
from homing.evaluating.deciding import decide
from homing.evaluating.exam import Exam
from homing.measures.evaluations import Evaluation, Interval, fusion
from homing.measures.formulas import Measure, Ranking, judge, rank, roc_auc
from homing.measures.resampling import draw, independent, interval, samples
from homing.measures.thresholds import GRID, f1, f1_curve, grid
from homing.protocols import Encoder
from homing.settings import Evaluating
from homing.ties import groups_of_given


def evaluate(
    models: Sequence[Encoder], dev: Dataset, test: Dataset, settings: Evaluating | None = None, *, groups: Ints | None = None
) -> list[Evaluation]:
    """Score every judged pair of dev and test, and search the whole corpus for every judged query, with each model.

    Thresholds, calibration and offset are chosen on dev and applied on test. After the models come, unless `settings.bm25` is off, BM25
    and each model fused with it by reciprocal ranks. A document that is a query itself, but for case and punctuation, is in no ranking of
    that query's unless it is judged for it: a corpus of questions holds each. `groups`, shape (queries,): what is resampled together
    (`Splits.groups`); None: what hangs together within dev, and within test, as `split` by group would tie it.

    Raises JudgmentError where test has no relevant document, SettingError where two models have one name (a model's name is its column)
    or one has that of a row that is added, where dev and test are not of one corpus and one set of queries, and where `groups` are fewer.
    """
    demand(list | tuple, models=models)
    demand_encoder(**{f"models[{place}]": each for place, each in enumerate(models)})
    demand(Dataset, dev=dev, test=test)
    demand(Evaluating | None, settings=settings)
    settings = settings or Evaluating()
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise SettingError("two models have the same name", got=", ".join(names), remedy="Give one of them another: Model(..., name=...).")
    if settings.bm25 and (taken := {"BM25", *map(fusion, names)} & set(names)):
        raise SettingError(
            "a model has the name of a row that evaluation adds",
            got=taken.pop(),
            remedy="Give it another: Model(..., name=...), or --no-bm25.",
        )
    if dev.corpus.texts != test.corpus.texts or dev.queries.texts != test.queries.texts:
        raise SettingError(
            "dev and test are not of one corpus and one set of queries", got=f"{len(dev.corpus):,} and {len(test.corpus):,} documents",
            remedy="Take both from one homing.split, or load them together: homing.loading.load_splits(train, dev, test).",
        )  # fmt: skip
    groups = groups_of_given((dev, test), "group") if groups is None else np.asarray(groups)
    if groups.shape != (len(test.queries),):
        raise SettingError(
            "groups are not one a query", got=f"groups of shape {groups.shape}",
            expected=f"{len(test.queries):,}, for all queries of all sides", remedy="Give those of the split: groups=splits.groups.",
        )  # fmt: skip
    exam = Exam(dev, test, settings, groups)
    kept: dict[str, NDArray[np.float32]] = {}  # two models may have their documents in common
    answers = [encoded_by(model, exam, kept) for model in models]
    if settings.bm25:
        words = by_words(exam)
        answers += [words, *(fused_with(each, words, exam) for each in answers)]
    return [_evaluation(each, exam) for each in answers]


def _evaluation(answers: Answers, exam: Exam) -> Evaluation:
    """The measures of what was answered, with intervals; what dev chose; and what that comes to on test."""
    found = exam.ranked(answers.run, exam.queries)
    over_corpus = judge(found.document, exam.queries, exam.test.qrels, len(exam.test.corpus))
    per_query = {str(measure): measure.of(over_corpus) for measure in exam.measures}
    scored = bool(np.isfinite(answers.test_scores).all() and np.isfinite(answers.dev_scores).all())
    decides = exam.decides and scored
    threshold, dev_f1 = exam.chosen(answers.dev_scores) if decides else (None, None)
    if scored and exam.orders:
        per_query |= _over_lists(answers.test_scores, threshold, exam)
    relevant = exam.test.qrels.relevance > 0
    curve = GRID, np.zeros_like(GRID)
    if decides:
        at = grid(answers.test_scores)
        curve = at, f1_curve(answers.test_scores, relevant, at)
    evaluation = Evaluation(
        answers.name, answers.digest, answers.prompts, exam.dev, exam.test, answers.dev_scores, answers.test_scores,
        exam.queries, per_query, {}, threshold, dev_f1, curve, answers.seconds,
        kind=answers.kind, groups=exam.groups, found=found, speed=answers.speed, cost=answers.cost or {},
    )  # fmt: skip
    draws = draw(evaluation, exam.settings.resamples, exam.settings.seed)
    if threshold is not None and dev_f1 is not None:
        evaluation = decide(evaluation, answers, threshold, dev_f1, exam, draws)
    evaluation.measures.update({name: interval(values, independent(evaluation)) for name, values in samples(evaluation, draws).items()})
    if scored and not relevant.all():
        evaluation.measures["ROC AUC"] = Interval(roc_auc(answers.test_scores, relevant))
    return evaluation


def _over_lists(scores: Floats, threshold: float | None, exam: Exam) -> dict[str, Floats]:
    """Measures over each query's own judged list: the whole ranking without what is not judged."""
    qrels, queries = exam.test.qrels, exam.queries
    ranking: Ranking = judge(rank(qrels.query, qrels.document, scores, queries, exam.ties), queries, qrels, len(exam.test.corpus))
    found = {"nDCG(judged_only=True)@10": "nDCG@10", "list nDCG": "nDCG", "list RR": "RR"}
    measures = {name: Measure.parse(measure).of(ranking) for name, measure in found.items()}
    if threshold is None:
        return measures
    mine = np.isin(qrels.query, queries)
    row, relevant, called = np.searchsorted(queries, qrels.query[mine]), qrels.relevance[mine] > 0, scores[mine] >= threshold
    counts = (np.bincount(row, part, len(queries)) for part in (relevant & called, called, relevant))
    return {**measures, "list F1": f1(*counts)}
