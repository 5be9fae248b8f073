"""Group images by capture time, separately for each camera because clocks differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

__all__ = ["TIMES", "keys_by_time"]

TIMES = {"capture-burst": 10.0, "capture-session": 600.0}
"""Grouping by capture time: the longest gap in seconds between two images of one group."""


def keys_by_time(times_taken: Sequence[float | None], cameras: Sequence[str], pause: float) -> list[str | None]:
    """Return one key per series of images of one camera without a gap longer than `pause` seconds."""
    by_camera: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for i, (time, camera) in enumerate(zip(times_taken, cameras, strict=True)):
        if time is not None:
            by_camera[camera].append((time, i))
    keys: list[str | None] = [None] * len(times_taken)
    for camera, times in by_camera.items():
        times.sort()
        run, last = 0, None
        for time, i in times:
            run += last is not None and time - last > pause
            keys[i] = f"{camera}/{run}"
            last = time
    return keys
