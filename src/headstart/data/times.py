"""Guesses from the time of capture that pictures belong together: bursts, and days.

The one decision: times are compared for one camera at a time, because clocks differ; and, like names, a
time is only a guess until the pictures bear it out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from headstart.data.looks import Looks
from headstart.data.names import Guess, is_sensible
from headstart.data.split import TIMES
from headstart.records import Samples

__all__ = ["guess_times", "keys_by_time"]


def guess_times(samples: Samples, looks: Looks) -> list[Guess]:
    """Bursts (10 seconds) and sessions (10 minutes), where most pictures have a time of capture."""
    taken = [None if f is None else f.exif.taken for f in looks.facts]
    if sum(t is not None for t in taken) < 0.5 * len(taken):
        return []
    cameras = ["" if f is None else f.exif.camera or "" for f in looks.facts]
    found = []
    for pattern, pause in TIMES.items():
        keys = tuple(keys_by_time(taken, cameras, pause))
        meaning = f"pictures of one camera less than {pause:g} seconds apart (EXIF)"
        if is_sensible(keys):
            found.append(Guess(pattern, meaning, keys, "time"))
    return found


def keys_by_time(taken: Sequence[float | None], cameras: Sequence[str], pause: float) -> list[str | None]:
    """A key for each run of pictures of one camera without a longer pause than `pause` seconds."""
    by_camera: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for i, (time, camera) in enumerate(zip(taken, cameras, strict=True)):
        if time is not None:
            by_camera[camera].append((time, i))
    keys: list[str | None] = [None] * len(taken)
    for camera, times in by_camera.items():
        times.sort()
        run, last = 0, None
        for time, i in times:
            run += last is not None and time - last > pause
            keys[i] = f"{camera}/{run}"
            last = time
    return keys
