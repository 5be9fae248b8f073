"""Repair a split that leaks: related images go to one side.

As few images as possible are moved, each group to the side that holds most of it (training on ties). Groups are
redrawn only if nothing would be left to score or train on. No file is changed: the result is a new `split.csv`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.data.split import make_split
from headstart.errors import DataError
from headstart.types.codes import JsonValue, SplitReason
from headstart.types.records import Samples, Split

__all__ = ["repair_split"]

_ORDER = ("train", "val", "test")


def repair_split(
    samples: Samples, split: Split, groups: NDArray[np.int64] | None, excluded: NDArray[np.bool_] | None = None
) -> Split:
    """Return a split without leaks.

    Args:
        samples: The images.
        split: The user's own split.
        groups: (N,) groups of related images (`AppliedReport.groups`); None moves nothing.
        excluded: (N,) images that belong to no split.

    Returns:
        The new split; its reason is REPAIR_MOVED or REPAIR_REDRAWN, and its evidence holds the number of images
        moved (`num_moved`) and the classes that a side has lost (`lost_classes`).

    Raises:
        DataError: Too many images are related: nothing can be scored that is not trained on.
    """
    before = split.assignment.copy()
    if excluded is not None:
        before[excluded] = ""
    assignment = before.copy()
    if groups is not None:
        for group in _straddling(assignment, groups):
            members = np.flatnonzero((groups == group) & (assignment != ""))
            counts = Counter(assignment[members].tolist())
            assignment[members] = max(_ORDER, key=lambda name: (counts[name], name == "train"))
    scored = "test" if (split.assignment == "test").any() else "val"
    needed = {"train", scored} & set(split.assignment.tolist())
    if len(needed) == 2 and not needed <= set(assignment.tolist()):
        fraction = float((split.assignment == scored).sum() / (split.assignment != "").sum())
        assignment = _redraw(samples, groups, before == "", fraction, split.seed)
        evidence: dict[str, JsonValue] = {"num_moved": int((assignment != before).sum()), "test_fraction": fraction}
        return Split(assignment, groups, "made", split.setup, split.seed, SplitReason.REPAIR_REDRAWN, evidence)
    lost: dict[str, JsonValue] = {
        side: sorted(_classes(samples, before == side) - _classes(samples, assignment == side))
        for side in ("train", scored)
    }
    evidence = {
        "num_moved": int((assignment != before).sum()),
        "lost_classes": {side: names for side, names in lost.items() if names},
    }
    return Split(assignment, groups, "made", split.setup, split.seed, SplitReason.REPAIR_MOVED, evidence)


def _redraw(
    samples: Samples, groups: NDArray[np.int64] | None, excluded: NDArray[np.bool_], fraction: float, seed: int
) -> NDArray[np.str_]:
    """Return (N,) a new train/test assignment with the same fractions, as if there were no split."""
    plain = replace(samples, items=tuple(replace(s, split=None) for s in samples))
    try:
        return make_split(plain, groups=groups, test_size=fraction, seed=seed, leave_out=excluded).assignment
    except DataError as error:
        raise DataError(
            "cannot make a split without leaks: every class has only one image or one group.",
            hint="add images of other groups, or use a --layout with `*` for the split: "
            "the score is then measured out of fold",
        ) from error


def _classes(samples: Samples, chosen: NDArray[np.bool_]) -> set[str]:
    """Return the names of the classes among the chosen (N,) images."""
    return {str(samples[int(i)].label) for i in np.flatnonzero(chosen)}


def _straddling(assignment: NDArray[np.str_], groups: NDArray[np.int64]) -> list[int]:
    """Return groups with images in more than one split."""
    used = assignment != ""
    places = {name: set(groups[used & (assignment == name)].tolist()) for name in _ORDER}
    both = (places["train"] & places["val"]) | (places["train"] & places["test"]) | (places["val"] & places["test"])
    return sorted(both)
