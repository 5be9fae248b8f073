"""Define the rules of a runtime for OOD detection and prediction sets, read from JSON.

Several false-positive rates and coverages are stored; a requested value between two of them uses the more
conservative one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.types.arrays import Float

__all__ = ["COVERAGES", "OOD_FPRS", "OodRule", "PredictionSetRule"]


OOD_FPRS = (0.001, 0.002, 0.005, *(i / 100 for i in range(1, 21)), 0.25, 0.3, 0.4, 0.5)
"""False-positive rates with a stored threshold."""

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
"""Coverages with stored thresholds."""

_EPS = 1e-12
_MAX_PROBABILITY = 1.0 - 1e-5  # limit of float32 resolution in a runtime


@dataclass(frozen=True)
class OodRule:
    """OOD score from two outputs of a graph, with its thresholds.

        u = standardized log(-log(largest probability)),  v = standardized log(residual_norm)
        ood_score = u + (max(0, v + 1) / 2)^2,  or u alone without a residual norm

    Attributes:
        ood_center, ood_scale: Of log(-log(largest probability)) of known images, out of fold.
        residual_center, residual_scale: Center and scale of log(residual_norm) of known images, out of fold, or None.
        ood_fpr: Default target false-positive rate.
        thresholds: (false-positive rate, threshold) pairs by ascending rate; an OOD score above the threshold is OOD.
    """

    ood_center: float
    ood_scale: float
    residual_center: float | None
    residual_scale: float | None
    ood_fpr: float
    thresholds: tuple[tuple[float, float], ...]

    @property
    def has_residual_norm(self) -> bool:
        """Whether the graph's output `residual_norm` is needed."""
        return self.residual_center is not None

    def combine(self, largest_probability: Float, residual_norm: NDArray[np.floating[Any]] | None) -> Float:
        """Return (N,) OOD scores; about 0 in distribution.

        Args:
            largest_probability: (N,) of the head.
            residual_norm: (N,) squared residual norm of the normalized row; None without one.
        """
        u = (log_ood_score(largest_probability) - self.ood_center) / self.ood_scale
        if self.residual_center is None or self.residual_scale is None or residual_norm is None:
            return u
        off = np.log(np.maximum(np.asarray(residual_norm, dtype=np.float64), _EPS))
        return add_up(u, (off - self.residual_center) / self.residual_scale)

    def threshold(self, ood_fpr: float | None = None) -> float:
        """Return the OOD threshold; infinite with too few images.

        Args:
            ood_fpr: Target false-positive rate; None uses the default.

        Raises:
            ValueError: The rate is not strictly between 0 and 1.
        """
        rate = self.ood_fpr if ood_fpr is None else ood_fpr
        if not 0.0 < rate < 1.0:
            raise ValueError(f"the OOD false-positive rate must be between 0 and 1 (exclusive), got {rate}")
        return min((t for stored, t in self.thresholds if stored <= rate + 1e-9), default=math.inf)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "ood_center": self.ood_center,
            "ood_scale": self.ood_scale,
            "residual_center": self.residual_center,
            "residual_scale": self.residual_scale,
            "ood_fpr": self.ood_fpr,
            "thresholds": [list(pair) for pair in self.thresholds],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> OodRule:
        """Read the output of `to_json`.

        Raises:
            ValueError, TypeError, KeyError: A value is missing or invalid.
        """
        known = _number(value["ood_center"]), _number(value["ood_scale"])
        rest = None
        if value["residual_center"] is not None or value["residual_scale"] is not None:
            rest = _number(value["residual_center"]), _number(value["residual_scale"])
        pairs = tuple((_fraction(rate), _number(threshold)) for rate, threshold in value["thresholds"])
        if known[1] <= 0 or (rest is not None and rest[1] <= 0) or list(pairs) != sorted(pairs, key=lambda p: p[0]):
            raise ValueError("the scales of `ood` must be positive and its rates ascending")
        center, scale = rest or (None, None)
        return cls(*known, center, scale, _fraction(value["ood_fpr"]), pairs)


@dataclass(frozen=True)
class PredictionSetRule:
    """Thresholds of prediction sets.

    Attributes:
        coverage: Default target coverage.
        thresholds: (K,) by coverage, ascending: a class is in the set if its probability is at least its
            threshold; 0 always includes it.
        is_guaranteed: Whether the thresholds come from a separate calibration split.
    """

    coverage: float
    thresholds: tuple[tuple[float, Float], ...]
    is_guaranteed: bool = False

    def at(self, coverage: float | None = None) -> tuple[float, Float]:
        """Return the smallest stored coverage of at least the requested one, and its (K,) thresholds.

        Raises:
            ValueError: No stored coverage is that large, or the coverage is not strictly between 0 and 1.
        """
        requested = self.coverage if coverage is None else coverage
        if not 0.0 < requested < 1.0:
            raise ValueError(f"coverage must be between 0 and 1 (exclusive), got {requested}")
        pair = next((p for p in self.thresholds if p[0] >= requested - 1e-9), None)
        if pair is None:
            raise ValueError(f"coverage must be at most {self.thresholds[-1][0]:g}, got {requested:g}")
        return pair

    def sets(self, probabilities: NDArray[np.floating[Any]], coverage: float | None = None) -> NDArray[np.bool_]:
        """Return (N, K) membership of the prediction sets; an empty row means that no class fits."""
        return np.asarray(probabilities >= self.at(coverage)[1], dtype=np.bool_)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; thresholds by coverage, to seven digits."""
        return {
            "coverage": self.coverage,
            "is_guaranteed": self.is_guaranteed,
            "thresholds": {f"{c:g}": [float(f"{v:.7g}") for v in row] for c, row in self.thresholds},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], num_classes: int) -> PredictionSetRule:
        """Read the output of `to_json`.

        Raises:
            ValueError, TypeError, KeyError: A value is missing or invalid.
        """
        rows = []
        for coverage, thresholds in dict(value["thresholds"]).items():
            if not isinstance(thresholds, Sequence) or len(thresholds) != num_classes:
                raise ValueError("`prediction_sets` needs one threshold per class")
            rows.append((_fraction(float(coverage)), np.array([_number(v) for v in thresholds], dtype=np.float64)))
        rows.sort(key=lambda pair: pair[0])
        if not rows:
            raise ValueError("`prediction_sets` has no thresholds")
        return cls(_fraction(value["coverage"]), tuple(rows), value["is_guaranteed"] is True)


def log_ood_score(largest_probability: Float) -> Float:
    """Return log(-log p), which spreads out probabilities close to 1."""
    largest = np.clip(largest_probability, _EPS, _MAX_PROBABILITY)
    return np.asarray(np.log(-np.log(largest)), dtype=np.float64)


def add_up(u: Float, v: Float) -> Float:
    """Combine standardized uncertainty and standardized log residual norm."""
    return np.asarray(u + (np.maximum(0.0, v + 1.0) / 2.0) ** 2, dtype=np.float64)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _fraction(value: Any) -> float:
    number = _number(value)
    if not 0.0 < number < 1.0:
        raise ValueError(f"{value!r} is not between 0 and 1 (exclusive)")
    return number
