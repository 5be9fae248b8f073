"""Model the costs of a training on this machine, and find what fits into the time left.

Costs derive from the seconds per image, measured on a few steps before planning and again in the later epochs of a
pilot, when all its views are cached.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.preprocessing.augmentation import parse_augment
from headstart.training.loop import EpochRecord, Training
from headstart.training.plan import FinetunePlan
from headstart.training.probe_comparison import ALPHAS

if TYPE_CHECKING:
    from headstart.probe.linear import LinearHead
    from headstart.training.trainer import FinetuneTrainer

__all__ = [
    "FINAL_STEPS_S",
    "NUM_FOLDS",
    "SAFETY",
    "epochs_for_budget",
    "folds_that_fit",
    "image_seconds",
    "measure_speed",
    "training_s",
    "trainings_s",
    "views_s",
]  # fmt: skip

NUM_FOLDS = 3
"""Number of folds; the budget decides how many of them are trained."""

FINAL_STEPS_S = 20.0
"""Seconds of a budget reserved for export, bundle, parity check and report."""

SAFETY = 1.1
"""Safety factor on the measured costs of a plan."""

_MAX_EPOCHS = 60  # more epochs overfit small datasets
_FORWARD = 1 / 3  # cost of scoring an image, relative to training on it


def measure_speed(trainer: FinetuneTrainer, plan: FinetunePlan, head: LinearHead) -> dict[str, float]:
    """Measure the seconds of making one view and of training on one image."""
    source, train = trainer.sources.open(plan), trainer.data.train
    size = min(plan.batch_size, len(train))
    some = train[: 3 * size]
    started = time.monotonic()
    source.batch(some, np.full(len(some), 1))
    view_s = (time.monotonic() - started) / len(some)
    num_made = trainer.sources.num_made(plan)
    if num_made == 0:  # all were cached by an earlier run
        view_s = 0.0
    elif num_made is not None:
        view_s /= trainer.num_threads  # measured with one worker; training uses all
    net = trainer.network(plan, head)
    short = plan.with_(epochs=1, num_views=1, grad_accum_steps=1)
    training = Training(net, source, trainer.data.samples.class_ids, short, some, device=trainer.device)
    seconds = []
    started = time.monotonic()
    for _ in training.run():
        seconds.append(time.monotonic() - started)
        started = time.monotonic()
    step_s = min(seconds)  # the first step is warm-up
    return {"view_s": view_s, "image_s": step_s / size}


def image_seconds(records: tuple[EpochRecord, ...], num_train: int, num_held: int) -> float:
    """Return the seconds per training image, from the later half of the epochs (earlier ones make the views).

    Args:
        records: Records of the epochs, validation included; empty gives 0.
        num_train, num_held: Number of training and held-out images.
    """
    later = [r.duration_s for r in records[len(records) // 2 :]]
    return float(np.median(later)) / (num_train + _FORWARD * num_held) if later else 0.0


def training_s(plan: FinetunePlan, image_s: float, num_train: int, num_held: int = 0) -> float:
    """Return the seconds of a whole training: epochs, head refit, scores; without making views.

    Args:
        plan: The training plan.
        image_s: Seconds per training image.
        num_train: Training images.
        num_held: Images scored after every epoch, and at every interpolation factor at the end.
    """
    passes = plan.epochs + (_FORWARD if plan.refit_head else 0.0)
    scored = _FORWARD * (plan.epochs + (len(ALPHAS) if plan.starts_as_probe else 1))
    return image_s * (passes * num_train + scored * num_held)


def views_s(plan: FinetunePlan, view_s: float, num_images: int, *, has_plain: bool = False) -> float:
    """Return the seconds of caching all views of some images; `has_plain` if the unaugmented ones are cached."""
    if plan.is_from_pixels:
        return 0.0
    varied = 0 if parse_augment(plan.augment).is_plain else min(plan.num_views, plan.epochs)
    return view_s * num_images * (varied + (0 if has_plain else 1))


def folds_that_fit(plan: FinetunePlan, image_s: float, view_s: float, num_train: int, remaining_s: float) -> int:
    """Return the number of folds (including the pilot's) that fit before the final training; at least 1.

    Args:
        plan: The selected plan.
        image_s: Seconds per training image, measured in its pilot.
        view_s: Seconds of making one view.
        num_train: Training images.
        remaining_s: Seconds left, without the final steps.
    """
    held = num_train // NUM_FOLDS
    fold = training_s(plan, image_s, num_train - held, held)
    rest = training_s(plan, image_s, num_train) + views_s(plan, view_s, held, has_plain=True)  # not yet cached
    fitting = [f for f in range(1, NUM_FOLDS + 1) if (f - 1) * fold + rest <= remaining_s]
    return max(fitting, default=1)


def trainings_s(plan: FinetunePlan, speed: dict[str, float], parts: Sequence[tuple[int, int]]) -> float:
    """Return the seconds of several trainings with one plan and of all their views, with a safety factor.

    Args:
        plan: The plan of each training.
        speed: Result of `measure_speed`.
        parts: (training images, scored images) of each.
    """
    views = views_s(plan, speed["view_s"], max(num_train + num_held for num_train, num_held in parts))
    return SAFETY * (views + sum(training_s(plan, speed["image_s"], *part) for part in parts))


def epochs_for_budget(
    plan: FinetunePlan, speed: dict[str, float], parts: Sequence[tuple[int, int]], remaining_s: float
) -> int:
    """Return the number of epochs that fits into the time left, from 0 to 60."""
    fitting = [e for e in range(1, _MAX_EPOCHS + 1) if trainings_s(plan.with_(epochs=e), speed, parts) <= remaining_s]
    return max(fitting, default=0)
