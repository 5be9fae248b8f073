"""Test that a proposed grouping is applied only if it passes every rule; otherwise it is a question."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scenes import encode, samples_of, scan_of, scene

from headstart.data.boxes.records import Boxes, DetectionSamples
from headstart.data.grouping import group_ids
from headstart.data.image_scan import ScanResult
from headstart.evaluation import intervals
from headstart.quality.box_inspection import apply_box_report, inspect_box_dataset
from headstart.quality.duplicates import Pair
from headstart.quality.group_candidates import propose_groups
from headstart.quality.group_evaluation import evaluate_groupings
from headstart.quality.group_rules import (
    MIN_GROUPS,
    camera_of,
    decide_status,
    groups_per_level,
    merge_duplicates,
)
from headstart.quality.group_tests import number_keys, off_axis_fraction, similarity_across
from headstart.quality.inspection import apply_report, inspect_dataset
from headstart.types.codes import DecisionReason, FindingKind, GroupStatus, Severity
from headstart.types.records import GroupEvidence, GroupPattern, Samples

GOOD = GroupEvidence(
    num_images=120,
    num_independent=12,
    effective_groups=11.0,
    groups_per_level={"class": 6.0, "split": 8.0, "camera": 4.0},
    duplicates_within=3,
    off_axis_fraction=0.6,
    accuracy_baseline=0.25,
)


def status(evidence: GroupEvidence, **changes: object) -> GroupStatus:
    values: dict[str, object] = {
        "source": "guessed", "is_counter": False, "is_near": True, "independent": 0.95, "grouped": 0.80,
        "standard_error": 0.02,
    }  # fmt: skip
    return decide_status(evidence, **(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("evidence", "changes", "wanted"),
    [
        ({}, {}, GroupStatus.ALTERNATIVE),
        ({}, {"independent": None, "grouped": None}, GroupStatus.ALTERNATIVE),
        ({}, {"grouped": None}, GroupStatus.QUESTION_TOO_FEW_GROUPS),  # too few to measure
        ({"num_independent": 2}, {"source": "inferred"}, GroupStatus.APPLIED),
        ({}, {"source": "inferred", "grouped": 0.27}, GroupStatus.QUESTION_SCORE_AT_BASELINE),
        ({"num_independent": 2}, {"source": "given", "grouped": 0.1, "is_near": False}, GroupStatus.APPLIED),
        ({"num_independent": 2}, {"source": "requested", "grouped": 0.1, "is_near": False}, GroupStatus.APPLIED),
        ({}, {"is_counter": True}, GroupStatus.REJECTED_COUNTER_PREFIX),
        ({}, {"is_near": False}, GroupStatus.REJECTED_NO_SIMILARITY),
        ({"off_axis_fraction": None}, {"is_near": False, "source": "named"}, GroupStatus.ALTERNATIVE),
        ({"groups_per_level": {"class": 1.3}}, {"source": "named"}, GroupStatus.QUESTION_CONFOUNDED_WITH_CLASS),
        ({"num_independent": 5}, {"source": "named"}, GroupStatus.QUESTION_TOO_FEW_GROUPS),
        ({"duplicates_across": 5}, {"source": "named"}, GroupStatus.QUESTION_CONTRADICTED_BY_DUPLICATES),
        ({}, {"source": "named", "grouped": 0.27}, GroupStatus.QUESTION_SCORE_AT_BASELINE),
        ({"duplicates_across": 5}, {}, GroupStatus.QUESTION_CONTRADICTED_BY_DUPLICATES),
        ({"duplicates_across": 5, "duplicates_within": 5}, {}, GroupStatus.ALTERNATIVE),
        ({"duplicates_across": 5, "num_images": 1000}, {}, GroupStatus.ALTERNATIVE),  # 5 of 1,000 may be errors
        ({"groups_per_level": {"class": 1.3}}, {}, GroupStatus.QUESTION_CONFOUNDED_WITH_CLASS),
        ({"groups_per_level": {"class": 6, "split": 1.2}}, {}, GroupStatus.QUESTION_CONFOUNDED_WITH_SPLIT),
        ({"groups_per_level": {"class": 6, "camera": 1.1}}, {}, GroupStatus.QUESTION_CONFOUNDED_WITH_CAMERA),
        ({"off_axis_fraction": 0.2}, {}, GroupStatus.QUESTION_CONFOUNDED_WITH_EXPOSURE),
        ({"num_independent": 5}, {}, GroupStatus.QUESTION_TOO_FEW_GROUPS),
        ({"effective_groups": 3.0}, {}, GroupStatus.QUESTION_TOO_FEW_GROUPS),
        ({"unscorable_fraction": 0.3}, {}, GroupStatus.QUESTION_TOO_FEW_GROUPS),
        ({}, {"grouped": 0.27}, GroupStatus.QUESTION_SCORE_AT_BASELINE),
        ({}, {"grouped": 0.10}, GroupStatus.QUESTION_SCORE_AT_BASELINE),
        ({}, {"independent": 0.28, "grouped": 0.25}, GroupStatus.ALTERNATIVE),  # at the baseline
    ],
)
def test_first_failing_rule_gives_status(
    evidence: Mapping[str, object], changes: Mapping[str, object], wanted: GroupStatus
) -> None:
    assert status(replace(GOOD, **evidence), **changes) is wanted  # type: ignore[arg-type]


def test_minimum_number_of_groups_matches_intervals() -> None:
    assert MIN_GROUPS == intervals.MIN_GROUPS


def test_groups_per_level_counts_equally_large_groups() -> None:
    level = np.repeat([0, 1], 60)
    assert groups_per_level(level, level) == pytest.approx(1)  # the level is the group
    assert groups_per_level(np.zeros(120, dtype=np.int64), level) == pytest.approx(1)  # a group of levels
    assert groups_per_level(np.arange(120) // 10, level) == pytest.approx(6)  # 6 groups in each
    assert groups_per_level(np.arange(120) % 6, level) == pytest.approx(6)  # the same 6 in both
    nearly = level.copy()
    nearly[::30] = 2
    assert groups_per_level(nearly, level) < 1.5


def test_only_certain_duplicates_merge_groups() -> None:
    groups = np.array([0, 0, 1, 1, -1, -1])
    duplicates = [(0, 1, 0.99), (1, 2, 0.99), (3, 4, 0.9999), (4, 5, 0.99)]
    joined, count = merge_duplicates(groups, duplicates, 6)
    assert number_keys([str(k) for k in joined]).tolist() == [0, 0, 1, 1, 1, 2]
    assert count == 2
    alone, count = merge_duplicates(None, duplicates, 6)
    assert len(np.unique(alone)) == 2
    assert count == 4


def test_one_direction_is_a_condition_several_are_objects() -> None:
    rng = np.random.default_rng(0)
    groups, classes = np.arange(120) % 12, np.arange(120) % 2
    noise = rng.normal(size=(120, 30))
    axis, centers = rng.normal(size=30), rng.normal(size=(12, 30))
    condition = noise + 0.5 * (groups - 5.5)[:, None] * axis
    assert off_axis_fraction(condition.astype(np.float32), groups, classes) < 0.1
    assert off_axis_fraction((noise + 2 * centers[groups]).astype(np.float32), groups, classes) > 0.5
    assert off_axis_fraction(noise.astype(np.float32), np.full(120, -1), classes) == 0


# -- groupings tested by all rules


def evaluate(samples: Samples, scan: ScanResult, **options: object) -> dict[str, GroupPattern]:
    patterns = evaluate_groupings(samples, scan, np.ones(len(samples), dtype=bool), **options)  # type: ignore[arg-type]
    return {p.pattern: p for _, p in patterns}


def shaded(image: Image.Image, factor: float) -> Image.Image:
    return Image.fromarray((np.asarray(image) * factor).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def exposures() -> tuple[Samples, ScanResult]:
    """Different scenes, each at one of eight exposures stated in the file name."""
    rng = np.random.default_rng(1)
    names = [f"{'ab'[i % 2]}/exp{rng.integers(8)}_num_{i:04}.jpg" for i in range(96)]
    files = [
        encode(shaded(scene(9000 + i, (80, 60)), 0.3 + 0.1 * int(re.findall(r"exp(\d)", n)[0])))
        for i, n in enumerate(names)
    ]
    samples = samples_of(names, [n[0] for n in names])
    return samples, scan_of(samples, files)


def test_exposures_are_not_objects(exposures: tuple[Samples, ScanResult]) -> None:
    (pattern,) = evaluate(*exposures).values()
    assert pattern.num_groups == 8
    assert pattern.nearness > 0.1  # the images are similar
    assert pattern.evidence.off_axis_fraction is not None
    assert pattern.evidence.off_axis_fraction < 0.2
    assert pattern.status is GroupStatus.QUESTION_CONFOUNDED_WITH_EXPOSURE
    report = inspect_dataset(exposures[0], scan=exposures[1], num_threads=1)
    assert apply_report(exposures[0], report).groups is None
    assert not report.is_misleading
    (finding,) = [f for f in report.findings if f.kind is FindingKind.GROUPS_IN_QUESTION]
    assert finding.severity is Severity.INFO
    assert finding.evidence["status"] == "question_confounded_with_exposure"


def test_duplicates_across_groups_contradict_grouping() -> None:
    """One scene at six exposures: duplicates show that the number, not the exposure, is the object."""
    names = [f"{'ab'[k % 2]}/exp{e}_num_{7 * k + e}.jpg" for k in range(12) for e in range(6)]
    samples = samples_of(names, [n[0] for n in names])
    bases = [scene(9300 + k, (80, 60)) for k in range(12)]
    scan = scan_of(samples, [encode(shaded(bases[k], 0.5 + 0.1 * e)) for k in range(12) for e in range(6)])
    duplicates = [Pair(6 * k, 6 * k + e, "near", 0.9999) for k in range(12) for e in range(1, 6)]
    (pattern,) = evaluate(samples, scan, duplicates=duplicates).values()
    assert (pattern.evidence.duplicates_within, pattern.evidence.duplicates_across) == (0, 60)
    assert pattern.status is GroupStatus.QUESTION_CONTRADICTED_BY_DUPLICATES


def places(count: int, shots: int, name: str, label: str = "ab", seed: int = 0) -> tuple[Samples, ScanResult]:
    """Return images of some locations that look alike; `name` is formatted with the location and a running number."""
    rng = np.random.default_rng(seed)
    names, labels, files = [], [], []
    for place in range(count):
        base = np.asarray(scene(9500 + place, (80, 60))).astype(np.float64)
        for _ in range(shots):
            other = np.asarray(scene(int(rng.integers(1 << 30)), (80, 60)))
            of = label[place % len(label)]
            names.append(f"{of}/{name.format(place, 7 * len(names))}.jpg")
            labels.append(of)
            files.append(encode(Image.fromarray((0.7 * base + 0.3 * other).astype(np.uint8))))
    samples = samples_of(names, labels)
    return samples, scan_of(samples, files)


def test_few_groups_are_a_question() -> None:
    samples, scan = places(4, 10, "room{}_{:04}")
    (pattern,) = evaluate(samples, scan).values()
    assert pattern.status is GroupStatus.QUESTION_TOO_FEW_GROUPS
    assert pattern.evidence.num_independent == 4
    report = inspect_dataset(samples, scan=scan, num_threads=1)
    (finding,) = [f for f in report.findings if f.kind is FindingKind.GROUPS_IN_QUESTION]
    assert finding.severity is Severity.WARNING
    requested = inspect_dataset(samples, scan=scan, num_threads=1, group_from=str(finding.evidence["pattern"]))
    assert [(p.source, p.is_used) for p in requested.group_patterns] == [("requested", True)]
    assert len(np.unique(apply_report(samples, requested, group_from=pattern.pattern).groups)) == 4
    silent = inspect_dataset(samples, scan=scan, num_threads=1, group_from="none")
    assert silent.group_patterns == ()
    assert not any(f.kind is FindingKind.GROUPS_IN_QUESTION for f in silent.findings)


def test_enough_groups_are_applied() -> None:
    (pattern,) = evaluate(*places(8, 6, "room{}_{:04}")).values()
    assert pattern.status is GroupStatus.APPLIED
    assert pattern.evidence.num_independent == 8


def test_score_at_baseline_is_a_question() -> None:
    samples, scan = places(8, 6, "room{}_{:04}")

    def score(groups: NDArray[np.int64] | None) -> float:
        return 0.97 if groups is None or len(np.unique(groups)) > 20 else 0.52

    (pattern,) = evaluate(samples, scan, score=score).values()
    assert pattern.status is GroupStatus.QUESTION_SCORE_AT_BASELINE
    assert (pattern.accuracy_independent, pattern.accuracy_grouped) == (0.97, 0.52)
    assert pattern.evidence.accuracy_baseline == 0.5
    report = inspect_dataset(samples, scan=scan, score=score, num_threads=1)
    (finding,) = [f for f in report.findings if f.kind is FindingKind.GROUPS_IN_QUESTION]
    assert finding.severity is Severity.ERROR  # only the user knows which of the two scores is right
    assert report.is_misleading
    decision = next(d for d in apply_report(samples, report).decisions if d.setting == "group_from")
    assert decision.value is None
    question = {"pattern": pattern.pattern, "status": "question_score_at_baseline"}
    assert (decision.reason, decision.evidence) == (DecisionReason.GROUPS_IN_QUESTION, {"questions": [question]})


def test_grouping_close_to_class_is_a_question() -> None:
    """Each class has one location except for a few images; images look alike within the class."""
    samples, scan = places(4, 20, "site{}x_{:04}", "abcd")
    moved = [
        replace(s, label="abcd"[(i // 20 + 1) % 4]) if i % 20 >= 18 else s  # two of twenty are of the next class
        for i, s in enumerate(samples)
    ]
    (pattern,) = evaluate(replace(samples, items=tuple(moved)), scan).values()
    assert pattern.evidence.groups_per_level["class"] < 1.5
    assert pattern.status is GroupStatus.QUESTION_CONFOUNDED_WITH_CLASS


def with_cameras(scan: ScanResult, cameras: list[str | None]) -> ScanResult:
    info = [replace(f, exif=replace(f.exif, camera=c)) for f, c in zip(scan.info, cameras, strict=True) if f]
    return replace(scan, info=tuple(info))


def test_grouping_equal_to_camera_is_a_question() -> None:
    samples, scan = places(8, 6, "room{}_{:04}")
    own = with_cameras(scan, [f"Maker {i // 6}" for i in range(48)])
    (pattern,) = evaluate(samples, own).values()
    assert pattern.evidence.groups_per_level["camera"] == pytest.approx(1)
    assert pattern.status is GroupStatus.QUESTION_CONFOUNDED_WITH_CAMERA
    shared = with_cameras(scan, [f"Maker {i // 24}" for i in range(48)])
    (pattern,) = evaluate(samples, shared).values()
    assert pattern.status is GroupStatus.APPLIED


def test_camera_is_inferred_from_size_and_mode_without_exif() -> None:
    _, scan = places(8, 6, "room{}_{:04}")
    rows = np.arange(48)
    assert camera_of(scan, rows) is None  # one size
    sized = replace(scan, info=tuple(replace(f, size_hw=(60 + i // 12, 80)) for i, f in enumerate(scan.info) if f))
    camera = camera_of(sized, rows)
    assert camera is not None
    assert len(np.unique(camera)) == 4
    crops = replace(scan, info=tuple(replace(f, size_hw=(60 + i, 80)) for i, f in enumerate(scan.info) if f))
    assert camera_of(crops, rows) is None  # 48 sizes are no cameras


def test_grouping_equal_to_split_is_a_question() -> None:
    """A name part that equals the split except for two images: groups would appear on both sides."""
    samples, scan = places(8, 6, "room{}_{:04}")
    side = ["train" if i % 6 < 4 else "test" for i in range(48)]
    stated = [*side]
    stated[0], stated[4] = "test", "train"
    items = tuple(
        replace(s, name=f"{s.label}/{t}_{i:04}.jpg", split=p)  # type: ignore[arg-type]
        for i, (s, t, p) in enumerate(zip(samples, stated, side, strict=True))
    )
    marked = replace(samples, items=items)
    rng = np.random.default_rng(0)
    embeddings = (2.0 * np.array([[t == "train"] for t in stated]) + 0.2 * rng.normal(size=(48, 4))).astype(np.float32)
    report = inspect_dataset(marked, scan=scan, embeddings=embeddings, num_threads=1)
    (pattern,) = report.group_patterns
    assert pattern.evidence.groups_per_level["split"] < 1.5
    assert pattern.status is GroupStatus.QUESTION_CONFOUNDED_WITH_SPLIT
    assert not any(f.kind is FindingKind.GROUPS_ACROSS_SPLITS for f in report.findings)
    assert not report.is_misleading


def test_times_pass_the_same_rules() -> None:
    """Four sessions of one camera each are a question, as with names."""
    samples, scan = places(4, 10, "{0}{1}")
    start = datetime(2024, 5, 1).timestamp()
    info = [
        replace(f, exif=replace(f.exif, taken=start + timedelta(hours=i // 10, seconds=i % 10).total_seconds()))
        for i, f in enumerate(scan.info)
        if f
    ]
    patterns = evaluate(samples, replace(scan, info=tuple(info)))
    assert patterns["capture-session"].status is GroupStatus.QUESTION_TOO_FEW_GROUPS
    assert not any(p.is_used for p in patterns.values())


def tracks(is_shared: bool) -> tuple[Samples, ScanResult]:
    """Return three classes of five tracks; track numbers restart in each class unless shared."""
    rng = np.random.default_rng(7)
    names, files = [], []
    for c in range(3):
        for track in range(5):
            base = np.asarray(scene(9700 + track + (0 if is_shared else 5 * c), (80, 60))).astype(np.float64)
            for _ in range(6):
                other = np.asarray(scene(int(rng.integers(1 << 30)), (80, 60)))
                names.append(f"{c:05}/{track:05}_{7 * len(names):05}.jpg")
                files.append(encode(Image.fromarray((0.7 * base + 0.3 * other).astype(np.uint8))))
    samples = samples_of(names, [n[:5] for n in names])
    return samples, scan_of(samples, files)


def test_numbers_restarting_per_class_are_groups_within_class() -> None:
    samples, scan = tracks(is_shared=False)
    (pattern,) = evaluate(samples, scan).values()
    assert (pattern.status, pattern.num_groups) == (GroupStatus.APPLIED, 15)
    ids, _ = group_ids(samples, pattern.pattern)
    assert ids is not None
    assert ids.tolist() == (np.arange(90) // 6).tolist()
    applied = apply_report(samples, inspect_dataset(samples, scan=scan, num_threads=1))
    assert applied.groups is not None
    assert len(np.unique(applied.groups)) == 15


def test_shared_numbers_are_not_split_by_class() -> None:
    (pattern,) = evaluate(*tracks(is_shared=True)).values()
    assert (pattern.status, pattern.num_groups) == (GroupStatus.QUESTION_TOO_FEW_GROUPS, 5)


def test_similarity_across_classes() -> None:
    rng = np.random.default_rng(0)
    groups, classes = np.arange(120) % 5, np.arange(120) // 40
    noise, shared, own = (rng.normal(size=(n, 20)) for n in (120, 5, 15))
    same = (noise + 2 * shared[groups]).astype(np.float32)
    assert similarity_across(same, groups, classes) > 0.4
    anew = (noise + 2 * own[5 * classes + groups]).astype(np.float32)
    assert abs(similarity_across(anew, groups, classes)) < 0.15
    assert similarity_across(anew, 5 * classes + groups, classes) == 0


def test_inferred_groups_are_applied_unless_score_drops_to_baseline() -> None:
    samples, scan = places(8, 6, "x{1}")
    nested = [f"session{i // 12}" for i in range(48)]
    items = tuple(replace(s, group=g) for s, g in zip(samples, nested, strict=True))
    inferred = replace(samples, items=items, has_inferred_groups=True)
    given = replace(inferred, has_inferred_groups=False)

    def score(groups: NDArray[np.int64] | None) -> float:
        return 0.97 if groups is None or len(np.unique(groups)) > 20 else 0.52

    for data, measure, is_used in ((inferred, None, True), (inferred, score, False), (given, score, True)):
        report = inspect_dataset(data, scan=scan, score=measure, num_threads=1)
        (pattern,) = report.group_patterns
        assert pattern.is_used == is_used
        applied = apply_report(data, report)
        assert (applied.groups is not None) == is_used
        if not is_used:
            assert pattern.status is GroupStatus.QUESTION_SCORE_AT_BASELINE
            requested = apply_report(data, report, group_from=pattern.pattern)
            assert requested.groups is not None
            assert len(np.unique(requested.groups)) == 4


# -- counter prefixes, images with boxes


@pytest.mark.parametrize(
    "prefixes",
    [("IMG", "DSC"), ("img", "PXL", "photo"), ("DSCN", "P"), ("frame", "image"), ("WhatsApp", "IMG"), ("_MG", "DSCF")],
)
@pytest.mark.parametrize("form", ["{}_{:04}.JPG", "{}{:04}.JPG", "{}-{:04}.jpeg", "{} ({}).png"])
def test_counter_prefix_is_not_a_group(prefixes: tuple[str, ...], form: str) -> None:
    names = [f"c{i % 2}/{form.format(prefixes[i % len(prefixes)], 2000 + 7 * i)}" for i in range(40)]
    proposals = propose_groups(samples_of(names, [n[:2] for n in names]))
    assert all(g.is_counter for g in proposals)


@pytest.mark.parametrize("keys", [("anna", "bo", "sam"), ("v01", "v02", "v03"), ("IMG1", "IMG2", "IMG3")])
def test_other_prefixes_are_tested(keys: tuple[str, ...]) -> None:
    names = [f"c{i % 2}/{keys[i % len(keys)]}_{2000 + 7 * i}.JPG" for i in range(60)]
    assert any(not g.is_counter for g in propose_groups(samples_of(names, [n[:2] for n in names])))


def boxed(
    samples: Samples, splits: list[str], classes: NDArray[np.int64], class_names: tuple[str, ...]
) -> DetectionSamples:
    """Return the same images with one box each."""
    box = np.array([[5, 5, 40, 40]], dtype=np.float32)
    return DetectionSamples(
        paths=tuple(Path(s.path) for s in samples),
        names=tuple(s.name for s in samples),
        boxes=tuple(Boxes(box, np.array([k]), np.zeros(1, dtype=bool)) for k in classes),
        sizes_hw=np.tile([[60, 80]], (len(samples), 1)),
        class_names=class_names,
        split=tuple(splits),
        group=(None,) * len(samples),
        layout="VOC",
        notes=(),
        root=Path("/nowhere"),
    )


def test_camera_prefixes_of_boxed_images_are_no_groups() -> None:
    """`IMG_2383.JPG` next to `DSC_2390.JPG`: two cameras, each in its own places."""
    samples, scan = places(2, 20, "{}_{}")
    names = [f"{('IMG', 'DSC')[i // 20]}_{2383 + 7 * i}.JPG" for i in range(40)]
    plain = replace(samples, items=tuple(replace(s, name=n) for s, n in zip(samples, names, strict=True)))
    splits = ["train" if i % 5 else "test" for i in range(40)]
    data = boxed(plain, splits, np.zeros(40, dtype=np.int64), ("nut",))
    report = inspect_box_dataset(data, scan=scan, num_threads=1)
    assert [p.status for p in report.images.group_patterns] == [GroupStatus.REJECTED_COUNTER_PREFIX]
    assert not any(f.kind is FindingKind.GROUPS_ACROSS_SPLITS for f in report.findings)
    assert not report.is_misleading
    assert apply_box_report(data, report).groups is None


def test_class_in_names_of_boxed_images_is_a_question() -> None:
    """`apple_1.jpg`: the name contains the class, and images of one class look alike."""
    samples, scan = places(8, 8, "{}_{}", "a")
    fruits = ("apple", "banana", "cherry", "date", "elder", "fig", "grape", "hazel")
    names = [f"{fruits[i // 8]}_{i}.jpg" for i in range(64)]
    plain = replace(samples, items=tuple(replace(s, name=n) for s, n in zip(samples, names, strict=True)))
    splits = ["train" if i % 4 else "test" for i in range(64)]
    data = boxed(plain, splits, np.arange(64) // 8, fruits)
    report = inspect_box_dataset(data, scan=scan, num_threads=1)
    assert [p.status for p in report.images.group_patterns] == [GroupStatus.QUESTION_CONFOUNDED_WITH_CLASS]
    assert not report.is_misleading
    requested = inspect_box_dataset(data, scan=scan, num_threads=1, group_from=report.images.group_patterns[0].pattern)
    assert requested.findings[0].kind is FindingKind.GROUPS_ACROSS_SPLITS
    assert requested.is_misleading


def test_question_contains_pattern_for_its_groups() -> None:
    samples, scan = places(4, 10, "room {} ({})")
    for pattern in evaluate(samples, scan).values():
        ids, _ = group_ids(samples, pattern.pattern)
        assert ids is not None
        if pattern.status.is_question:
            assert len(np.unique(ids)) == 4
