"""Summarize the headline score as one value, shared by the screen, Python and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstart.evaluation.metrics import is_skewed
from headstart.types.codes import SplitSource

__all__ = ["summarize_classification", "summarize_detections", "summarize_evaluation", "summarize_run"]

_FEW = 5  # classes with fewer scored images cannot be the hardest


def summarize_classification(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the score of a classifier's run in the form that `headstart.messages.scores` renders.

    Args:
        metrics: `metrics.json`.
    """
    head = metrics["headline"]
    block = metrics.get("test") or metrics["cv"]
    detail = head.get("protocol_detail") or {}
    confusion = np.asarray(block["confusion"], dtype=np.int64)
    baselines = metrics.get("baselines") or {}
    metric = head["metric"]
    leaky = metrics.get("test_including_leaks")
    score: dict[str, Any] = {
        "task": "classify",
        **{key: head.get(key) for key in ("metric", "value", "low", "high", "protocol")},
        "num_folds": detail.get("num_folds"),
        "is_users_split": detail.get("split_source") == SplitSource.USER,
        "correct": int(np.trace(confusion)),
        "total": int(confusion.sum()),
        "num_images": int(confusion.sum()),
        "num_groups": block.get("num_groups"),
        "accuracy": _estimate(block["accuracy"]),
        "balanced_accuracy": _estimate(block["balanced_accuracy"]),
        "majority": (baselines.get("majority") or {}).get(metric),
        "nearest_neighbor": (baselines.get("nearest_neighbor") or {}).get(metric),
        "hardest_class": _hardest(block),
        "leaky": None,
    }
    if leaky:
        num_clean = metrics["test"]["num_samples"] if metrics.get("test") else 0
        score["leaky"] = {**_estimate(leaky[metric]), "num_leaks": leaky["num_samples"] - num_clean}
    if block.get("binary"):
        score |= block["binary"]
    return score


def summarize_evaluation(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the score of a saved model on a user's images, with the best constant prediction as the baseline.

    Args:
        block: Result of `evaluation_to_json`.
    """
    support = np.asarray(block["confusion"], dtype=np.int64).sum(axis=1)
    metric = "balanced_accuracy" if is_skewed(support[support > 0]) else "accuracy"
    majority = float(support.max() / support.sum()) if metric == "accuracy" else 1.0 / int((support > 0).sum())
    head = {key: block[key] for key in ("protocol", "protocol_detail")}
    headline = {**head, "metric": metric, **block[metric]}
    baselines = {"majority": {metric: majority}}
    score = summarize_classification({"headline": headline, "test": block, "baselines": baselines})
    score["per_class"] = [
        {"name": row["name"], "support": row["support"], **{m: row[m]["value"] for m in ("precision", "recall", "f1")}}
        for row in block["per_class"]
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
        "task": "detect",
        "metric": "map50",
        **_estimate(block["mAP50"]),
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
    """Return the score of a finished run of any task; None without a score.

    Args:
        metrics: `metrics.json`.
    """
    if metrics.get("task") != "detect":
        return summarize_classification(metrics)
    block = metrics.get("test") or metrics.get("val") or metrics.get("cv")
    return None if not block else summarize_detections(block)


def _estimate(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.get(key) for key in ("value", "low", "high")}


def _hardest(block: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the class with the lowest recall; None with two classes or perfect recall."""
    rows = [r for r in block["per_class"] if r["recall"]["value"] is not None and r["support"] >= _FEW]
    if len(rows) < 3:
        return None
    worst = min(rows, key=lambda r: float(r["recall"]["value"]))
    recall = float(worst["recall"]["value"])
    return {"name": worst["name"], "recall": recall} if recall < 1.0 else None
