"""Test reports as findings, lines and JSON: most severe first, one line each, unusual names escaped."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from event_text import finding_lines

from headstart.quality.report_findings import dataset_findings, report_to_json
from headstart.types.codes import (
    DecisionReason,
    Evidence,
    Finding,
    FindingKind,
    GroupStatus,
    ReadingKind,
    ReadingNote,
    Severity,
)
from headstart.types.records import DatasetReport, Decision, GroupPattern, HandledFiles, ImagePair, Problem, Shortcut

ODD = "a/\n\x1b[31m<script>\u202e`'\" \\xff.jpg"


def pair(
    a: str,
    b: str,
    kind: str = "near",
    splits: tuple[str, str] | None = None,
    labels: tuple[str, str] = ("x", "x"),
    k: int = 0,
) -> ImagePair:
    split_a, split_b = splits or (None, None)
    return ImagePair(a, b, kind, 0.99, split_a, split_b, *labels, 2 * k, 2 * k + 1)


NAME_PART = {"grouped_by": "name_part", "position": 1, "value": "7", "example": "7_1.jpg"}


def pattern(**more: object) -> GroupPattern:
    values: dict[str, object] = {
        "pattern": "^(.*?)_", "grouping": NAME_PART, "num_groups": 28,
        "p_value": 0.001, "nearness": 0.2, "accuracy_independent": 0.91, "accuracy_grouped": 0.78,
        "status": GroupStatus.APPLIED,
    }  # fmt: skip
    return GroupPattern(**(values | more))  # type: ignore[arg-type]


HEALTHY = DatasetReport(10, "class folders", {"x": {"none": 10}}, {"JPEG": 10})
REPORT = replace(
    HEALTHY,
    classes={"x": {"train": 6, "val": 2, "test": 2}},
    unreadable=(
        *(Problem(f"x/{i}.jpg", "empty", "the file is empty") for i in range(5)),
        Problem("y", "text", "words"),
    ),
    handled_files=(HandledFiles("rotated", 4, "turned upright", ("x/r.jpg",)),),
    duplicates=(pair("d1", "d2", "bytes"), pair("d3", "d4", "pixels")),
    near_duplicates=(pair("n1", "n2"), pair("m1", "m2", "flipped"), pair("c1", "c2", "cropped")),
    leaks=(pair("l1", "l2", splits=("train", "test")), pair("v1", "v2", splits=("train", "val"), k=1)),
    label_conflicts=(pair("k1", "k2", labels=("cat", "dog")),),
    group_patterns=(
        pattern(),
        pattern(pattern="visit", status=GroupStatus.ALTERNATIVE, num_groups=60),
        pattern(pattern="^(.)", status=GroupStatus.REJECTED_NO_SIMILARITY, p_value=0.6),
    ),
    shortcuts=(Shortcut("camera", 0.9, 0.33, "x", 0.6, ("x",), ("s1", "s2")),),
    overlap_fraction={"crop": 0.4, "cover": 0.5, "squash": 1.0, "pad": 1.0},
    intensity_range=(0, 4095),
    decisions=(
        Decision("pixels.intensity_range", [0, 4095], DecisionReason.VALUE_RANGE_OF_BITS),
        Decision("near_duplicates.threshold", 2.1, DecisionReason.DUPLICATE_THRESHOLD_FROM_DATA),
    ),
    findings=(
        Finding(
            FindingKind.CLASS_TOO_SMALL, Severity.WARNING, {"class": "y", "count": 2, "minimum": 10, "unit": "images"}
        ),
    ),
    is_misleading=True,
)
ORDER = [Severity.ERROR, Severity.WARNING, Severity.INFO]


def evidence_of(report: DatasetReport, kind: FindingKind) -> list[Evidence]:
    """Return the evidence of the findings of one kind."""
    return [f.evidence for f in dataset_findings(report) if f.kind is kind]


def test_every_check_result_is_a_finding() -> None:
    kinds = Counter(f.kind for f in dataset_findings(REPORT))
    assert kinds == {
        FindingKind.LEAKING_IMAGES: 2,
        FindingKind.LABEL_CONFLICTS: 1,
        FindingKind.UNREADABLE_FILES: 2,
        FindingKind.CLASS_TOO_SMALL: 1,
        FindingKind.GROUPS_APPLIED: 1,
        FindingKind.GROUPS_NOT_APPLIED: 1,
        FindingKind.GROUPS_REJECTED: 1,
        FindingKind.DUPLICATE_IMAGES: 5,
        FindingKind.SHORTCUT: 1,
        FindingKind.FILES_HANDLED: 1,
        FindingKind.NARROW_CROP: 1,
    }
    errors = {f.kind for f in dataset_findings(REPORT) if f.severity is Severity.ERROR}
    assert errors == {FindingKind.LEAKING_IMAGES, FindingKind.LABEL_CONFLICTS, FindingKind.UNREADABLE_FILES}


def test_one_line_per_finding_most_severe_first() -> None:
    findings = dataset_findings(REPORT)
    lines = finding_lines(findings)
    ranked = sorted(findings, key=lambda f: ORDER.index(f.severity))
    assert lines == [line for f in ranked for line in finding_lines([f])]
    assert len(lines) == len(set(lines)) == len(findings)


def test_notes_of_the_reader_are_ranked_with_the_findings() -> None:
    warning = ReadingNote(ReadingKind.UNLABELED_IMAGES, 3, ("u.jpg",), {"folders": {"u": 3}})
    info = ReadingNote(ReadingKind.EMPTY_FOLDERS, 1, ("nothing",))
    assert (warning.severity, info.severity) == (Severity.WARNING, Severity.INFO)
    lines = finding_lines([info, warning, *dataset_findings(REPORT)])
    errors = sum(f.severity is Severity.ERROR for f in dataset_findings(REPORT))
    assert "`u.jpg`" in lines[errors]
    assert "`nothing`" in next(line for line in lines if line.startswith("info"))
    assert len(lines) == len(dataset_findings(REPORT)) + 2


def test_clean_dataset_has_no_findings() -> None:
    assert dataset_findings(HEALTHY) == []


@pytest.mark.parametrize(
    ("kind", "evidence"),
    [
        (
            FindingKind.LEAKING_IMAGES,
            {"split": "test", "other_split": "train", "count": 1, "pairs": [["l1", "l2"]], "is_headline": True},
        ),
        (
            FindingKind.LEAKING_IMAGES,
            {"split": "val", "other_split": "train", "count": 1, "pairs": [["v1", "v2"]], "is_headline": False},
        ),
        (FindingKind.LABEL_CONFLICTS, {"count": 1, "pairs": [["k1", "cat", "k2", "dog"]]}),
        (
            FindingKind.UNREADABLE_FILES,
            {
                "problem": "empty",
                "count": 5,
                "examples": [f"x/{i}.jpg" for i in range(5)],
                "detail": "the file is empty",
            },
        ),
        (FindingKind.UNREADABLE_FILES, {"problem": "text", "count": 1, "examples": ["y"], "detail": "words"}),
        (FindingKind.DUPLICATE_IMAGES, {"pair_kind": "bytes", "count": 1, "pairs": [["d1", "d2"]]}),
        (FindingKind.DUPLICATE_IMAGES, {"pair_kind": "pixels", "count": 1, "pairs": [["d3", "d4"]]}),
        (FindingKind.DUPLICATE_IMAGES, {"pair_kind": "near", "count": 1, "pairs": [["n1", "n2"]]}),
        (FindingKind.DUPLICATE_IMAGES, {"pair_kind": "flipped", "count": 1, "pairs": [["m1", "m2"]]}),
        (FindingKind.DUPLICATE_IMAGES, {"pair_kind": "cropped", "count": 1, "pairs": [["c1", "c2"]]}),
        (
            FindingKind.FILES_HANDLED,
            {"what": "rotated", "count": 4, "detail": "turned upright", "examples": ["x/r.jpg"]},
        ),
        (FindingKind.NARROW_CROP, {"crop": 0.4, "cover": 0.5}),
    ],
)
def test_evidence_has_numbers_and_names(kind: FindingKind, evidence: Evidence) -> None:
    assert evidence in evidence_of(REPORT, kind)


@pytest.mark.parametrize(
    ("kind", "numbers", "parts"),
    [
        (FindingKind.GROUPS_APPLIED, (28, 0.001, 0.91, 0.78), ("28", "91 %", "78 %", "--group-from none")),
        (FindingKind.GROUPS_NOT_APPLIED, (60, 0.001, 0.91, 0.78), ("60", "91 %", "78 %", "--group-from visit")),
        (FindingKind.GROUPS_REJECTED, (28, 0.6, 0.91, 0.78), ("28", "0.6")),
    ],
)
def test_group_finding_has_numbers_and_option(
    kind: FindingKind, numbers: tuple[float, ...], parts: tuple[str, ...]
) -> None:
    (finding,) = [f for f in dataset_findings(REPORT) if f.kind is kind]
    keys = ("num_groups", "p_value", "accuracy_independent", "accuracy_grouped")
    assert tuple(finding.evidence[key] for key in keys) == numbers
    (line,) = finding_lines([finding])
    assert all(part in line for part in parts)


def test_group_question_is_one_finding() -> None:
    question = pattern(status=GroupStatus.QUESTION_TOO_FEW_GROUPS)
    assert dataset_findings(replace(HEALTHY, group_patterns=(question,))) == []


def test_shortcut_has_cue_class_and_examples() -> None:
    (evidence,) = evidence_of(REPORT, FindingKind.SHORTCUT)
    assert (evidence["what"], evidence["accuracy"], evidence["chance"]) == ("camera", 0.9, 0.33)
    (line,) = [line for line in finding_lines(dataset_findings(REPORT)) if "camera" in line]
    for part in ("90.0 %", "33.0 %", "60.0 %", "`x`", "`s1`", "`s2`"):
        assert part in line


def test_leaking_image_with_two_duplicates_counts_once() -> None:
    a, b = pair("t1", "x", splits=("train", "test")), pair("t2", "x", splits=("train", "test"))
    report = replace(HEALTHY, leaks=(replace(a, index_a=0, index_b=9), replace(b, index_a=1, index_b=9)))
    (evidence,) = evidence_of(report, FindingKind.LEAKING_IMAGES)
    assert evidence["count"] == 1
    assert evidence["pairs"] == [["t1", "x"], ["t2", "x"]]


@pytest.mark.parametrize("has_test", [True, False])
def test_headline_is_validation_without_test_split(has_test: bool) -> None:
    counts = {"train": 6, "val": 2} | ({"test": 2} if has_test else {})
    report = replace(HEALTHY, classes={"x": counts}, leaks=(pair("v1", "v2", splits=("train", "val")),))
    (evidence,) = evidence_of(report, FindingKind.LEAKING_IMAGES)
    assert evidence["is_headline"] is not has_test


def test_long_lists_are_counted() -> None:
    pairs = tuple(pair(f"a{k}", f"b{k}", "bytes", ("train", "test"), ("u", "v"), k) for k in range(1500))
    report = replace(HEALTHY, duplicates=pairs, leaks=pairs, label_conflicts=pairs)
    findings = dataset_findings(report)
    assert [f.evidence["count"] for f in findings] == [1500] * 3
    assert all(len(f.evidence["pairs"]) == 5 for f in findings)  # type: ignore[arg-type]
    lines = finding_lines(dataset_findings(report))
    assert len(lines) == 3
    for line in lines:
        assert "1,500" in line
        assert "`a2`" in line
        assert "a3" not in line
        assert len(line) < 200
        assert not line.endswith("....")


def test_odd_names_stay_on_one_printable_line() -> None:
    odd = pair(ODD, ODD, "bytes", ("train", "test"), ("one", "two"))
    report = replace(
        HEALTHY,
        unreadable=(Problem(ODD, "empty", "nothing"),),
        handled_files=(HandledFiles("rotated", 1, "turned", (ODD,)),),
        duplicates=(odd,),
        leaks=(odd,),
        label_conflicts=(odd,),
        group_patterns=(
            pattern(grouping={"grouped_by": "name_parts", "values": [ODD, ODD], "example": ODD}, pattern="^\n(.)"),
            pattern(
                grouping={**NAME_PART, "value": ODD, "example": ODD}, pattern="^\n(.)", status=GroupStatus.ALTERNATIVE
            ),
        ),
        shortcuts=(Shortcut("camera", 1.0, 0.5, ODD, 0.6, (ODD,), (ODD,)),),
        findings=(Finding(FindingKind.SINGLE_CLASS, Severity.WARNING, {"class": ODD}),),
    )
    note = ReadingNote(ReadingKind.EMPTY_FOLDERS, 1, (ODD,))
    lines = finding_lines([note, *dataset_findings(report)])
    assert len(lines) == 10
    for line in lines:
        assert line.isprintable(), line
        assert "<script>" in line  # no renderer drops the name
        line.encode("utf-8")


def test_json_is_plain_and_complete() -> None:
    report = replace(
        REPORT,
        intensity_range=(np.float64(1.5), np.float32(2)),  # type: ignore[arg-type]
        decisions=(
            Decision("n", np.int64(3), DecisionReason.SET_BY_USER),
            Decision("f", np.bool_(True), DecisionReason.SET_BY_USER),
        ),
    )
    value = report_to_json(report)
    again = json.loads(json.dumps(value, allow_nan=False))
    assert again == value
    assert value["schema"] == 1
    assert value["counts"] == {
        "unreadable": 6, "unreadable_by_kind": {"empty": 5, "text": 1}, "duplicates": 2, "near_duplicates": 3,
        "leaks": 2, "label_conflicts": 1,
    }  # fmt: skip
    assert value["intensity_range"] == [1.5, 2.0]
    assert set(value["leaks"][0]) == {"a", "b", "kind", "similarity", "split_a", "split_b", "label_a", "label_b"}
    assert set(value["group_patterns"][0]) >= {
        "pattern", "num_groups", "accepted", "p_value", "accuracy_independent", "accuracy_grouped",
    }  # fmt: skip
    assert {
        "unreadable",
        "duplicates",
        "near_duplicates",
        "leaks",
        "label_conflicts",
        "group_patterns",
        "layout",
    } <= set(value)
    assert {"formats", "classes"} <= set(value)


def test_units_agree_with_their_counts() -> None:
    for line in finding_lines(dataset_findings(REPORT)):
        assert not re.search(r"\b1 (images|files|pairs|groups)\b", line), line
        assert not re.search(r"\b(?!1 )\d+ (image|file|pair|group)\b", line), line
        assert "None" not in line
        assert "nan" not in line
