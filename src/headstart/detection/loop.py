"""Run the training loop of a detector: yield a record per epoch; print and save nothing.

The view of an image in a step depends on seed, epoch and position only. The final weights are the exponential
moving average (EMA) of the steps, not those of a best epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from headstart.backbones.freeze import Freezing
from headstart.detection.augmentation import ViewBoxes
from headstart.detection.network import DetectorHead, make_points
from headstart.detection.plan import DetectPlan
from headstart.detection.schedule import StepSchedule
from headstart.detection.targets import assign, detection_loss
from headstart.training.batch_sources import epoch_order, view_of
from headstart.training.loop import TrainingState
from headstart.training.optim import OPTIMIZERS, factor_at, load_optimizer, optimizer_tensors
from headstart.types.arrays import Ids
from headstart.utils.system import Clock

__all__ = ["DetectEpoch", "DetectNetwork", "DetectSource", "DetectTraining"]


@dataclass(frozen=True, slots=True)
class DetectEpoch:
    """Record of one epoch: number from 1, mean losses, last learning rate of the head, seconds."""

    epoch: int
    train_loss: float
    class_loss: float
    box_loss: float
    lr: float
    duration_s: float


class DetectSource(Protocol):
    """Protocol of a batch source; view 0 is the unaugmented image."""

    def announce(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Announce the (sample, view) pairs of the next batches, in order."""
        ...

    def batch(self, samples: Ids, views: Ids) -> tuple[tuple[Any, ...], list[ViewBoxes]]:
        """Return the inputs of the network's suffix, B first, and the boxes of each view."""
        ...


class DetectNetwork(nn.Module):  # type: ignore[misc]
    """Trainable network: the suffix of the backbone and the detection head.

    Args:
        suffix: Maps the outputs of a source to feature maps.
        head: Pyramid and head.
        owner: The whole backbone.
        stage_params: Parameters by stage, the last stage first; empty where the backbone is frozen.
        is_bn_live: Whether batch norm of the backbone updates its statistics (from scratch only).
    """

    def __init__(
        self,
        suffix: Any,
        head: DetectorHead,
        owner: Any,
        stage_params: Sequence[Sequence[tuple[str, Any]]] = (),
        *,
        is_bn_live: bool = False,
    ) -> None:
        super().__init__()
        self.suffix, self.head, self.is_bn_live = suffix, head, is_bn_live
        self.stage_params = [list(stage) for stage in stage_params]
        self._owner = [owner]
        names = {n for stage in self.stage_params for n, _ in stage}
        self._freezing = Freezing(owner, names, batch_norm="train" if is_bn_live else "frozen")

    def forward(self, parts: Sequence[Any]) -> tuple[Any, Any]:
        """Return class logits (B, P, K) and boxes (B, P, 4)."""
        logits, boxes = self.head(self.suffix(*parts))
        return logits, boxes

    def set_training(self, is_training: bool) -> None:
        """Set the training mode of the head; the backbone's batch norm stays in eval mode unless live."""
        self.head.train(is_training)
        self.suffix.train(is_training and self.is_bn_live)

    def trained(self) -> dict[str, Any]:
        """Return all trained tensors by name, without copying."""
        tensors = {f"head.{n}": t.detach() for n, t in self.head.state_dict(keep_vars=True).items()}
        tensors |= {f"backbone.{n}": p.detach() for stage in self.stage_params for n, p in stage}
        if self.is_bn_live:
            tensors |= {f"buffer.{n}": b for n, b in self._owner[0].named_buffers()}
        return tensors

    def load_trained(self, tensors: Mapping[str, Any]) -> None:
        """Load trained tensors."""
        for name, tensor in self.trained().items():
            tensor.copy_(tensors[name])

    def frozen_digest(self) -> str:
        """Return the SHA-256 of every frozen tensor of the backbone."""
        return self._freezing.digest()


class DetectTraining:
    """Training of one detector.

    Args:
        net: The initial network.
        source: The batch source.
        plan: The training plan.
        train: Positions of the training images.
        sizes_hw: Sizes of the maps, finest first.
        schedule: The step schedule; by default the epochs of the plan.
        clock: Clock in seconds, for durations in the records.
    """

    def __init__(
        self,
        net: DetectNetwork,
        source: DetectSource,
        plan: DetectPlan,
        train: Ids,
        sizes_hw: Sequence[tuple[int, int]],
        *,
        schedule: StepSchedule | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.net, self.source, self.plan, self.train = net, source, plan, train
        self.points = make_points(sizes_hw, net.head.strides)
        self.steps_per_epoch = max(1, len(train) // plan.batch_size)
        self.schedule = schedule or StepSchedule(self.steps_per_epoch * plan.epochs)
        self._clock = clock
        self.step = 0
        self.records: list[DetectEpoch] = []
        self.is_diverged = False
        self._sums = np.zeros(3)  # losses of the epoch so far
        self._seconds = 0.0
        decayed = [p for p in net.head.parameters() if p.dim() > 1]
        others = [p for p in net.head.parameters() if p.dim() <= 1]
        self._groups: list[dict[str, Any]] = [
            {"params": decayed, "lr": plan.lr, "peak": plan.lr, "begin": 0.0, "decay": plan.weight_decay},
            {"params": others, "lr": plan.lr, "peak": plan.lr, "begin": 0.0, "decay": 0.0},
        ]
        for rank, stage in enumerate(net.stage_params):
            peak = plan.backbone_lr * plan.layer_decay**rank
            params = [p for _, p in stage]
            row = {"params": params, "lr": peak, "peak": peak, "begin": plan.unfreeze_after, "decay": 0.0}
            self._groups.append(row)
        self.optimizer = OPTIMIZERS[plan.optimizer](self._groups)
        self._params = [p for g in self._groups for p in g["params"]]
        self._average = {n: t.clone() for n, t in net.trained().items()}

    def run(self, *, stop: Callable[[], bool] | None = None) -> Iterator[DetectEpoch]:
        """Train and yield a record after each epoch; at the end the network holds the averaged weights.

        A restored training continues at its step.

        Args:
            stop: Called after each step; True ends the training. It may take a `snapshot`.
        """
        is_stopped = False
        self.schedule.start()
        while not self.schedule.is_done(self.step) and not is_stopped:
            epoch, at = divmod(self.step, self.steps_per_epoch)
            order = epoch_order(self.train, epoch, self.plan.seed)
            view = view_of(epoch, self.plan.num_views)
            self._announce(order, epoch)
            started, earlier_s = self._clock(), self._seconds
            for i in range(at, self.steps_per_epoch):
                samples = order[i * self.plan.batch_size : (i + 1) * self.plan.batch_size]
                losses = self.take_step(samples, np.full(len(samples), view))
                if losses is None:
                    self.is_diverged = True
                    break
                self._sums += losses
                self._seconds = earlier_s + self._clock() - started
                self.schedule.after_step(self.step)
                is_stopped = stop is not None and i + 1 < self.steps_per_epoch and stop()
                if is_stopped or self.schedule.is_done(self.step):
                    break
            if self.is_diverged:
                break
            loss, class_loss, box_loss = (float(s) / (i + 1) for s in self._sums)
            rate = float(self.optimizer.param_groups[0]["lr"])
            record = DetectEpoch(epoch + 1, loss, class_loss, box_loss, rate, self._seconds)
            self.records.append(record)
            self._sums, self._seconds = np.zeros(3), 0.0
            if self.schedule.is_done(self.step):
                self.schedule.finish(self.step)
            yield record
            is_stopped = is_stopped or (stop is not None and stop())
        if self.plan.ema_decay:
            self.net.load_trained(self._average)

    def snapshot(self) -> TrainingState:
        """Return the state needed to resume after the current step."""
        tensors = {f"now/{n}": t for n, t in self.net.trained().items()}
        tensors |= {f"average/{n}": t for n, t in self._average.items()}
        tensors |= {f"optimizer/{n}": t for n, t in optimizer_tensors(self.optimizer).items()}
        values = {
            "step": self.step,
            "plan": self.plan.to_json(),
            "sums": self._sums.tolist(),
            "seconds": self._seconds,
            "schedule": self.schedule.state(),
            "records": [asdict(record) for record in self.records],
        }
        return TrainingState({n: t.detach().contiguous().clone() for n, t in tensors.items()}, values)

    def restore(self, snapshot: TrainingState) -> None:
        """Restore a snapshot of the same training.

        Raises:
            ValueError: The snapshot belongs to another plan.
        """
        values = snapshot.values
        if values["plan"] != self.plan.to_json():
            raise ValueError("the checkpoint belongs to another plan")

        def part(name: str) -> dict[str, Any]:
            return {n[len(name) + 1 :]: t for n, t in snapshot.tensors.items() if n.startswith(f"{name}/")}

        self.net.load_trained(part("now"))
        self._average = {n: t.clone() for n, t in part("average").items()}
        load_optimizer(self.optimizer, part("optimizer"))
        self.step, self._sums, self._seconds = values["step"], np.array(values["sums"]), values["seconds"]
        self.schedule.restore(values["schedule"], self.step)
        self.records = [DetectEpoch(**record) for record in values["records"]]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Load the averaged weights inside the block."""
        if not self.plan.ema_decay:
            yield
            return
        now = {n: t.clone() for n, t in self.net.trained().items()}
        self.net.load_trained(self._average)
        try:
            yield
        finally:
            self.net.load_trained(now)

    def take_step(self, samples: Ids, views: Ids) -> NDArray[np.float64] | None:
        """Take one step; return total, class and box loss, or None where the loss is not finite."""
        self._begin()
        parts, ground_truth = self.source.batch(samples, views)
        self.net.set_training(True)
        logits, boxes = self.net(parts)
        targets = assign(logits.detach(), boxes.detach(), self.points, ground_truth, top=self.plan.assign_topk)
        loss, class_loss, box_loss = detection_loss(logits, boxes, targets, box_weight=self.plan.box_weight)
        values = np.array([float(loss.detach()), float(class_loss), float(box_loss)])
        if not np.isfinite(values).all():
            return None
        loss.backward()
        if self.plan.grad_clip_norm:
            torch.nn.utils.clip_grad_norm_([p for p in self._params if p.grad is not None], self.plan.grad_clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            for group in self.optimizer.param_groups:
                if group["decay"] and group["lr"] > 0:
                    torch._foreach_mul_(group["params"], 1.0 - group["lr"] * group["decay"])
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.plan.ema_decay:
            self._add_to_average()
        return values

    def _begin(self) -> None:
        """Set the learning rates and trainable parameters of a step."""
        progress = self.schedule.progress(self.step)
        for group in self.optimizer.param_groups:
            begin = group["begin"]
            own = (progress - begin) / max(1.0 - begin, 1e-9)
            is_on = progress >= begin
            group["lr"] = group["peak"] * factor_at(self.plan.schedule, own, self.plan.warmup) if is_on else 0.0
            for parameter in group["params"]:
                if parameter.requires_grad != is_on:
                    parameter.requires_grad_(is_on)
                    parameter.grad = None

    def _add_to_average(self) -> None:
        """Update the EMA, with a lower decay in early steps (as in YOLOX, Ge et al. 2021)."""
        keep = self.plan.ema_decay * (1.0 - np.exp(-self.step / 200.0))
        now = self.net.trained()
        floats = [n for n, t in now.items() if t.is_floating_point()]
        torch._foreach_lerp_([self._average[n] for n in floats], [now[n] for n in floats], 1.0 - keep)

    def _announce(self, order: Ids, epoch: int) -> None:
        """Announce the batches of this epoch and the next."""
        pairs = [(int(s), view_of(epoch, self.plan.num_views)) for s in order]
        if not self.schedule.is_done((epoch + 1) * self.steps_per_epoch):
            following = view_of(epoch + 1, self.plan.num_views)
            pairs += [(int(s), following) for s in epoch_order(self.train, epoch + 1, self.plan.seed)]
        self.source.announce(pairs)
