"""Hold classes, weights and groups of the samples and validate them.

Samples without a valid evaluation are refused before fitting; subsets contain whole groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError, InvalidEvaluationError
from headstart.types.arrays import Float, Ids
from headstart.types.codes import EvaluationProtocol

__all__ = ["Labels", "check_labels"]


@dataclass(frozen=True)
class Labels:
    """Classes, weights and groups of N samples.

    Attributes:
        class_ids: (N,) in 0..K-1, every class present.
        num_classes: K.
        weights: (N,) positive, mean 1.
        groups: (N,) in 0..G-1, or None without groups.
    """

    class_ids: Ids
    num_classes: int
    weights: Float
    groups: Ids | None

    def __len__(self) -> int:
        return len(self.class_ids)

    @property
    def protocol(self) -> EvaluationProtocol:
        """Evaluation protocol of fits on these samples: leave-one-group-out with groups, else leave-one-out."""
        return EvaluationProtocol.LEAVE_ONE_OUT if self.groups is None else EvaluationProtocol.LEAVE_ONE_GROUP_OUT

    def take(self, index: Ids) -> tuple[Labels, Ids]:
        """Return the labels of a subset, and the (K',) classes that occur in it."""
        present, class_ids = np.unique(self.class_ids[index], return_inverse=True)
        weights = self.weights[index]
        groups = None if self.groups is None else np.unique(self.groups[index], return_inverse=True)[1]
        return Labels(class_ids.astype(np.int64), len(present), weights / weights.mean(), groups), present

    def folds(self, index: Ids | None = None) -> list[Ids] | None:
        """Return positions (within `index`) of each group, or None without groups."""
        if self.groups is None:
            return None
        groups = self.groups if index is None else self.groups[index]
        order = np.argsort(groups, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)

    def unscorable(self) -> NDArray[np.bool_]:
        """Return (N,) whether holding out the sample (or its group) leaves no image of its class."""
        total = np.bincount(self.class_ids, minlength=self.num_classes)
        if self.groups is None:
            return np.asarray(total[self.class_ids] == 1)
        pair = self.groups * self.num_classes + self.class_ids
        _, position, count = np.unique(pair, return_inverse=True, return_counts=True)
        return np.asarray(count[position] == total[self.class_ids])

    def subset(self, size: int, rng: np.random.Generator) -> Ids:
        """Draw about `size` samples: whole groups at random (at least 2), or the same fraction of every class."""
        folds = self.folds()
        if folds is not None:
            order = rng.permutation(len(folds))
            total = np.cumsum([len(folds[i]) for i in order])
            count = max(2, int(np.searchsorted(total, size)) + 1)
            return np.sort(np.concatenate([folds[i] for i in order[:count]]))
        order = rng.permutation(len(self))
        rank = _rank_in_class(self.class_ids[order])
        fraction = (rank + 0.5) / np.bincount(self.class_ids)[self.class_ids[order]]
        fraction[rank < 2] = -1.0
        return np.sort(order[np.argsort(fraction, kind="stable")[:size]])

    def chunks(self, size: int) -> list[Ids]:
        """Return all samples in parts of whole groups, of about `size` samples."""
        folds = self.folds()
        if folds is None:
            return [np.arange(start, min(start + size, len(self))) for start in range(0, len(self), size)]
        part = np.cumsum([len(fold) for fold in folds]) // size
        return [np.concatenate([f for f, p in zip(folds, part, strict=True) if p == i]) for i in np.unique(part)]

    def draw_folds(self, num_folds: int, rng: np.random.Generator) -> Ids:
        """Return (N,) fold of each sample, in 0..num_folds-1: stratified, with whole groups."""
        folds = self.folds()
        order = rng.permutation(len(self) if folds is None else len(folds))
        fold_of = np.empty(len(self), dtype=np.int64)
        if folds is None:
            fold_of[order] = _rank_in_class(self.class_ids[order]) % num_folds
            return fold_of
        sizes = np.zeros(num_folds)
        for i in sorted(order, key=lambda i: -len(folds[i])):
            fold_of[folds[i]] = sizes.argmin()
            sizes[sizes.argmin()] += len(folds[i])
        return fold_of


def check_labels(
    class_ids: NDArray[np.integer[Any]],
    num_classes: int,
    groups: NDArray[Any] | None,
    class_weights: NDArray[np.floating[Any]] | None,
) -> tuple[Labels, Ids]:
    """Validate the labels; return them without empty classes, and the (K',) classes that have samples.

    Raises:
        DataError: There are fewer than two classes, or shapes or values are invalid.
        InvalidEvaluationError: No sample can be scored out of sample.
    """
    ids = np.asarray(class_ids, dtype=np.int64)
    if len(ids) and (ids.min() < 0 or ids.max() >= num_classes):
        raise DataError(f"class ids must be in 0..{num_classes - 1}, got {ids.min()}..{ids.max()}.")
    num_present = len(np.unique(ids))
    if num_present < 2:
        raise DataError(
            f"found images of {num_present} class; a classifier needs at least 2.",
            hint="add images of another class",
        )
    weights = np.ones(len(ids))
    if class_weights is not None:
        factors = np.asarray(class_weights, dtype=np.float64)
        if factors.shape != (num_classes,) or not (np.isfinite(factors).all() and (factors > 0).all()):
            raise DataError(f"class weights must be {num_classes} positive numbers, one for each class.")
        weights = factors[ids]
    group = None
    if groups is not None:
        if len(groups) != len(ids):
            raise DataError(f"got {len(groups)} group ids for {len(ids)} images; pass one per image.")
        group = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        if group.max() == 0:
            raise InvalidEvaluationError(
                "all images are in one group, so none can be scored by a model trained without its group.",
                hint="check where groups come from, or remove the groups if the images are independent",
            )
    labels, present = Labels(ids, num_classes, weights, group).take(np.arange(len(ids)))
    if labels.unscorable().all():
        raise _nothing_scorable(labels)
    return labels, present


def _nothing_scorable(labels: Labels) -> InvalidEvaluationError:
    if labels.groups is None:
        return InvalidEvaluationError(
            "every class has 1 image, so no image can be scored by a model trained on its class.",
            hint="add images: at least 2 for each class, better 20",
        )
    return InvalidEvaluationError(
        "every class is in a single group, so no image can be scored by a model trained on its class.",
        hint="add images of each class from other groups, or check where groups come from",
    )


def _rank_in_class(class_ids: Ids) -> Ids:
    """Return (N,) number of preceding samples of the same class."""
    order = np.argsort(class_ids, kind="stable")
    counts = np.bincount(class_ids)
    rank = np.empty(len(class_ids), dtype=np.int64)
    rank[order] = np.arange(len(class_ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank
