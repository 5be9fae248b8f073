"""Test operating points: bounds of the chosen point, and tables at their limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from headstart.evaluation.operating_points import (
    accept_above,
    clopper_pearson_upper,
    recall_at_false_positive_rates,
    risk_coverage,
)


@pytest.mark.parametrize(("errors", "num"), [(0, 10), (3, 50), (10, 10), (1, 1000)])
def test_clopper_pearson_matches_scipy(errors: int, num: int) -> None:
    reference = stats.binomtest(errors, num, alternative="less").proportion_ci(0.95, method="exact").high
    assert clopper_pearson_upper(errors, num) == pytest.approx(reference, abs=1e-9)


def test_risk_coverage_curve() -> None:
    share, error, threshold = risk_coverage(np.array([0.9, 0.5, 0.9, 0.7]), np.array([True, False, True, False]))
    np.testing.assert_allclose(share, [0.5, 0.75, 1.0])
    np.testing.assert_allclose(error, [0.0, 1 / 3, 0.5])
    np.testing.assert_allclose(threshold, [0.9, 0.7, 0.5])


def draw(num: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    confidence = rng.beta(6, 1, num)
    return confidence, rng.random(num) < confidence


def test_bound_holds_for_chosen_point() -> None:
    rng = np.random.default_rng(0)
    broken = taken = 0
    test = draw(50_000, rng)
    for _ in range(120):
        point = accept_above(*draw(400, rng), targets=(0.1,), is_out_of_fold=False)[0.1]
        if point is not None:
            taken += 1
            accepted = test[0] >= point.threshold
            broken += (~test[1][accepted]).mean() > 0.1
    assert taken > 80
    assert broken <= 0.05 * taken


def test_no_guarantee_with_too_few_images() -> None:
    rng = np.random.default_rng(1)
    assert accept_above(np.full(30, 0.9), np.ones(30, bool), targets=(0.01,))[0.01] is None
    confidence, hits = draw(400, rng)
    assert accept_above(confidence, hits, groups=np.arange(400) % 3)[0.1] is None


def test_out_of_fold_bound_is_wider() -> None:
    confidence, hits = draw(500, np.random.default_rng(2))
    a = accept_above(confidence, hits, targets=(0.1,), is_out_of_fold=False)[0.1]
    b = accept_above(confidence, hits, targets=(0.1,), is_out_of_fold=True)[0.1]
    assert a.num_accepted >= b.num_accepted


def test_recall_at_fpr_respects_rate() -> None:
    rng = np.random.default_rng(3)
    is_positive = rng.random(600) < 0.3
    score = np.round(rng.normal(size=600) + 2 * is_positive, 1)  # many ties
    points = recall_at_false_positive_rates(score, is_positive, rates=(0.0, 0.05, 0.2, 1.0))
    for rate, point in zip((0.0, 0.05, 0.2, 1.0), points, strict=True):
        assert point.false_positive_rate <= rate
        assert point.recall == pytest.approx((score[is_positive] >= point.threshold).mean())
        assert point.recall_low <= point.recall <= point.recall_high
    assert [p.recall for p in points] == sorted(p.recall for p in points)
    assert points[-1].recall == 1.0


def test_one_class_raises() -> None:
    with pytest.raises(ValueError, match="positive and negative images"):
        recall_at_false_positive_rates(np.ones(3), np.ones(3, bool))
