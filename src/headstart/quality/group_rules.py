"""Rules that decide whether a proposed grouping is applied.

Groups change the score, so a proposal is applied only if it passes every rule. If it fails one but images within groups
are similar, headstart asks the user. The rules are the same for classification and detection.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.data.image_scan import ScanResult
from headstart.quality.duplicates import Pair, components
from headstart.types.codes import GroupSource, GroupStatus
from headstart.types.records import GroupEvidence

__all__ = [
    "CERTAIN_COPY",
    "MAX_ACROSS",
    "MAX_UNSCORABLE",
    "MIN_CONTRADICTING_FRACTION",
    "MIN_CONTRADICTIONS",
    "MIN_EFFECTIVE_GROUPS",
    "MIN_GROUPS",
    "MIN_GROUPS_PER_LEVEL",
    "MIN_OFF_AXIS",
    "MIN_SKILL_KEPT",
    "camera_of",
    "collect_evidence",
    "decide_status",
    "groups_per_level",
    "is_at_baseline",
    "merge_duplicates",
]

CERTAIN_COPY = 0.9993
"""Minimum similarity of duplicates that merge two groups; high, since one wrong pair merges both groups."""

MIN_GROUPS = 6
"""Minimum number of independent groups for a confidence interval (`evaluation.intervals.MIN_GROUPS`)."""

MIN_EFFECTIVE_GROUPS = 4.0
"""Minimum effective number of groups; with fewer, holding out one group removes too much training data."""

MIN_GROUPS_PER_LEVEL = 1.5
"""Minimum effective number of groups per class, split or camera; below it, groups are confounded with that factor."""

MAX_UNSCORABLE = 0.1
"""Maximum fraction of images, or of classes, whose class consists of a single group."""

MIN_CONTRADICTIONS = 5
MIN_CONTRADICTING_FRACTION = 0.02
"""Minimum number of certain duplicate pairs across groups, absolute and relative to the number of images, that
contradicts a grouping with fewer pairs within groups: duplicates show the same object."""

MIN_OFF_AXIS = 0.27
"""Minimum fraction of the similarity within groups outside its strongest direction (benchmarks/bench_groups.py)."""

MAX_ACROSS = 0.25
"""Maximum ratio of the similarity across classes to that within classes for a key that restarts in each class."""

MIN_SKILL_KEPT = 0.1
"""Minimum fraction of the accuracy above the baseline that must remain with groups held out."""

_MAX_CAMERAS = 20
_IMAGES_PER_CAMERA = 5


def merge_duplicates(
    groups: NDArray[np.int64] | None, duplicates: Sequence[tuple[int, int, float]], num_samples: int
) -> tuple[NDArray[np.int64], int]:
    """Merge groups and samples connected by duplicates; across groups, only certain duplicates count.

    Args:
        groups: (N,) group of each sample, -1 for none; None uses all duplicates.
        duplicates: (first sample, second sample, similarity) of each pair.
        num_samples: N.

    Returns:
        (N,) ids of the merged groups (each other sample gets a unique id), and the number of pairs used.
    """
    pairs = [(a, b) for a, b, s in duplicates if groups is None or s >= CERTAIN_COPY or 0 <= groups[a] == groups[b]]
    links = list(pairs)
    if groups is not None:
        first: dict[int, int] = {}
        links += [(first.setdefault(group, i), i) for i, group in enumerate(groups.tolist()) if group >= 0]
    return components(num_samples, links), len(pairs)


def groups_per_level(groups: NDArray[np.int64], levels: NDArray[np.int64]) -> float:
    """Return the effective number of groups within one level of a factor: exp(H(group | level)).

    1 means that the level determines the group; G means that each level contains G equally large groups.

    Args:
        groups: (N,) group of each sample.
        levels: (N,) level of the factor.
    """
    if not len(groups):
        return 0.0
    _, joint = np.unique(np.stack([levels, groups]), axis=1, return_counts=True)
    _, level_counts = np.unique(levels, return_counts=True)
    return float(np.exp(_entropy(joint) - _entropy(level_counts)))


def camera_of(scan: ScanResult, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the camera of each image: the camera model from EXIF, or pixel mode and image size if EXIF is missing.

    Args:
        scan: The scanned images.
        rows: (M,) positions of readable images.

    Returns:
        (M,) camera ids, or None if there is only one camera, or too many to be cameras.
    """
    info = [scan.info[i] for i in rows]
    names = [f.exif.camera if f is not None else None for f in info]
    if sum(n is not None for n in names) < 0.9 * len(names):
        names = ["" if f is None else f"{f.mode} {f.size_hw}" for f in info]
    _, ids = np.unique([n or "" for n in names], return_inverse=True)
    count = int(ids.max()) + 1 if len(ids) else 0
    if not 2 <= count <= min(_MAX_CAMERAS, len(rows) // _IMAGES_PER_CAMERA):
        return None
    return ids.reshape(-1).astype(np.int64)


def collect_evidence(
    groups: NDArray[np.int64],
    rows: NDArray[np.int64],
    *,
    class_ids: NDArray[np.int64],
    splits: NDArray[np.str_],
    is_ok: NDArray[np.bool_],
    camera: NDArray[np.int64] | None,
    duplicates: Sequence[Pair],
) -> GroupEvidence:
    """Collect all evidence about a grouping except similarity and score.

    Args:
        groups: (N,) group of each sample, -1 for none.
        rows: (M,) positions of the readable training samples.
        class_ids: (N,) class of each sample; all equal without labels.
        splits: (N,) split defined by the data, empty without one.
        is_ok: (N,) whether an image is readable.
        camera: (M,) camera of the training samples (`camera_of`), or None.
        duplicates: Pairs of duplicates among all samples.
    """
    joined, _ = merge_duplicates(groups, [(p.first, p.second, p.similarity) for p in duplicates], len(groups))
    joined, classes = joined[rows], class_ids[rows]
    fractions = np.unique(joined, return_counts=True)[1] / max(1, len(rows))
    units = groups.copy()  # each sample without a group is a group
    units[groups < 0] = groups.max(initial=-1) + 1 + np.flatnonzero(groups < 0)
    levels = {"class": groups_per_level(units[rows], classes)}
    is_scored, is_train = is_ok & np.isin(splits, ("val", "test")), is_ok & (splits == "train")
    straddling: set[int] = set()
    fraction = 0.0
    if is_scored.any() and is_train.any():
        both = is_scored | is_train
        levels["split"] = groups_per_level(units[both], is_scored[both].astype(np.int64))
        straddling = set(groups[is_train].tolist()) & set(groups[is_scored].tolist()) - {-1}
        fraction = float(np.isin(groups[is_scored], list(straddling)).mean())
    if camera is not None:
        levels["camera"] = groups_per_level(units[rows], camera)
    within, across = _count_duplicates(groups, rows, duplicates)
    return GroupEvidence(
        num_images=len(rows),
        num_independent=len(fractions),
        effective_groups=round(1.0 / max(float((fractions**2).sum()), 1e-12), 2) if len(rows) else 0.0,
        groups_per_level={name: round(value, 3) for name, value in levels.items()},
        unscorable_fraction=round(_unscorable_fraction(joined, classes), 4),
        duplicates_within=within,
        duplicates_across=across,
        num_straddling=len(straddling),
        straddling_fraction=round(fraction, 4),
    )


def decide_status(
    evidence: GroupEvidence,
    *,
    source: GroupSource,
    is_counter: bool,
    is_near: bool,
    independent: float | None,
    grouped: float | None,
    standard_error: float,
) -> GroupStatus:
    """Apply the rules in order; the first one that fails determines the status.

    Args:
        evidence: Evidence about the grouping.
        source: Groups that the user gave or requested are always applied, and groups inferred from nested
            folders unless accuracy drops to the baseline. Groups of a column whose name states a subject or capture
            unit need no similarity: that images of a patient depend on each other is known.
        is_counter: Whether the key is the prefix of a file counter.
        is_near: Whether images within groups are more similar than by chance.
        independent, grouped: Accuracy with single images and with groups held out; None if not measured.
        standard_error: Standard error of an accuracy at the baseline.

    Returns:
        `ALTERNATIVE` if all rules pass and the grouping may be applied.
    """
    if source in ("given", "requested"):
        return GroupStatus.APPLIED
    is_dropped = is_at_baseline(independent, grouped, evidence.accuracy_baseline, standard_error)
    if source == "inferred":
        return GroupStatus.QUESTION_SCORE_AT_BASELINE if is_dropped else GroupStatus.APPLIED
    levels = evidence.groups_per_level

    def determines(factor: str) -> bool:
        return levels.get(factor, np.inf) < MIN_GROUPS_PER_LEVEL

    if is_counter:
        return GroupStatus.REJECTED_COUNTER_PREFIX
    if not is_near and source != "named":
        return GroupStatus.REJECTED_NO_SIMILARITY
    least = max(MIN_CONTRADICTIONS, MIN_CONTRADICTING_FRACTION * evidence.num_images)
    if evidence.duplicates_across >= least and evidence.duplicates_across > evidence.duplicates_within:
        return GroupStatus.QUESTION_CONTRADICTED_BY_DUPLICATES
    if determines("split"):
        return GroupStatus.QUESTION_CONFOUNDED_WITH_SPLIT
    if determines("class"):
        return GroupStatus.QUESTION_CONFOUNDED_WITH_CLASS
    if determines("camera"):
        return GroupStatus.QUESTION_CONFOUNDED_WITH_CAMERA
    if evidence.off_axis_fraction is not None and evidence.off_axis_fraction < MIN_OFF_AXIS:
        return GroupStatus.QUESTION_CONFOUNDED_WITH_EXPOSURE
    if (
        evidence.num_independent < MIN_GROUPS
        or evidence.effective_groups < MIN_EFFECTIVE_GROUPS
        or evidence.unscorable_fraction > MAX_UNSCORABLE
        or (independent is not None and grouped is None)
    ):
        return GroupStatus.QUESTION_TOO_FEW_GROUPS
    return GroupStatus.QUESTION_SCORE_AT_BASELINE if is_dropped else GroupStatus.ALTERNATIVE


def is_at_baseline(
    independent: float | None, grouped: float | None, baseline: float | None, standard_error: float
) -> bool:
    """Return whether accuracy is above the baseline with single images held out, but not with groups held out.

    Args:
        independent, grouped, baseline: Accuracies; None if not measured, which gives False.
        standard_error: Standard error of an accuracy at the baseline.
    """
    if independent is None or grouped is None or baseline is None:
        return False
    skill = independent - baseline
    return skill > 2.0 * standard_error and grouped - baseline < MIN_SKILL_KEPT * skill


def _entropy(counts: NDArray[np.int64]) -> float:
    fractions = counts / counts.sum()
    return float(-(fractions * np.log(fractions)).sum())


def _count_duplicates(
    groups: NDArray[np.int64], rows: NDArray[np.int64], duplicates: Sequence[Pair]
) -> tuple[int, int]:
    """Count pairs of certain duplicates within groups, and across groups."""
    has_group = np.zeros(len(groups), dtype=bool)
    has_group[rows] = groups[rows] >= 0
    is_inside = [
        bool(groups[p.first] == groups[p.second])
        for p in duplicates
        if p.similarity >= CERTAIN_COPY and has_group[p.first] and has_group[p.second]
    ]
    return sum(is_inside), len(is_inside) - sum(is_inside)


def _unscorable_fraction(groups: NDArray[np.int64], classes: NDArray[np.int64]) -> float:
    """Return the fraction of samples, or of classes if larger, whose class (two or more samples) is a single group."""
    names, counts = np.unique(classes, return_counts=True)
    is_unscorable = [n > 1 and len(np.unique(groups[classes == k])) == 1 for k, n in zip(names, counts, strict=True)]
    if not len(names):
        return 0.0
    return max(float(np.mean(is_unscorable)), float(counts[is_unscorable].sum() / counts.sum()))
