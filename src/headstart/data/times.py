"""Guesses from the time of capture that pictures belong together: bursts, and days.

The one decision: times are compared for one camera at a time, because clocks differ; and, like names, a
time is only a guess until the pictures bear it out.
"""

from __future__ import annotations

from headstart.data.capture import TIMES, keys_by_time
from headstart.data.looks import Looks
from headstart.data.names import Guess, is_sensible

__all__ = ["guess_times"]


def guess_times(looks: Looks) -> list[Guess]:
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
