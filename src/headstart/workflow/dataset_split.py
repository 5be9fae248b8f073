"""From images as they were read to those that are trained on and scored: what the doctor's judgement does.

A person's own test split is never silently shrunk.  Images in it that leak are taken out of
the headline and kept beside it, so that both figures can be given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart.config import TrainSettings
from headstart.data.inspection import apply_report
from headstart.data.sources import read
from headstart.data.split import make_split, read_split
from headstart.errors import DataError
from headstart.records import DatasetReport, Decision, Features, Samples, Split, SplitName

__all__ = ["ReadSamples", "SplitDataset", "check_classes", "read_samples", "split_dataset", "without_classes"]

_MIN_PER_CLASS = 2  # leaving one out must leave another


@dataclass(frozen=True)
class SplitDataset:
    """What training uses.

    Attributes:
        samples: The images that are in a split.
        features: Theirs.
        split: Who is trained on and who is scored.
        leaking: Scored images of the person's own split that training has seen, left out of `samples`.
        leaking_features: Theirs.
        decisions: What was chosen, and why.
    """

    samples: Samples
    features: Features
    split: Split
    leaking: Samples
    leaking_features: Features
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class ReadSamples:
    """The images that the settings name, and what the manifest of `--split` says of them (None without one)."""

    samples: Samples
    manifest: Split | None = None


def read_samples(settings: TrainSettings) -> ReadSamples:
    """Read them; with `--split` only those that it names."""
    samples = read(
        settings.data,
        allow_external_paths=settings.allow_external_paths,
        label_pattern=settings.label_pattern,
        layout=settings.layout,
        first_id=settings.first_id,
    )
    if settings.split is None:
        return ReadSamples(samples)
    split = read_split(settings.split, samples)
    keep = np.flatnonzero(split.assignment != "")
    split_dataset = samples.take(keep)
    items = tuple(
        replace(
            s, split=_word(str(split.assignment[i])), group=s.group if split.groups is None else str(split.groups[i])
        )
        for i, s in zip(keep, split_dataset, strict=True)
    )
    return ReadSamples(_without_empty_classes(replace(split_dataset, items=items)), split)


def without_classes(samples: Samples, names: tuple[str, ...]) -> Samples:
    """Without the classes that a person wants left out.

    Raises:
        DataError: There is no such class.
    """
    unknown = set(names) - set(samples.class_names)
    if unknown:
        raise DataError(
            f"there is no class {', '.join(f'`{n}`' for n in sorted(unknown))} to leave out.",
            hint=f"classes are: {', '.join(samples.class_names[:20])}",
        )
    if not names:
        return samples
    keep = np.array([i for i, s in enumerate(samples) if s.label not in names], dtype=np.int64)
    return _without_empty_classes(samples.take(keep))


def split_dataset(
    samples: Samples, features: Features, health: DatasetReport, settings: TrainSettings, manifest: Split | None
) -> SplitDataset:
    """Parts the images as the judgement, the person's own split and the settings say.

    Raises:
        UsageError, DataError: As `make_split` and `group_ids`.
    """
    applied = apply_report(samples, health, group_from=settings.group_from)
    left_out = applied.excluded | ~features.is_ok
    leaking = applied.test_including_leaks & ~applied.test & ~left_out
    split = make_split(
        samples,
        groups=applied.groups,
        test_size=settings.test_size,
        seed=settings.seed,
        leave_out=left_out | leaking,
    )
    if manifest is not None:
        split = replace(split, source="file", setup=manifest.setup, reason=manifest.reason)
    given = {s.split for s in samples}
    scored = "test" if "test" in given else "val"
    if scored == "test" and not (applied.test & ~left_out & _in_split(samples, "test")).any():
        # Else what is left, the person's own val images, would be taken for their test images.
        assignment = np.where(split.assignment == "test", "val", split.assignment).astype("<U5")
        reason = "none of your own test images can be scored; the score is measured out of fold"
        split = replace(split, assignment=assignment, setup=None, reason=reason)
    apart = np.flatnonzero(leaking & _in_split(samples, scored))
    keep = np.flatnonzero(split.assignment != "")
    if len(keep) < len(samples):
        groups = None if split.groups is None else split.groups[keep]
        split = replace(split, assignment=split.assignment[keep], groups=groups)
    kept = _without_empty_classes(samples.take(keep))
    known = [i for i in apart if samples[i].label in kept.class_names]
    beside = np.array(known, dtype=np.int64)
    return SplitDataset(
        samples=kept,
        features=features if len(keep) == len(samples) else features.take(keep),
        split=split,
        leaking=replace(samples.take(beside), class_names=kept.class_names),
        leaking_features=features.take(beside),
        decisions=applied.decisions,
    )


def check_classes(samples: Samples, split: Split) -> None:
    """What no honest model can be made from.

    Raises:
        DataError: No training images, one class, or a class too small to learn.
    """
    train = split.where("train")
    if len(train) == 0:
        raise DataError("there are no training images.", hint="is the folder called `train`?")
    counts = np.bincount(samples.class_ids[train], minlength=len(samples.class_names))
    present = int((counts > 0).sum())
    if present < 2:
        only = samples.class_names[int(counts.argmax())]
        raise DataError(
            f"all training images have the label `{only}`; telling apart needs at least 2 classes.",
            hint="one sub-folder for each class, with its images inside",
        )
    small = [name for name, count in zip(samples.class_names, counts, strict=True) if count < _MIN_PER_CLASS]
    if small:
        raise DataError(
            f"{_shown(small)}: too few training images ({_MIN_PER_CLASS} a class are needed), so the class cannot be "
            "learned and scored too.",
            hint="add images, or leave the class out with " + " ".join(f'--exclude-classes "{n}"' for n in small[:3]),
        )


def _in_split(samples: Samples, name: str) -> NDArray[np.bool_]:
    return np.array([s.split == name for s in samples], dtype=bool)


def _word(name: str) -> SplitName | None:
    names: dict[str, SplitName] = {"train": "train", "val": "val", "test": "test"}
    return names.get(name)


def _shown(names: list[str]) -> str:
    return ", ".join(f"`{n}`" for n in names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _without_empty_classes(samples: Samples) -> Samples:
    """Classes of which no image is left are gone."""
    left = {s.label for s in samples}
    return replace(samples, class_names=tuple(name for name in samples.class_names if name in left))
