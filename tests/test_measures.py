"""Measures against pytrec_eval, sklearn and scipy."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from homing.data import Qrels
from homing.errors import SettingError
from homing.measures import formulas as measures
from homing.measures import thresholds
from homing.measures.formulas import Measure
from homing.measures.significance import percentile_interval, resample

SCORES = st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9])


TREC = {
    "nDCG": "ndcg", "nDCG@3": "ndcg_cut_3", "nDCG@10": "ndcg_cut_10", "R@5": "recall_5", "P@5": "P_5", "AP": "map", "AP@3": "map_cut_3",
    "RR": "recip_rank", "Success@1": "success_1", "Rprec": "Rprec",
}  # fmt: skip
ASKED = {"ndcg", "ndcg_cut.3,10", "recall.5", "P.5", "map", "map_cut.3", "recip_rank", "success.1", "Rprec"}
GRADED = st.dictionaries(st.integers(0, 14), st.integers(0, 3), max_size=12)  # trec_eval may hang on negative ones
FOUND = st.dictionaries(st.integers(0, 14), st.sampled_from([0.0, -0.0, -1.5, 0.1, 0.1 + 1e-12, 0.25, 3e38, 0.9, 0.9000001]), max_size=15)


@given(st.dictionaries(st.integers(0, 5), st.tuples(GRADED, FOUND), min_size=1), st.integers(1, 2), st.randoms())
def test_measures_equal_trec_eval(drawn: dict[int, tuple[dict[int, int], dict[int, float]]], rel: int, draw: random.Random) -> None:
    """Ties (also those that only float32 makes), graded judgments, queries that the run lacks, empty results, any order."""
    names = draw.sample([f"d{number}" for number in range(15)], 15)  # positions are not the order of the ids
    qrels = {f"q{q}": {names[d]: grade for d, grade in graded.items()} for q, (graded, _) in drawn.items() if graded}
    run = {f"q{q}": {names[d]: score for d, score in found.items()} for q, (_, found) in drawn.items() if found}
    if not qrels:
        return
    wanted = pytrec_eval.RelevanceEvaluator(qrels, ASKED, relevance_level=rel).evaluate(run)

    pairs = [(q, d, grade) for q, (graded, _) in drawn.items() for d, grade in graded.items()]
    judged = Qrels(*np.array(pairs, dtype=np.int32).reshape(-1, 3).T)
    results = [(q, d, score) for q, (_, found) in drawn.items() for d, score in found.items()]
    draw.shuffle(results)
    query, document = (np.array([each[at] for each in results], dtype=np.int32) for at in (0, 1))
    score = np.array([each[2] for each in results])
    ties = np.argsort(np.argsort(np.array(names)))
    found = measures.rank(query, document, score, judged.queries, ties)
    ranking = measures.judge(found, judged.queries, judged, 15)
    for name, theirs in TREC.items():
        graded = name.startswith("nDCG") or rel == 1
        ours = Measure.parse(name if graded else "(rel=2)".join(re.split("(?=@|$)", name, maxsplit=1))).of(ranking)
        for row, q in enumerate(judged.queries.tolist()):
            assert ours[row] == pytest.approx(wanted.get(f"q{q}", {}).get(theirs, 0.0), abs=1e-9), (name, q)


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, None]), SCORES), max_size=12))
def test_judged_and_condensed_lists(results: list[tuple[int | None, float]]) -> None:
    """Judged@k counts; judged_only is the measure of the run without what is not judged."""
    judged = [(0, d, grade) for d, (grade, _) in enumerate(results) if grade is not None]
    if not judged:
        return
    qrels, queries = Qrels(*np.array(judged, dtype=np.int32).T), np.array([0], dtype=np.int32)
    document, ties = np.arange(len(results), dtype=np.int32), np.arange(20)
    score = np.array([score for _, score in results])
    ranking = measures.judge(measures.rank(document * 0, document, score, queries, ties), queries, qrels, 20)
    top = sorted(range(len(results)), key=lambda d: (-score[d], -d))[:5]
    assert Measure.parse("Judged@5").of(ranking)[0] == pytest.approx(np.mean([results[d][0] is not None for d in top]))
    kept = np.array([grade is not None for grade, _ in results])
    alone = measures.judge(measures.rank(document[kept] * 0, document[kept], score[kept], queries, ties), queries, qrels, 20)
    for name in ("nDCG", "P", "RR", "AP"):
        assert Measure.parse(f"{name}(judged_only=True)@3").of(ranking) == pytest.approx(Measure.parse(f"{name}@3").of(alone)), name


@pytest.mark.parametrize("name", ["nDCG@10", "R@100", "AP", "P(rel=2)@5", "R(rel=2)@100", "Judged@10", "nDCG(judged_only=True)@10", "RR"])
def test_a_measure_is_named_as_it_was_read(name: str) -> None:
    assert str(Measure.parse(name)) == name


def test_the_language_of_measures() -> None:
    found = measures.parse_measures("nDCG@10, P(rel=2, judged_only=True)@5 AP,AP MRR@10")
    assert [str(each) for each in found] == ["nDCG@10", "P(rel=2,judged_only=True)@5", "AP", "RR@10"]
    for wrong in ("", "nDCG@0", "P", "R", "XYZ@3", "P(rel=0)@5", "nDCG(rel=2)@10", "P(foo=1)@5", "P@5@5", "P(rel=x)@5"):
        with pytest.raises(SettingError, match="no such measure"):
            Measure.parse(wrong)


def test_many_queries() -> None:
    """A run of 2,000 queries against trec_eval, all at once."""
    generator = np.random.default_rng(0)
    queries, documents, depth = 2000, 500, 50
    found = np.array([generator.choice(documents, depth, replace=False) for _ in range(queries)])
    score = np.round(generator.normal(size=found.shape), 1)
    graded = np.array([generator.choice(documents, 20, replace=False) for _ in range(queries)])
    grades = generator.integers(0, 3, graded.shape)
    names = [f"{d:03}" for d in range(documents)]
    qrels = {str(q): {names[d]: int(g) for d, g in zip(graded[q], grades[q], strict=True)} for q in range(queries)}
    run = {str(q): {names[d]: float(s) for d, s in zip(found[q], score[q], strict=True)} for q in range(queries)}
    wanted = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "map"}).evaluate(run)
    every = np.arange(queries, dtype=np.int32)
    judged = Qrels(np.repeat(every, 20), graded.ravel(), grades.ravel())
    ranked = measures.rank(np.repeat(every, depth), found.ravel(), score.ravel(), every, np.arange(documents))
    ranking = measures.judge(ranked, every, judged, documents)
    for name, theirs in (("nDCG@10", "ndcg_cut_10"), ("AP", "map")):
        assert Measure.parse(name).of(ranking) == pytest.approx([wanted[str(q)][theirs] for q in range(queries)], abs=1e-9)


@given(st.lists(st.tuples(SCORES, st.booleans(), st.integers(0, 3)), min_size=2, max_size=40))
def test_pooled_measures_equal_sklearn(pairs: list[tuple[float, bool, int]]) -> None:
    scores = np.array([score for score, _, _ in pairs])
    relevant = np.array([label for _, label, _ in pairs])
    weights = np.array([[weight for _, _, weight in pairs]])
    if 0 < relevant.sum() < len(relevant):
        assert measures.average_precision(scores, relevant)[0] == pytest.approx(average_precision_score(relevant, scores), abs=1e-12)
        assert measures.roc_auc(scores, relevant) == pytest.approx(roc_auc_score(relevant, scores), abs=1e-12)
        if (weights[0] * relevant).sum() and (weights[0] * ~relevant).sum():
            wanted = average_precision_score(relevant, scores, sample_weight=weights[0])
            assert measures.average_precision(scores, relevant, weights, np.arange(len(scores)))[0] == pytest.approx(wanted, abs=1e-12)
    else:
        assert np.isnan(measures.roc_auc(scores, relevant))
    if relevant.any():
        for at in (0.25, 0.3, 0.9):
            grid = np.array([at])
            assert thresholds.f1_curve(scores, relevant, grid)[0] == pytest.approx(f1_score(relevant, scores >= at, zero_division=0))


@given(st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=40))
def test_best_threshold_is_the_best_of_all_cuts(pairs: list[tuple[float, bool]]) -> None:
    scores, relevant = np.array([score for score, _ in pairs]), np.array([label for _, label in pairs])
    threshold, best = thresholds.best_threshold(scores, relevant)
    tried = max(f1_score(relevant, scores >= at, zero_division=0) for at in [*scores, 2.0])
    assert best == pytest.approx(tried)
    assert f1_score(relevant, scores >= threshold, zero_division=0) == pytest.approx(best)


@given(
    st.lists(st.tuples(SCORES, st.booleans(), st.integers(0, 4)), min_size=1, max_size=30),
    st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), max_size=4),
    st.booleans(),
)
def test_a_bagged_threshold_is_the_mean_of_the_best_of_each_draw(
    pairs: list[tuple[float, bool, int]], drawn: list[list[int]], missing: bool
) -> None:
    """Best of sklearn's weighted F1 over all cuts; relevant pairs that are missing are pairs of the lowest score."""
    scores, relevant, owner = (np.array(column) for column in zip(*pairs, strict=True))
    draws = np.array(drawn, dtype=np.uint16).reshape(-1, 5)
    positives = np.bincount(owner, relevant, 5) + np.array([0, 1, 0, 2, 0]) if missing else None
    found, best = thresholds.bagged_threshold(scores, relevant, owner, draws, positives)
    more = [1, 3, 3] if missing else []
    padded, labels, groups = np.append(scores, [-9.0] * len(more)), np.append(relevant, [True] * len(more)), np.append(owner, more)
    order = sorted(set(scores.tolist()), reverse=True)
    cuts = [(above + below) / 2 for above, below in pairwise([*order, order[-1] - 2e-6])]
    bests = []
    for draw in draws:
        if (draw[groups.astype(int)] * labels).sum():
            values = [f1_score(labels, padded >= cut, sample_weight=draw[groups.astype(int)], zero_division=0) for cut in cuts]
            bests.append(cuts[int(np.argmax(np.round(values, 12)))])
    if bests:
        assert found == pytest.approx(np.mean(bests))
        assert best == pytest.approx(f1_score(labels, padded >= found, zero_division=0))
    else:
        assert (found, best) == thresholds.best_threshold(scores, relevant, len(more))


def test_a_bagged_threshold_errs_less_where_f1_is_flat() -> None:
    """Over many small samples of one noisy population its F1 on fresh pairs is higher, and less often very low, than the best cut's."""
    generator = np.random.default_rng(0)

    def sample(groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        relevant = generator.random(groups * 10) < 0.1
        return generator.normal(0.5 * relevant, 1.0), relevant, np.repeat(np.arange(groups), 10)

    fresh, truth, _ = sample(20_000)
    draws = resample(25, 100, 0)
    by_rule = []
    for _ in range(60):
        scores, relevant, owner = sample(25)
        rules = thresholds.best_threshold(scores, relevant), thresholds.bagged_threshold(scores, relevant, owner, draws)
        by_rule.append([thresholds.f1_curve(fresh, truth, np.array([at]))[0] for at, _ in rules])
    plain, bagged = np.array(by_rule).T
    assert bagged.mean() > plain.mean()
    assert np.quantile(bagged, 0.05) > np.quantile(plain, 0.05)


def test_calling_everything_relevant() -> None:
    relevant = np.array([True, False, False, True])
    assert thresholds.f1_of_all(relevant) == pytest.approx(f1_score(relevant, np.ones(4, dtype=bool)))


def test_nothing_found_counts_zero() -> None:
    nothing = np.zeros((1, 0), dtype=int)
    assert measures.ndcg(nothing, np.array([[1]]), 10)[0] == 0
    assert measures.reciprocal_rank(nothing)[0] == 0
    assert measures.ndcg(np.array([[0, 0]]), np.array([[0, 0]]), 10)[0] == 0


def test_resamples_are_draws_with_replacement_and_repeatable() -> None:
    draws = resample(50, 400, seed=3)
    assert (draws.sum(axis=1) == 50).all()
    assert (draws == resample(50, 400, seed=3)).all()
    assert (draws != resample(50, 400, seed=4)).any()
    values = np.random.default_rng(0).normal(size=50)
    low, high = percentile_interval(draws @ values / 50, 50)
    from scipy.stats import bootstrap

    wanted = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert low == pytest.approx(wanted.low, abs=0.05)
    assert high == pytest.approx(wanted.high, abs=0.05)
    assert all(np.isnan(percentile_interval(np.array([np.nan]), 50)))
