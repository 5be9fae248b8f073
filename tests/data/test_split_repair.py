"""Test that a repaired split moves as few images as possible and keeps both sides non-empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import samples_of

from headstart.data.split import make_split, read_split, write_split
from headstart.errors import DataError
from headstart.quality.split_repair import repair_split
from headstart.types.codes import USER_TEST_SPLIT, SplitReason
from headstart.types.records import Samples, Split


def given_split(splits: list[str], labels: list[str] | None = None) -> tuple[Samples, Split]:
    labels = labels or ["a", "b"] * (len(splits) // 2) + ["a"] * (len(splits) % 2)
    samples = samples_of([f"{i}.jpg" for i in range(len(splits))], labels, splits)
    return samples, Split(np.array(splits, dtype="<U5"), None, "given", USER_TEST_SPLIT, 0)


def test_group_moves_to_its_largest_split() -> None:
    samples, split = given_split(["train", "train", "test", "test", "test", "train", "test"])
    groups = np.array([0, 0, 0, 1, 1, 1, 2])
    repaired = repair_split(samples, split, groups)
    assert repaired.assignment.tolist() == ["train", "train", "train", "test", "test", "test", "test"]
    assert (repaired.reason, repaired.evidence["num_moved"]) == (SplitReason.REPAIR_MOVED, 2)


def test_ties_go_to_training() -> None:
    samples, split = given_split(["test", "train", "test", "val", "test"])
    repaired = repair_split(samples, split, np.array([0, 0, 1, 2, 3]))
    assert repaired.assignment.tolist() == ["train", "train", "test", "val", "test"]


def test_split_without_leaks_is_unchanged() -> None:
    samples, split = given_split(["train", "train", "test", "test"])
    for groups in (None, np.array([0, 0, 1, 1]), np.arange(4)):
        repaired = repair_split(samples, split, groups)
        assert repaired.assignment.tolist() == split.assignment.tolist()
        assert repaired.evidence == {"num_moved": 0, "lost_classes": {}}
    assert split.assignment.tolist() == ["train", "train", "test", "test"]  # the user's own split is unchanged


def test_excluded_images_do_not_count() -> None:
    samples, split = given_split(["test", "test", "train", "test"])
    out = np.array([True, True, False, False])
    repaired = repair_split(samples, split, np.array([0, 0, 0, 1]), out)
    assert repaired.assignment.tolist() == ["", "", "train", "test"]
    assert repaired.evidence == {"num_moved": 0, "lost_classes": {}}


def test_class_losing_its_test_images_is_reported() -> None:
    samples, split = given_split(["train", "test", "test", "train"], ["a", "a", "b", "b"])
    repaired = repair_split(samples, split, np.array([0, 0, 1, 2]))
    assert repaired.evidence["lost_classes"] == {"test": ["a"]}


def test_class_losing_its_training_images_is_reported() -> None:
    samples, split = given_split(["train", "test", "test", "train", "test"], ["a", "a", "a", "b", "b"])
    repaired = repair_split(samples, split, np.array([0, 0, 0, 1, 2]))
    assert repaired.assignment.tolist() == ["test", "test", "test", "train", "test"]
    assert repaired.evidence["lost_classes"] == {"train": ["a"]}


@pytest.mark.parametrize("scored", ["test", "val"])
def test_groups_are_redrawn_if_one_side_would_be_empty(scored: str) -> None:
    samples, split = given_split(["train"] * 15 + [scored] * 5, ["a", "b"] * 10)
    groups = np.arange(20) % 5  # each with three in training and one that is scored
    out = np.arange(20) == 7
    repaired = repair_split(samples, split, groups, out)
    assert (repaired.reason, repaired.evidence["test_fraction"]) == (SplitReason.REPAIR_REDRAWN, 0.25)
    assert repaired.assignment[7] == ""
    sides = [set(repaired.assignment[(groups == g) & ~out]) for g in range(5)]
    assert sorted(map(sorted, sides)) == [["test"]] + [["train"]] * 4


def test_nothing_left_to_score_raises() -> None:
    samples, split = given_split(["train", "train", "test"])
    with pytest.raises(DataError, match="a split without leaks"):
        repair_split(samples, split, np.array([0, 0, 0]))


def test_one_sided_split_is_unchanged() -> None:
    samples, split = given_split(["train"] * 4)
    assert repair_split(samples, split, np.array([0, 0, 1, 1])).assignment.tolist() == ["train"] * 4


@given(
    splits=st.lists(st.sampled_from(["train", "val", "test"]), min_size=3, max_size=20),
    seed=st.integers(0, 10_000),
    num_groups=st.integers(1, 8),
)
def test_repair_moves_only_divided_groups(splits: list[str], seed: int, num_groups: int) -> None:
    samples, split = given_split(splits)
    groups = np.random.default_rng(seed).integers(0, num_groups, len(splits))
    try:
        repaired = repair_split(samples, split, groups)
    except DataError:
        return
    if repaired.reason == SplitReason.REPAIR_REDRAWN:
        assert all(len(set(repaired.assignment[groups == g])) == 1 for g in set(groups.tolist()))
        assert set(repaired.assignment) == {"train", "test"}
        return
    for group in set(groups.tolist()):
        before = split.assignment[groups == group]
        after = repaired.assignment[groups == group]
        assert len(set(after)) == 1
        counts = {name: int((before == name).sum()) for name in ("train", "val", "test")}
        assert counts[after[0]] == max(counts.values())  # as few as possible
    moved = int((repaired.assignment != split.assignment).sum())
    assert repaired.evidence["num_moved"] == moved


def test_repaired_split_round_trips(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("repaired") / "split.csv"
    samples, split = given_split(["train", "train", "test", "test", "test", "val"])
    repaired = repair_split(samples, split, np.array([0, 1, 1, 2, 3, 4]))
    write_split(path, samples, repaired)
    again = read_split(path, samples)
    assert again.assignment.tolist() == repaired.assignment.tolist()
    assert make_split(samples, groups=None).assignment.tolist() == split.assignment.tolist()
