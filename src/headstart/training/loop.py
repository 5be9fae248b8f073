"""Run the training loop: yield after every step, with a record after every epoch; print and save nothing.

All randomness of step n derives from (seed, n), and a snapshot holds all state, so a resumed training ends with
bit-identical weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.features.view_activations import PLAIN
from headstart.training.batch_sources import Batch, Source, epoch_order, view_of
from headstart.training.mixup import mix_batch
from headstart.training.network import FinetunedNetwork
from headstart.training.optim import Stepper
from headstart.training.plan import FinetunePlan
from headstart.training.unfreezing import Phase, Phases
from headstart.types.arrays import Ids

__all__ = ["EpochRecord", "Training", "TrainingState", "count_steps", "normalized_rows", "predict_logits"]

_SCORE_BATCH = 64
_MAX_LOSS = 1e4
"""Mean log-loss of a step above which the training has diverged."""
_GOOD_LOSS = 2.0
"""An epoch is kept as a fallback if its training loss is at most this multiple of the chance level."""


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """Record of one epoch; values not measured are None.

    Attributes:
        epoch: From 1.
        train_loss, train_accuracy: Mean over the steps of the epoch.
        val_loss, val_accuracy, val_f1_macro: On the validation images after the epoch.
        lr: Largest learning rate at the end of the epoch.
        duration_s: Wall-clock seconds.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    val_f1_macro: float | None
    lr: float
    duration_s: float


@dataclass
class TrainingState:
    """State of a training: tensors by name, and JSON values."""

    tensors: dict[str, Any]
    values: dict[str, Any]


@dataclass
class Training:
    """Training of one network on one set of images.

    Args:
        net: The network; its weights change.
        source: The batch source.
        class_ids: (N,) labels of all samples.
        plan: The training plan.
        train: Training samples.
        val: Samples scored after each epoch, or None.
        class_weights: (K,) loss weights, or None.
        stage_names: Names of the stages, for `plan.unfreeze`.
        device: Device of the network.
        phases: Batch sources of the unfreezing phases; `source` throughout by default.
    """

    net: FinetunedNetwork
    source: Source
    class_ids: Ids
    plan: FinetunePlan
    train: Ids
    val: Ids | None = None
    class_weights: NDArray[np.floating] | None = None
    stage_names: Sequence[str] = ()
    device: Any = field(default_factory=lambda: torch.device("cpu"))
    step: int = 0
    records: list[EpochRecord] = field(default_factory=list)
    is_diverged: bool = False
    is_stopped_early: bool = False
    phases: Sequence[Phase] = ()

    def __post_init__(self) -> None:
        self.start = self.net.copy_trained()
        self._per_step = self.plan.batch_size * self.plan.grad_accum_steps
        self.steps_per_epoch = count_steps(len(self.train), self._per_step)
        self.num_steps = self.steps_per_epoch * self.plan.epochs
        self._stepper = Stepper(self.net, self.plan, self.num_steps, self.stage_names)
        self._phases = Phases(self.phases or [Phase(0.0, "", self.source)], self.num_steps)
        self._average: dict[str, Any] = {}
        self._num_averaged = 0
        self._best: dict[str, Any] = {}
        self._best_value = np.inf
        self._num_worse = 0
        self._good = self.net.copy_trained()
        self._sums = [0.0, 0.0, 0.0]  # loss, correct predictions, images of the epoch so far
        self._seconds = 0.0
        weights = self.class_weights
        self._weights = None
        if weights is not None:
            self._weights = torch.from_numpy(np.asarray(weights, dtype=np.float32)).to(self.device)

    def run(self) -> Iterator[EpochRecord | None]:
        """Yield None after each step and a record after each epoch; the caller may stop at any time.

        At the end the network has the final weights: the average of the last steps, those of the best epoch with
        patience, or the last good ones (of an epoch, or the start) if the loss diverged.
        """
        while self.step < self.num_steps and not self.is_stopped_early:
            epoch, at = divmod(self.step, self.steps_per_epoch)
            order = self._order(epoch)
            view = view_of(epoch, self.plan.num_views)
            self._announce(order, epoch, at)
            started = time.monotonic()
            for i in range(at, self.steps_per_epoch):
                samples = order[i * self._per_step : (i + 1) * self._per_step]
                if not self._step(samples, np.full(len(samples), view)):
                    self.is_diverged = True
                    self.net.load_trained(self._good)
                    return
                if i + 1 < self.steps_per_epoch:
                    self._seconds += time.monotonic() - started
                    yield None
                    started = time.monotonic()
            if not all(bool(t.isfinite().all()) for t in self.net.trained().values()):
                self.is_diverged = True  # diverged in the last step
                self.net.load_trained(self._good)
                return
            record = self._end_epoch(epoch, started)
            yield record
        self._finish()

    def snapshot(self) -> TrainingState:
        """Return the state needed to resume from here."""
        tensors = {f"now/{n}": t for n, t in self.net.trained().items()}
        tensors |= {f"start/{n}": t for n, t in self.start.items()}
        tensors |= {f"good/{n}": t for n, t in self._good.items()}
        tensors |= {f"average/{n}": t for n, t in self._average.items()}
        tensors |= {f"best/{n}": t for n, t in self._best.items()}
        tensors |= {f"optimizer/{n}": t for n, t in self._stepper.tensors().items()}
        values = {
            "step": self.step,
            "plan": self.plan.to_json(),
            "num_averaged": self._num_averaged,
            "best_value": None if np.isinf(self._best_value) else self._best_value,
            "num_worse": self._num_worse,
            "is_stopped_early": self.is_stopped_early,
            "sums": self._sums,
            "seconds": self._seconds,
            "records": [asdict(r) for r in self.records],
        }
        return TrainingState({n: t.detach().contiguous().clone() for n, t in tensors.items()}, values)

    def restore(self, snapshot: TrainingState) -> None:
        """Restore a snapshot of the same training.

        Raises:
            ValueError: The snapshot belongs to another plan or network.
        """
        if snapshot.values["plan"] != self.plan.to_json():
            raise ValueError("the checkpoint belongs to another plan")

        def part(name: str) -> dict[str, Any]:
            own = {n[len(name) + 1 :]: t for n, t in snapshot.tensors.items() if n.startswith(f"{name}/")}
            return {n: t.to(self.device) for n, t in own.items()}

        self.net.load_trained(part("now"))
        self.start, self._good, self._average, self._best = part("start"), part("good"), part("average"), part("best")
        self._stepper.set_starts(self.start, self.net)
        self._stepper.load_tensors(part("optimizer"))
        values = snapshot.values
        self.step, self._num_averaged, self._num_worse = values["step"], values["num_averaged"], values["num_worse"]
        self._best_value = np.inf if values["best_value"] is None else values["best_value"]
        self.is_stopped_early = values["is_stopped_early"]
        self._sums, self._seconds = list(values["sums"]), values["seconds"]
        self.records = [EpochRecord(**r) for r in values["records"]]

    # -- steps and epochs

    def _order(self, epoch: int) -> Ids:
        labels = self.class_ids[self.train] if self.plan.sampling == "balanced" else None
        return epoch_order(self.train, epoch, self.plan.seed, labels)

    def _announce(self, order: Ids, epoch: int, at: int) -> None:
        """Announce the rest of this epoch, the validation images, and the next epoch."""
        batches = self._steps_of(epoch, order, at)
        batches.append((self._last_step(epoch), [(int(s), 0) for s in (self.val if self.val is not None else ())]))
        if epoch + 1 < self.plan.epochs:
            batches += self._steps_of(epoch + 1, self._order(epoch + 1), 0)
        self._phases.announce(batches)

    def _steps_of(self, epoch: int, order: Ids, at: int) -> list[tuple[int, list[tuple[int, int]]]]:
        """Return (step, (sample, view) pairs) of an epoch, from its step `at` on."""
        view, size, first = view_of(epoch, self.plan.num_views), self._per_step, epoch * self.steps_per_epoch
        parts = [(i, order[i * size : (i + 1) * size]) for i in range(at, self.steps_per_epoch)]
        return [(first + i, [(int(s), view) for s in part]) for i, part in parts]

    def _last_step(self, epoch: int) -> int:
        return (epoch + 1) * self.steps_per_epoch - 1

    def _step(self, samples: Ids, views: Ids) -> bool:
        """Take one step; return False if the loss diverged."""
        rng = np.random.default_rng([self.plan.seed, 11, self.step])
        torch.manual_seed(int(rng.integers(2**62)))  # dropout and other random layers
        self._rate = self._stepper.begin(self.step)
        parts = np.split(np.arange(len(samples)), range(self.plan.batch_size, len(samples), self.plan.batch_size))
        losses, num_correct = [], 0.0
        for part in parts:  # several with gradient accumulation
            value, correct = self._forward_backward(samples[part], views[part], len(part) / len(samples), rng)
            if not value <= _MAX_LOSS:  # also true for NaN
                self._stepper.discard_gradients()
                return False
            losses.append(value * len(part))
            num_correct += correct
        self._stepper.step()
        self.step += 1
        self._sums = [s + v for s, v in zip(self._sums, (sum(losses), num_correct, len(samples)), strict=True)]
        if self.plan.swa_fraction and self.step > self.num_steps * (1.0 - self.plan.swa_fraction):
            self._add_to_average()
        return True

    def _forward_backward(
        self, samples: Ids, views: Ids, fraction: float, rng: np.random.Generator
    ) -> tuple[float, float]:
        """Run forward and backward of one batch; return its loss and number of correct predictions."""
        self.net.set_training(True, batch_size=len(samples))
        phase = self._phases.at(self.step)
        batch = _to_device(phase.source.batch(samples, views), self.device)
        mixed = mix_batch(batch, self.plan.mixup, self.plan.cutmix, rng)
        target = torch.from_numpy(self.class_ids[samples]).to(self.device)
        with self._autocast():
            logits = self.net(mixed.states, mixed.early, phase.cut).float()
            loss = self._loss(logits, target)
            if mixed.mates is not None:
                other = target[mixed.mates.to(self.device)]
                loss = mixed.lam * loss + (1.0 - mixed.lam) * self._loss(logits, other)
        value = float(loss.detach())
        if np.isfinite(value):
            (fraction * loss).backward()
        return value, float((logits.detach().argmax(1) == target).sum())

    def _autocast(self) -> Any:
        is_half = self.plan.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=is_half)

    def _loss(self, logits: Any, target: Any) -> Any:
        return torch.nn.functional.cross_entropy(
            logits, target, weight=self._weights, label_smoothing=self.plan.label_smoothing
        )

    def _add_to_average(self) -> None:
        self._num_averaged += 1
        if self._num_averaged == 1:
            self._average = self.net.copy_trained()
            return
        now = self.net.trained()
        floats = [n for n, t in now.items() if t.is_floating_point()]
        torch._foreach_lerp_([self._average[n] for n in floats], [now[n] for n in floats], 1.0 / self._num_averaged)

    def _end_epoch(self, epoch: int, started: float) -> EpochRecord:
        scores: tuple[float | None, float | None, float | None] = (None, None, None)
        if self.val is not None and len(self.val):
            phase = self._phases.at(self._last_step(epoch))
            logits = predict_logits(self.net, phase.source, self.val, device=self.device, cut=phase.cut)
            scores = _scores(logits, self.class_ids[self.val])
        loss, num_correct, count = self._sums
        seconds = self._seconds + time.monotonic() - started
        record = EpochRecord(epoch + 1, loss / count, num_correct / count, *scores, self._rate, seconds)
        self._sums, self._seconds = [0.0, 0.0, 0.0], 0.0
        self.records.append(record)
        if record.train_loss <= _GOOD_LOSS * np.log(max(2, int(self.class_ids.max()) + 1)):
            self._good = self.net.copy_trained()
        if self.plan.patience is not None and scores[0] is not None:
            self._update_patience(record)
        return record

    def _update_patience(self, record: EpochRecord) -> None:
        value = getattr(record, self.plan.monitor)
        value = value if self.plan.monitor == "val_loss" else -value
        if value < self._best_value:
            self._best_value, self._num_worse = value, 0
            self._best = self.net.copy_trained()
            return
        self._num_worse += 1
        self.is_stopped_early = self._num_worse >= (self.plan.patience or 0)

    def _finish(self) -> None:
        if self._best:
            self.net.load_trained(self._best)
        elif self._average:
            self.net.load_trained(self._average)


def predict_logits(
    net: FinetunedNetwork, source: Source, samples: Ids, view: int = PLAIN, *, device: Any = None, cut: str = ""
) -> NDArray[np.float32]:
    """Return (M, K) logits of samples, from states at `cut` (see `FinetunedNetwork.add_cut`)."""
    return _in_batches(net, source, samples, view, device, lambda states, early: net(states, early, cut))


def normalized_rows(net: FinetunedNetwork, source: Source, samples: Ids, *, device: Any) -> NDArray[np.float32]:
    """Return (M, D) normalized features of unaugmented images with the current weights."""
    source.announce([(int(s), PLAIN) for s in samples])
    return _in_batches(
        net, source, samples, PLAIN, device, lambda states, early: net.head.normalize(net.blocks(states, early))
    )


def _in_batches(
    net: FinetunedNetwork, source: Source, samples: Ids, view: int, device: Any, function: Callable[[Any, Any], Any]
) -> NDArray[np.float32]:
    """Apply a function to the states and early features of samples in batches, without gradients."""
    net.set_training(False)
    parts = []
    with torch.no_grad():
        for start in range(0, len(samples), _SCORE_BATCH):
            part = samples[start : start + _SCORE_BATCH]
            batch = _to_device(source.batch(part, np.full(len(part), view)), device or torch.device("cpu"))
            parts.append(function(*batch).float().cpu().numpy())
    return np.concatenate(parts)


def count_steps(num_train: int, batch_size: int) -> int:
    """Return the number of steps per epoch; the last batch may be smaller."""
    return -(-num_train // batch_size)


def _to_device(batch: Batch, device: Any) -> Batch:
    states, early = batch
    if device.type == "cpu":
        return batch
    return tuple(s.to(device) for s in states), {n: e.to(device) for n, e in early.items()}


def _scores(logits: NDArray[np.float32], class_ids: Ids) -> tuple[float, float, float]:
    """Return log-loss, accuracy and macro F1 over the classes that occur."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    best = z.argmax(axis=1)
    f1 = []
    for k in np.unique(class_ids):
        true_positives = float(((best == k) & (class_ids == k)).sum())
        f1.append(2.0 * true_positives / float((best == k).sum() + (class_ids == k).sum()))
    loss = -log_p[np.arange(len(class_ids)), class_ids].mean()
    return float(loss), float((best == class_ids).mean()), float(np.mean(f1))
