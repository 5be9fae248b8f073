"""Extract features from files: every image is read once, looked up by content, and embedded only if not cached.

A worker processes whole batches (read, digest, look up, decode, run), so there are no queues between stages and
nothing waits except for the cores.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from headstart.data.image_scan import ImageScanner
from headstart.features.engines import BATCH, Engine
from headstart.preprocessing.image_spec import ImageError, ImageSpec, normalize, read_bytes, read_image
from headstart.store.arrays import ArrayRows
from headstart.store.cache import row_key
from headstart.types.records import Features, Problem
from headstart.utils.system import available_cores

__all__ = ["Progress", "embed_files"]

Progress = Callable[[int, int], None]
"""Called with (images done, total), from a worker thread, at most a few times per second."""


_SHARD_ROWS = (16, 512)  # minimum and maximum rows per shard


class _Work:
    """State shared by the workers; everything under one lock."""

    def __init__(self, count: int, names: Sequence[str], rows: ArrayRows | None, scanner: ImageScanner | None) -> None:
        self.names = names
        self.rows = rows
        self.places = {} if rows is None else rows.layout.slices
        self.scanner = scanner
        self.blocks: dict[str, NDArray[np.float32]] = {}
        self.is_ok = np.zeros(count, dtype=bool)
        self.digests: list[bytes] = [b""] * count
        self.problems: dict[int, Problem] = {}
        self.lock = threading.Lock()
        self.num_done = 0
        self.num_computed = 0
        self.last_report = 0.0

    def store(self, i: int, rows: Mapping[str, NDArray[np.float32]]) -> None:
        """Store the (D,) rows of one image; the caller holds the lock."""
        if not self.blocks:
            count = len(self.digests)
            self.blocks = {n: np.full((count, r.shape[0]), np.nan, dtype=np.float32) for n, r in rows.items()}
        for name, row in rows.items():
            self.blocks[name][i] = row
        self.is_ok[i] = True


def embed_files(
    paths: Sequence[str | bytes],
    engine: Engine,
    spec: ImageSpec,
    *,
    names: Sequence[str] | None = None,
    rows: ArrayRows | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
    scanner: ImageScanner | None = None,
) -> tuple[Features, int]:
    """Extract features with a frozen network.

    Args:
        paths: N files, or the bytes of files.
        engine: The network.
        spec: The preprocessing specification.
        names: File names in messages; the paths by default.
        rows: Cached features of the engine; None computes everything.
        num_threads: Worker threads; one per core by default.
        progress: Progress callback.
        scanner: Scans every file, decoded once for both.

    Returns:
        The features in the order of `paths`, and the number of images that were computed, not cached.
        Unreadable images have NaN rows and are listed in `problems`.
    """
    shown_names = names or [str(p) if isinstance(p, str) else "image" for p in paths]
    work = _Work(len(paths), shown_names, rows, scanner)
    size = (BATCH if rows is None or len(rows) == 0 else 4 * BATCH) if len(paths) > BATCH else 1
    starts = range(0, len(paths), size)
    if rows is not None:
        rows.shard_rows = min(max(len(paths) // 20, _SHARD_ROWS[0]), _SHARD_ROWS[1])

    def step(start: int) -> None:
        _embed_batch(range(start, min(start + size, len(paths))), paths, engine, spec, work)
        with work.lock:
            now = time.monotonic()
            if progress and (now - work.last_report > 0.2 or work.num_done == len(paths)):
                work.last_report = now
                progress(work.num_done, len(paths))

    pool = ThreadPoolExecutor(max(1, num_threads or available_cores()), thread_name_prefix="embed")
    try:
        for future in [pool.submit(step, start) for start in starts]:
            future.result()
    finally:  # also after Ctrl-C: completed work is kept
        pool.shutdown(wait=True, cancel_futures=True)
        if rows is not None:
            rows.flush()
    features = Features(
        blocks=work.blocks,
        digests=tuple(digest.hex() for digest in work.digests),
        problems=tuple(work.problems[i] for i in sorted(work.problems)),
        is_ok=work.is_ok,
    )
    return features, work.num_computed


def _read(source: str | bytes, i: int, scanner: ImageScanner | None) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return read_bytes(source)
    except ImageError as error:
        if scanner is not None:
            scanner.mark_unreadable(i, error)
        raise


def _embed_batch(positions: range, paths: Sequence[str | bytes], engine: Engine, spec: ImageSpec, work: _Work) -> None:
    pixels: list[NDArray[np.uint8]] = []
    new: list[int] = []
    for i in positions:
        try:
            data = _read(paths[i], i, work.scanner)
            digest = hashlib.sha256(data).digest()
            cached = work.rows.get(row_key(digest, "plain")) if work.rows is not None else None
            image = None
            if work.scanner is not None:
                image = work.scanner.scan(i, data, digest.hex(), spec if cached is None else None)
            if cached is None:
                image = read_image(data, spec) if image is None else image
                pixels.append(image)
                new.append(i)
        except ImageError as error:
            with work.lock:
                work.problems[i] = Problem(work.names[i], error.kind, error.detail)
            continue
        with work.lock:
            work.digests[i] = digest
            if cached is not None:
                work.store(i, {name: cached[place] for name, place in work.places.items()})
    for first in range(0, len(new), BATCH):
        chunk = new[first : first + BATCH]
        outputs = engine.run(normalize(np.stack(pixels[first : first + BATCH]), spec))
        with work.lock:
            for row, i in enumerate(chunk):
                work.store(i, {name: block[row] for name, block in outputs.items()})
            work.num_computed += len(chunk)
        if work.rows is not None:
            keys = [row_key(work.digests[i], "plain") for i in chunk]
            work.rows.add(dict(zip(keys, work.rows.layout.pack(outputs), strict=True)))
    with work.lock:
        work.num_done += len(positions)
