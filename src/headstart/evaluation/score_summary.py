"""Summarize the headline score as one value, shared by the screen, Python and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstart.evaluation.metrics import evaluation_from_json, is_skewed
from headstart.types.codes import SplitSource
from headstart.types.records import Estimate, Evaluation

__all__ = ["summarize_classification", "summarize_detections", "summarize_evaluation", "summarize_run"]

_FEW = 5  # classes with fewer scored images cannot be the hardest


def summarize_classification(
    evaluation: Evaluation,
    metric: str,
    baselines: Mapping[str, Mapping[str, Any]],
    including_leaks: Evaluation | None = None,
) -> dict[str, Any]:
    """Return the score of a classifier in the form that `headstart.messages.scores` renders.

    Args:
        evaluation: Of the headline.
        metric: Of the headline: `accuracy` or `balanced_accuracy`.
        baselines: Scores by metric of `majority` and `nearest_neighbor`; either may be absent.
        including_leaks: Evaluation of the test split with its leaking images.
    """
    setup, correct = evaluation.setup, int(np.trace(evaluation.confusion))
    score: dict[str, Any] = {
        "metric": metric,
        **_estimate(getattr(evaluation, metric)),
        "protocol": setup.protocol.value,
        "num_folds": setup.num_folds,
        "is_users_split": setup.split_source is SplitSource.USER,
        "correct": correct,
        "total": int(evaluation.confusion.sum()),
        "num_images": int(evaluation.confusion.sum()),
        "num_groups": evaluation.num_groups,
        "accuracy": _estimate(evaluation.accuracy),
        "balanced_accuracy": _estimate(evaluation.balanced_accuracy),
        "majority": (baselines.get("majority") or {}).get(metric),
        "nearest_neighbor": (baselines.get("nearest_neighbor") or {}).get(metric),
        "hardest_class": _hardest(evaluation),
        "leaky": None,
    }
    if including_leaks is not None:
        num_leaks = including_leaks.num_samples - evaluation.num_samples
        score["leaky"] = {**_estimate(getattr(including_leaks, metric)), "num_leaks": num_leaks}
    return score | (evaluation.extra.get("binary") or {})


def summarize_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """Return the score of a saved model on a user's images, with the best constant prediction as the baseline."""
    support = evaluation.confusion.sum(axis=1)
    metric = "balanced_accuracy" if is_skewed(support[support > 0]) else "accuracy"
    majority = float(support.max() / support.sum()) if metric == "accuracy" else 1.0 / int((support > 0).sum())
    score = summarize_classification(evaluation, metric, {"majority": {metric: majority}})
    metrics = ("precision", "recall", "f1")
    score["per_class"] = [
        {"name": c.name, "support": c.support, **{m: getattr(c, m).value for m in metrics}}
        for c in evaluation.per_class
    ]
    return score


def summarize_detections(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the score of a detector in the form that `headstart.messages.scores` renders.

    Args:
        block: Result of `detection_to_json`.
    """
    detail = block.get("protocol_detail") or {}
    rows = []
    for c in block["per_class"]:
        point = c["threshold"] or {}
        rows.append(
            {
                "name": c["name"],
                "ap50": c["AP50"]["value"],
                "ap50_95": c["AP50_95"]["value"],
                **{key: point.get(key) for key in ("precision", "recall", "threshold")},
                "num_boxes": c["num_boxes"],
            }
        )
    measured = [row for row in rows if row["ap50"] is not None and row["num_boxes"] >= _FEW]
    hardest = min(measured, key=lambda row: float(row["ap50"])) if len(measured) > 2 else None
    return {
        "metric": "map50",
        **{key: block["mAP50"].get(key) for key in ("value", "low", "high")},
        "protocol": block["protocol"],
        "is_users_split": detail.get("split_source") == SplitSource.USER,
        "map50_95": block["mAP50_95"]["value"],
        "map75": block["mAP75"]["value"],
        "by_size": block["mAP_by_size"],
        "num_images": block["num_samples"],
        "num_boxes": block["num_boxes"],
        "hardest_class": None if hardest is None else {"name": hardest["name"], "ap50": hardest["ap50"]},
        "per_class": rows,
    }


def summarize_run(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the score of a finished run; None without a score.

    Args:
        metrics: `metrics.json`.
    """
    if "score" in metrics:
        score: dict[str, Any] | None = metrics["score"]
        return score
    if "num_boxes" not in metrics:
        headline = evaluation_from_json(metrics.get("test") or metrics["cv"])
        leaky = metrics.get("test_including_leaks")
        including_leaks = evaluation_from_json(leaky) if leaky else None
        return summarize_classification(
            headline, metrics["headline"]["metric"], metrics.get("baselines") or {}, including_leaks
        )
    block = metrics.get("test") or metrics.get("val") or metrics.get("cv")
    return None if not block else summarize_detections(block)


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _hardest(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the class with the lowest recall; None with two classes or perfect recall."""
    measured = {c.name: c.recall.value for c in evaluation.per_class if c.support >= _FEW}
    recalls = {name: recall for name, recall in measured.items() if recall is not None}
    if len(recalls) < 3:
        return None
    name = min(recalls, key=lambda one: recalls[one])
    return {"name": name, "recall": recalls[name]} if recalls[name] < 1.0 else None
