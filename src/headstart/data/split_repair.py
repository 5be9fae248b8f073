"""Mends a split that leaks: what belongs together goes to one side.

As little as possible is moved, each group to where most of it lies already (training where
that is undecided); only where nothing would then be left to score or to train on are whole groups dealt anew.
No file is touched: the result is a new `split.csv`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.data.split import make_split
from headstart.errors import DataError
from headstart.records import Samples, Split
from headstart.types import JsonValue

__all__ = ["repair_split"]

_ORDER = ("train", "val", "test")


def repair_split(
    samples: Samples, split: Split, groups: NDArray[np.int64] | None, excluded: NDArray[np.bool_] | None = None
) -> Split:
    """Return a split without leaks.

    Args:
        samples: The images.
        split: The person's own split.
        groups: (N,) what belongs together (`Applied.groups`); None moves nothing.
        left_out: (N,) images that are to be in no split.

    Returns:
        The new split; its reason is `repair_moved` or `repair_redrawn`, and its evidence says how many images moved
        (`num_moved`) and which classes a side has lost (`lost_classes`).

    Raises:
        DataError: Too much belongs together: nothing can be scored that is not trained on.
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
        share = float((split.assignment == scored).sum() / (split.assignment != "").sum())
        assignment = _dealt_anew(samples, groups, before == "", share, split.seed)
        evidence: dict[str, JsonValue] = {"num_moved": int((assignment != before).sum()), "test_share": share}
        return Split(assignment, groups, "made", split.setup, split.seed, "repair_redrawn", evidence)
    lost: dict[str, JsonValue] = {
        side: sorted(_classes(samples, before == side) - _classes(samples, assignment == side))
        for side in ("train", scored)
    }
    evidence = {
        "num_moved": int((assignment != before).sum()),
        "lost_classes": {side: names for side, names in lost.items() if names},
    }
    return Split(assignment, groups, "made", split.setup, split.seed, "repair_moved", evidence)


def _dealt_anew(
    samples: Samples, groups: NDArray[np.int64] | None, excluded: NDArray[np.bool_], share: float, seed: int
) -> NDArray[np.str_]:
    """Return (N,) a new train and test of the same shares, as if the person had brought none."""
    plain = replace(samples, items=tuple(replace(s, split=None) for s in samples))
    try:
        return make_split(plain, groups=groups, test_size=share, seed=seed, leave_out=excluded).assignment
    except DataError as error:
        raise DataError(
            "No split without leaks can be made: every class has only one image or one group.",
            hint="add images of other groups, or read the images with a --layout that puts `*` for the split: "
            "the score is then measured out of fold",
        ) from error


def _classes(samples: Samples, chosen: NDArray[np.bool_]) -> set[str]:
    """Return names of the classes that occur among the chosen (N,)."""
    return {str(samples[int(i)].label) for i in np.flatnonzero(chosen)}


def _straddling(assignment: NDArray[np.str_], groups: NDArray[np.int64]) -> list[int]:
    """Return groups with images in more than one split."""
    used = assignment != ""
    places = {name: set(groups[used & (assignment == name)].tolist()) for name in _ORDER}
    both = (places["train"] & places["val"]) | (places["train"] & places["test"]) | (places["val"] & places["test"])
    return sorted(both)
