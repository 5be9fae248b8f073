"""Run the trainings of one detector: optional folds, then the final one.

Ctrl-C ends a training early; what was trained so far is scored and saved, and marked as stopped early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Detections
from headstart.detection.decoding import DecodingSettings, scoring_limit
from headstart.detection.log import DetectLog
from headstart.detection.metrics import evaluate_detections
from headstart.detection.plan import DetectPlan
from headstart.errors import HeadstartError
from headstart.events import Stage
from headstart.training.folds import make_folds
from headstart.training.jobs import InterruptHandler, TrainingInterruptedError
from headstart.types.codes import EvaluationProtocol, EvaluationSetup, JsonValue, NoteKind

if TYPE_CHECKING:
    from headstart.advice.detector_budget import DetectBudget
    from headstart.detection.context import DetectorRunContext
    from headstart.detection.loop import DetectEpoch, DetectNetwork, DetectTraining
    from headstart.detection.trainer import DetectorTrainer

__all__ = ["DetectRun", "OutOfFold"]

Ids = NDArray[np.int64]
_NUM_VALIDATIONS = 8  # validations per training


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold detections: sample indices, detections, number of folds."""

    samples: Ids
    detections: list[Detections]
    num_folds: int


class DetectRun:
    """Runs the trainings.

    Args:
        context: The run context.
        trainer: The trainer.
        plan: The training plan.
        train: Positions of the training images.
        budget: The time budget; None without one.

    Attributes:
        decoding: Decoding of raw scores, with limits for scoring.
    """

    def __init__(
        self,
        context: DetectorRunContext,
        trainer: DetectorTrainer,
        plan: DetectPlan,
        train: Ids,
        budget: DetectBudget | None = None,
    ) -> None:
        self.context, self.trainer, self.plan, self.train, self.budget = context, trainer, plan, train, budget
        self.log = DetectLog(context.folder, context.events)
        settings = context.resolved.settings.detect
        most = scoring_limit(max(len(boxes) for boxes in context.samples.boxes))
        self.decoding = DecodingSettings(nms_iou=settings.nms_iou).limited(min(settings.max_detections, most))
        self.stopper = InterruptHandler(context.events)
        self.oof: OutOfFold | None = None
        self.net: DetectNetwork | None = None
        self.num_epochs = 0
        self.num_steps = 0
        self.is_stopped = False

    def run(self) -> None:
        """Run all trainings; sets `oof` and `net`."""
        settings = self.context.resolved.settings
        train = self.train
        stage = self.context.events.stage(Stage.TRAIN, **self._evidence(len(train)))
        with stage as evidence, self.context.timed("train"), self.stopper.listening():
            if settings.folds:
                self._cross_validate(train, settings.folds)
            val = self.context.split.where("val")
            self.net = self._train(train, "final", val if len(val) else None)
            self.num_epochs = self._epochs_done
            self.num_steps = self._steps_done
            evidence["num_epochs"] = self.num_epochs

    def _cross_validate(self, train: Ids, num_folds: int) -> None:
        from headstart.data.boxes.split import rarest_class

        samples, groups = self.context.samples, self.context.split.groups
        kinds = rarest_class(samples)[train] + 1
        fold_of = make_folds(kinds, num_folds, groups=None if groups is None else groups[train], seed=self.plan.seed)
        order: list[Ids] = []
        detections: list[Detections] = []
        for fold in range(int(fold_of.max()) + 1):
            held = train[fold_of == fold]
            net = self._train(train[fold_of != fold], f"fold{fold + 1}", held)
            if self.is_stopped:
                raise TrainingInterruptedError(
                    "stopped during cross-validation; there is no detector to save yet.",
                    hint="cached views are kept; use fewer --folds or a --budget to save time",
                )
            detections += self.trainer.detect_from_pixels(net, self.plan, held, self.decoding)  # like the bundle
            order.append(held)
        self.oof = OutOfFold(np.concatenate(order), detections, int(fold_of.max()) + 1)

    def _train(self, train: Ids, phase: str, held: Ids | None) -> DetectNetwork:
        num_held = 0 if held is None else len(held)
        num_validations, schedule = _NUM_VALIDATIONS, None
        if self.budget is not None:
            num_validations, schedule = (
                self.budget.num_validations(num_held),
                self.budget.make_schedule(phase, num_held),
            )
        every = max(1, self.plan.epochs // num_validations) if num_validations else 0

        def on_epoch(record: DetectEpoch, training: DetectTraining) -> None:
            score: float | None = None
            num_epochs = -(-training.schedule.num_steps // training.steps_per_epoch)
            is_turn = bool(every) and (record.epoch % every == 0 or record.epoch == num_epochs)
            if held is not None and is_turn and not self.stopper.is_requested:
                with training.averaged():
                    detections = self.trainer.detect(training.net, self.plan, held, self.decoding)
                ground_truth = [self.context.samples.boxes[i] for i in held]
                setup = EvaluationSetup(EvaluationProtocol.VALIDATION_SPLIT)
                score = evaluate_detections(
                    ground_truth, detections, self.context.samples.class_names, draws=0, setup=setup
                ).map50.value
            self._epochs_done, self._steps_done = record.epoch, training.step
            self.log.add(phase, num_epochs, record, score)

        self._epochs_done = self._steps_done = 0
        net = self.trainer.train(
            self.plan, train, schedule=schedule, stop=lambda: self.stopper.is_requested, on_epoch=on_epoch
        )
        if self.stopper.is_requested:
            self.is_stopped = True
            self.context.events.warn(NoteKind.TRAINING_STOPPED, epoch=self._epochs_done, num_epochs=self.plan.epochs)
        if not self._epochs_done:
            raise HeadstartError(
                "training diverged in the first epoch: the loss is not finite.", hint="use a smaller --lr"
            )
        return net

    def _evidence(self, num_train: int) -> dict[str, JsonValue]:
        """Return the settings of the training for its event."""
        plan = self.plan
        return {
            "strategy": plan.strategy,
            "train_from": plan.train_from,
            "num_images": num_train,
            "num_epochs": plan.epochs,
            "batch_size": plan.batch_size,
            "optimizer": plan.optimizer,
            "lr": plan.lr,
            "schedule": plan.schedule,
            "num_views": plan.num_views,
            "cache_bytes": self.trainer.row_bytes(plan) * num_train * (plan.num_views + 1),
        }
