"""Compute log-losses of many score sets, each at its best temperature, and fit ensemble weights.

Scores are compared by log-loss after one positive multiplier (inverse temperature) fitted on the same out-of-fold
scores; accuracy is too coarse with a few hundred images. Targets are smoothed by 1 / (N + 2), so that separable scores
get a finite temperature (Platt 1999).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.types.arrays import Float

__all__ = ["best_mixture", "best_multipliers", "log_losses", "log_softmax"]

_LOW, _HIGH = 1e-4, 1e4  # of a multiplier


def log_softmax(logits: Float) -> Float:
    """Return log-probabilities over the last axis."""
    transposed = np.ascontiguousarray(np.moveaxis(logits, -1, 0))  # sums over classes run along memory
    transposed -= transposed.max(axis=0)
    transposed -= np.log(np.exp(transposed).sum(axis=0))
    return np.moveaxis(transposed, 0, -1)


def log_losses(logits: Float, class_ids: NDArray[np.int64]) -> Float:
    """Return (..., N) negative log-probability of the true class for (..., N, K) logits, in nats."""
    return np.asarray(-log_softmax(logits)[..., np.arange(len(class_ids)), class_ids])


def best_multipliers(scores: Float, class_ids: NDArray[np.int64], weights: Float, offset: Float | None = None) -> Float:
    """Return the multiplier with the lowest weighted log-loss of each set of scores.

    The log-loss is convex in the multiplier: Newton steps, none by more than a factor of 4, all sets at once.

    Args:
        scores: (L, N, K) finite.
        class_ids: (N,).
        weights: (N,) non-negative, not all 0.
        offset: (N, K) added after multiplying, e.g. log class frequencies.

    Returns:
        (L,) in [1e-4, 1e4].
    """
    fraction = weights / weights.sum()
    own = _smoothed_target_scores(scores, class_ids, weights) @ fraction  # (L,)
    transposed = np.ascontiguousarray(scores.transpose(2, 0, 1))  # (K, L, N): sums over classes run along memory
    added = 0.0 if offset is None else np.ascontiguousarray(offset.T)[:, None, :]
    t = np.clip(2.0 / (np.sqrt(transposed.var(axis=0).mean(axis=1)) + 1e-12), _LOW, _HIGH)
    for _ in range(30):
        p = t[:, None] * transposed
        p += added
        p -= p.max(axis=0)
        np.exp(p, out=p)
        p /= p.sum(axis=0)
        weighted = p * transposed
        mean = weighted.sum(axis=0)  # (L, N)
        weighted *= transposed
        variance = weighted.sum(axis=0) - mean**2
        slope, curve = mean @ fraction - own, variance @ fraction
        new = np.clip(t - slope / np.maximum(curve, 1e-300), t / 4.0, t * 4.0)
        new = np.clip(new, _LOW, _HIGH)
        change, t = np.abs(new / t - 1.0).max(), new
        if change < 1e-4:
            break
    return np.asarray(t)


def best_mixture(parts: Float, class_ids: NDArray[np.int64], weights: Float, start: Float) -> Float:
    """Fit non-negative ensemble weights of logits by weighted log-loss.

    The problem is convex: projected Newton steps with halving, from `start`.

    Args:
        parts: (M, N, K) finite.
        class_ids: (N,).
        weights: (N,) non-negative, not all 0.
        start: (M,) non-negative.

    Returns:
        (M,) coefficients.
    """
    fraction = weights / weights.sum()
    own = _smoothed_target_scores(parts, class_ids, weights)  # (M, N)

    def loss_and_log_p(coefficients: Float) -> tuple[float, Float]:
        logits = np.tensordot(coefficients, parts, axes=1)
        log_p = log_softmax(logits)
        return float(fraction @ ((logits - log_p)[:, 0] - coefficients @ own)), log_p

    solution = start.astype(np.float64)
    loss, log_p = loss_and_log_p(solution)
    for _ in range(50):
        p = np.exp(log_p)
        mean = np.einsum("nk,mnk->mn", p, parts)
        slope = (mean - own) @ fraction
        free = (solution > 0.0) | (slope < 0.0)
        if not free.any() or np.abs(slope[free]).max() < 1e-7:
            break
        weighted = (p * fraction[:, None])[None] * parts
        curve = np.einsum("mnk,jnk->mj", weighted, parts) - (mean * fraction) @ mean.T
        curve = curve[np.ix_(free, free)]
        curve.flat[:: len(curve) + 1] += 1e-9 + 1e-9 * np.trace(curve)
        step = np.zeros_like(solution)
        step[free] = -np.linalg.solve(curve, slope[free])
        for halving in range(30):
            tried = np.maximum(solution + step * 0.5**halving, 0.0)
            new_loss, new_log_p = loss_and_log_p(tried)
            if new_loss <= loss:
                break
        else:
            break
        gain, solution, loss, log_p = loss - new_loss, tried, new_loss, new_log_p
        if gain < 1e-10:
            break
    return solution


def _smoothed_target_scores(scores: Float, class_ids: NDArray[np.int64], weights: Float) -> Float:
    """Return (..., N) score of the smoothed target: mostly the true class, partly the mean over classes."""
    soft = 1.0 / (np.count_nonzero(weights) + 2.0)
    own = scores[..., np.arange(len(class_ids)), class_ids]
    return np.asarray((1.0 - soft) * own + soft * scores.mean(axis=-1))
