"""Counts classes, splits and sizes, and says what cannot be learned or measured with them.

The one decision: a class that cannot be learned or measured is named, with what to do about it; nothing stops here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.records import Samples

__all__ = ["class_table", "class_warnings", "seen_share"]

_SMALL = 10


def class_table(samples: Samples) -> dict[str, dict[str, int]]:
    """Class name to counts by split (`none` where there is no split)."""
    table: dict[str, dict[str, int]] = {name: {} for name in samples.class_names}
    for sample in samples:
        if sample.label is not None:
            row = table[sample.label]
            key = sample.split or "none"
            row[key] = row.get(key, 0) + 1
    return table


def class_warnings(
    samples: Samples, use: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> tuple[list[str], bool]:
    """What is wrong with the classes.

    Args:
        samples: The pictures.
        use: (N,) those that can be used.
        groups: (N,) what belongs together, -1 for a picture that stands alone, or None.

    Returns:
        Warnings, and whether one of them makes a score misleading (a class in one split only).
    """
    warnings: list[str] = []
    is_bad = False
    splits = np.array([s.split or "train" for s in samples])
    names = samples.class_names
    counts = np.bincount(samples.class_ids[use & (samples.class_ids >= 0)], minlength=max(1, len(names)))
    scored = [s for s in ("val", "test") if (splits[use] == s).any()]
    for k, name in enumerate(names):
        inside = use & (samples.class_ids == k)
        here = set(splits[inside].tolist())
        if not inside.any():
            warnings.append(f"class `{name}` has no picture that can be used")
            is_bad = True
        elif scored and "train" not in here:
            where = " and ".join(sorted(here))
            warnings.append(f"class `{name}` is only in {where}: it cannot be learned; leave it out or move pictures")
            is_bad = True
        elif scored and "test" in scored and "test" not in here:
            warnings.append(f"class `{name}` is not in test: nothing is measured for it")
        elif groups is not None and inside.sum() > 1 and _is_one_group(groups[inside & (splits == "train")]):
            warnings.append(f"class `{name}` is one group only: with the group left out nothing of it was learned")
        elif (inside & (splits == "train")).sum() == 1:
            warnings.append(
                f"class `{name}` has 1 training picture and cannot be trained on: add some, or leave it out "
                "with --skip-class"
            )
        elif counts[k] < _SMALL:
            warnings.append(f"class `{name}` has {counts[k]} pictures: too few to measure it well (10 and more are)")
    used = counts[counts > 0]
    if len(used) == 1:
        only = names[int(counts.argmax())]
        warnings.append(f"all pictures are of one class, `{only}`: telling apart needs at least two")
    if len(used) > 1 and used.max() > 3 * used.min():
        most, least = names[int(counts.argmax())], names[int(np.where(counts > 0, counts, 1 << 60).argmin())]
        warnings.append(
            f"the classes differ much in size: {counts.max()} of `{most}`, {used.min()} of `{least}`; "
            "the headline is then the mean over the classes (balanced accuracy)"
        )
    return warnings, is_bad


def _is_one_group(groups: NDArray[np.int64]) -> bool:
    return len(np.unique(groups)) == 1 and bool(groups[0] >= 0)


def seen_share(size_hw: tuple[int, int], out_hw: tuple[int, int], fit: str, crop_fraction: float) -> float:
    """Share of a picture's area that the network sees under a `fit`, in (0, 1]."""
    if fit in ("squash", "pad"):
        return 1.0
    height, width = size_hw
    scale = min(width / out_hw[1], height / out_hw[0]) * (crop_fraction if fit == "crop" else 1.0)
    return min(1.0, out_hw[1] * scale / width) * min(1.0, out_hw[0] * scale / height)
