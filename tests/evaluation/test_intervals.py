"""Test intervals against scipy, at their limits, and with groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headstart.evaluation.intervals import effective_sample_size, estimate_proportion, wilson_interval


@given(st.integers(1, 3000), st.floats(0, 1))
def test_wilson_matches_scipy(num: int, share: float) -> None:
    k = round(num * share)
    reference = stats.binomtest(k, num).proportion_ci(method="wilson")
    low, high = wilson_interval(k / num, num)
    assert low == pytest.approx(reference.low, abs=1e-6)
    assert high == pytest.approx(reference.high, abs=1e-6)


@given(st.floats(0, 1), st.floats(0.3, 1e5))
def test_wilson_is_bounded_and_contains_proportion(share: float, n_eff: float) -> None:
    low, high = wilson_interval(share, n_eff)
    assert 0 <= low <= share <= high <= 1


@pytest.mark.parametrize(("share", "num"), [(1.1, 5), (-0.1, 5), (float("nan"), 5), (0.5, 0), (0.5, float("nan"))])
def test_invalid_proportions_raise(share: float, num: float) -> None:
    with pytest.raises(ValueError):
        wilson_interval(share, num)


def test_duplicates_do_not_increase_effective_sample_size() -> None:
    rng = np.random.default_rng(0)
    hits = rng.random(100) < 0.8
    groups = np.repeat(np.arange(100), 5)
    alone = effective_sample_size(hits, None, is_out_of_fold=False)
    copied = effective_sample_size(np.repeat(hits, 5), groups, is_out_of_fold=False)
    assert alone.ratio == 1.0
    assert copied.ratio * 500 == pytest.approx(100, rel=0.05)


def test_groups_of_one_change_nothing() -> None:
    hits = np.random.default_rng(0).random(50) < 0.8
    a = effective_sample_size(hits, None, is_out_of_fold=True)
    b = effective_sample_size(hits, np.arange(50), is_out_of_fold=True)
    assert (a.ratio, a.quantile) == (b.ratio, b.quantile)


def test_few_groups_widen_or_suppress_interval() -> None:
    hits = np.random.default_rng(0).random(240) < 0.8
    widths = []
    for num_groups in (6, 12, 60):
        e = estimate_proportion(
            0.8, 240, effective_sample_size(hits, np.arange(240) % num_groups, is_out_of_fold=False)
        )
        widths.append(e.high - e.low)
    assert widths == sorted(widths, reverse=True)
    five = estimate_proportion(0.8, 240, effective_sample_size(hits, np.arange(240) % 5, is_out_of_fold=False))
    assert five.value == 0.8
    assert five.low is None
    assert five.high is None


def test_proportion_of_no_samples() -> None:
    size = effective_sample_size(np.zeros(0, bool), None, is_out_of_fold=False)
    assert estimate_proportion(None, 0, size).value is None
