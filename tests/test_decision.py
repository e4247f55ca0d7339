"""Thresholds and calibration in a model's directory; Platt's fit against sklearn and scipy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import _SigmoidCalibration, calibration_curve
from sklearn.metrics import brier_score_loss

from homing.errors import FormatError
from homing.measures.calibration import Calibration, fit_platt, reliability
from homing.measures.decision import ChosenOn, Decision, Offset, Threshold

CHOSEN = ChosenOn("dev", 20, 100, 0.3, "0123abcd")


def test_a_decision_is_read_back_and_other_keys_stay(tmp_path: Path) -> None:
    (tmp_path / "homing.json").write_text('{"documents": {"model": "base"}}')
    assert Decision.read(tmp_path) is None
    decision = Decision(
        Threshold.of(0.5, 0.8, CHOSEN, normalised=True),
        Threshold.of(0.6, 0.4, CHOSEN, normalised=False, top_k=100),
        Calibration(12.5, -6.0),
        Offset(10, 0.1, 0.82),
    )
    decision.write(tmp_path)
    assert Decision.read(tmp_path) == decision
    said = json.loads((tmp_path / "homing.json").read_text())
    assert said["documents"] == {"model": "base"}
    assert said["decision"]["list"]["l2"] == pytest.approx(1.0)
    assert said["decision"]["retrieval"]["cosine"] is None
    assert said["decision"]["retrieval"]["top_k"] == 100
    assert decision.relevant([0.49, 0.5]).tolist() == [False, True]
    assert decision.relevant([0.59, 0.6], "retrieval").tolist() == [False, True]
    assert decision.probability(0.48) == pytest.approx(0.5)
    Decision().write(tmp_path)
    assert Decision.read(tmp_path) == Decision()


def test_the_faces_of_a_threshold_are_one_cut() -> None:
    generator = np.random.default_rng(0)
    a, b = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in generator.normal(size=(2, 200, 8)))
    threshold = Threshold.of(0.2, 0.0, CHOSEN, normalised=True)
    assert threshold.l2 is not None
    assert np.array_equal((a * b).sum(axis=1) >= threshold.inner_product, np.linalg.norm(a - b, axis=1) <= threshold.l2)


def test_what_is_not_there_or_not_readable_is_said(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no threshold was chosen for a list"):
        Decision().relevant(0.5)
    with pytest.raises(FormatError, match="no calibration"):
        Decision().probability(0.5)
    for broken in ('{"decision": {"list": {"cosine": 1}}}', '{"decision": 3}', "[]", "{"):
        (tmp_path / "homing.json").write_text(broken)
        with pytest.raises(FormatError, match="cannot be read"):
            Decision.read(tmp_path)


@given(st.lists(st.tuples(st.floats(-1, 1), st.booleans()), min_size=8, max_size=80), st.integers(0, 5))
def test_platt_equals_sklearn(pairs: list[tuple[float, bool]], seed: int) -> None:
    relevant = np.array([label for _, label in pairs])
    scores = np.array([score for score, _ in pairs]) + np.random.default_rng(seed).normal(size=len(pairs)) * 0.3
    if relevant.all() or not relevant.any():
        return
    theirs = _SigmoidCalibration().fit(scores, relevant)
    positives = relevant.sum()
    target = np.where(relevant, (positives + 1) / (positives + 2), 1 / (len(relevant) - positives + 2))

    def loss(slope: float, intercept: float) -> float:
        logits = slope * scores + intercept
        return float((np.logaddexp(0, logits) - target * logits).sum())

    ours = fit_platt(scores, relevant)
    assert loss(ours.slope, ours.intercept) <= loss(-theirs.a_, -theirs.b_) + 1e-9
    assert ours.probability(scores) == pytest.approx(theirs.predict(scores), abs=2e-3)  # L-BFGS stops early


def test_platt_stays_finite_on_separable_and_constant_scores() -> None:
    for scores in (np.linspace(0, 1, 50), np.full(50, 0.3), np.linspace(0, 1, 50) * 1e-6 + 5):
        found = fit_platt(scores, np.arange(50) >= 25)
        assert np.isfinite([found.slope, found.intercept]).all()
        assert ((found.probability(scores) > 0) & (found.probability(scores) < 1)).all()


def test_reliability_equals_sklearn() -> None:
    generator = np.random.default_rng(0)
    probability = generator.uniform(size=1000)
    relevant = generator.uniform(size=1000) < probability**2
    found = reliability(probability, relevant)
    came, promised = calibration_curve(relevant, probability, n_bins=10, strategy="quantile")
    assert found.came == pytest.approx(came)
    assert found.promised == pytest.approx(promised)
    assert found.brier == pytest.approx(brier_score_loss(relevant, probability))
    assert found.brier_of_share == pytest.approx(brier_score_loss(relevant, np.full(1000, relevant.mean())))
    assert found.error > 0.1
    assert reliability(probability, generator.uniform(size=1000) < probability).error < 0.06


def test_the_calibration_error_weighs_bins_by_their_pairs() -> None:
    """Three pairs in two bins, the first of which gets two: |0.15 - 0.5| * 2/3 + |0.9 - 1| * 1/3."""
    found = reliability(np.array([0.9, 0.1, 0.2]), np.array([True, False, True]), bins=2)
    assert found.pairs.tolist() == [2, 1]
    assert found.error == pytest.approx(0.8 / 3)
    assert reliability(np.array([0.9]), np.array([True])).pairs.tolist() == [1]  # never more bins than pairs
