"""Log-loss of many sets of scores at once, each at its own best temperature.

The decision: scores are compared by log-loss after one positive multiplier (an inverse temperature) that
is fitted on the same out-of-fold scores; accuracy is too coarse to choose by on a few hundred pictures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.heads.spectrum import Float

__all__ = ["best_multipliers", "log_losses", "log_softmax"]

_LOW, _HIGH = np.log(1e-3), np.log(1e3)


def log_softmax(logits: Float) -> Float:
    """Log-probabilities over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def log_losses(logits: Float, class_ids: NDArray[np.int64]) -> Float:
    """Negative log-probability of the true class, (..., N) for (..., N, K) logits, nats."""
    return np.asarray(-log_softmax(logits)[..., np.arange(len(class_ids)), class_ids])


def best_multipliers(
    scores: Float, class_ids: NDArray[np.int64], weights: Float, offset: Float | float = 0.0, num_steps: int = 30
) -> Float:
    """The multiplier of each set of scores with the least weighted log-loss.

    Safeguarded Newton steps on the logarithm of the multiplier, all sets at once.

    Args:
        scores: (L, N, K).
        class_ids: (N,).
        weights: (N,) non-negative, not all 0.
        offset: Added after multiplying, e.g. log priors (K,).
        num_steps: Upper bound on steps.

    Returns:
        (L,) in [1e-3, 1e3].
    """
    rows = np.arange(len(class_ids))
    share = weights / weights.sum()
    own = scores[:, rows, class_ids]  # (L, N)
    spread = np.sqrt(np.mean(scores**2, axis=(1, 2))) + 1e-12
    log_t = np.clip(np.log(2.0 / spread), _LOW, _HIGH)
    for _ in range(num_steps):
        t = np.exp(log_t)
        p = np.exp(log_softmax(t[:, None, None] * scores + offset))
        mean = np.einsum("lnk,lnk->ln", p, scores)
        variance = np.einsum("lnk,lnk->ln", p, scores**2) - mean**2
        slope = t * ((mean - own) @ share)  # derivative in log t
        curve = t**2 * (variance @ share) + np.abs(slope)
        step = np.clip(-slope / np.maximum(curve, 1e-12), -1.5, 1.5)
        log_t = np.clip(log_t + step, _LOW, _HIGH)
        if np.abs(step).max() < 1e-5:
            break
    return np.asarray(np.exp(log_t))
