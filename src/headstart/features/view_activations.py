"""Makes rows of the boundary cache in the background, in the order in which training will ask for them.

Who needs a row waits for exactly that row and never gets another.  A row that cannot
be kept (full disk) is held in memory, and beyond that is made again each time it is asked for.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError
from headstart.features.activation_cache import ActivationPartition, row_key
from headstart.features.engines import BATCH, Engine
from headstart.preprocessing.augmentation import Augment, make_view, view_rng
from headstart.preprocessing.image_spec import ImageError, ImageSpec, normalize, read_bytes
from headstart.system import available_cores

__all__ = ["PLAIN", "ViewActivations", "ViewJob", "check_unchanged", "known_image", "view_name"]

PLAIN = 0
"""Number of the view that is the image itself, as prediction sees it."""

MakeView = Callable[[bytes, ImageSpec, Augment, np.random.Generator | None], NDArray[np.uint8]]
"""From the bytes of a file to the pixels of a view; without a generator, of the image itself."""

_SHARD_ROWS = 128
_SHARD_SECONDS = 10.0
_HELD_BYTES = 512 << 20  # rows in memory where the disk refuses them


def view_name(augment: Augment, seed: int, view: int) -> str:
    """Return what a view's row is kept under: all that decides its pixels besides the file."""
    return "plain" if view == PLAIN or augment.is_plain else f"{augment.to_text()}/{seed}/{view}"


@contextmanager
def known_image(name: str) -> Iterator[None]:
    """While inside, what cannot be read is an image that could be read before.

    Raises:
        DataError: It cannot be read now.
    """
    try:
        yield
    except ImageError as error:
        raise DataError(f"`{name}` could be read before and cannot be read now: {error.detail}.") from error


def check_unchanged(data: bytes, digest: bytes, name: str) -> None:
    """Refuse bytes of a file that are not those whose sha256 is known.

    Raises:
        DataError: They are others.
    """
    if hashlib.sha256(data).digest() != digest:
        raise DataError(f"`{name}` has changed while its model was being trained.", hint="train again")


@dataclass(frozen=True)
class ViewJob:
    """A row that is to be made."""

    sample: int
    view: int


class ViewActivations:
    """Rows of (sample, view) pairs of one data set.

    Args:
        paths: N files.
        digests: N digests of their content, hex; a file that has changed since is refused.
        names: How files are called in messages.
        engine: The frozen prefix; called from several threads.
        spec: The pixel contract.
        space: Where rows are kept.
        augment: How views differ from the image.
        seed: Of the views.
        threads: Workers; one a core by default.
        progress: Told (done, in all).
        make: Makes the pixels of a view, as `pixels.views.make_view` does.
        batch: Images a run of the engine; each worker holds that many in memory.
    """

    def __init__(
        self,
        paths: Sequence[str | bytes],
        digests: Sequence[str],
        names: Sequence[str],
        engine: Engine,
        spec: ImageSpec,
        space: ActivationPartition,
        augment: Augment,
        seed: int = 0,
        *,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        make: MakeView = make_view,
        batch: int = BATCH,
    ) -> None:
        self.space = space
        self.augment = augment
        self.spec = spec
        self._make_view, self._batch = make, batch
        self.num_made = 0
        self._paths, self._names, self._engine, self._seed = paths, names, engine, seed
        self._digests = [bytes.fromhex(d) for d in digests]
        self._keys: dict[tuple[int, int], bytes] = {}
        self._progress = progress
        self._threads = max(1, threads or available_cores())
        self._pool: ThreadPoolExecutor | None = None
        self._changed = threading.Condition()
        self._waiting: set[bytes] = set()  # asked for and not yet made
        self._fresh: OrderedDict[bytes, NDArray[np.floating]] = OrderedDict()  # made and not yet on the disk
        self._held: dict[bytes, NDArray[np.floating]] = {}  # made and refused by the disk
        self._error: BaseException | None = None
        self._last_write = time.monotonic()
        self._num_asked = 0

    def key(self, sample: int, view: int) -> bytes:
        """Return the key of a row; without augmentation all views are the image itself."""
        pair = (sample, PLAIN if self.augment.is_plain else view)
        if pair not in self._keys:
            name = view_name(self.augment, self._seed, pair[1])
            self._keys[pair] = row_key(self._digests[sample], name)
        return self._keys[pair]

    def is_there(self, sample: int, view: int) -> bool:
        """Return whether a row is made already."""
        key = self.key(sample, view)
        return key in self.space or key in self._fresh or key in self._held

    def prepare(self, pairs: Sequence[tuple[int, int]]) -> int:
        """Start making rows in the background, in this order; returns how many are missing."""
        jobs = []
        with self._changed:
            for sample, view in pairs:
                key = self.key(sample, view)
                if key in self._waiting or self.is_there(sample, view):
                    continue
                self._waiting.add(key)
                jobs.append(ViewJob(sample, view))
            self._num_asked += len(jobs)
        if jobs and self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="views")
        for start in range(0, len(jobs), self._batch):
            assert self._pool is not None
            self._pool.submit(self._run, jobs[start : start + self._batch])
        return len(jobs)

    def rows(self, samples: Sequence[int] | NDArray[np.int64], views: Sequence[int]) -> NDArray[np.floating]:
        """Return (B, row_size) rows; waits for those that are being made, makes those nobody has asked for.

        Raises:
            DataError: An image cannot be read any more, or has changed.
        """
        out = np.empty((len(samples), self.space.layout.row_size), dtype=self.space.layout.dtype)
        missing = []
        for i, (sample, view) in enumerate(zip(samples, views, strict=True)):
            row = self._find(self.key(int(sample), int(view)), is_waiting=True)
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
        """Stop making rows; what is made is kept."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        with self._changed:
            self._num_asked -= len(self._waiting)
            self._waiting.clear()
            self._write()

    # -- workers

    def _find(self, key: bytes, *, is_waiting: bool) -> NDArray[np.floating] | None:
        with self._changed:
            if is_waiting and key in self._waiting:
                self._changed.wait_for(lambda: key not in self._waiting or self._error is not None)
            self._raise()
            row = self._fresh.get(key)
            if row is None:
                row = self._held.get(key)
        return row if row is not None else self.space.get(key)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self, jobs: list[ViewJob]) -> None:
        if self._error is not None:
            return
        try:
            rows = self._make(jobs)
        except BaseException as error:  # handed to whoever waits for these rows
            with self._changed:
                self._error = error
                self._changed.notify_all()
            return
        with self._changed:
            self._keep(jobs, rows)
            done = self._num_asked - len(self._waiting)
            self._changed.notify_all()
        if self._progress:
            self._progress(done, self._num_asked)

    def _make(self, jobs: Sequence[ViewJob]) -> NDArray[np.floating]:
        pixels = []
        for job in jobs:
            digest = self._digests[job.sample]
            with known_image(self._names[job.sample]):
                source = self._paths[job.sample]
                data = source if isinstance(source, bytes) else read_bytes(source)
                check_unchanged(data, digest, self._names[job.sample])
                rng = None if job.view == PLAIN else view_rng(digest, job.view, self._seed)
                pixels.append(self._make_view(data, self.spec, self.augment, rng))
        parts = self._engine.run(normalize(np.stack(pixels), self.spec))
        return self.space.layout.pack(parts)

    def _keep(self, jobs: Sequence[ViewJob], rows: NDArray[np.floating]) -> None:
        """Take made rows in; the caller holds the lock."""
        for job, row in zip(jobs, rows, strict=True):
            key = self.key(job.sample, job.view)
            self._waiting.discard(key)
            self._fresh[key] = row
        self.num_made += len(jobs)
        is_due = time.monotonic() - self._last_write > _SHARD_SECONDS
        if len(self._fresh) >= _SHARD_ROWS or is_due or not self._waiting:
            self._write()

    def _write(self) -> None:
        """Move made rows to the disk, or holds what it refuses; the caller holds the lock."""
        self._last_write = time.monotonic()
        fresh, self._fresh = self._fresh, OrderedDict()
        if not fresh:
            return
        if not self.space.put(list(fresh), np.stack(list(fresh.values()))):
            room = _HELD_BYTES - len(self._held) * self.space.layout.row_bytes
            for key, row in fresh.items():
                room -= self.space.layout.row_bytes
                if room >= 0:
                    self._held[key] = row
