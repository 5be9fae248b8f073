"""Apply mixup and CutMix to a batch: mix the states at the cut, and the labels in proportion.

For a network trained as a whole, the states are the images. Sources: Zhang et al. (2018), mixup; Yun et al. (2019),
CutMix; Verma et al. (2019), manifold mixup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headstart.training.batch_sources import Batch

__all__ = ["MixedBatch", "mix_batch"]


@dataclass(frozen=True)
class MixedBatch:
    """A batch whose images may be mixed in pairs.

    Attributes:
        states, early: See `batch_sources.Batch`.
        mates: (B,) positions of the other images, or None without mixing.
        lam: Weight of the image itself, in [0, 1].
    """

    states: tuple[Any, ...]
    early: dict[str, Any]
    mates: Any = None
    lam: float = 1.0


def mix_batch(batch: Batch, mixup: float, cutmix: float, rng: np.random.Generator) -> MixedBatch:
    """Mix a batch; if both methods are on, one is drawn at random.

    Args:
        batch: States and pooled features.
        mixup: Alpha of the beta distribution of the weight; 0 is off.
        cutmix: Alpha for CutMix, which pastes a rectangle of the other image; vectors are blended; 0 is off.
        rng: Generator of the step.
    """
    states, early = batch
    if not mixup and not cutmix:
        return MixedBatch(states, early)
    is_cut = bool(cutmix) and (not mixup or rng.random() < 0.5)
    alpha = cutmix if is_cut else mixup
    lam = float(rng.beta(alpha, alpha))
    mates = torch.from_numpy(rng.permutation(len(states[0]) if states else len(next(iter(early.values())))))
    center = rng.random(2)
    if is_cut:
        maps = [s for s in states if s.dim() == 4]
        if maps:  # rounded to whole pixels of the coarsest map
            coarsest = min(maps, key=lambda s: s.shape[2] * s.shape[3])
            top, bottom, left, right = _box(coarsest.shape[2:], lam, center)
            lam = 1.0 - (bottom - top) * (right - left) / float(coarsest.shape[2] * coarsest.shape[3])
        states = tuple(_paste(s, mates, lam, center) for s in states)
    else:
        states = tuple(_blend(s, mates, lam) for s in states)
    return MixedBatch(states, {n: _blend(e, mates, lam) for n, e in early.items()}, mates, lam)


def _blend(x: Any, mates: Any, lam: float) -> Any:
    return torch.lerp(x[mates], x, lam)


def _paste(x: Any, mates: Any, lam: float, center: Any) -> Any:
    if x.dim() != 4:
        return _blend(x, mates, lam)
    top, bottom, left, right = _box(x.shape[2:], lam, center)
    out = x.clone()
    out[:, :, top:bottom, left:right] = x[mates][:, :, top:bottom, left:right]
    return out


def _box(size: Any, lam: float, center: Any) -> tuple[int, int, int, int]:
    """Return a rectangle with `1 - lam` of the area, inside the map: top, bottom, left, right."""
    side = (1.0 - lam) ** 0.5
    edges = []
    for length, at in zip(size, center, strict=True):
        inside = min(int(length), round(int(length) * side))
        first = round((int(length) - inside) * float(at))
        edges += [first, first + inside]
    return edges[0], edges[1], edges[2], edges[3]
