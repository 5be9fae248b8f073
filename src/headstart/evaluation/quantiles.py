"""Compute quantiles of the t and beta distributions in plain Python: importing scipy takes longer than all of them.

Uses the regularized incomplete beta function (continued fraction) and bisection.
"""

from __future__ import annotations

import math
from functools import lru_cache

__all__ = ["beta_quantile", "t_quantile"]

_EPS = 1e-300
_MAX_STEPS = 10_000


def t_quantile(p: float, degrees: float) -> float:
    """Return the quantile of Student's t with `degrees` > 0 degrees of freedom, for 0.5 < p < 1."""
    # P(|T| > t) = I_{d / (d + t^2)}(d / 2, 1 / 2), so t^2 = d (1 - x) / x at the beta quantile x.
    x = beta_quantile(2.0 * (1.0 - p), degrees / 2.0, 0.5)
    # Near the median 1 - x loses precision, so the complement is solved for as well.
    y = beta_quantile(2.0 * p - 1.0, 0.5, degrees / 2.0)
    return math.sqrt(degrees * y / x)


@lru_cache(maxsize=4096)
def beta_quantile(p: float, a: float, b: float) -> float:
    """Return the quantile of Beta(a, b) at 0 <= p <= 1, by bisection to float precision."""
    if not 0.0 < p < 1.0:
        return p
    low, high = 0.0, 1.0
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return middle
        if _beta_cdf(middle, a, b) < p:
            low = middle
        else:
            high = middle


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Return the cumulative probability of Beta(a, b) at 0 < x < 1: the regularized incomplete beta function.

    Source: continued fraction 26.5.8 of Abramowitz and Stegun (1964), evaluated by Lentz's method.
    """
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1.0) / (a + b + 2.0):
        return math.exp(log_front) * _continued_fraction(x, a, b) / a
    return 1.0 - math.exp(log_front) * _continued_fraction(1.0 - x, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    c = 1.0
    d = 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > _EPS else _EPS)
    value = d
    for m in range(1, _MAX_STEPS):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0)),
        ):
            d = 1.0 + numerator * d
            d = 1.0 / (d if abs(d) > _EPS else _EPS)
            c = 1.0 + numerator / c
            c = c if abs(c) > _EPS else _EPS
            value *= d * c
        if abs(d * c - 1.0) < 1e-15:
            break
    return value
