"""What a judgement does: what is left out, what is scored, what is kept together, and what switches it off."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import encode, looks_of, samples_of, scene

from headstart.data.class_balance import class_table, find_class_problems, overlap_fraction
from headstart.data.group_candidates import propose_groups
from headstart.data.inspection import AppliedReport, apply_report, inspect_dataset
from headstart.errors import UsageError
from headstart.records import DatasetReport, GroupPattern, ImagePair, Problem, Samples
from headstart.types import DecisionReason, Finding, FindingKind, GroupStatus, Severity


def pair(samples: Samples, a: int, b: int, kind: str = "bytes", similarity: float = 1.0) -> ImagePair:
    one, two = samples[a], samples[b]
    return ImagePair(
        one.name, two.name, kind, similarity, one.split, two.split, one.label, two.label, a, b
    )  # fmt: skip


def health_of(samples: Samples, **found: object) -> DatasetReport:
    return DatasetReport(len(samples), samples.layout, class_table(samples), {"JPEG": len(samples)}, **found)  # type: ignore[arg-type]


def pattern(text: str, **more: object) -> GroupPattern:
    values: dict[str, object] = {
        "pattern": text, "meaning": "part 1 of the name", "num_groups": 2, "p_value": 0.001,
        "nearness": 0.3, "accuracy_independent": 0.91, "accuracy_grouped": 0.78, "status": GroupStatus.APPLIED,
    }  # fmt: skip
    return GroupPattern(**(values | more))  # type: ignore[arg-type]


@pytest.fixture
def parted() -> Samples:
    """Four training, two val and four test images."""
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 4
    return samples_of([f"{i // 2}_{i}.jpg" for i in range(10)], ["a", "b"] * 5, splits)


def where(mask: object) -> list[int]:
    return np.flatnonzero(mask).tolist()


def test_a_healthy_set_changes_nothing(parted: Samples) -> None:
    applied = apply_report(parted, health_of(parted))
    assert applied.groups is None
    assert where(applied.excluded) == []
    assert where(applied.test_including_leaks) == where(applied.test) == [4, 5, 6, 7, 8, 9]


def test_leaking_images_leave_the_headline_but_not_the_score_including_leaks(parted: Samples) -> None:
    leaks = (pair(parted, 0, 6), pair(parted, 1, 9, "near", 0.98))
    applied = apply_report(parted, health_of(parted, leaks=leaks, duplicates=leaks[:1], near_duplicates=leaks[1:]))
    assert where(applied.test) == [4, 5, 7, 8]
    assert where(applied.test_including_leaks) == [4, 5, 6, 7, 8, 9]
    assert where(applied.excluded) == []  # training keeps its own


def test_the_later_split_is_the_one_that_leaks(parted: Samples) -> None:
    applied = apply_report(parted, health_of(parted, leaks=(pair(parted, 4, 7),)))
    assert where(applied.test_including_leaks & ~applied.test) == [7]


def test_what_cannot_be_read_is_in_nothing(parted: Samples) -> None:
    lost = (Problem("0_1.jpg", "truncated", "cut"), Problem("4_8.jpg", "empty", "0 bytes"), Problem("x", "lost", "?"))
    applied = apply_report(parted, health_of(parted, unreadable=lost))
    assert where(applied.excluded) == [1, 8]
    assert 8 not in where(applied.test_including_leaks)
    assert 8 not in where(applied.test)


def test_one_image_under_two_labels_is_not_trained_on(parted: Samples) -> None:
    conflict = pair(parted, 0, 1)
    applied = apply_report(parted, health_of(parted, duplicates=(conflict,), label_conflicts=(conflict,)))
    assert where(applied.excluded) == [0, 1]
    (decision,) = (d for d in applied.decisions if d.setting == "left_out.labels")
    assert decision.value == 2
    assert (decision.reason, decision.evidence) == (DecisionReason.CONFLICTING_LABELS, {"num_images": 2})


def test_every_copy_of_a_image_under_two_labels_is_left_out() -> None:
    """Of large sets of one file only pairs with the first are listed; none of them may be trained on."""
    files = [encode(scene(1))] * 20 + [encode(scene(i)) for i in range(2, 12)]
    labels = ["a"] * 19 + ["b"] + ["a", "b"] * 5
    samples = samples_of([f"{i}.jpg" for i in range(30)], labels)
    health = inspect_dataset(samples, scan=looks_of(samples, files), num_threads=1)
    assert len(health.label_conflicts) < 19  # so a few pairs must speak for all
    applied = apply_report(samples, health)
    assert where(applied.excluded) == list(range(20))
    splits: list[str | None] = ["train"] * 9 + ["test"] * 11 + ["train"] * 10
    samples = samples_of([f"{i}.jpg" for i in range(30)], labels, splits)
    applied = apply_report(samples, inspect_dataset(samples, scan=looks_of(samples, files), num_threads=1))
    assert where(applied.excluded) == list(range(9))
    assert where(applied.test_including_leaks & ~applied.test) == list(range(9, 20))


def test_two_labels_across_the_split(parted: Samples) -> None:
    """The training one is left out; the person's own test split is never silently shrunk: both figures stay."""
    conflict = pair(parted, 1, 6)
    applied = apply_report(parted, health_of(parted, leaks=(conflict,), label_conflicts=(conflict,)))
    assert where(applied.excluded) == [1]
    assert where(applied.test_including_leaks & ~applied.test) == [6]
    inside = pair(parted, 6, 7)
    applied = apply_report(parted, health_of(parted, label_conflicts=(inside,)))
    assert where(applied.excluded) == []
    assert where(applied.test_including_leaks & ~applied.test) == [6, 7]


def test_copies_are_kept_together() -> None:
    samples = samples_of([f"{i}.jpg" for i in range(6)], ["a", "b"] * 3)
    found = health_of(samples, duplicates=(pair(samples, 0, 2),), near_duplicates=(pair(samples, 2, 5, "near", 0.98),))
    applied = apply_report(samples, found)
    assert applied.groups is not None
    assert applied.groups.tolist() == [0, 1, 0, 2, 3, 0]
    (decision,) = (d for d in applied.decisions if d.setting == "groups.copies")
    assert decision.value == 2


def test_copies_are_kept_together_even_without_groups() -> None:
    samples = samples_of([f"{i}_x.jpg" for i in range(4)], ["a", "b"] * 2)
    found = health_of(samples, duplicates=(pair(samples, 0, 2),), group_patterns=(pattern("^([^_]*)_"),))
    applied = apply_report(samples, found, group_from="none")
    assert applied.groups is not None
    assert applied.groups.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(("similarity", "ties"), [(0.98, False), (0.9992, False), (0.9994, True), (1.0, True)])
def test_only_certain_copies_tie_groups_to_each_other(similarity: float, ties: bool) -> None:
    """One pair too many would make two persons one."""
    samples = samples_of(
        [f"{i}.jpg" for i in range(8)], ["a", "b"] * 4, groups=["p", "p", "p", "q", "q", "q", "r", None]
    )
    across = pair(samples, 2, 3, "near", similarity)
    inside = pair(samples, 0, 1, "near", 0.98)
    alone = pair(samples, 6, 7, "near", 0.98)  # one of a group with one that stands alone: two groups as well
    applied = apply_report(samples, health_of(samples, near_duplicates=(across, inside, alone)))
    assert applied.groups is not None
    assert (applied.groups[0] == applied.groups[5]) == ties
    assert applied.groups[6] != applied.groups[0]
    assert len(set(applied.groups[:3].tolist())) == 1
    (decision,) = (d for d in applied.decisions if d.setting == "groups.copies")
    assert decision.evidence == {"num_pairs": 3, "num_joined": decision.value}
    assert decision.value < 3


def test_an_accepted_pattern_is_used_and_said() -> None:
    samples = samples_of([f"{i // 3}_{i}.jpg" for i in range(9)], ["a", "b", "a"] * 3)
    found = health_of(samples, group_patterns=(pattern("^([^_]*)_", num_groups=3),))
    applied = apply_report(samples, found)
    assert applied.groups is not None
    assert applied.groups.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    (decision,) = applied.decisions
    assert decision.value == "^([^_]*)_"
    assert decision.reason is DecisionReason.GROUPS_SUPPORTED_BY_IMAGES
    expected = {"num_groups": 3, "p_value": 0.001, "accuracy_independent": 0.91, "accuracy_grouped": 0.78}
    assert {name: decision.evidence[name] for name in expected} == expected
    assert apply_report(samples, found, group_from="none").groups is None


def test_names_of_another_form_stand_alone_as_they_did_in_the_test() -> None:
    """The expression alone would make one group of the whole other class."""
    names = [f"a/p{p}_v{v}.jpg" for p in range(6) for v in range(4)] + [f"b/x_{i}_{i}.jpg" for i in range(12)]
    samples = samples_of(names, [n[0] for n in names])
    (guess,) = [g for g in propose_groups(samples) if len({k for k in g.keys if k}) == 6]
    applied = apply_report(samples, health_of(samples, group_patterns=(pattern(guess.pattern, num_groups=6),)))
    assert applied.groups is not None
    assert applied.groups.tolist() == [*np.repeat(np.arange(6), 4), *range(6, 18)]


def test_a_pattern_that_is_not_in_use_groups_nothing() -> None:
    samples = samples_of([f"{i // 3}_{i}.jpg" for i in range(9)], ["a", "b", "a"] * 3)
    found = health_of(samples, group_patterns=(pattern("^([^_]*)_", status=GroupStatus.ALTERNATIVE),))
    assert apply_report(samples, found).groups is None


def test_what_a_person_asks_for_beats_what_was_found() -> None:
    samples = samples_of([f"{i // 3}_{i % 3}.jpg" for i in range(9)], ["a", "b", "a"] * 3)
    found = health_of(samples, group_patterns=(pattern("^([^_]*)_"),))
    applied = apply_report(samples, found, group_from=r"_(\d)\.")
    assert applied.groups is not None
    assert applied.groups.tolist() == [0, 1, 2] * 3
    assert applied.decisions[0].source == "cli"
    with pytest.raises(UsageError, match="--group-from"):
        apply_report(samples, found, group_from="patient")


def test_groups_of_the_data_beat_a_pattern() -> None:
    samples = samples_of([f"{i // 3}_{i}.jpg" for i in range(6)], ["a", "b"] * 3, groups=["x", "y"] * 3)
    applied = apply_report(samples, health_of(samples, group_patterns=(pattern("^([^_]*)_"),)))
    assert applied.groups is not None
    assert applied.groups.tolist() == [0, 1] * 3


def test_applied_is_aligned_with_the_samples(parted: Samples) -> None:
    applied = apply_report(parted, health_of(parted, duplicates=(pair(parted, 0, 2),)))
    assert isinstance(applied, AppliedReport)
    assert applied.groups is not None
    for array in (applied.groups, applied.excluded, applied.test, applied.test_including_leaks):
        assert array.shape == (10,)


class TestInspect:
    """The judgement itself, of images in memory."""

    def test_it_finds_a_conflict_and_counts_everything(self) -> None:
        files = [encode(scene(i)) for i in range(24)]
        files[13] = encode(scene(2), quality=50)  # under another label
        files[5] = files[3]
        labels = ["a", "b"] * 12
        samples = samples_of([f"{labels[i]}/{i}.jpg" for i in range(24)], labels)
        health = inspect_dataset(samples, scan=looks_of(samples, files), num_threads=1)
        assert [(p.a, p.b) for p in health.duplicates] == [("b/3.jpg", "b/5.jpg")]
        assert [(p.a, p.label_a, p.b, p.label_b) for p in health.label_conflicts] == [("a/2.jpg", "a", "b/13.jpg", "b")]
        assert health.leaks == ()
        assert health.is_misleading
        assert (health.num_samples, health.formats) == (24, {"JPEG": 24})
        assert health.classes == {"a": {"none": 12}, "b": {"none": 12}}
        assert health.size_range == (200, 200, 200)
        assert health.intensity_range is None

    def test_a_healthy_set_is_honest(self) -> None:
        labels = ["a", "b"] * 12
        samples = samples_of([f"{labels[i]}/{i}.jpg" for i in range(24)], labels)
        health = inspect_dataset(samples, scan=looks_of(samples, [encode(scene(i)) for i in range(24)]), num_threads=1)
        assert not health.is_misleading
        assert (health.duplicates, health.near_duplicates, health.label_conflicts, health.findings) == ((), (), (), ())

    def test_a_copy_that_is_cropped_or_mirrored_under_two_labels_is_a_conflict_too(self) -> None:
        from PIL import ImageOps

        files = [encode(scene(i)) for i in range(24)]
        files[13] = encode(ImageOps.mirror(scene(2)))
        labels = ["a", "b"] * 12
        samples = samples_of([f"{labels[i]}/{i}.jpg" for i in range(24)], labels)
        (conflict,) = inspect_dataset(samples, scan=looks_of(samples, files), num_threads=1).label_conflicts
        assert (conflict.a, conflict.b, conflict.kind) == ("a/2.jpg", "b/13.jpg", "mirrored")

    def test_images_without_labels(self) -> None:
        files = [encode(scene(i, (60, 40))) for i in range(6)]
        files[4] = files[1]
        samples = samples_of([f"{i}.jpg" for i in range(6)])
        health = inspect_dataset(samples, scan=looks_of(samples, files), num_threads=1)
        assert len(health.duplicates) == 1
        assert health.label_conflicts == ()

    def test_the_share_that_is_seen(self) -> None:
        files = [encode(scene(i, (400, 100))) for i in range(3)]
        samples = samples_of([f"{i}.jpg" for i in range(3)], list("aba"))
        seen = inspect_dataset(samples, scan=looks_of(samples, files), num_threads=1).overlap_fraction
        assert seen == {"crop": pytest.approx(0.25 * 0.875**2, abs=1e-3), "cover": 0.25, "squash": 1.0, "pad": 1.0}


class TestBalance:
    """Counts, and what they forbid."""

    def test_counts_by_class_and_split(self, parted: Samples) -> None:
        assert class_table(parted) == {
            "a": {"train": 2, "val": 1, "test": 2},
            "b": {"train": 2, "val": 1, "test": 2},
        }

    def test_a_class_in_one_split_only_makes_a_score_dishonest(self) -> None:
        labels = ["a"] * 12 + ["b"] * 12 + ["c"] * 3 + ["d"] * 12
        splits: list[str | None] = [*["train"] * 10, "test", "test"] * 2 + ["test"] * 3 + ["train"] * 12
        samples = samples_of([f"{i}.jpg" for i in range(39)], labels, splits)
        found = find_class_problems(samples, np.ones(39, dtype=bool), None)
        only_in_test = Finding(FindingKind.CLASS_NOT_IN_TRAIN, Severity.ERROR, {"class": "c", "splits": ["test"]})
        assert only_in_test in found
        assert Finding(FindingKind.CLASS_NOT_IN_TEST, Severity.WARNING, {"class": "d"}) in found

    def test_a_class_in_one_group_is_said(self) -> None:
        samples = samples_of([f"{i}.jpg" for i in range(24)], ["a"] * 12 + ["b"] * 12)
        groups = np.array([*range(12), *[12] * 12])
        found = find_class_problems(samples, np.ones(24, dtype=bool), groups)
        assert found == [Finding(FindingKind.CLASS_IN_ONE_GROUP, Severity.WARNING, {"class": "b"})]

    def test_images_that_stand_alone_are_no_group(self) -> None:
        """A pattern that fits the names of one class says nothing of the other."""
        samples = samples_of([f"{i}.jpg" for i in range(24)], ["a"] * 12 + ["b"] * 12)
        groups = np.array([*np.arange(12) // 3, *[-1] * 12])
        assert find_class_problems(samples, np.ones(24, dtype=bool), groups) == []

    def test_small_and_uneven_classes(self) -> None:
        samples = samples_of([f"{i}.jpg" for i in range(41)], ["a"] * 31 + ["b"] * 9 + ["c"])
        found = {f.kind: f.evidence for f in find_class_problems(samples, np.ones(41, dtype=bool), None)}
        small = found[FindingKind.CLASS_TOO_SMALL]
        assert (small["class"], small["count"]) == ("b", 9)
        assert found[FindingKind.CLASS_WITH_ONE_IMAGE] == {"class": "c"}
        uneven = found[FindingKind.CLASS_IMBALANCE]
        assert (uneven["largest_class"], uneven["largest_count"]) == ("a", 31)
        assert (uneven["smallest_class"], uneven["smallest_count"]) == ("c", 1)

    def test_images_that_cannot_be_read_do_not_count(self) -> None:
        samples = samples_of([f"{i}.jpg" for i in range(24)], ["a"] * 12 + ["b"] * 12)
        use = np.array([True] * 12 + [False] * 12)
        assert find_class_problems(samples, use, None) == [
            Finding(FindingKind.CLASS_WITHOUT_IMAGES, Severity.ERROR, {"class": "b"}),
            Finding(FindingKind.SINGLE_CLASS, Severity.WARNING, {"class": "a"}),
        ]

    @pytest.mark.parametrize(
        ("size_hw", "fit", "share"),
        [
            ((100, 100), "crop", 0.25),
            ((100, 200), "crop", 0.125),
            ((200, 100), "cover", 0.5),
            ((50, 400), "pad", 1.0),
            ((50, 400), "squash", 1.0),
            ((1, 1), "cover", 1.0),
        ],
    )
    def test_seen_share(self, size_hw: tuple[int, int], fit: str, share: float) -> None:
        assert overlap_fraction(size_hw, (224, 224), fit, 0.5) == pytest.approx(share)
