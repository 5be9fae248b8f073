"""Test folds: every sample once, groups together, classes balanced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.evaluation.folds import draw_folds


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 80), st.integers(2, 12), st.integers(1, 5), st.integers(0, 5))
def test_folds_are_used_and_keep_groups(num: int, count: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, classes, num)
    groups = rng.integers(0, max(2, num // 3), num)
    if len(np.unique(groups)) < 2:
        return
    fold = draw_folds(ids, count, groups=groups, seed=seed)
    assert set(fold) == set(range(min(count, len(np.unique(groups)))))
    for g in np.unique(groups):
        assert len(set(fold[groups == g])) == 1


def test_folds_are_stratified_and_seeded() -> None:
    ids = np.repeat([0, 1, 2], [50, 30, 10])
    fold = draw_folds(ids, 5, seed=1)
    for f in range(5):
        assert np.bincount(ids[fold == f]).tolist() == [10, 6, 2]
    np.testing.assert_array_equal(fold, draw_folds(ids, 5, seed=1))
    assert (fold != draw_folds(ids, 5, seed=2)).any()


def test_one_group_raises() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        draw_folds(np.array([0, 1]), 5, groups=np.array([3, 3]))
