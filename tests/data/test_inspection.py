"""Test effects of a report: excluded images, scored images, groups, and overriding options."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import encode, samples_of, scan_of, scene

from headstart.errors import UsageError
from headstart.quality.class_balance import class_table, find_class_problems, overlap_fraction
from headstart.quality.group_candidates import propose_groups
from headstart.quality.inspection import AppliedReport, apply_report, inspect_dataset
from headstart.types.codes import DecisionReason, Finding, FindingKind, GroupStatus, Severity
from headstart.types.records import DatasetReport, GroupPattern, ImagePair, Problem, Samples


def pair(samples: Samples, a: int, b: int, kind: str = "bytes", similarity: float = 1.0) -> ImagePair:
    one, two = samples[a], samples[b]
    return ImagePair(
        one.name, two.name, kind, similarity, one.split, two.split, one.label, two.label, a, b
    )  # fmt: skip


def report_of(samples: Samples, **checks: object) -> DatasetReport:
    return DatasetReport(len(samples), samples.layout, class_table(samples), {"JPEG": len(samples)}, **checks)  # type: ignore[arg-type]


def pattern(text: str, **more: object) -> GroupPattern:
    values: dict[str, object] = {
        "pattern": text, "grouping": {"grouped_by": "column", "name": "patient"}, "num_groups": 2, "p_value": 0.001,
        "nearness": 0.3, "accuracy_independent": 0.91, "accuracy_grouped": 0.78, "status": GroupStatus.APPLIED,
    }  # fmt: skip
    return GroupPattern(**(values | more))  # type: ignore[arg-type]


@pytest.fixture
def split_samples() -> Samples:
    """Four training, two val and four test images."""
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 4
    return samples_of([f"{i // 2}_{i}.jpg" for i in range(10)], ["a", "b"] * 5, splits)


def where(mask: object) -> list[int]:
    return np.flatnonzero(mask).tolist()


def test_clean_dataset_changes_nothing(split_samples: Samples) -> None:
    applied = apply_report(split_samples, report_of(split_samples))
    assert applied.groups is None
    assert where(applied.excluded) == []
    assert where(applied.test_including_leaks) == where(applied.test) == [4, 5, 6, 7, 8, 9]


def test_leaking_images_are_excluded_from_headline_only(split_samples: Samples) -> None:
    leaks = (pair(split_samples, 0, 6), pair(split_samples, 1, 9, "near", 0.98))
    applied = apply_report(
        split_samples, report_of(split_samples, leaks=leaks, duplicates=leaks[:1], near_duplicates=leaks[1:])
    )
    assert where(applied.test) == [4, 5, 7, 8]
    assert where(applied.test_including_leaks) == [4, 5, 6, 7, 8, 9]
    assert where(applied.excluded) == []  # training keeps its images


def test_image_in_later_split_leaks(split_samples: Samples) -> None:
    applied = apply_report(split_samples, report_of(split_samples, leaks=(pair(split_samples, 4, 7),)))
    assert where(applied.test_including_leaks & ~applied.test) == [7]


def test_unreadable_images_are_excluded(split_samples: Samples) -> None:
    lost = (Problem("0_1.jpg", "truncated", "cut"), Problem("4_8.jpg", "empty", "0 bytes"), Problem("x", "lost", "?"))
    applied = apply_report(split_samples, report_of(split_samples, unreadable=lost))
    assert where(applied.excluded) == [1, 8]
    assert 8 not in where(applied.test_including_leaks)
    assert 8 not in where(applied.test)


def test_image_with_two_labels_is_excluded(split_samples: Samples) -> None:
    conflict = pair(split_samples, 0, 1)
    applied = apply_report(split_samples, report_of(split_samples, duplicates=(conflict,), label_conflicts=(conflict,)))
    assert where(applied.excluded) == [0, 1]
    (decision,) = (d for d in applied.decisions if d.setting == "excluded.labels")
    assert decision.value == 2
    assert (decision.reason, decision.evidence) == (DecisionReason.CONFLICTING_LABELS, {"num_images": 2})


def test_all_duplicates_with_two_labels_are_excluded() -> None:
    """Large sets of one file list only pairs with the first; none of them may be trained on."""
    files = [encode(scene(1))] * 20 + [encode(scene(i)) for i in range(2, 12)]
    labels = ["a"] * 19 + ["b"] + ["a", "b"] * 5
    samples = samples_of([f"{i}.jpg" for i in range(30)], labels)
    report = inspect_dataset(samples, scan=scan_of(samples, files), num_threads=1)
    assert len(report.label_conflicts) < 19  # a few pairs stand for all
    applied = apply_report(samples, report)
    assert where(applied.excluded) == list(range(20))
    splits: list[str | None] = ["train"] * 9 + ["test"] * 11 + ["train"] * 10
    samples = samples_of([f"{i}.jpg" for i in range(30)], labels, splits)
    applied = apply_report(samples, inspect_dataset(samples, scan=scan_of(samples, files), num_threads=1))
    assert where(applied.excluded) == list(range(9))
    assert where(applied.test_including_leaks & ~applied.test) == list(range(9, 20))


def test_two_labels_across_the_split(split_samples: Samples) -> None:
    """The training image is excluded; the own test split is never shrunk silently: both scores stay."""
    conflict = pair(split_samples, 1, 6)
    applied = apply_report(split_samples, report_of(split_samples, leaks=(conflict,), label_conflicts=(conflict,)))
    assert where(applied.excluded) == [1]
    assert where(applied.test_including_leaks & ~applied.test) == [6]
    inside = pair(split_samples, 6, 7)
    applied = apply_report(split_samples, report_of(split_samples, label_conflicts=(inside,)))
    assert where(applied.excluded) == []
    assert where(applied.test_including_leaks & ~applied.test) == [6, 7]


def test_duplicates_stay_together() -> None:
    samples = samples_of([f"{i}.jpg" for i in range(6)], ["a", "b"] * 3)
    report = report_of(samples, duplicates=(pair(samples, 0, 2),), near_duplicates=(pair(samples, 2, 5, "near", 0.98),))
    applied = apply_report(samples, report)
    assert applied.groups is not None
    assert applied.groups.tolist() == [0, 1, 0, 2, 3, 0]
    (decision,) = (d for d in applied.decisions if d.setting == "groups.duplicates")
    assert decision.value == 2


def test_duplicates_stay_together_without_groups() -> None:
    samples = samples_of([f"{i}_x.jpg" for i in range(4)], ["a", "b"] * 2)
    report = report_of(samples, duplicates=(pair(samples, 0, 2),), group_patterns=(pattern("^([^_]*)_"),))
    applied = apply_report(samples, report, group_from="none")
    assert applied.groups is not None
    assert applied.groups.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(("similarity", "ties"), [(0.98, False), (0.9992, False), (0.9994, True), (1.0, True)])
def test_only_certain_duplicates_link_groups(similarity: float, ties: bool) -> None:
    """One false pair would merge two groups."""
    samples = samples_of(
        [f"{i}.jpg" for i in range(8)], ["a", "b"] * 4, groups=["p", "p", "p", "q", "q", "q", "r", None]
    )
    across = pair(samples, 2, 3, "near", similarity)
    inside = pair(samples, 0, 1, "near", 0.98)
    alone = pair(samples, 6, 7, "near", 0.98)  # one image of a group and one ungrouped image: two groups
    applied = apply_report(samples, report_of(samples, near_duplicates=(across, inside, alone)))
    assert applied.groups is not None
    assert (applied.groups[0] == applied.groups[5]) == ties
    assert applied.groups[6] != applied.groups[0]
    assert len(set(applied.groups[:3].tolist())) == 1
    (decision,) = (d for d in applied.decisions if d.setting == "groups.duplicates")
    assert decision.evidence == {"num_pairs": 3, "num_joined": decision.value}
    assert decision.value < 3


def test_accepted_pattern_is_used_and_reported() -> None:
    samples = samples_of([f"{i // 3}_{i}.jpg" for i in range(9)], ["a", "b", "a"] * 3)
    report = report_of(samples, group_patterns=(pattern("^([^_]*)_", num_groups=3),))
    applied = apply_report(samples, report)
    assert applied.groups is not None
    assert applied.groups.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    (decision,) = applied.decisions
    assert decision.value == "^([^_]*)_"
    assert decision.reason is DecisionReason.GROUPS_SUPPORTED_BY_IMAGES
    expected = {"num_groups": 3, "p_value": 0.001, "accuracy_independent": 0.91, "accuracy_grouped": 0.78}
    assert {name: decision.evidence[name] for name in expected} == expected
    assert apply_report(samples, report, group_from="none").groups is None


def test_names_of_other_forms_stay_ungrouped() -> None:
    """The expression alone would put the whole other class into one group."""
    names = [f"a/p{p}_v{v}.jpg" for p in range(6) for v in range(4)] + [f"b/x_{i}_{i}.jpg" for i in range(12)]
    samples = samples_of(names, [n[0] for n in names])
    (proposal,) = [g for g in propose_groups(samples) if len({k for k in g.keys if k}) == 6]
    applied = apply_report(samples, report_of(samples, group_patterns=(pattern(proposal.pattern, num_groups=6),)))
    assert applied.groups is not None
    assert applied.groups.tolist() == [*np.repeat(np.arange(6), 4), *range(6, 18)]


def test_unused_pattern_groups_nothing() -> None:
    samples = samples_of([f"{i // 3}_{i}.jpg" for i in range(9)], ["a", "b", "a"] * 3)
    report = report_of(samples, group_patterns=(pattern("^([^_]*)_", status=GroupStatus.ALTERNATIVE),))
    assert apply_report(samples, report).groups is None


def test_requested_groups_override_detected_ones() -> None:
    samples = samples_of([f"{i // 3}_{i % 3}.jpg" for i in range(9)], ["a", "b", "a"] * 3)
    report = report_of(samples, group_patterns=(pattern("^([^_]*)_"),))
    applied = apply_report(samples, report, group_from=r"_(\d)\.")
    assert applied.groups is not None
    assert applied.groups.tolist() == [0, 1, 2] * 3
    assert applied.decisions[0].source == "cli"
    with pytest.raises(UsageError, match="--group-from"):
        apply_report(samples, report, group_from="patient")


def test_given_groups_override_pattern() -> None:
    samples = samples_of([f"{i // 3}_{i}.jpg" for i in range(6)], ["a", "b"] * 3, groups=["x", "y"] * 3)
    applied = apply_report(samples, report_of(samples, group_patterns=(pattern("^([^_]*)_"),)))
    assert applied.groups is not None
    assert applied.groups.tolist() == [0, 1] * 3


def test_applied_report_aligns_with_samples(split_samples: Samples) -> None:
    applied = apply_report(split_samples, report_of(split_samples, duplicates=(pair(split_samples, 0, 2),)))
    assert isinstance(applied, AppliedReport)
    assert applied.groups is not None
    for array in (applied.groups, applied.excluded, applied.test, applied.test_including_leaks):
        assert array.shape == (10,)


class TestInspect:
    """Reports on images in memory."""

    def test_conflicts_and_counts(self) -> None:
        files = [encode(scene(i)) for i in range(24)]
        files[13] = encode(scene(2), quality=50)  # under another label
        files[5] = files[3]
        labels = ["a", "b"] * 12
        samples = samples_of([f"{labels[i]}/{i}.jpg" for i in range(24)], labels)
        report = inspect_dataset(samples, scan=scan_of(samples, files), num_threads=1)
        assert [(p.a, p.b) for p in report.duplicates] == [("b/3.jpg", "b/5.jpg")]
        assert [(p.a, p.label_a, p.b, p.label_b) for p in report.label_conflicts] == [("a/2.jpg", "a", "b/13.jpg", "b")]
        assert report.leaks == ()
        assert report.is_misleading
        assert (report.num_samples, report.formats) == (24, {"JPEG": 24})
        assert report.classes == {"a": {"none": 12}, "b": {"none": 12}}
        assert report.size_range == (200, 200, 200)
        assert report.intensity_range is None

    def test_clean_dataset_is_not_misleading(self) -> None:
        labels = ["a", "b"] * 12
        samples = samples_of([f"{labels[i]}/{i}.jpg" for i in range(24)], labels)
        report = inspect_dataset(samples, scan=scan_of(samples, [encode(scene(i)) for i in range(24)]), num_threads=1)
        assert not report.is_misleading
        assert (report.duplicates, report.near_duplicates, report.label_conflicts, report.findings) == ((), (), (), ())

    def test_cropped_or_flipped_duplicate_with_two_labels_is_a_conflict(self) -> None:
        from PIL import ImageOps

        files = [encode(scene(i)) for i in range(24)]
        files[13] = encode(ImageOps.mirror(scene(2)))
        labels = ["a", "b"] * 12
        samples = samples_of([f"{labels[i]}/{i}.jpg" for i in range(24)], labels)
        (conflict,) = inspect_dataset(samples, scan=scan_of(samples, files), num_threads=1).label_conflicts
        assert (conflict.a, conflict.b, conflict.kind) == ("a/2.jpg", "b/13.jpg", "flipped")

    def test_images_without_labels(self) -> None:
        files = [encode(scene(i, (60, 40))) for i in range(6)]
        files[4] = files[1]
        samples = samples_of([f"{i}.jpg" for i in range(6)])
        report = inspect_dataset(samples, scan=scan_of(samples, files), num_threads=1)
        assert len(report.duplicates) == 1
        assert report.label_conflicts == ()

    def test_visible_fraction(self) -> None:
        files = [encode(scene(i, (400, 100))) for i in range(3)]
        samples = samples_of([f"{i}.jpg" for i in range(3)], list("aba"))
        fractions = inspect_dataset(samples, scan=scan_of(samples, files), num_threads=1).overlap_fraction
        assert fractions == {"crop": pytest.approx(0.25 * 0.875**2, abs=1e-3), "cover": 0.25, "squash": 1.0, "pad": 1.0}


class TestBalance:
    """Class counts and their findings."""

    def test_counts_by_class_and_split(self, split_samples: Samples) -> None:
        assert class_table(split_samples) == {
            "a": {"train": 2, "val": 1, "test": 2},
            "b": {"train": 2, "val": 1, "test": 2},
        }

    def test_class_in_one_split_only_is_misleading(self) -> None:
        labels = ["a"] * 12 + ["b"] * 12 + ["c"] * 3 + ["d"] * 12
        splits: list[str | None] = [*["train"] * 10, "test", "test"] * 2 + ["test"] * 3 + ["train"] * 12
        samples = samples_of([f"{i}.jpg" for i in range(39)], labels, splits)
        findings = find_class_problems(samples, np.ones(39, dtype=bool), None)
        evidence = {"class": "c", "splits": ["test"], "can_exclude": True}
        only_in_test = Finding(FindingKind.CLASS_NOT_IN_TRAIN, Severity.ERROR, evidence)
        assert only_in_test in findings
        assert Finding(FindingKind.CLASS_NOT_IN_TEST, Severity.WARNING, {"class": "d"}) in findings

    def test_class_in_one_group_is_reported(self) -> None:
        samples = samples_of([f"{i}.jpg" for i in range(24)], ["a"] * 12 + ["b"] * 12)
        groups = np.array([*range(12), *[12] * 12])
        findings = find_class_problems(samples, np.ones(24, dtype=bool), groups)
        assert findings == [Finding(FindingKind.CLASS_IN_ONE_GROUP, Severity.WARNING, {"class": "b"})]

    def test_ungrouped_images_are_not_a_group(self) -> None:
        """A pattern that matches the names of one class is not evidence about the other."""
        samples = samples_of([f"{i}.jpg" for i in range(24)], ["a"] * 12 + ["b"] * 12)
        groups = np.array([*np.arange(12) // 3, *[-1] * 12])
        assert find_class_problems(samples, np.ones(24, dtype=bool), groups) == []

    def test_small_and_uneven_classes(self) -> None:
        samples = samples_of([f"{i}.jpg" for i in range(41)], ["a"] * 31 + ["b"] * 9 + ["c"])
        findings = {f.kind: f.evidence for f in find_class_problems(samples, np.ones(41, dtype=bool), None)}
        small = findings[FindingKind.CLASS_TOO_SMALL]
        assert (small["class"], small["count"]) == ("b", 9)
        assert findings[FindingKind.CLASS_WITH_ONE_IMAGE] == {"class": "c"}
        uneven = findings[FindingKind.CLASS_IMBALANCE]
        assert (uneven["largest_class"], uneven["largest_count"]) == ("a", 31)
        assert (uneven["smallest_class"], uneven["smallest_count"]) == ("c", 1)

    def test_unreadable_images_do_not_count(self) -> None:
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
    def test_overlap_fraction(self, size_hw: tuple[int, int], fit: str, share: float) -> None:
        assert overlap_fraction(size_hw, (224, 224), fit, 0.5) == pytest.approx(share)
