"""Find the nearest vectors by cosine without comparing all pairs.

Vectors are assigned to about sqrt(N) cells around randomly chosen vectors, and a query searches only its nearest
cells: 50,000 images take seconds instead of minutes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest"]

_ALL_PAIRS = 20_000  # number of entries up to which comparing all pairs is as fast
_PROBES = 6
_ROWS = 1024


def nearest(
    queries: NDArray[np.float32],
    query_owner: NDArray[np.int64],
    entries: NDArray[np.float32],
    entry_owner: NDArray[np.int64],
    *,
    count: int,
    least: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest entries of other owners for each query.

    Args:
        queries: (Q, D) rows of length 1 or 0.
        query_owner: (Q,) owner of each query; a query never matches entries of its own owner.
        entries: (E, D) rows of length 1 or 0.
        entry_owner: (E,) owner of each entry.
        count: Maximum number of matches per query.
        least: Minimum cosine of a match.

    Returns:
        (query, entry, cosine) of the matches, each (M,), best first for each query.
    """
    matches: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    if len(entries) <= _ALL_PAIRS:
        every = np.arange(len(entries))
        for start in range(0, len(queries), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(queries)))
            matches.append(_best(queries, query_owner, rows, entries, entry_owner, every, count, least))
    else:
        rng = np.random.default_rng(0)
        num_cells = int(np.sqrt(len(entries)))
        centers = entries[np.sort(rng.choice(len(entries), num_cells, replace=False))]
        cell_of = _top_cells(entries, centers, 1)[:, 0]
        order = np.argsort(cell_of, kind="stable")
        ends = np.searchsorted(cell_of[order], np.arange(num_cells + 1))
        probes = _top_cells(queries, centers, min(_PROBES, num_cells))
        cell_queries = np.argsort(probes.ravel(), kind="stable")
        cell_ends = np.searchsorted(probes.ravel()[cell_queries], np.arange(num_cells + 1))
        for cell in range(num_cells):
            inside = order[ends[cell] : ends[cell + 1]]
            owners = cell_queries[cell_ends[cell] : cell_ends[cell + 1]] // probes.shape[1]
            for start in range(0, len(owners), _ROWS):
                rows = owners[start : start + _ROWS]
                matches.append(_best(queries, query_owner, rows, entries, entry_owner, inside, count, least))
    if not matches:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    query, entry, cosine = (np.concatenate(parts) for parts in zip(*matches, strict=True))
    order = np.lexsort((-cosine, query))
    query, entry, cosine = query[order], entry[order], cosine[order]
    first = np.searchsorted(query, query)  # position of each query's first match
    keep = np.arange(len(query)) - first < count
    return query[keep], entry[keep], cosine[keep]


def _best(
    queries: NDArray[np.float32],
    query_owner: NDArray[np.int64],
    rows: NDArray[np.int64],
    entries: NDArray[np.float32],
    entry_owner: NDArray[np.int64],
    inside: NDArray[np.int64],
    count: int,
    least: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the best `count` of some entries for some queries."""
    if not len(inside) or not len(rows):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    cosine = queries[rows] @ entries[inside].T  # (n, m)
    cosine[query_owner[rows][:, None] == entry_owner[inside][None, :]] = -1
    if cosine.shape[1] > count:
        positions = np.argpartition(cosine, -count, axis=1)[:, -count:]
        cosine = np.take_along_axis(cosine, positions, axis=1)
    else:
        positions = np.broadcast_to(np.arange(cosine.shape[1]), cosine.shape)
    row, column = np.nonzero(cosine >= least)
    return rows[row], inside[positions[row, column]], cosine[row, column]


def _top_cells(vectors: NDArray[np.float32], centers: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return (N, count) nearest centers of each vector."""
    out = np.empty((len(vectors), count), dtype=np.int64)
    for start in range(0, len(vectors), 4096):
        cosine = vectors[start : start + 4096] @ centers.T
        if count == 1:
            out[start : start + 4096, 0] = cosine.argmax(axis=1)
        else:
            out[start : start + 4096] = np.argpartition(cosine, -count, axis=1)[:, -count:]
    return out
