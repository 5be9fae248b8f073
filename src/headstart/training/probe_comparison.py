"""Compare a fine-tuned network with the probe, paired, on held-out images.

The interpolation factor and the temperature are selected by cross-fitting on the other folds, and again in every
bootstrap draw, so that selection does not bias the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from headstart.errors import InvalidEvaluationError
from headstart.types.arrays import Ids
from headstart.types.codes import JsonValue
from headstart.types.records import Features

__all__ = [
    "ALPHAS",
    "INVERSE_TEMPERATURES",
    "PairedLogits",
    "ProbeComparison",
    "compare_to_probe",
    "refuse_finetuned_features",
]

ALPHAS = (0.25, 0.5, 0.75, 1.0)
"""Candidate interpolation factors between the probe (0) and the fine-tuned network (1)."""

INVERSE_TEMPERATURES = (0.35, 0.5, 0.7, 0.85, 1.0, 1.2)
"""Candidate factors on the fine-tuned logits (inverse temperatures)."""

_CONFIDENCE = 0.8  # one-sided
_NUM_DRAWS = 300


@dataclass(frozen=True)
class ProbeComparison:
    """Paired comparison of a fine-tuned network with the probe.

    Attributes:
        gain: Mean of (log-loss of the probe - log-loss of the fine-tuned network), nats; positive is better.
        low, high: Lower and upper end of the one-sided 80 % intervals of the gain.
        accuracy_gain: Difference of accuracy, in [-1, 1].
        accuracy_error: Its standard error.
        alpha: The interpolation factor that is best on all images, 0 for the probe.
        inverse_temperature: The factor on the logits selected with it.
        is_better: Whether the fine-tuned network is significantly better.
        num_samples: Images compared.
        best_gain: The gain at that factor and temperature on the same images. Selection biases it, but it is less noisy
            than `gain` on few images: use it to rank plans, not to evaluate one.
        logits: (N, K) out-of-fold logits of the fine-tuned network at the factor selected on the other folds.
    """

    gain: float
    low: float
    high: float
    accuracy_gain: float
    accuracy_error: float
    alpha: float
    inverse_temperature: float
    is_better: bool
    num_samples: int
    best_gain: float
    logits: NDArray[np.float32]

    @property
    def is_worse(self) -> bool:
        """Return whether the probe is better by the same rule."""
        return self.high < 0.0 and self.accuracy_gain <= self.accuracy_error

    def to_json(self) -> dict[str, JsonValue]:
        """Return all fields except the logits, with `is_worse`."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "logits"}
        return {**numbers, "is_worse": self.is_worse}


@dataclass(frozen=True)
class PairedLogits:
    """Out-of-fold logits of a fine-tuned network and the probe for the same N images.

    Attributes:
        probe: (N, K) of the fold's own probe, temperature applied.
        tuned: (A, N, K) of the network at each of `alphas`.
        class_ids: (N,) labels.
        folds: (N,) fold of each image; one fold is split into halves (groups kept whole).
        groups: (N,) group ids; groups are resampled as a whole.
        alphas: The A interpolation factors; (1,) without interpolation.
        sample_weights: (N,) weights, where classes are weighted.
    """

    probe: NDArray[np.floating]
    tuned: NDArray[np.floating]
    class_ids: Ids
    folds: Ids
    groups: Ids | None = None
    alphas: Sequence[float] = ALPHAS
    sample_weights: NDArray[np.floating] | None = None


def compare_to_probe(paired: PairedLogits, *, is_probe_allowed: bool = True, seed: int = 0) -> ProbeComparison:
    """Compare out-of-fold logits of a fine-tuned network and the probe.

    Args:
        paired: The logits.
        is_probe_allowed: Whether factor 0 is a candidate; False for a requested model.
        seed: Random seed of halves and bootstrap.
    """
    class_ids, alphas, num = paired.class_ids, paired.alphas, len(paired.class_ids)
    rng = np.random.default_rng(seed)
    units = np.arange(num) if paired.groups is None else np.unique(paired.groups, return_inverse=True)[1]
    weights = np.ones(num) if paired.sample_weights is None else np.asarray(paired.sample_weights, dtype=np.float64)
    parts = np.unique(paired.folds, return_inverse=True)[1]
    if parts.max() == 0:  # one fold: two halves
        side = rng.permutation(np.arange(units.max() + 1) % 2)
        parts = side[units]
    candidates = [(0, 1.0), *((a + 1, m) for a in range(len(alphas)) for m in INVERSE_TEMPERATURES)]
    every = [np.asarray(paired.probe, dtype=np.float64), *np.asarray(paired.tuned, dtype=np.float64)]
    losses = np.stack([_losses(m * every[a], class_ids) for a, m in candidates])  # (C, N)
    hits = np.stack([z.argmax(axis=1) == class_ids for z in every])  # (A + 1, N)

    first = 0 if is_probe_allowed else 1
    (observed,), (choice,) = _gains(np.ones((1, num)), losses, weights, parts, first)
    num_units = int(units.max()) + 1
    draws = rng.multinomial(num_units, np.full(num_units, 1.0 / num_units), size=_NUM_DRAWS)[:, units]
    drawn, _ = _gains(draws.astype(np.float64), losses, weights, parts, first)
    low, high = np.quantile(drawn, (1.0 - _CONFIDENCE, _CONFIDENCE))
    at = np.array([candidates[c][0] for c in choice])[parts]
    scale = np.array([candidates[c][1] for c in choice])[parts]
    logits = np.stack(every)[at, np.arange(num)] * scale[:, None]
    difference = hits[at, np.arange(num)].astype(np.float64) - hits[0]
    by_unit = np.bincount(units, weights=difference - difference.mean(), minlength=num_units)
    error = float(np.sqrt(num_units / max(num_units - 1, 1) * (by_unit**2).sum()) / num)
    pooled = losses @ weights
    best = first + int(pooled[first:].argmin())
    accuracy_gain = float(difference.mean())
    return ProbeComparison(
        gain=float(observed),
        low=float(low),
        high=float(high),
        accuracy_gain=accuracy_gain,
        accuracy_error=error,
        alpha=0.0 if candidates[best][0] == 0 else float(alphas[candidates[best][0] - 1]),
        inverse_temperature=candidates[best][1],
        is_better=bool(low > 0.0 and accuracy_gain >= -error and candidates[best][0] > 0),
        num_samples=num,
        best_gain=float((pooled[0] - pooled[best]) / max(float(weights.sum()), 1e-12)),
        logits=logits.astype(np.float32),
    )


def _gains(
    counts: NDArray[np.float64], losses: NDArray[np.float64], weights: NDArray[np.float64], parts: Ids, first: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (B,) gains over candidate 0, each part with the candidate that is best on the others, and (B, F) choices.

    Args:
        counts: (B, N) how often each draw has each image.
        losses: (C, N) log-losses of the candidates.
        weights: (N,) of the images.
        parts: (N,) part of each image, 0 .. F - 1.
        first: First candidate that may be chosen.
    """
    weighted = counts * weights
    num_parts = int(parts.max()) + 1
    per_part = np.stack([(weighted * (parts == f)) @ losses.T for f in range(num_parts)])  # (F, B, C)
    total = per_part.sum(axis=0)  # (B, C)
    choice = np.stack([first + (total - own)[:, first:].argmin(axis=1) for own in per_part], axis=1)  # (B, F)
    rows = np.arange(len(counts))
    tuned = sum(per_part[f][rows, choice[:, f]] for f in range(num_parts))
    return (total[:, 0] - tuned) / np.maximum(weighted.sum(axis=1), 1e-12), choice


def refuse_finetuned_features(features: Features, index: Ids) -> None:
    """Raise an error for leave-one-out on images that the backbone was fine-tuned on, which would bias the score.

    Raises:
        InvalidEvaluationError: At least one image was used for fine-tuning.
    """
    known = sum(features.digests[i] in features.tuned_on for i in index)
    if known:
        raise InvalidEvaluationError(
            f"{known:,} of {len(index):,} images were used to fine-tune this network; leave-one-out of the head alone "
            "would be biased.",
            hint="use --folds, which fine-tunes a network per fold, or other images",
        )


def _losses(logits: NDArray[np.float64], class_ids: Ids) -> NDArray[np.float64]:
    z = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), class_ids])
