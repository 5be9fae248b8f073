"""Test that every finding has a message, and JSON with code and text."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from headstart.messages import comment
from headstart.messages.findings import finding_message, finding_to_json
from headstart.messages.summaries import summarize_kinds
from headstart.types.codes import Evidence, Finding, FindingKind, GroupStatus, Severity
from headstart.types.records import GroupEvidence, GroupPattern, Shortcut
from headstart.utils.serialization import plain

NAME_PART: Evidence = {"grouped_by": "name_part", "position": 1, "value": "7", "example": "7_1.jpg"}
QUESTION: Evidence = {
    "status": GroupStatus.QUESTION_TOO_FEW_GROUPS.value, "pattern": "^([^ ]*) ",
    "grouping": NAME_PART, "num_groups": 3, "accuracy_independent": 0.97, "accuracy_grouped": 0.11,
    **asdict(GroupEvidence(100, 3, 2.5, {"class": 1.2, "split": 1.1, "camera": 1.0}, 0.5, 1, 9, 0.001, 0.2)),
}  # fmt: skip


def group(status: GroupStatus, **more: object) -> Evidence:
    """Return the evidence of a grouping."""
    group_pattern = GroupPattern("^([^ ]*) ", NAME_PART, 28, status, 0.001, 0.2, 0.97, 0.11, **more)  # type: ignore[arg-type]
    return dict(plain(asdict(group_pattern)))


EXAMPLES: dict[FindingKind, Evidence] = {
    FindingKind.ALL_SCORED_IMAGES_LEAK: {"split": "test", "num_images": 9, "pairs": [["a.png", "b.png"]]},
    FindingKind.ANNOTATIONS_CORRECTED: {
        "problem": "over-edge", "count": 12, "examples": ["a.txt"], "detail": "line 3",
    },
    FindingKind.ANNOTATIONS_NOT_USED: {"problem": "no-area", "count": 1, "examples": ["a.txt"], "detail": "line 3"},
    FindingKind.CLASSES_NOT_IN_DATA: {"num_classes": 2, "classes": ["a", "b"], "unit": "box"},
    FindingKind.CLASSES_NOT_IN_MODEL: {"num_classes": 1, "classes": ["c"], "count": 5, "unit": "image"},
    FindingKind.CORRECTIONS_APPLIED: {"num_relabeled": 12, "num_dropped": 1},
    FindingKind.CORRECTIONS_OF_SCORED_IMAGES: {"count": 1, "examples": ["a.jpg"]},
    FindingKind.CORRECTIONS_OF_UNKNOWN_IMAGES: {"count": 7, "examples": ["a.jpg", "b.jpg"]},
    FindingKind.CROWDED_IMAGES: {"count": 3, "limit": 100},
    FindingKind.DETECTABLE_DIFFERENCE: {"num_samples": 431, "difference": 0.028},
    FindingKind.DETECTION_LIMIT_REACHED: {"count": 2, "limit": 3000, "examples": ["a.jpg"]},
    FindingKind.FEW_GROUPS: {"num_groups": 4},
    FindingKind.SCORED_DETECTIONS_LIMITED: {"count": 2, "limit": 300, "examples": ["a.jpg"], "total": 9},
    FindingKind.IMAGES_TRAINED_ON: {"count": 25, "total": 431, "accuracy": 1.0},
    FindingKind.INTERVAL_NOT_MEASURABLE: {"num_units": 4, "minimum": 6, "unit": "group"},
    FindingKind.LOG_LOSS_DIFFERS: {"value": -0.031, "p_value": 0.002},
    FindingKind.CLASS_IMBALANCE: {
        "largest_class": "a", "largest_count": 1200, "smallest_class": "b", "smallest_count": 3, "unit": "images",
        "metric": "balanced_accuracy",
    },
    FindingKind.CLASS_IN_ONE_GROUP: {"class": "a"},
    FindingKind.CLASS_NOT_IN_TEST: {"class": "a"},
    FindingKind.CLASS_NOT_IN_TRAIN: {"class": "a", "splits": ["test", "val"]},
    FindingKind.CLASS_TOO_SMALL: {"class": "a", "count": 1, "minimum": 10, "unit": "boxes"},
    FindingKind.CLASS_WITH_ONE_IMAGE: {"class": "a"},
    FindingKind.CLASS_WITHOUT_IMAGES: {"class": "a"},
    FindingKind.CONFOUNDED: {
        "name": "plate", "grouped_by": "column", "num_values": 2, "values": {"p1": "control", "p2": "treated"},
    },
    FindingKind.DUPLICATES_AT_BASELINE: {
        "num_pairs": 87, "accuracy_separate": 0.99, "accuracy_joined": None, "accuracy_baseline": 0.33,
    },
    FindingKind.DUPLICATES_WITH_OTHER_BOXES: {"pairs": [["a.png", "b.png"]] * 5},
    FindingKind.DUPLICATE_IMAGES: {"pair_kind": "bytes", "count": 5, "pairs": [["a.png", "b.png"]] * 5},
    FindingKind.FILES_HANDLED: {"what": "rotated", "count": 4, "detail": "turned upright", "examples": ["a.jpg"]},
    FindingKind.FILES_NOT_USED: {"problem": "missing", "count": 1, "examples": ["a.jpg"], "detail": "no such file"},
    FindingKind.GROUPS_ACROSS_SPLITS: {"num_groups": 2, "grouping": NAME_PART, "scored_fraction": 0.5},
    FindingKind.GROUPS_APPLIED: group(GroupStatus.APPLIED),
    FindingKind.GROUPS_IN_QUESTION: QUESTION,
    FindingKind.GROUPS_NOT_APPLIED: group(GroupStatus.ALTERNATIVE),
    FindingKind.GROUPS_REJECTED: group(GroupStatus.REJECTED_NO_SIMILARITY),
    FindingKind.LABEL_CONFLICTS: {"count": 1, "pairs": [["a.png", "cat", "b.png", "dog"]]},
    FindingKind.LEAKING_IMAGES: {
        "split": "test", "other_split": "train", "count": 1, "pairs": [["a.png", "b.png"]], "is_headline": True,
    },
    FindingKind.MIXED_PIXEL_TYPES: {"num_float": 2, "num_integer": 3},
    FindingKind.NARROW_CROP: {"crop": 0.4, "cover": 0.5},
    FindingKind.PAGES_NOT_USED: {"count": 2, "examples": ["a.tif", "b.gif"]},
    FindingKind.OOD_IMAGES: {"count": 12, "total": 2500},
    FindingKind.OOD_RATES: {
        "target": 0.05, "known": {"value": 0.04, "low": 0.02, "high": 0.06, "num_samples": 431},
        "new": {"value": 0.5, "low": None, "high": None, "num_samples": 2},
    },
    FindingKind.PREDICTION_SET_COVERAGE: {
        "target": 0.9, "value": 0.91, "low": 0.88, "high": 0.93, "num_samples": 431, "mean_size": 1.2,
    },
    FindingKind.SCORES_OF_TRAINING_IMAGES: {"num_samples": 431},
    FindingKind.SCORES_OUT_OF_FOLD: {},
    FindingKind.UNSCORABLE_IMAGES: {"count": 40},
    FindingKind.SHORTCUT: dict(plain(asdict(Shortcut("camera", 0.9, 0.33, "a", 0.6, ("a",), ("a.jpg",))))),
    FindingKind.SMALL_BOXES: {
        "tiny_fraction": 0.46, "size": 320, "better_size": 1024, "max_size": 2048, "time_factor": 10.2,
    },
    FindingKind.SINGLE_CLASS: {"class": "a"},
    FindingKind.UNREADABLE_FILES: {
        "problem": "empty", "count": 1500, "examples": ["a.jpg", "b.jpg"], "detail": "the file is empty",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", FindingKind)
def test_every_kind_has_a_message(kind: FindingKind) -> None:
    text = finding_message(Finding(kind, Severity.WARNING, EXAMPLES[kind]))
    assert text
    assert not text.removesuffix(" ...").endswith(".")


@pytest.mark.parametrize("source", ["guessed", "named", "inferred", "given", "requested"])
@pytest.mark.parametrize("is_measured", [True, False])
def test_measured_groups_have_numbers(source: str, is_measured: bool) -> None:
    evidence = group(GroupStatus.APPLIED, source=source)
    if not is_measured:
        evidence |= {"accuracy_independent": None, "accuracy_grouped": None}
    text = finding_message(Finding(FindingKind.GROUPS_APPLIED, Severity.INFO, evidence))
    assert "28" in text
    assert ("97 %" in text) == ("11 %" in text) == is_measured
    assert ("0.001" in text) == (source == "guessed")
    assert ("--group-from none" in text) == (source != "requested")
    assert "None" not in text


@pytest.mark.parametrize("status", [s for s in GroupStatus if s.is_rejected])
def test_every_rejection_has_a_reason(status: GroupStatus) -> None:
    text = finding_message(Finding(FindingKind.GROUPS_REJECTED, Severity.INFO, group(status)))
    assert status.value not in text


@pytest.mark.parametrize("status", [s for s in GroupStatus if s.is_question])
def test_group_questions_have_reason_scores_and_options(status: GroupStatus) -> None:
    text = finding_message(Finding(FindingKind.GROUPS_IN_QUESTION, Severity.INFO, {**QUESTION, "status": status.value}))
    for part in ("97 %", "11 %", "--group-from '^([^ ]*) '", "--group-from none"):
        assert part in text


def test_classes_that_cannot_be_learned_name_the_option_where_it_exists() -> None:
    evidence = {"class": "test unknown", "splits": ["test"]}
    for extra, expected in (({"can_exclude": True}, True), ({}, False)):
        finding = Finding(FindingKind.CLASS_NOT_IN_TRAIN, Severity.ERROR, {**evidence, **extra})
        assert ("--exclude-classes 'test unknown'" in finding_message(finding)) is expected
        assert ("--exclude-classes" in str(summarize_kinds([finding], most=1))) is expected


def test_json_has_code_evidence_and_message() -> None:
    finding = Finding(FindingKind.CLASS_NOT_IN_TRAIN, Severity.ERROR, {"class": "a", "splits": ["val"]})
    assert json.loads(json.dumps(finding_to_json(finding))) == {
        "kind": "class_not_in_train",
        "severity": "error",
        "evidence": {"class": "a", "splits": ["val"]},
        "message": finding_message(finding),
    }


def test_comment_covers_every_group_question() -> None:
    assert set(comment._GROUP_DOUBTS) == {status for status in GroupStatus if status.is_question}
