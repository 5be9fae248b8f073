"""What a training costs on this machine now, and what fits into the time that is left.

One formula says what a training costs, from the seconds of one image; these are measured on a few
steps before anything is planned, and once more in a pilot's later epochs, when all its views are stored.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.preprocessing.augmentation import parse_augment
from headstart.training.loop import EpochRecord, Training
from headstart.training.plan import FinetunePlan
from headstart.training.probe_comparison import SHARES

if TYPE_CHECKING:
    from headstart.probe.linear import LinearHead
    from headstart.workflow.finetune_trainer import FinetuneTrainer

__all__ = [
    "ENDING_S", "NUM_PARTS", "SAFETY", "epochs_for_budget", "folds_that_fit", "measure_speed", "pace_of", "training_s",
    "trainings_s", "views_s",
]  # fmt: skip

NUM_PARTS = 3
"""Images are parted into so many folds; the budget says how many of them are trained on."""

ENDING_S = 20.0
"""Of a budget, kept for export, bundle, proof and report."""

SAFETY = 1.1
"""A plan is taken to cost so many times what was measured."""

_MOST_EPOCHS = 60  # a large budget is no reason to learn a few images by heart
_FORWARD = 1 / 3  # of the time of an image in training


def measure_speed(trainer: FinetuneTrainer, plan: FinetunePlan, head: LinearHead, train: Any) -> dict[str, float]:
    """Return seconds of making one view, and of training on one image once, on this machine now."""
    source = trainer.sources.open(plan)
    size = min(plan.batch_size, len(train))
    some = np.asarray(train[: 3 * size])
    started = time.monotonic()
    source.batch(some, np.full(len(some), 1))
    view_s = (time.monotonic() - started) / len(some)
    num_made = trainer.sources.num_made(plan)
    if num_made == 0:  # all were there from an earlier run
        view_s = 0.0
    elif num_made is not None:
        view_s /= trainer.threads  # one worker made them; training has all of them at it
    net = trainer.network(plan, head)
    short = plan.with_(epochs=1, views=1, grad_accum_steps=1)
    training = Training(net, source, trainer.found.samples.class_ids, short, some, device=trainer.device)
    seconds = []
    started = time.monotonic()
    for _ in training.run():
        seconds.append(time.monotonic() - started)
        started = time.monotonic()
    step_s = min(seconds)  # the first step warms up
    return {"view_s": view_s, "image_s": step_s / size}


def pace_of(records: tuple[EpochRecord, ...], num_train: int, num_held: int) -> float:
    """Seconds of training on one image once, from the later half of a training's epochs: views are made in the first.

    Args:
        records: Of its epochs, each with the scoring of what was held out; none give 0.
        num_train, num_held: Images.
    """
    later = [r.duration_s for r in records[len(records) // 2 :]]
    return float(np.median(later)) / (num_train + _FORWARD * num_held) if later else 0.0


def training_s(plan: FinetunePlan, image_s: float, num_train: int, num_held: int = 0) -> float:
    """Seconds of a whole training: its epochs, the head that is fitted again, the scores; making views not counted.

    Args:
        plan: The training.
        image_s: Seconds of training on one image once.
        num_train: Images it learns.
        num_held: Images it is scored on after every epoch, and at every share of the way at the end.
    """
    learnt = plan.epochs + (_FORWARD if plan.refit_head else 0.0)
    scored = _FORWARD * (plan.epochs + (len(SHARES) if plan.starts_as_probe else 1))
    return image_s * (learnt * num_train + scored * num_held)


def views_s(plan: FinetunePlan, view_s: float, num_images: int, *, has_plain: bool = False) -> float:
    """Return seconds of making all stored views of some images; the plain ones not, where they are there."""
    if plan.is_from_pixels:
        return 0.0
    varied = 0 if parse_augment(plan.augment).is_plain else min(plan.views, plan.epochs)
    return view_s * num_images * (varied + (0 if has_plain else 1))


def folds_that_fit(plan: FinetunePlan, image_s: float, view_s: float, num_train: int, left_s: float) -> int:
    """Folds, the pilot's own among them, that can be trained on before the training on everything; at least 1.

    Args:
        plan: What goes on.
        image_s: Seconds of training on one image once, as its pilot took them.
        view_s: Seconds of making one view.
        num_train: Images.
        left_s: Seconds that are left, the ending not counted.
    """
    held = num_train // NUM_PARTS
    fold = training_s(plan, image_s, num_train - held, held)
    rest = training_s(plan, image_s, num_train) + views_s(plan, view_s, held, has_plain=True)  # new to training
    fitting = [f for f in range(1, NUM_PARTS + 1) if (f - 1) * fold + rest <= left_s]
    return max(fitting, default=1)


def trainings_s(plan: FinetunePlan, speed: dict[str, float], parts: Sequence[tuple[int, int]]) -> float:
    """Return seconds of several trainings by one plan and of all their views, taken carefully.

    Args:
        plan: Of each.
        speed: From `measure_speed`.
        parts: (images to learn, images to be scored on) of each.
    """
    views = views_s(plan, speed["view_s"], max(learnt + scored for learnt, scored in parts))
    return SAFETY * (views + sum(training_s(plan, speed["image_s"], *part) for part in parts))


def epochs_for_budget(
    plan: FinetunePlan, speed: dict[str, float], parts: Sequence[tuple[int, int]], left_s: float
) -> int:
    """Epochs of such trainings that fit into the time left: 0 where not even one does, and never more than 60."""
    fitting = [e for e in range(1, _MOST_EPOCHS + 1) if trainings_s(plan.with_(epochs=e), speed, parts) <= left_s]
    return max(fitting, default=0)
