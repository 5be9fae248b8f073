"""Test that each scored image with a duplicate in training is listed once, with its most similar duplicate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import encode, samples_of, scan_of, scene

from headstart.quality.duplicates import Pair, components, find_leaks
from headstart.quality.inspection import inspect_dataset


def leaks(splits: list[str | None], *pairs: tuple[int, int, str, float]) -> list[Pair]:
    samples = samples_of([f"{i}.png" for i in range(len(splits))], splits=splits)
    return find_leaks(samples, [Pair(*p) for p in pairs])


@pytest.mark.parametrize(
    ("splits", "is_leak"),
    [
        (["train", "test"], True),
        (["train", "val"], True),
        (["val", "test"], True),
        (["test", "test"], False),
        (["train", "train"], False),
        (["val", "val"], False),
        ([None, "test"], False),
        ([None, None], False),
    ],
)
def test_leaks_by_split(splits: list[str | None], is_leak: bool) -> None:
    for order in (splits, splits[::-1]):
        assert leaks(order, (0, 1, "bytes", 1.0)) == ([Pair(0, 1, "bytes", 1.0)] if is_leak else [])


def test_leaks_are_transitive() -> None:
    pairs = leaks(["train", "test", "test"], (0, 1, "near", 0.999), (1, 2, "bytes", 1.0))
    assert pairs == [Pair(0, 1, "near", 0.999), Pair(0, 2, "near", 0.999)]


def test_duplicate_without_split_links_leak() -> None:
    assert leaks(["train", None, "test"], (0, 1, "bytes", 1.0), (1, 2, "near", 0.99)) == [Pair(0, 2, "near", 0.99)]


def test_train_precedes_val_and_most_similar_comes_first() -> None:
    pairs = leaks(["val", "train", "train", "test"], (0, 3, "bytes", 1.0), (1, 3, "near", 0.98), (2, 3, "near", 0.999))
    assert [p for p in pairs if 3 in (p.first, p.second)] == [Pair(2, 3, "near", 0.999)]


def test_direct_duplicate_is_preferred() -> None:
    """A direct duplicate is preferred, even if a longer path is more similar."""
    pairs = leaks(
        ["train", "train", "test", "test"],
        (0, 2, "near", 0.98), (1, 3, "bytes", 1.0), (2, 3, "bytes", 1.0),
    )  # fmt: skip
    assert pairs == [Pair(0, 2, "near", 0.98), Pair(1, 3, "bytes", 1.0)]


@given(
    splits=st.lists(st.sampled_from(["train", "val", "test", None]), min_size=2, max_size=12),
    links=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.floats(0.9, 1.0)), max_size=14),
)
def test_exactly_images_linked_to_earlier_split_leak(
    splits: list[str | None], links: list[tuple[int, int, float]]
) -> None:
    count = len(splits)
    pairs = {(min(a, b), max(a, b)): s for a, b, s in links if a != b and max(a, b) < count}
    leaking = leaks(splits, *((a, b, "near", s) for (a, b), s in pairs.items()))
    order = {"train": 0, "val": 1, "test": 2}
    sets = components(count, list(pairs))
    expected = {
        i
        for i in range(count)
        if splits[i] is not None
        and any(s is not None and order[s] < order[splits[i]] for k, s in enumerate(splits) if sets[k] == sets[i])
    }
    later = [max((p.first, p.second), key=lambda i: order[splits[i] or "train"]) for p in leaking]
    assert sorted(later) == sorted(expected)  # each once
    for p in leaking:
        assert p.first < p.second
        assert splits[p.first] != splits[p.second]
        assert sets[p.first] == sets[p.second]


def test_only_real_leaks_are_reported() -> None:
    rng = np.random.default_rng(0)
    names, splits, labels, files = [], [], [], []
    for i in range(40):
        names.append(f"{'test' if i >= 30 else 'train'}/{'ab'[i % 2]}/{i}.jpg")
        splits.append("test" if i >= 30 else "train")
        labels.append("ab"[i % 2])
        if i in (31, 34, 38):
            files.append(encode(scene(i - 30), quality=int(rng.integers(40, 70))))
        else:
            files.append(encode(scene(i)))
    samples = samples_of(names, labels, splits)
    report = inspect_dataset(samples, scan=scan_of(samples, files), num_threads=1)
    assert {(p.a, p.b) for p in report.leaks} == {
        (f"train/{'ab'[i % 2]}/{i - 30}.jpg", f"test/{'ab'[i % 2]}/{i}.jpg") for i in (31, 34, 38)
    }
    for p in report.leaks:
        assert (p.split_a, p.split_b, p.kind) == ("train", "test", "near")
        assert 0.9 < p.similarity < 1
        assert (samples[p.index_a].name, samples[p.index_b].name) == (p.a, p.b)
    assert report.is_misleading
