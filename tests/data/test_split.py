"""Test splits: the user's split is kept, new ones are stratified by group, manifests can be reused."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.data.split import group_ids, make_split, read_split, write_split
from headstart.errors import DataError, UsageError
from headstart.types.codes import (
    USER_TEST_SPLIT,
    USER_VALIDATION_SPLIT,
    DecisionReason,
    EvaluationProtocol,
    EvaluationSetup,
    SplitReason,
    SplitSource,
)
from headstart.types.records import Sample, Samples


def make(labels: list[str], splits: list[str | None] | None = None, names: list[str] | None = None) -> Samples:
    names = names or [f"{label}/{i:03}.png" for i, label in enumerate(labels)]
    items = tuple(
        Sample(f"/data/{n}", n, label, split)  # type: ignore[arg-type]
        for n, label, split in zip(names, labels, splits or [None] * len(labels), strict=True)
    )
    return Samples(items, tuple(sorted(set(labels))), "/data", "class folders")


def test_nothing_is_held_out_by_default() -> None:
    split = make_split(make(["a", "b"] * 5), groups=None)
    assert split.assignment.tolist() == ["train"] * 10
    assert (split.source, split.setup) == ("made", None)


@pytest.mark.parametrize(
    ("given_", "expected", "setup"),
    [
        (["train", "train", "test", "test"], ["train", "train", "test", "test"], USER_TEST_SPLIT),
        (["train", "train", "val", "val"], ["train", "train", "test", "test"], USER_VALIDATION_SPLIT),
        (["train", "val", "test", "test"], ["train", "val", "test", "test"], USER_TEST_SPLIT),
        (["train", None, "test", "test"], ["train", "train", "test", "test"], USER_TEST_SPLIT),
        (["train"] * 4, ["train"] * 4, None),
    ],
)
def test_user_split_is_kept(given_: list[str | None], expected: list[str], setup: EvaluationSetup | None) -> None:
    split = make_split(make(["a", "b", "a", "b"], given_), groups=None)
    assert split.assignment.tolist() == expected
    assert (split.source, split.setup) == ("given", setup)


def test_split_without_training_images_or_second_split_raises() -> None:
    with pytest.raises(DataError, match="no training images"):
        make_split(make(["a", "b"], ["test", "test"]), groups=None)
    with pytest.raises(UsageError, match="--test-size"):
        make_split(make(["a", "b"], ["train", "test"]), groups=None, test_size=0.2)
    for size in (0.0, 1.0, -1.0, 3.0, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 1"):
            make_split(make(["a", "b"]), groups=None, test_size=size)


def test_held_out_is_stratified_and_seeded() -> None:
    samples = make(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    one = make_split(samples, groups=None, test_size=0.2, seed=1)
    assert [int((one.assignment[samples.class_ids == k] == "test").sum()) for k in range(3)] == [12, 6, 2]
    assert one.setup == EvaluationSetup(
        EvaluationProtocol.TEST_SPLIT, held_out_fraction=0.2, split_source=SplitSource.MADE
    )
    again = make_split(samples, groups=None, test_size=0.2, seed=1)
    other = make_split(samples, groups=None, test_size=0.2, seed=2)
    assert one.assignment.tolist() == again.assignment.tolist()
    assert one.assignment.tolist() != other.assignment.tolist()


@given(
    st.integers(0, 10_000),
    st.integers(2, 5),
    st.lists(st.integers(1, 6), min_size=8, max_size=40),
    st.floats(0.05, 0.6),
)
def test_groups_stay_together_and_training_has_every_class(
    seed: int, num_classes: int, sizes: list[int], share: float
) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = [f"c{k}" for k in rng.integers(0, num_classes, len(groups))]
    samples = make(labels)
    try:
        split = make_split(samples, groups=groups, test_size=share, seed=seed)
    except DataError:
        units = {label: len({g for g, x in zip(groups, labels, strict=True) if x == label}) for label in labels}
        assert max(units.values()) == 1
        return
    for group in set(groups.tolist()):
        assert len(set(split.assignment[groups == group])) == 1
    for k in range(len(samples.class_names)):
        assert (split.assignment[samples.class_ids == k] == "train").any()


def test_group_fractions_approximate_request() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 1000)
    labels = [f"c{k}" for k in (groups + rng.integers(0, 2, 1000)) % 4]
    samples = make(labels)
    split = make_split(samples, groups=groups, test_size=0.2)
    shares = [np.mean(split.assignment[samples.class_ids == k] == "test") for k in range(4)]
    assert all(0.13 < s < 0.27 for s in shares)


def test_class_in_one_group_is_listed() -> None:
    samples = make(["a"] * 10 + ["b"] * 10)
    groups = np.array([*range(10), *[10] * 10])
    split = make_split(samples, groups=groups, test_size=0.2)
    assert split.reason is SplitReason.HELD_OUT
    assert split.evidence == {"num_held_out": 2, "unscorable_classes": ["b"]}
    assert set(split.assignment[10:]) == {"train"}


def test_excluded_samples_belong_to_no_split() -> None:
    samples = make(["a"] * 10 + ["b"] * 10)
    out = np.zeros(20, dtype=bool)
    out[3] = True
    assert make_split(samples, groups=None, leave_out=out).assignment[3] == ""
    assert make_split(samples, groups=None, test_size=0.3, leave_out=out).assignment[3] == ""


def test_groups_from_the_data() -> None:
    samples = make(["a", "a", "b", "b"])
    assert group_ids(samples, None)[0] is None
    grouped = replace(
        samples, items=tuple(replace(s, group=g) for s, g in zip(samples, ["x", None, "x", "y"], strict=True))
    )
    ids, decision = group_ids(grouped, None)
    assert ids is not None
    assert ids.tolist() == [0, 1, 0, 2]
    assert (decision.reason, decision.evidence["num_groups"]) == (DecisionReason.GROUPS_GIVEN_BY_DATA, 2)
    assert group_ids(grouped, "none")[0] is None


@pytest.mark.parametrize(
    ("group_from", "expected"),
    [
        ("patient", [0, 0, 1, 2]),
        ("folder", [0, 0, 1, 1]),
        (r"_(\d+)_", [0, 1, 0, 2]),
        ("*_{group}_*", [0, 1, 0, 2]),
        ("{group}/*", [0, 0, 1, 1]),
    ],
)
def test_groups_from_a_column_a_pattern_or_an_expression(group_from: str, expected: list[int]) -> None:
    samples = make(["a", "a", "b", "b"], names=["a/x_1_9.png", "a/x_2_8.png", "b/x_1_7.png", "b/y.png"])
    samples = replace(samples, columns={"patient": ("p", "p", "q", "")})
    ids, decision = group_ids(samples, group_from)
    assert ids is not None
    assert ids.tolist() == expected
    assert decision.source == "cli"


@pytest.mark.parametrize("group_from", ["patients", "(", "_{group}-"])
def test_unknown_group_from_raises(group_from: str) -> None:
    with pytest.raises(UsageError, match="--group-from"):
        group_ids(make(["a", "b"]), group_from)


def test_manifest_round_trips(tmp_path: Path) -> None:
    names = ["=cmd.png", "-a,b.png", "'=x.png", "c/new\nline.png", "d.png", "e.png"]
    samples = make(["a", "b"] * 3, names=names)
    split = make_split(samples, groups=np.array([0, 1, 2, 0, 3, 4]), test_size=0.4)
    write_split(tmp_path / "split.csv", samples, split)
    with (tmp_path / "split.csv").open(newline="") as file:
        cells = [row["image"] for row in csv.DictReader(file)]
    assert not any(c.startswith(("=", "-", "+", "@")) for c in cells)
    back = read_split(tmp_path / "split.csv", samples)
    assert back.assignment.tolist() == split.assignment.tolist()
    assert back.groups is not None
    assert [back.groups[0] == back.groups[3], back.groups[0] == back.groups[1]] == [True, False]
    assert (back.source, back.setup) == ("file", USER_TEST_SPLIT)


def test_invalid_manifests_raise(tmp_path: Path) -> None:
    samples = make(["a", "b", "a"])
    path = tmp_path / "s.csv"
    path.write_text("image,split\na/000.png,train\nb/001.png,Valid\ngone.png,train\n")
    split = read_split(path, samples)
    assert split.assignment.tolist() == ["train", "test", ""]
    assert split.setup == USER_VALIDATION_SPLIT
    assert split.reason is SplitReason.VAL_IS_SCORED
    assert split.evidence == {"num_missing": 1, "num_not_listed": 1}
    for text, message in [
        ("image,set\na,train\n", "no columns"),
        ("image,split\na/000.png,third\n", "expected train, val or test"),
        ("image,split\nx.png,train\n", "none of 1 image"),
        ("image,split\na/000.png,test\n", "no training images"),
        ("image,split\na/000.png,train\na/002.png,test\nB/001.png,train\n", r"`B/001\.png`.*class `b`"),  # renamed
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_split(path, samples)
    with pytest.raises(DataError, match="cannot be read"):
        read_split(tmp_path / "none.csv", samples)
