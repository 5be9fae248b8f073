"""Mixing pairs of images of a batch: their states and, in proportion, their labels.

What is mixed is the state at the cut, whatever it is: for a network trained whole these are
the images themselves.  Sources: Zhang et al. (2018), mixup; Yun et al. (2019), CutMix; Verma et al. (2019)
for states inside a network.
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
    """A batch of which each image may be partly another.

    Attributes:
        states, early: See `sources.Batch`.
        mates: (B,) position of the other image, or None where nothing was mixed.
        share: Share of the image itself, in [0, 1].
    """

    states: tuple[Any, ...]
    early: dict[str, Any]
    mates: Any = None
    share: float = 1.0


def mix_batch(batch: Batch, mixup: float, cutmix: float, rng: np.random.Generator) -> MixedBatch:
    """Mix a batch; where both ways are on, a coin decides.

    Args:
        batch: States and pooled features.
        mixup: Alpha of the beta distribution of the share; 0 is off.
        cutmix: The same for a rectangle that comes from the other image; vectors are blended.
        rng: The step's own.
    """
    states, early = batch
    if not mixup and not cutmix:
        return MixedBatch(states, early)
    is_cut = bool(cutmix) and (not mixup or rng.random() < 0.5)
    alpha = cutmix if is_cut else mixup
    share = float(rng.beta(alpha, alpha))
    mates = torch.from_numpy(rng.permutation(len(states[0]) if states else len(next(iter(early.values())))))
    center = rng.random(2)
    if is_cut:
        maps = [s for s in states if s.dim() == 4]
        if maps:  # the share that the whole pixels of the coarsest map allow
            coarsest = min(maps, key=lambda s: s.shape[2] * s.shape[3])
            top, bottom, left, right = _box(coarsest.shape[2:], share, center)
            share = 1.0 - (bottom - top) * (right - left) / float(coarsest.shape[2] * coarsest.shape[3])
        states = tuple(_pasted(s, mates, share, center) for s in states)
    else:
        states = tuple(_blended(s, mates, share) for s in states)
    return MixedBatch(states, {n: _blended(e, mates, share) for n, e in early.items()}, mates, share)


def _blended(x: Any, mates: Any, share: float) -> Any:
    return torch.lerp(x[mates], x, share)


def _pasted(x: Any, mates: Any, share: float, center: Any) -> Any:
    if x.dim() != 4:
        return _blended(x, mates, share)
    top, bottom, left, right = _box(x.shape[2:], share, center)
    out = x.clone()
    out[:, :, top:bottom, left:right] = x[mates][:, :, top:bottom, left:right]
    return out


def _box(size: Any, share: float, center: Any) -> tuple[int, int, int, int]:
    """Return a rectangle of `1 - share` of the area, inside the map: top, bottom, left, right."""
    side = (1.0 - share) ** 0.5
    edges = []
    for length, at in zip(size, center, strict=True):
        inside = min(int(length), round(int(length) * side))
        first = round((int(length) - inside) * float(at))
        edges += [first, first + inside]
    return edges[0], edges[1], edges[2], edges[3]
