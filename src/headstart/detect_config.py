"""Settings of a detector, the group `detect` of the training settings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from headstart.limits import MAX_DETECTIONS

__all__ = ["DetectSettings"]


class DetectSettings(BaseModel):
    """Finer settings of a detector; what is not set depends on the images and is written to the run."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    fpn_channels: int | None = Field(None, ge=8, le=1024, description="Channels of the pyramid and the head.")
    head_depth: int | None = Field(None, ge=0, le=8, description="Convolutions in each of the head's two towers.")
    min_stride: Literal[4, 8, 16, 32] | None = Field(None, description="Pixels between places of the finest level.")
    backbone_lr: float | None = Field(None, gt=0, lt=10, description="Peak learning rate of the last stage.")
    layer_decay: float | None = Field(None, gt=0, le=1, description="Factor on that rate for each earlier stage.")
    unfreeze_after: float | None = Field(
        None, ge=0, lt=1, description="Share of the steps before the stages begin to train."
    )
    warmup: float | None = Field(None, ge=0, lt=1, description="Share of the steps in which rates rise.")
    weight_decay: float | None = Field(None, ge=0, lt=10, description="Shrinking of the head's weights.")
    ema_decay: float | None = Field(
        None, ge=0, lt=1, description="Decay of the running average of the weights; 0: off."
    )
    grad_clip_norm: float | None = Field(None, ge=0, description="Largest norm of the gradient; 0 is off.")
    assign_topk: int | None = Field(None, ge=1, le=1000, description="Places that answer for a box.")
    box_weight: float | None = Field(None, gt=0, description="Weight of the boxes' loss against the classes'.")
    flip_tta: bool = Field(
        True, description="Whether prediction also looks at the mirrored image and averages (twice the time)."
    )
    box_format: str | None = Field(
        None,
        pattern="^(rel_|percent_|permille_)?(xyxy|xywh|cxcywh|yxyx|yxhw)$",
        description="Meaning of the numbers of a box: `xyxy`, `xywh`, `cxcywh`, `yxyx` or `yxhw` in pixels, with "
        "`rel_` before it in shares of the image size; by default as the files state, if that fits.",
    )
    nms_iou: float = Field(0.6, gt=0, le=1, description="Overlap from which the less certain of two boxes is dropped.")
    max_detections: int = Field(
        MAX_DETECTIONS, ge=1, le=100_000, description="Most objects of an image that prediction hands out."
    )
