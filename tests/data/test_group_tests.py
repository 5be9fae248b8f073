"""Test that a proposed grouping is accepted only if the images support it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import samples_of

from headstart.data.capture_groups import keys_by_time
from headstart.data.grouping import group_ids, number_groups
from headstart.errors import UsageError
from headstart.quality.group_candidates import inside_class_folders, is_plausible_grouping, propose_groups
from headstart.quality.group_tests import image_vectors, number_keys, permutation_test


def clustered(groups: NDArray[np.int64], strength: float, seed: int = 0, width: int = 20) -> NDArray[np.float32]:
    """Return vectors with group effects of some strength and noise of strength 1."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(int(groups.max()) + 1, width))
    return (strength * centers[groups] + rng.normal(size=(len(groups), width))).astype(np.float32)


def test_real_groups_are_detected_and_permuted_ones_are_not() -> None:
    groups = np.repeat(np.arange(20), 6)
    classes = np.repeat([0, 1], 60)
    vectors = clustered(groups, 1.0)
    real = permutation_test(vectors, groups, classes)
    assert real.p_value <= 0.002
    assert real.nearness > 0.2
    assert real.num_pairs == 20 * 15
    shuffled = np.concatenate([np.random.default_rng(1).permutation(groups[classes == k]) for k in (0, 1)])
    permuted = permutation_test(vectors, shuffled, classes)
    assert permuted.p_value > 0.05
    assert abs(permuted.nearness) < 0.05


def test_class_is_no_evidence() -> None:
    """Groups that only repeat the class: images of a class are similar anyway."""
    classes = np.repeat(np.arange(4), 30)
    vectors = clustered(classes, 5.0)
    groups = np.arange(120) // 5
    assert permutation_test(vectors, groups, classes).p_value > 0.05


def test_class_similarity_does_not_hide_groups() -> None:
    """All images of a class may be almost equal apart from the group effect."""
    groups = np.repeat(np.arange(20), 6)
    classes = np.repeat([0, 1], 60)
    vectors = clustered(groups, 1.0)
    plain = permutation_test(vectors, groups, classes)
    common = permutation_test(
        vectors + 50 * clustered(classes, 1.0, seed=3, width=20)[[0, 60]][classes], groups, classes
    )
    assert common.nearness == pytest.approx(plain.nearness, abs=1e-3)
    assert common.p_value == plain.p_value


def test_null_p_values_are_uniform() -> None:
    """A test at 5 % is wrong in about 5 % of the cases."""
    rng = np.random.default_rng(5)
    classes = np.repeat([0, 1], 20)
    small = 0
    for seed in range(120):
        vectors = clustered(classes, 1.0, seed)
        groups = np.concatenate([rng.permutation(np.arange(20) // 4 + 5 * k) for k in (0, 1)])
        small += permutation_test(vectors, groups, classes, rounds=199).p_value <= 0.05
    assert small <= 14  # 6 are expected; 14 or more have a probability of 0.001


def test_groups_of_one_image_give_no_result() -> None:
    vectors = clustered(np.arange(10), 1.0)
    alone = permutation_test(vectors, np.arange(10), np.zeros(10, dtype=np.int64))
    assert (alone.p_value, alone.num_pairs) == (1.0, 0)
    across = permutation_test(vectors, np.arange(10) % 5, np.repeat([0, 1], 5))  # only across classes
    assert (across.p_value, across.num_pairs) == (1.0, 0)
    none = permutation_test(vectors, np.full(10, -1), np.zeros(10, dtype=np.int64))
    assert none.p_value == 1.0


def test_images_without_key_are_ignored() -> None:
    groups = np.repeat(np.arange(10), 4)
    vectors = clustered(groups, 1.5)
    more = np.concatenate([vectors, 100 * np.ones((30, 20), dtype=np.float32)])
    keyed = np.concatenate([groups, np.full(30, -1)])
    one = permutation_test(vectors, groups, np.zeros(40, dtype=np.int64))
    two = permutation_test(more, keyed, np.zeros(70, dtype=np.int64))
    assert one == two


def test_test_is_repeatable_and_bounded() -> None:
    groups = np.arange(9000) // 3
    vectors = clustered(groups, 0.5, width=6)
    classes = np.zeros(9000, dtype=np.int64)
    one, two = (permutation_test(vectors, groups, classes, rounds=19) for _ in range(2))
    assert one == two
    assert one.num_pairs <= 4000  # whole groups of a part of the images
    assert one.num_pairs >= 3900


def test_image_vectors_weight_parts_equally() -> None:
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    histograms = rng.integers(0, 256, (30, 64)).astype(np.uint8)
    rows = image_vectors(colors, histograms, rng.normal(size=(30, 63)).astype(np.float32))
    assert rows.shape == (30, 64 + 192 + 63)
    for part in (rows[:, :64], rows[:, 64:256], rows[:, 256:]):
        assert np.sqrt((part**2).sum(1).mean()) == pytest.approx(1, abs=1e-3)
    flat = image_vectors(colors[:1].repeat(5, 0), histograms[:1].repeat(5, 0), np.zeros((5, 63), np.float32))
    assert np.isfinite(flat).all()


def test_numbers_of_keys() -> None:
    assert number_keys(["b", None, "a", "b"]).tolist() == [0, -1, 1, 0]
    assert number_groups(["b", None, "a", "b", ""]).tolist() == [0, 1, 2, 0, 3]


def test_times_are_compared_per_camera() -> None:
    taken = [100.0, 105.0, 114.0, 200.0, 101.0, None]
    cameras = ["x", "x", "x", "x", "y", "x"]
    keys = keys_by_time(taken, cameras, 10.0)
    assert keys[0] == keys[1] == keys[2]
    assert len({keys[0], keys[3], keys[4]}) == 3
    assert keys[5] is None
    assert keys_by_time(taken[::-1], cameras[::-1], 10.0)[::-1][:3] == keys[:3]  # in any order


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"_{k}_{17 * k + i}.jpg" for k in range(8) for i in range(4)], [k for k in range(8) for _ in range(4)]),
        ([f"clip{v:02}_frame{f:04}.png" for v in range(5) for f in range(9)], [v for v in range(5) for _ in range(9)]),
        ([f"p{p:03}v{v}.png" for p in range(12) for v in range(3)], [p for p in range(12) for _ in range(3)]),
        (
            [f"{p}-left ({i}).JPG" for p in ("anna", "bo", "cy", "di") for i in range(6)],
            [k for k in range(4) for _ in range(6)],
        ),
        ([f"2021-03-{d:02}_{i}.jpg" for d in range(1, 9) for i in range(5)], [d for d in range(8) for _ in range(5)]),
        (
            [f"scan.{p}.{v}.{s}.png" for p in range(6) for v in range(3) for s in range(3)],
            [p for p in range(6) for _ in range(9)],
        ),
    ],
)
def test_common_names_give_proposals(names: list[str], expected: list[int]) -> None:
    samples = samples_of([f"c{i % 2}/{n}" for i, n in enumerate(names)], [f"c{i % 2}" for i in range(len(names))])
    proposed = [number_keys(g.keys).tolist() for g in propose_groups(samples)]
    assert expected in proposed


@pytest.mark.parametrize(
    "names",
    [
        [f"{i:05}.jpg" for i in range(40)],  # a running number groups nothing
        [f"IMG_{i:05}.jpg" for i in range(40)],
        [f"IMG_2020.{i:05}.jpg" for i in range(40)],
        [f"{np.random.default_rng(i).bytes(8).hex()}.jpg" for i in range(40)],
        [f"one_image_{i}.jpg" for i in range(3)],
    ],
)
def test_uninformative_names_give_no_proposals(names: list[str]) -> None:
    samples = samples_of([f"c{i % 2}/{n}" for i, n in enumerate(names)], [f"c{i % 2}" for i in range(len(names))])
    assert propose_groups(samples) == []


def test_class_in_name_is_no_group() -> None:
    labels = ["cat", "dog"] * 20
    names = [f"{label}/{label.upper()}_{i}.jpg" for i, label in enumerate(labels)]
    assert propose_groups(samples_of(names, labels)) == []


def test_columns_and_given_groups_are_proposed() -> None:
    labels = ["a", "b"] * 10
    patient = tuple(f"p{i // 4}" for i in range(20))
    weight = tuple(f"{i / 7:.3f}" for i in range(20))
    samples = samples_of(
        [f"{i}.jpg" for i in range(20)],
        labels,
        groups=[f"g{i // 2}" for i in range(20)],
        columns={"patient": patient, "weight": weight, "id": tuple(map(str, range(20)))},
    )
    proposals = {g.pattern: g for g in propose_groups(samples)}
    assert set(proposals) == {"group", "patient"}  # a measurement and a running number group nothing
    assert proposals["group"].source == "given"


def test_sensible() -> None:
    assert is_plausible_grouping(["a", "a", "b", "b", "c"])
    assert not is_plausible_grouping(["a"] * 10)  # nearly all together
    assert not is_plausible_grouping([str(i) for i in range(10)])
    assert not is_plausible_grouping([None] * 10)
    assert not is_plausible_grouping([])


_PART = st.one_of(
    st.integers(0, 30).map(str),
    st.sampled_from(["left", "right", "img", "Ω", "a", "É"]),
    st.integers(0, 9).map(lambda i: f"p{i}"),
)


@given(
    shape=st.lists(st.sampled_from(["_", "-", ".", " ", "__", "(", "+", "]", "^", "~"]), min_size=1, max_size=3),
    rows=st.lists(st.lists(_PART, min_size=4, max_size=4), min_size=8, max_size=24),
    has_front=st.booleans(),
)
def test_proposed_patterns_can_be_requested(shape: list[str], rows: list[list[str]], has_front: bool) -> None:
    """`--group-from` with a proposed pattern gives exactly the groups that were tested."""
    names = []
    for i, row in enumerate(rows):
        stem = row[0] + "".join(d + p for d, p in zip(shape, row[1:], strict=False))
        names.append(f"{'cd'[i % 2]}/{'_' if has_front else ''}{stem}.{'jpg' if i % 3 else 'jpeg'}")
    samples = samples_of(names, ["x", "y"] * (len(names) // 2) + ["x"] * (len(names) % 2))
    proposals = propose_groups(samples)
    for proposal in (*proposals, *filter(None, (inside_class_folders(samples, g) for g in proposals))):
        requested, _ = group_ids(samples, proposal.pattern)
        assert requested is not None
        keyed = [i for i, k in enumerate(proposal.keys) if k is not None]
        tested = number_keys([proposal.keys[i] for i in keyed])
        again = number_keys([str(requested[i]) for i in keyed])
        assert tested.tolist() == again.tolist(), (proposal.pattern, proposal.grouping)


@pytest.mark.parametrize("group_from", ["NONE", "none"])
def test_groups_can_be_switched_off(group_from: str) -> None:
    samples = samples_of(["a_1.jpg", "a_2.jpg"], ["x", "y"], groups=["g", "g"])
    ids, decision = group_ids(samples, group_from)
    assert ids is None
    assert decision.source == "cli"


def test_expression_matches_full_path() -> None:
    samples = samples_of(["x/p1/1.jpg", "y/p1/2.jpg", "x/p2/3.jpg"], ["x", "y", "x"])
    ids, _ = group_ids(samples, r"/(p\d)/")
    assert ids is not None
    assert ids.tolist() == [0, 0, 1]
    with pytest.raises(UsageError, match="--group-from"):
        group_ids(samples, r"^(p\d)_")
