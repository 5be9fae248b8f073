"""Test quantiles against scipy."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headstart.evaluation.quantiles import (
    beta_cdf,
    beta_quantile,
    normal_cdf,
    normal_quantile,
    t_quantile,
)

SHARES = [1e-6, 0.001, 0.025, 0.1, 0.4999, 0.5, 0.7, 0.9, 0.975, 0.9999]


@pytest.mark.parametrize("p", SHARES)
def test_normal_quantile_matches_scipy(p: float) -> None:
    assert normal_quantile(p) == pytest.approx(stats.norm.ppf(p), abs=1e-9)
    assert normal_cdf(stats.norm.ppf(p)) == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize("p", SHARES)
@pytest.mark.parametrize("degrees", [1, 2, 3.5, 5, 9, 30, 400])
def test_t_quantile_matches_scipy(p: float, degrees: float) -> None:
    assert t_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-6, abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(st.floats(0.001, 0.999), st.floats(0.5, 2000), st.floats(0.5, 2000))
def test_beta_quantile_matches_scipy(x: float, a: float, b: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), abs=1e-10)
    assert beta_quantile(x, a, b) == pytest.approx(stats.beta.ppf(x, a, b), abs=1e-8)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, float("nan")])
def test_invalid_probabilities_raise(p: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        normal_quantile(p)
    with pytest.raises(ValueError, match="between 0 and 1"):
        t_quantile(p, 4)


def test_zero_degrees_of_freedom_raise() -> None:
    with pytest.raises(ValueError, match="degrees"):
        t_quantile(0.9, 0)
