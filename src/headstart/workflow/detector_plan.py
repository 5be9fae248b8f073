"""From what a person set and what the boxes are like to the plan of a detector's training.

Every value that nobody set has a reason, and those that matter are said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.config import ResolvedConfig
from headstart.detection.plan import DetectPlan
from headstart.records import Decision
from headstart.types import DecisionReason, Evidence
from headstart.workflow.run_context import planned_decision

if TYPE_CHECKING:
    from headstart.workflow.detector_trainer import DetectorTrainer

__all__ = ["MANY_BOXES", "budget_strategies", "default_epochs", "make_detect_plan"]

MANY_BOXES = 50
"""Boxes a class from which the last stages of the backbone train too (`benchmarks/bench_detect.py`)."""

_WIDTHS = {4: 64, 8: 64}  # fine levels have many places: a narrower pyramid pays them (`benchmarks/bench_detect.py`)
_STEPS = 800  # of a training whose length nobody set
_EPOCHS = (20, 80)
_STORED_BYTES = 4 << 30  # what the stored views of one training may take on the disk
_VIEWS = 8
_FINE = (
    *("fpn_channels", "head_depth", "layer_decay", "unfreeze_after", "warmup", "weight_decay", "ema_decay"),
    *("grad_clip_norm", "assign_topk", "box_weight"),
)
_TOP = ("epochs", "batch_size", "lr", "optimizer", "schedule", "augment", "views")


def make_detect_plan(
    resolved: ResolvedConfig,
    trainer: DetectorTrainer,
    *,
    num_train: int,
    boxes_per_class: float,
    min_stride: tuple[int, Evidence],
    strategy: str | None = None,
) -> tuple[DetectPlan, list[Decision]]:
    """Return the plan, and what was chosen with its reason.

    Args:
        resolved: The settings.
        trainer: Knows the backbone's stages.
        num_train: Training images.
        boxes_per_class: Training boxes of the class that has fewest.
        min_stride: The stride of the min_stride level where nobody set it, and the box sizes behind it.
        strategy: What a budget tries; by default that of the settings, or what the boxes allow.
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
    plan = plan.with_(cut=_cut(resolved, trainer, plan), fpn_channels=_WIDTHS.get(plan.min_stride, plan.fpn_channels))
    plan = plan.with_(batch_size=min(plan.batch_size, max(1, num_train)))
    given: dict[str, Any] = {n: getattr(settings, n) for n in _TOP}
    given |= {n: getattr(settings.detect, n) for n in _FINE} | {"backbone_lr": settings.detect.backbone_lr}
    plan = plan.with_(**{n: v for n, v in given.items() if v is not None})
    if settings.epochs is None:
        plan = plan.with_(epochs=default_epochs(num_train, plan.batch_size))
    if settings.views is None:
        plan = plan.with_(views=_views(trainer, plan, num_train))
    plan = plan.with_(views=min(plan.views, plan.epochs))
    if plan.strategy == "scratch" and settings.detect.backbone_lr is None:
        plan = plan.with_(backbone_lr=plan.lr, layer_decay=1.0, unfreeze_after=0.0)
    for name, value in plan.to_json().items():
        setting = name if name in _TOP or name == "cut" else f"detect.{name}"
        if name not in ("strategy", "seed", "min_stride"):
            decisions += planned_decision(resolved, setting, value, num_train)
    return plan, decisions


def budget_strategies(asked: str, boxes_per_class: float) -> tuple[str, ...]:
    """Return the strategies among which a budget chooses, the cheapest first.

    Args:
        asked: The setting `strategy`.
        boxes_per_class: Training boxes of the class that has fewest.
    """
    if asked != "auto":
        return (asked,)
    return ("head", "finetune") if boxes_per_class > MANY_BOXES else ("head",)


def default_epochs(num_train: int, batch_size: int) -> int:
    """Passes over the images that make about as many steps as were needed on small sets."""
    return int(min(max(_STEPS * batch_size / max(num_train, 1), _EPOCHS[0]), _EPOCHS[1]))


def _cut(resolved: ResolvedConfig, trainer: DetectorTrainer, plan: DetectPlan) -> str:
    """Return the first stage that trains; for a frozen backbone the one after the last tap."""
    if plan.strategy in ("full", "scratch"):
        return "stem"
    if plan.strategy == "finetune":
        return trainer.cut(resolved.settings.cut or "last-2")
    names = trainer.network.names
    return str(names[names.index(trainer.taps(plan).stages[-1]) + 1])


def _views(trainer: DetectorTrainer, plan: DetectPlan, num_train: int) -> int:
    """Views that fit into the cache; where nothing is stored, a new one every epoch."""
    size = trainer.row_bytes(plan)
    if not size:
        return plan.epochs
    return int(min(_VIEWS, max(2, _STORED_BYTES // (size * max(num_train, 1)))))
