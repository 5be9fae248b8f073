"""Define the detector's layers: a feature pyramid and an anchor-free head.

The head shares convolutions between levels, with separate batch norms per level (RTMDet, Lyu et al. 2022), and has no
anchors (FCOS, Tian et al. 2019). With folded norms it consists of plain convolutions, which ONNX Runtime runs fastest.
The pyramid is torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

__all__ = ["Detector", "DetectorHead", "make_points"]

_PRIOR = 0.01  # initial object probability at an anchor point (RetinaNet, Lin et al. 2017)
_INITIAL_DISTANCE = 4.0  # initial distance from an anchor point to the box edges, in strides


class _Tower(nn.Module):  # type: ignore[misc]
    """Convolutions shared by all levels, with separate norms per level."""

    def __init__(self, width: int, depth: int, num_levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(width) for _ in range(depth)) for _ in range(num_levels)
        )

    def forward(self, maps: Sequence[Any]) -> list[Any]:
        out = []
        for level, x in enumerate(maps):
            for conv, norm in zip(self.convs, self.norms[level], strict=True):
                x = nn.functional.relu(norm(conv(x)), inplace=True)
            out.append(x)
        return out


class DetectorHead(nn.Module):  # type: ignore[misc]
    """Feature pyramid and detection head.

    Args:
        channels: Channels of the input maps, finest first.
        strides: Their strides.
        num_classes: K.
        width: Channels of the pyramid and the head.
        depth: Convolutions in each of the two towers.
        seed: Random seed of the initial weights.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        width: int = 96,
        depth: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.pyramid = FeaturePyramidNetwork(list(channels), width, norm_layer=nn.BatchNorm2d)
            self.class_tower = _Tower(width, depth, len(strides))
            self.box_tower = _Tower(width, depth, len(strides))
            self.class_out = nn.Conv2d(width, num_classes, 1)
            self.box_out = nn.Conv2d(width, 4, 1)
            self.scales = nn.Parameter(torch.ones(len(strides)))
            for layer in (self.class_out, self.box_out):
                nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(self.class_out.bias, -math.log((1 - _PRIOR) / _PRIOR))
            nn.init.constant_(self.box_out.bias, math.log(_INITIAL_DISTANCE))

    def forward(self, maps: Sequence[Any]) -> tuple[Any, Any]:
        """Return class logits (B, P, K) and boxes (B, P, 4), xyxy in input pixels, for P anchor points."""
        named = self.pyramid({str(i): m for i, m in enumerate(maps)})
        levels = [nn.functional.relu(m) for m in named.values()]
        logits, boxes = [], []
        towers = zip(self.class_tower(levels), self.box_tower(levels), self.strides, strict=True)
        for i, (class_features, box_features, stride) in enumerate(towers):
            raw = self.class_out(class_features)  # (B, K, H, W)
            distances = (self.box_out(box_features) * self.scales[i]).clamp(max=8.0).exp() * stride  # (B, 4, H, W)
            logits.append(raw.flatten(2).transpose(1, 2))
            distances = distances.flatten(2).transpose(1, 2)  # (B, P, 4): left, up, right, down
            points = make_points([tuple(raw.shape[2:])], [stride]).to(distances)
            boxes.append(torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1))
        return torch.cat(logits, 1), torch.cat(boxes, 1)


class Detector(nn.Module):  # type: ignore[misc]
    """Complete detector, from images to class logits and boxes.

    Args:
        maps: Backbone from images to maps.
        head: Pyramid and head.
        sizes_hw: Sizes of the maps.
        has_flip_tta: Whether to average with the outputs for the flipped image (flip TTA).
    """

    def __init__(
        self, maps: Any, head: DetectorHead, sizes_hw: Sequence[tuple[int, int]], *, has_flip_tta: bool = False
    ) -> None:
        super().__init__()
        self.maps, self.head, self.has_flip_tta = maps, head, has_flip_tta
        order, first = [], 0
        for height, width in sizes_hw:
            order.append((torch.arange(height * width).reshape(height, width).flip(1) + first).flatten())
            first += height * width
        self.register_buffer("order", torch.cat(order))  # (P,) anchor point of each flipped anchor point

    def forward(self, pixels: Any) -> tuple[Any, Any]:
        """Return logits (B, P, K) and boxes (B, P, 4) of normalized pixels (B, 3, H, W)."""
        if not self.has_flip_tta:
            logits, boxes = self.head(self.maps(pixels))
            return logits, boxes
        both = torch.cat((pixels, pixels.flip(-1)))  # (2B, 3, H, W)
        logits, boxes = self.head(self.maps(both))
        logits = logits.reshape(2, -1, *logits.shape[1:])  # (2, B, P, K)
        boxes = boxes.reshape(2, -1, *boxes.shape[1:])
        other = boxes[1][:, self.order]
        left, right = pixels.shape[-1] - other[..., 2:3], pixels.shape[-1] - other[..., 0:1]
        other = torch.cat((left, other[..., 1:2], right, other[..., 3:4]), dim=-1)
        return (logits[0] + logits[1][:, self.order]) / 2, (boxes[0] + other) / 2


def make_points(sizes_hw: Sequence[tuple[int, int]], strides: Sequence[int]) -> Any:
    """Return (P, 2) anchor points of all levels as x, y in input pixels, row by row."""
    points = []
    for (height, width), stride in zip(sizes_hw, strides, strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        points.append((torch.stack((x, y), -1).reshape(-1, 2) + 0.5) * stride)
    return torch.cat(points)
