"""Prices of a detector's training on this machine, and the training that fits into the time that is left.

Pure functions of measured seconds: one-off costs are counted once, a view is priced for caching and a step for
training. `detect_budget` measures the prices and journals them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "LEAST_STEPS",
    "SAFETY",
    "AffordableTraining",
    "FinalSteps",
    "MeasuredCosts",
    "fit_training",
    "least_budget_s",
    "least_training_s",
    "most_views",
]

LEAST_STEPS = 24
"""Fewer steps leave nothing that is worth the name of a detector."""

SAFETY = 1.15
"""The ending is taken to cost so many times its estimate."""

_EPOCHS_PER_VIEW = 3  # measured on raccoon and BCCD: with fewer epochs a further view costs more than it gives
_GOOD_STEPS = 40  # with fewer, fewer images are seen more often
_EXPORT_RATIO = 1.25  # export of the whole detector (mirrored, with its head) against that of the frozen part
_EXPORT_CPU_S = 10.0  # of the frozen part, where nobody measured it
_FIXED_CPU_S = 3.5  # opening the bundle twice, tables, report, the end of the process
_RUNTIME_RATIO = 0.6  # an image in ONNX Runtime, boxes included, against the same in torch
_LEAST_COMPARED = 8  # images on which torch and the bundle are compared, at least
_EVALUATION_CPU_S = 0.3
_BOX_CPU_S = 0.002  # of evaluating a scored box, two evaluations with their bootstrap


@dataclass(frozen=True, slots=True)
class MeasuredCosts:
    """Measured seconds.

    Attributes:
        view_s: Of making one stored view, all workers at it; 0 where nothing is stored.
        step_s: Of one training step, its batch included.
    """

    view_s: float
    step_s: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AffordableTraining:
    """A training that fits.

    Attributes:
        num_images: Training images that are used.
        views: Stored views of each.
        num_steps: Steps of one training.
    """

    num_images: int
    views: int
    num_steps: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FinalSteps:
    """What follows the training: export, bundle, scores, comparison with torch, report.

    Attributes:
        num_scored: Images of the validation and test splits.
        num_scored_boxes: Their true boxes.
        export_cpu_s: Processor seconds of exporting the frozen part; None where nobody measured it.
        image_cpu_s: Processor seconds of one image in torch, from file to boxes.
        contention: Seconds that pass for one processor second of one thread, at least 1.
        num_threads: Threads that score.
        worker_contention: The same where that many threads work, at least 1.
    """

    num_scored: int
    num_scored_boxes: int
    export_cpu_s: float | None
    image_cpu_s: float
    contention: float
    num_threads: int
    worker_contention: float

    def parts(self) -> dict[str, float]:
        """Return the seconds of each part, without `SAFETY`."""
        export_cpu_s = _EXPORT_CPU_S if self.export_cpu_s is None else self.export_cpu_s
        runtime_cpu_s = _RUNTIME_RATIO * self.image_cpu_s
        evaluation_cpu_s = _EVALUATION_CPU_S + _BOX_CPU_S * self.num_scored_boxes
        return {
            "export": self.contention * _EXPORT_RATIO * export_cpu_s,
            "detect": self.worker_contention * runtime_cpu_s * self.num_scored / self.num_threads,
            "evaluate": self.contention * evaluation_cpu_s,
            "parity": self.contention * (self.image_cpu_s + runtime_cpu_s) * _LEAST_COMPARED,
            "other": self.contention * _FIXED_CPU_S,
        }

    def seconds(self, safety: float = SAFETY) -> float:
        """Return the seconds to reserve."""
        return safety * sum(self.parts().values())

    def num_compared(self, left_s: float, most: int) -> int:
        """Return on how many images torch and the bundle are compared when so many seconds are left for that."""
        image_s = (1.0 + _RUNTIME_RATIO) * self.image_cpu_s * self.contention
        return max(min(_LEAST_COMPARED, most), min(most, int(left_s / max(SAFETY * image_s, 1e-9))))


def most_views(epochs: float, limit: int) -> int:
    """Return how many stored views of each image so many epochs are worth."""
    return max(1, min(limit, int(epochs / _EPOCHS_PER_VIEW)))


def fit_training(
    left_s: float,
    prices: MeasuredCosts,
    *,
    num_images: int,
    batch_size: int,
    limit_views: int,
    full_steps: int,
    least_images: int,
    missing: Callable[[int], int],
    num_trainings: int = 1,
) -> AffordableTraining | None:
    """Return the most thorough training that fits: all images with as many views as pay, else a subset of them.

    Args:
        left_s: Seconds for making views and for all trainings.
        prices: Measured.
        num_images: Training images.
        batch_size: Images a step.
        limit_views: More views are never made.
        full_steps: More steps are never taken.
        least_images: A subset holds at least so many.
        missing: Stored views that are to be made for so many views of every image.
        num_trainings: Trainings that share the views: the folds and the final one.

    Returns:
        None where not even `LEAST_STEPS` steps on `least_images` images fit.
    """
    steps_per_epoch = max(1, num_images // batch_size)
    step_s = prices.step_s * num_trainings
    for views in range(max(1, limit_views), 0, -1):
        num_steps = min(int((left_s - prices.view_s * missing(views)) / step_s), full_steps)
        epochs = num_steps / steps_per_epoch
        if num_steps >= min(LEAST_STEPS, full_steps) and epochs >= _EPOCHS_PER_VIEW * views:
            return AffordableTraining(num_images, views, num_steps)
    # One view of every image and three epochs over them take too long: fewer images.
    share_missing = missing(1) / max(num_images, 1)
    view_s = prices.view_s * share_missing
    image_s = view_s + _EPOCHS_PER_VIEW * step_s / batch_size
    num_used = int(left_s / image_s)
    if _EPOCHS_PER_VIEW * num_used / batch_size < _GOOD_STEPS:
        spare_s = left_s - _GOOD_STEPS * step_s
        num_used = int(spare_s / view_s) if view_s > 0 else num_images
    num_used = max(min(least_images, num_images), min(num_used, num_images))
    num_steps = min(int((left_s - view_s * num_used) / step_s), full_steps)
    return AffordableTraining(num_used, 1, num_steps) if num_steps >= min(LEAST_STEPS, full_steps) else None


def least_training_s(prices: MeasuredCosts, least_images: int, num_trainings: int = 1) -> float:
    """Return the seconds of the shortest training that is worth its name."""
    return prices.view_s * least_images + prices.step_s * LEAST_STEPS * num_trainings


def least_budget_s(spent_s: float, training_s: float, ending_s: float) -> float:
    """Return the smallest budget that would do, with a tenth to spare, in whole steps of 10 s."""
    return 10.0 * math.ceil(1.1 * (spent_s + training_s + ending_s) / 10.0)
