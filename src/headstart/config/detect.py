"""Define the settings of detectors, the group `detect` of the training settings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from headstart.utils.limits import MAX_DETECTIONS

__all__ = ["DetectSettings"]


class DetectSettings(BaseModel):
    """Settings of detectors; defaults depend on the images and are recorded in the run."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    fpn_channels: int | None = Field(None, ge=8, le=1024, description="Channels of the feature pyramid and head.")
    head_depth: int | None = Field(None, ge=0, le=8, description="Convolutions per head tower.")
    min_stride: Literal[4, 8, 16, 32] | None = Field(None, description="Stride of the finest pyramid level in pixels.")
    backbone_lr: float | None = Field(None, gt=0, lt=10, description="Peak learning rate of the last backbone stage.")
    layer_decay: float | None = Field(None, gt=0, le=1, description="Learning-rate factor per earlier backbone stage.")
    unfreeze_after: float | None = Field(
        None, ge=0, lt=1, description="Fraction of the steps before the backbone stages train."
    )
    warmup: float | None = Field(None, ge=0, lt=1, description="Fraction of the steps with linear warm-up.")
    weight_decay: float | None = Field(None, ge=0, lt=10, description="Weight decay of the head.")
    ema_decay: float | None = Field(None, ge=0, lt=1, description="Decay of the EMA of the weights; 0 disables it.")
    grad_clip_norm: float | None = Field(None, ge=0, description="Maximum gradient norm; 0 disables clipping.")
    assign_topk: int | None = Field(
        None, ge=1, le=1000, description="Candidate anchor points per ground-truth box (TAL top-k)."
    )
    box_weight: float | None = Field(None, gt=0, description="Weight of the box loss relative to the class loss.")
    flip_tta: bool = Field(True, description="Flip test-time augmentation (doubles the prediction time).")
    box_format: str | None = Field(
        None,
        pattern="^(rel_|percent_|permille_)?(xyxy|xywh|cxcywh|yxyx|yxhw)$",
        description="Format of box coordinates: `xyxy`, `xywh`, `cxcywh`, `yxyx` or `yxhw` in pixels; the prefix "
        "`rel_` means fractions of the image size. Default: the format stated by the files.",
    )
    nms_iou: float = Field(0.6, gt=0, le=1, description="IoU threshold of non-maximum suppression.")
    class_agnostic_nms: bool = Field(False, description="Non-maximum suppression across classes: one box per place.")
    max_detections: int = Field(MAX_DETECTIONS, ge=1, le=100_000, description="Maximum detections per image.")
