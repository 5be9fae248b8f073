"""Find shortcuts: cues other than the image content that predict the class, such as file size, camera or border.

Each cue is tested by a nearest-neighbor vote, which detects non-linear relations. A class that only partly depends on a
cue is detected by the fraction of its images whose nearest neighbors belong to that class ("revealed").
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.data.image_scan import ScanResult

__all__ = ["Shortcut", "find_shortcuts"]

_NEIGHBORS = 9
_MIN_AGREEING = 8  # minimum number of neighbors of the image's class for it to count as revealed
_MAX_IMAGES = 2000  # maximum number of tested images, stratified by class
_MIN_IMAGES = 30
_PERMUTATIONS = 99
_MAX_P = 0.011
_DAY_S = 86400.0

# Minimum chance-corrected accuracy, and minimum fraction of a class revealed, of a flagged shortcut. Cues unrelated
# to the content (format, camera, date) should predict almost nothing. File size and noise depend slightly on texture,
# and border and thumbnail show part of the content, so their limits are higher (benchmarks/bench_data.py measures clean
# datasets).
_LIMITS = {
    "file size": (0.40, 0.40),
    "image size": (0.20, 0.40),
    "format": (0.10, 0.40),
    "camera": (0.10, 0.40),
    "date": (0.10, 0.40),
    "noise": (0.40, 0.25),  # clean classes reach at most 0.10, half a class of noise 0.4
    "border": (0.60, 0.60),
    "thumbnail": (0.75, 0.80),
}


@dataclass(frozen=True, slots=True)
class Shortcut:
    """Test result of one cue.

    Attributes:
        cue: Short name, e.g. `file size`.
        accuracy: Balanced leave-one-out accuracy of predicting the class from the cue alone, in [0, 1].
        chance: Mean accuracy for shuffled labels.
        p_value: Permutation p-value of the accuracy.
        revealed_fractions: Fraction of each class's images with at least 8 of 9 nearest neighbors of their class.
        is_flagged: Whether the cue exceeds the limits for clean datasets.
        given_class: Class whose fraction exceeds that with shuffled labels most; None if no class exceeds it.
        examples: Positions of up to 6 such images of `given_class`; empty without one.
    """

    cue: str
    accuracy: float
    chance: float
    p_value: float
    revealed_fractions: dict[str, float]
    is_flagged: bool
    given_class: str | None
    examples: tuple[int, ...]


def find_shortcuts(
    scan: ScanResult,
    paths: Sequence[str],
    class_ids: NDArray[np.int64],
    class_names: Sequence[str],
    *,
    groups: NDArray[np.int64] | None = None,
) -> tuple[Shortcut, ...]:
    """Test all cues.

    Args:
        scan: Scan of N images.
        paths: Files of the images; their modification date replaces missing capture dates.
        class_ids: (N,) in 0..K-1, -1 for unlabeled images.
        class_names: K names.
        groups: (N,) group ids; images of the same group are not neighbors.

    Returns:
        One entry per cue that is not constant, the most predictive first; empty below 30 images or two classes.
    """
    rng = np.random.default_rng(0)
    usable = np.flatnonzero(scan.is_ok & (class_ids >= 0))
    counts = np.bincount(class_ids[usable], minlength=len(class_names))
    usable = usable[counts[class_ids[usable]] >= 5]
    if len(usable) < _MIN_IMAGES or len(np.unique(class_ids[usable])) < 2:
        return ()
    chosen = _draw(usable, class_ids, rng)
    labels = class_ids[chosen]
    own = chosen if groups is None else groups[chosen]
    shuffles = [rng.permutation(labels) for _ in range(_PERMUTATIONS)]
    shortcuts = []
    for cue, make in _CUES.items():
        table = make(scan, paths, chosen)
        if table is None:
            continue
        near = _nearest(table, own, rng)
        if near is None:
            continue
        shortcuts.append(_evaluate(cue, near, labels, chosen, class_names, shuffles))
    return tuple(sorted(shortcuts, key=lambda s: (not s.is_flagged, -s.accuracy)))


def _draw(usable: NDArray[np.int64], class_ids: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return all images, or a stratified sample of `_MAX_IMAGES`."""
    if len(usable) <= _MAX_IMAGES:
        return usable
    fraction = _MAX_IMAGES / len(usable)
    parts = []
    for k in np.unique(class_ids[usable]):
        members = usable[class_ids[usable] == k]
        size = min(len(members), max(5, round(fraction * len(members))))
        parts.append(rng.choice(members, size, replace=False))
    return np.sort(np.concatenate(parts))


def _nearest(table: NDArray[np.float64], own: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64] | None:
    """Return (N, 9) nearest rows of other groups, ties broken at random; None for a constant or too few rows."""
    deviation = table.std(axis=0)
    varies = deviation > 1e-9 * (1 + np.abs(table).max(axis=0))
    if not varies.any():
        return None
    z = (table[:, varies] - table[:, varies].mean(axis=0)) / deviation[varies]
    squared = np.einsum("nd,nd->n", z, z)
    near = np.empty((len(z), _NEIGHBORS), dtype=np.int64)
    chances = np.lib.stride_tricks.sliding_window_view(
        rng.uniform(0, 1e-6, 2 * len(z)), len(z)
    )  # different for each row
    for start in range(0, len(z), 500):
        part = slice(start, start + 500)
        distance = squared[part, None] + squared
        distance -= 2 * (z[part] @ z.T)
        np.maximum(distance, 0, out=distance)
        np.sqrt(distance, out=distance)
        distance += chances[: len(z)][part]
        distance[own[part, None] == own] = np.inf
        if np.isinf(np.partition(distance, _NEIGHBORS - 1, axis=1)[:, _NEIGHBORS - 1]).any():
            return None  # too few images outside the group
        near[part] = np.argpartition(distance, _NEIGHBORS - 1, axis=1)[:, :_NEIGHBORS]
    return near


def _evaluate(
    cue: str,
    near: NDArray[np.int64],
    labels: NDArray[np.int64],
    chosen: NDArray[np.int64],
    class_names: Sequence[str],
    shuffles: Sequence[NDArray[np.int64]],
) -> Shortcut:
    accuracy, given, is_revealed = _vote(near, labels)
    null = [_vote(near, shuffled)[:2] for shuffled in shuffles]
    chance = float(np.mean([a for a, _ in null]))
    expected = {k: float(np.mean([g[k] for _, g in null])) for k in given}
    p_value = (1 + sum(a >= accuracy for a, _ in null)) / (1 + len(null))
    min_accuracy, min_fraction = _LIMITS[cue]
    excess = {k: (given[k] - expected[k]) / max(1 - expected[k], 1e-9) for k in given}
    worst = max(excess, key=lambda k: excess[k])
    most = max(g for _, gs in null for g in gs.values())
    predicts_all = (accuracy - chance) / max(1 - chance, 1e-9) >= min_accuracy and p_value <= _MAX_P
    predicts_one = excess[worst] >= min_fraction and given[worst] > most
    is_given = given[worst] > max(g[worst] for _, g in null)
    examples = chosen[(labels == worst) & is_revealed][:6] if is_given else chosen[:0]
    return Shortcut(
        cue=cue,
        accuracy=accuracy,
        chance=chance,
        p_value=p_value,
        revealed_fractions={class_names[k]: round(fraction, 4) for k, fraction in given.items()},
        is_flagged=bool(predicts_all or predicts_one),
        given_class=class_names[worst] if is_given else None,
        examples=tuple(int(i) for i in examples),
    )


def _vote(near: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[float, dict[int, float], NDArray[np.bool_]]:
    """Return balanced accuracy of the vote, revealed fraction of each class, and (N,) whether an image is revealed."""
    classes, index = np.unique(labels, return_inverse=True)
    count, num_classes = len(labels), len(classes)
    cells = np.arange(count)[:, None] * num_classes + index[near]
    votes = np.bincount(cells.ravel(), minlength=count * num_classes).reshape(count, num_classes)
    sizes = np.bincount(index)
    right = (votes / sizes).argmax(axis=1) == index
    is_revealed = votes[np.arange(count), index] >= _MIN_AGREEING
    recalls = np.bincount(index[right], minlength=num_classes) / sizes
    fractions = np.bincount(index[is_revealed], minlength=num_classes) / sizes
    return float(recalls.mean()), {int(c): float(s) for c, s in zip(classes, fractions, strict=True)}, is_revealed


_Cue = Callable[[ScanResult, Sequence[str], NDArray[np.int64]], "NDArray[np.float64] | None"]


def _info(scan: ScanResult, chosen: NDArray[np.int64], value: Callable[..., object]) -> NDArray[np.float64]:
    return np.array([value(scan.info[i]) for i in chosen], dtype=np.float64).reshape(len(chosen), -1)


def _one_hot(words: Sequence[object]) -> NDArray[np.float64]:
    known, index = np.unique([str(w) for w in words], return_inverse=True)
    return np.asarray(np.eye(len(known))[index], dtype=np.float64)


def _format(scan: ScanResult, paths: Sequence[str], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    kinds = _one_hot([(f.format, f.mode) for i in chosen if (f := scan.info[i])])
    quality = _info(scan, chosen, lambda f: f.quality or 0)
    return np.hstack([kinds * 50, quality])


def _camera(scan: ScanResult, paths: Sequence[str], chosen: NDArray[np.int64]) -> NDArray[np.float64] | None:
    cameras = [f.exif.camera for i in chosen if (f := scan.info[i])]
    return _one_hot(cameras) if any(cameras) else None


def _date(scan: ScanResult, paths: Sequence[str], chosen: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return the capture day, or the modification day if most capture dates are missing."""
    taken = [f.exif.taken for i in chosen if (f := scan.info[i])]
    if sum(t is not None for t in taken) >= len(taken) / 2:
        known = [t for t in taken if t is not None]
        days = [np.floor((t if t is not None else min(known) - 1000 * _DAY_S) / _DAY_S) for t in taken]
        return np.array(days, dtype=np.float64)[:, None]
    try:
        days = [np.floor(os.stat(paths[i]).st_mtime / _DAY_S) for i in chosen]
    except OSError:
        return None
    return np.array(days, dtype=np.float64)[:, None]


_CUES: dict[str, _Cue] = {
    "file size": lambda scan, paths, chosen: _info(scan, chosen, lambda f: np.log(f.size_bytes)),
    "image size": lambda scan, paths, chosen: _info(
        scan, chosen, lambda f: (np.log(f.size_hw[0]), np.log(f.size_hw[1]), np.log(f.size_hw[0] / f.size_hw[1]))
    ),
    "format": _format,
    "camera": _camera,
    "date": _date,
    "noise": lambda scan, paths, chosen: _info(scan, chosen, lambda f: f.smoothness),
    "border": lambda scan, paths, chosen: scan.borders[chosen].astype(np.float64),
    "thumbnail": lambda scan, paths, chosen: scan.colors[chosen].reshape(len(chosen), -1).astype(np.float64),
}
