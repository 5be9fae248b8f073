"""Compute quantiles of the normal, t and beta distributions in plain Python, without scipy.

Uses the regularized incomplete beta function (continued fraction) and bisection; accurate to about 1e-12.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["beta_cdf", "beta_quantile", "normal_cdf", "normal_quantile", "t_quantile"]

_EPS = 1e-300
_MAX_STEPS = 10_000


def normal_cdf(x: float) -> float:
    """Return the cumulative probability of the standard normal at `x`."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def normal_quantile(p: float) -> float:
    """Return the quantile of the standard normal.

    Raises:
        ValueError: `p` is not strictly between 0 and 1.
    """
    _check_open_unit(p)
    if p > 0.5:
        return -normal_quantile(1.0 - p)
    return _bisect(normal_cdf, p, -39.0, 0.0)


def t_quantile(p: float, degrees: float) -> float:
    """Return the quantile of Student's t with `degrees` > 0 degrees of freedom.

    Raises:
        ValueError: `p` is not strictly between 0 and 1, or `degrees` is not positive.
    """
    _check_open_unit(p)
    if degrees <= 0:
        raise ValueError(f"a t distribution needs positive degrees of freedom, got {degrees}")
    if p == 0.5:
        return 0.0
    tail = min(p, 1.0 - p)
    # P(|T| > t) = I_{d / (d + t^2)}(d / 2, 1 / 2), so t^2 = d (1 - x) / x at the beta quantile x.
    x = beta_quantile(2.0 * tail, degrees / 2.0, 0.5)
    # Near the median 1 - x loses precision, so the complement is solved for as well.
    y = beta_quantile(1.0 - 2.0 * tail, 0.5, degrees / 2.0)
    t = math.sqrt(degrees * y / x) if x > 0.0 else math.inf
    return t if p > 0.5 else -t


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the cumulative probability of Beta(a, b): the regularized incomplete beta function.

    Source: continued fraction 26.5.8 of Abramowitz and Stegun (1964), evaluated by Lentz's method.
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1.0) / (a + b + 2.0):
        return math.exp(log_front) * _continued_fraction(x, a, b) / a
    return 1.0 - math.exp(log_front) * _continued_fraction(1.0 - x, b, a) / b


def beta_quantile(p: float, a: float, b: float) -> float:
    """Return the quantile of Beta(a, b)."""
    if p <= 0.0:
        return 0.0
    if p >= 1.0:
        return 1.0
    return _bisect(lambda x: beta_cdf(x, a, b), p, 0.0, 1.0)


def _check_open_unit(p: float) -> None:
    if not 0.0 < p < 1.0:
        raise ValueError(f"a probability must be between 0 and 1 (exclusive), got {p}")


def _bisect(cdf: Callable[[float], float], p: float, low: float, high: float) -> float:
    """Invert the increasing function `cdf` at `p` by bisection to float precision."""
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return middle
        if cdf(middle) < p:
            low = middle
        else:
            high = middle


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
