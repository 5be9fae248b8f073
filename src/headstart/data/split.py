"""Split samples into train, val and test; the user's own split is kept, and groups stay whole.

Nothing is held out by default, because all data are scored out of fold. A new split is stratified, seeded, and
written to a file so that it can be reused.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.data.grouping import group_ids, number_groups
from headstart.data.split_words import split_name
from headstart.errors import DataError, UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import EvaluationProtocol, EvaluationSetup, Evidence, SplitReason, SplitSource
from headstart.types.records import Samples, Split
from headstart.utils.csv_cells import escape_formula, unescape_formula

__all__ = ["group_ids", "make_split", "read_split", "write_split"]

_TRIES = 12  # group assignments tried; the best balanced one is kept


def make_split(
    samples: Samples,
    *,
    groups: NDArray[np.int64] | None,
    test_size: float | None = None,
    seed: int = 0,
    leave_out: NDArray[np.bool_] | None = None,
) -> Split:
    """Split samples into training and scored images.

    Args:
        samples: The images; their own split is kept.
        groups: (N,) groups that stay together, or None.
        test_size: Fraction to hold out, in (0, 1), if the data have no split.
        seed: Random seed.
        leave_out: (N,) samples that belong to no split (unreadable, two labels).

    Returns:
        If there are only train and val, val is the scored split and is called `test`.

    Raises:
        UsageError: `test_size` is out of range, or the data already have a split.
        DataError: There is a test split but no training images, or nothing can be held out.
    """
    count = len(samples)
    out = np.zeros(count, dtype=bool) if leave_out is None else leave_out
    if any(s.split for s in samples):
        if test_size is not None:
            raise UsageError(
                "--test-size cannot be used: the data have their own split.",
                hint="remove --test-size, or use a --layout with `*` for the split",
            )
        return _own_split(np.array([s.split or "train" for s in samples]), groups, out, seed, "given")
    assignment = np.where(out, "", "train").astype("<U5")
    if test_size is None:
        return Split(assignment, groups, "made", None, seed, SplitReason.NOT_SPLIT)
    if not 0 < test_size < 1:
        raise UsageError(f"--test-size must be between 0 and 1, not {test_size:g}.", hint="e.g. --test-size 0.2")
    is_test, unscored = _hold_out(samples.class_ids, groups, test_size, seed, out)
    if not is_test.any() and groups is not None:
        is_test = _smallest_group(samples.class_ids, groups, out)  # the fraction is smaller than any group
    if not is_test.any():
        raise DataError(
            "cannot make a test split: every class has only one image or one group.",
            hint="remove --test-size; the score is then measured out of fold",
        )
    assignment[is_test] = "test"
    evidence: Evidence = {
        "num_held_out": int(is_test.sum()),
        "unscorable_classes": [samples.class_names[k] for k in unscored],
    }
    setup = EvaluationSetup(EvaluationProtocol.TEST_SPLIT, held_out_fraction=test_size, split_source=SplitSource.MADE)
    return Split(assignment, groups, "made", setup, seed, SplitReason.HELD_OUT, evidence)


def _smallest_group(
    class_ids: NDArray[np.int64], groups: NDArray[np.int64], out: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the smallest group whose removal leaves training images in every class; empty if there is none."""
    use = ~out
    total = np.bincount(class_ids[use & (class_ids >= 0)])
    candidates = []
    for group in np.unique(groups[use]):
        inside = use & (groups == group)
        left = total - np.bincount(class_ids[inside & (class_ids >= 0)], minlength=len(total))
        if (left[total > 0] > 0).all():
            candidates.append((int(inside.sum()), int(group)))
    if not candidates:
        return np.zeros(len(groups), dtype=bool)
    return np.asarray(use & (groups == min(candidates)[1]))


def write_split(path: str | Path, samples: Samples, split: Split) -> None:
    """Write a manifest (image, label, split, group) for `read_split` or a spreadsheet."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "label", "split", "group"))
        for i, sample in enumerate(samples):
            group = "" if split.groups is None else str(split.groups[i])
            cells = (sample.name, sample.label or "", str(split.assignment[i]), group)
            writer.writerow([escape_formula(c) for c in cells])


def read_split(path: str | Path, samples: Samples) -> Split:
    """Read a manifest for these samples.

    Images that it does not list are excluded and counted in the evidence, like its rows without an image.

    Raises:
        DataError: The file is unreadable, has no `image` and `split` column, an unknown split, lists none of the
            samples, or lists missing files in place of a class, as after a folder was renamed.
    """
    shown = f"`{os.fspath(path)}`"
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(
            f"the split file {shown} cannot be read ({why}).", hint="pass the split.csv of an earlier run"
        ) from error
    if not rows or not {"image", "split"} <= set(rows[0]):
        raise DataError(
            f"the split file {shown} has no columns `image` and `split`.", hint="use the format of a run's split.csv"
        )
    places: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        places.setdefault(sample.name, []).append(i)
    assignment = np.full(len(samples), "", dtype="<U5")
    keys: list[str | None] = [None] * len(samples)
    missing = 0
    for line, row in enumerate(rows, start=2):
        positions = places.get(unescape_formula(row["image"] or ""))
        if not positions:
            missing += 1
            continue
        i = positions.pop(0) if len(positions) > 1 else positions[0]
        word = row["split"] or ""
        split = split_name(word)
        if split is None and word.strip():
            raise DataError(f"line {line} of {shown} has the split `{word}`; expected train, val or test.")
        assignment[i] = split or ""
        keys[i] = row.get("group") or None
    if missing == len(rows):
        raise DataError(
            f"none of {pluralize(len(rows), 'image')} in {shown} is in this dataset.",
            hint="names in the split file are relative to the data folder",
        )
    listed = {unescape_formula(r["image"] or "") for r in rows}
    left = {s.label for s in samples if s.name in listed}
    emptied = [name for name in samples.class_names if name not in left]
    if missing and emptied:
        known = set(samples.names)
        first = next(name for name in sorted(listed) if name not in known)
        raise DataError(
            f"{shown} lists {pluralize(missing, 'image')} that {'is' if missing == 1 else 'are'} not in this dataset "
            f"(`{first}`), and none of the class `{emptied[0]}`.",
            hint="restore the names of its files and folders, or make a new split",
        )
    extra = sum(s.name not in listed for s in samples)
    groups = number_groups(keys) if any(keys) else None
    made = _own_split(assignment, groups, assignment == "", 0, "file")
    evidence: Evidence = {"num_missing": missing, "num_not_listed": extra}
    return replace(made, groups=groups, evidence=evidence)


def _own_split(
    wanted: NDArray[np.str_], groups: NDArray[np.int64] | None, out: NDArray[np.bool_], seed: int, source: str
) -> Split:
    """Return the user's own split; val replaces a missing test split."""
    assignment = np.where(out, "", wanted).astype("<U5")
    counts = Counter(assignment.tolist())
    if not counts["train"]:
        raise DataError("the data have a split but no training images.", hint="add a folder (or split value) `train`")
    protocol: EvaluationProtocol | None
    if counts["test"]:
        protocol, reason = EvaluationProtocol.TEST_SPLIT, SplitReason.GIVEN
    elif counts["val"]:
        assignment[assignment == "val"] = "test"
        protocol, reason = EvaluationProtocol.VALIDATION_SPLIT, SplitReason.VAL_IS_SCORED
    else:
        protocol, reason = None, SplitReason.ALL_TRAIN
    setup = None if protocol is None else EvaluationSetup(protocol, split_source=SplitSource.USER)
    return Split(assignment, groups, "file" if source == "file" else "given", setup, seed, reason)


def _hold_out(
    class_ids: NDArray[np.int64], groups: NDArray[np.int64] | None, fraction: float, seed: int, out: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], list[int]]:
    """Return the test mask (N,) and the classes that are one group and so stay in training."""
    ids = np.arange(len(class_ids)) if groups is None else groups
    use = np.flatnonzero(~out & (class_ids >= 0))
    _, unit = np.unique(ids[use], return_inverse=True)
    num_units, num_classes = int(unit.max(initial=-1)) + 1, int(class_ids.max(initial=-1)) + 1
    table = np.zeros((num_units, num_classes), dtype=np.int64)  # (units, classes) images
    np.add.at(table, (unit, class_ids[use]), 1)
    units_of_class = (table > 0).sum(axis=0)
    total = table.sum(axis=0)
    target = np.where(units_of_class >= 2, np.maximum(1, np.rint(total * fraction)), 0)
    target = np.minimum(target, np.maximum(total - 1, 0))
    rng = np.random.default_rng(seed)
    best: NDArray[np.bool_] | None = None
    best_cost = np.inf
    is_single = table.sum(axis=1) == 1
    for _ in range(1 if is_single.all() else _TRIES):
        chosen = _assign(table, target, is_single, rng)
        got = table[chosen].sum(axis=0)
        empty = ((got == 0) & (target > 0)) | ((got == total) & (total > 0))
        cost = float((((got - target) ** 2) / np.maximum(target, 1)).sum() + 1e6 * empty.sum())
        if cost < best_cost:
            best, best_cost = chosen, cost
    is_test = np.zeros(len(class_ids), dtype=bool)
    if best is not None:
        is_test[use] = best[unit]
    return is_test, [int(k) for k in np.flatnonzero((units_of_class == 1) & (total > 1))]


def _assign(
    table: NDArray[np.int64], target: NDArray[np.float64], is_single: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Assign groups greedily: larger groups where they bring the counts closer, then single images exactly."""
    chosen = np.zeros(len(table), dtype=bool)
    left = target.astype(np.float64).copy()
    total = table.sum(axis=0)
    weight = 1.0 / np.maximum(target, 1)
    several = np.flatnonzero(~is_single)
    several = several[rng.permutation(len(several))]
    for i in several:
        row = table[i]
        gain = (weight * (left**2 - (left - row) ** 2)).sum()
        keeps_train = ((total - table[chosen].sum(axis=0) - row)[row > 0] > 0).all() if gain > 0 else False
        if gain > 0 and keeps_train:
            chosen[i] = True
            left -= row
    for k in range(table.shape[1]):
        singles = np.flatnonzero(is_single & (table[:, k] > 0))
        singles = singles[rng.permutation(len(singles))]
        chosen[singles[: max(0, int(left[k]))]] = True
    return chosen
