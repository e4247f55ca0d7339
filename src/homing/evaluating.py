"""Compare models: every judged pair scored, every judged query searched in the whole corpus; each distinct text encoded once a model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homing.arguments import demand, demand_encoder
from homing.data import Dataset, Floats, Ints, Run, digest
from homing.errors import JudgmentError, SettingError
from homing.measures.calibration import fit_platt, reliability
from homing.measures.decision import ChosenOn, Decision, Offset, Threshold
from homing.measures.evaluations import Background, Evaluation, Interval, Returned, Row, Speed, Trade, fusion
from homing.measures.formulas import Measure, Ranking, judge, parse_measures, rank, roc_auc
from homing.measures.resampling import LEAST_GROUPS, Draws, decided, draw, interval, samples, units
from homing.measures.significance import resample
from homing.measures.thresholds import GRID, bagged_threshold, best_threshold, f1, f1_curve, grid, precision_recall, threshold_for
from homing.protocols import Encoder
from homing.retrievers.bm25 import BM25
from homing.retrievers.dense import search_embeddings
from homing.retrievers.fused import fuse
from homing.settings import Evaluating
from homing.texts.itself import Itself
from homing.ties import groups_of_given

OVER_CORPUS = ("nDCG@10", "R@10", "R@100", "RR@10", "Judged@10")
NEIGHBOURS = (1, 3, 10, 30)  # a query's background, tried on dev
TRADES = (("precision", 0.9), ("precision", 0.8), ("recall", 0.9), ("recall", 0.8))
COUNTED = 1000  # test queries whose documents above a threshold are counted
BAGS = 200  # resamples of dev that a threshold is the mean of, at most
_BAGGED = 50_000_000  # pairs in all of them, about
_SCORES = 1 << 24  # at once


def evaluate(
    models: Sequence[Encoder], dev: Dataset, test: Dataset, settings: Evaluating | None = None, *, groups: Ints | None = None
) -> list[Evaluation]:
    """Score every judged pair of dev and test, and search the whole corpus for every judged query, with each model.

    Thresholds, calibration and offset are chosen on dev and applied on test. After the models come, unless `settings.bm25` is off, BM25
    and each model fused with it by reciprocal ranks. A document that is a query itself, but for case and punctuation, is in no ranking of
    that query's unless it is judged for it: a corpus of questions holds each. `groups`, shape (queries,): what is resampled together
    (`Splits.groups`); None: what hangs together within dev, and within test, as `split` by group would tie it.

    Raises JudgmentError where test has no relevant document, SettingError where two models have one name (a model's name is its column)
    or one has that of a row that is added, and where dev and test are not of one corpus and one set of queries.
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
    exam = _Exam(dev, test, settings, groups_of_given((dev, test), "group") if groups is None else np.asarray(groups))
    kept: dict[str, NDArray[np.float32]] = {}  # two models may have their documents in common
    answers = [_encoded(model, exam, kept) for model in models]
    if settings.bm25:
        words = _bm25(exam)
        answers += [words, *(_fused(each, words, exam) for each in answers)]
    return [_evaluation(each, exam) for each in answers]


class _Exam:
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
        """The resamples that a threshold is the mean of: fewer where pairs are many, and each is near the others."""
        return self.redrawn[: max(20, min(BAGS, _BAGGED // max(pairs, 1)))]

    def dev_owner(self, queries: Ints) -> Ints:
        """The group of judged queries of dev."""
        return self.dev_unit[np.searchsorted(self.dev.qrels.queries, queries)]

    def texts(self) -> list[str]:
        """The judged queries of dev and test, those of `asked`."""
        return [self.test.queries.texts[query] for query in self.asked.tolist()]

    def rows(self, data: Dataset) -> NDArray[np.intp]:
        """The place in `asked` of the query of each judgment."""
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


@dataclass(frozen=True, eq=False)
class _Answers:
    """What a model, BM25 or a fusion answered. `run` has a row for each of the exam's `asked`."""

    name: str
    kind: Row
    digest: str
    prompts: dict[str, str]
    dev_scores: Floats
    test_scores: Floats
    run: Run
    seconds: float
    normalised: bool = False
    embedded: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    speed: Speed | None = None
    cost: Mapping[str, float] | None = None


def _encoded(model: Encoder, exam: _Exam, kept: dict[str, NDArray[np.float32]]) -> _Answers:
    start, encoded = time.perf_counter(), getattr(model, "encoded", None)
    side = model.digest_of("document")
    if side not in kept:
        kept[side] = model.encode(exam.test.corpus.texts, "document", progress=f"{model.name}: documents")
    documents, between = kept[side], time.perf_counter()
    embedded = model.encode(exam.texts(), "query", progress=f"{model.name}: queries")
    end = time.perf_counter()

    def scores(data: Dataset) -> Floats:
        rows = exam.rows(data)
        found = np.empty(len(rows))
        for at in range(0, len(rows), 1 << 16):
            some = slice(at, at + (1 << 16))
            found[some] = np.einsum("pd,pd->p", embedded[rows[some]], documents[data.qrels.document[some]], dtype=np.float64)
        return found

    texts = len(exam.test.corpus) + len(exam.asked)
    speed = Speed(
        len(exam.test.corpus), round(between - start, 3), len(exam.asked), round(end - between, 3), model.dimension,
        kept=encoded is not None and model.encoded - encoded < texts,  # type: ignore[attr-defined]
    )  # fmt: skip
    deep = exam.depth + exam.itself.spare
    run = exam.itself.without(search_embeddings(embedded, documents, deep, exam.ties, progress=f"{model.name}: search"), exam.depth)
    return _Answers(
        model.name, "model", model.digest, {str(kind): prompt for kind, prompt in model.prompts.items()},
        scores(exam.dev), scores(exam.test), run, end - start,
        model.similarity == "cosine", (embedded, documents), speed, getattr(model, "cost", None),
    )  # fmt: skip


def _bm25(exam: _Exam) -> _Answers:
    start = time.perf_counter()
    retriever = BM25()
    retriever.fit(exam.test.corpus.texts)
    texts = exam.texts()
    dev, test = (retriever.score(texts, exam.rows(data), data.qrels.document).astype(np.float64) for data in (exam.dev, exam.test))
    run = exam.itself.without(retriever.search(texts, exam.depth + exam.itself.spare), exam.depth)
    return _Answers("BM25", "bm25", retriever.digest, {"query": "", "document": ""}, dev, test, run, time.perf_counter() - start)


def _fused(model: _Answers, words: _Answers, exam: _Exam) -> _Answers:
    nothing = np.full(len(exam.dev.qrels), np.nan), np.full(len(exam.test.qrels), np.nan)
    return _Answers(
        fusion(model.name), "fused", digest([model.digest, words.digest]), model.prompts, *nothing,
        fuse([model.run, words.run], exam.depth), 0.0,
    )  # fmt: skip


def _evaluation(answers: _Answers, exam: _Exam) -> Evaluation:
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
        evaluation = _deciding(evaluation, answers, threshold, dev_f1, exam, draws)
    evaluation.measures.update({name: interval(values) for name, values in samples(evaluation, draws).items()})
    if scored and not relevant.all():
        evaluation.measures["ROC AUC"] = Interval(roc_auc(answers.test_scores, relevant))
    return evaluation


def _over_lists(scores: Floats, threshold: float | None, exam: _Exam) -> dict[str, Floats]:
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


def _deciding(evaluation: Evaluation, answers: _Answers, threshold: float, dev_f1: float, exam: _Exam, draws: Draws) -> Evaluation:
    """The evaluation with all that is chosen on dev: thresholds, calibration, trades, offset."""
    dev, test = exam.dev.qrels.relevance > 0, evaluation.relevant
    fitted = fit_platt(answers.dev_scores, dev)
    calibration = fitted if fitted.slope > 0 else None  # a probability that falls with the score would contradict the ranking
    in_list = Threshold.of(threshold, dev_f1, _chosen_on(exam, len(exam.dev.qrels.queries), dev), normalised=answers.normalised)
    retrieval = _retrieval(answers, exam)
    background = _background(answers, threshold, dev_f1, exam, draws)
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


def _chosen_on(exam: _Exam, queries: int, relevant: NDArray[np.bool_]) -> ChosenOn:
    """Pairs of so many dev queries, by whether each is relevant."""
    return ChosenOn("dev", queries, len(relevant), float(relevant.mean()), exam.dataset)


def _retrieval(answers: _Answers, exam: _Exam) -> Threshold | None:
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


def _background(answers: _Answers, own: float, without: float, exam: _Exam, draws: Draws) -> Background | None:
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
    return Background(neighbours, threshold, dev_f1, without, helps, interval(on_test))


def _returned(
    thresholds: Mapping[str, float], embedded: NDArray[np.float32], documents: NDArray[np.float32], exam: _Exam
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
