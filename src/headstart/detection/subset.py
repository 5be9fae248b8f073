"""Which training images are used where not all of them fit into a budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Boxes

__all__ = ["subset_order"]

Ids = NDArray[np.int64]
_LEAST_IMAGES = 8


def subset_order(train: Ids, boxes: Sequence[Boxes], num_classes: int, *, seed: int) -> tuple[Ids, int]:
    """Return the training images in an order of which every prefix is a fair subset.

    First one image of each class, the rarest class first; then the classes take turns in proportion to their size,
    where an image belongs to the rarest class that it shows.

    Args:
        train: Positions of the training images.
        boxes: Of all images.
        num_classes: K.
        seed: Of the order.

    Returns:
        The order, and the length of the shortest prefix that is to be used.
    """
    order = np.random.default_rng([seed, 41]).permutation(train)
    shown = [np.unique(boxes[i].class_ids[~boxes[i].is_crowd]) for i in order]
    counts = np.zeros(num_classes, dtype=np.int64)
    for ids in shown:
        counts[ids] += 1
    rarest = np.array([min(ids, key=lambda k: (counts[k], k), default=-1) for ids in shown], dtype=np.int64)
    place = np.zeros(len(order))  # where each image stands among those of its class, in [0, 1)
    for kind in np.unique(rarest):
        mine = np.flatnonzero(rarest == kind)
        place[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
    first: list[int] = []
    for kind in np.argsort(counts, kind="stable"):
        if counts[kind] and not any(kind in shown[i] for i in first):
            first.append(next(i for i, ids in enumerate(shown) if kind in ids))
    rest = [i for i in np.argsort(place, kind="stable") if i not in set(first)]
    least = min(len(order), max(_LEAST_IMAGES, len(first)))
    return np.asarray(order[np.array([*first, *rest], dtype=np.int64)]), least
