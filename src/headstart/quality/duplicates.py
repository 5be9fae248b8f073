"""Find duplicate images: equal bytes, equal pixels, or near-duplicates.

How similar two *different* images can be depends on the data (solar cells of one wafer, strokes of a pen), so the
similarity threshold is raised above what the images of this dataset reach among each other. A missed pair costs
little; a false pair merges two groups.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from headstart.data.image_scan import ScanResult
from headstart.preprocessing.image_spec import ImageError, read_bytes
from headstart.preprocessing.reduced_decoding import decode_reduced
from headstart.quality.duplicate_candidates import Candidates, compare_candidates, find_candidates
from headstart.types.records import Samples
from headstart.utils.system import available_cores

__all__ = ["Pair", "components", "find_duplicates", "find_leaks", "have_same_pixels"]

_THRESHOLD_RANGE = (1.8, 3.15)  # lowest and highest threshold, in -log10(1 - correlation)
_GAP = 0.25
_CROPPED = (0.5, 3.2)  # extra margin for crops, up to a threshold of its own: registration inflates their agreement
_ORDER = {"train": 0, "val": 1, "test": 2}
_ALL_PAIRS_UP_TO = 8  # larger sets of equal files are listed as pairs with the first one


@dataclass(frozen=True, slots=True)
class Pair:
    """Two duplicate images.

    Attributes:
        first, second: Positions, first < second.
        kind: `bytes`, `pixels`, `near`, `flipped` or `cropped`.
        similarity: 1 for equal pixels, else the correlation of details, in [0, 1].
    """

    first: int
    second: int
    kind: str
    similarity: float


def find_duplicates(
    scan: ScanResult,
    *,
    embeddings: NDArray[np.float32] | None = None,
    same_pixels: Callable[[int, int], bool] | None = None,
    num_threads: int | None = None,
) -> tuple[list[Pair], list[Pair], float]:
    """Find duplicates among all images.

    Args:
        scan: The scanned images.
        embeddings: (N, D) backbone features, used to find more candidates; pixels decide.
        same_pixels: Compares two images pixel by pixel; None compares the digests of thumbnails.
        num_threads: Worker threads; one per core by default.

    Returns:
        Pairs of equal images, pairs of near-duplicates, and the similarity threshold of the latter.
    """
    exact, unique = _equal(scan, same_pixels)
    is_one_color = [f is None or any(kind == "one-color" for kind, _ in f.notes) for f in scan.info]
    usable = unique[~np.array(is_one_color, dtype=bool)[unique]]
    if len(usable) < 2:
        return exact, [], _THRESHOLD_RANGE[0]
    thumbnails = scan.thumbnails if len(usable) == len(scan.thumbnails) else scan.thumbnails[usable]
    num_threads = num_threads or available_cores()
    candidates = find_candidates(thumbnails, None if embeddings is None else embeddings[usable], num_threads)
    scores, is_cropped = compare_candidates(thumbnails, candidates, num_threads)
    threshold = _similarity_threshold(np.where(is_cropped, 0, scores), candidates, len(usable))
    crop_threshold = max(
        min(threshold + _CROPPED[0], _CROPPED[1]), _similarity_threshold(scores, candidates, len(usable))
    )
    best: dict[tuple[int, int], tuple[float, str]] = {}
    for k in np.flatnonzero(scores >= np.where(is_cropped, crop_threshold, threshold)):
        a, b = sorted((int(usable[candidates.part[k]]), int(usable[candidates.whole[k]])))
        kind = "flipped" if candidates.is_flipped[k] else "cropped" if is_cropped[k] else "near"
        if scores[k] > best.get((a, b), (0.0, ""))[0]:
            best[a, b] = (float(scores[k]), kind)
    near = [Pair(a, b, kind, 1 - 10**-score) for (a, b), (score, kind) in best.items()]
    return exact, _with_equal_images(near, exact), threshold


def _with_equal_images(near: list[Pair], exact: list[Pair]) -> list[Pair]:
    """Add the pairs of images equal to one of a near-duplicate pair (small sets only; large ones are linked anyway)."""
    equal_images: dict[int, set[int]] = defaultdict(set)
    for pair in exact:
        equal_images[pair.first].add(pair.second)
        equal_images[pair.second].add(pair.first)
    out = {}
    for pair in near:
        for a in (pair.first, *sorted(equal_images[pair.first])[:_ALL_PAIRS_UP_TO]):
            for b in (pair.second, *sorted(equal_images[pair.second])[:_ALL_PAIRS_UP_TO]):
                key = (min(a, b), max(a, b))
                if a != b and b not in equal_images[a] and key not in out:
                    out[key] = Pair(*key, pair.kind, pair.similarity)
    return [out[key] for key in sorted(out)]


def components(count: int, pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Return (count,) number of the connected component of each node, by first appearance."""
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    lowest = np.arange(count)  # lowest node known in the component of each node
    while np.any(lowest[first] != lowest[second]):
        np.minimum.at(lowest, lowest[first], lowest[second])
        np.minimum.at(lowest, lowest[second], lowest[first])
        lowest = lowest[lowest]
    while np.any(lowest != lowest[lowest]):
        lowest = lowest[lowest]
    return np.unique(lowest, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _equal(scan: ScanResult, same_pixels: Callable[[int, int], bool] | None) -> tuple[list[Pair], NDArray[np.int64]]:
    """Return pairs with equal bytes or pixels, and one position per set of equal images."""
    by_bytes: dict[str, list[int]] = defaultdict(list)
    for i, info in enumerate(scan.info):
        if info is not None:
            by_bytes[info.digest].append(i)
    by_pixels: dict[str, list[int]] = defaultdict(list)
    for same in by_bytes.values():
        info = scan.info[same[0]]
        if info is not None:
            by_pixels[info.pixel_key].append(same[0])
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


def _similarity_threshold(scores: NDArray[np.float32], candidates: Candidates, count: int) -> float:
    """Return the similarity threshold for near-duplicates: the lower of two estimates.

    The best match of each image is mostly a different image, so the median and upper quartile describe the tail of
    different images. Where duplicates are frequent enough to move these, a gap with almost no pairs separates them
    from the rest.
    """
    top = np.zeros(count)
    np.maximum.at(top, candidates.part, scores)
    np.maximum.at(top, candidates.whole, scores)
    top = top[(top > 0) & (top < _THRESHOLD_RANGE[1])]  # pairs above it are duplicates
    if not len(top):
        return _THRESHOLD_RANGE[0]
    tail_end = _THRESHOLD_RANGE[1]
    for _ in range(3):  # duplicates raise the quantiles; excluding the likely ones lowers them again
        median, upper = np.quantile(top[top < tail_end], (0.5, 0.75))
        tail_end = min(tail_end, float(median + 3.5 * (upper - median) + 0.3))
    ordered = np.sort(scores)
    thresholds = np.arange(_THRESHOLD_RANGE[0], _THRESHOLD_RANGE[1] + 1e-9, 0.05)
    above = len(ordered) - np.searchsorted(ordered, thresholds)
    below = len(ordered) - np.searchsorted(ordered, thresholds - _GAP) - above
    is_gap = below <= 0.01 * above + 0.5
    gap = thresholds[is_gap.argmax()] if is_gap.any() else _THRESHOLD_RANGE[1]
    return float(np.clip(min(tail_end, gap), *_THRESHOLD_RANGE))


def find_leaks(samples: Samples, pairs: Sequence[Pair]) -> list[Pair]:
    """Return pairs (scored image, image of an earlier split) that are duplicates, directly or through others.

    Train comes before val and val before test; images without a split do not leak.

    Returns:
        One pair per leaking image, in the order of the samples; `first` < `second`.
    """
    near: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        near[pair.first].append(pair)
        near[pair.second].append(pair)
    leaks = []
    for i in sorted(near):
        split = samples.items[i].split
        if split is None or _ORDER[split] == 0:
            continue
        partner = _partner(samples, i, _ORDER[split], near)
        if partner is not None:
            j, kind, similarity = partner
            leaks.append(Pair(min(i, j), max(i, j), kind, similarity))
    return sorted(leaks, key=lambda p: (p.first, p.second))


def _partner(samples: Samples, start: int, order: int, near: dict[int, list[Pair]]) -> tuple[int, str, float] | None:
    """Return the most similar reachable image of the earliest split: position, kind, lowest similarity on the path."""
    best: tuple[int, int, float, str, int] | None = None
    reached = {start: (1.0, "bytes", 0)}
    queue = [start]
    while queue:
        i = queue.pop(0)
        similarity, kind, steps = reached[i]
        for pair in near[i]:
            j = pair.second if pair.first == i else pair.first
            if j in reached:
                continue
            way = (min(similarity, pair.similarity), pair.kind if pair.similarity <= similarity else kind, steps + 1)
            reached[j] = way
            queue.append(j)
            split = samples.items[j].split
            if split is not None and _ORDER[split] < order:
                rank = (_ORDER[split], way[2], -way[0], way[1], j)
                best = rank if best is None or rank < best else best
    return None if best is None else (best[4], best[3], -best[2])


def have_same_pixels(paths: Sequence[str], max_pixels: int, first: int, second: int) -> bool:
    """Compare the images at two positions; False if they differ or one is no longer readable.

    Args:
        paths: The files.
        max_pixels: As in `ImageSpec`.
        first, second: Positions of the two images.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            a, b = (
                decode_reduced(read_bytes(paths[i]), min_side=1 << 30, max_pixels=max_pixels).image
                for i in (first, second)
            )
    except ImageError:
        return False
    if a.mode != b.mode and {a.mode, b.mode} <= {"L", "RGB", "P"}:
        a, b = a.convert("RGB"), b.convert("RGB")
    return a.mode == b.mode and bool(np.array_equal(np.asarray(a), np.asarray(b)))
