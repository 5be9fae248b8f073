"""Count classes and splits, and find classes that cannot be learned or evaluated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.types.codes import Evidence, Finding, FindingKind, Severity
from headstart.types.records import Samples

__all__ = ["class_table", "find_class_problems", "overlap_fraction"]

_SMALL = 10


def class_table(samples: Samples) -> dict[str, dict[str, int]]:
    """Return class name -> number of images by split (`none` without a split)."""
    table: dict[str, dict[str, int]] = {name: {} for name in samples.class_names}
    for sample in samples:
        if sample.label is not None:
            row = table[sample.label]
            key = sample.split or "none"
            row[key] = row.get(key, 0) + 1
    return table


def find_class_problems(samples: Samples, use: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> list[Finding]:
    """Find classes that cannot be learned or evaluated.

    Args:
        samples: The images; without labels there are no findings.
        use: (N,) usable images.
        groups: (N,) group of each image, -1 for an ungrouped image, or None.

    Returns:
        Findings in class order, then those about all classes; severity ERROR where a score would be misleading.
    """
    findings: list[Finding] = []

    def add(kind: FindingKind, evidence: Evidence, severity: Severity = Severity.WARNING) -> None:
        findings.append(Finding(kind, severity, evidence))

    splits = np.array([s.split or "train" for s in samples])
    names = samples.class_names
    counts = np.bincount(samples.class_ids[use & (samples.class_ids >= 0)], minlength=max(1, len(names)))
    scored = [s for s in ("val", "test") if (splits[use] == s).any()]
    for k, name in enumerate(names):
        inside = use & (samples.class_ids == k)
        here = set(splits[inside].tolist())
        base: dict[str, str] = {"class": name}
        if not inside.any():
            add(FindingKind.CLASS_WITHOUT_IMAGES, base, Severity.ERROR)
        elif scored and "train" not in here:
            missing: Evidence = {**base, "splits": sorted(here), "can_exclude": True}
            add(FindingKind.CLASS_NOT_IN_TRAIN, missing, Severity.ERROR)
        elif scored and "test" in scored and "test" not in here:
            add(FindingKind.CLASS_NOT_IN_TEST, base)
        elif groups is not None and inside.sum() > 1 and _is_one_group(groups[inside & (splits == "train")]):
            add(FindingKind.CLASS_IN_ONE_GROUP, base)
        elif (inside & (splits == "train")).sum() == 1:
            add(FindingKind.CLASS_WITH_ONE_IMAGE, base)
        elif counts[k] < _SMALL:
            add(FindingKind.CLASS_TOO_SMALL, {**base, "count": int(counts[k]), "minimum": _SMALL, "unit": "images"})
    used = counts[counts > 0]
    if len(used) == 1:
        add(FindingKind.SINGLE_CLASS, {"class": names[int(counts.argmax())]})
    if len(used) > 1 and used.max() > 3 * used.min():
        evidence: Evidence = {
            "largest_class": names[int(counts.argmax())],
            "largest_count": int(counts.max()),
            "smallest_class": names[int(np.where(counts > 0, counts, 1 << 60).argmin())],
            "smallest_count": int(used.min()),
            "unit": "images",
            "metric": "balanced_accuracy",
        }
        add(FindingKind.CLASS_IMBALANCE, evidence)
    return findings


def _is_one_group(groups: NDArray[np.int64]) -> bool:
    return len(np.unique(groups)) == 1 and bool(groups[0] >= 0)


def overlap_fraction(size_hw: tuple[int, int], out_hw: tuple[int, int], mode: str, crop_fraction: float) -> float:
    """Return the fraction of an image's area that the network sees under a resize mode, in (0, 1]."""
    if mode in ("squash", "pad"):
        return 1.0
    height, width = size_hw
    scale = min(width / out_hw[1], height / out_hw[0]) * (crop_fraction if mode == "crop" else 1.0)
    return min(1.0, out_hw[1] * scale / width) * min(1.0, out_hw[0] * scale / height)
