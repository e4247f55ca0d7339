"""What more judgments would bring, and the variation between seeds: against scipy, and where nothing can be told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import linregress

from homing.measures.evaluations import Interval
from homing.measures.significance import percentile_interval, resample
from homing.reporting.asides import sentences
from homing.reporting.beside import _learning
from homing.verdicts.context import Context, LearningCurve, Point
from homing.verdicts.forecast import forecast
from homing.verdicts.variation import over_seeds

QUERIES = np.array([250, 500, 1000])


def values_at(queries: np.ndarray, power: float = -0.3, factor: float = 2.0) -> np.ndarray:
    return 1 - factor * queries.astype(float) ** power


def test_a_power_law_is_found_again() -> None:
    values = values_at(QUERIES)
    two, four = forecast("nDCG@10", QUERIES, values, np.tile(values, (50, 1)), 50)
    assert (two.factor, four.factor) == (2.0, 4.0)
    assert two.gain.value == pytest.approx(values_at(np.array([2000]))[0] - values[-1], abs=1e-12)
    assert four.gain.value == pytest.approx(values_at(np.array([4000]))[0] - values[-1], abs=1e-12)
    assert two.gain.low == pytest.approx(two.gain.high) == pytest.approx(two.gain.value)
    assert two.tells


def test_the_fit_is_scipys_line_through_the_logarithms() -> None:
    values = np.array([0.41, 0.52, 0.55])
    line = linregress(np.log(QUERIES), np.log(1 - values))
    wanted = np.exp(line.intercept + line.slope * np.log(1000)) - np.exp(line.intercept + line.slope * np.log(2000))
    assert forecast("AP", QUERIES, values, values[None], 50)[0].gain.value == pytest.approx(wanted, abs=1e-12)


def test_noise_tells_nothing() -> None:
    generator = np.random.default_rng(0)
    values = np.full(3, 0.5)
    drawn = 0.5 + generator.normal(0, 0.03, (1000, 3))
    assert not any(each.tells for each in forecast("nDCG@10", QUERIES, values, drawn, 50))


def test_a_fall_is_not_extrapolated() -> None:
    values = np.array([0.6, 0.5, 0.4])
    found = forecast("nDCG@10", QUERIES, values, np.tile(values, (50, 1)), 50)
    assert all(each.falls and not each.tells for each in found)
    curve = LearningCurve(tuple(Point(0.5, 9, {"nDCG@10": Interval(each)}) for each in values), tuple(found))
    for said in (" ".join(sentences(Context(curve=curve))), " ".join(each.en for each in _learning(curve).after)):
        assert "fell as" in said
        assert "times the judgments" not in said


def test_trainings_that_saw_as_many_queries_forecast_nothing() -> None:
    queries = np.array([30, 31, 32])
    assert forecast("AP", queries, np.array([0.4, 0.5, 0.6]), np.full((9, 3), 0.5), 50) == []
    curve = LearningCurve(tuple(Point(0.5, int(each), {}) for each in queries), ())
    assert "had time for 30, 31, 32 queries" in " ".join(sentences(Context(curve=curve)))
    assert "请延长训练" in _learning(curve).after[0].zh


def test_a_perfect_score_is_no_infinity() -> None:
    found = forecast("nDCG@10", QUERIES, np.array([0.9, 1.0, 1.0]), np.ones((10, 3)), 50)
    assert all(np.isfinite([each.gain.value, each.gain.low, each.gain.high]).all() for each in found)


def test_the_interval_over_seeds_holds_their_variation() -> None:
    """Crossed effects of known size: the interval's width is near that of the mean's true standard error."""
    generator = np.random.default_rng(1)
    seeds, groups, of_seeds, of_groups = 8, 200, 0.03, 0.2
    gains = generator.normal(0, of_groups, (groups, 1)) + generator.normal(0, of_seeds, (1, seeds)) + 0.1
    draws = resample(groups, 4000, 3)
    drawn = draws @ gains / groups
    found = over_seeds(gains.mean(axis=0), drawn, groups, 5)
    error = np.sqrt(gains.mean(axis=0).var(ddof=1) / seeds + gains.mean(axis=1).var(ddof=1) / groups)
    assert found.value == pytest.approx(gains.mean())
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(error, rel=0.1)
    one = np.percentile(drawn[:, 0], [2.5, 97.5])
    assert found.high - found.low != pytest.approx(one[1] - one[0], rel=1e-3)


def test_seeds_that_agree_add_nothing() -> None:
    drawn = np.random.default_rng(0).normal(0.1, 0.02, (2000, 1)).repeat(3, axis=1)
    found = over_seeds(np.full(3, 0.1), drawn, 50, 1)
    low, high = percentile_interval(drawn[:, 0], 50)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_points_of_as_many_queries_each_tell_nothing() -> None:
    """As where all training queries hang together in one group, which every share holds."""
    assert forecast("nDCG@10", np.array([40, 40, 40]), np.array([0.5, 0.6, 0.7]), np.ones((10, 3)) / 2, 50) == []
