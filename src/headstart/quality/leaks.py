"""Find leaks: scored images with duplicates in an earlier split.

Duplicates are transitive (a duplicate of a duplicate leaks too). Each scored image is listed once, with its most
similar duplicate in the earliest split.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from headstart.quality.duplicates import Pair
from headstart.types.records import Samples

__all__ = ["find_leaks"]

_ORDER = {"train": 0, "val": 1, "test": 2}


def find_leaks(samples: Samples, pairs: Sequence[Pair]) -> list[Pair]:
    """Return pairs (scored image, image of an earlier split) that are duplicates, directly or through others.

    Train comes before val and val before test; images without a split do not leak.

    Returns:
        One pair per leaking image, in the order of the samples; `first` < `second`.
    """
    near: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        near[pair.first].append(pair)
        near[pair.second].append(pair)
    leaks = []
    for i in sorted(near):
        split = samples.items[i].split
        if split is None or _ORDER[split] == 0:
            continue
        partner = _partner(samples, i, _ORDER[split], near)
        if partner is not None:
            j, kind, similarity = partner
            leaks.append(Pair(min(i, j), max(i, j), kind, similarity))
    return sorted(leaks, key=lambda p: (p.first, p.second))


def _partner(samples: Samples, start: int, order: int, near: dict[int, list[Pair]]) -> tuple[int, str, float] | None:
    """Return the most similar reachable image of the earliest split: position, kind, lowest similarity on the path."""
    best: tuple[int, int, float, str, int] | None = None
    reached = {start: (1.0, "bytes", 0)}
    queue = [start]
    while queue:
        i = queue.pop(0)
        similarity, kind, steps = reached[i]
        for pair in near[i]:
            j = pair.second if pair.first == i else pair.first
            if j in reached:
                continue
            way = (min(similarity, pair.similarity), pair.kind if pair.similarity <= similarity else kind, steps + 1)
            reached[j] = way
            queue.append(j)
            split = samples.items[j].split
            if split is not None and _ORDER[split] < order:
                rank = (_ORDER[split], way[2], -way[0], way[1], j)
                best = rank if best is None or rank < best else best
    return None if best is None else (best[4], best[3], -best[2])
