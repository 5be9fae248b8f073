""" "None of these": how unlike everything it was trained on a picture is, and from where on that counts as unknown.

The one decision: two odd things add up, an undecided head and features that lie off the leading directions of the
training pictures (what is left of a normalised row after its projection).  The first finds new classes that look
like known ones, the second pictures of another kind altogether, which a head can be very sure of.

    u = standardised log(-log(largest probability)),  v = standardised log(squared rest)
    novelty = u + (max(0, v + 1) / 2)^2

An export needs one (D,), one (D, r) array and six numbers.  Energy, entropy and relative Mahalanobis distance were
measured against it (`benchmarks/bench_trust.py`); the last, with the shrinkage that small data need, hardly sees
what lies off the plane of the classes and finds photographs *more* usual than known pictures of solar cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.trust.directions import leading_directions, left_out_rest, squared_rest
from headstart.trust.folds import draw_folds

__all__ = ["LeftOut", "Novelty", "fit_novelty", "leave_one_class_out", "rank_auc"]

Float = NDArray[np.float64]
Rows = NDArray[np.floating[Any]]
Classify = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], Float]
"""(training positions, their class ids 0..K'-1, positions to score) to (n, K') probabilities."""

_MAX_ROWS = 4096  # rows that directions and folds are fitted on, at most
_TINY = 1e-12
_SUREST = 1.0 - 1e-5  # a runtime's float32 tells no more apart above it, and nothing is lost by it


@dataclass(frozen=True)
class Novelty:
    """A fitted score of novelty with its threshold.

    Attributes:
        mean: (D,) float32 mean of the normalised training rows.
        directions: (D, r) float32 orthonormal leading directions.
        doubt_centre, doubt_scale: Of log(-log(largest probability)) of known pictures, out of fold.
        rest_centre, rest_scale: Of log(squared rest) of known pictures, out of fold.
        threshold: Above it a picture counts as unknown; infinite where there are too few pictures for one.
        reject: The share of known pictures that may be refused.
        scores: (N,) novelty of the training pictures, each out of fold.
        realised: The share of them above the threshold.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    doubt_centre: float
    doubt_scale: float
    rest_centre: float
    rest_scale: float
    threshold: float
    reject: float
    scores: Float
    realised: float

    def score(self, rows: Rows, probabilities: Float) -> Float:
        """(N,) novelty of pictures; about 0 for known ones, more is stranger.

        Args:
            rows: (N, D) normalised as the head's.
            probabilities: (N, K) of the head.
        """
        return self.combine(probabilities.max(axis=1), squared_rest(rows, self.mean, self.directions))

    def combine(self, largest_probability: Float, rest: Float) -> Float:
        """(N,) novelty from the two numbers a picture that a graph can give: all that a runtime has to do itself.

        Args:
            largest_probability: (N,) of the head.
            rest: (N,) squared length of the normalised row off the directions, see `squared_rest`.
        """
        u = (_log_doubt(largest_probability) - self.doubt_centre) / self.doubt_scale
        v = (np.log(np.maximum(rest, _TINY)) - self.rest_centre) / self.rest_scale
        return _combine(u, v)

    def is_unknown(self, rows: Rows, probabilities: Float) -> NDArray[np.bool_]:
        """(N,) whether each picture counts as unknown."""
        return np.asarray(self.score(rows, probabilities) > self.threshold, dtype=np.bool_)

    def to_json(self) -> dict[str, Any]:
        """What is small; an infinite threshold is None.  The arrays are in `arrays`."""
        return {
            "doubt_centre": self.doubt_centre,
            "doubt_scale": self.doubt_scale,
            "rest_centre": self.rest_centre,
            "rest_scale": self.rest_scale,
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
            "reject": self.reject,
            "realised": self.realised,
        }

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """`novelty_mean` (D,) and `novelty_directions` (D, r), float32."""
        return {"novelty_mean": self.mean, "novelty_directions": self.directions}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> Novelty:
        """Reads what `to_json` and `arrays` gave (without the training pictures' own scores)."""
        numbers = {key: float(value[key]) for key in ("doubt_centre", "doubt_scale", "rest_centre", "rest_scale")}
        threshold = value["threshold"]
        return cls(
            mean=np.asarray(arrays["novelty_mean"], dtype=np.float32),
            directions=np.asarray(arrays["novelty_directions"], dtype=np.float32),
            threshold=math.inf if threshold is None else float(threshold),
            reject=float(value["reject"]),
            scores=np.empty(0),
            realised=float(value["realised"]),
            **numbers,
        )


@dataclass(frozen=True)
class LeftOut:
    """How well classes that were left out are noticed.

    Attributes:
        auroc: Chance that a picture of a left-out class is found stranger than a known one, mean over classes.
        auroc_of_probability: The same by the largest probability alone.
        detected: Share of left-out pictures above the threshold, mean over classes.
        false_alarms: Share of known ones above it.
        per_class: (auroc, detected) by class id.
    """

    auroc: float
    auroc_of_probability: float
    detected: float
    false_alarms: float
    per_class: dict[int, tuple[float, float]]


def fit_novelty(
    rows: Rows,
    probabilities: Float,
    class_ids: NDArray[np.int64],
    *,
    reject: float = 0.05,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> Novelty:
    """Directions from all pictures, centres and threshold from out-of-fold scores of the same.

    Args:
        rows: (N, D) training pictures, normalised as the head's.
        probabilities: (N, K) out of fold.
        class_ids: (N,) labels, to keep folds even.
        reject: Share of known pictures that may be refused, strictly between 0 and 1.
        groups: (N,) pictures that belong together stay together in the folds.
        seed: Of the folds, and of the pictures looked at when there are more than 4,096.

    Raises:
        ValueError: `reject` is not strictly between 0 and 1.

    Source: Wang et al. (2022), virtual-logit matching, for adding the rest off the leading directions to the head's
    own doubt; Vovk (2015) for the threshold.
    """
    if not 0.0 < reject < 1.0:
        raise ValueError(f"the share of known pictures to refuse lies strictly between 0 and 1, got {reject}")
    num = len(rows)
    looked_at = np.arange(num)
    if num > _MAX_ROWS:
        looked_at = np.sort(np.random.default_rng(seed).choice(num, _MAX_ROWS, replace=False))
    part = rows[looked_at]
    mean, directions = leading_directions(part, seed=seed)
    part_groups = None if groups is None else groups[looked_at]
    rest = left_out_rest(part, class_ids[looked_at], mean, directions, groups=part_groups, seed=seed)
    log_rest = np.log(rest)
    log_doubt = _log_doubt(probabilities[looked_at].max(axis=1))
    doubt_centre, doubt_scale = _centre_and_scale(log_doubt)
    rest_centre, rest_scale = _centre_and_scale(log_rest)
    scores = _combine((log_doubt - doubt_centre) / doubt_scale, (log_rest - rest_centre) / rest_scale)
    threshold = _threshold(scores, reject)
    everyone = np.full(num, np.nan)
    everyone[looked_at] = scores
    return Novelty(
        mean=mean,
        directions=directions,
        doubt_centre=doubt_centre,
        doubt_scale=doubt_scale,
        rest_centre=rest_centre,
        rest_scale=rest_scale,
        threshold=threshold,
        reject=reject,
        scores=everyone,
        realised=float((scores > threshold).mean()),
    )


def leave_one_class_out(
    rows: Rows,
    class_ids: NDArray[np.int64],
    classify: Classify,
    *,
    reject: float = 0.05,
    groups: NDArray[np.int64] | None = None,
    max_classes: int = 10,
    seed: int = 0,
) -> LeftOut | None:
    """Train without a class and see whether its pictures are noticed; None with fewer than three classes.

    Args:
        rows: (N, D) normalised rows.
        class_ids: (N,).
        classify: Trains a head on some pictures and gives its probabilities for others.
        reject: Share of known pictures that may be refused.
        groups: (N,) pictures that are never parted.
        max_classes: Classes that are tried, drawn at random where there are more.
        seed: Of that draw and of the folds.
    """
    present = np.unique(class_ids)
    if len(present) < 3:
        return None
    rng = np.random.default_rng(seed)
    tried = np.sort(rng.choice(present, min(max_classes, len(present)), replace=False))
    fold = draw_folds(class_ids, 3, groups=groups, seed=seed)
    per_class: dict[int, tuple[float, float]] = {}
    plain, alarms = [], []
    for left_out in tried:
        known = class_ids != left_out
        # A third each: to fit, to set the threshold on, and to be scored as known.
        fit, tune, score = (np.flatnonzero(known & (fold == f)) for f in range(3))
        novel = np.flatnonzero(~known)
        classes = np.unique(class_ids[fit])
        if len(classes) < 2 or not len(tune) or not len(score):
            continue
        asked = np.concatenate([tune, score, novel])
        probabilities = classify(fit, np.searchsorted(classes, class_ids[fit]), asked)
        mean, directions = leading_directions(rows[fit], seed=seed)
        log_rest, log_doubt = np.log(squared_rest(rows[asked], mean, directions)), _log_doubt(probabilities.max(axis=1))
        end = len(tune)
        u, v = (_standardised(x, *_centre_and_scale(x[:end])) for x in (log_doubt, log_rest))
        total = _combine(u, v)
        threshold = _threshold(total[:end], reject)
        middle = end + len(score)
        auc = rank_auc(total[end:middle], total[middle:])
        plain.append(rank_auc(log_doubt[end:middle], log_doubt[middle:]))
        alarms.append(float((total[end:middle] > threshold).mean()))
        per_class[int(left_out)] = (auc, float((total[middle:] > threshold).mean()))
    if not per_class:
        return None
    return LeftOut(
        auroc=float(np.mean([auc for auc, _ in per_class.values()])),
        auroc_of_probability=float(np.mean(plain)),
        detected=float(np.mean([found for _, found in per_class.values()])),
        false_alarms=float(np.mean(alarms)),
        per_class=per_class,
    )


def rank_auc(known: Float, novel: Float) -> float:
    """Chance that a novel score exceeds a known one, ties counted half; the area under the ROC curve."""
    ordered = np.sort(known)
    below = np.searchsorted(ordered, novel, side="left") + np.searchsorted(ordered, novel, side="right")
    return float(below.mean() / (2 * len(known)))


def _log_doubt(largest_probability: Float) -> Float:
    """log(-log p): spreads out the probabilities next to 1, where most known pictures are."""
    largest = np.clip(largest_probability, _TINY, _SUREST)
    return np.asarray(np.log(-np.log(largest)), dtype=np.float64)


def _combine(u: Float, v: Float) -> Float:
    return np.asarray(u + (np.maximum(0.0, v + 1.0) / 2.0) ** 2, dtype=np.float64)


def _centre_and_scale(values: Float) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), 1e-6)


def _standardised(values: Float, centre: float, scale: float) -> Float:
    return (values - centre) / scale


def _threshold(scores: Float, reject: float) -> float:
    """The score that a new known picture exceeds with at most the chance `reject`; infinite with too few."""
    rank = math.ceil((len(scores) + 1) * (1.0 - reject))
    return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])
