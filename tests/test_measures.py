"""Measures against pytrec_eval, sklearn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from homing import measures, thresholds
from homing.significance import percentile_interval, resample

SCORES = st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9])


@given(
    st.lists(st.lists(st.tuples(SCORES, st.integers(0, 2)), min_size=1, max_size=15), min_size=1, max_size=6),
)
def test_ranking_measures_equal_trec_eval(lists: list[list[tuple[float, int]]]) -> None:
    qrels = {f"q{q}": {f"d{d:02}": grade for d, (_, grade) in enumerate(row)} for q, row in enumerate(lists)}
    run = {f"q{q}": {f"d{d:02}": score for d, (score, _) in enumerate(row)} for q, row in enumerate(lists)}
    wanted = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.10", "recip_rank"}).evaluate(run)
    for q, row in enumerate(lists):
        scores, grades = np.array([score for score, _ in row]), np.array([grade for _, grade in row])
        ranked = measures.order(scores, np.arange(len(row), dtype=np.int32))
        gains, ideal = grades[ranked][None], -np.sort(-grades)[None]
        assert measures.ndcg(gains, ideal, 10)[0] == pytest.approx(wanted[f"q{q}"]["ndcg_cut_10"], abs=1e-9)
        assert measures.recall(gains, np.array([(grades > 0).sum()]), 10)[0] == pytest.approx(wanted[f"q{q}"]["recall_10"], abs=1e-9)
        assert measures.reciprocal_rank(gains)[0] == pytest.approx(wanted[f"q{q}"]["recip_rank"], abs=1e-9)


@given(st.lists(st.tuples(SCORES, st.booleans(), st.integers(0, 3)), min_size=2, max_size=40))
def test_pooled_measures_equal_sklearn(pairs: list[tuple[float, bool, int]]) -> None:
    scores = np.array([score for score, _, _ in pairs])
    relevant = np.array([label for _, label, _ in pairs])
    weights = np.array([[weight for _, _, weight in pairs]], dtype=np.float64)
    if 0 < relevant.sum() < len(relevant):
        assert measures.average_precision(scores, relevant)[0] == pytest.approx(average_precision_score(relevant, scores), abs=1e-12)
        assert measures.roc_auc(scores, relevant) == pytest.approx(roc_auc_score(relevant, scores), abs=1e-12)
        if (weights[0] * relevant).sum() and (weights[0] * ~relevant).sum():
            wanted = average_precision_score(relevant, scores, sample_weight=weights[0])
            assert measures.average_precision(scores, relevant, weights)[0] == pytest.approx(wanted, abs=1e-12)
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


def test_calling_everything_relevant() -> None:
    relevant = np.array([True, False, False, True])
    assert thresholds.f1_of_all(relevant) == pytest.approx(f1_score(relevant, np.ones(4, dtype=bool)))


def test_nothing_found_counts_zero() -> None:
    nothing = np.zeros((1, 0), dtype=int)
    assert measures.ndcg(nothing, np.array([[1]]), 10)[0] == 0
    assert measures.recall(nothing, np.array([1]), 10)[0] == 0
    assert measures.reciprocal_rank(nothing)[0] == 0
    assert measures.ndcg(np.array([[0, 0]]), np.array([[0, 0]]), 10)[0] == 0


def test_resamples_are_draws_with_replacement_and_repeatable() -> None:
    draws = resample(50, 400, seed=3)
    assert (draws.sum(axis=1) == 50).all()
    assert (draws == resample(50, 400, seed=3)).all()
    assert (draws != resample(50, 400, seed=4)).any()
    values = np.random.default_rng(0).normal(size=50)
    low, high = percentile_interval(draws @ values / 50)
    from scipy.stats import bootstrap

    wanted = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert low == pytest.approx(wanted.low, abs=0.05)
    assert high == pytest.approx(wanted.high, abs=0.05)
    assert all(np.isnan(percentile_interval(np.array([np.nan]))))
