"""Test `ScoredImages`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headstart.runs.scores import ScoredImages

SCORED = ScoredImages(
    names=("a", "b", "c", "d", "e"),
    split=np.array(["train"] * 5),
    class_ids=np.zeros(5, dtype=np.int64),
    logits=np.eye(2, dtype=np.float32)[[0, 1, 0, 0, 1]],
    groups=np.array([4, -1, 2, -1, 4]),
)


def test_images_without_group_get_their_own() -> None:
    groups = SCORED.groups_of(np.arange(5))
    assert groups is not None
    assert groups[0] == groups[4]
    assert len(set(groups.tolist())) == 4
    some = SCORED.groups_of(np.array([1, 3]))
    assert some is not None
    assert len(set(some.tolist())) == 2
    assert SCORED.groups is not None
    assert SCORED.groups.tolist() == [4, -1, 2, -1, 4]  # unchanged
    assert replace(SCORED, groups=None).groups_of(np.arange(5)) is None


def test_is_correct() -> None:
    assert SCORED.is_correct.tolist() == [True, False, True, True, False]
