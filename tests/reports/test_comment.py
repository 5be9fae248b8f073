"""Test the comment on constructed results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headstart.messages.comment import report_finding_text, report_finding_title
from headstart.reports.findings import (
    Curve,
    ResultSummary,
    comment_on,
    comment_to_json,
    confused_pair,
    find_quadrant,
    next_steps,
    not_to_conclude,
    summarize_result,
)
from headstart.reports.record import ClassifierRecord
from headstart.types.codes import EvaluationProtocol, EvaluationSetup, GroupStatus
from headstart.types.report import ReportFinding, ReportKind


def situation(counts: list[int] | None = None, confusion: Any = None, **changes: Any) -> ResultSummary:
    """Return a good result of four classes with 300 training images each, with some values replaced."""
    matrix = np.full((4, 4), 1) + 93 * np.eye(4, dtype=int) if confusion is None else np.array(confusion)
    values: dict[str, Any] = {
        "score": 0.94,
        "low": 0.91,
        "high": 0.96,
        "train_score": 0.97,
        "majority": 0.25,
        "nearest": 0.85,
        "setup": EvaluationSetup(EvaluationProtocol.LEAVE_ONE_OUT),
        "num_scored": 400,
        "class_names": tuple(f"class {i}" for i in range(len(matrix))),
        "train_counts": tuple(counts or [300] * len(matrix)),
        "confusion": matrix.astype(np.int64),
        "curve": Curve(0.004, 0.0, 0.008),
    }
    return ResultSummary(**(values | changes))


PAIR = [[60, 35, 1, 1], [30, 65, 1, 1], [1, 1, 97, 1], [1, 0, 1, 98]]
SMALL_LOST = [[97, 1, 1, 1], [1, 97, 1, 1], [5, 5, 9, 1], [6, 5, 1, 8]]

SHORTCUT = {
    "what": "file size",
    "accuracy": 0.93,
    "chance": 0.25,
    "given_class": "class 1",
    "given_class_fraction": 0.8,
}

CASES = {
    "overfitting": situation(score=0.80, low=0.77, high=0.83, train_score=1.0),
    "too_little_data": situation(counts=[9, 8, 9, 8], score=0.8, low=0.62, high=0.91, train_score=0.95, num_scored=34),
    "imbalance": situation(counts=[900, 800, 90, 80], confusion=SMALL_LOST, score=0.71, low=0.66, high=0.75,
                           train_score=0.75, metric="balanced_accuracy"),
    "leak": situation(num_leaks=8, score=0.90, low=0.84, high=0.94, score_including_leaks=0.95),
    "shortcut": situation(shortcuts=(SHORTCUT,)),
    "two_confused_classes": situation(confusion=PAIR, score=0.81, low=0.77, high=0.85, train_score=0.86),
    "chance_level": situation(score=0.26, low=0.22, high=0.31, train_score=0.33),
    "groups_in_question": situation(
        group_questions=(
            {"status": GroupStatus.QUESTION_SCORE_AT_BASELINE, "num_groups": 8, "accuracy_independent": 0.97,
             "accuracy_grouped": 0.11},
        )
    ),
    "fine": situation(),
}  # fmt: skip


def kinds(findings: list[ReportFinding]) -> list[str]:
    return [f.kind.value for f in findings]


@pytest.mark.parametrize("kind", CASES)
def test_comment_ranks_cause_first(kind: str) -> None:
    findings = comment_on(CASES[kind])
    assert findings[0].kind == kind
    assert findings[0].is_problem == (kind != "fine")
    assert (kind == "fine") == (not any(f.is_problem for f in findings))


def test_single_cause_has_no_other_findings() -> None:
    for kind in ("overfitting", "leak", "shortcut", "two_confused_classes", "fine"):
        assert kinds(comment_on(CASES[kind])) == [kind]


def test_chance_level_from_duplicate_chains_reports_other_score() -> None:
    evidence = {"num_pairs": 87, "accuracy_separate": 1.0, "accuracy_joined": 0.26, "accuracy_baseline": 0.25}
    plain = CASES["chance_level"]
    first = comment_on(replace(plain, duplicates_at_baseline=evidence))[0]
    assert first.kind is ReportKind.CHANCE_LEVEL
    assert first.evidence["duplicates"] == {"num_pairs": 87, "accuracy_separate": 1.0}
    assert "87 pairs" in report_finding_text(first)
    assert comment_on(plain)[0].evidence["duplicates"] is None


@pytest.mark.parametrize(
    ("low", "high", "kind", "is_worse"),
    [
        (0.22, 0.31, "chance_level", False),  # the interval contains the baseline of 0.25
        (0.25, 0.31, "chance_level", False),
        (0.10, 0.24, "chance_level", True),  # the interval is below the baseline
        (0.251, 0.31, "near_chance_level", None),  # it excludes the baseline
        (0.26, 0.31, "near_chance_level", None),
        (0.27, 0.31, "fine", None),
    ],
)
def test_chance_level_depends_on_the_interval_and_the_baseline(
    low: float, high: float, kind: str, is_worse: bool | None
) -> None:
    first = comment_on(situation(score=(low + high) / 2, low=low, high=high, train_score=0.3))[0]
    assert (first.kind, first.evidence.get("is_worse")) == (kind, is_worse)


def test_evidence_and_text_have_numbers() -> None:
    leak = comment_on(CASES["leak"])[0]
    assert leak.evidence == {"num_pairs": 8, "score": 0.90, "score_including_leaks": 0.95}
    assert "8 pairs" in report_finding_text(leak)
    assert "95.0 %" in report_finding_text(leak)
    shortcut = report_finding_text(comment_on(CASES["shortcut"])[0])
    assert "93.0 %" in shortcut
    assert "80.0 %" in shortcut
    pair = comment_on(CASES["two_confused_classes"])[0]
    assert (pair.evidence["classes"], pair.evidence["count"], pair.evidence["num_errors"]) == (
        ["class 0", "class 1"], 65, 74,
    )  # fmt: skip
    assert "class 0" in (report_finding_title(pair) or "")
    assert "65 of the 74 errors" in report_finding_text(pair)


def test_json_has_code_evidence_and_text() -> None:
    (row, *_) = comment_to_json(CASES["overfitting"])["findings"]
    assert (row["kind"], row["severity"]) == ("overfitting", "warning")
    assert row["evidence"] == {"score": 0.80, "low": 0.77, "high": 0.83, "train_score": 1.0, "is_tuned": False}
    assert row["title"]
    assert row["text"]
    assert json.loads(json.dumps(comment_to_json(CASES["imbalance"])))["next"][0]["kind"] == "gain_of_more_images"


def test_fine_claims_only_executed_checks() -> None:
    assert comment_on(CASES["fine"])[0].evidence["is_checked"] is True
    unseen = comment_on(situation(is_dataset_checked=False))[0]
    assert unseen.kind is ReportKind.FINE
    assert unseen.evidence["is_checked"] is False
    assert "No leak" not in report_finding_text(unseen)


def test_one_way_confusion_is_distinguished() -> None:
    one_way = [[60, 38, 1, 1], [1, 97, 1, 1], [1, 1, 97, 1], [1, 0, 1, 98]]
    assert comment_on(situation(confusion=one_way))[0].evidence["mostly"] == ["class 0", "class 1"]
    assert comment_on(CASES["two_confused_classes"])[0].evidence["mostly"] is None


def test_harder_test_images_are_reported() -> None:
    s = situation(score=0.7, low=0.66, high=0.74, train_score=0.75, cv_score=0.9, cv_low=0.88, cv_high=0.92)
    (finding,) = [f for f in comment_on(s) if f.kind is ReportKind.OTHER_IMAGES]
    assert finding.evidence["is_harder"] is True


def test_unmeasurable_score_is_reported() -> None:
    s = situation(low=None, high=None, curve=None)
    assert comment_on(s)[0].kind is ReportKind.UNMEASURED
    assert next_steps(s)[0].kind is ReportKind.GAIN_NOT_MEASURED
    assert find_quadrant(s)["similarity"] is None
    assert find_quadrant(s)["advice"] is None


def test_most_severe_comes_first() -> None:
    s = situation(num_leaks=2, score=0.26, low=0.22, high=0.31, train_score=0.9)
    assert kinds(comment_on(s)) == ["leak", "chance_level", "overfitting"]


def test_harmless_imbalance_is_no_problem() -> None:
    s = situation(counts=[900, 800, 90, 80])
    assert [(f.kind, f.is_problem) for f in comment_on(s)] == [("fine", False), ("imbalance", False)]


@pytest.mark.parametrize(
    ("losses", "counts", "size", "similarity"),
    [
        ((0.40, 0.38), [100] * 4, "small", "similar"),
        ((0.40, 0.20), [100] * 4, "small", "different"),
        ((0.40, 0.38), [900] * 4, "large", "similar"),
        ((0.40, 0.20), [900] * 4, "large", "different"),
    ],
)
def test_transfer_quadrants(losses: tuple[float, float], counts: list[int], size: str, similarity: str) -> None:
    square = find_quadrant(situation(counts=counts, block_losses=losses, curve=None))
    assert (square["size"], square["similarity"]) == (size, similarity)
    assert square["advice"]


def test_flat_learning_curve_means_enough_images() -> None:
    assert find_quadrant(situation(counts=[50] * 4, curve=Curve(0.002, -0.002, 0.006)))["size"] == "large"
    assert find_quadrant(situation(counts=[5000] * 4, curve=Curve(0.03, 0.02, 0.04)))["size"] == "small"


def test_leave_one_out_without_groups_warns_of_related_images() -> None:
    assert ReportKind.IMAGES_LEFT_OUT_ALONE in kinds(not_to_conclude(situation()))
    assert ReportKind.IMAGES_LEFT_OUT_ALONE not in kinds(not_to_conclude(situation(has_groups=True)))


def test_comparison_with_probe_is_next_step() -> None:
    verdict = {
        "gain": 0.02, "low": 0.01, "high": 0.03, "accuracy_gain": 0.015, "accuracy_error": 0.004, "is_better": True,
        "is_worse": False, "num_samples": 300,
    }  # fmt: skip
    (step,) = [f for f in next_steps(situation(verdict=verdict)) if f.kind is ReportKind.FINE_TUNING_COMPARED]
    assert step.evidence["accuracy_gain"] == 0.015
    assert "+1.5 points" in report_finding_text(step)
    assert ReportKind.BACKBONE_FROZEN in kinds(next_steps(situation()))


def test_most_confused_pair_counts_both_directions() -> None:
    assert confused_pair(CASES["two_confused_classes"])[:3] == (0, 1, 65)  # type: ignore[index]
    assert confused_pair(situation(confusion=np.diag([5, 5, 5]))) is None


def test_losses_of_feature_sets_come_from_evidence(
    make_facts: Callable[..., ClassifierRecord],
) -> None:
    evidence = {
        "log_loss": {"all_stages": 0.31, "all_stages_earlier_half": 0.29, "last_stage": 0.4},
        "num_compared": 60,
    }
    row = {"value": "all stages", "source": "auto", "reason": "blocks_compared", "evidence": evidence}
    facts = replace(make_facts(), settings={"probe.blocks": row})
    assert summarize_result(facts).block_losses == (0.4, 0.29)
    without = {**row, "text": "embedding only 0.4000, all stages 0.2000", "evidence": {}}
    assert summarize_result(replace(facts, settings={"probe.blocks": without})).block_losses is None
