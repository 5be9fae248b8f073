"""Whether the tuned network is better than the probe, by paired evidence on images neither has seen.

How far to go from the probe towards the tuned network (and at which temperature) is
chosen on the other folds, never on the images it is tested on, and is chosen again in every bootstrap
draw; so a difference that is only noise does not pass by being looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from headstart.errors import InvalidEvaluationError
from headstart.records import Features
from headstart.types import JsonValue

__all__ = ["MULTIPLIERS", "SHARES", "ProbeComparison", "compare_to_probe", "refuse_finetuned_features"]

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the way from the probe to the tuned network that are tried; 0 is the probe."""

MULTIPLIERS = (0.35, 0.5, 0.7, 0.85, 1.0, 1.2)
"""Factors on the tuned logits (inverse temperatures) that are tried."""

_CONFIDENCE = 0.8  # one-sided
_NUM_DRAWS = 300
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class ProbeComparison:
    """The paired comparison of tuned network and probe.

    Attributes:
        gain: Mean of (log-loss of the probe - log-loss of the tuned network), nats; positive is better.
        low, high: Lower and upper end of the one-sided 80 % intervals of the gain.
        accuracy_gain: Difference of accuracy, in [-1, 1].
        accuracy_error: Its standard error.
        share: The share of the way that is best on all images, 0 for the probe.
        multiplier: The factor on the logits that goes with it.
        is_better: Whether the tuned network is to be taken.
        num_samples: Images compared.
        best_gain: The gain at that share and factor on these same images; flattered by the choice, and steadier
            than `gain` where images are few: to rank ways of training, never to judge one.
        logits: (N, K) out-of-fold logits of the tuned network at the share chosen on the other folds.
    """

    gain: float
    low: float
    high: float
    accuracy_gain: float
    accuracy_error: float
    share: float
    multiplier: float
    is_better: bool
    num_samples: int
    best_gain: float
    logits: NDArray[np.float32]

    @property
    def is_worse(self) -> bool:
        """Whether the probe is better by the same rule."""
        return self.high < 0.0 and self.accuracy_gain <= self.accuracy_error

    def to_json(self) -> dict[str, JsonValue]:
        """Return everything but the logits, with `is_worse`."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "logits"}
        return {**numbers, "is_worse": self.is_worse}


def compare_to_probe(
    probe_logits: NDArray[np.floating],
    tuned_logits: NDArray[np.floating],
    class_ids: Ids,
    folds: Ids,
    *,
    groups: Ids | None = None,
    shares: Sequence[float] = SHARES,
    sample_weights: NDArray[np.floating] | None = None,
    is_probe_allowed: bool = True,
    seed: int = 0,
) -> ProbeComparison:
    """Compare out-of-fold logits.

    Args:
        probe_logits: (N, K) of the fold's own probe, temperature applied.
        tuned_logits: (A, N, K) of the network at each of `shares`.
        class_ids: (N,).
        folds: (N,) fold of each image; with one fold, its halves (groups kept whole) take the place of folds.
        groups: (N,) groups, drawn whole.
        shares: The A shares; the last one is 1 where there is no interpolation.
        sample_weights: (N,) weights, where classes are weighted.
        is_probe_allowed: Whether "do not move at all" is among the choices; False judges a model that is asked for.
        seed: Of halves and draws.
    """
    num = len(class_ids)
    rng = np.random.default_rng(seed)
    units = np.arange(num) if groups is None else np.unique(groups, return_inverse=True)[1]
    weights = np.ones(num) if sample_weights is None else np.asarray(sample_weights, dtype=np.float64)
    parts = np.unique(folds, return_inverse=True)[1]
    if parts.max() == 0:  # one fold: two halves
        side = rng.permutation(np.arange(units.max() + 1) % 2)
        parts = side[units]
    tried = [(0, 1.0), *((a + 1, m) for a in range(len(shares)) for m in MULTIPLIERS)]
    every = [np.asarray(probe_logits, dtype=np.float64), *np.asarray(tuned_logits, dtype=np.float64)]
    losses = np.stack([_losses(m * every[a], class_ids) for a, m in tried])  # (C, N)
    hits = np.stack([z.argmax(axis=1) == class_ids for z in every])  # (A + 1, N)

    first = 0 if is_probe_allowed else 1
    num_parts = int(parts.max()) + 1
    inside = np.stack([parts == f for f in range(num_parts)])  # (F, N)

    def gain(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return (B,) gains and (B, F) choices of (B, N) draw counts."""
        weighted = counts * weights
        per_part = np.stack([(weighted * i) @ losses.T for i in inside])  # (F, B, C)
        total = per_part.sum(axis=0)  # (B, C)
        choice = np.stack([first + (total - own)[:, first:].argmin(axis=1) for own in per_part], axis=1)  # (B, F)
        rows = np.arange(len(counts))
        tuned = sum(per_part[f][rows, choice[:, f]] for f in range(num_parts))
        return (total[:, 0] - tuned) / np.maximum(weighted.sum(axis=1), 1e-12), choice

    (observed,), (choice,) = gain(np.ones((1, num)))
    num_units = int(units.max()) + 1
    draws = rng.multinomial(num_units, np.full(num_units, 1.0 / num_units), size=_NUM_DRAWS)[:, units]
    low, high = np.quantile(gain(draws.astype(np.float64))[0], (1.0 - _CONFIDENCE, _CONFIDENCE))
    at = np.array([tried[choice[f]][0] for f in range(num_parts)])[parts]
    scale = np.array([tried[choice[f]][1] for f in range(num_parts)])[parts]
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
        share=0.0 if tried[best][0] == 0 else float(shares[tried[best][0] - 1]),
        multiplier=tried[best][1],
        is_better=bool(low > 0.0 and accuracy_gain >= -error and tried[best][0] > 0),
        num_samples=num,
        best_gain=float((pooled[0] - pooled[best]) / max(float(weights.sum()), 1e-12)),
        logits=logits.astype(np.float32),
    )


def refuse_finetuned_features(features: Features, index: Ids) -> None:
    """Refuse leave-one-out on images that the backbone itself was tuned on: every score would be flattered.

    Raises:
        InvalidEvaluationError: One of the images was tuned on.
    """
    known = sum(features.digests[i] in features.tuned_on for i in index)
    if known:
        raise InvalidEvaluationError(
            f"{known:,} of {len(index):,} images were used to tune this network, so leaving one out of the head "
            "alone would not leave it out of the model; the score would be too high.",
            hint="score with --folds, which tunes a network for each fold, or on images it has not seen",
        )


def _losses(logits: NDArray[np.float64], class_ids: Ids) -> NDArray[np.float64]:
    z = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), class_ids])
