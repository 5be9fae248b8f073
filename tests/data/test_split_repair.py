"""A mended split moves what it must, and nothing else, as long as something is left on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import samples_of

from headstart.data.split import make_split, read_split, write_split
from headstart.data.split_repair import repair_split
from headstart.errors import DataError
from headstart.records import Samples, Split
from headstart.types import USER_TEST_SPLIT


def given_split(splits: list[str], labels: list[str] | None = None) -> tuple[Samples, Split]:
    labels = labels or ["a", "b"] * (len(splits) // 2) + ["a"] * (len(splits) % 2)
    samples = samples_of([f"{i}.jpg" for i in range(len(splits))], labels, splits)
    return samples, Split(np.array(splits, dtype="<U5"), None, "given", USER_TEST_SPLIT, 0)


def test_a_group_goes_where_most_of_it_is() -> None:
    samples, split = given_split(["train", "train", "test", "test", "test", "train", "test"])
    groups = np.array([0, 0, 0, 1, 1, 1, 2])
    mended = repair_split(samples, split, groups)
    assert mended.assignment.tolist() == ["train", "train", "train", "test", "test", "test", "test"]
    assert (mended.reason, mended.evidence["num_moved"]) == ("repair_moved", 2)


def test_undecided_goes_to_training() -> None:
    samples, split = given_split(["test", "train", "test", "val", "test"])
    mended = repair_split(samples, split, np.array([0, 0, 1, 2, 3]))
    assert mended.assignment.tolist() == ["train", "train", "test", "val", "test"]


def test_a_split_without_leaks_is_left_as_it_is() -> None:
    samples, split = given_split(["train", "train", "test", "test"])
    for groups in (None, np.array([0, 0, 1, 1]), np.arange(4)):
        mended = repair_split(samples, split, groups)
        assert mended.assignment.tolist() == split.assignment.tolist()
        assert mended.evidence == {"num_moved": 0, "lost_classes": {}}
    assert split.assignment.tolist() == ["train", "train", "test", "test"]  # the person's own is not touched


def test_what_is_left_out_decides_nothing() -> None:
    samples, split = given_split(["test", "test", "train", "test"])
    out = np.array([True, True, False, False])
    mended = repair_split(samples, split, np.array([0, 0, 0, 1]), out)
    assert mended.assignment.tolist() == ["", "", "train", "test"]
    assert mended.evidence == {"num_moved": 0, "lost_classes": {}}


def test_a_class_that_loses_its_test_images_is_named() -> None:
    samples, split = given_split(["train", "test", "test", "train"], ["a", "a", "b", "b"])
    mended = repair_split(samples, split, np.array([0, 0, 1, 2]))
    assert mended.evidence["lost_classes"] == {"test": ["a"]}


def test_a_class_that_loses_its_training_images_is_named() -> None:
    samples, split = given_split(["train", "test", "test", "train", "test"], ["a", "a", "a", "b", "b"])
    mended = repair_split(samples, split, np.array([0, 0, 0, 1, 2]))
    assert mended.assignment.tolist() == ["test", "test", "test", "train", "test"]
    assert mended.evidence["lost_classes"] == {"train": ["a"]}


@pytest.mark.parametrize("scored", ["test", "val"])
def test_where_moving_would_leave_one_side_empty_whole_groups_are_dealt_anew(scored: str) -> None:
    samples, split = given_split(["train"] * 15 + [scored] * 5, ["a", "b"] * 10)
    groups = np.arange(20) % 5  # each with three in training and one that is scored
    out = np.arange(20) == 7
    mended = repair_split(samples, split, groups, out)
    assert (mended.reason, mended.evidence["test_share"]) == ("repair_redrawn", 0.25)
    assert mended.assignment[7] == ""
    sides = [set(mended.assignment[(groups == g) & ~out]) for g in range(5)]
    assert sorted(map(sorted, sides)) == [["test"]] + [["train"]] * 4


def test_nothing_left_to_score_is_refused() -> None:
    samples, split = given_split(["train", "train", "test"])
    with pytest.raises(DataError, match="No split without leaks"):
        repair_split(samples, split, np.array([0, 0, 0]))


def test_a_split_with_one_side_only_is_left_as_it_is() -> None:
    samples, split = given_split(["train"] * 4)
    assert repair_split(samples, split, np.array([0, 0, 1, 1])).assignment.tolist() == ["train"] * 4


@given(
    splits=st.lists(st.sampled_from(["train", "val", "test"]), min_size=3, max_size=20),
    seed=st.integers(0, 10_000),
    num_groups=st.integers(1, 8),
)
def test_after_mending_no_group_is_parted_and_nothing_else_has_moved(
    splits: list[str], seed: int, num_groups: int
) -> None:
    samples, split = given_split(splits)
    groups = np.random.default_rng(seed).integers(0, num_groups, len(splits))
    try:
        mended = repair_split(samples, split, groups)
    except DataError:
        return
    if mended.reason == "repair_redrawn":
        assert all(len(set(mended.assignment[groups == g])) == 1 for g in set(groups.tolist()))
        assert set(mended.assignment) == {"train", "test"}
        return
    for group in set(groups.tolist()):
        before = split.assignment[groups == group]
        after = mended.assignment[groups == group]
        assert len(set(after)) == 1
        counts = {name: int((before == name).sum()) for name in ("train", "val", "test")}
        assert counts[after[0]] == max(counts.values())  # as few as can be
    moved = int((mended.assignment != split.assignment).sum())
    assert mended.evidence["num_moved"] == moved


def test_the_mended_split_can_be_used_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("mended") / "split.csv"
    samples, split = given_split(["train", "train", "test", "test", "test", "val"])
    mended = repair_split(samples, split, np.array([0, 1, 1, 2, 3, 4]))
    write_split(path, samples, mended)
    again = read_split(path, samples)
    assert again.assignment.tolist() == mended.assignment.tolist()
    assert make_split(samples, groups=None).assignment.tolist() == split.assignment.tolist()
