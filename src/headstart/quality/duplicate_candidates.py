"""Find candidate pairs of near-duplicate images and score their agreement.

Each image is compared with the few nearest by descriptor, and only the most likely pairs are registered, so the cost
grows with the number of images and not of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from headstart.quality.descriptors import FLIP, HALVES, WINDOWS, Whitener, describe_thumbnails
from headstart.quality.image_registration import ImageDetails, align, correlate_details, details

__all__ = ["CERTAIN", "Candidates", "compare_candidates", "find_candidates", "nearest"]

_MIN_COSINE = 0.6  # of descriptors of whole images; a watermark lowers it
_MIN_HALF_COSINE = 0.9  # of descriptors of one half
_MIN_WINDOW_COSINE = 0.8  # through a window or flipped, where more pairs pass by chance
_CANDIDATES = 3  # neighbors per image, and as many flipped ones
_MIN_TO_ALIGN = 0.5  # agreement from which a pair is registered, and ...
_MIN_TO_REFINE = 1.2  # ... from which it is registered on the finest grid
CERTAIN = 3.2  # agreement that needs no registration
_COARSE_PER_IMAGE = 1.0  # pairs per image registered on the coarse grid, ...
_FINE_BY_DETAILS, _FINE_BY_GRAY = 0.1, 0.2  # ... of these on a finer grid, selected by details and by gray values, ...
_FINEST_PER_IMAGE = 0.05  # ... and on the finest
_MIN_GAIN = 0.05  # in agreement
_MIN_SHIFT = 0.008  # fraction of the side by which a box must differ from the whole image
_ALL_PAIRS = 20_000  # number of entries up to which comparing all pairs is as fast
_PROBES = 6
_ROWS = 1024
_CHUNK = 128
_MAX_CACHED = 4096  # images whose details are in memory at a time: 28 kB each


@dataclass
class Candidates:
    """Candidate pairs: `part` may be a near-duplicate of the window of `whole`."""

    part: NDArray[np.int64]
    whole: NDArray[np.int64]
    window: NDArray[np.int64]
    is_flipped: NDArray[np.bool_]


def find_candidates(
    thumbnails: NDArray[np.uint8], embeddings: NDArray[np.float32] | None, num_threads: int = 1
) -> Candidates:
    """Return the nearest images of each image: whole or through a window, flipped or not."""
    count = len(thumbnails)
    plain = describe_thumbnails(thumbnails)
    whiten = Whitener(plain)
    every = np.arange(count)
    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        windows = np.concatenate(
            list(pool.map(lambda window: whiten(describe_thumbnails(thumbnails, window)), WINDOWS))
        )
    batches: list[tuple[NDArray[np.generic], ...]] = []
    part, entry, cosine = nearest(
        whiten(plain), every, windows, np.tile(every, len(WINDOWS)), count=4 * _CANDIDATES, least=_MIN_COSINE
    )
    likely = (entry < count) | (cosine >= _MIN_WINDOW_COSINE)
    part, entry, cosine = part[likely], entry[likely], cosine[likely]
    batches.append((part, entry % count, entry // count, np.zeros(len(part), dtype=bool), cosine))
    part, entry, cosine = nearest(
        whiten(plain * FLIP), every, windows[:count], every, count=_CANDIDATES, least=_MIN_WINDOW_COSINE
    )
    batches.append((part, entry, np.zeros(len(part), dtype=np.int64), np.ones(len(part), dtype=bool), cosine))
    for half in HALVES:
        described = describe_thumbnails(thumbnails, half)
        described = Whitener(described)(described)
        part, entry, cosine = nearest(described, every, described, every, count=2, least=_MIN_HALF_COSINE)
        zeros = np.zeros(len(part), dtype=np.int64)
        batches.append((part, entry, zeros, zeros.astype(bool), cosine - 1))
    if embeddings is not None:
        small = _compress(embeddings)
        part, entry, cosine = nearest(small, every, small, every, count=_CANDIDATES, least=0.7)
        zeros = np.zeros(len(part), dtype=np.int64)
        for is_flipped in (False, True):
            batches.append((part, entry, zeros, np.full(len(part), is_flipped), cosine - 1))
    part, whole, window = (np.concatenate([f[k] for f in batches]).astype(np.int64) for k in (0, 1, 2))
    flipped: NDArray[np.bool_] = np.concatenate([f[3] for f in batches]).astype(bool)
    cosine = np.concatenate([f[4] for f in batches])
    # Keep only the best window of each (part, whole, flipped), ...
    order = np.lexsort((-cosine, flipped, whole, part))
    key = np.stack([part, whole, flipped], axis=1)[order]
    keep = order[np.concatenate([[True], (key[1:] != key[:-1]).any(axis=1)])] if len(order) else order
    # ... then the best few of each part, by the whole and by halves or embeddings (whose cosines are below 0), ...
    keep = keep[np.lexsort((-cosine[keep], cosine[keep] <= 0, flipped[keep], part[keep]))]
    run = part[keep] * 4 + 2 * flipped[keep] + (cosine[keep] <= 0)
    keep = keep[np.arange(len(keep)) - np.searchsorted(run, run) < _CANDIDATES]
    # ... and one of the two orders of a whole pair.
    low, high = np.minimum(part, whole)[keep], np.maximum(part, whole)[keep]
    unordered = (low * count + high) * 2 + flipped[keep]
    _, first = np.unique(np.where(window[keep] == 0, unordered, -1 - np.arange(len(keep))), return_index=True)
    keep = keep[first]
    keep = keep[np.argsort(part[keep], kind="stable")]  # consecutive pairs share images
    return Candidates(part[keep], whole[keep], window[keep], flipped[keep])


def compare_candidates(
    thumbnails: NDArray[np.uint8], candidates: Candidates, num_threads: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return (M,) agreement of each pair's details, and whether one image is a crop of the other."""
    pairs = _Pairs(thumbnails, candidates)
    with _one_blas_thread() as is_single, ThreadPoolExecutor(max(1, num_threads if is_single else 1)) as pool:
        is_part = candidates.window > 0
        pairs.compare_whole(np.flatnonzero(~is_part), pool)
        list(pool.map(pairs.compare_parts, _chunks(np.flatnonzero(is_part))))
        for rows in (is_part, ~is_part):
            undecided = pairs.undecided(rows, _MIN_TO_ALIGN)
            undecided = _highest(undecided, pairs.scores[undecided], _COARSE_PER_IMAGE * len(thumbnails))
            list(pool.map(pairs.register, _chunks(undecided)))
            # A crop agrees in no details until it is registered; then its gray values agree too.
            likely = np.union1d(
                _highest(undecided, pairs.scores[undecided], _FINE_BY_DETAILS * len(thumbnails)),
                _highest(undecided, -pairs.residual[undecided], _FINE_BY_GRAY * len(thumbnails)),
            )
            list(pool.map(partial(pairs.fit, level=1), _chunks(likely)))
        undecided = pairs.undecided(pairs.is_moved(), _MIN_TO_REFINE)
        undecided = _highest(undecided, pairs.scores[undecided], _FINEST_PER_IMAGE * len(thumbnails))
        list(pool.map(partial(pairs.fit, level=2), _chunks(undecided)))
    return pairs.scores, pairs.is_moved()


class _Pairs:
    """Pairs under comparison, each with its score and the position of its part in its whole."""

    def __init__(self, thumbnails: NDArray[np.uint8], candidates: Candidates) -> None:
        self.thumbnails, self.candidates = thumbnails, candidates
        self.scores = np.zeros(len(candidates.part), dtype=np.float32)
        self.boxes = np.array(WINDOWS)[candidates.window]
        self.proposals = self.boxes.copy()  # positions before the details confirm them
        self.residual = np.full(len(self.scores), np.inf)

    def undecided(self, rows: NDArray[np.bool_], least: float) -> NDArray[np.int64]:
        """Return the undecided pairs among `rows` with a score of at least `least`."""
        return np.flatnonzero(rows & (self.scores >= least) & (self.scores < CERTAIN))

    def is_moved(self) -> NDArray[np.bool_]:
        """Return (M,) whether the part covers less or more than the whole."""
        return np.asarray(np.abs(self.boxes - WINDOWS[0]).max(axis=1) > _MIN_SHIFT)

    def compare_whole(self, rows: NDArray[np.int64], pool: ThreadPoolExecutor) -> None:
        """Score pairs without registration; the details of each image are computed once per block."""
        flipped = self.candidates.is_flipped.astype(np.int64)
        first, second = 2 * self.candidates.whole, 2 * self.candidates.part + flipped  # odd: the flipped image
        fits_cache = len(np.unique(np.concatenate([first[rows], second[rows]]))) <= _MAX_CACHED
        for block in _chunks(rows, max(1, len(rows)) if fits_cache else _MAX_CACHED // 2):
            needed, positions = np.unique(np.concatenate([first[block], second[block]]), return_inverse=True)
            cached = ImageDetails.join(list(pool.map(self._details_of, _chunks(needed))))
            a, b = positions[: len(block)], positions[len(block) :]
            agreed = pool.map(lambda x, y, of=cached: correlate_details(of.take(x), of.take(y)), _chunks(a), _chunks(b))
            self.scores[block] = np.concatenate(list(agreed))

    def compare_parts(self, rows: NDArray[np.int64]) -> None:
        """Score parts at their candidate windows."""
        whole, part = self._images(rows)
        self.scores[rows] = correlate_details(details(whole, self.boxes[rows]), details(part))

    def register(self, rows: NDArray[np.int64]) -> None:
        """Register parts coarsely by gray values."""
        self.proposals[rows], self.residual[rows] = align(*self._images(rows), self.boxes[rows], 0)

    def fit(self, rows: NDArray[np.int64], level: int) -> None:
        """Refine the proposals and keep boxes whose details agree better."""
        whole, part = self._images(rows)
        self.proposals[rows], _ = align(whole, part, self.proposals[rows], level)
        better = correlate_details(details(whole, self.proposals[rows]), details(part))
        gains = better > self.scores[rows] + _MIN_GAIN
        self.scores[rows[gains]], self.boxes[rows[gains]] = better[gains], self.proposals[rows[gains]]

    def _images(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        part = self.thumbnails[self.candidates.part[rows]]
        flipped = self.candidates.is_flipped[rows]
        part[flipped] = part[flipped][:, :, ::-1]
        return self.thumbnails[self.candidates.whole[rows]], part

    def _details_of(self, numbers: NDArray[np.int64]) -> ImageDetails:
        images = self.thumbnails[numbers // 2]
        turned = numbers % 2 == 1
        images[turned] = images[turned][:, :, ::-1]
        return details(images)


@contextmanager
def _one_blas_thread() -> Iterator[bool]:
    """Limit BLAS to one thread: worker threads already use all cores.

    Yields False where that is not possible; threads of both kinds would then wait for each other.
    """
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        yield False
        return
    with threadpool_limits(1, user_api="blas"):
        yield True


def _highest(rows: NDArray[np.int64], scores: NDArray[np.floating], most: float) -> NDArray[np.int64]:
    """Return the rows with the highest scores (one score per row), in their order."""
    return np.sort(rows[np.argsort(-scores)][: int(most) + 100])


def _chunks(rows: NDArray[np.int64], size: int = _CHUNK) -> list[NDArray[np.int64]]:
    return [rows[s : s + size] for s in range(0, len(rows), size)]


def _compress(embeddings: NDArray[np.float32], size: int = 64) -> NDArray[np.float32]:
    """Return (N, 64) unit rows that nearly preserve the angles of centered embeddings (random projection)."""
    centered = np.nan_to_num(embeddings - np.nanmean(embeddings, axis=0))
    if centered.shape[1] > size:
        rng = np.random.default_rng(0)
        centered = centered @ rng.standard_normal((centered.shape[1], size)).astype(np.float32)
    length = np.linalg.norm(centered, axis=1, keepdims=True)
    return np.where(length > 1e-9, centered / np.maximum(length, 1e-9), 0).astype(np.float32)


def nearest(
    queries: NDArray[np.float32],
    query_owner: NDArray[np.int64],
    entries: NDArray[np.float32],
    entry_owner: NDArray[np.int64],
    *,
    count: int,
    least: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest entries of other owners for each query, by cosine.

    Of many entries, each is assigned to one of about sqrt(E) cells around randomly chosen ones, and a query searches
    only its nearest cells: 50,000 images take seconds instead of minutes.

    Args:
        queries: (Q, D) rows of length 1 or 0.
        query_owner: (Q,) owner of each query; a query never matches entries of its own owner.
        entries: (E, D) rows of length 1 or 0.
        entry_owner: (E,) owner of each entry.
        count: Maximum number of matches per query.
        least: Minimum cosine of a match.

    Returns:
        (query, entry, cosine) of the matches, each (M,), best first for each query.
    """
    matches: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    if len(entries) <= _ALL_PAIRS:
        every = np.arange(len(entries))
        for start in range(0, len(queries), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(queries)))
            matches.append(_best(queries, query_owner, rows, entries, entry_owner, every, count, least))
    else:
        rng = np.random.default_rng(0)
        num_cells = int(np.sqrt(len(entries)))
        centers = entries[np.sort(rng.choice(len(entries), num_cells, replace=False))]
        cell_of = _top_cells(entries, centers, 1)[:, 0]
        order = np.argsort(cell_of, kind="stable")
        ends = np.searchsorted(cell_of[order], np.arange(num_cells + 1))
        probes = _top_cells(queries, centers, min(_PROBES, num_cells))
        cell_queries = np.argsort(probes.ravel(), kind="stable")
        cell_ends = np.searchsorted(probes.ravel()[cell_queries], np.arange(num_cells + 1))
        for cell in range(num_cells):
            inside = order[ends[cell] : ends[cell + 1]]
            owners = cell_queries[cell_ends[cell] : cell_ends[cell + 1]] // probes.shape[1]
            for start in range(0, len(owners), _ROWS):
                rows = owners[start : start + _ROWS]
                matches.append(_best(queries, query_owner, rows, entries, entry_owner, inside, count, least))
    if not matches:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    query, entry, cosine = (np.concatenate(parts) for parts in zip(*matches, strict=True))
    order = np.lexsort((-cosine, query))
    query, entry, cosine = query[order], entry[order], cosine[order]
    first = np.searchsorted(query, query)  # position of each query's first match
    keep = np.arange(len(query)) - first < count
    return query[keep], entry[keep], cosine[keep]


def _best(
    queries: NDArray[np.float32],
    query_owner: NDArray[np.int64],
    rows: NDArray[np.int64],
    entries: NDArray[np.float32],
    entry_owner: NDArray[np.int64],
    inside: NDArray[np.int64],
    count: int,
    least: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the best `count` of some entries for some queries."""
    if not len(inside) or not len(rows):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    cosine = queries[rows] @ entries[inside].T  # (n, m)
    cosine[query_owner[rows][:, None] == entry_owner[inside][None, :]] = -1
    if cosine.shape[1] > count:
        positions = np.argpartition(cosine, -count, axis=1)[:, -count:]
        cosine = np.take_along_axis(cosine, positions, axis=1)
    else:
        positions = np.broadcast_to(np.arange(cosine.shape[1]), cosine.shape)
    row, column = np.nonzero(cosine >= least)
    return rows[row], inside[positions[row, column]], cosine[row, column]


def _top_cells(vectors: NDArray[np.float32], centers: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return (N, count) nearest centers of each vector."""
    out = np.empty((len(vectors), count), dtype=np.int64)
    for start in range(0, len(vectors), 4096):
        cosine = vectors[start : start + 4096] @ centers.T
        if count == 1:
            out[start : start + 4096, 0] = cosine.argmax(axis=1)
        else:
            out[start : start + 4096] = np.argpartition(cosine, -count, axis=1)[:, -count:]
    return out
