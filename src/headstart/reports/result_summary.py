"""The handful of numbers that a comment on the result is made from, taken out of a run's facts.

A comment sees only this record, so that every rule can be tested on a
constructed case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.records import Shortcut
from headstart.reports.run_data import RunData
from headstart.types import EvaluationSetup, FindingKind, GroupStatus

__all__ = ["Curve", "GroupQuestion", "ResultSummary", "summarize_result"]


@dataclass(frozen=True)
class Curve:
    """What more images would bring: change of the score for twice as many, with its interval."""

    gain: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class GroupQuestion:
    """A guessed grouping that was not applied; the names of files are left out on purpose.

    Attributes:
        status: Why not.
        num_groups: Groups of at least two training images.
        accuracy_independent, accuracy_grouped: Accuracy without the groups, and with whole groups left out, or None.
    """

    status: GroupStatus
    num_groups: int
    accuracy_independent: float | None
    accuracy_grouped: float | None


@dataclass(frozen=True)
class ResultSummary:
    """A result in numbers; shares in [0, 1].

    Attributes:
        metric: `accuracy` or `balanced_accuracy`: what the next five are.
        score, low, high: The headline with its interval; the ends are None where it cannot be measured.
        train_score: On the images it was trained on.
        majority, nearest: The two baselines on the same images; `majority` is the best constant answer.
        setup: How the headline was measured.
        num_scored: Images behind it.
        class_names: K names.
        train_counts: (K,) training images of each class.
        confusion: (K, K) counts, rows truth, columns prediction.
        cv_score, cv_low, cv_high: Out of fold on the training images; None where the headline is that.
        num_leaks: Pairs of scored and training images that are copies.
        score_including_leaks: The score with the leaking images left in, where it was measured.
        num_conflicts: Images that occur under two labels.
        num_suspects: Labels that look wrong.
        has_health: Whether copies, leaks and shortcuts were looked for.
        shortcuts: Cues beside the subject that predict the class: rows of `dataset_report.json` (`records.Shortcut`).
        curve: What twice as many images would bring, where it was measured.
        block_losses: Log-loss of the last features alone and with earlier stages beside them, where measured.
        has_groups: Whether images that belong together were kept together.
        copies_at_baseline: Evidence of chains of copies that take the score to the baseline, or None.
        group_questions: Guessed groupings that look real and were not applied.
        is_tuned: Whether stages of the network itself were trained.
        verdict: The paired comparison of fine-tuning with the probe (`tuning.verdict` of `metrics.json`), or None.
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
    num_suspects: int = 0
    shortcuts: tuple[Mapping[str, Any], ...] = ()
    has_health: bool = True
    curve: Curve | None = None
    block_losses: tuple[float, float] | None = None
    has_groups: bool = False
    copies_at_baseline: Mapping[str, Any] | None = None
    group_questions: tuple[GroupQuestion, ...] = ()
    is_tuned: bool = False
    verdict: Mapping[str, Any] | None = None


def summarize_result(facts: RunData) -> ResultSummary:
    """Return the situation of a finished run."""
    metrics, health = facts.metrics, facts.health
    head = dict(metrics.get("headline") or {})
    metric = str(head.get("metric", "accuracy"))
    block, names = facts.headline_block, facts.class_names
    baselines = dict(metrics.get("baselines") or {})
    cv = (metrics.get("cv") or {}).get(metric) if metrics.get("test") else None
    tuning = dict(facts.extra.get("tuning") or {})
    as_given = metrics.get("test_including_leaks") or {}
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
        train_counts=tuple(images_by_split(facts).get("train", [0] * len(names))),
        confusion=confusion,
        cv_score=None if cv is None else cv.get("value"),
        cv_low=None if cv is None else cv.get("low"),
        cv_high=None if cv is None else cv.get("high"),
        num_leaks=_count(health.get("leaks")),
        score_including_leaks=((as_given or {}).get(metric) or {}).get("value"),
        num_conflicts=_count(health.get("label_conflicts")),
        num_suspects=_count((facts.extra.get("suspects") or {}).get("rows")),
        shortcuts=_shortcuts(health.get("shortcuts")),
        has_health="leaks" in health and "shortcuts" in health,
        curve=_curve(facts.extra.get("learning_curve")),
        block_losses=_block_losses(facts.settings.get("probe.blocks")),
        has_groups=bool(metrics.get("num_groups")),
        copies_at_baseline=_evidence_of(health.get("findings"), FindingKind.COPIES_AT_BASELINE),
        group_questions=_group_questions(health.get("findings")),
        is_tuned=str(tuning.get("plan", {}).get("cut", "head")) != "head",
        verdict=tuning.get("verdict"),
    )


def images_by_split(facts: RunData) -> dict[str, list[int]]:
    """Return images of each class in each split; of the training images some may not have been scored."""
    scored, metrics, num = facts.scored, facts.metrics, len(facts.class_names)
    counts = {s: np.bincount(scored.truth[scored.split == s], minlength=num) for s in ("train", "val", "test")}
    trained_on = np.asarray((metrics.get("train") or {}).get("confusion") or np.zeros((num, num))).sum(axis=1)
    there = int(metrics.get("num_samples") or 0) - int(counts["val"].sum() + counts["test"].sum())
    for found in (trained_on, trained_on + counts["train"]):  # held-out images were trained on at the end, or not
        if counts["train"].sum() < there == int(found.sum()):
            counts["train"] = found
            break
    return {split: [int(n) for n in found] for split, found in counts.items() if found.any()}


def _constant(confusion: NDArray[np.int64], metric: str) -> float:
    """Score of the best constant answer on the scored images, from their (K, K) confusion; 0 without any."""
    support = confusion.sum(axis=1)
    if not support.any():
        return 0.0
    return float(support.max() / support.sum()) if metric == "accuracy" else 1.0 / int((support > 0).sum())


def _count(value: Any) -> int:
    return len(value) if isinstance(value, Sequence) and not isinstance(value, str) else 0


def _shortcuts(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Return the whole rows among those that the health check wrote."""
    wanted = {field.name for field in fields(Shortcut)}
    rows = value if isinstance(value, list) else []
    return tuple(row for row in rows if isinstance(row, Mapping) and wanted <= set(row))


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
    """Return the log-loss of the last stage alone and the least of all compared sets, from the evidence for the blocks.

    Returns None where no sets were compared.
    """
    losses = ((decision or {}).get("evidence") or {}).get("log_loss")
    if not isinstance(losses, Mapping) or "last_stage" not in losses:
        return None
    return float(losses["last_stage"]), min(float(v) for v in losses.values())
