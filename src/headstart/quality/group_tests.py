"""Test whether images that share a name-based group are really related.

A permutation test (Good, 2005): a grouping is accepted if images of one group are more similar to each other, within
their class, than under random permutations, and by more than a minimum effect; otherwise it is rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MIN_NEARNESS",
    "Evidence",
    "image_vectors",
    "number_keys",
    "off_axis_fraction",
    "permutation_test",
    "similarity_across",
]

_ROUNDS = 999
_MAX_IMAGES = 4000
MIN_NEARNESS = 0.03
"""Minimum gain in mean cosine; smaller gains are rejected whatever their p-value."""

_MAX_TIGHTER = 12  # permutations that are as tight; then the grouping is rejected anyway and the test stops
_SIZE = 48


@dataclass(frozen=True, slots=True)
class Evidence:
    """Result of a permutation test.

    Attributes:
        p_value: Fraction of permutations that are at least as tight, the observed one included.
        nearness: Mean cosine of two images of one group and class, minus that of any two of the class.
        num_pairs: Pairs of images that share group and class.
    """

    p_value: float
    nearness: float
    num_pairs: int


def permutation_test(
    vectors: NDArray[np.float32],
    groups: NDArray[np.int64],
    class_ids: NDArray[np.int64],
    *,
    rounds: int = _ROUNDS,
) -> Evidence:
    """Test whether images of one group are more similar than by chance, within their class.

    Args:
        vectors: (N, D) image features, at any scale.
        groups: (N,) group of each; -1 is excluded.
        class_ids: (N,) class of each; groups are compared only within a class.
        rounds: Number of permutations.

    Returns:
        The result; a p-value of 1 if no two images share a group and a class.
    """
    rng = np.random.default_rng(0)
    centered, classes, use = _unit_rows(vectors, groups, class_ids, rng)
    return _permute_images(centered, classes, groups[use], _base(centered, classes), rounds, rng)


def off_axis_fraction(vectors: NDArray[np.float32], groups: NDArray[np.int64], class_ids: NDArray[np.int64]) -> float:
    """Return the fraction of the within-group similarity outside its strongest direction.

    Objects differ in many directions; a recording condition (exposure, focus, compression) moves all images along
    one. The between-group scatter is estimated from pairs of different samples, so noise does not inflate it.

    Args:
        vectors: (N, D) image features, at any scale.
        groups: (N,) group of each; -1 is excluded.
        class_ids: (N,) class of each; groups are compared only within a class.

    Returns:
        At most 1; near 0 or below for one direction, and 0 without any similarity.
    """
    unit, classes, use = _unit_rows(vectors, groups, class_ids, np.random.default_rng(0))
    if not len(use):
        return 0.0
    _, cell = np.unique(np.stack([classes, groups[use]]), axis=1, return_inverse=True)
    cell = cell.reshape(-1)
    sums = np.zeros((int(cell.max()) + 1, unit.shape[1]))
    np.add.at(sums, cell, unit)
    scatter = sums.T @ sums - unit.T.astype(np.float64) @ unit
    total = float(np.trace(scatter))
    return 1.0 - float(np.linalg.eigvalsh(scatter)[-1]) / total if total > 0 else 0.0


def similarity_across(vectors: NDArray[np.float32], groups: NDArray[np.int64], class_ids: NDArray[np.int64]) -> float:
    """Return the mean cosine of samples of one group in different classes, each relative to its class mean.

    Args:
        vectors: (N, D) image features, at any scale.
        groups: (N,) group of each; -1 is excluded.
        class_ids: (N,) class of each.

    Returns:
        Near 0 if a group has nothing in common across classes, or is in one class.
    """
    unit, classes, use = _unit_rows(vectors, groups, class_ids, np.random.default_rng(0))
    if not len(use):
        return 0.0

    def pairs_of(keys: NDArray[np.int64]) -> tuple[float, float]:
        _, cell = np.unique(keys, axis=1, return_inverse=True)
        cell = cell.reshape(-1)
        sums = np.zeros((int(cell.max()) + 1, unit.shape[1]))
        np.add.at(sums, cell, unit)
        return float((sums * sums).sum()), float((np.bincount(cell).astype(np.float64) ** 2).sum())

    all_sum, all_pairs = pairs_of(groups[use][None])
    own_sum, own_pairs = pairs_of(np.stack([groups[use], classes]))
    return (all_sum - own_sum) / (all_pairs - own_pairs) if all_pairs > own_pairs else 0.0


def image_vectors(
    colors: NDArray[np.uint8], histograms: NDArray[np.uint8], descriptions: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return (N, D) features of thumbnails: colors, robust to rotation and crops, and the more specific layout.

    Args:
        colors: (N, 8, 8, 3) uint8.
        histograms: (N, 64) uint8 color fractions.
        descriptions: (N, 63) low-frequency DCT coefficients.
    """
    fractions = np.sqrt(histograms.astype(np.float32) / 255.0)
    layout = colors.reshape(len(colors), -1).astype(np.float32) / 255.0
    parts = [fractions, layout, descriptions]
    scaled = [p - p.mean(axis=0) for p in parts]
    scaled = [p / max(float(np.sqrt((p * p).sum(axis=1).mean())), 1e-6) for p in scaled]
    return np.concatenate(scaled, axis=1).astype(np.float32)


def number_keys(keys: Sequence[str | None]) -> NDArray[np.int64]:
    """Return (N,) group of each key by first appearance, -1 for None."""
    number_of: dict[str, int] = {}
    return np.array([-1 if k is None else number_of.setdefault(k, len(number_of)) for k in keys], dtype=np.int64)


def _unit_rows(
    vectors: NDArray[np.float32], groups: NDArray[np.int64], class_ids: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return unit vectors around their class mean, their classes and positions; whole groups, at most 4,000 samples."""
    use = np.flatnonzero(groups >= 0)
    if len(use) > _MAX_IMAGES:  # whole groups are kept
        shuffled = rng.permutation(np.unique(groups[use]))
        rank = np.empty(int(groups.max()) + 1, dtype=np.int64)
        rank[shuffled] = np.arange(len(shuffled))
        use = np.sort(use[np.argsort(rank[groups[use]], kind="stable")][:_MAX_IMAGES])
    centered = np.asarray(vectors[use], dtype=np.float32).copy()
    classes = class_ids[use]
    for k in np.unique(classes):
        inside = classes == k
        centered[inside] -= centered[inside].mean(axis=0)
    if centered.shape[1] > _SIZE:  # a random projection keeps angles nearly and is the same for every permutation
        mixer = np.random.default_rng(0).standard_normal((centered.shape[1], _SIZE)).astype(np.float32)
        centered = centered @ mixer
    length = np.linalg.norm(centered, axis=1, keepdims=True)
    centered = np.where(length > 1e-6, centered / np.maximum(length, 1e-6), 0).astype(np.float32)
    return centered, classes, use


def _base(unit: NDArray[np.float32], classes: NDArray[np.int64]) -> float:
    """Return the mean cosine of any two images of a class, over all such pairs."""
    total, pairs = 0.0, 0.0
    for k in np.unique(classes):
        rows = unit[classes == k]
        total += float((rows.sum(axis=0, dtype=np.float64) ** 2).sum()) - len(rows)
        pairs += len(rows) * (len(rows) - 1)
    return total / pairs if pairs else 0.0


def _permute_images(
    unit: NDArray[np.float32],
    classes: NDArray[np.int64],
    group: NDArray[np.int64],
    base: float,
    rounds: int,
    rng: np.random.Generator,
) -> Evidence:
    order = np.lexsort((group, classes))
    unit, classes, group = unit[order], classes[order], group[order]
    starts = np.flatnonzero(np.r_[True, (classes[1:] != classes[:-1]) | (group[1:] != group[:-1])])
    sizes = np.diff(np.r_[starts, len(unit)])
    num_pairs = int((sizes * (sizes - 1)).sum()) // 2
    if num_pairs == 0:
        return Evidence(1.0, 0.0, 0)
    large = sizes > 1

    def tightness(rows: NDArray[np.float32]) -> float:
        sums = np.add.reduceat(rows, starts, axis=0)[large]
        return float((sums * sums).sum(dtype=np.float64) - sizes[large].sum()) / (2 * num_pairs)

    observed = tightness(unit)
    bounds = np.flatnonzero(np.r_[True, classes[1:] != classes[:-1], True])
    as_tight, done = 1, 0
    while done < rounds and as_tight <= _MAX_TIGHTER:
        done += 1
        permuted = np.concatenate([a + rng.permutation(b - a) for a, b in pairwise(bounds)])
        as_tight += tightness(unit[permuted]) >= observed
    return Evidence(as_tight / (done + 1), observed - base, num_pairs)
