"""Split a dataset into training and scored images, from its report, its own split and the settings.

Test images that leak are excluded from the headline and scored separately, so that both scores can be reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart.data.options import read_options
from headstart.data.sources import read
from headstart.data.split import make_split, read_split
from headstart.errors import DataError
from headstart.events import EventStream
from headstart.quality.inspection import apply_report
from headstart.types.codes import Evidence, JsonValue, NoteKind, ReadingKind, SplitReason
from headstart.types.records import DatasetReport, Decision, Features, Samples, Split, SplitName

if TYPE_CHECKING:
    from headstart.config.settings import TrainSettings

__all__ = [
    "ReadSamples",
    "SplitDataset",
    "check_classes",
    "note_split",
    "read_samples",
    "split_dataset",
    "without_classes",
]

_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
_MIN_PER_CLASS = 2  # leave-one-out needs another sample of the class


@dataclass(frozen=True)
class SplitDataset:
    """Samples, features and split used for training.

    Attributes:
        samples: Images that are in a split.
        features: Features of `samples`.
        split: Training and scored images.
        leaking: Scored images of the user's split with a near-duplicate in training; not in `samples`.
        leaking_features: Features of `leaking`.
        decisions: Choices made for the split.
    """

    samples: Samples
    features: Features
    split: Split
    leaking: Samples
    leaking_features: Features
    decisions: tuple[Decision, ...]

    @cached_property
    def train(self) -> NDArray[np.int64]:
        """Positions of the training images."""
        return self.split.where("train")

    def labels(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the class ids of some samples."""
        return self.samples.class_ids[index]

    def blocks(self, index: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """Return the features of some samples, not copied if these are all."""
        is_all = len(index) == len(self.samples)
        return {name: block if is_all else block[index] for name, block in self.features.blocks.items()}


@dataclass(frozen=True)
class ReadSamples:
    """Images selected by the settings, and the split of `--split` (None without one)."""

    samples: Samples
    manifest: Split | None = None


def read_samples(settings: TrainSettings) -> ReadSamples:
    """Read the images of the settings; with `--split` only those in the split file."""
    samples = read(
        settings.data,
        read_options(settings),
    )
    if settings.split is None:
        return ReadSamples(samples)
    split = read_split(settings.split, samples)
    keep = np.flatnonzero(split.assignment != "")
    split_dataset = samples.take(keep)
    items = tuple(
        replace(
            s,
            split=next(name for name in _SPLITS if name == split.assignment[i]),
            group=s.group if split.groups is None else str(split.groups[i]),
        )
        for i, s in zip(keep, split_dataset, strict=True)
    )
    is_inferred, notes = samples.has_inferred_groups and split.groups is None, samples.notes
    if split.groups is not None:  # the split file states the groups
        notes = tuple(note for note in notes if note.kind is not ReadingKind.GROUPS_SHARED)
    kept = replace(split_dataset, items=items, has_inferred_groups=is_inferred, notes=notes)
    return ReadSamples(_without_empty_classes(kept), split)


def without_classes(samples: Samples, names: tuple[str, ...]) -> Samples:
    """Return the samples without the given classes.

    Raises:
        DataError: A class does not exist.
    """
    unknown = set(names) - set(samples.class_names)
    if unknown:
        raise DataError(
            f"cannot exclude unknown classes: {', '.join(f'`{n}`' for n in sorted(unknown))}.",
            hint=f"classes: {', '.join(samples.class_names[:20])}",
        )
    if not names:
        return samples
    keep = np.array([i for i, s in enumerate(samples) if s.label not in names], dtype=np.int64)
    return _without_empty_classes(samples.take(keep))


def split_dataset(
    samples: Samples, features: Features, report: DatasetReport, settings: TrainSettings, manifest: Split | None
) -> SplitDataset:
    """Split the images from the report, the user's split and the settings.

    Raises:
        UsageError, DataError: See `make_split` and `group_ids`.
    """
    applied = apply_report(samples, report, group_from=settings.group_from)
    excluded = applied.excluded | ~features.is_ok
    leaking = applied.test_including_leaks & ~applied.test & ~excluded
    split = make_split(
        samples,
        groups=applied.groups,
        test_size=settings.test_size,
        seed=settings.seed,
        leave_out=excluded | leaking,
    )
    if manifest is not None:
        split = replace(manifest, assignment=split.assignment, groups=split.groups, seed=split.seed)
    given = np.array([s.split or "" for s in samples])
    scored = "test" if "test" in given else "val"
    if scored == "test" and not (applied.test & ~excluded & (given == "test")).any():
        # Otherwise the user's validation images would be taken for test images.
        assignment = np.where(split.assignment == "test", "val", split.assignment).astype("<U5")
        split = replace(split, assignment=assignment, setup=None, reason=SplitReason.TEST_NOT_SCORABLE)
    leaking_ids = np.flatnonzero(leaking & (given == scored))
    keep = np.flatnonzero(split.assignment != "")
    if len(keep) < len(samples):
        groups = None if split.groups is None else split.groups[keep]
        split = replace(split, assignment=split.assignment[keep], groups=groups)
    kept = _without_empty_classes(samples.take(keep))
    known = [i for i in leaking_ids if samples[i].label in kept.class_names]
    leaking_ids = np.array(known, dtype=np.int64)
    return SplitDataset(
        samples=kept,
        features=features if len(keep) == len(samples) else features.take(keep),
        split=split,
        leaking=replace(samples.take(leaking_ids), class_names=kept.class_names),
        leaking_features=features.take(leaking_ids),
        decisions=applied.decisions,
    )


def note_split(split: Split, events: EventStream) -> None:
    """Emit the number of images of each part, and how the split came about; warn if a split file does not fit."""
    num_images: Evidence = {name: len(index) for name in _SPLITS if len(index := split.where(name))}
    evidence: dict[str, JsonValue] = {
        "source": split.source,
        "reason": split.reason.value,
        "num_images": num_images,
        **split.evidence,
    }
    is_incomplete = bool(split.evidence.get("num_missing") or split.evidence.get("num_not_listed"))
    (events.warn if is_incomplete else events.note)(NoteKind.DATASET_SPLIT, **evidence)


def check_classes(samples: Samples, split: Split) -> None:
    """Raise an error if the training images do not allow a valid model.

    Raises:
        DataError: No training images, one class, or a class too small to learn.
    """
    train = split.where("train")
    if len(train) == 0:
        raise DataError("there are no training images.", hint="name the training folder `train`")
    counts = np.bincount(samples.class_ids[train], minlength=len(samples.class_names))
    present = int((counts > 0).sum())
    if present < 2:
        only = samples.class_names[int(counts.argmax())]
        raise DataError(
            f"all training images have the label `{only}`; at least 2 classes are needed.",
            hint="put the images of each class in a subfolder",
        )
    small = [name for name, count in zip(samples.class_names, counts, strict=True) if count < _MIN_PER_CLASS]
    if small:
        shown = ", ".join(f"`{n}`" for n in small[:10]) + (f" and {len(small) - 10} more" if len(small) > 10 else "")
        raise DataError(
            f"too few training images of {shown}; each class needs at least {_MIN_PER_CLASS}.",
            hint="add images, or exclude the class: " + " ".join(f'--exclude-classes "{n}"' for n in small[:3]),
        )


def _without_empty_classes(samples: Samples) -> Samples:
    """Return the samples without class names that have no image."""
    left = {s.label for s in samples}
    return replace(samples, class_names=tuple(name for name in samples.class_names if name in left))
