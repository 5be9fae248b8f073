"""Model the costs of training a detector on this machine, and fit a training into the time left.

Pure functions of measured seconds. `detector_budget` measures the costs and journals them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "MIN_STEPS",
    "SAFETY",
    "AffordableTraining",
    "FinalSteps",
    "MeasuredCosts",
    "fit_training",
    "min_budget_s",
    "min_training_s",
]

MIN_STEPS = 24
"""Least number of training steps of a usable detector."""

SAFETY = 1.15
"""Safety factor on the estimated time of the final steps."""

_EPOCHS_PER_VIEW = 3  # fewer epochs do not pay for another view (measured on raccoon and BCCD)
_GOOD_STEPS = 40  # below, train on fewer images for more epochs
_EXPORT_RATIO = 1.25  # export of the detector (flip, head) / export of the frozen prefix
_EXPORT_CPU_S = 10.0  # frozen prefix, where not measured
_FIXED_CPU_S = 3.5  # opening the bundle twice, tables, report, process exit
_RUNTIME_RATIO = 0.6  # one image in ONNX Runtime / in torch, with decoding
_MIN_COMPARED = 8  # least number of images of the parity check
_EVALUATION_CPU_S = 0.3
_BOX_CPU_S = 0.002  # per scored box: two evaluations with bootstrap


@dataclass(frozen=True, slots=True)
class MeasuredCosts:
    """Measured seconds per view and per step.

    Attributes:
        view_s: Making one cached view with all workers; 0 where views are not cached.
        step_s: One training step, including its batch.
    """

    view_s: float
    step_s: float


@dataclass(frozen=True, slots=True)
class AffordableTraining:
    """A training that fits the budget.

    Attributes:
        num_images: Training images used.
        views: Cached views per image.
        num_steps: Steps of one training.
    """

    num_images: int
    num_views: int
    num_steps: int


@dataclass(frozen=True, slots=True)
class FinalSteps:
    """Costs of the steps after training: export, bundle, scores, parity check, report.

    Attributes:
        num_scored: Images of the validation and test splits.
        num_scored_boxes: Their ground-truth boxes.
        export_cpu_s: CPU seconds of exporting the frozen prefix; None where not measured.
        image_cpu_s: CPU seconds of one image in torch, from file to boxes.
        contention: Wall-clock seconds per CPU second of one thread, at least 1.
        num_threads: Threads used for scoring.
        worker_contention: `contention` with `num_threads` threads, at least 1.
    """

    num_scored: int
    num_scored_boxes: int
    export_cpu_s: float | None
    image_cpu_s: float
    contention: float
    num_threads: int
    worker_contention: float

    @property
    def image_s(self) -> float:
        """Seconds of one image in torch, from file to boxes."""
        return self.image_cpu_s * self.contention

    def parts(self) -> dict[str, float]:
        """Return the seconds of each step, without `SAFETY`."""
        export_cpu_s = _EXPORT_CPU_S if self.export_cpu_s is None else self.export_cpu_s
        runtime_cpu_s = _RUNTIME_RATIO * self.image_cpu_s
        evaluation_cpu_s = _EVALUATION_CPU_S + _BOX_CPU_S * self.num_scored_boxes
        return {
            "export": self.contention * _EXPORT_RATIO * export_cpu_s,
            "detect": self.worker_contention * runtime_cpu_s * self.num_scored / self.num_threads,
            "evaluate": self.contention * evaluation_cpu_s,
            "parity": self.contention * (self.image_cpu_s + runtime_cpu_s) * _MIN_COMPARED,
            "other": self.contention * _FIXED_CPU_S,
        }

    def seconds(self, safety: float = SAFETY) -> float:
        """Return the seconds to reserve."""
        return safety * sum(self.parts().values())

    def num_compared(self, remaining_s: float, most: int) -> int:
        """Return the number of images for the parity check in `remaining_s` seconds."""
        image_s = (1.0 + _RUNTIME_RATIO) * self.image_cpu_s * self.contention
        return max(min(_MIN_COMPARED, most), min(most, int(remaining_s / max(SAFETY * image_s, 1e-9))))


def fit_training(
    remaining_s: float,
    costs: MeasuredCosts,
    *,
    num_images: int,
    batch_size: int,
    full_steps: int,
    min_images: int,
    missing: Sequence[int],
    num_trainings: int = 1,
) -> AffordableTraining | None:
    """Return the longest training that fits: all images with as many views as pay, else a subset.

    Args:
        remaining_s: Seconds for views and all trainings.
        costs: Measured costs.
        num_images: Training images.
        batch_size: Images per step.
        full_steps: Largest number of steps.
        min_images: Least number of images of a subset.
        missing: Number of views not yet cached, for 0, 1, ... views per image up to the largest number.
        num_trainings: Trainings that share the views: the folds and the final one.

    Returns:
        None where `MIN_STEPS` steps on `min_images` images do not fit.
    """
    steps_per_epoch = max(1, num_images // batch_size)
    step_s = costs.step_s * num_trainings
    for views in range(len(missing) - 1, 0, -1):
        num_steps = min(int((remaining_s - costs.view_s * missing[views]) / step_s), full_steps)
        epochs = num_steps / steps_per_epoch
        if num_steps >= min(MIN_STEPS, full_steps) and epochs >= _EPOCHS_PER_VIEW * views:
            return AffordableTraining(num_images, views, num_steps)
    # One view and three epochs over all images take too long: use fewer images.
    missing_fraction = missing[1] / max(num_images, 1)
    view_s = costs.view_s * missing_fraction
    image_s = view_s + _EPOCHS_PER_VIEW * step_s / batch_size
    num_used = int(remaining_s / image_s)
    if _EPOCHS_PER_VIEW * num_used / batch_size < _GOOD_STEPS:
        spare_s = remaining_s - _GOOD_STEPS * step_s
        num_used = int(spare_s / view_s) if view_s > 0 else num_images
    num_used = max(min(min_images, num_images), min(num_used, num_images))
    num_steps = min(int((remaining_s - view_s * num_used) / step_s), full_steps)
    return AffordableTraining(num_used, 1, num_steps) if num_steps >= min(MIN_STEPS, full_steps) else None


def min_training_s(costs: MeasuredCosts, min_images: int, num_trainings: int = 1) -> float:
    """Return the seconds of the shortest usable training."""
    return costs.view_s * min_images + costs.step_s * MIN_STEPS * num_trainings


def min_budget_s(spent_s: float, training_s: float, ending_s: float) -> float:
    """Return the smallest budget that fits plus 10 %, rounded up to 10 s."""
    return 10.0 * math.ceil(1.1 * (spent_s + training_s + ending_s) / 10.0)
