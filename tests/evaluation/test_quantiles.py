"""Test quantiles against scipy."""

from __future__ import annotations

import pytest
from scipy.special import betaincinv, stdtrit

from headstart.evaluation.quantiles import beta_quantile, t_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3.5, 5, 9, 30, 400, 20_000])
@pytest.mark.parametrize("p", [0.5001, 0.7, 0.9, 0.975, 0.995, 0.9999])
def test_t_quantile_matches_scipy(p: float, degrees: float) -> None:
    assert t_quantile(p, degrees) == pytest.approx(stdtrit(degrees, p), rel=1e-10)


@pytest.mark.parametrize(("a", "b"), [(1, 0.5), (1, 40), (3, 97), (12.5, 3), (200, 2000), (1, 1e5), (5001, 95_000)])
@pytest.mark.parametrize("p", [0.0, 0.05, 0.5, 0.95, 0.999, 1.0])
def test_beta_quantile_matches_scipy(p: float, a: float, b: float) -> None:
    assert beta_quantile(p, a, b) == pytest.approx(betaincinv(a, b, p), rel=1e-10)
