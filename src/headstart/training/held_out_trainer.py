"""Train plans with held-out images, and compare them with the probe on these.

A user's validation split is held out where there is one, else folds of the training images.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.events import Stage
from headstart.probe.class_weights import class_factors
from headstart.probe.linear import LinearHead
from headstart.probe.losses import log_losses
from headstart.probe.normalize import Normalizer
from headstart.probe.probe import ProbeFit, fit_probe
from headstart.probe.refit import refit_head
from headstart.training.fitted_probe import FittedProbe
from headstart.training.folds import make_folds
from headstart.training.jobs import TrainingResult
from headstart.training.log import EpochLog
from headstart.training.plan import FinetunePlan
from headstart.training.probe_comparison import PairedLogits, ProbeComparison, compare_to_probe
from headstart.training.trainer import FinetuneTrainer, Refit
from headstart.types.arrays import Ids
from headstart.types.codes import EvaluationProtocol, EvaluationSetup, JsonValue, NoteKind, SplitSource

__all__ = ["FinalTraining", "HeldOutTrainer", "HeldOutTrainings"]


@dataclass(frozen=True)
class HeldOutTrainings:
    """Trainings of one plan with held-out images, M in all.

    Attributes:
        plan: The plan.
        num_folds: Number of folds; 0 with a validation split.
        num_used: Number of folds that were to be trained.
        samples: (M,) positions of the held-out images.
        folds: (M,) the training that held each out.
        probe: (M, K) logits of each fold's own probe.
        tuned: (A, M, K) logits at each interpolation factor.
        results: One per training.
    """

    plan: FinetunePlan
    num_folds: int
    num_used: int
    samples: Ids
    folds: Ids
    probe: NDArray[np.float32]
    tuned: NDArray[np.float32]
    results: tuple[TrainingResult, ...]

    @property
    def setup(self) -> EvaluationSetup:
        """Return the evaluation setup of the held-out images."""
        if self.num_folds and self.num_used > 1:
            used = None if self.num_used == self.num_folds else self.num_used
            return EvaluationSetup(EvaluationProtocol.K_FOLD, num_folds=self.num_folds, num_folds_used=used)
        return EvaluationSetup(
            EvaluationProtocol.VALIDATION_SPLIT,
            held_out_fraction=1 / self.num_folds if self.num_folds else None,
            split_source=SplitSource.MADE if self.num_folds else SplitSource.USER,
            is_used_for_selection=True,
        )


@dataclass(frozen=True)
class FinalTraining:
    """The training whose weights are saved.

    Attributes:
        plan: The plan that was compared.
        result: The weights before and after training.
        head: The initial head.
        trained_on: Positions of the training images.
    """

    plan: FinetunePlan
    result: TrainingResult
    head: LinearHead
    trained_on: Ids


class HeldOutTrainer:
    """Trains plans with held-out images.

    Args:
        trainer: Runs each training.
        probe: The probe on all training images, with the data.
        log: Records the epochs.
    """

    def __init__(self, trainer: FinetuneTrainer, probe: FittedProbe, log: EpochLog) -> None:
        self.trainer, self.probe, self.log, self.data = trainer, probe, log, probe.data
        self.settings = trainer.settings
        self.train, self.val = self.data.train, self.data.split.where("val")
        names = self.data.samples.class_names
        self.num_classes = len(names)
        # With balanced sampling, all classes weigh the same in the probe and in the comparison too.
        self._is_balanced = self.settings.finetune.sampling == "balanced"
        source = "auto" if self._is_balanced else self.settings.probe.class_weights
        self._class_weights = class_factors(source, self.data.labels(self.train), names)
        self._probes: dict[bytes, ProbeFit] = {}
        self.seconds = 0.0  # of all trainings

    def start_head(self, plan: FinetunePlan, train: Ids | None = None) -> LinearHead:
        """Return the initial head of a training on some images, all training images by default."""
        if plan.strategy != "scratch":
            return self._probe_of(self.train if train is None else train).head
        width = self.trainer.backbone.blocks_width("embedding")
        zeros, ones = np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32)
        # Features of random weights have no known moments: rows of norm 16, no clipping.
        normalizer = Normalizer(("embedding",), (zeros,), (ones,), (16.0,), 1e6)
        weight = np.zeros((self.num_classes, width), dtype=np.float32)
        return LinearHead(normalizer, weight, np.zeros(self.num_classes, dtype=np.float32), 1.0)

    def measure(self, plan: FinetunePlan, num_folds: int, num_used: int) -> HeldOutTrainings:
        """Train on the first `num_used` of `num_folds` folds, or on all training images with a validation split."""
        if len(self.val):
            num_folds, jobs = 0, [("val", self.train, self.val)]
        else:
            fold_of = self._folds(num_folds)
            used = range(min(num_used, int(fold_of.max()) + 1))
            jobs = [(f"fold{f + 1}", self.train[fold_of != f], self.train[fold_of == f]) for f in used]
        probes, results = [], []
        for name, train, held in jobs:
            probes.append(self._probe_of(train).head.logits(self.data.blocks(held)))
            results.append(self._run(plan, name, train, held))
        return HeldOutTrainings(
            plan,
            num_folds,
            num_used,
            np.concatenate([held for _, _, held in jobs]),
            np.concatenate([np.full(len(held), i) for i, (_, _, held) in enumerate(jobs)]),
            np.concatenate(probes),
            np.concatenate([r.logits for r in results if r.logits is not None], axis=1),
            tuple(results),
        )

    def compare(self, trainings: HeldOutTrainings, *, is_probe_allowed: bool = True) -> ProbeComparison:
        """Compare with the probe, paired; a requested model cannot be the probe itself."""
        paired = PairedLogits(
            trainings.probe,
            trainings.tuned,
            self.data.labels(trainings.samples),
            trainings.folds,
            self.data.split.groups_of(trainings.samples),
            trainings.results[0].alphas,
            self._sample_weights(trainings.samples),
        )
        return compare_to_probe(paired, is_probe_allowed=is_probe_allowed, seed=self.settings.seed)

    def describe(self, comparison: ProbeComparison, trainings: HeldOutTrainings) -> dict[str, JsonValue]:
        """Return the result of a comparison as evidence."""
        losses = log_losses(trainings.probe.astype(np.float64), self.data.labels(trainings.samples))
        probe_loss = float(np.average(losses, weights=self._sample_weights(trainings.samples)))
        return {
            "verdict": "better" if comparison.is_better else "worse" if comparison.is_worse else "undecided",
            "log_loss": probe_loss - comparison.gain,
            "probe_log_loss": probe_loss,
            "accuracy_gain": comparison.accuracy_gain,
            "num_compared": comparison.num_samples,
        }

    def is_scored_kept(self, plan: FinetunePlan, num_trainings: int) -> bool:
        """Return whether the scored model is the final one: with a validation split, or if training again is slow."""
        return bool(len(self.val)) or (plan.strategy in ("full", "scratch") and num_trainings == 1)

    def train_final(self, trainings: HeldOutTrainings) -> FinalTraining:
        """Train on all training images, or return the scored training if that is kept."""
        plan, results = trainings.plan, trainings.results
        if self.is_scored_kept(plan, len(results)):
            part = self.train if len(self.val) else self.train[self._folds(trainings.num_folds) != 0]
            return FinalTraining(plan, results[0], self.start_head(plan, part), part)
        epochs = max(1, round(float(np.mean([r.best_epoch for r in results]))))
        final = plan.with_(epochs=min(plan.epochs, epochs), patience=None)
        final = final.with_(num_views=min(final.num_views, final.epochs))
        numbers = {"num_epochs": final.epochs, "num_images": len(self.train)}
        with self.trainer.events.stage(Stage.FINAL_TRAINING, **numbers):
            result = self._run(final, "final", self.train, None)
        return FinalTraining(plan, result, self.start_head(plan), self.train)

    def _run(self, plan: FinetunePlan, phase: str, train: Ids, held: Ids | None) -> TrainingResult:
        started = time.monotonic()
        self.log.begin(phase, plan.epochs)
        result = self.trainer.run(
            self._job(plan, phase),
            plan,
            self.start_head(plan, train),
            train,
            held,
            class_weights=None if self._is_balanced else self._class_weights,
            refit=self._refit(train) if plan.refit_head else None,
            on_epoch=lambda record, is_new: self.log.add(phase, record, is_new=is_new),
        )
        self.seconds += time.monotonic() - started
        if result.is_diverged:
            is_head = plan.strategy == "head" or self.settings.finetune.head_lr is not None
            self.trainer.events.warn(
                NoteKind.TRAINING_DIVERGED,
                phase=phase,
                epoch=len(result.records) + 1,
                setting="finetune.head_lr" if self.settings.finetune.head_lr is not None else "lr",
                lr=(plan.head_lr if is_head else plan.lr) / 3,
            )
        return result

    def _job(self, plan: FinetunePlan, part: str) -> str:
        """Return the unique name of a training's checkpoints."""
        is_plain = self.settings.strategy == "auto" and plan.augment == "none"
        return f"{plan.strategy}-{plan.train_from}{'-plain' if is_plain else ''}-{part}"

    def _folds(self, num_folds: int) -> Ids:
        groups = self.data.split.groups_of(self.train)
        return make_folds(self.data.labels(self.train), num_folds, groups=groups, seed=self.settings.seed)

    def _probe_of(self, train: Ids) -> ProbeFit:
        """Return the probe fitted on the given training images only."""
        if len(train) == len(self.train):
            return self.probe.fit
        key = train.tobytes()
        if key not in self._probes:
            self._probes[key] = fit_probe(
                self.data.blocks(train),
                self.data.labels(train),
                self.num_classes,
                groups=self.data.split.groups_of(train),
                class_weights=self._class_weights,
                seed=self.settings.seed,
            )
        return self._probes[key]

    def _refit(self, train: Ids) -> Refit:
        """Return a function that refits the closed-form head on rows of a fine-tuned network."""
        probe = self._probe_of(train)

        def fit(rows: NDArray[np.float32], samples: Ids) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            labels = self.data.labels(samples)
            return refit_head(probe.head, rows, labels, probe.choice, class_weights=self._class_weights)

        return fit

    def _sample_weights(self, index: Ids) -> NDArray[np.floating] | None:
        weights = self._class_weights
        return None if weights is None else np.asarray(weights[self.data.labels(index)])
