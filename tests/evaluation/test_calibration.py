"""Test calibration on simulated data with known temperatures and errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from headstart.evaluation.calibration import (
    brier,
    calibrate,
    calibration_error,
    fit_temperature,
    fit_vector_scaling,
    reliability_diagram,
)
from headstart.evaluation.softmax import log_softmax, softmax


def draw(num: int, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated logits and class ids."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num, classes)) * 2
    uniform = rng.random((num, 1))
    return logits, (softmax(logits).cumsum(axis=1) < uniform).sum(axis=1)


def nll(logits: np.ndarray, ids: np.ndarray) -> float:
    return -log_softmax(logits)[np.arange(len(ids)), ids].mean()


def test_softmax_and_its_logarithm_agree() -> None:
    z = np.array([[0.0, -800.0, 3.0], [1e4, 0.0, -np.inf]])
    np.testing.assert_allclose(np.exp(log_softmax(z)), softmax(z))
    assert log_softmax(z)[0, 1] == pytest.approx(-803.0, abs=0.1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_temperature_minimizes_log_loss(temperature: float) -> None:
    logits, ids = draw(3000)
    fitted = fit_temperature(logits * temperature, ids)
    assert fitted == pytest.approx(temperature, rel=0.08)
    best = minimize_scalar(lambda t: nll(logits * temperature / t, ids), bounds=(0.05, 20), method="bounded")
    assert fitted == pytest.approx(best.x, rel=1e-3)


def test_vector_scaling_matches_scipy() -> None:
    logits, ids = draw(400, classes=3)
    logits = logits * np.array([0.5, 1.0, 2.0]) + np.array([1.0, 0.0, -1.0])
    scale, shift = fit_vector_scaling(logits, ids)
    start = 1 / fit_temperature(logits, ids)

    def objective(x: np.ndarray) -> float:
        away = (x[:3] - start) / start
        return len(ids) * nll(logits * x[:3] + x[3:], ids) + 0.5 * (away**2).sum() + 0.5 * (x[3:] ** 2).sum()

    best = minimize(objective, np.r_[np.full(3, start), np.zeros(3)], method="BFGS")
    assert objective(np.r_[scale, shift]) == pytest.approx(best.fun, abs=1e-4)
    np.testing.assert_allclose(np.r_[scale, shift], best.x, atol=0.02)


def test_separable_logits_are_finite() -> None:
    ids = np.arange(60) % 3
    logits = np.eye(3)[ids] * 8.0
    assert 0.05 <= fit_temperature(logits, ids) <= 1.0
    scale, shift = fit_vector_scaling(logits, ids)
    assert np.isfinite(scale).all()
    assert np.isfinite(shift).all()


def test_calibrated_logits_stay_nearly_unchanged() -> None:
    logits, ids = draw(2000)
    c = calibrate(logits, ids)
    assert c.kind in ("none", "temperature")
    assert nll(c.logits, ids) <= nll(logits, ids)
    np.testing.assert_allclose(c.scale, 1.0, atol=0.1)


def test_vector_scaling_is_chosen_for_shifted_classes() -> None:
    logits, ids = draw(2000)
    spoiled = logits + np.array([2.0, 0.0, 0.0, -2.0])
    c = calibrate(spoiled, ids)
    assert c.kind == "vector"
    assert c.log_loss["vector"] < c.log_loss["temperature"] - 0.05
    assert nll(c.logits, ids) == pytest.approx(c.log_loss["vector"])
    assert calibrate(spoiled[:100], ids[:100]).kind != "vector"


def test_brier_of_certain_and_uniform() -> None:
    ids = np.array([0, 1])
    assert brier(np.eye(2), ids) == 0.0
    assert brier(np.eye(2)[::-1], ids) == 2.0
    assert brier(np.full((2, 2), 0.5), ids) == 0.5


def test_calibration_error_is_debiased() -> None:
    """For calibrated logits, the plain error is 0.04 at 500 samples and the debiased one much smaller."""
    plain, debiased = [], []
    for seed in range(40):
        logits, ids = draw(500, seed)
        e = calibration_error(softmax(logits), ids)
        plain.append(e.plain)
        debiased.append(e.value)
    assert np.mean(plain) > 0.03
    assert np.mean(debiased) < 0.5 * np.mean(plain)


def test_interval_contains_planted_error() -> None:
    """Confidence 0.9 at accuracy 0.8: an error of 0.1."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        right = rng.random(400) < 0.8
        p = np.full((400, 2), [0.9, 0.1]) + rng.uniform(0, 1e-6, size=(400, 1)) * [1, -1]
        e = calibration_error(p, np.where(right, 0, 1))
        held += e.low <= 0.1 <= e.high
        assert 0 <= e.low <= e.value <= e.high <= 1
    assert held >= 180


def test_groups_widen_interval() -> None:
    logits, ids = draw(400)
    p = softmax(logits * 3)
    a, b = calibration_error(p, ids), calibration_error(p, ids, effect=4.0)
    assert b.high - b.low > a.high - a.low


def test_diagram_bins_every_sample() -> None:
    logits, ids = draw(777)
    bars = reliability_diagram(softmax(logits), ids)
    assert sum(bar.num_samples for bar in bars) == 777
    assert [bar.confidence for bar in bars] == sorted(bar.confidence for bar in bars)
    assert all(0 <= bar.low <= bar.accuracy <= bar.high <= 1 for bar in bars)
    assert len(reliability_diagram(softmax(logits[:2]), ids[:2])) == 2
