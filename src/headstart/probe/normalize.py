"""Normalize pooled features, robustly to nearly constant features.

Standardize with the deviation floored at 0.1 of the block's median, clip |z| at 5, and scale each row of a block to
unit norm. Without floor and clip one image can dominate a nearly constant feature through its own moments, which biases
leave-one-out with fixed moments by up to 20 points on line art (`benchmarks/bench_probe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from headstart.errors import DataError
from headstart.types.arrays import Blocks

__all__ = ["Normalizer", "fit_normalizer"]


_EPS = 1e-12
_CHUNK = 2048  # rows normalized at once: bounds the temporary memory


@dataclass(frozen=True)
class Normalizer:
    """The exported normalization `n`: `row_unit(clip((x - mean) / scale)) * block weight`, concatenated.

    Attributes:
        names: Block names in the order in which they are concatenated.
        means: One (D_b,) float32 per block.
        scales: One (D_b,) float32 per block, positive.
        weights: One positive factor per block, applied to its unit rows.
        clip: Maximum |z|, in standard deviations.
    """

    names: tuple[str, ...]
    means: tuple[NDArray[np.float32], ...]
    scales: tuple[NDArray[np.float32], ...]
    weights: tuple[float, ...]
    clip: float = 5.0

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Length of each block."""
        return tuple(len(m) for m in self.means)

    @property
    def num_features(self) -> int:
        """D, the length of a normalized row."""
        return sum(self.sizes)

    def __call__(self, blocks: Blocks) -> NDArray[np.float32]:
        """Normalize images.

        Args:
            blocks: (N, D_b) by block name; blocks that are not used are ignored.

        Returns:
            (N, D) float32.

        Raises:
            DataError: A block is missing or of another width.
        """
        return self.transform(blocks, np.float32)

    def transform(self, blocks: Blocks, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Return the result of a call in the requested float type."""
        arrays = [_block(blocks, name, size) for name, size in zip(self.names, self.sizes, strict=True)]
        num_rows = len(arrays[0])
        out = np.empty((num_rows, self.num_features), dtype=dtype)
        start = 0
        for array, mean, scale, weight in zip(arrays, self.means, self.scales, self.weights, strict=True):
            stop = start + array.shape[1]
            for row in range(0, num_rows, _CHUNK):
                z = array[row : row + _CHUNK].astype(dtype)
                z -= mean
                z /= scale
                np.clip(z, -self.clip, self.clip, out=z)
                norm = np.sqrt(np.einsum("nd,nd->n", z, z))[:, None]
                z *= weight / np.maximum(norm, _EPS)
                out[row : row + _CHUNK, start:stop] = z
            start = stop
        return out

    def restrict(self, names: tuple[str, ...], weights: tuple[float, ...]) -> Normalizer:
        """Select blocks with their weights."""
        position = [self.names.index(name) for name in names]
        return Normalizer(
            names=names,
            means=tuple(self.means[i] for i in position),
            scales=tuple(self.scales[i] for i in position),
            weights=weights,
            clip=self.clip,
        )

    def to_json(self) -> dict[str, Any]:
        """Return names, sizes, block weights and clip; moments are in `arrays`."""
        return {
            "names": list(self.names),
            "sizes": list(self.sizes),
            "weights": [float(w) for w in self.weights],
            "clip": float(self.clip),
        }

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return `mean` and `scale`, (D,) float32 each, concatenated over blocks."""
        return {"mean": np.concatenate(self.means), "scale": np.concatenate(self.scales)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> Normalizer:
        """Read the output of `to_json` and `arrays`.

        Raises:
            ValueError: Sizes and arrays do not match.
        """
        sizes = [int(s) for s in value["sizes"]]
        mean, scale = (np.asarray(arrays[key], dtype=np.float32) for key in ("mean", "scale"))
        if len(mean) != sum(sizes) or len(scale) != sum(sizes):
            raise ValueError(f"the moments have {len(mean)} and {len(scale)} values where {sum(sizes)} are expected")
        cuts = np.cumsum(sizes)[:-1]
        return cls(
            names=tuple(value["names"]),
            means=tuple(np.split(mean, cuts)),
            scales=tuple(np.split(scale, cuts)),
            weights=tuple(float(w) for w in value["weights"]),
            clip=float(value["clip"]),
        )


def fit_normalizer(blocks: Blocks, *, floor: float = 0.1, clip: float = 5.0) -> Normalizer:
    """Fit mean and scale of every block, with equal image weights.

    Args:
        blocks: (N, D_b) by name, finite.
        floor: Smallest deviation, as a fraction of the block's median deviation over features that vary.
        clip: Maximum |z|.

    Raises:
        DataError: There are no blocks or rows, their numbers of rows differ, or a value is not finite.
    """
    if not blocks:
        raise DataError("there are no features to fit a head on.")
    rows = {name: len(array) for name, array in blocks.items()}
    if len(set(rows.values())) != 1 or min(rows.values()) == 0:
        raise DataError(f"every block of features needs one row per image; got {rows}.")
    means, scales = [], []
    for name, array in blocks.items():
        mean, deviation = _moments(array)
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
            raise DataError(
                f"the features `{name}` contain values that are not finite.",
                hint="remove the unreadable images",
            )
        # Features that are constant up to rounding must not be amplified, nor affect the median.
        alive = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-30)
        median = float(np.median(deviation[alive])) if alive.any() else 1.0
        means.append(mean.astype(np.float32))
        scales.append(np.maximum(deviation, floor * median).astype(np.float32))
    return Normalizer(tuple(blocks), tuple(means), tuple(scales), (1.0,) * len(means), clip)


def _moments(array: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and population deviation of every column, two passes in float64 without a float64 copy."""
    count = len(array)
    mean = array.sum(axis=0, dtype=np.float64) / count
    square = np.zeros_like(mean)
    for row in range(0, count, _CHUNK):
        centered = array[row : row + _CHUNK] - mean
        square += np.einsum("nd,nd->d", centered, centered)
    return mean, np.sqrt(square / count)


def _block(blocks: Blocks, name: str, size: int) -> NDArray[np.float32]:
    if name not in blocks:
        raise DataError(f"the features `{name}` are missing; available: {', '.join(blocks) or 'none'}.")
    array = blocks[name]
    if array.ndim != 2 or array.shape[1] != size:
        raise DataError(f"the features `{name}` have shape {array.shape} where (N, {size}) is expected.")
    return array
