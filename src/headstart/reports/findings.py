"""Derive the findings, next steps and limitations of a classifier from its result, and its size/similarity quadrant.

The quadrants of dataset size and similarity to the pretraining data are those of Stanford CS231n. Similarity is
measured by the log-loss reduction from features of earlier, more general stages: for similar images the last suffice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.messages.comment import report_finding_to_json
from headstart.messages.sections import ADVICE, similarity_message, size_message
from headstart.reports.record import ClassifierRecord
from headstart.types.codes import (
    EvaluationProtocol,
    EvaluationSetup,
    FindingKind,
    GroupStatus,
    Severity,
    SplitSource,
)
from headstart.types.records import Shortcut
from headstart.types.report import ReportFinding, ReportKind

__all__ = [
    "Curve",
    "ResultSummary",
    "comment_on",
    "comment_to_json",
    "confused_pair",
    "find_quadrant",
    "images_by_split",
    "next_steps",
    "not_to_conclude",
    "summarize_result",
]

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
_LARGE = 500  # training images per class (median) of a large dataset
_FLAT = 0.01  # large dataset: doubling the images gains less than this
_DIFFERENT = 0.20  # different images: log-loss reduction by earlier stages of at least this
_ORDER = (
    *(ReportKind.UNMEASURED, ReportKind.LEAK, ReportKind.CHANCE_LEVEL, ReportKind.NEAR_CHANCE_LEVEL),
    *(ReportKind.GROUPS_IN_QUESTION, ReportKind.SHORTCUT, ReportKind.IMBALANCE, ReportKind.TWO_CONFUSED_CLASSES),
    *(ReportKind.TOO_LITTLE_DATA, ReportKind.OVERFITTING, ReportKind.OTHER_IMAGES, ReportKind.LABELS),
)
"""Findings, most severe first."""


@dataclass(frozen=True)
class Curve:
    """Expected change of the score for twice as many images, with its interval."""

    gain: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ResultSummary:
    """Metrics of a result; fractions in [0, 1].

    Attributes:
        metric: Metric of all scores: `accuracy` or `balanced_accuracy`.
        score, low, high: Headline with its interval; limits are None if not measurable.
        train_score: Score on the training images.
        majority, nearest: Baselines on the same images; `majority` is the best constant prediction.
        setup: Evaluation setup of the headline.
        num_scored: Number of scored images.
        class_names: K names.
        train_counts: (K,) training images of each class.
        confusion: (K, K) counts; rows are true classes, columns predictions.
        cv_score, cv_low, cv_high: Out-of-fold score on the training images; None if it is the headline.
        num_leaks: Pairs of scored and training images that are near-duplicates.
        score_including_leaks: Score with the leaking images included, if measured.
        num_conflicts: Images with two labels.
        num_label_errors: Suspected label errors.
        is_dataset_checked: Whether near-duplicates, leaks and shortcuts were checked.
        shortcuts: Properties other than the content that predict the class (`records.Shortcut`).
        curve: Expected gain from twice as many images, if measured.
        block_losses: Log-loss of the last features alone and with earlier stages, if measured.
        has_groups: Whether groups were kept in one fold.
        duplicates_at_baseline: Evidence of near-duplicate chains; the score without them is at the baseline. Or None.
        group_questions: Plausible inferred groupings that were not applied, as evidence of `GROUPS_IN_QUESTION`.
        is_tuned: Whether backbone stages were trained.
        verdict: The paired comparison of fine-tuning with the probe (`finetune.verdict` of `metrics.json`), or None.
    """

    score: float | None
    low: float | None
    high: float | None
    train_score: float | None
    majority: float
    nearest: float | None
    setup: EvaluationSetup
    num_scored: int
    class_names: tuple[str, ...]
    train_counts: tuple[int, ...]
    confusion: NDArray[np.int64]
    metric: str = "accuracy"
    cv_score: float | None = None
    cv_low: float | None = None
    cv_high: float | None = None
    num_leaks: int = 0
    score_including_leaks: float | None = None
    num_conflicts: int = 0
    num_label_errors: int = 0
    shortcuts: tuple[Mapping[str, Any], ...] = ()
    is_dataset_checked: bool = True
    curve: Curve | None = None
    block_losses: tuple[float, float] | None = None
    has_groups: bool = False
    duplicates_at_baseline: Mapping[str, Any] | None = None
    group_questions: tuple[Mapping[str, Any], ...] = ()
    is_tuned: bool = False
    verdict: Mapping[str, Any] | None = None

    @property
    def interval(self) -> dict[str, float | None]:
        """Score with its interval, as evidence."""
        return {"score": self.score, "low": self.low, "high": self.high}


def summarize_result(record: ClassifierRecord, curve: Mapping[str, Any] | None = None) -> ResultSummary:
    """Summarize a finished run; `curve` is the section of the learning curve."""
    metrics, report, block, names = record.metrics, record.dataset_report, record.headline_block, record.class_names
    head, baselines, finetune = (dict(metrics.get(key) or {}) for key in ("headline", "baselines", "finetune"))
    metric = str(head.get("metric", "accuracy"))
    confusion = np.asarray(block.get("confusion") or np.zeros((len(names), len(names))), dtype=np.int64)
    support = confusion.sum(axis=1)
    majority = float(support.max() / max(1, support.sum()))  # of the best constant prediction
    if metric == "balanced_accuracy" and support.any():
        majority = 1.0 / int((support > 0).sum())

    def estimate(name: str) -> Mapping[str, Any]:
        return (metrics.get(name) or {}).get(metric) or {}

    cv = estimate("cv") if metrics.get("test") else {}
    questions, chains = (
        tuple(row["evidence"] for row in record.dataset_rows("findings") if row.get("kind") == kind)
        for kind in (FindingKind.GROUPS_IN_QUESTION, FindingKind.DUPLICATES_AT_BASELINE)
    )
    complete = {field.name for field in fields(Shortcut)}
    losses = ((record.settings.get("probe.blocks") or {}).get("evidence") or {}).get("log_loss") or {}
    return ResultSummary(
        metric=metric,
        score=head.get("value"),
        low=head.get("low"),
        high=head.get("high"),
        train_score=estimate("train").get("value"),
        majority=majority,
        nearest=(baselines.get("nearest_neighbor") or {}).get(metric),
        setup=EvaluationSetup.from_json(head),
        num_scored=int(head.get("num_samples") or 0),
        class_names=names,
        train_counts=tuple(images_by_split(record).get("train", [0] * len(names))),
        confusion=confusion,
        cv_score=cv.get("value"),
        cv_low=cv.get("low"),
        cv_high=cv.get("high"),
        num_leaks=len(record.dataset_rows("leaks")),
        score_including_leaks=estimate("test_including_leaks").get("value"),
        num_conflicts=len(record.dataset_rows("label_conflicts")),
        num_label_errors=sum(row.get("is_label_error") == "true" for row in record.label_errors or ()),
        shortcuts=tuple(row for row in record.dataset_rows("shortcuts") if complete <= set(row)),
        is_dataset_checked="leaks" in report and "shortcuts" in report,
        curve=None if not curve or "gain" not in curve else Curve(curve["gain"], curve.get("low"), curve.get("high")),
        block_losses=(losses["last_stage"], min(losses.values())) if "last_stage" in losses else None,
        has_groups=bool(metrics.get("num_groups")),
        duplicates_at_baseline=next(iter(chains), None),
        group_questions=questions,
        is_tuned=str(finetune.get("plan", {}).get("train_from", "head")) != "head",
        verdict=finetune.get("verdict"),
    )


def comment_on(s: ResultSummary) -> list[ReportFinding]:
    """Return the findings, most severe first; if none is a problem, a finding of kind FINE is first."""
    findings = [*_score_findings(s), *_data_findings(s), *_class_findings(s)]
    findings.sort(key=lambda f: (not f.is_problem, _ORDER.index(f.kind)))
    if findings and findings[0].is_problem:
        return findings
    evidence = {
        **s.interval,
        "majority": s.majority,
        "nearest_neighbor": s.nearest,
        "train_score": s.train_score,
        "is_checked": s.is_dataset_checked,
    }
    return [ReportFinding(ReportKind.FINE, evidence=evidence), *findings]


def _problem(kind: ReportKind, **evidence: Any) -> ReportFinding:
    return ReportFinding(kind, Severity.WARNING, evidence)


def _score_findings(s: ResultSummary) -> Iterator[ReportFinding]:
    """Compare the score with its interval, the baseline, the training images and other splits."""
    if s.num_leaks:
        scores = {"score": s.score, "score_including_leaks": s.score_including_leaks}
        yield _problem(ReportKind.LEAK, num_pairs=s.num_leaks, **scores)
    if s.score is None or s.low is None or s.high is None:
        yield _problem(ReportKind.UNMEASURED, score=s.score, num_scored=s.num_scored)
        return
    if s.majority < s.low <= s.majority + _NEAR:
        yield _problem(ReportKind.NEAR_CHANCE_LEVEL, **s.interval, majority=s.majority)
    elif s.low <= s.majority:
        chains, keys = s.duplicates_at_baseline, ("num_pairs", "accuracy_separate")
        duplicates = None if chains is None else {key: chains[key] for key in keys}
        is_worse = s.high < s.majority
        evidence = {**s.interval, "majority": s.majority, "is_worse": is_worse, "duplicates": duplicates}
        yield _problem(ReportKind.CHANCE_LEVEL, **evidence)
    if s.train_score is not None and s.train_score - s.high >= _GAP:
        yield _problem(ReportKind.OVERFITTING, **s.interval, train_score=s.train_score, is_tuned=s.is_tuned)
    is_harder = s.cv_low is not None and s.high < s.cv_low
    if is_harder or (s.cv_high is not None and s.low > s.cv_high):
        yield _problem(ReportKind.OTHER_IMAGES, **s.interval, cv_score=s.cv_score, is_harder=is_harder)


def _data_findings(s: ResultSummary) -> Iterator[ReportFinding]:
    """Report groups in question, shortcuts, suspicious labels and too few images."""
    if s.group_questions:
        open_ones = [q for q in s.group_questions if q["status"] in _OPEN_QUESTIONS]
        keys = ("status", "num_groups", "accuracy_independent", "accuracy_grouped")
        rows = [{key: q[key] for key in keys} for q in open_ones or s.group_questions]
        severity = Severity.WARNING if open_ones else Severity.INFO
        yield ReportFinding(ReportKind.GROUPS_IN_QUESTION, severity, {"questions": rows})
    if s.shortcuts:
        clearest = max(s.shortcuts, key=lambda row: float(row["accuracy"]))
        shown = ("what", "accuracy", "chance", "given_class", "given_class_fraction")  # examples contain file names
        yield _problem(ReportKind.SHORTCUT, **{key: clearest[key] for key in shown})
    if s.num_conflicts or s.num_label_errors:
        evidence = {"num_conflicts": s.num_conflicts, "num_label_errors": s.num_label_errors}
        yield ReportFinding(ReportKind.LABELS, evidence=evidence)
    counts = [n for n in s.train_counts if n]
    median = float(np.median(counts)) if counts else 0.0
    few: dict[str, Any] = {"median_count": int(median)} if median < _FEW else {}
    if s.low is not None and s.high is not None and s.high - s.low > _WIDE:
        few |= {"low": s.low, "high": s.high, "num_scored": s.num_scored}
    if s.curve is not None and s.curve.low is not None and s.curve.low >= _STEEP:
        few["gain_of_doubling"] = s.curve.gain
    if few:
        yield _problem(ReportKind.TOO_LITTLE_DATA, **few)


def _class_findings(s: ResultSummary) -> Iterator[ReportFinding]:
    """Report class imbalance and a pair of confused classes."""
    counts, support = np.array(s.train_counts), s.confusion.sum(axis=1)
    if len(counts) > 1 and 0 < _SKEW * counts.min() < counts.max():
        recall = np.divide(np.diag(s.confusion), support, where=support > 0, out=np.full(len(counts), np.nan))
        is_small = counts <= counts.max() / _SKEW
        small, large = recall[is_small & (support > 0)], recall[~is_small & (support > 0)]
        if len(small) and len(large):
            is_harmful = bool(large.mean() - small.mean() >= _LOST)
            evidence: dict[str, Any] = {
                "largest_class": s.class_names[int(counts.argmax())],
                "largest_count": int(counts.max()),
                "smallest_class": s.class_names[int(counts.argmin())],
                "smallest_count": int(counts.min()),
                "recall_small": float(small.mean()),
                "recall_large": float(large.mean()),
                "is_harmful": is_harmful,
            }
            severity = Severity.WARNING if is_harmful else Severity.INFO
            yield ReportFinding(ReportKind.IMBALANCE, severity, evidence)
    pair = confused_pair(s)
    if pair is None or len(s.class_names) < 3:
        return
    a, b, num_pair, fraction = pair
    errors = int(s.confusion.sum() - np.trace(s.confusion))
    if num_pair < 5 or fraction < _PAIR or num_pair < _PAIR_SHARE * errors:
        return
    forward, back, names = int(s.confusion[a, b]), int(s.confusion[b, a]), [s.class_names[a], s.class_names[b]]
    is_one_way = min(forward, back) < _ONE_WAY * max(forward, back)
    mostly = (names if forward > back else names[::-1]) if is_one_way else None
    found = {"classes": names, "count": num_pair, "num_errors": errors, "fraction": fraction, "mostly": mostly}
    yield _problem(ReportKind.TWO_CONFUSED_CLASSES, **found)


def confused_pair(s: ResultSummary) -> tuple[int, int, int, float] | None:
    """Return the most confused pair of classes: (class, class, images, fraction of their images)."""
    both = s.confusion + s.confusion.T
    both[np.diag_indices_from(both)] = 0
    if both.size == 0 or both.max() == 0:
        return None
    a, b = (int(i) for i in np.unravel_index(both.argmax(), both.shape))
    support = s.confusion.sum(axis=1)
    return min(a, b), max(a, b), int(both[a, b]), float(both[a, b] / max(1, support[a] + support[b]))


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


def find_quadrant(s: ResultSummary) -> dict[str, Any]:
    """Return `size` and `similarity` (None if not measured) with measurement (`_basis`) and text."""
    counts = [n for n in s.train_counts if n]
    size_basis: dict[str, Any]
    if s.curve is not None:
        size = "large" if (s.curve.high if s.curve.high is not None else s.curve.gain) < _FLAT else "small"
        size_basis = {"gain_of_doubling": s.curve.gain, "threshold": _FLAT}
    else:
        median = float(np.median(counts)) if counts else 0.0
        size = "large" if median >= _LARGE else "small"
        size_basis = {"median_count": int(median), "threshold": _LARGE}
    similarity, basis = None, None
    if s.block_losses is not None:
        alone, best = s.block_losses
        fall = 1.0 - best / alone if alone > 0 else 0.0
        similarity = "different" if fall >= _DIFFERENT else "similar"
        basis = {"fall": fall, "log_loss_last_stage": alone, "log_loss_best": best, "threshold": _DIFFERENT}
    return {
        "size": size,
        "size_basis": size_basis,
        "size_reason": size_message(size_basis),
        "similarity": similarity,
        "similarity_basis": basis,
        "similarity_reason": similarity_message(basis),
        "advice": None if similarity is None else ADVICE[(size, similarity)],
        "all": [{"size": a, "similarity": b, "advice": text} for (a, b), text in ADVICE.items()],
    }


def images_by_split(record: ClassifierRecord) -> dict[str, list[int]]:
    """Count the images of each class in each split, including unscored training images."""
    scored, metrics, num = record.scored, record.metrics, len(record.class_names)
    counts = {s: np.bincount(scored.class_ids[scored.split == s], minlength=num) for s in ("train", "val", "test")}
    trained_on = np.asarray((metrics.get("train") or {}).get("confusion") or np.zeros((num, num))).sum(axis=1)
    num_train = int(metrics.get("num_samples") or 0) - int(counts["val"].sum() + counts["test"].sum())
    for total in (trained_on, trained_on + counts["train"]):  # with or without held-out images in `trained_on`
        if counts["train"].sum() < num_train == int(total.sum()):
            counts["train"] = total
            break
    return {split: [int(n) for n in row] for split, row in counts.items() if row.any()}
