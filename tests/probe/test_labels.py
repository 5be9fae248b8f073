"""Test label validation, and subsets that keep groups together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import DataError, InvalidEvaluationError
from headstart.probe.labels import check_labels

THREE = np.arange(30) % 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros(9, dtype=int), 2, None, None), DataError, "images of 1 class"),
        ((np.zeros(0, dtype=int), 2, None, None), DataError, "images of 0 class"),
        ((np.arange(4), 3, None, None), DataError, r"0\.\.2"),
        ((np.arange(4), 4, None, None), InvalidEvaluationError, "every class has 1 image"),
        ((THREE, 3, np.zeros(30), None), InvalidEvaluationError, "in one group"),
        ((THREE, 3, THREE, None), InvalidEvaluationError, "every class is in a single group"),
        ((THREE, 3, np.zeros(7), None), DataError, "7 group ids for 30 images"),
        ((THREE, 3, None, np.array([1.0, 0.0, 1.0])), DataError, "3 positive numbers"),
        ((THREE, 3, None, np.ones(2)), DataError, "3 positive numbers"),
    ],
)
def test_unscorable_labels_raise(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        check_labels(*arguments)
    assert type(caught.value) is error


def test_classes_without_samples_are_ignored():
    labels, present = check_labels(np.array([1, 4, 4, 1]), 6, None, np.array([9, 1, 9, 9, 3, 9.0]))
    assert present.tolist() == [1, 4]
    assert labels.class_ids.tolist() == [0, 1, 1, 0]
    np.testing.assert_allclose(labels.weights, [0.5, 1.5, 1.5, 0.5])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_unscorable_samples_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    ids = np.r_[0, 0, 1, 1, rng.integers(0, 5, 16)]
    groups = np.r_[0, 1, 0, 1, rng.integers(0, 6, 16)]
    labels, _ = check_labels(ids, 5, groups, None)
    expected = [not ((ids == ids[i]) & (groups != groups[i])).any() for i in range(20)]
    assert labels.unscorable().tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_parts_keep_groups_and_all_samples(seed, is_grouped):
    rng = np.random.default_rng(seed)
    ids = np.r_[np.arange(4).repeat(2), rng.integers(0, 4, 92)]
    groups = np.r_[np.arange(8), rng.integers(0, 25, 92)] if is_grouped else None
    labels, _ = check_labels(ids, 4, groups, None)
    unit = np.arange(100) if groups is None else groups

    chunks = labels.chunks(20)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(100))
    dealt = labels.draw_folds(5, rng)
    parts = [*chunks, labels.subset(40, rng), *(np.flatnonzero(dealt == f) for f in range(5))]
    for part in parts:
        inside = np.isin(unit, unit[part])
        assert inside.sum() == len(part)
    assert len(labels.subset(40, rng)) >= 40
    if not is_grouped:
        assert (np.bincount(ids[labels.subset(40, rng)], minlength=4) >= 2).all()
        shares = np.array([np.bincount(ids[dealt == f], minlength=4) for f in range(5)])
        assert (np.ptp(shares, axis=0) <= 1).all()
    folds = labels.folds(parts[0])
    if folds is not None:
        assert sorted(np.concatenate(folds).tolist()) == list(range(len(parts[0])))
        assert all(len(np.unique(unit[parts[0]][f])) == 1 for f in folds)
