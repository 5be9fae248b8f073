"""Looks for shortcuts: something about the files, not their content, that gives the class away.

The one decision: a cue is reported when it alone tells the classes apart well above chance, or when it
singles out a good part of one class; the numbers and some pictures are given, and the person decides.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.data.cues import (
    balanced_accuracy,
    folds,
    from_categories,
    from_numbers,
    from_vectors,
    tail_share,
    told_apart,
)
from headstart.data.looks import Facts, Looks
from headstart.records import Samples, Shortcut

__all__ = ["find_shortcuts"]

_LEAST_PICTURES = 5  # a class
_TAIL = 0.25
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class _Cue:
    """One cue: how it is called, what predicts from it, and from where on it is reported.

    `skill` is (accuracy - chance) / (1 - chance); `hits` is hits minus false alarms of the best told class.
    Both were set above what clean data sets reach, see benchmarks/results/data.json.
    """

    what: str
    predict: Callable[[], NDArray[np.int64]]
    skill: float
    hits: float
    numbers: NDArray[np.float64] | None = None


def find_shortcuts(
    samples: Samples, looks: Looks, use: NDArray[np.bool_], groups: NDArray[np.int64] | None = None
) -> list[Shortcut]:
    """Judges every cue on its own.

    Args:
        samples: The pictures.
        looks: What was seen of them.
        use: (N,) the pictures to judge by: readable, for training.
        groups: (N,) copies, which must not be parted by the folds.

    Returns:
        What gives a class away, the worst first.
    """
    counts = np.bincount(samples.class_ids[use & (samples.class_ids >= 0)], minlength=len(samples.class_names))
    large = np.flatnonzero(counts >= _LEAST_PICTURES)
    if len(large) < 2:
        return []
    rows = np.flatnonzero(use & np.isin(samples.class_ids, large))
    facts = [f for f in (looks.facts[i] for i in rows) if f is not None]
    if len(facts) != len(rows):
        raise ValueError("`use` holds pictures that cannot be read")
    _, class_ids = np.unique(samples.class_ids[rows], return_inverse=True)
    fold = folds(class_ids, None if groups is None else groups[rows])
    found = []
    for cue in _cues(samples, looks, rows, facts, class_ids, fold):
        shortcut = _judge(cue, samples, rows, class_ids, large)
        if shortcut is not None:
            found.append(shortcut)
    return sorted(found, key=lambda s: -(s.accuracy - s.chance) / (1 - s.chance))


def _cues(
    samples: Samples,
    looks: Looks,
    rows: NDArray[np.int64],
    facts: list[Facts],
    class_ids: NDArray[np.int64],
    fold: NDArray[np.int64],
) -> list[_Cue]:
    def numbers(what: str, values: Sequence[tuple[float, ...]], skill: float = 0.25, hits: float = 0.65) -> _Cue:
        table = np.array(values, dtype=np.float64)
        return _Cue(what, lambda: from_numbers(table, class_ids, fold), skill, hits, table[:, 0])

    def words(what: str, values: list[str], skill: float = 0.25, hits: float = 0.65) -> _Cue:
        return _Cue(what, lambda: from_categories(values, class_ids, fold), skill, hits)

    def vectors(what: str, values: NDArray[np.uint8], skill: float, hits: float) -> _Cue:
        table = values[rows].reshape(len(rows), -1).astype(np.float32)
        return _Cue(what, lambda: from_vectors(table, class_ids, fold), skill, hits)

    areas = [f.size_hw[0] * f.size_hw[1] for f in facts]
    sized = []
    if len({f.size_hw for f in facts}) > 1:
        density = [(f.size_bytes / a,) for f, a in zip(facts, areas, strict=True)]
        sized.append(numbers("bytes a pixel", density))
        sized.append(numbers("picture dimensions", [(float(f.size_hw[0]), float(f.size_hw[1])) for f in facts]))
    return [
        numbers("file size", [(float(f.size_bytes),) for f in facts]),
        *sized,
        numbers("JPEG quality", [(float(f.quality or 0),) for f in facts]),
        numbers("noise (how alike neighbouring pixels are)", [(f.smoothness,) for f in facts], 0.35, 0.65),
        words("file format", [f"{f.format} {f.mode}" for f in facts]),
        words("camera", [f.exif.camera or "" for f in facts]),
        words("day of capture", [_day(f.exif.taken) for f in facts]),
        words("day the file was written", [_written(samples.items[i].path) for i in rows], 0.5, 0.9),
        vectors("border pixels", looks.borders, 0.35, 0.7),
        vectors("an 8 x 8 thumbnail", looks.colours, 0.75, 0.95),
    ]


def _judge(
    cue: _Cue, samples: Samples, rows: NDArray[np.int64], class_ids: NDArray[np.int64], large: NDArray[np.int64]
) -> Shortcut | None:
    predicted = cue.predict()
    accuracy, chance = balanced_accuracy(predicted, class_ids), 1.0 / len(large)
    error = float(np.sqrt(accuracy * (1 - accuracy) / len(rows)))
    is_clear = (accuracy - 2.5 * error - chance) / (1 - chance) > 0.1
    scores = told_apart(predicted, class_ids)
    best = int(scores.argmax())
    name = samples.class_names[large[best]]
    right = rows[(predicted == class_ids) & (class_ids == best)]
    if is_clear and (accuracy - chance) / (1 - chance) >= cue.skill:
        detail = f"{cue.what} alone is right for {accuracy:.0%} (chance: {chance:.0%}), best for `{name}`"
        return _shortcut(cue, accuracy, chance, detail, (name,), samples, right)
    if scores[best] >= cue.hits and len(right) >= _LEAST_PICTURES:
        share = float((predicted[class_ids == best] == best).mean())
        detail = (
            f"{cue.what} alone tells `{name}` from the rest: {share:.0%} of it, {share - scores[best]:.0%} of others"
        )
        return _shortcut(cue, accuracy, chance, detail, (name,), samples, right)
    if cue.numbers is None:
        return None
    for k in range(len(large)):
        share, members = tail_share(cue.numbers, class_ids == k)
        if share >= _TAIL and len(members) >= _LEAST_PICTURES:
            name = samples.class_names[large[k]]
            detail = f"{share:.0%} of `{name}` differ from all other classes in {cue.what}"
            return _shortcut(cue, accuracy, chance, detail, (name,), samples, rows[members])
    return None


def _shortcut(
    cue: _Cue,
    accuracy: float,
    chance: float,
    detail: str,
    classes: tuple[str, ...],
    samples: Samples,
    rows: NDArray[np.int64],
) -> Shortcut:
    examples = tuple(samples.items[i].name for i in rows[:_EXAMPLES])
    return Shortcut(cue.what, accuracy, chance, detail, classes, examples)


def _day(taken: float | None) -> str:
    return "" if taken is None else str(int(taken // 86400))


def _written(path: str) -> str:
    with contextlib.suppress(OSError):
        return str(int(os.stat(path).st_mtime // 86400))
    return ""
