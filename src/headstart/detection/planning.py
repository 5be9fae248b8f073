"""Plan a detector's training from the settings and the boxes; every default is a decision with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headstart.config.planned import planned_decision
from headstart.config.settings import ResolvedConfig
from headstart.detection.backbone import DetectorBackbone
from headstart.detection.plan import DetectPlan
from headstart.types.codes import DecisionReason, Evidence
from headstart.types.records import Decision

__all__ = ["MANY_BOXES", "DetectPlanner", "default_epochs"]

MANY_BOXES = 50
"""Boxes per class above which the last backbone stages are fine-tuned (`benchmarks/bench_detect.py`)."""

_WIDTHS = {4: 64, 8: 64}  # fine levels have many anchor points: narrower pyramid (`benchmarks/bench_detect.py`)
_STEPS = 800  # default number of steps
_EPOCHS = (20, 80)
_STORED_BYTES = 4 << 30  # disk space of the cached views of one training
_VIEWS = 8
_FINE = (
    *("fpn_channels", "head_depth", "layer_decay", "unfreeze_after", "warmup", "weight_decay", "ema_decay"),
    *("grad_clip_norm", "assign_topk", "box_weight"),
)
_TOP = ("epochs", "batch_size", "lr", "optimizer", "schedule", "augment", "num_views")


@dataclass(frozen=True)
class DetectPlanner:
    """Makes the training plan of each strategy.

    Attributes:
        resolved: The settings.
        backbone: The backbone, for its stages and the size of its cached views.
        num_train: Number of training images.
        boxes_per_class: Training boxes of the rarest class.
        min_stride: Default stride of the finest level, and the box sizes it is based on.
    """

    resolved: ResolvedConfig
    backbone: DetectorBackbone
    num_train: int
    boxes_per_class: float
    min_stride: tuple[int, Evidence]

    def strategies(self) -> tuple[str, ...]:
        """Return the strategies that a budget may use, cheapest first."""
        if self.resolved.settings.strategy != "auto":
            return (self.resolved.settings.strategy,)
        return ("head", "finetune") if self.boxes_per_class > MANY_BOXES else ("head",)

    def plan(self, strategy: str | None = None) -> tuple[DetectPlan, list[Decision]]:
        """Return the plan of a strategy and its decisions; without one, of the last of `strategies`."""
        settings = self.resolved.settings
        decisions: list[Decision] = []
        strategy = strategy or self.strategies()[-1]
        if settings.strategy == "auto":
            boxes: Evidence = {"num_boxes_rarest": round(self.boxes_per_class), "threshold": MANY_BOXES}
            decisions.append(Decision("strategy", strategy, DecisionReason.BOXES_PER_CLASS, evidence=boxes))
        min_stride, sizes = self.min_stride
        if settings.detect.min_stride is None:
            decisions.append(Decision("detect.min_stride", min_stride, DecisionReason.BOX_SIZES, evidence=sizes))
        min_stride = settings.detect.min_stride or min_stride
        plan = DetectPlan(strategy=strategy, seed=settings.seed, min_stride=min_stride)
        plan = plan.with_(
            train_from=self._cut(strategy, min_stride),
            fpn_channels=_WIDTHS.get(min_stride, plan.fpn_channels),
            batch_size=min(plan.batch_size, max(1, self.num_train)),
        )
        explicit: dict[str, Any] = {n: getattr(settings, n) for n in _TOP}
        explicit |= {n: getattr(settings.detect, n) for n in (*_FINE, "backbone_lr")}
        plan = plan.with_(**{n: v for n, v in explicit.items() if v is not None})
        if settings.epochs is None:
            plan = plan.with_(epochs=default_epochs(self.num_train, plan.batch_size))
        if settings.num_views is None:
            plan = plan.with_(num_views=self._num_views(plan))
        plan = plan.with_(num_views=min(plan.num_views, plan.epochs))
        if plan.strategy == "scratch" and settings.detect.backbone_lr is None:
            plan = plan.with_(backbone_lr=plan.lr, layer_decay=1.0, unfreeze_after=0.0)
        for name, value in plan.to_json().items():
            setting = name if name in _TOP or name == "train_from" else f"detect.{name}"
            if name not in ("strategy", "seed", "min_stride"):
                decisions += planned_decision(self.resolved, setting, value, self.num_train)
        return plan, decisions

    def _cut(self, strategy: str, min_stride: int) -> str:
        """Return the first trainable stage; for a frozen backbone, the stage after the last tap."""
        if strategy in ("full", "scratch"):
            return "stem"
        if strategy == "finetune":
            return self.backbone.cut(self.resolved.settings.train_from or "last-2")
        return self.backbone.frozen_cut(min_stride)

    def _num_views(self, plan: DetectPlan) -> int:
        """Return the number of views that fit the cache; one per epoch where views are not cached."""
        if not plan.is_cached:
            return plan.epochs
        row_bytes = self.backbone.row_bytes(plan.train_from, plan.min_stride)
        return int(min(_VIEWS, max(2, _STORED_BYTES // (row_bytes * max(self.num_train, 1)))))


def default_epochs(num_train: int, batch_size: int) -> int:
    """Return the number of epochs that gives about `_STEPS` steps, within limits."""
    return int(min(max(_STEPS * batch_size / max(num_train, 1), _EPOCHS[0]), _EPOCHS[1]))
