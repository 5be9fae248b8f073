"""Every number of a detector's training in one frozen value, with where its default comes from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from headstart.detection.augmentation import DEFAULT_AUGMENT

__all__ = ["DetectPlan"]


@dataclass(frozen=True, slots=True)
class DetectPlan:
    """How a detector is trained.

    Attributes:
        strategy: `head`, `finetune`, `full` or `scratch`.
        cut: First stage that trains; the stage after the last tap where nothing of the backbone does.
        epochs: Passes over the training images.
        batch_size: Images a step.
        lr: Peak rate of pyramid and head.
        backbone_lr: Peak rate of the last stage that trains.
        layer_decay: Factor on that rate for each earlier stage.
        unfreeze_after: Share of the steps in which the backbone's stages wait before they train.
        optimizer, schedule: By name; see `tuning.optim`.
        warmup: Share of the steps in which rates rise.
        weight_decay: Decoupled; of convolutions only.
        ema_decay: Decay of the running average of the weights, which is what is kept; 0 is off.
        grad_clip_norm: Largest norm of the gradient; 0 is off.
        views: Stored views of each image.
        augment: How views differ, in words.
        fpn_channels, head_depth: Channels of pyramid and head, and convolutions in each tower.
        min_stride: Smallest stride of the pyramid.
        assign_topk: Places that answer for a box.
        box_weight: Of the box's loss against the class's.
        seed: Of weights, order and views.
    """

    strategy: str = "head"
    cut: str = "neck"
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
    views: int = 16
    augment: str = DEFAULT_AUGMENT
    fpn_channels: int = 96
    head_depth: int = 2
    min_stride: int = 16
    assign_topk: int = 10
    box_weight: float = 2.5
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def with_(self, **changes: Any) -> DetectPlan:
        """Return the same with some values replaced."""
        return replace(self, **changes)
