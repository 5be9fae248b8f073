"""The trainings of one run: folds if asked for, then the one that is shipped; Ctrl-C ends early and still saves.

The one decision: an early end is a shorter training, said as such: what was trained so far is scored and saved.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Detections
from headstart.detection.decode import Decoding, scoring_limit
from headstart.detection.metrics import evaluate_detections
from headstart.detection.plan import DetectPlan
from headstart.errors import HeadstartError, SettingError
from headstart.messages.numbers import pluralize
from headstart.records import Decision
from headstart.tuning.folds import make_folds
from headstart.types import EvaluationProtocol, EvaluationSetup
from headstart.workflow.detect_records import DetectLog
from headstart.workflow.tune_jobs import StoppedError, Stopper

if TYPE_CHECKING:
    from headstart.detection.loop import DetectEpoch, DetectNetwork, DetectTraining
    from headstart.workflow.detect_bench import DetectBench
    from headstart.workflow.detect_road import DetectRoad

__all__ = ["DetectRun", "OutOfFold"]

Ids = NDArray[np.int64]
_LOOKS = 8  # times that unseen pictures are looked at during a training, for the curve
_ENDING_S = 20.0  # of a budget, kept for export, scoring and the report
_PILOT_STEPS = 4


@dataclass(frozen=True)
class OutOfFold:
    """What detectors found in pictures that they had not seen: positions, detections, how many parts."""

    samples: Ids
    found: list[Detections]
    num_folds: int


class DetectRun:
    """Runs the trainings.

    Args:
        road: What is known so far.
        bench: Trains.
        plan: Every number; its epochs are settled here where there is a budget.

    Attributes:
        decoding: Of raw scores, with limits for scoring.
    """

    def __init__(self, road: DetectRoad, bench: DetectBench, plan: DetectPlan) -> None:
        self.road, self.bench, self.plan = road, bench, plan
        self.log = DetectLog(road.folder, road.talk)
        settings = road.resolved.settings.detect
        most = scoring_limit(max(len(boxes) for boxes in road.samples.boxes))
        self.decoding = Decoding(iou=settings.iou).limited(min(settings.max_detections, most))
        self.stopper = Stopper(road.talk)
        self.oof: OutOfFold | None = None
        self.net: DetectNetwork | None = None
        self.num_epochs = 0
        self.is_stopped = False

    def go(self) -> None:
        """All trainings; `oof` and `net` are there afterwards."""
        settings = self.road.resolved.settings
        train = self.road.split.where("train")
        if settings.budget_minutes is not None:
            self._settle_epochs(train, settings.budget_minutes)
        self.road.talk.say(self._sentence(len(train)))
        with self.road.timed("train"), self.stopper.listening():
            if settings.folds:
                self._cross_validate(train, settings.folds)
            val = self.road.split.where("val")
            self.net = self._train(train, "final", val if len(val) else None)
            self.num_epochs = self._epochs_done

    def _cross_validate(self, train: Ids, num_folds: int) -> None:
        from headstart.data.boxes.split import rarest_class

        samples, groups = self.road.samples, self.road.split.groups
        kinds = rarest_class(samples)[train] + 1
        fold_of = make_folds(kinds, num_folds, groups=None if groups is None else groups[train], seed=self.plan.seed)
        order: list[Ids] = []
        found: list[Detections] = []
        for fold in range(int(fold_of.max()) + 1):
            held = train[fold_of == fold]
            net = self._train(train[fold_of != fold], f"fold{fold + 1}", held)
            if self.is_stopped:
                raise StoppedError(
                    "stopped during cross-validation, before there was a detector to save.",
                    hint="the views that were made are kept; fewer --folds or a --budget need less time",
                )
            found += self.bench.find_from_pixels(net, self.plan, held, self.decoding)  # as the bundle would
            order.append(held)
        self.oof = OutOfFold(np.concatenate(order), found, int(fold_of.max()) + 1)

    def _train(self, train: Ids, phase: str, held: Ids | None) -> DetectNetwork:
        every = max(1, self.plan.epochs // _LOOKS)

        def on_epoch(record: DetectEpoch, training: DetectTraining) -> None:
            score: float | None = None
            is_turn = record.epoch % every == 0 or record.epoch == self.plan.epochs
            if held is not None and is_turn and not self.stopper.is_asked:
                with training.averaged():
                    found = self.bench.find(training.net, self.plan, held, self.decoding)
                truth = [self.road.samples.boxes[i] for i in held]
                setup = EvaluationSetup(EvaluationProtocol.VALIDATION_SPLIT)
                score = evaluate_detections(
                    truth, found, self.road.samples.class_names, draws=0, setup=setup
                ).map50.value
            self._epochs_done = record.epoch
            self.log.add(phase, self.plan.epochs, record, score)

        self._epochs_done = 0
        net = self.bench.train(self.plan, train, stop=lambda: self.stopper.is_asked, on_epoch=on_epoch)
        if self.stopper.is_asked:
            self.is_stopped = True
            self.road.talk.warn(
                f"stopped in epoch {self._epochs_done} of {self.plan.epochs}; what is trained is saved and scored"
            )
        if not self._epochs_done:
            raise HeadstartError(
                "the training came to no end of an epoch: the loss was no number.", hint="a smaller --lr"
            )
        return net

    def _settle_epochs(self, train: Ids, budget_minutes: float) -> None:
        """Turns a budget into epochs, from the speed of the first views and steps."""
        plan, road = self.plan, self.road
        training = self.bench.training(plan, train)
        some = train[: plan.batch_size]
        begun = time.monotonic()
        training.source.announce([(int(s), 1) for s in some])
        training.take_step(some, np.ones(len(some), dtype=np.int64))
        view_s = (time.monotonic() - begun) / len(some)
        begun = time.monotonic()
        for _ in range(_PILOT_STEPS):
            training.take_step(some, np.ones(len(some), dtype=np.int64))
        step_s = (time.monotonic() - begun) / _PILOT_STEPS
        num_trainings = 1 + (road.resolved.settings.folds or 0)
        left = 60.0 * budget_minutes - (time.monotonic() - road.started) - _ENDING_S
        stored = plan.strategy in ("head", "finetune")
        left -= view_s * len(train) * plan.views if stored else 0.0
        epoch_s = step_s * training.steps_per_epoch
        epochs = int(left / num_trainings / epoch_s)
        if epochs < 1:
            raise SettingError(
                f"the budget is too small: an epoch takes some {epoch_s:.0f} s here, and {max(left, 0):.0f} s are left "
                f"for {num_trainings} training{'s' if num_trainings > 1 else ''}.",
                hint="a larger --budget, fewer --views, or a smaller --size",
            )
        epochs = min(epochs, 300)
        self.plan = plan.with_(epochs=epochs, views=min(plan.views, epochs))
        road.decide([Decision("epochs", epochs, f"what fits into the budget at {1e3 * step_s:.0f} ms a step")])

    def _sentence(self, num_train: int) -> str:
        plan = self.plan
        what = {
            "head": "a pyramid and a head on the frozen network",
            "finetune": f"a pyramid, a head and everything from {plan.cut} on",
            "full": "the whole network, from its pretrained weights",
            "scratch": "the whole network, from random weights",
        }[plan.strategy]
        size = self.bench.row_bytes(plan) * num_train * (plan.views + 1)
        stored = (
            f"; {pluralize(plan.views, 'stored view')} of each image, taking {size / 1e6:,.0f} MB of the cache"
            if size
            else ""
        )
        return (
            f"training {what}: {pluralize(plan.epochs, 'epoch')} of batches of {plan.batch_size}, {plan.optimizer} at "
            f"{plan.lr:g}, {plan.schedule} schedule{stored}."
        )
