"""Fit ridge and LDA on one feature set with leave-one-out, select their penalties and combine their logits.

Each head uses the penalty with the lowest out-of-fold log-loss at its own temperature; non-negative coefficients of
both heads and of the log class frequencies minimize the out-of-fold log-loss. The sum is again one affine head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.probe.lda import lda_coefficients, log_class_frequencies
from headstart.probe.leave_one_out import out_of_fold
from headstart.probe.losses import best_mixture, best_multipliers, log_losses
from headstart.probe.ridge import ridge_coefficients
from headstart.probe.spectrum import Spectrum
from headstart.types.arrays import Float, Ids

__all__ = [
    "UNSCORABLE_LOSS",
    "PenaltyChoice",
    "PenaltyPaths",
    "ScoredChoice",
    "choose_penalties",
    "leave_out",
    "mixed_coefficients",
    "score_choice",
]

UNSCORABLE_LOSS = 5.0
"""Minimum loss, in nats, of a sample whose class has no other sample to learn from."""


@dataclass(frozen=True)
class PenaltyPaths:
    """Out-of-fold scores of n samples for L penalties.

    Attributes:
        penalties: (L,) as fractions of the trace.
        ridge, lda: (L, n, K) finite.
        log_frequencies: (n, K) finite log class frequencies without the fold.
        class_ids: (n,).
        weights: (n,) sample weights; 0 for unscorable samples.
    """

    penalties: Float
    ridge: Float
    lda: Float
    log_frequencies: Float
    class_ids: Ids
    weights: Float


@dataclass(frozen=True)
class PenaltyChoice:
    """Penalties and ensemble weights with the lowest out-of-fold log-loss.

    Attributes:
        ridge_multipliers, lda_multipliers: (L,) inverse temperature of each head and penalty.
        ridge_index, lda_index: Indices of the selected penalties.
        mix: (3,) coefficients of ridge, LDA (each at its temperature) and the log class frequencies.
        ridge_loss, lda_loss, loss: Mean out-of-fold log-loss of the two heads and of the mixture, nats.
    """

    ridge_multipliers: Float
    lda_multipliers: Float
    ridge_index: int
    lda_index: int
    mix: Float
    ridge_loss: float
    lda_loss: float
    loss: float


@dataclass(frozen=True)
class ScoredChoice:
    """Out-of-fold results of the 2 L candidates and, last, of the mixture.

    Attributes:
        losses: (2 L + 1, n) log-loss.
        hits: (2 L + 1, n) correctness.
        logits: (n, K) of the mixture.
    """

    losses: NDArray[np.floating[Any]]
    hits: NDArray[np.bool_]
    logits: Float


def leave_out(
    spectrum: Spectrum, penalties: Float, folds: Sequence[Ids] | None, unscorable: NDArray[np.bool_]
) -> PenaltyPaths:
    """Score both heads out of fold at all penalties.

    Args:
        spectrum: Spectrum of n selected samples, whole folds.
        penalties: (L,) as fractions of the trace.
        folds: Positions among the n of each fold; None for leave-one-out.
        unscorable: (n,) samples whose class is entirely inside their fold.
    """
    ridge, lda = out_of_fold(spectrum, penalties * max(spectrum.trace, 1e-12), folds)
    log_frequencies = log_class_frequencies(spectrum.class_ids, spectrum.masses, spectrum.weights, folds)
    return PenaltyPaths(
        penalties=penalties,
        ridge=ridge,
        lda=_finite(lda),
        log_frequencies=np.maximum(log_frequencies, np.log(0.5 * spectrum.weights.min() / spectrum.masses.sum())),
        class_ids=spectrum.class_ids,
        weights=np.where(unscorable, 0.0, spectrum.weights),
    )


def choose_penalties(paths: PenaltyPaths) -> PenaltyChoice:
    """Select temperatures, penalties and mixture by weighted out-of-fold log-loss."""
    ids, weights = paths.class_ids, paths.weights
    fraction = weights / weights.sum()
    ridge_multipliers = best_multipliers(paths.ridge, ids, weights)
    lda_multipliers = best_multipliers(paths.lda, ids, weights, paths.log_frequencies)
    ridge_losses = log_losses(ridge_multipliers[:, None, None] * paths.ridge, ids) @ fraction
    lda_losses = log_losses(lda_multipliers[:, None, None] * paths.lda + paths.log_frequencies, ids) @ fraction
    i, j = int(ridge_losses.argmin()), int(lda_losses.argmin())
    parts = np.stack([ridge_multipliers[i] * paths.ridge[i], lda_multipliers[j] * paths.lda[j], paths.log_frequencies])
    mix = best_mixture(parts, ids, weights, np.array([0.5, 0.5, 0.5]))
    loss = float(log_losses(np.tensordot(mix, parts, axes=1), ids) @ fraction)
    return PenaltyChoice(
        ridge_multipliers, lda_multipliers, i, j, mix, float(ridge_losses[i]), float(lda_losses[j]), loss
    )


def score_choice(paths: PenaltyPaths, choice: PenaltyChoice) -> ScoredChoice:
    """Score every candidate on every sample at the selected temperatures; unscorable samples count as wrong."""
    ridge = choice.ridge_multipliers[:, None, None] * paths.ridge
    lda = choice.lda_multipliers[:, None, None] * paths.lda
    mixed = choice.mix[0] * ridge[choice.ridge_index] + choice.mix[1] * lda[choice.lda_index]
    mixed = mixed + choice.mix[2] * paths.log_frequencies
    logits = np.concatenate([ridge, lda + paths.log_frequencies, mixed[None]])  # (2 L + 1, n, K)
    unscorable = np.flatnonzero(paths.weights == 0.0)
    logits[:, unscorable, paths.class_ids[unscorable]] = logits[:, unscorable].min(axis=2) - UNSCORABLE_LOSS
    return ScoredChoice(log_losses(logits, paths.class_ids), logits.argmax(axis=2) == paths.class_ids, logits[-1])


def mixed_coefficients(spectrum: Spectrum, penalties: Float, choice: PenaltyChoice) -> tuple[Float, Float]:
    """Return the mixture fitted on all samples: (K, r) weight on the principal directions, (K,) bias at the mean."""
    scale = max(spectrum.trace, 1e-12)
    i, j = choice.ridge_index, choice.lda_index
    ridge_weight, ridge_bias = ridge_coefficients(spectrum, float(penalties[i]) * scale)
    lda_weight, lda_bias = lda_coefficients(spectrum, float(penalties[j]) * scale)
    a, b = choice.mix[0] * choice.ridge_multipliers[i], choice.mix[1] * choice.lda_multipliers[j]
    log_frequencies = np.log(spectrum.masses / spectrum.masses.sum())
    return a * ridge_weight + b * lda_weight, a * ridge_bias + b * lda_bias + choice.mix[2] * log_frequencies


def _finite(scores: Float) -> Float:
    """Replace -inf (classes held out entirely) by a score below those of all other classes of the row."""
    is_missing = np.isneginf(scores)
    if not is_missing.any():
        return scores
    least = np.where(is_missing, np.inf, scores).min(axis=2, keepdims=True)
    spread = np.where(is_missing, 0.0, scores).std(axis=(1, 2), keepdims=True)
    return np.where(is_missing, least - spread, scores)
