"""Estimate the learning curve and extrapolate the error to more images.

The power law with a floor, error(n) = error(N) (f + (1 - f) (n / N)^-c), is averaged over all f and c consistent with
the measured points, since four points do not identify floor and slope; the forecast interval reflects this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.folds import draw_folds
from headstart.evaluation.intervals import MIN_GROUPS, OUT_OF_FOLD_RATIO
from headstart.types.arrays import Float

__all__ = ["CurvePoint", "LearningCurve", "forecast_curve", "nested_parts"]


FLOORS = np.linspace(0.0, 0.95, 13)
SLOPES = np.linspace(0.05, 1.5, 16)
_LEVELS = np.linspace(-4.0, 4.0, 25)  # of error(N), in standard errors
_FACTORS = (2.0, 4.0)  # multiples of N that are forecast
_MISFIT = 0.05  # fraction of an error by which real curves leave a power law
_HEAD_VARIANCE = 0.3  # variance of one head's accuracy about the curve, in units of p (1 - p) / n


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Accuracy with a number of training images, with its 95 % CI; all in [0, 1]."""

    num_samples: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """Measured points, forecast and gain.

    Attributes:
        points: Measured, from few images to all.
        fitted: Fitted value at the last point, where the forecast begins; differs from that point by its
            measurement error.
        forecast: Extrapolated points.
        gains: (value, low, high) of accuracy for each forecast, in [-1, 1]: forecast minus
            `fitted`.
        per_class: Gain in recall of each class at the first forecast: (value, low, high), or None with fewer
            than 8 images of it.
    """

    points: tuple[CurvePoint, ...]
    fitted: CurvePoint
    forecast: tuple[CurvePoint, ...]
    gains: tuple[tuple[float, float, float], ...]
    per_class: tuple[tuple[float, float, float] | None, ...]


def nested_parts(
    class_ids: NDArray[np.int64], *, groups: NDArray[np.int64] | None = None, num_parts: int = 8, seed: int = 0
) -> dict[int, list[NDArray[np.int64]]]:
    """Return positions of nested equal subsets: 8 eighths, 4 quarters, 2 halves.

    A head fitted on one part is scored on all others, so every image is scored at every size.

    Args:
        class_ids: (N,) classes, for stratified parts.
        groups: (N,) groups of images that stay in one fold.
        num_parts: Number of the smallest parts, a power of two.
        seed: Random seed of the parts.

    Raises:
        ValueError: `num_parts` is not a power of two above 1.
    """
    if num_parts < 2 or num_parts & (num_parts - 1):
        raise ValueError(f"`num_parts` must be a power of two above 1, got {num_parts}")
    fold = draw_folds(class_ids, num_parts, groups=groups, seed=seed)
    parts = {}
    count = num_parts
    while count >= 2:
        pieces = [np.flatnonzero(fold % count == p) for p in range(count)]
        parts[count] = [piece for piece in pieces if len(piece)]
        count //= 2
    return parts


def forecast_curve(
    sizes: NDArray[np.int64],
    hits: Float,
    class_ids: NDArray[np.int64],
    num_classes: int,
    *,
    groups: NDArray[np.int64] | None = None,
    bias: float = 0.0,
    num_draws: int = 200,
    seed: int = 0,
) -> LearningCurve:
    """Extrapolate the measured curve to two and four times as many images.

    Args:
        sizes: (S,) ascending numbers of training images; the last one is N.
        hits: (S, N) fraction of the out-of-fold heads of that size that are correct.
        class_ids: (N,).
        num_classes: K.
        groups: (N,) group of each image, drawn whole.
        bias: Selection bias of the last accuracy.
        num_draws: Bootstrap samples for the errors of the points.
        seed: Random seed of the bootstrap.

    Raises:
        ValueError: There are fewer than three sizes, or they do not ascend.

    Source: Viering and Loog (2023) for the power law with a floor (pow3).
    """
    if len(sizes) < 3 or (np.diff(sizes) <= 0).any():
        raise ValueError(f"a curve needs at least three ascending sizes, got {list(sizes)}")
    num = hits.shape[1]
    hits = np.array(hits, dtype=np.float64)
    hits[-1] -= bias
    draws = _draws(num, groups, num_draws, np.random.default_rng(seed))  # (B, N)
    is_used = np.ones(num, dtype=np.bool_)
    curve, covariance = _points(hits, draws, is_used, groups)
    total = _extrapolate(sizes, curve, covariance, _FACTORS)
    per_class: list[tuple[float, float, float] | None] = []
    for k in range(num_classes):
        mine = class_ids == k
        if mine.sum() < 8:
            per_class.append(None)
            continue
        part = _extrapolate(sizes, *_points(hits, draws, mine, groups), _FACTORS[:1], class_fraction=float(mine.mean()))
        per_class.append(part.gains[0])
    return LearningCurve(total.points, total.fitted, total.forecast, total.gains, tuple(per_class))


def _draws(num: int, groups: NDArray[np.int64] | None, num_draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (B, N) bootstrap counts; groups whole."""
    owner = np.arange(num) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(owner.max()) + 1
    return rng.multinomial(count, np.full(count, 1.0 / count), size=num_draws)[:, owner].astype(np.float64)


def _points(
    hits: Float, draws: Float, where: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> tuple[Float, Float]:
    """Return (S,) error at each size over some images, and its (S, S) covariance."""
    error = 1.0 - hits[:, where]
    times = draws[:, where]
    drawn = (times @ error.T) / np.maximum(times.sum(axis=1, keepdims=True), 1.0)  # (B, S)
    drawn = drawn[times.sum(axis=1) > 0]
    # Pseudo-count: a perfect score has a nonzero variance.
    num = int(where.sum()) if groups is None else len(np.unique(groups[where]))
    mean = (error.sum(axis=1) + 0.5) / (error.shape[1] + 1.0)
    covariance = np.cov(drawn.T) + np.diag(np.full(len(mean), 0.25 / (num + 1.0) ** 2))
    if groups is not None and num < 2 * MIN_GROUPS:
        covariance = covariance * 1.5
    return mean, np.asarray(covariance / OUT_OF_FOLD_RATIO, dtype=np.float64)


def _extrapolate(
    sizes: NDArray[np.int64], error: Float, covariance: Float, factors: tuple[float, ...], class_fraction: float = 1.0
) -> LearningCurve:
    """Average all curves weighted by likelihood and extrapolate them."""
    now = float(error[-1])
    spread = float(np.sqrt(covariance[-1, -1]))
    level = np.clip(now + _LEVELS * spread, 1e-4, 0.999)[:, None, None]
    floor, slope = FLOORS[None, :, None], SLOPES[None, None, :]
    ratio = sizes / sizes[-1]

    def at(r: float) -> Float:
        return np.asarray(np.minimum(level * (floor + (1.0 - floor) * r**-slope), 0.999), dtype=np.float64)

    curves = np.stack([at(float(r)) for r in ratio], axis=-1)  # (L, F, C, S)
    noise = covariance + np.diag((_MISFIT * error) ** 2)
    away = curves - error
    distance = np.einsum("...s,st,...t->...", away, np.linalg.inv(noise), away)
    # Prior: high floors are rarer than low ones; without it the gains are a quarter too small.
    weight = (np.exp(-0.5 * (distance - distance.min())) * (1.0 - floor) ** 2).ravel()
    weight /= weight.sum()

    def spread_of(values: Float, more: float) -> tuple[float, float, float]:
        """Return mean and 95 % CI, widened by one more independent variance."""
        flat = values.ravel()
        order = np.argsort(flat)
        reached = np.cumsum(weight[order])
        low, high = (float(flat[order[min(int(np.searchsorted(reached, q)), len(flat) - 1)]]) for q in (0.025, 0.975))
        value = float(flat @ weight)
        below, above = (float(np.hypot(d, 1.96 * more**0.5)) for d in (value - low, high - value))
        return value, value - below, value + above

    points = tuple(
        CurvePoint(
            int(n),
            1.0 - float(e),
            max(0.0, 1.0 - float(e) - 1.96 * float(s)),
            min(1.0, 1.0 - float(e) + 1.96 * float(s)),
        )
        for n, e, s in zip(sizes, error, np.sqrt(np.diag(covariance)), strict=True)
    )

    def variance_of_one(error_there: float, size: float) -> float:
        return _HEAD_VARIANCE * error_there * (1.0 - error_there) / (size * class_fraction)

    forecast, gains = [], []
    here = curves[..., -1]
    value, low, high = spread_of(1.0 - here, 0.0)
    fitted = CurvePoint(int(sizes[-1]), value, max(0.0, low), min(1.0, high))
    for factor in factors:
        there = at(factor)
        size = float(sizes[-1]) * factor
        new = variance_of_one(float(there.ravel() @ weight), size)
        value, low, high = spread_of(1.0 - there, new)
        forecast.append(CurvePoint(round(size), value, max(0.0, low), min(1.0, high)))
        gains.append(spread_of(here - there, new + variance_of_one(now, float(sizes[-1]))))
    return LearningCurve(points, fitted, tuple(forecast), tuple(gains), ())
