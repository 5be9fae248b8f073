"""Plan and run the trainings of one detector: optional folds, then the final one.

Ctrl-C ends a training early; what was trained so far is scored and saved, and marked as stopped early.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.advice.detector_budget import BudgetImages, BudgetPlanner, PlannedDetector
from headstart.advice.detector_pace import TimeBudget
from headstart.config.settings import TrainSettings
from headstart.data.boxes.records import Detections
from headstart.data.boxes.split import rarest_class
from headstart.detection.backbone import DetectorBackbone
from headstart.detection.box_sizes import choose_finest
from headstart.detection.decoding import DecodingSettings, scoring_limit
from headstart.detection.loop import DetectEpoch, DetectTraining
from headstart.detection.metrics import evaluate_detections
from headstart.detection.planning import DetectPlanner
from headstart.detection.reference import detect_from_pixels
from headstart.detection.trainer import DetectorTrainer
from headstart.errors import CancelledError, HeadstartError
from headstart.events import EpochFinished, EventStream, Stage
from headstart.runs.context import RunContext
from headstart.runs.files import write_csv
from headstart.runs.journal import JOURNAL, Journal, read_journal
from headstart.tasks.detect.state import DetectorData, HeldOut, TrainedDetector
from headstart.tasks.resume_state import (
    Fingerprint,
    clear_partial_output,
    fingerprint,
    save_resume_state,
    verify_resume_state,
)
from headstart.training.checkpoint import Checkpoints
from headstart.training.folds import make_folds
from headstart.training.jobs import InterruptHandler, TrainingInterruptedError, check_frozen
from headstart.types.arrays import Ids
from headstart.types.codes import EvaluationProtocol, EvaluationSetup, Evidence, NoteKind
from headstart.types.records import Split
from headstart.utils.system import available_cores

__all__ = ["TEMPORARY", "EpochLog", "num_threads_of", "plan_and_train", "train_phases"]

TEMPORARY = ".detector.tmp"
"""Folder of temporary files; removed when the run is complete or resumed."""

_SHOWN_OF_BUDGET = ("epochs", "num_views", "budget.num_images")  # settings
_NUM_VALIDATIONS = 8  # validations per training
_COLUMNS = ("epoch", "train_loss", "class_loss", "box_loss", "val_mAP50", "lr", "duration_s", "phase")


@dataclass
class EpochLog:
    """Writes `results.csv`, one row per epoch, and emits an event for each.

    Attributes:
        path: The file; `val_mAP50` is empty for epochs without validation.
        events: Receives an `EpochFinished` per epoch.
        rows, written: Rows of the file as values, and as texts.
    """

    path: Path
    events: EventStream
    rows: list[dict[str, Any]] = field(default_factory=list)
    written: list[dict[str, str]] = field(default_factory=list)

    def add(self, phase: str, num_epochs: int, record: DetectEpoch, map50: float | None) -> None:
        """Record one finished epoch."""
        metrics = {**asdict(record), "val_mAP50": map50}
        self.rows.append({**metrics, "phase": phase})
        self.events.emit(EpochFinished(phase, metrics.pop("epoch"), num_epochs, metrics))
        self.written = write_csv(self.path, _COLUMNS, ([row[name] for name in _COLUMNS] for row in self.rows))


def plan_and_train(
    run: RunContext, data: DetectorData, backbone: DetectorBackbone
) -> tuple[PlannedDetector, TrainedDetector]:
    """Plan the training, within the budget if there is one, and train."""
    settings, train = run.resolved.settings, data.split.where("train")
    checkpoints, found = Checkpoints(run.folder / "checkpoints"), _fingerprint(data)
    if run.is_resumed:
        verify_resume_state(checkpoints, found)
        clear_partial_output(run.folder)
    journal = Journal(run.folder / JOURNAL, run.journal or read_journal(run.folder / JOURNAL))
    with run.timed("prepare"):
        trainer = DetectorTrainer(
            data.samples,
            data.digests,
            backbone,
            run.events,
            num_threads=num_threads_of(settings),
            view_folder=None if settings.cache else run.folder / TEMPORARY,
            clock=run.clock,
        )
    with closing(trainer):
        with run.timed("prepare"):
            boxes = [data.samples.boxes[i] for i in train]
            ids = np.concatenate([b.class_ids[~b.is_crowd] for b in boxes])
            rarest = np.bincount(ids, minlength=backbone.num_classes).min()
            finest = choose_finest(boxes, data.samples.sizes_hw[train], data.spec)
            planner = DetectPlanner(run.resolved, backbone, len(train), float(rarest), finest)
            if settings.time_budget is None:
                planned = PlannedDetector(*planner.plan(), train)
            else:
                budget = TimeBudget(run.started, 60.0 * settings.time_budget, run.clock, (settings.folds or 0) + 1)
                scored = np.concatenate([data.split.where("val"), data.split.where("test")])
                images = BudgetImages(train, data.samples.boxes, backbone.num_classes, scored)
                within = BudgetPlanner(budget, trainer, planner, journal, images, seed=settings.seed)
                planned = within.plan(is_threads_chosen=not settings.num_threads)
        shown = {"strategy", "detect.min_stride", *(() if planned.pace is None else _SHOWN_OF_BUDGET)}
        run.decide([d for d in planned.decisions if d.setting in shown])
        run.decide([d for d in planned.decisions if d.setting not in shown], is_shown=False)
        if not run.is_resumed:
            save_resume_state(checkpoints, run.resolved, found)
        return planned, train_phases(run, data, trainer, planned, checkpoints)


def num_threads_of(settings: TrainSettings) -> int:
    """Return the number of threads: as set, or one per core."""
    return settings.num_threads or available_cores()


def _fingerprint(data: DetectorData) -> Fingerprint:
    """Return what a resumed run must find again: files, boxes and split."""
    annotations = (
        hashlib.sha256(b.xyxy.tobytes() + b.class_ids.tobytes() + b.is_crowd.tobytes()).hexdigest()[:16]
        for b in data.samples.boxes
    )
    return fingerprint(data.samples.names, data.digests, annotations, data.split.assignment)


def train_phases(
    run: RunContext,
    data: DetectorData,
    trainer: DetectorTrainer,
    planned: PlannedDetector,
    checkpoints: Checkpoints,
) -> TrainedDetector:
    """Cross-validate if the settings ask for folds, then train on all training images.

    Raises:
        TrainingInterruptedError: Ctrl-C was pressed during cross-validation.
        HeadstartError: The loss was not finite in the first epoch.
    """
    settings, plan = run.resolved.settings, planned.plan
    most = scoring_limit(max(len(boxes) for boxes in data.samples.boxes))
    own = settings.detect
    decoding = DecodingSettings(nms_iou=own.nms_iou, is_class_agnostic=own.class_agnostic_nms)
    decoding = decoding.limited(min(own.max_detections, most))
    interrupt_handler = InterruptHandler(run.events)
    log = EpochLog(run.folder / "results.csv", run.events)
    phases = _Phases(trainer, planned, decoding, log, interrupt_handler, checkpoints)
    row_bytes = trainer.backbone.row_bytes(plan.train_from, plan.min_stride) if plan.is_cached else 0
    stage = run.events.stage(
        Stage.TRAIN,
        strategy=plan.strategy,
        train_from=plan.train_from,
        num_images=len(planned.train),
        num_epochs=plan.epochs,
        batch_size=plan.batch_size,
        optimizer=plan.optimizer,
        lr=plan.lr,
        schedule=plan.schedule,
        num_views=plan.num_views,
        cache_bytes=row_bytes * len(planned.train) * (plan.num_views + 1),
    )
    with stage as evidence, run.timed("train"), interrupt_handler.listening():
        oof = phases.cross_validate(settings.folds, data.split) if settings.folds else None
        trained = phases.train("final", planned.train, data.split.where("val"))
        evidence["num_epochs"] = trained.num_epochs
    return replace(trained, oof=oof, epochs=phases.log.written)


@dataclass
class _Phases:
    """The trainings of one run.

    Attributes:
        trainer: The trainer.
        planned: The plan of every training.
        decoding: How candidates become detections, with limits for scoring.
        log: Records the epochs.
        interrupt_handler: Says whether Ctrl-C was pressed.
        checkpoints: Stores the trainings, so that a killed run continues.
    """

    trainer: DetectorTrainer
    planned: PlannedDetector
    decoding: DecodingSettings
    log: EpochLog
    interrupt_handler: InterruptHandler
    checkpoints: Checkpoints

    def cross_validate(self, num_folds: int, split: Split) -> HeldOut:
        """Train without each fold in turn and detect objects in it, from files as the bundle does.

        Args:
            num_folds: Number of folds.
            split: The split; its groups stay in one fold.

        Raises:
            TrainingInterruptedError: Ctrl-C was pressed.
        """
        plan, train, backbone = self.planned.plan, self.planned.train, self.trainer.backbone
        kinds = rarest_class(self.trainer.samples)[train] + 1
        fold_of = make_folds(kinds, num_folds, groups=split.groups_of(train), seed=plan.seed)
        num_made = int(fold_of.max()) + 1
        order: list[Ids] = []
        detections: list[Detections] = []
        for fold in range(num_made):
            held = train[fold_of == fold]
            trained = self.train(f"fold{fold + 1}", train[fold_of != fold], held)
            if trained.is_stopped:
                raise TrainingInterruptedError(
                    "stopped during cross-validation; there is no detector to save yet.",
                    hint="cached views are kept; use fewer --folds or a --budget to save time",
                )
            detector = backbone.detector(trained.net, plan)
            detections += detect_from_pixels(detector, self.trainer.samples, held, backbone.spec, self.decoding)
            order.append(held)
        setup = EvaluationSetup(EvaluationProtocol.K_FOLD, num_folds=num_made)
        return HeldOut(
            np.concatenate(order), detections, np.ones(len(train), dtype=bool), setup, False, self.decoding.num_kept
        )

    def train(self, phase: str, train: Ids, held: Ids) -> TrainedDetector:
        """Train once, with validations on the held-out images.

        Args:
            phase: Name of the training.
            train: Positions of its training images.
            held: Positions of its held-out images.

        Raises:
            HeadstartError: The loss was not finite in the first epoch, or frozen tensors have changed.
        """
        plan, pace, events = self.planned.plan, self.planned.pace, self.log.events
        num_validations = _NUM_VALIDATIONS if pace is None else pace.num_validations(len(held))
        every = max(1, plan.epochs // num_validations) if num_validations and len(held) else 0
        schedule = None if pace is None else pace.make_schedule(phase, len(held))
        training = self.trainer.training(plan, train, schedule)
        frozen, scores = training.net.frozen_digest(), self._restore(phase, training)
        for record in training.run(stop=lambda: self._after_step(phase, training, scores)):
            num_epochs = -(-training.schedule.num_steps // training.steps_per_epoch)
            is_validated = bool(every) and (record.epoch % every == 0 or record.epoch == num_epochs)
            map50 = self._validate(training, held) if is_validated and not self.interrupt_handler.is_requested else None
            self.log.add(phase, num_epochs, record, map50)
            scores.append(map50)
        if not training.is_diverged and not self.interrupt_handler.is_requested:
            self._save(phase, training, scores)
        num_epochs = len(training.records)
        if training.is_diverged:
            evidence: Evidence = {"epoch": num_epochs + 1, "setting": "lr", "lr": plan.lr / 3}
            events.warn(NoteKind.TRAINING_DIVERGED, phase="training", **evidence)
        check_frozen(frozen, training.net.frozen_digest())
        if self.interrupt_handler.is_requested:
            events.warn(NoteKind.TRAINING_STOPPED, epoch=num_epochs, num_epochs=plan.epochs)
        if not num_epochs:
            raise HeadstartError(
                "training diverged in the first epoch: the loss is not finite.", hint="use a smaller --lr"
            )
        is_stopped = self.interrupt_handler.is_requested
        return TrainedDetector(training.net, self.decoding, num_epochs, training.step, is_stopped)

    def _restore(self, phase: str, training: DetectTraining) -> list[float | None]:
        """Continue a training from its last checkpoint; return the mAP50 of its finished epochs."""
        snapshot = self.checkpoints.load(phase)
        if snapshot is None:
            return []
        training.restore(snapshot)
        scores: list[float | None] = snapshot.values["map50"]
        num_epochs = -(-training.schedule.num_steps // training.steps_per_epoch)
        for record, map50 in zip(training.records, scores, strict=True):
            self.log.add(phase, num_epochs, record, map50)
        return scores

    def _after_step(self, phase: str, training: DetectTraining, scores: list[float | None]) -> bool:
        """Save a checkpoint if one is due; return whether Ctrl-C was pressed, which saves the detector.

        Raises:
            CancelledError: The pipeline was canceled; the run can be resumed.
        """
        try:
            self.log.events.raise_if_cancelled()
        except CancelledError:
            self._save(phase, training, scores)
            raise
        if self.checkpoints.is_due():
            self._save(phase, training, scores)
        return self.interrupt_handler.is_requested

    def _save(self, phase: str, training: DetectTraining, scores: list[float | None]) -> None:
        snapshot = training.snapshot()
        snapshot.values["map50"] = scores
        self.checkpoints.save(phase, snapshot)

    def _validate(self, training: DetectTraining, held: Ids) -> float | None:
        """Return the mAP50 of the averaged weights on held-out images."""
        with training.averaged():
            detections = self.trainer.detect(training.net, self.planned.plan, held, self.decoding)
        ground_truth = [self.trainer.samples.boxes[i] for i in held]
        setup = EvaluationSetup(EvaluationProtocol.VALIDATION_SPLIT)
        names, limit = self.trainer.samples.class_names, self.decoding.num_kept
        return evaluate_detections(
            ground_truth, detections, names, draws=0, setup=setup, max_detections=limit
        ).map50.value
