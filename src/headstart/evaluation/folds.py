"""Create seeded, stratified folds with whole groups for cross-fitting.

Groups are assigned largest first to the fold with the fewest images of their most frequent class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_folds"]


def draw_folds(
    class_ids: NDArray[np.int64], num_folds: int, *, groups: NDArray[np.int64] | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """Return (N,) fold of each sample, in 0..F-1, every fold in use; F is `num_folds` or the number of groups if fewer.

    Args:
        class_ids: (N,) classes, for stratification.
        num_folds: Number of folds, at least 2.
        groups: (N,) groups that stay in one fold, or None.
        seed: Random seed.

    Raises:
        ValueError: There are fewer than two samples or groups.
    """
    num = len(class_ids)
    owner = np.arange(num) if groups is None else np.unique(groups, return_inverse=True)[1]
    num_groups = int(owner.max()) + 1 if num else 0
    count = min(num_folds, num_groups)
    if count < 2:
        raise ValueError(f"cross-fitting needs at least 2 samples or groups, got {num_groups}")
    num_classes = int(class_ids.max()) + 1
    table = np.zeros((num_groups, num_classes), dtype=np.int64)
    np.add.at(table, (owner, class_ids), 1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(num_groups)
    order = order[np.argsort(-table.sum(axis=1)[order], kind="stable")]
    filled = np.zeros((count, num_classes), dtype=np.int64)
    total = np.zeros(count, dtype=np.int64)
    fold_of = np.empty(num_groups, dtype=np.int64)
    for g in order:
        main = int(table[g].argmax())
        f = min(range(count), key=lambda i: (filled[i, main], total[i]))
        fold_of[g] = f
        filled[f] += table[g]
        total[f] += table[g].sum()
    return fold_of[owner]
