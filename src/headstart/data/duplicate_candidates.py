"""Finds pairs of images that may be copies, and says how well each pair agrees.

Each image is compared with the few that its descriptions point to, and only the
likeliest pairs are laid over each other, so the work grows with the number of images and not of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from headstart.data.descriptors import FLIP, HALVES, WINDOWS, Whitener, describe_thumbnails
from headstart.data.image_registration import ImageDetails, align, correlate_details, details
from headstart.data.nearest_neighbors import nearest

__all__ = ["CERTAIN", "Candidates", "compare_candidates", "find_candidates"]

_LEAST_COSINE = 0.6  # of descriptions of whole images: a watermark lowers it
_LEAST_HALF = 0.9  # of descriptions of one half
_LEAST_MOVED = 0.8  # the same through a window or mirrored, where there are many more to pass by chance
_CANDIDATES = 3  # each image is compared with so many, and as many mirrored ones
_WORTH_ALIGNING = 0.5  # agreement from which on a pair is laid over each other, and ...
_WORTH_REFINING = 1.2  # ... from which on as exactly as can be
CERTAIN = 3.2  # such a pair needs neither
_LAID_OVER = 1.0  # pairs that are laid over each other on a coarse grid, for each image, ...
_BY_DETAILS, _BY_GREY = 0.1, 0.2  # ... of these on a finer one, the likeliest by what agrees before and after, ...
_REFINED = 0.05  # ... and on the finest
_CLEARLY_BETTER = 0.05  # in agreement
_MOVED = 0.008  # share of the side by which a box must differ from the whole
_CHUNK = 128
_KEPT_DETAILS = 4096  # images whose details are held at a time: 28 kB each


@dataclass
class Candidates:
    """Pairs under suspicion: `part` may be a copy of the window of `whole`."""

    part: NDArray[np.int64]
    whole: NDArray[np.int64]
    window: NDArray[np.int64]
    is_mirrored: NDArray[np.bool_]


def find_candidates(thumbs: NDArray[np.uint8], embeddings: NDArray[np.float32] | None, threads: int = 1) -> Candidates:
    """Return the few nearest of each image, whole or through a window, mirrored or not."""
    count = len(thumbs)
    plain = describe_thumbnails(thumbs)
    whiten = Whitener(plain)
    every = np.arange(count)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        windows = np.concatenate(list(pool.map(lambda window: whiten(describe_thumbnails(thumbs, window)), WINDOWS)))
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
        described = describe_thumbnails(thumbs, half)
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
    keep = keep[np.argsort(part[keep], kind="stable")]  # neighbors in the list share images
    return Candidates(part[keep], whole[keep], window[keep], mirrored[keep])


def compare_candidates(
    thumbs: NDArray[np.uint8], candidates: Candidates, threads: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return (M,) agreement of each pair's details, and whether one is a part of the other."""
    pairs = _Pairs(thumbs, candidates)
    with _one_blas_thread() as is_single, ThreadPoolExecutor(max(1, threads if is_single else 1)) as pool:
        is_part = candidates.window > 0
        pairs.compare_whole(np.flatnonzero(~is_part), pool)
        list(pool.map(pairs.compare_parts, _chunks(np.flatnonzero(is_part))))
        for rows in (is_part, ~is_part):
            worth = pairs.worth(rows, _WORTH_ALIGNING)
            worth = _likeliest(worth, pairs.scores[worth], _LAID_OVER * len(thumbs))
            list(pool.map(pairs.lay_over, _chunks(worth)))
            # What was cropped agrees in nothing until it lies right, and then also gray values agree.
            likely = np.union1d(
                _likeliest(worth, pairs.scores[worth], _BY_DETAILS * len(thumbs)),
                _likeliest(worth, -pairs.left_over[worth], _BY_GREY * len(thumbs)),
            )
            list(pool.map(partial(pairs.fit, level=1), _chunks(likely)))
        worth = pairs.worth(pairs.is_moved(), _WORTH_REFINING)
        worth = _likeliest(worth, pairs.scores[worth], _REFINED * len(thumbs))
        list(pool.map(partial(pairs.fit, level=2), _chunks(worth)))
    return pairs.scores, pairs.is_moved()


class _Pairs:
    """Pairs while they are compared: each has its score, and where its part lies in its whole."""

    def __init__(self, thumbs: NDArray[np.uint8], candidates: Candidates) -> None:
        self.thumbs, self.candidates = thumbs, candidates
        self.scores = np.zeros(len(candidates.part), dtype=np.float32)
        self.boxes = np.array(WINDOWS)[candidates.window]
        self.guesses = self.boxes.copy()  # where a part seems to lie, until details say so
        self.left_over = np.full(len(self.scores), np.inf)

    def worth(self, rows: NDArray[np.bool_], least: float) -> NDArray[np.int64]:
        """Return which of them deserve a closer look."""
        return np.flatnonzero(rows & (self.scores >= least) & (self.scores < CERTAIN))

    def is_moved(self) -> NDArray[np.bool_]:
        """Return (M,) whether the part is less, or more, than the whole."""
        return np.asarray(np.abs(self.boxes - WINDOWS[0]).max(axis=1) > _MOVED)

    def compare_whole(self, rows: NDArray[np.int64], pool: ThreadPoolExecutor) -> None:
        """Scores pairs as they are; the details of an image are worked out once for many of its pairs."""
        mirrored = self.candidates.is_mirrored.astype(np.int64)
        first, second = 2 * self.candidates.whole, 2 * self.candidates.part + mirrored  # odd: the mirror image
        is_few = len(np.unique(np.concatenate([first[rows], second[rows]]))) <= _KEPT_DETAILS
        for block in _chunks(rows, max(1, len(rows)) if is_few else _KEPT_DETAILS // 2):
            needed, place = np.unique(np.concatenate([first[block], second[block]]), return_inverse=True)
            known = ImageDetails.join(list(pool.map(self._details_of, _chunks(needed))))
            a, b = place[: len(block)], place[len(block) :]
            agreed = pool.map(lambda x, y, of=known: correlate_details(of.take(x), of.take(y)), _chunks(a), _chunks(b))
            self.scores[block] = np.concatenate(list(agreed))

    def compare_parts(self, rows: NDArray[np.int64]) -> None:
        """Scores parts where they are thought to lie."""
        whole, part = self._images(rows)
        self.scores[rows] = correlate_details(details(whole, self.boxes[rows]), details(part))

    def lay_over(self, rows: NDArray[np.int64]) -> None:
        """Find roughly where parts lie, by gray values."""
        self.guesses[rows], self.left_over[rows] = align(*self._images(rows), self.boxes[rows], 0)

    def fit(self, rows: NDArray[np.int64], level: int) -> None:
        """Go on from the guesses and keeps a place where details agree better."""
        whole, part = self._images(rows)
        self.guesses[rows], _ = align(whole, part, self.guesses[rows], level)
        better = correlate_details(details(whole, self.guesses[rows]), details(part))
        gains = better > self.scores[rows] + _CLEARLY_BETTER
        self.scores[rows[gains]], self.boxes[rows[gains]] = better[gains], self.guesses[rows[gains]]

    def _images(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        part = self.thumbs[self.candidates.part[rows]]
        mirrored = self.candidates.is_mirrored[rows]
        part[mirrored] = part[mirrored][:, :, ::-1]
        return self.thumbs[self.candidates.whole[rows]], part

    def _details_of(self, numbers: NDArray[np.int64]) -> ImageDetails:
        images = self.thumbs[numbers // 2]
        turned = numbers % 2 == 1
        images[turned] = images[turned][:, :, ::-1]
        return details(images)


@contextmanager
def _one_blas_thread() -> Iterator[bool]:
    """Keep numpy's products of small matrices in the calling thread: our own threads share the cores already.

    Gives False where that cannot be had; threads of both kinds would then wait for one another.
    """
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        yield False
        return
    with threadpool_limits(1, user_api="blas"):
        yield True


def _likeliest(rows: NDArray[np.int64], scores: NDArray[np.floating], most: float) -> NDArray[np.int64]:
    """Those of the highest scores (one score a row), in their order."""
    return np.sort(rows[np.argsort(-scores)][: int(most) + 100])


def _chunks(rows: NDArray[np.int64], size: int = _CHUNK) -> list[NDArray[np.int64]]:
    return [rows[s : s + size] for s in range(0, len(rows), size)]


def _compress(embeddings: NDArray[np.float32], size: int = 64) -> NDArray[np.float32]:
    """Return (N, 64) unit rows that keep the angles of centered embeddings nearly (random projection)."""
    centered = np.nan_to_num(embeddings - np.nanmean(embeddings, axis=0))
    if centered.shape[1] > size:
        rng = np.random.default_rng(0)
        centered = centered @ rng.standard_normal((centered.shape[1], size)).astype(np.float32)
    length = np.linalg.norm(centered, axis=1, keepdims=True)
    return np.where(length > 1e-9, centered / np.maximum(length, 1e-9), 0).astype(np.float32)
