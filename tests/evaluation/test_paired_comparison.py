"""Test the paired comparison: false-positive rate, groups, and known values."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.evaluation.paired_comparison import ComparisonVerdict, compare_paired, mcnemar


def predictions(truth: np.ndarray, hits: np.ndarray, k: int = 3) -> np.ndarray:
    """Return probabilities that are correct exactly where `hits` is true."""
    chosen = np.where(hits, truth, (truth + 1) % k)
    return np.eye(k)[chosen] * 0.7 + 0.1


def test_mcnemar_exact_p_value() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(4, 4) == 1.0
    assert mcnemar(0, 1) == pytest.approx(0.5)  # 2 * (1/2 - 1/4)
    assert mcnemar(1, 5) == pytest.approx(2 * ((1 + 6) / 64 - 0.5 * 6 / 64))
    assert mcnemar(5, 1) == mcnemar(1, 5)
    assert 0 < mcnemar(300, 700) < 1e-20


def test_scores_and_difference() -> None:
    truth = np.repeat([0, 1, 2], [60, 30, 10])
    a, b = np.ones(100, dtype=bool), np.ones(100, dtype=bool)
    a[:20], b[:5], b[90:95] = False, False, False
    comparison = compare_paired((predictions(truth, a), predictions(truth, b)), truth, "xyz")
    assert (comparison.accuracy.a, comparison.accuracy.b, comparison.accuracy.value) == pytest.approx((0.8, 0.9, 0.1))
    assert comparison.balanced_accuracy.a == pytest.approx((40 / 60 + 2) / 3)
    assert comparison.balanced_accuracy.b == pytest.approx((55 / 60 + 1 + 0.5) / 3)
    assert (comparison.only_a, comparison.only_b) == (5, 15)
    assert comparison.accuracy.low < 0.1 < comparison.accuracy.high
    assert [c.only_b - c.only_a for c in comparison.per_class] == [15, 0, -5]
    loss = -0.8 * np.log(0.8) - 0.2 * np.log(0.1)
    assert comparison.log_loss.a == pytest.approx(loss)


def test_equal_models_are_undecided() -> None:
    truth = np.arange(30) % 3
    same = predictions(truth, truth > 0)
    comparison = compare_paired((same, same), truth, "xyz")
    assert comparison.verdict is ComparisonVerdict.UNDECIDED
    assert (comparison.accuracy.value, comparison.accuracy.p_value, comparison.accuracy.num_needed) == (0.0, 1.0, None)


def test_large_difference_is_detected() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    weak, strong = predictions(truth, rng.random(400) < 0.6), predictions(truth, rng.random(400) < 0.9)
    assert compare_paired((weak, strong), truth, "xyz").verdict == "better"
    assert compare_paired((strong, weak), truth, "xyz").verdict == "worse"


def test_false_positive_rate_with_and_without_groups() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 150)
    groups = np.arange(150) // 10
    hits_a, hits_b = rng.random(150) < 0.85, rng.random(150) < 0.80
    for unit, given in ((np.arange(150), None), (groups, groups)):
        called = 0
        for draw in range(300):
            swap = rng.integers(0, 2, unit.max() + 1).astype(bool)[unit]
            a, b = np.where(swap, hits_b, hits_a), np.where(swap, hits_a, hits_b)
            comparison = compare_paired((predictions(truth, a), predictions(truth, b)), truth, "xyz", groups=given,
                                   num_draws=199, seed=draw)  # fmt: skip
            called += comparison.verdict is not ComparisonVerdict.UNDECIDED
        assert called <= 0.09 * 300  # 0.05 and three standard errors of 300 draws


def test_correlated_groups_raise_p_value() -> None:
    truth = np.arange(120) % 3
    a, b = np.ones(120, dtype=bool), np.ones(120, dtype=bool)
    a[:20] = False  # one group of twenty, as twenty images or as one group
    alone = compare_paired((predictions(truth, a), predictions(truth, b)), truth, "xyz")
    together = compare_paired((predictions(truth, a), predictions(truth, b)), truth, "xyz", groups=np.arange(120) // 20)
    assert alone.verdict == "better"
    assert together.verdict is ComparisonVerdict.UNDECIDED
    assert together.num_groups == 6
    assert together.accuracy.detectable > alone.accuracy.detectable


def test_out_of_fold_raises_p_value() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 200)
    a, b = predictions(truth, rng.random(200) < 0.80), predictions(truth, rng.random(200) < 0.85)
    apart = compare_paired((a, b), truth, "xyz")
    folded = compare_paired((a, b), truth, "xyz", is_out_of_fold=True)
    assert folded.accuracy.high - folded.accuracy.low > 1.15 * (apart.accuracy.high - apart.accuracy.low)
    assert folded.accuracy.p_value >= apart.accuracy.p_value
    assert folded.accuracy.num_needed > apart.accuracy.num_needed  # type: ignore[operator]


def test_smaller_difference_needs_more_images() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 3, 2000)
    base = rng.random(2000)
    needed = [
        compare_paired(
            (predictions(truth, base < 0.8), predictions(truth, base < 0.8 + gain)), truth, "xyz"
        ).accuracy.num_needed
        for gain in (0.02, 0.05)
    ]
    assert needed[0] > needed[1] > 0  # type: ignore[operator]


def test_mismatched_inputs_raise() -> None:
    with pytest.raises(ValueError, match="one row"):
        compare_paired((np.ones((3, 2)) / 2, np.ones((2, 2)) / 2), np.zeros(3, dtype=int), "xy")
    with pytest.raises(ValueError, match="no images"):
        compare_paired((np.ones((0, 2)), np.ones((0, 2))), np.zeros(0, dtype=int), "xy")
