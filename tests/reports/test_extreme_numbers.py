"""Test texts over a grid of extreme numbers: no missing value, empty list or wrong plural."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from detector_record import detector_record
from event_text import finding_lines
from text_checks import faults, page_texts, texts_of

from headstart.data.boxes.records import Boxes, Detections
from headstart.detection.metrics import detection_to_json, evaluate_detections
from headstart.evaluation.head_evaluation import HeadEvaluation, ModelLogits
from headstart.evaluation.metrics import evaluate
from headstart.evaluation.paired_comparison import ClassDifference, ComparisonVerdict, Difference, PairedComparison
from headstart.evaluation.score_summary import summarize_detections, summarize_evaluation, summarize_run
from headstart.messages.box_problems import BOX_PROBLEMS
from headstart.messages.comment import report_finding_text, report_finding_title
from headstart.messages.comparisons import comparison_lines
from headstart.messages.scores import score_lines
from headstart.quality.report_findings import box_problem_findings, dataset_findings
from headstart.reports.comparison_text import comparison_findings, comparison_json
from headstart.reports.findings import Curve, ResultSummary, comment_on, find_quadrant, next_steps, not_to_conclude
from headstart.reports.html import render, render_text
from headstart.reports.record import ClassifierRecord, DetectorRecord
from headstart.reports.summary import summarize
from headstart.types.codes import USER_TEST_SPLIT, EvaluationProtocol, EvaluationSetup, GroupStatus
from headstart.types.records import DatasetReport, GroupPattern, HandledFiles, ImagePair, Problem

LEAVE_ONE_OUT = EvaluationSetup(EvaluationProtocol.LEAVE_ONE_OUT)
NAMES_IGNORED = ("settings", "environment", "versions", "digests", "images", "class_names", "estimator")


def check(texts: Any) -> None:
    wrong = [fault for text in texts for fault in faults(text)]
    assert not wrong, "\n".join(sorted(set(wrong)))


SCORES = [(None, None, None), (0.0, 0.0, 0.3), (1.0, 0.7, 1.0), (0.5, None, None), (0.5, 0.5, 0.5), (0.0004, 0.0, 0.02)]


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("score", SCORES, ids=str)
def test_comments(score: tuple[float | None, ...], count: int, metric: str) -> None:
    value, low, high = score
    for k, curve, including_leaks in itertools.product(
        (1, 2, 3), (None, Curve(0.0, None, None), Curve(-0.00001, -0.3, 0.3), Curve(0.2, 0.1, 0.3)), (None, value)
    ):
        confusion = np.full((k, k), count)
        s = ResultSummary(
            metric=metric, score=value, low=low, high=high, train_score=value, majority=1 / k, nearest=value,
            setup=LEAVE_ONE_OUT,
            num_scored=count, class_names=tuple("abc"[:k]), train_counts=(count,) * k, confusion=confusion,
            cv_score=value, cv_low=low, cv_high=high, num_leaks=count, num_conflicts=count,
            score_including_leaks=including_leaks,
            num_label_errors=count, curve=curve, is_dataset_checked=bool(count),
            block_losses=(0.0, 0.0) if count else None,
        )  # fmt: skip
        square = find_quadrant(s)
        for finding in (*comment_on(s), *next_steps(s), *not_to_conclude(s)):
            check([report_finding_title(finding) or "", report_finding_text(finding)])
        check([square["size_reason"], square["similarity_reason"]])


@pytest.fixture(scope="module", params=["one a class", "all right", "all wrong", "few groups", "empty class", "wide"])
def facts(request: pytest.FixtureRequest, make_facts: Callable[..., ClassifierRecord]) -> ClassifierRecord:
    """Return a run at the limits of what can be trained."""
    health: dict[str, Any] = {
        "leaks": [], "duplicates": [], "near_duplicates": [], "label_conflicts": [], "shortcuts": [], "unreadable": [],
        "group_patterns": [],
    }  # fmt: skip
    one = {"a": "cat/000.jpg", "b": "cat/001.jpg", "kind": "bytes", "label_a": "cat", "label_b": "dog"}
    match request.param:
        case "one a class":
            some = {key: [one] for key in ("leaks", "duplicates", "label_conflicts")}
            unreadable = [{"name": "x.jpg", "kind": "empty", "detail": "the file is empty"}]
            return make_facts(("cat", "dog"), 2, dataset_report={**health, **some, "unreadable": unreadable})
        case "all right":
            return make_facts(skill=50.0, dataset_report=health)
        case "all wrong":
            return make_facts(("cat", "dog"), skill=-50.0, has_test=False)
        case "few groups":
            return make_facts(per_class=12, has_test=False, dataset_report=health)
        case "empty class":
            return make_facts(("cat", "dog"), 1, has_test=False)
        case _:
            return make_facts(tuple(f"class {i}" for i in range(40)), 3)


@pytest.mark.parametrize("has_thumbs", [False, True])
def test_reports(facts: ClassifierRecord, has_thumbs: bool) -> None:
    report = summarize(facts)
    check(texts_of(report, NAMES_IGNORED))
    check(line for line in render_text("comment.md", report).splitlines())
    check(line for line in render_text("card.md", report).splitlines())
    check(page_texts(render(report, dict.fromkeys(map(int, report["images"])) if has_thumbs else None)))


def detector(case: str) -> DetectorRecord:
    names = ("cat", "dog")
    box, nothing = [[10, 10, 60, 60]], Boxes.of([])
    truth, detections = {
        "nothing there": ([nothing] * 2, [Detections.of([])] * 2),
        "nothing found": ([Boxes.of(box, [0])] * 6, [Detections.of([])] * 6),
        "one error": ([Boxes.of(box, [0])], [Detections.of(box, [0.9], [1])]),
        "all right": (
            [Boxes.of(box, [i % 2]) for i in range(8)],
            [Detections.of(box, [0.9], [i % 2]) for i in range(8)],
        ),
    }[case]
    block = detection_to_json(evaluate_detections(truth, detections, names, setup=USER_TEST_SPLIT, draws=20))
    metrics = {"task": "detect", "class_names": names, "num_samples": len(truth), "num_boxes": 1, "test": block}
    health = {
        "problems": [{"kind": "box-outside", "name": "a.jpg", "detail": "outside"}],
        "num_empty": 1,
        "warnings": [],
    }
    return detector_record(metrics, truth, detections, truth[:1], dataset_report=health)


@pytest.mark.parametrize("case", ["nothing there", "nothing found", "one error", "all right"])
def test_detector_reports(case: str) -> None:
    report = summarize(detector(case))
    check(texts_of(report, NAMES_IGNORED))
    check(line for line in render_text("comment.md", report).splitlines())
    for thumbs in ({}, None):
        check(page_texts(render(report, thumbs)))


def test_detector_report_without_score() -> None:
    report = summarize(detector_record({"task": "detect", "class_names": ["cat"]}))
    check(texts_of(report, NAMES_IGNORED))
    check(page_texts(render(report, {})))


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("needed", [None, 1, 1200])
@pytest.mark.parametrize("verdict", ComparisonVerdict)
def test_comparisons(count: int, needed: int | None, verdict: ComparisonVerdict) -> None:
    d = Difference(0.5, 0.5, -1e-9 if count else 0.0, -0.1, 0.1, 1.0, needed, 0.2)
    loss = Difference(0.7, 0.7, -1e-9, -0.1, 0.1, 0.01, needed, 0.2)
    per_class = (ClassDifference("a", count, None, None, count, count, 1.0),)
    comparison = PairedComparison(verdict, "accuracy", count, count, True, d, d, loss, count, count, 1.0, per_class)  # type: ignore[arg-type]
    numbers = comparison_json(comparison, ("old", "new"), EvaluationProtocol.K_FOLD, is_new_data=False)
    check(text for _, text in comparison_lines(numbers))
    check(finding_lines(comparison_findings(comparison)))


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("is_imbalanced", [False, True])
@pytest.mark.parametrize("skill", [-50.0, 0.0, 50.0])
def test_score_lines(k: int, is_imbalanced: bool, skill: float) -> None:
    rng = np.random.default_rng(0)
    for per_class, groups in itertools.product((1, 6), (None, "one", "pairs")):
        truth = np.repeat(np.arange(k), per_class)
        logits = rng.normal(size=(len(truth), k))
        logits[np.arange(len(truth)), truth] += skill
        names = tuple("abc"[:k])
        owner = {None: None, "one": np.zeros(len(truth), int), "pairs": np.arange(len(truth)) // 2}[groups]
        scored = evaluate(logits, truth, names, setup=USER_TEST_SPLIT, is_logits=True, groups=owner)
        leaky = evaluate(
            np.r_[logits, logits[:1]], np.r_[truth, truth[:1]], names, setup=USER_TEST_SPLIT, is_logits=True
        )
        shares = {"accuracy": 1 / k, "balanced_accuracy": 1 / k}
        baselines = {"majority": {"class_name": "a", **shares}, "nearest_neighbor": shares}
        every, rows = np.arange(len(truth)), logits.astype(np.float32)
        model_logits = ModelLogits(rows, every, rows, every)
        evaluation = HeadEvaluation(scored, scored, None, scored, baselines, model_logits, is_imbalanced, leaky)
        score = summarize_run({**evaluation.blocks_json(), "baselines": baselines})
        check(text for _, text in score_lines(score))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_label_errors(facts: ClassifierRecord, count: int) -> None:
    row = {"image": "cat/000.jpg", "label": "cat", "suggested": "dog", "error_probability": "", "split": "test"}
    for is_label_error in ("true", "false"):
        rows = [{**row, "is_label_error": is_label_error}] * count
        check(texts_of(summarize(replace(facts, label_errors=rows))["label_errors"]))


@pytest.mark.parametrize("num", [1, 2, 40])
@pytest.mark.parametrize(
    "share", [{"value": 0.0, "low": 0.0, "high": 0.1}, {"value": 1.0, "low": None}, {"value": None}]
)
def test_ood_and_coverage(
    make_facts: Callable[..., ClassifierRecord], num: int, share: dict[str, float | None]
) -> None:
    test = {"empirical": share, "false_positive_rate": share, "num_samples": num, "mean_size": 1.0,
            "single_fraction": 0.0, "empty_fraction": 1.0}  # fmt: skip
    for part, threshold, guaranteed in itertools.product((None, test), (None, 2.5), (False, True)):
        left = {"ood_recall": 0.0, "auroc": 1.0, "auroc_of_probability": 0.5, "num_samples": num, "per_class": []}
        ood = {"ood_fpr": 0.05, "threshold": threshold, "out_of_fold": {"num_samples": num, "false_positive_rate": 0.0},
                   "test": part, "held_out_classes": left if part else None}  # fmt: skip
        coverage = {**test, "coverage": 0.9, "is_guaranteed": guaranteed, "num_fitted": num, "test": part}
        run = make_facts(sections={"ood": ood, "coverage": coverage})
        report = summarize(run)
        check(texts_of([report["ood"], report["coverage"]]))


@pytest.mark.parametrize("count", [1, 2])
def test_evaluations(count: int) -> None:
    truth = np.arange(count) % 2
    scored = evaluate(np.eye(2)[truth], truth, ("a", "b"), setup=USER_TEST_SPLIT)
    boxes = [Boxes.of([[0, 0, 50, 50]], [0])] * count
    evaluation = evaluate_detections(boxes, [Detections.of([])] * count, ("a", "b"), draws=0, setup=USER_TEST_SPLIT)
    scores = (summarize_evaluation(scored), summarize_detections(detection_to_json(evaluation)))
    check(text for score in scores for _, text in score_lines(score))
    check(finding_lines([*scored.findings, *evaluation.findings]))


@pytest.mark.parametrize("count", [1, 2])
def test_check_lines(count: int) -> None:
    pair = ImagePair("a", "b", "near", 0.99, "train", "test", "x", "y", 0, 1)
    for shares, status in itertools.product(((None, None), (0.0, 1.0)), GroupStatus):
        pattern = GroupPattern("^(.)", {"grouped_by": "folder"}, count, status, 0.001, 0.1, *shares)
        unreadable = (Problem("a", "empty", "the file is empty"),) * count
        health = DatasetReport(
            2, "class folders", {"a": {"none": count}}, {"PNG": count}, unreadable,
            (HandledFiles("rotated", count, "turned upright", ("a",)),), (pair,) * count, (pair,) * count,
            (pair,) * count, (pair,) * count, (pattern,), overlap_fraction={"crop": 0.0004, "cover": 0.5},
        )  # fmt: skip
        check(finding_lines(dataset_findings(health)))
    for kind in BOX_PROBLEMS:
        check(finding_lines(box_problem_findings([Problem("a", kind, "an example")] * count)))
