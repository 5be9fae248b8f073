"""Files to features: every picture is read once, looked up by content, and embedded only if unknown.

The one decision: a worker does everything for its batch (read, digest, look up, decode, run), so there
are no queues between stages and nothing waits but for the cores.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headstart.features.cache import FeatureSpace
from headstart.features.engine import BATCH, Engine
from headstart.machine import available_cores
from headstart.pixels.spec import PictureError, PixelSpec, normalise, read_bytes, read_picture
from headstart.records import Features, Problem

__all__ = ["Progress", "embed_files"]

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all), from a worker thread, at most a few times a second."""

_SHARD_ROWS = (16, 512)  # least and most rows a shard
_SHARD_SECONDS = 10.0  # a killed run loses at most so much work


@dataclass
class _Work:
    """What the workers share; everything under one lock."""

    names: Sequence[str]
    space: FeatureSpace | None
    rows: dict[int, dict[str, NDArray[np.float32]]] = field(default_factory=dict)
    digests: dict[int, bytes] = field(default_factory=dict)
    problems: dict[int, Problem] = field(default_factory=dict)
    fresh: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    num_done: int = 0
    num_computed: int = 0
    last_write: float = field(default_factory=time.monotonic)
    last_report: float = 0.0


def embed_files(
    paths: Sequence[str],
    engine: Engine,
    spec: PixelSpec,
    *,
    names: Sequence[str] | None = None,
    space: FeatureSpace | None = None,
    is_mirrored: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Features, int]:
    """Embeds pictures with a frozen network.

    Args:
        paths: N files.
        engine: The network.
        spec: The pixel contract.
        names: How files are called in messages; the paths by default.
        space: Where features are looked up and kept; None computes everything.
        is_mirrored: Whether pictures are flipped left to right (the space must be that view's).
        threads: Worker threads; one a core by default.
        progress: Told how far it is.

    Returns:
        The features in the order of `paths`, and how many pictures were computed rather than found.
        Pictures that cannot be read have NaN rows and stand in `problems`.
    """
    work = _Work(names=names or paths, space=space)
    size = (BATCH if space is None or len(space) == 0 else 4 * BATCH) if len(paths) > BATCH else 1
    starts = range(0, len(paths), size)
    most = min(max(len(paths) // 20, _SHARD_ROWS[0]), _SHARD_ROWS[1])

    def step(start: int) -> None:
        _embed_batch(range(start, min(start + size, len(paths))), paths, engine, spec, is_mirrored, work)
        with work.lock:
            if len(work.fresh) >= most or (work.fresh and time.monotonic() - work.last_write > _SHARD_SECONDS):
                _flush(work)
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
            _flush(work)
    if space is not None:
        space.merge()
    return _collect(work, len(paths)), work.num_computed


def _embed_batch(
    positions: range, paths: Sequence[str], engine: Engine, spec: PixelSpec, is_mirrored: bool, work: _Work
) -> None:
    pixels, kept = [], []
    for i in positions:
        try:
            data = read_bytes(paths[i])
            digest = hashlib.sha256(data).digest()
            known = work.space.get(digest) if work.space is not None else None
            if known is None:
                picture = read_picture(data, spec)
                pixels.append(picture[:, ::-1] if is_mirrored else picture)
                kept.append(i)
        except PictureError as error:
            with work.lock:
                work.problems[i] = Problem(work.names[i], error.kind, error.detail)
            continue
        with work.lock:
            work.digests[i] = digest
            if known is not None:
                work.rows[i] = known
    for first in range(0, len(kept), BATCH):
        chunk = kept[first : first + BATCH]
        outputs = engine.run(normalise(np.stack(pixels[first : first + BATCH]), spec))
        with work.lock:
            for row, i in enumerate(chunk):
                work.rows[i] = {name: np.array(block[row]) for name, block in outputs.items()}
            work.fresh.extend(chunk)
            work.num_computed += len(chunk)
    with work.lock:
        work.num_done += len(positions)


def _flush(work: _Work) -> None:
    """Writes what is new as one shard; the caller holds the lock."""
    work.last_write = time.monotonic()
    fresh, work.fresh = work.fresh, []
    if work.space is None or not fresh:
        return
    unique = list({work.digests[i]: i for i in fresh}.values())
    blocks = {name: np.stack([work.rows[i][name] for i in unique]) for name in work.rows[unique[0]]}
    work.space.put([work.digests[i] for i in unique], blocks)


def _collect(work: _Work, count: int) -> Features:
    blocks: dict[str, NDArray[np.float32]] = {}
    if work.rows:
        shapes = {name: row.shape[0] for name, row in next(iter(work.rows.values())).items()}
        blocks = {name: np.full((count, width), np.nan, dtype=np.float32) for name, width in shapes.items()}
        for i, rows in work.rows.items():
            for name, row in rows.items():
                blocks[name][i] = row
    return Features(
        blocks=blocks,
        digests=tuple(work.digests[i].hex() if i in work.digests else "" for i in range(count)),
        problems=tuple(work.problems[i] for i in sorted(work.problems)),
        is_ok=np.array([i in work.rows for i in range(count)], dtype=bool),
    )
