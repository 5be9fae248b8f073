"""What a runtime needs to call a picture unknown and to name a set of classes: a few numbers, read from JSON.

The one decision: several shares and coverages are kept, so that another one can be asked for when predicting;
one that lies between two of them is served by the more careful of the two, never by the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["COVERAGES", "REJECTS", "NoveltyRule", "SetRule"]

Float = NDArray[np.float64]

REJECTS = (0.001, 0.002, 0.005, *(i / 100 for i in range(1, 21)), 0.25, 0.3, 0.4, 0.5)
"""Shares of known pictures that a runtime can be asked to refuse at most."""

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
"""Coverages that a runtime can be asked for."""

_TINY = 1e-12
_SUREST = 1.0 - 1e-5  # a runtime's float32 tells no more apart above it, and nothing is lost by it


@dataclass(frozen=True)
class NoveltyRule:
    """Novelty of a picture from two numbers that a graph gives, and from where on it counts as unknown.

        u = standardised log(-log(largest probability)),  v = standardised log(rest)
        novelty = u + (max(0, v + 1) / 2)^2,  or u alone where there is no rest

    Attributes:
        doubt_centre, doubt_scale: Of log(-log(largest probability)) of known pictures, out of fold.
        rest_centre, rest_scale: Of log(rest) of known pictures, out of fold; None where a head gives no rest.
        reject: The share of known pictures that may be refused, unless another is asked for.
        thresholds: (share, threshold) pairs, shares rising; a novelty above the threshold is unknown.
    """

    doubt_centre: float
    doubt_scale: float
    rest_centre: float | None
    rest_scale: float | None
    reject: float
    thresholds: tuple[tuple[float, float], ...]

    @property
    def has_rest(self) -> bool:
        """Whether the graph's output `rest` is needed."""
        return self.rest_centre is not None

    def combine(self, largest_probability: Float, rest: NDArray[np.floating[Any]] | None) -> Float:
        """(N,) novelty; about 0 for known pictures, more is stranger.

        Args:
            largest_probability: (N,) of the head.
            rest: (N,) squared length of the normalised row off the leading directions; None without one.
        """
        u = (log_doubt(largest_probability) - self.doubt_centre) / self.doubt_scale
        if self.rest_centre is None or self.rest_scale is None or rest is None:
            return u
        off = np.log(np.maximum(np.asarray(rest, dtype=np.float64), _TINY))
        return add_up(u, (off - self.rest_centre) / self.rest_scale)

    def threshold(self, reject: float | None = None) -> float:
        """The novelty above which a picture counts as unknown; infinite where there were too few pictures for one.

        Args:
            reject: Share of known pictures that may be refused at most; None takes the rule's own.

        Raises:
            ValueError: The share is not strictly between 0 and 1.
        """
        wanted = self.reject if reject is None else reject
        if not 0.0 < wanted < 1.0:
            raise ValueError(f"the share of known pictures to refuse lies strictly between 0 and 1, got {wanted}")
        return min((t for share, t in self.thresholds if share <= wanted + 1e-9), default=math.inf)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "doubt_centre": self.doubt_centre,
            "doubt_scale": self.doubt_scale,
            "rest_centre": self.rest_centre,
            "rest_scale": self.rest_scale,
            "reject": self.reject,
            "thresholds": [list(pair) for pair in self.thresholds],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NoveltyRule:
        """Reads what `to_json` gave.

        Raises:
            ValueError, TypeError, KeyError: A value is missing or does not fit: it comes from outside.
        """
        doubt = _number(value["doubt_centre"]), _number(value["doubt_scale"])
        rest = None
        if value["rest_centre"] is not None or value["rest_scale"] is not None:
            rest = _number(value["rest_centre"]), _number(value["rest_scale"])
        pairs = tuple((_share(share), _number(threshold)) for share, threshold in value["thresholds"])
        if doubt[1] <= 0 or (rest is not None and rest[1] <= 0) or list(pairs) != sorted(pairs, key=lambda p: p[0]):
            raise ValueError("the scales of `novelty` are above 0 and its shares rise")
        centre, scale = rest or (None, None)
        return cls(*doubt, centre, scale, _share(value["reject"]), pairs)


@dataclass(frozen=True)
class SetRule:
    """Floors that turn probabilities into sets of classes.

    Attributes:
        coverage: The share of pictures whose set shall hold the true class, unless another is asked for.
        floors: (K,) by coverage, coverages rising: a class is in the set where its probability is at least its
            floor; 0 lets it in always.
        is_guaranteed: Whether the floors come from a split that was used for nothing else.
    """

    coverage: float
    floors: tuple[tuple[float, Float], ...]
    is_guaranteed: bool = False

    def at(self, coverage: float | None = None) -> tuple[float, Float]:
        """The smallest stored coverage that is at least the wanted one, and its (K,) floors.

        Raises:
            ValueError: None is that large, or the coverage is not strictly between 0 and 1.
        """
        wanted = self.coverage if coverage is None else coverage
        if not 0.0 < wanted < 1.0:
            raise ValueError(f"a coverage lies strictly between 0 and 1, got {wanted}")
        found = next((pair for pair in self.floors if pair[0] >= wanted - 1e-9), None)
        if found is None:
            raise ValueError(f"the largest coverage that was kept is {self.floors[-1][0]:g}, got {wanted:g}")
        return found

    def sets(self, probabilities: NDArray[np.floating[Any]], coverage: float | None = None) -> NDArray[np.bool_]:
        """(N, K) which classes are in the set of each picture; a row without any means that no class fits."""
        return np.asarray(probabilities >= self.at(coverage)[1], dtype=np.bool_)

    def to_json(self) -> dict[str, Any]:
        """Plain values; floors by coverage as text, to seven digits."""
        return {
            "coverage": self.coverage,
            "is_guaranteed": self.is_guaranteed,
            "floors": {f"{c:g}": [float(f"{v:.7g}") for v in row] for c, row in self.floors},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], num_classes: int) -> SetRule:
        """Reads what `to_json` gave.

        Raises:
            ValueError, TypeError, KeyError: A value is missing or does not fit: it comes from outside.
        """
        rows = []
        for coverage, floors in dict(value["floors"]).items():
            if not isinstance(floors, Sequence) or len(floors) != num_classes:
                raise ValueError("`sets` has one floor a class")
            rows.append((_share(float(coverage)), np.array([_number(v) for v in floors], dtype=np.float64)))
        rows.sort(key=lambda pair: pair[0])
        if not rows:
            raise ValueError("`sets` holds no floors")
        return cls(_share(value["coverage"]), tuple(rows), value["is_guaranteed"] is True)


def log_doubt(largest_probability: Float) -> Float:
    """log(-log p): spreads out the probabilities next to 1, where most known pictures are."""
    largest = np.clip(largest_probability, _TINY, _SUREST)
    return np.asarray(np.log(-np.log(largest)), dtype=np.float64)


def add_up(u: Float, v: Float) -> Float:
    """Novelty from standardised doubt and standardised logarithm of the rest."""
    return np.asarray(u + (np.maximum(0.0, v + 1.0) / 2.0) ** 2, dtype=np.float64)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _share(value: Any) -> float:
    number = _number(value)
    if not 0.0 < number < 1.0:
        raise ValueError(f"{value!r} is no share between 0 and 1")
    return number
