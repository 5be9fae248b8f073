"""Mends a split that leaks: what belongs together goes to one side.

The one decision: as little as possible is moved, each group to where most of it lies already (training where
that is undecided), and no file is touched: the result is a new `split.csv`.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError
from headstart.records import Samples, Split

__all__ = ["repair_split"]

_ORDER = ("train", "val", "test")


def repair_split(
    samples: Samples, split: Split, groups: NDArray[np.int64] | None, left_out: NDArray[np.bool_] | None = None
) -> Split:
    """A split without leaks.

    Args:
        samples: The pictures.
        split: The person's own split.
        groups: (N,) what belongs together (`Applied.groups`); None changes nothing.
        left_out: (N,) pictures that are to be in no split (`Applied.left_out`).

    Returns:
        The new split, and in its reason how many pictures moved.

    Raises:
        DataError: Everything belongs together, so that nothing is left to score.
    """
    assignment = split.assignment.copy()
    if left_out is not None:
        assignment[left_out] = ""
    before = assignment.copy()
    if groups is not None:
        for group in _straddling(assignment, groups):
            members = np.flatnonzero((groups == group) & (assignment != ""))
            counts = Counter(assignment[members].tolist())
            assignment[members] = max(_ORDER, key=lambda name: (counts[name], name == "train"))
    if (before == "test").any() and not (assignment == "test").any():
        raise DataError(
            "Every test picture belongs to pictures in training, so no split without leaks is left.",
            hint="leave the split away: the score is then measured out of fold",
        )
    moved = int((assignment != before).sum())
    lost = [
        name
        for k, name in enumerate(samples.class_names)
        if (before[samples.class_ids == k] == "test").any() and not (assignment[samples.class_ids == k] == "test").any()
    ]
    reason = f"{moved} pictures moved so that nothing that belongs together lies in two splits"
    if lost:
        reason += "; no test picture is left of " + ", ".join(f"`{n}`" for n in lost[:5])
    return Split(assignment, groups, "made", split.protocol, split.seed, reason)


def _straddling(assignment: NDArray[np.str_], groups: NDArray[np.int64]) -> list[int]:
    """Groups with pictures in more than one split."""
    used = assignment != ""
    places = {name: set(groups[used & (assignment == name)].tolist()) for name in _ORDER}
    both = (places["train"] & places["val"]) | (places["train"] & places["test"]) | (places["val"] & places["test"])
    return sorted(both)
