"""Assign samples to folds, with whole groups and balanced classes.

Units (groups, or single samples) are assigned by falling size to the fold with the smallest fraction of their classes
so far; order and ties are random.
"""

from __future__ import annotations

import numpy as np

from headstart.types.arrays import Ids

__all__ = ["make_folds"]


def make_folds(class_ids: Ids, num_folds: int, *, groups: Ids | None = None, seed: int = 0) -> Ids:
    """Return (N,) fold of each sample, 0 .. num_folds - 1.

    Args:
        class_ids: (N,) class of each sample.
        num_folds: Number of folds; reduced to the number of groups (or samples).
        groups: (N,) group ids; samples of one group share a fold.
        seed: Random seed of order and ties.
    """
    rng = np.random.default_rng([seed, 5])
    num = len(class_ids)
    units = np.arange(num) if groups is None else np.unique(groups, return_inverse=True)[1]
    num_units = int(units.max()) + 1
    num_folds = max(1, min(num_folds, num_units))
    classes = np.unique(class_ids, return_inverse=True)[1]
    counts = np.zeros((num_units, int(classes.max()) + 1))
    np.add.at(counts, (units, classes), 1.0)
    fraction = counts / counts.sum(axis=0)
    filled = np.zeros((num_folds, counts.shape[1]))
    size = np.zeros(num_folds)
    fold_of = np.empty(num_units, dtype=np.int64)
    order = rng.permutation(num_units)
    for unit in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        cost = (filled * fraction[unit]).sum(axis=1) + 1e-6 * size + 1e-9 * rng.random(num_folds)
        fold = int(cost.argmin())
        fold_of[unit] = fold
        filled[fold] += fraction[unit]
        size[fold] += counts[unit].sum() / num
    return fold_of[units]
