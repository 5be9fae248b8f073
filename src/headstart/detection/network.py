"""The detector's own layers: a narrow pyramid, and a head that says what is where, and how large.

One head for all levels, its convolutions shared and its batch norms of their own for each level
(RTMDet, Lyu et al. 2022), without anchors (FCOS, Tian et al. 2019): plain convolutions once the norms are folded,
which is what ONNX Runtime is fastest at.  The pyramid is torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

__all__ = ["Detector", "DetectorHead", "make_points"]

_PRIOR = 0.01  # probability that a place holds an object, at the start (RetinaNet, Lin et al. 2017)
_REACH = 4.0  # at the start a box reaches so many strides in each direction


class _Tower(nn.Module):  # type: ignore[misc]
    """Convolutions shared by all levels, each level with its own norms."""

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
    """Pyramid and head.

    Args:
        channels: Channels of the maps it stands on, the finest first.
        strides: Their strides.
        num_classes: K.
        width: Channels of the pyramid and the head.
        depth: Convolutions in each of the two towers.
        seed: Of the first weights.
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
            nn.init.constant_(self.box_out.bias, math.log(_REACH))

    def forward(self, maps: Sequence[Any]) -> tuple[Any, Any]:
        """Maps to class logits (B, P, K) and boxes (B, P, 4), xyxy in input pixels; P places of all levels."""
        named = self.pyramid({str(i): m for i, m in enumerate(maps)})
        levels = [nn.functional.relu(m) for m in named.values()]
        logits, boxes = [], []
        towers = zip(self.class_tower(levels), self.box_tower(levels), self.strides, strict=True)
        for i, (for_class, for_box, stride) in enumerate(towers):
            raw = self.class_out(for_class)  # (B, K, H, W)
            reach = (self.box_out(for_box) * self.scales[i]).clamp(max=8.0).exp() * stride  # (B, 4, H, W)
            logits.append(raw.flatten(2).transpose(1, 2))
            reach = reach.flatten(2).transpose(1, 2)  # (B, P, 4): left, up, right, down
            points = make_points([tuple(raw.shape[2:])], [stride]).to(reach)
            boxes.append(torch.cat((points - reach[..., :2], points + reach[..., 2:]), dim=-1))
        return torch.cat(logits, 1), torch.cat(boxes, 1)


class Detector(nn.Module):  # type: ignore[misc]
    """From images to class logits and boxes: backbone maps, pyramid and head in one module.

    Args:
        maps: From images to maps.
        head: Pyramid and head.
        sizes_hw: Of the maps.
        is_mirrored: Whether the mirrored image is looked at too, and what is said of each place averaged.
    """

    def __init__(
        self, maps: Any, head: DetectorHead, sizes_hw: Sequence[tuple[int, int]], *, is_mirrored: bool = False
    ) -> None:
        super().__init__()
        self.maps, self.head, self.is_mirrored = maps, head, is_mirrored
        order, first = [], 0
        for height, width in sizes_hw:
            order.append((torch.arange(height * width).reshape(height, width).flip(1) + first).flatten())
            first += height * width
        self.register_buffer("order", torch.cat(order))  # (P,) the place that mirrors each place

    def forward(self, pixels: Any) -> tuple[Any, Any]:
        """Return (B, 3, H, W) normalized pixels to logits (B, P, K) and boxes (B, P, 4)."""
        if not self.is_mirrored:
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
    """Return (P, 2) x and y of every place of all levels, input pixels, row by row."""
    points = []
    for (height, width), stride in zip(sizes_hw, strides, strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        points.append((torch.stack((x, y), -1).reshape(-1, 2) + 0.5) * stride)
    return torch.cat(points)
