"""Evaluation against sentence-transformers' own evaluator and sklearn; verdicts on made-up results; what is kept on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation import InformationRetrievalEvaluator
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

import homing
from homing import Evaluating, Evaluation, Model, Splits
from homing.builder import Builder
from homing.data import Corpus, Dataset, Qrels
from homing.errors import FormatError, JudgmentError, SettingError
from homing.formats.evaluation import read_evaluation, save_evaluation, summary
from homing.measures.calibration import Calibration
from homing.measures.evaluations import Interval
from homing.measures.resampling import draw, samples
from homing.measures.thresholds import NAMED
from homing.reporting import phrases, tables
from homing.reporting.header import header
from homing.reporting.numbers import NONE
from homing.retrievers.dense import search_embeddings
from homing.sample import Sample
from homing.terminal import verdict_table
from homing.verdicts.verdict import compare


@pytest.fixture(scope="module")
def evaluation(splits: Splits, tiny_model: Path) -> Evaluation:
    return homing.evaluate([Model(tiny_model, name="base")], splits.dev, splits.test, Evaluating(resamples=200))[0]


def test_retrieval_equals_sentence_transformers_evaluator(evaluation: Evaluation, splits: Splits, tiny_model: Path) -> None:
    test = splits.test
    evaluator = InformationRetrievalEvaluator(
        queries={test.queries.ids[q]: test.queries.texts[q] for q in evaluation.queries.tolist()},
        corpus=dict(zip(test.corpus.ids, test.corpus.texts, strict=True)),
        relevant_docs={test.queries.ids[q]: {test.corpus.ids[d] for d in found} for q, found in test.qrels.positives.items()},
        ndcg_at_k=[10],
        mrr_at_k=[10],
        precision_recall_at_k=[10, 100],
        map_at_k=[10],
        accuracy_at_k=[1],
        write_csv=False,
        query_prompt=Model(tiny_model).prompts["query"],
        main_score_function="cosine",
    )
    wanted = evaluator(SentenceTransformer(str(tiny_model), device="cpu"))
    for name, theirs in (("nDCG@10", "ndcg@10"), ("RR@10", "mrr@10"), ("R@10", "recall@10"), ("R@100", "recall@100")):
        assert evaluation.measures[name].value == pytest.approx(wanted[f"cosine_{theirs}"], abs=1e-6), name


def test_a_query_that_stands_in_the_corpus_is_no_answer_to_itself(tiny_model: Path) -> None:
    """As in pairs of questions that mean the same, where each is asked and found; what is judged for it is ranked as any other."""
    builder = Builder()
    for number in range(12):
        query, side = builder.query(f"How do I mend chain {number}?"), "dev" if number < 6 else "test"
        itself = builder.document(f"how do I mend chain {number}")
        builder.judge(query, builder.document(f"repair of links {number}"), 1, side)
        if number == 11:
            builder.judge(query, itself, 0, side)
    dev, test = builder.dataset("dev"), builder.dataset("test")
    found = homing.evaluate([Model(tiny_model)], dev, test, Evaluating(resamples=100, top_k=10))
    for each in found:
        assert each.found is not None
        assert each.found.document.shape[0] == 6
        itself = {
            query
            for query, ranked in zip(each.queries.tolist(), each.found.document.tolist(), strict=True)
            if f"how do I mend chain {query}" in {test.corpus.texts[document] for document in ranked if document >= 0}
        }
        assert itself == {11}
    assert (found[0].found.document >= 0).sum(axis=1).tolist() == [23] * 5 + [24]  # type: ignore[union-attr]  # all others
    alone = Sample.whole(test).ndcg(Model(tiny_model))  # as prompts are chosen on dev, and bare queries measured
    assert alone.tolist() == pytest.approx(found[0].per_query["nDCG@10"].tolist())


class Backgrounds:
    """Query n scores its positive n + .5 and its negative n: taking off what is nearest to a query lays all on one scale."""

    name = digest = "backgrounds"
    prompts: ClassVar = {"query": "", "document": ""}
    similarity, dimension = "dot", 25

    def digest_of(self, kind: str) -> str:
        return kind

    def encode(self, texts: list[str], kind: str, *, progress: str = "") -> np.ndarray:
        found = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            number = int(text.split()[-1])
            found[row, 0] = number if kind == "query" else 1
            found[row, 1 + number] = {"query": 1, "good": 0.5, "bad": 0.0}[text.split()[0]]
        return found


@pytest.mark.parametrize(("queries", "helps"), [(5, False), (12, True)])
def test_a_handful_of_dev_queries_recommends_no_offset(queries: int, helps: bool) -> None:
    builder = Builder()
    for number in range(24):
        side = "test" if number >= 12 else "dev"
        if number < queries or side == "test":
            query = builder.query(f"query {number}")
            builder.judge(query, builder.document(f"good {number}"), 1, side)
            builder.judge(query, builder.document(f"bad {number}"), 0, side)
    settings = Evaluating(resamples=100, bm25=False)
    found = homing.evaluate([Backgrounds()], builder.dataset("dev"), builder.dataset("test"), settings)[0]
    assert found.background is not None
    assert found.background.dev_f1 > 0.99
    assert found.background.helps == helps
    one_group = homing.evaluate(
        [Backgrounds()], builder.dataset("dev"), builder.dataset("test"), settings, groups=np.zeros(queries + 12, dtype=np.int32)
    )[0]  # all of its resamples are alike, and their standard error is 0
    assert one_group.background is not None
    assert not one_group.background.helps


def test_deciding_equals_sklearn(evaluation: Evaluation) -> None:
    relevant, scores = evaluation.test.qrels.relevance > 0, evaluation.test_scores
    assert evaluation.threshold is not None
    called = scores >= evaluation.threshold
    for name, wanted in (
        ("AP", average_precision_score(relevant, scores)),
        ("ROC AUC", roc_auc_score(relevant, scores)),
        ("F1", f1_score(relevant, called)),
        ("precision", precision_score(relevant, called)),
        ("recall", recall_score(relevant, called)),
    ):
        assert evaluation.measures[name].value == pytest.approx(wanted, abs=1e-9), name
    dev = evaluation.dev.qrels.relevance > 0
    assert evaluation.dev_f1 == pytest.approx(f1_score(dev, evaluation.dev_scores >= evaluation.threshold))


def test_f1_at_named_thresholds_is_the_same_wherever_it_is_told(evaluation: Evaluation, tmp_path: Path) -> None:
    """Of a model, also where dev has no threshold to choose; of BM25, whose scores are no cosines, nowhere."""
    model = replace(evaluation, threshold=None, dev_f1=None)
    both = [model, replace(model, name="BM25", kind="bm25")]
    verdict = compare(both, resamples=100)
    wanted = [f1_score(model.relevant, model.test_scores >= at) for at in NAMED]
    kept = summary(both, verdict)["models"]
    assert list(kept[0]["f1_at"].values()) == pytest.approx(wanted)
    assert kept[1]["f1_at"] == {}
    printed = [line.split() for line in verdict_table(both, verdict).splitlines() if line.startswith("F1 at 0.")]
    assert [row[-2:] for row in printed] == [[f"{value:.4f}", "-"] for value in wanted]
    rows = {getattr(row.label, "en", row.label): row.cells for group in tables.deciding(both) for row in group.rows}
    shown = [[cell.value for cell in rows[phrases.F1_AT.format(threshold=at).en]] for at in NAMED]
    assert shown == [[f"{value:.3f}", NONE] for value in wanted]


def test_bootstrap_samples_are_the_measures_of_drawn_groups(evaluation: Evaluation) -> None:
    """A resample is the set with each drawn group's lists as often as it was drawn: measured again, plainly."""
    judged = evaluation.test.qrels.queries
    group = np.maximum(np.arange(len(judged)) - 1, 0).astype(np.int32)  # the first two hang together
    grouped = replace(evaluation, groups=group)
    draws = draw(grouped, 5, seed=1)
    assert draws.shape == (6, len(judged) - 1)
    assert draw(replace(evaluation, groups=np.minimum(group, 4)), 5, seed=1).shape == (1, 5)  # of five nothing is drawn
    assert (draws[0] == 1).all()
    found = samples(grouped, draws)
    assert grouped.decision is not None
    assert grouped.decision.retrieval is not None
    assert grouped.found is not None
    cut, positives = grouped.decision.retrieval.inner_product, grouped.test.qrels.positives
    for at, counts in enumerate(draws.astype(int)):
        times = [count for query, count in zip(judged, counts[group], strict=True)]
        rows = np.concatenate(
            [np.flatnonzero(grouped.test.qrels.query == q) for q, count in zip(judged, times, strict=True) for _ in range(count)]
        )
        relevant, scores = grouped.relevant[rows], grouped.test_scores[rows]
        assert found["AP"][at] == pytest.approx(average_precision_score(relevant, scores))
        assert found["F1"][at] == pytest.approx(f1_score(relevant, scores >= grouped.threshold))
        values = dict(zip(grouped.queries.tolist(), grouped.per_query["nDCG@10"], strict=True))
        drawn = [q for q, count in zip(judged.tolist(), times, strict=True) for _ in range(count) if q in values]
        assert found["nDCG@10"][at] == pytest.approx(np.mean([values[q] for q in drawn]))
        back = [
            {d for d, s in zip(grouped.found.document[row].tolist(), grouped.found.score[row], strict=True) if s >= cut}
            for row in np.searchsorted(grouped.queries, drawn).tolist()
        ]
        hits = sum(len(got & positives[q]) for got, q in zip(back, drawn, strict=True))
        assert found["retrieval precision"][at] == pytest.approx(hits / sum(map(len, back)))
        assert found["retrieval recall"][at] == pytest.approx(hits / sum(len(positives[q]) for q in drawn))


def _moved(evaluation: Evaluation, name: str, ndcg: float, scores: float) -> Evaluation:
    """The evaluation with every nDCG@10 and every relevant pair's score moved."""
    relevant = evaluation.test.qrels.relevance > 0
    per_query = {**evaluation.per_query, "nDCG@10": evaluation.per_query["nDCG@10"] + ndcg}
    moved = replace(evaluation, name=name, per_query=per_query, test_scores=evaluation.test_scores + scores * relevant)
    return replace(moved, measures={**evaluation.measures, "nDCG@10": Interval(float(per_query["nDCG@10"].mean()))})


@pytest.mark.parametrize(
    ("ndcg", "scores", "outcome"),
    [
        (0.1, 3.0, "gained"),
        (-0.1, -3.0, "lost"),
        (0.1, -3.0, "mixed"),
        (0.0, 0.0, "undecided"),
        (-0.1, 0.0, "lost"),
        (0.1, 0.0, "undecided"),
    ],
)
def test_verdicts(evaluation: Evaluation, ndcg: float, scores: float, outcome: str) -> None:
    pair = evaluation, _moved(evaluation, "tuned", ndcg, scores)
    verdict = compare(pair, resamples=200)
    assert verdict.outcome == outcome
    assert verdict.differences[0].measures["nDCG@10"].value == pytest.approx(ndcg)
    assert f"{ndcg:+.4f}" in verdict.sentence
    assert ("is better than base:" in verdict.sentence and "do not show" not in verdict.sentence) == (outcome == "gained")
    half = (ndcg, scores) == (0.1, 0.0)  # each query's own order is better, and pooled scores are what they were
    assert ("better than base in nDCG@10, and do not show it in AP" in verdict.sentence) == half
    assert any("deploy tuned" in cause.experiment for cause in verdict.causes) == half
    assert not any("too small" in cause.name for cause in verdict.causes) or not half
    assert ("在 nDCG@10 上优于 base，但看不出在 AP 上也是如此" in header(list(pair), verdict).claim.zh) == half


def test_one_model_alone_is_no_verdict(evaluation: Evaluation) -> None:
    assert compare([evaluation]).outcome == "undecided"


def test_without_judged_negatives_there_is_no_f1_but_a_ranking(tiny_model: Path) -> None:
    builder = Builder()
    for at in range(6):
        builder.judge(builder.query(f"question {at}"), builder.document(f"answer {at}"), 1)
    data: Dataset = builder.dataset()
    found = homing.evaluate([Model(tiny_model, name="base")], data, data, Evaluating(resamples=100))[0]
    assert found.threshold is None
    assert "F1" not in found.measures
    assert "AP" not in found.measures
    assert 0 <= found.measures["nDCG@10"].value <= 1
    verdict = compare([found, replace(found, name="again")], resamples=100)
    assert set(verdict.differences[0].measures) == {"nDCG@10"}
    assert any("no AP and no F1" in note for note in verdict.notes)
    for at in range(6):
        builder.judge(at, builder.document(f"answer {at + 6}"), 0)
    test = builder.dataset()
    dev = test.with_qrels(data.qrels)
    found = homing.evaluate([Model(tiny_model, name="base")], dev, test, Evaluating(resamples=100))[0]
    assert "AP" in found.measures  # which asks nothing of dev
    verdict = compare([found, replace(found, name="again")], resamples=100)
    assert any("of dev are all relevant, or none is: there is no threshold and no F1" in note for note in verdict.notes)
    assert not any("no AP" in note for note in verdict.notes)


def test_a_probability_that_falls_with_the_score_is_none(splits: Splits, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homing.evaluating.deciding.fit_platt", lambda scores, relevant: Calibration(-1.0, 0.0))
    found = homing.evaluate([Model(tiny_model)], splits.dev, splits.test, Evaluating(resamples=100, bm25=False))[0]
    assert found.decision is not None
    assert found.decision.calibration is None
    assert found.decision.list is not None
    assert found.reliability is None


def test_two_models_of_one_name_and_a_test_without_positives_are_errors(splits: Splits, tiny_model: Path) -> None:
    with pytest.raises(SettingError, match="same name"):
        homing.evaluate([Model(tiny_model), Model(tiny_model)], splits.dev, splits.test)
    bare = splits.test.with_qrels(splits.test.qrels.of(np.array([], dtype=np.int32)))
    with pytest.raises(JudgmentError, match="no query with a relevant"):
        homing.evaluate([Model(tiny_model)], splits.dev, bare)


def test_a_model_does_not_take_the_name_of_a_row_that_is_added(splits: Splits, tiny_model: Path) -> None:
    for names in (["BM25"], ["base", "base + BM25"]):
        with pytest.raises(SettingError, match="name of a row that evaluation adds"):
            homing.evaluate([Model(tiny_model, name=name) for name in names], splits.dev, splits.test)


def test_more_relevant_documents_than_are_searched_and_scores_beyond_cosines() -> None:
    builder = Builder()
    for number in range(12):
        query = builder.query(f"alpha{number} beta{number}")
        for place in range(30):
            builder.judge(query, builder.document(f"alpha{number} beta{number} of {place}"), 1)
        builder.judge(query, builder.document(f"gamma{number} delta{number}"), 0)
    data = builder.dataset()
    (words,) = homing.evaluate([], data, data, Evaluating(resamples=100, top_k=10, measures="Rprec"))
    assert words.measures["Rprec"].value == 1  # it reads 30 ranks, and nDCG@10 no more than ten
    thresholds, values = words.curve
    assert thresholds[0] < words.test_scores.min() < words.test_scores.max() < thresholds[-1]
    assert words.test_best is not None
    assert values.max() == pytest.approx(words.test_best[1])
    assert replace(words, kind="model").f1_at == {}  # 0.4 to 0.7 are cosines


def test_sides_of_two_data_sets_and_evaluations_of_two_tests_are_errors(evaluation: Evaluation, splits: Splits, tiny_model: Path) -> None:
    turned = Corpus(splits.test.corpus.ids[::-1], splits.test.corpus.texts[::-1])
    with pytest.raises(SettingError, match="not of one corpus"):
        homing.evaluate([Model(tiny_model)], replace(splits.dev, corpus=turned), splits.test)
    qrels = splits.test.qrels
    fewer = replace(evaluation, name="other", test=splits.test.with_qrels(qrels.of(qrels.queries[1:])))
    corpus = splits.test.corpus
    mended = replace(evaluation, name="other", test=replace(splits.test, corpus=Corpus(corpus.ids, (*corpus.texts[:-1], "a mended text"))))
    for another in (fewer, mended):
        with pytest.raises(SettingError, match="different test sets; got base and other"):
            compare([evaluation, another], resamples=100)


def test_an_evaluation_is_read_back_as_it_was(evaluation: Evaluation, splits: Splits, tmp_path: Path) -> None:
    verdict = compare([evaluation], resamples=100)
    save_evaluation([evaluation], verdict, tmp_path / "evaluation")
    (again,) = read_evaluation(tmp_path / "evaluation", splits)
    assert np.array_equal(again.test_scores, evaluation.test_scores)
    assert np.array_equal(again.queries, evaluation.queries)
    assert all(np.array_equal(again.per_query[name], evaluation.per_query[name]) for name in evaluation.per_query)
    assert again.threshold == evaluation.threshold
    assert again.measures["F1"] == evaluation.measures["F1"]
    assert np.isnan(again.measures["ROC AUC"].low)
    json.loads((tmp_path / "evaluation" / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in metrics.json"))
    judged = splits.test.qrels
    relabelled = splits.test.with_qrels(Qrels(judged.query, judged.document, 1 - np.minimum(judged.relevance, 1)))
    corpus = splits.test.corpus
    smaller = replace(splits.test, corpus=Corpus(corpus.ids[:-1], corpus.texts[:-1]))
    for test in (relabelled, smaller):
        with pytest.raises(FormatError, match="of another dataset"):
            read_evaluation(tmp_path / "evaluation", replace(splits, test=test))


def test_a_model_that_found_nothing_is_written_beside_one_that_did(evaluation: Evaluation, splits: Splits, tmp_path: Path) -> None:
    """As BM25 does where queries and documents are in two languages."""
    assert evaluation.found is not None
    nothing = replace(evaluation.found, document=np.full_like(evaluation.found.document, -1))
    silent = replace(evaluation, name="BM25", found=nothing)
    save_evaluation([evaluation, silent], compare([evaluation, silent], resamples=100), tmp_path / "evaluation")
    assert [each.name for each in read_evaluation(tmp_path / "evaluation", splits)] == [evaluation.name, "BM25"]


def test_ties_do_not_depend_on_where_the_relevant_document_stands(tiny_model: Path) -> None:
    """A model that gives every document one score must not look good because the relevant ones come first in the file."""
    queries, documents = np.ones((1, 2), dtype=np.float32), np.ones((4, 2), dtype=np.float32)
    run = search_embeddings(queries, documents, 4, np.array([2, 0, 3, 1], dtype=np.int32))
    assert run.document[0].tolist() == [2, 0, 3, 1]


def test_search_in_blocks_is_search_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    queries, documents = generator.normal(size=(9, 5)).astype(np.float32), generator.normal(size=(40, 5)).astype(np.float32)
    whole = search_embeddings(queries, documents, 7)
    assert np.array_equal(whole.document, np.argsort(-(queries @ documents.T), axis=1)[:, :7])
    monkeypatch.setattr("homing.retrievers.dense.BLOCK_SCORES", 80)
    assert np.array_equal(search_embeddings(queries, documents, 7).document, whole.document)
    assert search_embeddings(queries, documents, 99).document.shape == (9, 40)
