"""Split images with boxes into training and scored ones, from their report, their own split and the settings.

Leaking images stay in their split; a score is computed without them and with them. A split in which every image leaks
is scored as it is, with a finding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.split import as_samples
from headstart.data.split import make_split, read_split
from headstart.errors import DataError
from headstart.quality.box_inspection import BoxReport, apply_box_report
from headstart.quality.inspection import AppliedReport
from headstart.types.codes import Evidence, Finding, FindingKind, Severity, SplitReason
from headstart.types.records import Decision, Split, SplitName

if TYPE_CHECKING:
    from headstart.config.settings import TrainSettings

__all__ = ["SplitBoxes", "check_training_boxes", "read_box_samples", "split_box_dataset"]

_SCORED: tuple[SplitName, ...] = ("val", "test")
_DEFAULT_TEST_SIZE = 0.2
_PAIRS_KEPT = 10  # leaking pairs in the evidence of a finding


@dataclass(frozen=True)
class SplitBoxes:
    """Images used for training and scoring.

    Attributes:
        index: Their positions among the images that were read.
        samples: The images.
        split: Training and scored images.
        leaking: Positions of scored images with a near-duplicate in training, which the headline excludes.
        findings: One per scored split in which every image leaks.
        decisions: Choices made for the split.
    """

    index: NDArray[np.int64]
    samples: DetectionSamples
    split: Split
    leaking: frozenset[int]
    findings: tuple[Finding, ...]
    decisions: tuple[Decision, ...]


def read_box_samples(settings: TrainSettings) -> tuple[DetectionSamples, Split | None]:
    """Read the images of the settings; with `--split` only those in the split file, and its split."""
    samples = read_boxes(
        settings.data,
        allow_external_paths=settings.allow_external_paths,
        max_pixels=settings.max_pixels,
        box_format=settings.detect.box_format,
        exclude=settings.exclude,
        name_encoding=settings.name_encoding,
    )
    if settings.split is None:
        return samples, None
    split = read_split(settings.split, as_samples(samples))
    groups = samples.group if split.groups is None else tuple(str(g) for g in split.groups)
    named = replace(samples, split=tuple(str(s) for s in split.assignment), group=groups)
    return named.take(np.flatnonzero(split.assignment != "")), split


def split_box_dataset(
    samples: DetectionSamples, report: BoxReport, settings: TrainSettings, manifest: Split | None
) -> SplitBoxes:
    """Split the images from the report, the user's split and the settings.

    Raises:
        UsageError, DataError: See `make_split` and `group_ids`.
    """
    applied = apply_box_report(samples, report, group_from=settings.group_from)
    split = _assign(samples, applied, settings, manifest)
    index = np.flatnonzero(split.assignment != "")
    is_leaking = (applied.test_including_leaks & ~applied.test & (split.source != "made"))[index]
    split = replace(split, assignment=split.assignment[index], groups=split.groups_of(index))
    pairs = [[p.a, p.b] for p in report.images.leaks[:_PAIRS_KEPT]]
    leaking: list[int] = []
    findings = []
    for name in _SCORED:
        ids = split.where(name)
        if len(ids) and is_leaking[ids].all():
            evidence: Evidence = {"split": name, "num_images": len(ids), "pairs": pairs}
            findings.append(Finding(FindingKind.ALL_SCORED_IMAGES_LEAK, Severity.ERROR, evidence))
        else:
            leaking += ids[is_leaking[ids]].tolist()
    return SplitBoxes(index, samples.take(index), split, frozenset(leaking), tuple(findings), applied.decisions)


def check_training_boxes(samples: DetectionSamples, split: Split) -> None:
    """Raise an error if the training images do not allow a valid detector.

    Raises:
        DataError: No training image has a box, or a class has none.
    """
    counts = np.zeros(len(samples.class_names), dtype=np.int64)
    for i in split.where("train"):
        boxes = samples.boxes[i]
        counts += np.bincount(boxes.class_ids[~boxes.is_crowd], minlength=len(counts))
    if not counts.sum():
        raise DataError("no training image has a box.", hint="check the annotations with `headstart check`")
    empty = [n for n, c in zip(samples.class_names, counts, strict=True) if not c]
    if empty:
        shown = ", ".join(f"`{n}`" for n in empty[:10])
        raise DataError(
            f"no training boxes for {shown}; every class needs at least one.",
            hint="remove the class from the annotations, or use another split (--seed)",
        )


def _assign(
    samples: DetectionSamples, applied: AppliedReport, settings: TrainSettings, manifest: Split | None
) -> Split:
    """Return the split of all images; with folds and no other split, all are training images."""
    has_split, test_size = any(samples.split), settings.test_size if manifest is None else None
    if settings.folds is not None and test_size is None and not has_split:
        assignment = np.where(applied.excluded, "", "train").astype("<U5")
        evidence: Evidence = {"folds": settings.folds}
        return Split(assignment, applied.groups, "made", None, settings.seed, SplitReason.FOLDS, evidence)
    made = make_split(
        as_samples(samples),
        groups=applied.groups,
        test_size=_DEFAULT_TEST_SIZE if test_size is None and not has_split else test_size,
        seed=settings.seed,
        leave_out=applied.excluded | np.array([has_split and not name for name in samples.split], dtype=bool),
    )
    if manifest is None:
        return made
    return replace(manifest, assignment=made.assignment, groups=made.groups, seed=made.seed)
