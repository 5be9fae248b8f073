"""Define the training plan of a detector."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from headstart.detection.augmentation import DEFAULT_AUGMENT

__all__ = ["DetectPlan"]


@dataclass(frozen=True, slots=True)
class DetectPlan:
    """Settings of one detector training.

    Attributes:
        strategy: `head`, `finetune`, `full` or `scratch`.
        cut: First trainable stage; the stage after the last tap for a frozen backbone.
        epochs: Passes over the training images.
        batch_size: Images per step.
        lr: Peak learning rate of pyramid and head.
        backbone_lr: Peak learning rate of the last trainable stage.
        layer_decay: Factor on that rate per earlier stage.
        unfreeze_after: Fraction of the steps after which the backbone stages train.
        optimizer, schedule: Names; see `training.optim`.
        warmup: Fraction of the steps in which rates rise.
        weight_decay: Decoupled weight decay, convolutions only.
        ema_decay: EMA decay of the weights, which are the final weights; 0 is off.
        grad_clip_norm: Largest norm of the gradient; 0 is off.
        views: Cached views per image.
        augment: Augmentation, see `preprocessing.augmentation`.
        fpn_channels, head_depth: Channels of pyramid and head, and convolutions in each tower.
        min_stride: Smallest stride of the pyramid.
        assign_topk: Candidate anchor points per ground-truth box (TAL top-k).
        box_weight: Weight of the box loss relative to the class loss.
        seed: Random seed of weights, order and views.
    """

    strategy: str = "head"
    train_from: str = "neck"
    epochs: int = 60
    batch_size: int = 8
    lr: float = 1.5e-3
    backbone_lr: float = 2e-4
    layer_decay: float = 0.6
    unfreeze_after: float = 0.2
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    grad_clip_norm: float = 10.0
    num_views: int = 16
    augment: str = DEFAULT_AUGMENT
    fpn_channels: int = 96
    head_depth: int = 2
    min_stride: int = 16
    assign_topk: int = 10
    box_weight: float = 2.5
    seed: int = 0

    @property
    def is_cached(self) -> bool:
        """Whether views are cached at the cut; the whole network trains on images instead."""
        return self.strategy in ("head", "finetune")

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def with_(self, **changes: Any) -> DetectPlan:
        """Return a copy with some values replaced."""
        return replace(self, **changes)
