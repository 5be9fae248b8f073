"""Compute activations of views in the background, in the order in which training needs them.

A reader waits for exactly the rows it needs. Rows that cannot be stored (full disk) are held in memory up to a
limit; the rest are recomputed on every request.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError
from headstart.features.engines import BATCH, Engine
from headstart.preprocessing.augmentation import Augment, make_view, view_rng
from headstart.preprocessing.image_spec import ImageError, ImageSpec, normalize, read_bytes
from headstart.store.arrays import ArrayRows
from headstart.store.cache import row_key
from headstart.utils.system import available_cores

__all__ = ["PLAIN", "ViewActivations", "ViewJob", "ViewSet", "check_unchanged", "known_image", "view_name"]

PLAIN = 0
"""Number of the plain view: the image itself, as in prediction."""

MakeView = Callable[[bytes, ImageSpec, Augment, np.random.Generator | None], NDArray[np.uint8]]
"""Map the bytes of a file to the pixels of a view; without a generator, of the plain view."""

_SHARD_ROWS = 128
_HELD_BYTES = 512 << 20  # rows in memory if the disk refuses them


def view_name(augment: Augment, seed: int, view: int) -> str:
    """Return a view's part of the row key: everything besides the file that determines its pixels."""
    return "plain" if view == PLAIN or augment.is_plain else f"{augment.to_text()}/{seed}/{view}"


@contextmanager
def known_image(name: str) -> Iterator[None]:
    """Convert read errors of images that were readable before.

    Raises:
        DataError: The image is no longer readable.
    """
    try:
        yield
    except ImageError as error:
        raise DataError(f"`{name}` can no longer be read: {error.detail}.") from error


def check_unchanged(data: bytes, digest: bytes, name: str) -> None:
    """Check that the bytes of a file have the known sha256.

    Raises:
        DataError: The file has changed.
    """
    if hashlib.sha256(data).digest() != digest:
        raise DataError(f"`{name}` was changed during training.", hint="train again")


@dataclass(frozen=True)
class ViewSet:
    """Views of one dataset: its images and what varies them.

    Attributes:
        paths: N files.
        digests: N digests of their content, hex; a file that has changed since raises an error.
        names: File names in messages.
        augment: Augmentation strengths.
        seed: Random seed of the views.
    """

    paths: Sequence[str]
    digests: Sequence[str]
    names: Sequence[str]
    augment: Augment
    seed: int = 0


@dataclass(frozen=True)
class ViewJob:
    """A row to compute."""

    sample: int
    view: int


class ViewActivations:
    """Rows of (sample, view) pairs of one dataset.

    Args:
        images: The images and their augmentation.
        engine: The frozen prefix; called from several threads.
        spec: The preprocessing specification.
        space: Cache of the rows.
        num_threads: Worker threads; one per core by default.
        progress: Called with (done, total).
        make: Creates the pixels of a view, as `augmentation.make_view`.
        batch: Images per call of the engine; each worker holds that many in memory.
    """

    def __init__(
        self,
        images: ViewSet,
        engine: Engine,
        spec: ImageSpec,
        space: ArrayRows,
        *,
        num_threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        make: MakeView = make_view,
        batch: int = BATCH,
    ) -> None:
        self.space = space
        space.shard_rows, space.held_bytes = _SHARD_ROWS, _HELD_BYTES
        self.images = images
        self.spec = spec
        self._make_view, self._batch = make, batch
        self.num_made = 0
        self._engine = engine
        self._digests = [bytes.fromhex(d) for d in images.digests]
        self._keys: dict[tuple[int, int], bytes] = {}
        self._progress = progress
        self._threads = max(1, num_threads or available_cores())
        self._pool: ThreadPoolExecutor | None = None
        self._changed = threading.Condition()
        self._waiting: set[bytes] = set()  # requested and not yet computed
        self._error: BaseException | None = None
        self._num_requested = 0

    def key(self, sample: int, view: int) -> bytes:
        """Return the key of a row; without augmentation all views are the plain view."""
        pair = (sample, PLAIN if self.images.augment.is_plain else view)
        if pair not in self._keys:
            name = view_name(self.images.augment, self.images.seed, pair[1])
            self._keys[pair] = row_key(self._digests[sample], name)
        return self._keys[pair]

    def is_there(self, sample: int, view: int) -> bool:
        """Return whether a row is already computed."""
        return self.key(sample, view) in self.space

    def prepare(self, pairs: Sequence[tuple[int, int]]) -> int:
        """Start computing rows in the background, in this order; returns how many are missing."""
        jobs = []
        with self._changed:
            for sample, view in pairs:
                key = self.key(sample, view)
                if key in self._waiting or self.is_there(sample, view):
                    continue
                self._waiting.add(key)
                jobs.append(ViewJob(sample, view))
            self._num_requested += len(jobs)
        if jobs and self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="views")
        for start in range(0, len(jobs), self._batch):
            assert self._pool is not None
            self._pool.submit(self._run, jobs[start : start + self._batch])
        return len(jobs)

    def rows(self, samples: Sequence[int] | NDArray[np.int64], views: Sequence[int]) -> NDArray[np.floating]:
        """Return (B, row_size) rows; waits for rows in progress and computes those not requested before.

        Raises:
            DataError: An image is no longer readable, or has changed.
        """
        out = np.empty((len(samples), self.space.layout.row_size), dtype=self.space.layout.dtype)
        missing = []
        for i, (sample, view) in enumerate(zip(samples, views, strict=True)):
            row = self._find(self.key(int(sample), int(view)))
            if row is None:
                missing.append(i)
            else:
                out[i] = row
        for start in range(0, len(missing), self._batch):
            part = missing[start : start + self._batch]
            jobs = [ViewJob(int(samples[i]), int(views[i])) for i in part]
            made = self._make(jobs)
            out[part] = made
            with self._changed:
                self._keep(jobs, made)
        return out

    def close(self) -> None:
        """Stop computing rows; computed rows are kept."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        with self._changed:
            self._num_requested -= len(self._waiting)
            self._waiting.clear()
        self.space.flush()

    # -- workers

    def _find(self, key: bytes) -> NDArray[np.floating] | None:
        """Return a row, waiting for it where it was requested."""
        with self._changed:
            if key in self._waiting:
                self._changed.wait_for(lambda: key not in self._waiting or self._error is not None)
            if self._error is not None:
                raise self._error
        return self.space.get(key)

    def _run(self, jobs: list[ViewJob]) -> None:
        if self._error is not None:
            return
        try:
            rows = self._make(jobs)
        except BaseException as error:  # passed to callers that wait for these rows
            with self._changed:
                self._error = error
                self._changed.notify_all()
            return
        with self._changed:
            self._keep(jobs, rows)
            done = self._num_requested - len(self._waiting)
            self._changed.notify_all()
        if self._progress:
            self._progress(done, self._num_requested)

    def _make(self, jobs: Sequence[ViewJob]) -> NDArray[np.floating]:
        pixels = []
        for job in jobs:
            digest = self._digests[job.sample]
            with known_image(self.images.names[job.sample]):
                data = read_bytes(self.images.paths[job.sample])
                check_unchanged(data, digest, self.images.names[job.sample])
                rng = None if job.view == PLAIN else view_rng(digest, job.view, self.images.seed)
                pixels.append(self._make_view(data, self.spec, self.images.augment, rng))
        parts = self._engine.run(normalize(np.stack(pixels), self.spec))
        return self.space.layout.pack(parts)

    def _keep(self, jobs: Sequence[ViewJob], rows: NDArray[np.floating]) -> None:
        """Store computed rows; the caller holds the lock."""
        keys = [self.key(job.sample, job.view) for job in jobs]
        self.space.add(dict(zip(keys, rows, strict=True)))
        self._waiting.difference_update(keys)
        self.num_made += len(jobs)
        if not self._waiting:
            self.space.flush()
