"""Guesses from the time of capture that images belong together: bursts, and days.

Times are compared for one camera at a time, because clocks differ; and, like names, a
time is only a guess until the images bear it out.
"""

from __future__ import annotations

from headstart.data.capture_groups import TIMES, keys_by_time
from headstart.data.group_candidates import GroupCandidate, is_plausible_grouping
from headstart.data.image_scan import ScanResult

__all__ = ["guess_times"]


def guess_times(scan: ScanResult) -> list[GroupCandidate]:
    """Bursts (10 seconds) and sessions (10 minutes), where most images have a time of capture."""
    taken = [None if f is None else f.exif.taken for f in scan.info]
    if sum(t is not None for t in taken) < 0.5 * len(taken):
        return []
    cameras = ["" if f is None else f.exif.camera or "" for f in scan.info]
    found = []
    for pattern, pause in TIMES.items():
        keys = tuple(keys_by_time(taken, cameras, pause))
        meaning = f"images of one camera less than {pause:g} seconds apart (EXIF)"
        if is_plausible_grouping(keys):
            found.append(GroupCandidate(pattern, meaning, keys, "time"))
    return found
