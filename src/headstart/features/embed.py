"""Files to features: every picture is read once, looked up by content, and embedded only if unknown.

The one decision: a worker does everything for its batch (read, digest, look up, decode, run), so there
are no queues between stages and nothing waits but for the cores.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.features.cache import FeatureSpace
from headstart.features.engine import BATCH, Engine
from headstart.machine import available_cores
from headstart.pixels.spec import PictureError, PixelSpec, normalise, read_bytes, read_picture
from headstart.records import Features, Problem

__all__ = ["Onlooker", "Progress", "embed_files"]

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all), from a worker thread, at most a few times a second."""


class Onlooker(Protocol):
    """Looks at each file while it is in memory anyway (`data.looks.Looker`)."""

    def see(self, i: int, data: bytes, digest: str, spec: PixelSpec | None = None) -> NDArray[np.uint8] | None:
        """Told the bytes of file `i`; with a spec it gives what `read_picture` would, or raises what it would."""

    def fail(self, i: int, error: PictureError) -> None:
        """Told that file `i` cannot even be opened."""


_SHARD_ROWS = (16, 512)  # least and most rows a shard
_SHARD_SECONDS = 10.0  # a killed run loses at most so much work


class _Work:
    """What the workers share; everything under one lock."""

    def __init__(self, count: int, names: Sequence[str], space: FeatureSpace | None, onlooker: Onlooker | None) -> None:
        self.names = names
        self.space = space
        self.onlooker = onlooker
        self.blocks: dict[str, NDArray[np.float32]] = {}
        self.is_ok = np.zeros(count, dtype=bool)
        self.digests: list[bytes] = [b""] * count
        self.problems: dict[int, Problem] = {}
        self.fresh: list[int] = []
        self.lock = threading.Lock()
        self.num_done = 0
        self.num_computed = 0
        self.last_write = time.monotonic()
        self.last_report = 0.0

    def store(self, i: int, rows: Mapping[str, NDArray[np.float32]]) -> None:
        """Puts one picture's (D,) rows in their place; the caller holds the lock."""
        if not self.blocks:
            count = len(self.digests)
            self.blocks = {n: np.full((count, r.shape[0]), np.nan, dtype=np.float32) for n, r in rows.items()}
        for name, row in rows.items():
            self.blocks[name][i] = row
        self.is_ok[i] = True

    def flush(self) -> None:
        """Writes what is new as one shard; the caller holds the lock."""
        self.last_write = time.monotonic()
        fresh, self.fresh = self.fresh, []
        if self.space is not None and fresh:
            unique = list({self.digests[i]: i for i in fresh}.values())
            self.space.put([self.digests[i] for i in unique], {n: b[unique] for n, b in self.blocks.items()})


def embed_files(
    paths: Sequence[str | bytes],
    engine: Engine,
    spec: PixelSpec,
    *,
    names: Sequence[str] | None = None,
    space: FeatureSpace | None = None,
    is_mirrored: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    onlooker: Onlooker | None = None,
) -> tuple[Features, int]:
    """Embeds pictures with a frozen network.

    Args:
        paths: N files, or the bytes of files.
        engine: The network.
        spec: The pixel contract.
        names: How files are called in messages; the paths by default.
        space: Where features are looked up and kept; None computes everything.
        is_mirrored: Whether pictures are flipped left to right (the space must be that view's).
        threads: Worker threads; one a core by default.
        progress: Told how far it is.
        onlooker: Shown every file, decoded once for both; not with `is_mirrored`.

    Returns:
        The features in the order of `paths`, and how many pictures were computed rather than found.
        Pictures that cannot be read have NaN rows and stand in `problems`.
    """
    called = names or [str(p) if isinstance(p, str) else "picture" for p in paths]
    work = _Work(len(paths), called, space, None if is_mirrored else onlooker)
    size = (BATCH if space is None or len(space) == 0 else 4 * BATCH) if len(paths) > BATCH else 1
    starts = range(0, len(paths), size)
    most = min(max(len(paths) // 20, _SHARD_ROWS[0]), _SHARD_ROWS[1])

    def step(start: int) -> None:
        _embed_batch(range(start, min(start + size, len(paths))), paths, engine, spec, is_mirrored, work)
        with work.lock:
            if len(work.fresh) >= most or (work.fresh and time.monotonic() - work.last_write > _SHARD_SECONDS):
                work.flush()
            now = time.monotonic()
            if progress and (now - work.last_report > 0.2 or work.num_done == len(paths)):
                work.last_report = now
                progress(work.num_done, len(paths))

    pool = ThreadPoolExecutor(max(1, threads or available_cores()), thread_name_prefix="embed")
    try:
        for future in [pool.submit(step, start) for start in starts]:
            future.result()
    finally:  # also after Ctrl-C: what is done is kept
        pool.shutdown(wait=True, cancel_futures=True)
        with work.lock:
            work.flush()
    if space is not None:
        space.merge()
    features = Features(
        blocks=work.blocks,
        digests=tuple(digest.hex() for digest in work.digests),
        problems=tuple(work.problems[i] for i in sorted(work.problems)),
        is_ok=work.is_ok,
    )
    return features, work.num_computed


def _read(source: str | bytes, i: int, onlooker: Onlooker | None) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return read_bytes(source)
    except PictureError as error:
        if onlooker is not None:
            onlooker.fail(i, error)
        raise


def _embed_batch(
    positions: range, paths: Sequence[str | bytes], engine: Engine, spec: PixelSpec, is_mirrored: bool, work: _Work
) -> None:
    pixels, kept = [], []
    for i in positions:
        try:
            data = _read(paths[i], i, work.onlooker)
            digest = hashlib.sha256(data).digest()
            known = work.space.get(digest) if work.space is not None else None
            picture = None
            if work.onlooker is not None:
                picture = work.onlooker.see(i, data, digest.hex(), spec if known is None else None)
            if known is None:
                picture = read_picture(data, spec) if picture is None else picture
                pixels.append(picture[:, ::-1] if is_mirrored else picture)
                kept.append(i)
        except PictureError as error:
            with work.lock:
                work.problems[i] = Problem(work.names[i], error.kind, error.detail)
            continue
        with work.lock:
            work.digests[i] = digest
            if known is not None:
                work.store(i, known)
    for first in range(0, len(kept), BATCH):
        chunk = kept[first : first + BATCH]
        outputs = engine.run(normalise(np.stack(pixels[first : first + BATCH]), spec))
        with work.lock:
            for row, i in enumerate(chunk):
                work.store(i, {name: block[row] for name, block in outputs.items()})
            work.fresh.extend(chunk)
            work.num_computed += len(chunk)
    with work.lock:
        work.num_done += len(positions)
