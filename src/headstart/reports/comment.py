"""Derive the findings of a result from its metrics, most severe first."""

from __future__ import annotations

from typing import Any

import numpy as np

from headstart.messages.comment import report_finding_to_json
from headstart.reports.result_summary import ResultSummary
from headstart.types.codes import EvaluationProtocol, Evidence, GroupStatus, Severity, SplitSource
from headstart.types.report import ReportFinding, ReportKind

__all__ = ["comment_on", "comment_to_json", "confused_pair", "next_steps", "not_to_conclude"]

_GAP = 0.08  # overfitting: training score above the upper end of the held-out interval by this much
_FEW = 25  # minimum images per class (median)
_WIDE = 0.20  # maximum width of a useful interval
_STEEP = 0.015  # lower end of the gain of doubling that justifies more images
_NEAR = 0.01  # near chance: lower end of the interval above the majority baseline by at most this
_SKEW = 3.0  # largest class over smallest
_LOST = 0.15  # harmful imbalance: recall of small classes lower by this much
_PAIR = 0.12  # minimum confused fraction of the images of a pair of classes
_PAIR_SHARE = 0.35  # ... and minimum fraction of all errors
_ONE_WAY = 0.3  # one-way confusion: ratio of the rarer to the other direction below this

_OPEN_QUESTIONS = (GroupStatus.QUESTION_TOO_FEW_GROUPS, GroupStatus.QUESTION_SCORE_AT_BASELINE)


def comment_on(s: ResultSummary) -> list[ReportFinding]:
    """Return the findings, most severe first; if none is a problem, a finding of kind FINE is first."""
    rules = (_unmeasured, _leak, _chance, _groups, _shortcut, _imbalance, _pair, _little, _overfit, _shift, _labels)
    findings = [finding for rule in rules if (finding := rule(s)) is not None]
    findings.sort(key=lambda f: not f.is_problem)  # stable: rules are ordered by severity
    return findings if findings and findings[0].is_problem else [_fine(s), *findings]


def _problem(kind: ReportKind, **evidence: Any) -> ReportFinding:
    return ReportFinding(kind, Severity.WARNING, evidence)


def _score(s: ResultSummary) -> Evidence:
    return {"score": s.score, "low": s.low, "high": s.high}


def _unmeasured(s: ResultSummary) -> ReportFinding | None:
    if s.score is not None and s.low is not None:
        return None
    return _problem(ReportKind.UNMEASURED, score=s.score, num_scored=s.num_scored)


def _leak(s: ResultSummary) -> ReportFinding | None:
    if not s.num_leaks:
        return None
    return _problem(
        ReportKind.LEAK, num_pairs=s.num_leaks, score=s.score, score_including_leaks=s.score_including_leaks
    )


def _chance(s: ResultSummary) -> ReportFinding | None:
    """Compare the interval of the score with the majority baseline."""
    if s.score is None or s.low is None or s.high is None or s.low > s.majority + _NEAR:
        return None
    evidence = {**_score(s), "majority": s.majority}
    if s.low > s.majority:
        return _problem(ReportKind.NEAR_CHANCE_LEVEL, **evidence)
    duplicates = s.duplicates_at_baseline
    chains = None if duplicates is None else {key: duplicates[key] for key in ("num_pairs", "accuracy_separate")}
    return _problem(ReportKind.CHANCE_LEVEL, **evidence, is_worse=s.high < s.majority, duplicates=chains)


def _groups(s: ResultSummary) -> ReportFinding | None:
    """Report inferred groups that were not applied; a problem if they may be real and change the score."""
    if not s.group_questions:
        return None
    open_ones = [q for q in s.group_questions if q.status in _OPEN_QUESTIONS]
    rows = [
        {
            "status": q.status.value,
            "num_groups": q.num_groups,
            "accuracy_independent": q.accuracy_independent,
            "accuracy_grouped": q.accuracy_grouped,
        }
        for q in open_ones or s.group_questions
    ]
    severity = Severity.WARNING if open_ones else Severity.INFO
    return ReportFinding(ReportKind.GROUPS_IN_QUESTION, severity, {"questions": rows})


def _shortcut(s: ResultSummary) -> ReportFinding | None:
    if not s.shortcuts:
        return None
    clearest = max(s.shortcuts, key=lambda row: float(row["accuracy"]))
    keys = (
        "what",
        "accuracy",
        "chance",
        "given_class",
        "given_class_fraction",
    )  # examples contain file names
    return _problem(ReportKind.SHORTCUT, **{key: clearest[key] for key in keys})


def _imbalance(s: ResultSummary) -> ReportFinding | None:
    counts = np.array(s.train_counts)
    support = s.confusion.sum(axis=1)
    if len(counts) < 2 or counts.min() == 0 or counts.max() <= _SKEW * counts.min():
        return None
    recall = np.divide(np.diag(s.confusion), support, where=support > 0, out=np.full(len(counts), np.nan))
    is_small = counts <= counts.max() / _SKEW
    small, large = recall[is_small & (support > 0)], recall[~is_small & (support > 0)]
    if not len(small) or not len(large):
        return None
    biggest, smallest = int(counts.argmax()), int(counts.argmin())
    evidence: dict[str, Any] = {
        "largest_class": s.class_names[biggest],
        "largest_count": int(counts[biggest]),
        "smallest_class": s.class_names[smallest],
        "smallest_count": int(counts[smallest]),
        "recall_small": float(small.mean()),
        "recall_large": float(large.mean()),
        "is_harmful": bool(large.mean() - small.mean() >= _LOST),
    }
    severity = Severity.WARNING if evidence["is_harmful"] else Severity.INFO
    return ReportFinding(ReportKind.IMBALANCE, severity, evidence)


def confused_pair(s: ResultSummary) -> tuple[int, int, int, float] | None:
    """Return the most confused pair of classes: (class, class, images, fraction of their images)."""
    both = s.confusion + s.confusion.T
    both[np.diag_indices_from(both)] = 0
    if both.size == 0 or both.max() == 0:
        return None
    a, b = (int(i) for i in np.unravel_index(both.argmax(), both.shape))
    support = s.confusion.sum(axis=1)
    return min(a, b), max(a, b), int(both[a, b]), float(both[a, b] / max(1, support[a] + support[b]))


def _pair(s: ResultSummary) -> ReportFinding | None:
    pair = confused_pair(s)
    if pair is None or len(s.class_names) < 3:
        return None
    a, b, num_pair, fraction = pair
    errors = int(s.confusion.sum() - np.trace(s.confusion))
    forward, back = int(s.confusion[a, b]), int(s.confusion[b, a])
    if num_pair < 5 or fraction < _PAIR or num_pair < _PAIR_SHARE * errors:
        return None
    names = [s.class_names[a], s.class_names[b]]
    mostly = None
    if min(forward, back) < _ONE_WAY * max(forward, back):
        mostly = names if forward > back else names[::-1]
    return _problem(
        ReportKind.TWO_CONFUSED_CLASSES,
        classes=names,
        count=num_pair,
        num_errors=errors,
        fraction=fraction,
        mostly=mostly,
    )


def _little(s: ResultSummary) -> ReportFinding | None:
    counts = [n for n in s.train_counts if n]
    median = float(np.median(counts)) if counts else 0.0
    evidence: dict[str, Any] = {}
    if median < _FEW:
        evidence["median_count"] = int(median)
    if s.low is not None and s.high is not None and s.high - s.low > _WIDE:
        evidence |= {"low": s.low, "high": s.high, "num_scored": s.num_scored}
    if s.curve is not None and s.curve.low is not None and s.curve.low >= _STEEP:
        evidence["gain_of_doubling"] = s.curve.gain
    return _problem(ReportKind.TOO_LITTLE_DATA, **evidence) if evidence else None


def _overfit(s: ResultSummary) -> ReportFinding | None:
    if s.train_score is None or s.score is None or s.high is None or s.train_score - s.high < _GAP:
        return None
    return _problem(ReportKind.OVERFITTING, **_score(s), train_score=s.train_score, is_tuned=s.is_tuned)


def _shift(s: ResultSummary) -> ReportFinding | None:
    if s.cv_low is None or s.cv_score is None or s.high is None or s.score is None or s.low is None:
        return None
    is_harder = s.high < s.cv_low
    if not is_harder and not (s.cv_high is not None and s.low > s.cv_high):
        return None
    return _problem(ReportKind.OTHER_IMAGES, **_score(s), cv_score=s.cv_score, is_harder=is_harder)


def _labels(s: ResultSummary) -> ReportFinding | None:
    if not s.num_conflicts and not s.num_label_errors:
        return None
    evidence = {"num_conflicts": s.num_conflicts, "num_label_errors": s.num_label_errors}
    return ReportFinding(ReportKind.LABELS, evidence=evidence)


def _fine(s: ResultSummary) -> ReportFinding:
    evidence = {
        **_score(s),
        "majority": s.majority,
        "nearest_neighbor": s.nearest,
        "train_score": s.train_score,
        "is_checked": s.is_dataset_checked,
    }
    return ReportFinding(ReportKind.FINE, evidence=evidence)


def next_steps(s: ResultSummary) -> list[ReportFinding]:
    """Return the expected gain of more images, the main confusion, and what is known about fine-tuning."""
    steps = []
    if s.curve is None:
        steps.append(ReportFinding(ReportKind.GAIN_NOT_MEASURED))
    else:
        evidence = {"gain": s.curve.gain, "low": s.curve.low, "high": s.curve.high}
        steps.append(ReportFinding(ReportKind.GAIN_OF_MORE_IMAGES, evidence=evidence))
    pair = confused_pair(s)
    if pair is not None and pair[2] >= 3:
        names = [s.class_names[i] for i in pair[:2]]
        steps.append(ReportFinding(ReportKind.MOST_FREQUENT_CONFUSION, evidence={"classes": names, "count": pair[2]}))
    if s.verdict is not None:
        steps.append(ReportFinding(ReportKind.FINE_TUNING_COMPARED, evidence=s.verdict))
    elif not s.is_tuned:
        steps.append(ReportFinding(ReportKind.BACKBONE_FROZEN))
    return steps


def not_to_conclude(s: ResultSummary) -> list[ReportFinding]:
    """Return the limitations of the score."""
    findings = [ReportFinding(ReportKind.SAME_ORIGIN_ONLY)]
    if s.setup.protocol is EvaluationProtocol.LEAVE_ONE_OUT and not s.has_groups:
        findings.append(ReportFinding(ReportKind.IMAGES_LEFT_OUT_ALONE))
    if s.setup.protocol is EvaluationProtocol.VALIDATION_SPLIT and s.setup.split_source is SplitSource.USER:
        findings.append(ReportFinding(ReportKind.VALIDATION_SPLIT_REUSED))
    if 0 < s.num_scored < 100:
        findings.append(ReportFinding(ReportKind.FEW_SCORED_IMAGES, evidence={"num_scored": s.num_scored}))
    if s.metric == "balanced_accuracy":
        findings.append(ReportFinding(ReportKind.MEAN_OVER_CLASSES))
    return [*findings, ReportFinding(ReportKind.CONFIDENCE_IS_NOT_CORRECTNESS)]


def comment_to_json(s: ResultSummary) -> dict[str, Any]:
    """Return the `comment` section of `report.json`: code, severity, evidence, title and text of each finding."""
    return {
        "findings": [report_finding_to_json(f) for f in comment_on(s)],
        "next": [report_finding_to_json(f) for f in next_steps(s)],
        "not_to_conclude": [report_finding_to_json(f) for f in not_to_conclude(s)],
    }
