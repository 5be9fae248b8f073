"""Choose a subset of the training images that fits a budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.data.boxes.records import Boxes
from headstart.types.arrays import Ids

__all__ = ["subset_order"]

_MIN_IMAGES = 8


def subset_order(train: Ids, boxes: Sequence[Boxes], num_classes: int, *, seed: int) -> tuple[Ids, int]:
    """Return the training images in an order whose every prefix is a stratified subset.

    One image of each class comes first, the rarest class first; then classes alternate in proportion to their size,
    where an image belongs to its rarest class.

    Args:
        train: Positions of the training images.
        boxes: Boxes of all images.
        num_classes: K.
        seed: Random seed of the order.

    Returns:
        The order, and the least length of a usable prefix.
    """
    order = np.random.default_rng([seed, 41]).permutation(train)
    classes = [np.unique(boxes[i].class_ids[~boxes[i].is_crowd]) for i in order]
    counts = np.zeros(num_classes, dtype=np.int64)
    for ids in classes:
        counts[ids] += 1
    rarest = np.array([min(ids, key=lambda k: (counts[k], k), default=-1) for ids in classes], dtype=np.int64)
    rank = np.zeros(len(order))  # rank of each image within its class, in [0, 1)
    for kind in np.unique(rarest):
        members = np.flatnonzero(rarest == kind)
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    first: list[int] = []
    for kind in np.argsort(counts, kind="stable"):
        if counts[kind] and not any(kind in classes[i] for i in first):
            first.append(next(i for i, ids in enumerate(classes) if kind in ids))
    rest = [i for i in np.argsort(rank, kind="stable") if i not in set(first)]
    least = min(len(order), max(_MIN_IMAGES, len(first)))
    return np.asarray(order[np.array([*first, *rest], dtype=np.int64)]), least
