"""Extract from a run the metrics that its report comments on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.reports.record import ClassifierRecord
from headstart.types.codes import EvaluationSetup, FindingKind, GroupStatus
from headstart.types.records import Shortcut

__all__ = ["Curve", "GroupQuestion", "ResultSummary", "summarize_result"]


@dataclass(frozen=True)
class Curve:
    """Expected change of the score for twice as many images, with its interval."""

    gain: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class GroupQuestion:
    """An inferred grouping that was not applied, without file names.

    Attributes:
        status: Reason why it was not applied.
        num_groups: Number of groups with at least two training images.
        accuracy_independent, accuracy_grouped: Accuracy without groups, and with leave-one-group-out, or None.
    """

    status: GroupStatus
    num_groups: int
    accuracy_independent: float | None
    accuracy_grouped: float | None


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
        group_questions: Plausible inferred groupings that were not applied.
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
    group_questions: tuple[GroupQuestion, ...] = ()
    is_tuned: bool = False
    verdict: Mapping[str, Any] | None = None


def summarize_result(record: ClassifierRecord, curve: Mapping[str, Any] | None = None) -> ResultSummary:
    """Summarize a finished run; `curve` is the section of the learning curve."""
    metrics, report = record.metrics, record.dataset_report
    head = dict(metrics.get("headline") or {})
    metric = str(head.get("metric", "accuracy"))
    block, names = record.headline_block, record.class_names
    baselines = dict(metrics.get("baselines") or {})
    cv = (metrics.get("cv") or {}).get(metric) if metrics.get("test") else None
    finetune = dict(record.metrics.get("finetune") or {})
    including_leaks = metrics.get("test_including_leaks") or {}
    confusion = np.asarray(block.get("confusion") or np.zeros((len(names), len(names))), dtype=np.int64)
    return ResultSummary(
        metric=metric,
        score=head.get("value"),
        low=head.get("low"),
        high=head.get("high"),
        train_score=((metrics.get("train") or {}).get(metric) or {}).get("value"),
        majority=_constant(confusion, metric),
        nearest=(baselines.get("nearest_neighbor") or {}).get(metric),
        setup=EvaluationSetup.from_json(head),
        num_scored=int(head.get("num_samples") or 0),
        class_names=names,
        train_counts=tuple(images_by_split(record).get("train", [0] * len(names))),
        confusion=confusion,
        cv_score=None if cv is None else cv.get("value"),
        cv_low=None if cv is None else cv.get("low"),
        cv_high=None if cv is None else cv.get("high"),
        num_leaks=_count(report.get("leaks")),
        score_including_leaks=((including_leaks or {}).get(metric) or {}).get("value"),
        num_conflicts=_count(report.get("label_conflicts")),
        num_label_errors=sum(row.get("is_label_error") == "true" for row in record.label_errors or ()),
        shortcuts=_shortcuts(report.get("shortcuts")),
        is_dataset_checked="leaks" in report and "shortcuts" in report,
        curve=_curve(curve),
        block_losses=_block_losses(record.settings.get("probe.blocks")),
        has_groups=bool(metrics.get("num_groups")),
        duplicates_at_baseline=_evidence_of(report.get("findings"), FindingKind.DUPLICATES_AT_BASELINE),
        group_questions=_group_questions(report.get("findings")),
        is_tuned=str(finetune.get("plan", {}).get("train_from", "head")) != "head",
        verdict=finetune.get("verdict"),
    )


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


def _constant(confusion: NDArray[np.int64], metric: str) -> float:
    """Return the score of the best constant prediction, from the (K, K) confusion; 0 without images."""
    support = confusion.sum(axis=1)
    if not support.any():
        return 0.0
    return float(support.max() / support.sum()) if metric == "accuracy" else 1.0 / int((support > 0).sum())


def _count(value: Any) -> int:
    return len(value) if isinstance(value, Sequence) and not isinstance(value, str) else 0


def _shortcuts(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Return the complete rows of the dataset report."""
    required = {field.name for field in fields(Shortcut)}
    rows = value if isinstance(value, list) else []
    return tuple(row for row in rows if isinstance(row, Mapping) and required <= set(row))


def _evidence_of(findings: Any, kind: FindingKind) -> Mapping[str, Any] | None:
    rows = [row for row in findings if isinstance(row, Mapping)] if isinstance(findings, list) else []
    return next((row["evidence"] for row in rows if row.get("kind") == kind.value), None)


def _group_questions(findings: Any) -> tuple[GroupQuestion, ...]:
    rows = [row for row in findings if isinstance(row, Mapping)] if isinstance(findings, list) else []
    return tuple(
        GroupQuestion(
            status=GroupStatus(row["evidence"]["status"]),
            num_groups=int(row["evidence"]["num_groups"]),
            accuracy_independent=row["evidence"]["accuracy_independent"],
            accuracy_grouped=row["evidence"]["accuracy_grouped"],
        )
        for row in rows
        if row.get("kind") == FindingKind.GROUPS_IN_QUESTION.value
    )


def _curve(value: Any) -> Curve | None:
    if not isinstance(value, Mapping):
        return None
    gain = value.get("gain")
    return None if not isinstance(gain, (int, float)) else Curve(float(gain), value.get("low"), value.get("high"))


def _block_losses(decision: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """Return the log-loss of the last stage and the lowest of all compared feature sets; None without comparison."""
    losses = ((decision or {}).get("evidence") or {}).get("log_loss")
    if not isinstance(losses, Mapping) or "last_stage" not in losses:
        return None
    return float(losses["last_stage"]), min(float(v) for v in losses.values())
