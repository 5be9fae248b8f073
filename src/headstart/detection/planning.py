"""Plan a detector's training from the settings and the boxes; every default is a decision with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.config.settings import ResolvedConfig
from headstart.detection.plan import DetectPlan
from headstart.runs.context import planned_decision
from headstart.types.codes import DecisionReason, Evidence
from headstart.types.records import Decision

if TYPE_CHECKING:
    from headstart.detection.trainer import DetectorTrainer

__all__ = ["MANY_BOXES", "budget_strategies", "default_epochs", "make_detect_plan"]

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


def make_detect_plan(
    resolved: ResolvedConfig,
    trainer: DetectorTrainer,
    *,
    num_train: int,
    boxes_per_class: float,
    min_stride: tuple[int, Evidence],
    strategy: str | None = None,
) -> tuple[DetectPlan, list[Decision]]:
    """Return the plan and its decisions.

    Args:
        resolved: The settings.
        trainer: Provides the backbone's stages.
        num_train: Number of training images.
        boxes_per_class: Training boxes of the rarest class.
        min_stride: Default stride of the finest level, and the box sizes it is based on.
        strategy: Strategy tried by a budget; by default from the settings or the number of boxes.
    """
    settings = resolved.settings
    decisions: list[Decision] = []
    strategy = strategy or settings.strategy
    if strategy == "auto":
        strategy = "finetune" if boxes_per_class > MANY_BOXES else "head"
    if settings.strategy == "auto":
        boxes: Evidence = {"num_boxes_rarest": round(boxes_per_class), "threshold": MANY_BOXES}
        decisions.append(Decision("strategy", strategy, DecisionReason.BOXES_PER_CLASS, evidence=boxes))
    plan = DetectPlan(strategy=strategy, seed=settings.seed)
    if settings.detect.min_stride is None:
        decisions.append(Decision("detect.min_stride", min_stride[0], DecisionReason.BOX_SIZES, evidence=min_stride[1]))
    plan = plan.with_(min_stride=settings.detect.min_stride or min_stride[0])
    plan = plan.with_(
        train_from=_cut(resolved, trainer, plan), fpn_channels=_WIDTHS.get(plan.min_stride, plan.fpn_channels)
    )
    plan = plan.with_(batch_size=min(plan.batch_size, max(1, num_train)))
    explicit: dict[str, Any] = {n: getattr(settings, n) for n in _TOP}
    explicit |= {n: getattr(settings.detect, n) for n in _FINE} | {"backbone_lr": settings.detect.backbone_lr}
    plan = plan.with_(**{n: v for n, v in explicit.items() if v is not None})
    if settings.epochs is None:
        plan = plan.with_(epochs=default_epochs(num_train, plan.batch_size))
    if settings.num_views is None:
        plan = plan.with_(num_views=_views(trainer, plan, num_train))
    plan = plan.with_(num_views=min(plan.num_views, plan.epochs))
    if plan.strategy == "scratch" and settings.detect.backbone_lr is None:
        plan = plan.with_(backbone_lr=plan.lr, layer_decay=1.0, unfreeze_after=0.0)
    for name, value in plan.to_json().items():
        setting = name if name in _TOP or name == "train_from" else f"detect.{name}"
        if name not in ("strategy", "seed", "min_stride"):
            decisions += planned_decision(resolved, setting, value, num_train)
    return plan, decisions


def budget_strategies(strategy: str, boxes_per_class: float) -> tuple[str, ...]:
    """Return the candidate strategies of a budget, cheapest first.

    Args:
        strategy: The setting `strategy`.
        boxes_per_class: Training boxes of the rarest class.
    """
    if strategy != "auto":
        return (strategy,)
    return ("head", "finetune") if boxes_per_class > MANY_BOXES else ("head",)


def default_epochs(num_train: int, batch_size: int) -> int:
    """Return the number of epochs that gives about `_STEPS` steps, within limits."""
    return int(min(max(_STEPS * batch_size / max(num_train, 1), _EPOCHS[0]), _EPOCHS[1]))


def _cut(resolved: ResolvedConfig, trainer: DetectorTrainer, plan: DetectPlan) -> str:
    """Return the first trainable stage; for a frozen backbone, the stage after the last tap."""
    if plan.strategy in ("full", "scratch"):
        return "stem"
    if plan.strategy == "finetune":
        return trainer.cut(resolved.settings.train_from or "last-2")
    names = trainer.network.names
    return str(names[names.index(trainer.taps(plan).stages[-1]) + 1])


def _views(trainer: DetectorTrainer, plan: DetectPlan, num_train: int) -> int:
    """Return the number of views that fit the cache; one per epoch where views are not cached."""
    size = trainer.row_bytes(plan)
    if not size:
        return plan.epochs
    return int(min(_VIEWS, max(2, _STORED_BYTES // (size * max(num_train, 1)))))
