"""Finds pictures that are copies of each other: same bytes, same pixels, or nearly the same picture.

The one decision: how alike two *different* pictures can get depends on the data (solar cells of one wafer,
strokes of a pen), so the bar that a pair must clear is raised to lie above what this data set's pictures
reach among each other.  A pair too few costs a little; a pair too many merges two people's pictures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from headstart.data.align import agree, align, details
from headstart.data.descriptors import FLIP, HALVES, WINDOWS, Whitener, describe
from headstart.data.looks import Looks
from headstart.data.neighbours import nearest
from headstart.machine import available_cores

__all__ = ["Pair", "components", "find_copies"]

_LEAST_COSINE = 0.6  # of descriptions of whole pictures: a watermark lowers it
_LEAST_HALF = 0.9  # of descriptions of one half
_LEAST_MOVED = 0.8  # the same through a window or mirrored, where there are many more to pass by chance
_CANDIDATES = 3  # each picture is compared with so many, and as many mirrored ones
_WORTH_ALIGNING = 0.5  # agreement from which on a pair is laid over each other, and then ...
_WORTH_REFINING = 1.2  # ... more exactly, the likeliest first and no more than a share of the pictures
_CERTAIN = 3.2  # such a pair needs neither
_MOVED = 0.008  # share of the side by which a box must differ from the whole
_BAR = (1.8, 3.15)  # lowest and highest bar, in -log10(1 - correlation)
_GAP = 0.25
_CROPPED = (0.5, 3.2)  # a part fitted into a whole must clear the bar by more, up to a bar of its own: fitting flatters
_ALL_PAIRS_UP_TO = 8  # larger sets of equal files are listed as pairs with the first
_CHUNK = 128


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures that are copies.

    Attributes:
        first, second: Positions, first < second.
        kind: `bytes`, `pixels`, `near`, `mirrored` or `cropped`.
        similarity: 1 for equal pixels; else the correlation of details, in [0, 1].
    """

    first: int
    second: int
    kind: str
    similarity: float


@dataclass
class _Candidates:
    """Pairs under suspicion: `part` may be a copy of the window of `whole`."""

    part: NDArray[np.int64]
    whole: NDArray[np.int64]
    window: NDArray[np.int64]
    is_mirrored: NDArray[np.bool_]


def find_copies(
    looks: Looks,
    *,
    embeddings: NDArray[np.float32] | None = None,
    same_pixels: Callable[[int, int], bool] | None = None,
    threads: int | None = None,
) -> tuple[list[Pair], list[Pair], float]:
    """Finds copies among all pictures.

    Args:
        looks: What was seen of them.
        embeddings: (N, D) what a network says of them: finds more candidates; pixels decide.
        same_pixels: Compares two pictures pixel by pixel; None trusts the digests of the thumbnails.
        threads: Worker threads; one a core by default.

    Returns:
        Pairs of equal pictures, pairs of nearly equal ones, and the bar that the latter had to clear.
    """
    exact, unique = _equal(looks, same_pixels)
    usable = unique[[_has_content(looks, i) for i in unique]] if len(unique) else unique
    if len(usable) < 2:
        return exact, [], _BAR[0]
    thumbs = looks.thumbs[usable]
    candidates = _candidates(thumbs, None if embeddings is None else embeddings[usable])
    scores, is_cropped = _compare(thumbs, candidates, threads or available_cores())
    bar = _bar(np.where(is_cropped, 0, scores), candidates, len(usable))
    part_bar = max(min(bar + _CROPPED[0], _CROPPED[1]), _bar(scores, candidates, len(usable)))
    best: dict[tuple[int, int], tuple[float, str]] = {}
    for k in np.flatnonzero(scores >= np.where(is_cropped, part_bar, bar)):
        a, b = sorted((int(usable[candidates.part[k]]), int(usable[candidates.whole[k]])))
        kind = "mirrored" if candidates.is_mirrored[k] else "cropped" if is_cropped[k] else "near"
        if scores[k] > best.get((a, b), (0.0, ""))[0]:
            best[a, b] = (float(scores[k]), kind)
    near = [Pair(a, b, kind, 1 - 10**-score) for (a, b), (score, kind) in best.items()]
    return exact, _with_twins(near, exact), bar


def _with_twins(near: list[Pair], exact: list[Pair]) -> list[Pair]:
    """The pairs, also of the pictures that equal one of a pair (of small sets: large ones are linked anyway)."""
    twins: dict[int, set[int]] = defaultdict(set)
    for pair in exact:
        twins[pair.first].add(pair.second)
        twins[pair.second].add(pair.first)
    out = {}
    for pair in near:
        for a in (pair.first, *sorted(twins[pair.first])[:_ALL_PAIRS_UP_TO]):
            for b in (pair.second, *sorted(twins[pair.second])[:_ALL_PAIRS_UP_TO]):
                key = (min(a, b), max(a, b))
                if a != b and b not in twins[a] and key not in out:
                    out[key] = Pair(*key, pair.kind, pair.similarity)
    return [out[key] for key in sorted(out)]


def components(count: int, pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """(count,) number of the connected set each belongs to, by first appearance."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in pairs:
        ra, rb = root(a), root(b)
        if ra != rb:
            parent[max(ra, rb)] = min(ra, rb)
    roots = np.array([root(i) for i in range(count)], dtype=np.int64)
    _, numbers = np.unique(roots, return_inverse=True)
    return numbers.astype(np.int64)


def _equal(looks: Looks, same_pixels: Callable[[int, int], bool] | None) -> tuple[list[Pair], NDArray[np.int64]]:
    """Pairs with the same bytes or pixels, and one position of each set of equal pictures."""
    by_bytes: dict[str, list[int]] = defaultdict(list)
    for i, facts in enumerate(looks.facts):
        if facts is not None:
            by_bytes[facts.digest].append(i)
    by_pixels: dict[str, list[int]] = defaultdict(list)
    for same in by_bytes.values():
        facts = looks.facts[same[0]]
        if facts is not None:
            by_pixels[facts.pixel_key].append(same[0])
    pairs = [Pair(a, b, "bytes", 1.0) for same in by_bytes.values() for a, b in _pairs(same)]
    unique = []
    for same in by_pixels.values():
        unique.append(same[0])
        for other in same[1:]:
            if same_pixels is None or same_pixels(same[0], other):
                pairs.append(Pair(same[0], other, "pixels", 1.0))
            else:
                unique.append(other)
    return sorted(pairs, key=lambda p: (p.first, p.second)), np.array(sorted(unique), dtype=np.int64)


def _pairs(same: list[int]) -> list[tuple[int, int]]:
    return list(combinations(same, 2)) if len(same) <= _ALL_PAIRS_UP_TO else [(same[0], b) for b in same[1:]]


def _has_content(looks: Looks, i: np.int64) -> bool:
    facts = looks.facts[int(i)]
    return facts is not None and not any(kind == "one-colour" for kind, _ in facts.remarks)


def _candidates(thumbs: NDArray[np.uint8], embeddings: NDArray[np.float32] | None) -> _Candidates:
    """The few nearest of each picture, whole or through a window, mirrored or not."""
    count = len(thumbs)
    plain = describe(thumbs)
    whiten = Whitener(plain)
    every = np.arange(count)
    windows = np.concatenate([whiten(describe(thumbs, window)) for window in WINDOWS])
    found: list[tuple[NDArray[np.generic], ...]] = []
    part, entry, cosine = nearest(
        whiten(plain), every, windows, np.tile(every, len(WINDOWS)), count=4 * _CANDIDATES, least=_LEAST_COSINE
    )
    likely = (entry < count) | (cosine >= _LEAST_MOVED)
    part, entry, cosine = part[likely], entry[likely], cosine[likely]
    found.append((part, entry % count, entry // count, np.zeros(len(part), dtype=bool), cosine))
    part, entry, cosine = nearest(
        whiten(plain * FLIP), every, windows[:count], every, count=_CANDIDATES, least=_LEAST_MOVED
    )
    found.append((part, entry, np.zeros(len(part), dtype=np.int64), np.ones(len(part), dtype=bool), cosine))
    for half in HALVES:
        described = describe(thumbs, half)
        described = Whitener(described)(described)
        part, entry, cosine = nearest(described, every, described, every, count=2, least=_LEAST_HALF)
        zeros = np.zeros(len(part), dtype=np.int64)
        found.append((part, entry, zeros, zeros.astype(bool), cosine - 1))
    if embeddings is not None:
        small = _compress(embeddings)
        part, entry, cosine = nearest(small, every, small, every, count=_CANDIDATES, least=0.7)
        zeros = np.zeros(len(part), dtype=np.int64)
        for way in (False, True):
            found.append((part, entry, zeros, np.full(len(part), way), cosine - 1))
    part, whole, window = (np.concatenate([f[k] for f in found]).astype(np.int64) for k in (0, 1, 2))
    mirrored: NDArray[np.bool_] = np.concatenate([f[3] for f in found]).astype(bool)
    cosine = np.concatenate([f[4] for f in found])
    # Only the best window of each (part, whole, mirrored) ...
    order = np.lexsort((-cosine, mirrored, whole, part))
    key = np.stack([part, whole, mirrored], axis=1)[order]
    keep = order[np.concatenate([[True], (key[1:] != key[:-1]).any(axis=1)])] if len(order) else order
    # ... then the best few of each part, by the whole and by halves or embeddings (whose cosines are below 0) ...
    keep = keep[np.lexsort((-cosine[keep], cosine[keep] <= 0, mirrored[keep], part[keep]))]
    run = part[keep] * 4 + 2 * mirrored[keep] + (cosine[keep] <= 0)
    keep = keep[np.arange(len(keep)) - np.searchsorted(run, run) < _CANDIDATES]
    # ... and of the two ways round of a whole pair only one.
    low, high = np.minimum(part, whole)[keep], np.maximum(part, whole)[keep]
    twin = (low * count + high) * 2 + mirrored[keep]
    _, first = np.unique(np.where(window[keep] == 0, twin, -1 - np.arange(len(keep))), return_index=True)
    keep = keep[first]
    keep = keep[np.argsort(part[keep], kind="stable")]  # neighbours in the list share pictures
    return _Candidates(part[keep], whole[keep], window[keep], mirrored[keep])


def _compare(
    thumbs: NDArray[np.uint8], candidates: _Candidates, threads: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(M,) agreement of each pair's details, and whether one is a part of the other."""
    windows = np.array(WINDOWS)
    count = len(candidates.part)
    scores = np.zeros(count, dtype=np.float32)
    boxes = windows[candidates.window]

    def pictures_of(rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        part = thumbs[candidates.part[rows]]
        mirrored = candidates.is_mirrored[rows]
        part[mirrored] = part[mirrored][:, :, ::-1]
        return thumbs[candidates.whole[rows]], part

    def compare_whole(rows: NDArray[np.int64]) -> None:
        mirrored = candidates.is_mirrored[rows].astype(np.int64)
        which = np.concatenate([2 * candidates.whole[rows], 2 * candidates.part[rows] + mirrored])
        needed, place = np.unique(which, return_inverse=True)  # each picture, or its mirror image, once
        pictures = thumbs[needed // 2]
        turned = needed % 2 == 1
        pictures[turned] = pictures[turned][:, :, ::-1]
        known = details(pictures)
        scores[rows] = agree(known.take(place[: len(rows)]), known.take(place[len(rows) :]))

    def compare_parts(rows: NDArray[np.int64]) -> None:
        whole, part = pictures_of(rows)
        scores[rows] = agree(details(whole, boxes[rows]), details(part))

    def fit_parts(rows: NDArray[np.int64], is_fine: bool) -> None:
        whole, part = pictures_of(rows)
        fitted = align(whole, part, boxes[rows], is_fine=is_fine)
        better = agree(details(whole, fitted), details(part))
        gains = better > scores[rows] + 0.05
        scores[rows[gains]], boxes[rows[gains]] = better[gains], fitted[gains]

    with _one_blas_thread() as is_single, ThreadPoolExecutor(max(1, threads if is_single else 1)) as pool:
        is_part = candidates.window > 0
        list(pool.map(compare_whole, _chunks(np.flatnonzero(~is_part), 4 * _CHUNK)))
        list(pool.map(compare_parts, _chunks(np.flatnonzero(is_part))))
        for rows in (is_part, ~is_part):
            worth = np.flatnonzero(rows & (scores >= _WORTH_ALIGNING) & (scores < _CERTAIN))
            list(pool.map(partial(fit_parts, is_fine=False), _chunks(_likeliest(worth, scores, 0.2 * len(thumbs)))))
        moved = np.abs(boxes - windows[0]).max(axis=1) > _MOVED
        worth = np.flatnonzero(moved & (scores >= _WORTH_REFINING) & (scores < _CERTAIN))
        list(pool.map(partial(fit_parts, is_fine=True), _chunks(_likeliest(worth, scores, 0.05 * len(thumbs)))))
    return scores, np.abs(boxes - windows[0]).max(axis=1) > _MOVED


@contextmanager
def _one_blas_thread() -> Iterator[bool]:
    """Keeps numpy's products of small matrices in the calling thread: our own threads share the cores already.

    Gives False where that cannot be had; threads of both kinds would then wait for one another.
    """
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        yield False
        return
    with threadpool_limits(1, user_api="blas"):
        yield True


def _likeliest(rows: NDArray[np.int64], scores: NDArray[np.float32], most: float) -> NDArray[np.int64]:
    return np.sort(rows[np.argsort(-scores[rows])][: int(most) + 100])


def _chunks(rows: NDArray[np.int64], size: int = _CHUNK) -> list[NDArray[np.int64]]:
    return [rows[s : s + size] for s in range(0, len(rows), size)]


def _bar(scores: NDArray[np.float32], candidates: _Candidates, count: int) -> float:
    """What a pair must reach, from how alike this data set's pictures are anyway: the lower of two answers.

    Each picture's best partner is mostly a different picture: the median and upper quartile say how the tail of
    different pictures falls off.  Where copies are so many that they move these, there is a gap between them
    and the rest: a stretch in which next to no pair lies.
    """
    top = np.zeros(count)
    np.maximum.at(top, candidates.part, scores)
    np.maximum.at(top, candidates.whole, scores)
    top = top[(top > 0) & (top < _BAR[1])]  # above it are copies for certain
    if not len(top):
        return _BAR[0]
    likely = _BAR[1]
    for _ in range(3):  # copies among them raise the quantiles; without the likeliest copies these fall
        median, upper = np.quantile(top[top < likely], (0.5, 0.75))
        likely = min(likely, float(median + 4 * (upper - median) + 0.2))
    ordered = np.sort(scores)
    bars = np.arange(_BAR[0], _BAR[1] + 1e-9, 0.05)
    above = len(ordered) - np.searchsorted(ordered, bars)
    below = len(ordered) - np.searchsorted(ordered, bars - _GAP) - above
    is_gap = below <= 0.01 * above + 0.5
    gap = bars[is_gap.argmax()] if is_gap.any() else _BAR[1]
    return float(np.clip(min(likely, gap), *_BAR))


def _compress(embeddings: NDArray[np.float32], size: int = 64) -> NDArray[np.float32]:
    """(N, 64) unit rows that keep the angles of centred embeddings nearly (random projection)."""
    centred = np.nan_to_num(embeddings - np.nanmean(embeddings, axis=0))
    if centred.shape[1] > size:
        rng = np.random.default_rng(0)
        centred = centred @ rng.standard_normal((centred.shape[1], size)).astype(np.float32)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(length > 1e-9, centred / np.maximum(length, 1e-9), 0).astype(np.float32)
