"""Test the nearest-neighbor baseline against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.probe import baseline
from headstart.probe.baseline import majority_class, nearest_neighbor_hits


@pytest.mark.parametrize("is_grouped", [False, True])
def test_nearest_neighbor_matches_brute_force(is_grouped, monkeypatch):
    monkeypatch.setattr(baseline, "_CHUNK", 17)
    rng = np.random.default_rng(0)
    rows, class_ids = rng.normal(size=(60, 3)).astype(np.float32), rng.integers(0, 3, 60)
    groups = rng.integers(0, 9, 60) if is_grouped else None
    unit = np.arange(60) if groups is None else groups
    expected = []
    for i in range(60):
        distance = ((rows - rows[i]) ** 2).sum(axis=1)
        distance[unit == unit[i]] = np.inf
        expected.append(class_ids[distance.argmin()] == class_ids[i])
    assert nearest_neighbor_hits(rows, class_ids, groups).tolist() == expected


def test_large_data_is_subsampled(monkeypatch):
    monkeypatch.setattr(baseline, "_MAX_KNOWN", 50)
    class_ids = np.arange(1000) // 500
    rows = (10.0 * class_ids[:, None] + np.random.default_rng(0).normal(size=(1000, 2))).astype(np.float32)
    assert nearest_neighbor_hits(rows, class_ids, None).all()


@pytest.mark.parametrize(("labels", "best"), [([0, 1, 1, 2], 1), ([2, 2, 0, 0], 0), ([3], 3)])
def test_constant_baseline_is_most_frequent_class(labels, best):
    labels = np.array(labels)
    assert majority_class(labels) == best
    hits = [(labels == k).mean() for k in range(4)]
    assert hits[best] == max(hits)
