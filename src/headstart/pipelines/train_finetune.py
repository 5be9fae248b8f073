"""Fine-tune: fit the probe, train, compare both on held-out images, keep the better or the requested one."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.advice.candidates import select_candidate
from headstart.advice.finetune_costs import (
    FINAL_STEPS_S,
    NUM_FOLDS,
    epochs_for_budget,
    image_seconds,
    measure_speed,
    trainings_s,
)
from headstart.advice.resources import choose_threads, fit_to_disk, measure_precision, without_harmful_flip
from headstart.backbones.latency import training_s
from headstart.config.settings import ResolvedConfig
from headstart.errors import DataError
from headstart.events import EventStream, Stage
from headstart.features.device_choice import check_device
from headstart.pipelines.finetune_outputs import FinetunedModel, write_finetune_outputs
from headstart.pipelines.probe_outputs import write_probe_outputs
from headstart.pipelines.resume_state import clear_partial_output, save_resume_state, verify_resume_state
from headstart.pipelines.train_probe import fit_probe_on_dataset
from headstart.probe.class_weights import class_factors
from headstart.probe.linear import LinearHead
from headstart.probe.losses import log_losses
from headstart.probe.normalize import Normalizer
from headstart.probe.probe import ProbeFit, fit_probe
from headstart.probe.refit import refit_head
from headstart.quality.dataset_split import read_samples
from headstart.runs.context import planned_decision
from headstart.runs.folder import own_run_folder
from headstart.training.checkpoint import Checkpoints
from headstart.training.fitted_probe import FittedProbe, ProbeRunContext
from headstart.training.folds import make_folds
from headstart.training.image_sources import BatchSources
from headstart.training.jobs import TrainingResult, check_frozen
from headstart.training.log import EpochLog, check_tensorboard
from headstart.training.plan import FinetunePlan
from headstart.training.planning import check_descriptions, check_stages, make_plan
from headstart.training.probe_comparison import ProbeComparison, compare_to_probe
from headstart.training.shared_backbone import SharedBackbone
from headstart.training.trainer import FinetuneTrainer, Refit
from headstart.types.codes import (
    DecisionReason,
    EvaluationProtocol,
    EvaluationSetup,
    Evidence,
    JsonValue,
    NoteKind,
    SplitSource,
)
from headstart.types.records import Decision
from headstart.utils.system import available_cores

__all__ = ["train_finetuned"]

Ids = NDArray[np.int64]
_TOP = ("train_from", "epochs", "batch_size", "lr", "optimizer", "schedule", "augment", "num_views", "patience")
_HELD_OUT = 5  # 1/5 is held out where no folds are requested


def train_finetuned(
    resolved: ResolvedConfig, events: EventStream, *, started: float | None = None, folder: Path | None = None
) -> Path:
    """Fine-tune by gradient descent, or let a measured comparison decide.

    Args:
        resolved: The settings; the strategy is `auto` with a budget, `head`, `finetune`, `full` or `scratch`.
        events: The event stream.
        started: `time.monotonic()` when the command began.
        folder: A run to resume.

    Returns:
        The run folder.

    Raises:
        TrainingInterruptedError: Ctrl-C; the run can be resumed.
        HeadstartError: Any other known failure.
    """
    started = time.monotonic() if started is None else started
    settings = resolved.settings
    # Flipped images are among the views already; flip TTA in the probe would only blur the comparison.
    head = settings.probe.model_copy(update={"flip_tta": "off"})
    settings = settings.model_copy(update={"probe": head})
    resolved = replace(resolved, settings=settings).with_decisions(
        [Decision("probe.flip_tta", "off", DecisionReason.FLIP_IS_TRAINING_VIEW)]
    )
    check_device(settings.device)
    if settings.finetune.tensorboard:
        check_tensorboard()
    check_descriptions(settings)
    is_new = folder is None
    try:
        samples = read_samples(settings)
    except DataError as error:
        if is_new:
            raise
        hint = "resuming needs the same images at the same path: restore them, or start a new run"
        raise DataError(error.message, hint=hint) from error
    with own_run_folder(settings.out, resume=folder, events=events, started=started) as folder:
        context = ProbeRunContext(resolved, events, folder)
        context.duration_s["read"] = time.monotonic() - started
        checkpoints = Checkpoints(folder / "checkpoints")
        fitted = fit_probe_on_dataset(context, samples, started)
        backbone = SharedBackbone(fitted.embedder, settings)
        if is_new:
            check_stages(settings, backbone, has_val=bool(len(fitted.split.where("val"))))
            save_resume_state(checkpoints, resolved, fitted)
        else:
            verify_resume_state(checkpoints, fitted)
            clear_partial_output(folder)
        num_threads = checkpoints.once("threads", lambda: settings.num_threads or available_cores())
        measure = partial(choose_threads, context, num_threads)
        torch_threads = settings.num_threads or checkpoints.once("torch_threads", measure)
        sources = BatchSources(fitted, backbone, checkpoints, events, num_threads)
        trainer = FinetuneTrainer(sources, str(folder), torch_threads)
        context.decide_used(Decision("device", str(trainer.device), DecisionReason.DEVICE_OF_TRAINING, "default"))
        try:
            FinetunePipeline(context, fitted, trainer, checkpoints, started).run()
        finally:
            trainer.close()
    shutil.rmtree(checkpoints.folder / "views", ignore_errors=True)
    return folder


@dataclass
class _Comparison:
    """Out-of-fold logits of both models: sample indices, folds, and (M, K) logits."""

    samples: Ids
    folds: Ids
    probe: NDArray[np.float32]
    tuned: NDArray[np.float32]
    shares: tuple[float, ...]


class FinetunePipeline:
    """Runs all steps of one fine-tuning run."""

    def __init__(
        self,
        context: ProbeRunContext,
        fitted: FittedProbe,
        trainer: FinetuneTrainer,
        checkpoints: Checkpoints,
        started: float,
    ) -> None:
        self.context, self.fitted, self.trainer, self.checkpoints, self.started = (
            context,
            fitted,
            trainer,
            checkpoints,
            started,
        )
        self.settings = context.resolved.settings
        self.log = EpochLog(context.folder, context.events, has_events=self.settings.finetune.tensorboard)
        self.train = fitted.split.where("train")
        names = fitted.samples.class_names
        self.num_classes = len(names)
        labels = fitted.samples.class_ids[self.train]
        # With balanced sampling, all classes weigh the same in the probe and in the comparison too.
        self.is_balanced = self.settings.finetune.sampling == "balanced"
        source = "auto" if self.is_balanced else self.settings.probe.class_weights
        self.class_weights = class_factors(source, labels, names)
        self._probes: dict[bytes, ProbeFit] = {}

    def run(self) -> None:
        """Plan, train, compare with the probe, and write the run."""
        is_requested = self.settings.strategy != "auto"
        if is_requested:
            requested = self._requested_plan()
            if requested is None:
                self._keep_probe()
                return
            plan = requested
            num_folds, num_used = (self.settings.folds or _HELD_OUT), self.settings.folds or 1
        else:
            candidate = select_candidate(
                self.context, self.trainer, self.started, lambda plan: self._start_head(plan, self.train), self._pilot
            )
            if candidate is None:
                self._keep_probe()
                return
            plan, num_folds, num_used = candidate.plan, NUM_FOLDS, candidate.num_folds
        with self.context.events.stage(Stage.TRAIN, **self._decide_plan(plan)) as stage:
            evidence, results = self._measure(plan, num_folds, num_used)
            comparison = self._compare(evidence, is_probe_allowed=not is_requested)
            is_kept = comparison.is_better or (is_requested and self.settings.select != "best")
            stage |= {**self._describe(comparison, evidence), "is_kept": is_kept}
            strategy, reason = plan.strategy if is_kept else "probe", DecisionReason.TUNED_COMPARED_WITH_PROBE
            self.context.decide([Decision("strategy", strategy, reason, evidence=comparison.to_json())])
            if is_kept:
                final, head, trained_on = self._final(plan, results, num_folds)
            jobs = (*results, final) if is_kept and final is not results[0] else results
            stage["train_seconds"] = sum(record.duration_s for job in jobs for record in job.records)
        if not is_kept:
            self._keep_probe(comparison)
            return
        for result in (*results, final):
            check_frozen(result.frozen_before, result.frozen_after)
        tuned = FinetunedModel(
            plan, final, head, comparison, evidence.samples, self._setup(num_folds, num_used), trained_on, is_requested
        )
        write_finetune_outputs(self.context, self.fitted, self.trainer, tuned, self.log, self.started)

    def _describe(self, comparison: ProbeComparison, evidence: _Comparison) -> dict[str, JsonValue]:
        """Return the result of the comparison with the probe."""
        labels = self.fitted.samples.class_ids[evidence.samples]
        losses = log_losses(evidence.probe.astype(np.float64), labels)
        probe_loss = float(np.average(losses, weights=self._sample_weights(evidence.samples)))
        return {
            "verdict": "better" if comparison.is_better else "worse" if comparison.is_worse else "undecided",
            "log_loss": probe_loss - comparison.gain,
            "probe_log_loss": probe_loss,
            "accuracy_gain": comparison.accuracy_gain,
            "num_compared": comparison.num_samples,
        }

    # -- steps

    def _requested_plan(self) -> FinetunePlan | None:
        """Return the requested plan, with epochs from the budget if there is one; None where it is too small."""
        resolved = self.context.resolved
        strategy = "head" if self.settings.train_from == "head" else self.settings.strategy
        plan = make_plan(resolved, strategy, self.trainer.backbone.cut_for(), len(self.train), self.num_classes)
        plan = without_harmful_flip(self.context, self.trainer, plan)
        plan = fit_to_disk(self.context, self.trainer, plan, len(self.train))
        head = self._start_head(plan, self.train)
        if self.settings.finetune.precision == "auto":
            args = (self.trainer, plan, head, len(self.train))
            precision, speedup = self.checkpoints.once("precision", lambda: measure_precision(*args))
            too_short = DecisionReason.TRAINING_TOO_SHORT_TO_MEASURE
            reason = too_short if speedup is None else DecisionReason.PRECISIONS_COMPARED
            decision = Decision("finetune.precision", precision, reason, evidence={"speedup": speedup})
            self.context.decide([decision], is_shown=precision != "float32")
            plan = plan.with_(precision=precision)
        if self.settings.time_budget is None:
            return plan
        speed = self.checkpoints.once("speed", lambda: measure_speed(self.trainer, plan, head, self.train))
        left = self.checkpoints.once(
            "seconds_left",
            lambda: 60.0 * (self.settings.time_budget or 0.0) - (time.monotonic() - self.started) - FINAL_STEPS_S,
        )
        parts = self._parts(plan)
        epochs = epochs_for_budget(plan, speed, parts, left)
        evidence: Evidence = {
            "left_seconds": max(left, 0.0),
            "reserved_seconds": FINAL_STEPS_S,
            "image_seconds": speed["image_s"],
            "epoch_seconds": trainings_s(plan.with_(epochs=1), speed, parts),
        }
        if epochs < 1:
            self.context.events.warn(NoteKind.FINE_TUNING_SKIPPED, why="budget", left_seconds=max(left, 0.0))
            reason = DecisionReason.BUDGET_TOO_SHORT_FOR_EPOCH
            self.context.decide([Decision("strategy", "probe", reason, evidence=evidence)])
            return None
        self.context.decide([Decision("epochs", epochs, DecisionReason.EPOCHS_FIT_BUDGET, evidence=evidence)])
        return plan.with_(epochs=epochs, num_views=epochs if plan.is_from_pixels else min(plan.num_views, epochs))

    def _parts(self, plan: FinetunePlan) -> list[tuple[int, int]]:
        """Return (training images, scored images) of each requested training."""
        num, num_val = len(self.train), len(self.fitted.split.where("val"))
        if num_val:
            return [(num, num_val)]
        folds = self.settings.folds
        held = num // (folds or _HELD_OUT)
        parts = [(num - held, held)] * (folds or 1)
        return parts if self._is_scored_kept(plan, len(parts)) else [*parts, (num, 0)]

    def _is_scored_kept(self, plan: FinetunePlan, num_trainings: int) -> bool:
        """Return whether the model scored on one part is the final one, since training it again takes too long."""
        return plan.strategy in ("full", "scratch") and num_trainings == 1

    def _pilot(self, plan: FinetunePlan) -> tuple[float, float]:
        """Return the log-loss gain of a plan on the first fold, and the seconds per training image.

        The gain is at the best interpolation factor, so all candidates have the same optimistic bias.
        """
        evidence, (result,) = self._measure(plan, NUM_FOLDS, 1)
        comparison = self._compare(evidence)
        num_held = len(evidence.samples)
        num_train = len(self.train) - (0 if len(self.fitted.split.where("val")) else num_held)
        return comparison.best_gain, image_seconds(result.records, num_train, num_held)

    def _compare(self, evidence: _Comparison, *, is_probe_allowed: bool = True) -> ProbeComparison:
        return compare_to_probe(
            evidence.probe,
            evidence.tuned,
            self.fitted.samples.class_ids[evidence.samples],
            evidence.folds,
            groups=self._groups(evidence.samples),
            shares=evidence.shares,
            sample_weights=self._sample_weights(evidence.samples),
            is_probe_allowed=is_probe_allowed,
            seed=self.settings.seed,
        )

    def _keep_probe(self, comparison: ProbeComparison | None = None) -> None:
        """Save the probe, with the records of the trial."""
        if self.log.phases:
            self.log.write()
            self.log.draw()
        more = {}
        if comparison is not None:
            more = {"finetune": {"verdict": comparison.to_json()}}
        write_probe_outputs(self.context, self.fitted, self.started, **more)

    def _decide_plan(self, plan: FinetunePlan) -> dict[str, JsonValue]:
        """Record the values of a plan as decisions, and return the evidence of the training stage."""
        net = self.trainer.network(plan, self._start_head(plan, self.train))
        count = sum(p.numel() for p in net.parameters() if p.requires_grad)
        graph = self.fitted.embedder.graph
        expected = training_s(graph.backbone, graph.spec.size_hw[0], plan.train_from, plan.epochs * len(self.train))
        planned = {
            name if name in _TOP else f"finetune.{name}": value
            for name, value in plan.to_json().items()
            if name not in ("strategy", "seed", "unfreeze")
        }
        planned["finetune.head"] = plan.head or None  # None: the linear head of the probe
        planned["finetune.train_image_size"] = planned["finetune.train_image_size"] or graph.spec.size_hw[0]
        known = {d.setting: d.value for d in self.context.resolved.decisions}  # decided with a reason already
        for name, value in planned.items():
            if name not in known or known[name] != value:
                chosen = planned_decision(self.context.resolved, name, value, len(self.train))
                self.context.decide(chosen, is_shown=self.context.resolved.is_explicit(name))
        row_bytes = 0 if plan.is_from_pixels else self.trainer.sources.row_bytes(plan)
        return {
            "strategy": plan.strategy,
            "train_from": plan.train_from,
            "num_parameters": count,
            "num_images": len(self.train),
            "num_epochs": plan.epochs,
            "batch_size": plan.batch_size,
            "optimizer": plan.optimizer,
            "lr": plan.lr,
            "head_lr": plan.head_lr,
            "schedule": plan.schedule,
            "num_views": plan.num_views,
            "cache_bytes": row_bytes * len(self.train) * (plan.num_views + 1),
            "expected_seconds": expected,
        }

    def _measure(self, plan: FinetunePlan, num_folds: int, num_used: int) -> tuple[_Comparison, list[TrainingResult]]:
        """Train on folds and score the held-out images; a user's validation split replaces the folds."""
        val = self.fitted.split.where("val")
        if len(val):
            jobs = [("val", self.train, val)]
        else:
            fold_of = self._folds(num_folds)
            used = range(min(num_used, int(fold_of.max()) + 1))
            jobs = [(f"fold{f + 1}", self.train[fold_of != f], self.train[fold_of == f]) for f in used]
        probes, tuned, results = [], [], []
        for name, train, held in jobs:
            head = self._start_head(plan, train)
            probes.append(self._probe(train).head.logits(self._blocks(held)))
            with self.context.timed("finetune"):
                results.append(self._run(self._job(plan, name), plan, head, train, held, name))
            tuned.append(results[-1].logits)
        evidence = _Comparison(
            np.concatenate([held for _, _, held in jobs]),
            np.concatenate([np.full(len(held), i) for i, (_, _, held) in enumerate(jobs)]),
            np.concatenate(probes),
            np.concatenate([t for t in tuned if t is not None], axis=1),
            results[0].shares,
        )
        return evidence, results

    def _job(self, plan: FinetunePlan, part: str) -> str:
        """Return the unique name of a training's checkpoints."""
        is_plain = self.settings.strategy == "auto" and plan.augment == "none"
        return f"{plan.strategy}-{plan.train_from}{'-plain' if is_plain else ''}-{part}"

    def _folds(self, num_folds: int) -> Ids:
        labels, groups = self.fitted.samples.class_ids[self.train], self._groups(self.train)
        return make_folds(labels, num_folds, groups=groups, seed=self.settings.seed)

    def _run(
        self, name: str, plan: FinetunePlan, head: LinearHead, train: Ids, val: Ids | None, phase: str
    ) -> TrainingResult:
        self.log.begin(phase, plan.epochs)
        result = self.trainer.run(
            name,
            plan,
            head,
            train,
            val,
            class_weights=None if self.is_balanced else self.class_weights,
            refit=self._refit(train) if plan.refit_head else None,
            on_epoch=lambda record, is_new: self.log.add(phase, record, is_new=is_new),
        )
        if result.is_diverged:
            is_head = plan.strategy == "head" or self.settings.finetune.head_lr is not None
            self.context.events.warn(
                NoteKind.TRAINING_DIVERGED,
                phase=phase,
                epoch=len(result.records) + 1,
                setting="finetune.head_lr" if self.settings.finetune.head_lr is not None else "lr",
                lr=(plan.head_lr if is_head else plan.lr) / 3,
            )
        return result

    def _final(
        self, plan: FinetunePlan, results: list[TrainingResult], num_folds: int
    ) -> tuple[TrainingResult, LinearHead, Ids]:
        """Return the final result, its initial head, and its training images.

        It is trained on all images; with a user's validation split, or for a whole network with one hold-out, it is
        the model that was scored.
        """
        if len(self.fitted.split.where("val")):
            return results[0], self._start_head(plan, self.train), self.train
        if self._is_scored_kept(plan, len(results)):
            part = self.train[self._folds(num_folds) != 0]
            return results[0], self._start_head(plan, part), part
        epochs = max(1, round(float(np.mean([r.best_epoch for r in results]))))
        final_plan = plan.with_(epochs=min(plan.epochs, epochs), patience=None)
        final_plan = final_plan.with_(num_views=min(final_plan.num_views, final_plan.epochs))
        head = self._start_head(plan, self.train)
        numbers = {"num_epochs": final_plan.epochs, "num_images": len(self.train)}
        stage = self.context.events.stage(Stage.FINAL_TRAINING, **numbers)
        with stage, self.context.timed("finetune"):
            return self._run(self._job(plan, "final"), final_plan, head, self.train, None, "final"), head, self.train

    # -- helpers

    def _probe(self, train: Ids) -> ProbeFit:
        """Return the probe fitted on the given training images only."""
        if len(train) == len(self.train):
            return self.fitted.fit
        key = train.tobytes()
        if key not in self._probes:
            self._probes[key] = fit_probe(
                self._blocks(train),
                self.fitted.samples.class_ids[train],
                self.num_classes,
                groups=self._groups(train),
                class_weights=self.class_weights,
                seed=self.settings.seed,
            )
        return self._probes[key]

    def _refit(self, train: Ids) -> Refit:
        """Return a function that refits the closed-form head on rows of a fine-tuned network."""
        probe, labels = self._probe(train), self.fitted.samples.class_ids

        def fit(rows: NDArray[np.float32], samples: Ids) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            return refit_head(probe.head, rows, labels[samples], probe.choice, class_weights=self.class_weights)

        return fit

    def _start_head(self, plan: FinetunePlan, train: Ids) -> LinearHead:
        if plan.strategy != "scratch":
            return self._probe(train).head
        width = self.trainer.backbone.blocks_width("embedding")
        zeros, ones = np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32)
        # Features of random weights have no known moments: rows of norm 16, no clipping.
        normalizer = Normalizer(("embedding",), (zeros,), (ones,), (16.0,), 1e6)
        weight = np.zeros((self.num_classes, width), dtype=np.float32)
        return LinearHead(normalizer, weight, np.zeros(self.num_classes, dtype=np.float32), 1.0)

    def _blocks(self, index: Ids) -> dict[str, NDArray[np.float32]]:
        return {name: block[index] for name, block in self.fitted.features.blocks.items()}

    def _groups(self, index: Ids) -> Ids | None:
        groups = self.fitted.split.groups
        return None if groups is None else groups[index]

    def _sample_weights(self, index: Ids) -> NDArray[np.floating] | None:
        if self.class_weights is None:
            return None
        return np.asarray(self.class_weights[self.fitted.samples.class_ids[index]])

    def _setup(self, num_folds: int, num_used: int) -> EvaluationSetup:
        """Return the evaluation setup of the comparison with the probe."""
        if len(self.fitted.split.where("val")):
            return EvaluationSetup(
                EvaluationProtocol.VALIDATION_SPLIT, split_source=SplitSource.USER, is_used_for_selection=True
            )
        if num_used == 1:
            return EvaluationSetup(
                EvaluationProtocol.VALIDATION_SPLIT,
                held_out_fraction=1 / num_folds,
                split_source=SplitSource.MADE,
                is_used_for_selection=True,
            )
        return EvaluationSetup(
            EvaluationProtocol.K_FOLD,
            num_folds=num_folds,
            num_folds_used=None if num_used == num_folds else num_used,
        )
