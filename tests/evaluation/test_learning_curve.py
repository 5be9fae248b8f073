"""Test learning curves: forecasts of known power laws, and the coverage of their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.evaluation.learning_curve import forecast_curve, nested_parts

SIZES = np.array([50, 100, 200, 400])


def error(n: float, floor: float = 0.05, factor: float = 2.0, slope: float = 0.6) -> float:
    return floor + factor * n**-slope


def draw(seed: int, num: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return hits of images of different difficulty, for several heads per size."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, num)
    hard = rng.random(num)
    return np.array([(hard > error(n)).astype(float) for n in SIZES]), ids


def test_forecast_of_power_law_is_unbiased() -> None:
    held, gains = [], []
    truth = [error(400) - error(800), error(400) - error(1600)]
    for seed in range(60):
        hits, ids = draw(seed)
        curve = forecast_curve(SIZES, hits, ids, 3, num_draws=100)
        gains.append([g[0] for g in curve.gains])
        held.append([low <= t <= high for (_, low, high), t in zip(curve.gains, truth, strict=True)])
        for point, n in zip(curve.forecast, (800, 1600), strict=True):
            assert point.num_samples == n
            assert 0 <= point.low <= point.value <= point.high <= 1
    np.testing.assert_allclose(np.mean(gains, axis=0), truth, atol=0.01)
    assert np.mean(held) > 0.9


def test_gain_grows_with_slope() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, 400)
    hard = rng.random(400)
    flat = forecast_curve(SIZES, np.array([(hard > 0.2).astype(float)] * 4), ids, 3)
    steep = forecast_curve(SIZES, np.array([(hard > 0.2 * (400 / n)).astype(float) for n in SIZES]), ids, 3)
    assert flat.gains[0][0] < 0.02
    assert steep.gains[0][0] > 0.05


def test_perfect_scores_have_bounded_intervals() -> None:
    curve = forecast_curve(SIZES, np.ones((4, 400)), np.zeros(400, int), 2)
    assert curve.points[-1].value > 0.99
    assert curve.forecast[0].high <= 1.0
    assert np.isfinite(curve.gains[0]).all()


def test_gain_per_class() -> None:
    rng = np.random.default_rng(0)
    ids = np.r_[np.zeros(200, int), np.ones(195, int), np.full(5, 2)]
    hard = rng.random(400)
    hits = np.array([np.where(ids == 0, hard > 0.5 * (400 / n) ** 0.3, hard > 0.02) for n in SIZES], dtype=float)
    curve = forecast_curve(SIZES, hits, ids, 3)
    assert curve.per_class[2] is None
    assert curve.per_class[0][0] > curve.per_class[1][0] + 0.02


def test_selection_bias_is_corrected() -> None:
    hits, ids = draw(0)
    plain, corrected = (forecast_curve(SIZES, hits, ids, 3, bias=b) for b in (0.0, 0.03))
    assert corrected.points[-1].value == pytest.approx(plain.points[-1].value - 0.03, abs=1e-3)
    assert corrected.forecast[0].value < plain.forecast[0].value


def test_groups_widen_intervals() -> None:
    hits, ids = draw(1)
    alone = forecast_curve(SIZES, np.repeat(hits, 4, axis=1), np.repeat(ids, 4), 3)
    grouped = forecast_curve(SIZES, np.repeat(hits, 4, axis=1), np.repeat(ids, 4), 3, groups=np.arange(1600) // 4)
    assert grouped.points[0].high - grouped.points[0].low > 1.5 * (alone.points[0].high - alone.points[0].low)


def test_subsets_are_nested_and_keep_groups() -> None:
    ids = np.arange(240) % 3
    groups = np.arange(240) // 4
    parts = nested_parts(ids, groups=groups, num_parts=8)
    assert sorted(parts) == [2, 4, 8]
    for pieces in parts.values():
        np.testing.assert_array_equal(np.sort(np.concatenate(pieces)), np.arange(240))
        for piece in pieces:
            assert not set(groups[piece]) & set(groups[np.setdiff1d(np.arange(240), piece)])
    for small in parts[8]:
        assert any(set(small) <= set(large) for large in parts[4])
    assert any(set(parts[4][0]) <= set(large) for large in parts[2])


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_odd_number_of_subsets_raises(count: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        nested_parts(np.arange(20) % 2, num_parts=count)


@pytest.mark.parametrize("sizes", [[10, 20], [10, 10, 20], [30, 20, 10]])
def test_invalid_sizes_raise(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="three ascending sizes"):
        forecast_curve(np.array(sizes), np.ones((len(sizes), 20)), np.zeros(20, int), 1)
