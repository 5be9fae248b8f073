"""Decide whether a grouping that was guessed from names, columns or capture times may be applied.

Groups that are applied change the score, so a guess has to pass every rule; a guess that looks real and fails one is
a question for the user. The same rules hold for labeled images and for images with boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.data.duplicates import Pair, components
from headstart.data.image_scan import ScanResult
from headstart.records import GroupEvidence
from headstart.types import GroupStatus

__all__ = [
    "CERTAIN_COPY",
    "MAX_ACROSS",
    "MAX_UNMEASURABLE",
    "MIN_CONTRADICTING_SHARE",
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
"""Similarity from which a copy joins two groups: one wrong pair would merge two whole groups."""

MIN_GROUPS = 6
"""Fewer independent groups give no interval (`trust.intervals.MIN_GROUPS`)."""

MIN_EFFECTIVE_GROUPS = 4.0
"""Below this, leaving one group out takes away too much of what the model is trained on."""

MIN_GROUPS_PER_LEVEL = 1.5
"""Effective number of groups inside one class, split or camera below which that factor nearly is the group."""

MAX_UNMEASURABLE = 0.1
"""Share of images, or of classes, that may have their whole class in one group."""

MIN_CONTRADICTIONS = 5
MIN_CONTRADICTING_SHARE = 0.02
"""Pairs of certain copies across groups, at least, and as a share of the images, from which groups that hold fewer
pairs inside are not objects: copies show the same object, so they lie inside one group."""

MIN_OFF_AXIS = 0.27
"""Least share of the similarity that objects have outside its strongest direction (benchmarks/bench_groups.py)."""

MAX_ACROSS = 0.25
"""Likeness across classes, as a share of that within, up to which a key counts anew in each class."""

MIN_SKILL_KEPT = 0.1
"""Share of the accuracy above the baseline that must remain when whole groups are left out."""

_MAX_CAMERAS = 20
_IMAGES_PER_CAMERA = 5


def merge_duplicates(
    groups: NDArray[np.int64] | None, copies: Sequence[tuple[int, int, float]], num_samples: int
) -> tuple[NDArray[np.int64], int]:
    """Join groups with copies: all copies inside a group, only certain ones across groups.

    Args:
        groups: (N,) group of each sample, -1 for none; None if there are no groups, which joins all copies.
        copies: (first, second, similarity) of each pair.
        num_samples: N.

    Returns:
        (N,) ids of the joined groups (a sample without group or copy is alone), and the number of pairs joined.
    """
    pairs = [(a, b) for a, b, s in copies if groups is None or s >= CERTAIN_COPY or 0 <= groups[a] == groups[b]]
    links = list(pairs)
    if groups is not None:
        first: dict[int, int] = {}
        links += [(first.setdefault(group, i), i) for i, group in enumerate(groups.tolist()) if group >= 0]
    return components(num_samples, links), len(pairs)


def groups_per_level(groups: NDArray[np.int64], levels: NDArray[np.int64]) -> float:
    """Return the effective number of groups inside one level of a factor: exp(H(group | level)).

    1 means that the level determines the group; G that each level holds G equally large groups.

    Args:
        groups: (N,) group of each sample.
        levels: (N,) level of the factor.
    """
    if not len(groups):
        return 0.0
    _, joint = np.unique(np.stack([levels, groups]), axis=1, return_counts=True)
    _, alone = np.unique(levels, return_counts=True)
    return float(np.exp(_entropy(joint) - _entropy(alone)))


def camera_of(scan: ScanResult, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the camera of some images: its EXIF name, else pixel mode and size.

    Args:
        looks: What was seen of all images.
        rows: (M,) positions of readable images.

    Returns:
        (M,) camera ids, or None if there is one camera only, or too many for cameras.
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
    copies: Sequence[Pair],
) -> GroupEvidence:
    """Measure everything about a grouping but likeness and score.

    Args:
        groups: (N,) group of each sample, -1 for none.
        rows: (M,) positions of the readable training samples.
        class_ids: (N,) class of each sample; all equal without labels.
        splits: (N,) split that the data bring, empty without one.
        is_ok: (N,) whether a sample can be read.
        camera: (M,) camera of the training samples (`camera_of`), or None.
        copies: Pairs of copies among all samples.
    """
    joined, _ = merge_duplicates(groups, [(p.first, p.second, p.similarity) for p in copies], len(groups))
    joined, classes = joined[rows], class_ids[rows]
    shares = np.unique(joined, return_counts=True)[1] / max(1, len(rows))
    alone = groups.copy()  # a sample without a group counts as one group
    alone[groups < 0] = groups.max(initial=-1) + 1 + np.flatnonzero(groups < 0)
    levels = {"class": groups_per_level(alone[rows], classes)}
    is_scored, is_train = is_ok & np.isin(splits, ("val", "test")), is_ok & (splits == "train")
    straddling: set[int] = set()
    share = 0.0
    if is_scored.any() and is_train.any():
        both = is_scored | is_train
        levels["split"] = groups_per_level(alone[both], is_scored[both].astype(np.int64))
        straddling = set(groups[is_train].tolist()) & set(groups[is_scored].tolist()) - {-1}
        share = float(np.isin(groups[is_scored], list(straddling)).mean())
    if camera is not None:
        levels["camera"] = groups_per_level(alone[rows], camera)
    within, across = _where_copies_lie(groups, rows, copies)
    return GroupEvidence(
        num_images=len(rows),
        num_independent=len(shares),
        effective_groups=round(1.0 / max(float((shares**2).sum()), 1e-12), 2) if len(rows) else 0.0,
        groups_per_level={name: round(value, 3) for name, value in levels.items()},
        unscorable_fraction=round(_unmeasurable(joined, classes), 4),
        copies_within=within,
        copies_across=across,
        num_straddling=len(straddling),
        straddling_fraction=round(share, 4),
    )


def decide_status(
    evidence: GroupEvidence,
    *,
    source: Literal["guessed", "inferred", "given", "asked"],
    is_counter: bool,
    is_near: bool,
    independent: float | None,
    grouped: float | None,
    standard_error: float,
) -> GroupStatus:
    """Apply the rules in order; the first that fails gives the status.

    Args:
        evidence: The numbers of the grouping.
        source: Groups that the user gave or asked for are applied. Groups that were inferred from nested folders are
            applied as well, unless they take the score to the baseline.
        is_counter: Whether the key is the prefix of a camera's counter.
        is_near: Whether images of one group look alike beyond chance.
        independent, grouped: Accuracy as if independent, and with whole groups left out; None if not measured.
        standard_error: Of an accuracy at the baseline.

    Returns:
        `ALTERNATIVE` if no rule fails: the grouping may be applied.
    """
    if source in ("given", "asked"):
        return GroupStatus.APPLIED
    is_dropped = is_at_baseline(independent, grouped, evidence.accuracy_baseline, standard_error)
    if source == "inferred":
        return GroupStatus.QUESTION_SCORE_AT_BASELINE if is_dropped else GroupStatus.APPLIED
    levels = evidence.groups_per_level

    def determines(factor: str) -> bool:
        return levels.get(factor, np.inf) < MIN_GROUPS_PER_LEVEL

    if is_counter:
        return GroupStatus.REJECTED_COUNTER_PREFIX
    if not is_near:
        return GroupStatus.REJECTED_NO_SIMILARITY
    least = max(MIN_CONTRADICTIONS, MIN_CONTRADICTING_SHARE * evidence.num_images)
    if evidence.copies_across >= least and evidence.copies_across > evidence.copies_within:
        return GroupStatus.QUESTION_CONTRADICTED_BY_COPIES
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
        or evidence.unscorable_fraction > MAX_UNMEASURABLE
        or (independent is not None and grouped is None)
    ):
        return GroupStatus.QUESTION_TOO_FEW_GROUPS
    return GroupStatus.QUESTION_SCORE_AT_BASELINE if is_dropped else GroupStatus.ALTERNATIVE


def is_at_baseline(
    independent: float | None, grouped: float | None, baseline: float | None, standard_error: float
) -> bool:
    """Return whether there is skill as if independent, and next to none with whole groups left out.

    Args:
        independent, grouped, baseline: Accuracies; None if not measured, which gives False.
        standard_error: Of an accuracy at the baseline.
    """
    if independent is None or grouped is None or baseline is None:
        return False
    skill = independent - baseline
    return skill > 2.0 * standard_error and grouped - baseline < MIN_SKILL_KEPT * skill


def _entropy(counts: NDArray[np.int64]) -> float:
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _where_copies_lie(groups: NDArray[np.int64], rows: NDArray[np.int64], copies: Sequence[Pair]) -> tuple[int, int]:
    """Count the pairs of certain copies inside one group, and in two different ones."""
    has_group = np.zeros(len(groups), dtype=bool)
    has_group[rows] = groups[rows] >= 0
    is_inside = [
        bool(groups[p.first] == groups[p.second])
        for p in copies
        if p.similarity >= CERTAIN_COPY and has_group[p.first] and has_group[p.second]
    ]
    return sum(is_inside), len(is_inside) - sum(is_inside)


def _unmeasurable(groups: NDArray[np.int64], classes: NDArray[np.int64]) -> float:
    """Return share of samples, or of classes if larger, whose class (of two samples or more) lies in one group."""
    names, counts = np.unique(classes, return_counts=True)
    is_dropped = [n > 1 and len(np.unique(groups[classes == k])) == 1 for k, n in zip(names, counts, strict=True)]
    if not len(names):
        return 0.0
    return max(float(np.mean(is_dropped)), float(counts[is_dropped].sum() / counts.sum()))
