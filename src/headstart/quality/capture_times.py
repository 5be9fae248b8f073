"""Propose groups from capture times: bursts and sessions.

Times are compared within one camera, because clocks differ. A proposal is tested before it is used.
"""

from __future__ import annotations

from headstart.data.capture_groups import TIMES, keys_by_time
from headstart.data.image_scan import ScanResult
from headstart.quality.group_candidates import GroupCandidate, is_plausible_grouping

__all__ = ["propose_capture_groups"]


def propose_capture_groups(scan: ScanResult) -> list[GroupCandidate]:
    """Propose bursts (10 seconds) and sessions (10 minutes) where at least half of the images have a capture time."""
    times_taken = [None if f is None else f.exif.taken for f in scan.info]
    if sum(t is not None for t in times_taken) < 0.5 * len(times_taken):
        return []
    cameras = ["" if f is None else f.exif.camera or "" for f in scan.info]
    candidates = []
    for pattern, pause in TIMES.items():
        keys = tuple(keys_by_time(times_taken, cameras, pause))
        if is_plausible_grouping(keys):
            candidates.append(GroupCandidate(pattern, {"grouped_by": "capture_time", "seconds": pause}, keys, "time"))
    return candidates
