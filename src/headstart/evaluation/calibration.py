"""Measure and improve the calibration of probabilities.

A temperature is fitted on out-of-fold logits; vector scaling (a scale and a shift per class) replaces it only if
cross-fitting shows a significant gain. Both are affine in the logits and fold exactly into a linear head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.folds import draw_folds
from headstart.evaluation.intervals import wilson_interval
from headstart.evaluation.softmax import log_softmax, softmax
from headstart.types.arrays import Float

__all__ = [
    "ESTIMATOR",
    "Calibration",
    "CalibrationError",
    "ReliabilityBin",
    "brier",
    "calibrate",
    "calibration_error",
    "fit_temperature",
    "fit_vector_scaling",
    "reliability_diagram",
]

ESTIMATOR = "debiased root-mean-square calibration error of the top class, equal-mass bins (Kumar, Liang, Ma 2019)"
SAMPLES_PER_PARAMETER = 20
"""Minimum samples per parameter (2 K) of vector scaling."""

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """Difference of confidence and accuracy, in [0, 1].

    Attributes:
        value: Debiased, by `ESTIMATOR`.
        low, high: 95 % CI.
        plain: The usual expected calibration error, biased upwards with few samples.
        num_bins: Bins used.
    """

    value: float
    low: float
    high: float
    plain: float
    num_bins: int


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin of a reliability diagram; `low` and `high` are the 95 % CI of `accuracy`."""

    confidence: float
    accuracy: float
    low: float
    high: float
    num_samples: int


@dataclass(frozen=True)
class Calibration:
    """Selected calibration map `scale * logits + shift`, with the losses behind it.

    Attributes:
        kind: `none`, `temperature` or `vector`.
        scale: (K,) positive.
        shift: (K,).
        log_loss: Cross-fitted mean log-loss of each candidate, in nats.
        logits: (N, K) calibrated out of fold: each row by a map fitted without its fold.
    """

    kind: Literal["none", "temperature", "vector"]
    scale: Float
    shift: Float
    log_loss: dict[str, float]
    logits: Float

    def apply(self, logits: NDArray[np.floating[Any]]) -> Float:
        """Calibrate logits (N, K)."""
        return np.asarray(logits, dtype=np.float64) * self.scale + self.shift


def brier(probabilities: Float, class_ids: NDArray[np.int64]) -> float:
    """Compute the Brier score, in [0, 2] (Brier 1950)."""
    one_hot = np.eye(probabilities.shape[1])[class_ids]
    return float(((probabilities - one_hot) ** 2).sum(axis=1).mean())


def calibration_error(probabilities: Float, class_ids: NDArray[np.int64], *, effect: float = 1.0) -> CalibrationError:
    """Compute the calibration error of the predicted class.

    Args:
        probabilities: (N, K).
        class_ids: (N,) true classes.
        effect: Design effect of groups: samples per independent sample.

    Source: Bröcker (2012); Kumar, Liang and Ma (2019), the root of whose debiased square is used. On
    simulated heads its bias was below 0.016 at n = 500, that of the plain error up to 0.054.
    """
    confidence, hits = _top(probabilities, class_ids)
    bins = _equal_mass(confidence)
    fraction = np.array([len(b) for b in bins]) / len(hits)
    gap = np.array([confidence[b].mean() - hits[b].mean() for b in bins])
    noise = np.array([hits[b].var(ddof=1) / len(b) if len(b) > 1 else 0.25 for b in bins]) * effect
    square = float((fraction * (gap**2 - noise)).sum())
    # Variance of the square of a normal variable with mean `gap`; noise is subtracted from the squared gaps.
    spread = math.sqrt(float((fraction**2 * (4 * np.maximum(gap**2 - noise, 0.0) * noise + 2 * noise**2)).sum()))
    return CalibrationError(
        value=math.sqrt(max(0.0, square)),
        low=math.sqrt(max(0.0, square - Z95 * spread)),
        high=min(1.0, math.sqrt(max(0.0, square + Z95 * spread))),
        plain=float((fraction * abs(gap)).sum()),
        num_bins=len(bins),
    )


def reliability_diagram(probabilities: Float, class_ids: NDArray[np.int64]) -> tuple[ReliabilityBin, ...]:
    """Return bins with equal numbers of samples, by ascending confidence."""
    confidence, hits = _top(probabilities, class_ids)
    bars = []
    for b in _equal_mass(confidence):
        accuracy = float(hits[b].mean())
        bars.append(ReliabilityBin(float(confidence[b].mean()), accuracy, *wilson_interval(accuracy, len(b)), len(b)))
    return tuple(bars)


def fit_temperature(logits: NDArray[np.floating[Any]], class_ids: NDArray[np.int64]) -> float:
    """Fit the temperature in [0.05, 20] with the lowest log-loss.

    Source: Guo et al. (2017).
    """
    z = np.asarray(logits, dtype=np.float64)

    def slope(multiplier: float) -> float:
        """Derivative of the log-loss, which is convex in the multiplier 1 / temperature."""
        p = softmax(multiplier * z)
        return float(((p * z).sum(axis=1) - z[np.arange(len(z)), class_ids]).mean())

    low, high = 1 / 20, 20.0
    for _ in range(34):
        middle = math.sqrt(low * high)
        if slope(middle) > 0:
            high = middle
        else:
            low = middle
    return 1.0 / math.sqrt(low * high)


def fit_vector_scaling(logits: NDArray[np.floating[Any]], class_ids: NDArray[np.int64]) -> tuple[Float, Float]:
    """Fit scale (K,) > 0 and shift (K,) of the logits by log-loss.

    A penalty on the relative scale and the shift, of the weight of one sample, pulls towards one temperature.

    Args:
        logits: (N, K).
        class_ids: (N,).

    Source: Guo et al. (2017); Newton's method, K up to a few hundred.
    """
    z = np.asarray(logits, dtype=np.float64)
    num, num_classes = z.shape
    start = 1.0 / fit_temperature(z, class_ids)
    scale, shift = np.full(num_classes, start), np.zeros(num_classes)
    one_hot = np.eye(num_classes)[class_ids]
    ridge = np.repeat([1.0 / start**2, 1.0], num_classes)

    def objective(scale: Float, shift: Float) -> float:
        fit = -float((log_softmax(z * scale + shift) * one_hot).sum())
        away = np.concatenate([scale - start, shift])
        return fit + 0.5 * float((ridge * away**2).sum())

    value = objective(scale, shift)
    for _ in range(30):
        p = softmax(z * scale + shift)
        residual = p - one_hot
        gradient = np.concatenate([(residual * z).sum(axis=0), residual.sum(axis=0)])
        gradient += ridge * np.concatenate([scale - start, shift])
        pz = p * z
        corner = -(pz.T @ p) + np.diag(pz.sum(axis=0))
        hessian = np.block(
            [[-(pz.T @ pz) + np.diag((pz * z).sum(axis=0)), corner], [corner.T, -(p.T @ p) + np.diag(p.sum(axis=0))]]
        )
        step = np.linalg.solve(hessian + np.diag(ridge), gradient)
        length = 1.0
        while length > 1e-6:
            new_scale = scale - length * step[:num_classes]
            new_shift = shift - length * step[num_classes:]
            if new_scale.min() > 0.0:
                new_value = objective(new_scale, new_shift)
                if new_value <= value:
                    break
            length *= 0.5
        else:
            break
        gain, scale, shift, value = value - new_value, new_scale, new_shift, new_value
        if gain < 1e-9 * num:
            break
    return scale, shift


def calibrate(
    logits: NDArray[np.floating[Any]],
    class_ids: NDArray[np.int64],
    *,
    groups: NDArray[np.int64] | None = None,
    num_folds: int = 10,
    seed: int = 0,
) -> Calibration:
    """Select no calibration, temperature or vector scaling by cross-fitted log-loss.

    Args:
        logits: (N, K) out-of-fold logits.
        class_ids: (N,).
        groups: (N,) groups kept whole in the folds.
        num_folds: Folds of the cross-fitting.
        seed: Random seed of the folds.
    """
    z = np.asarray(logits, dtype=np.float64)
    num, num_classes = z.shape
    fold = draw_folds(class_ids, num_folds, groups=groups, seed=seed)
    ones, zeros = np.ones(num_classes), np.zeros(num_classes)

    def temperature(a: Float, b: NDArray[np.int64]) -> tuple[Float, Float]:
        return ones / fit_temperature(a, b), zeros

    kinds: dict[str, Callable[[Float, NDArray[np.int64]], tuple[Float, Float]]] = {
        "none": lambda a, b: (ones, zeros),
        "temperature": temperature,
    }
    is_vector_tried = num >= SAMPLES_PER_PARAMETER * 2 * num_classes and num_classes <= 300
    if is_vector_tried:
        kinds["vector"] = fit_vector_scaling
    fitted: dict[str, Float] = {}
    losses: dict[str, Float] = {}
    for kind, fit in kinds.items():
        out = np.empty_like(z)
        for f in range(int(fold.max()) + 1):
            inside = fold != f
            scale, shift = fit(z[inside], class_ids[inside])
            out[~inside] = z[~inside] * scale + shift
        fitted[kind] = out
        losses[kind] = -log_softmax(out)[np.arange(num), class_ids]

    chosen: Literal["none", "temperature", "vector"] = "temperature"
    if losses["none"].mean() <= losses["temperature"].mean():
        chosen = "none"
    if is_vector_tried:
        gain = losses[chosen] - losses["vector"]
        error = float(gain.std(ddof=1)) / math.sqrt(num)
        if gain.mean() > 2 * error:
            chosen = "vector"
    scale, shift = kinds[chosen](z, class_ids)
    return Calibration(
        kind=chosen,
        scale=scale,
        shift=shift,
        log_loss={kind: float(value.mean()) for kind, value in losses.items()},
        logits=fitted[chosen],
    )


def _top(probabilities: Float, class_ids: NDArray[np.int64]) -> tuple[Float, NDArray[np.bool_]]:
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == class_ids


def _equal_mass(confidence: Float) -> list[NDArray[np.int64]]:
    """Return the positions of the samples in each bin: one bin per 50 samples, 5 to 15; none is empty."""
    num = len(confidence)
    num_bins = min(15, max(5, num // 50))
    return np.array_split(np.argsort(confidence, kind="stable"), max(1, min(num_bins, num)))
