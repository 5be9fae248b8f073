"""Render tables of classes as text and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.utils.csv_cells import escape_formula

__all__ = [
    "classification_csv",
    "classification_rows",
    "classification_text",
    "detection_class_text",
    "detection_csv",
]


def classification_rows(report: Mapping[str, Any]) -> list[tuple[str, float | None, float | None, float | None, int]]:
    """Return (name, precision, recall, F1, support) as in scikit-learn's `classification_report`.

    Computed from the confusion matrix; a precision or recall of 0 / 0 is 0.
    """
    counts = np.asarray(report["confusion"]["counts"], dtype=np.float64)
    correct, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    zeros = np.zeros(len(correct))
    precision = np.divide(correct, predicted, where=predicted > 0, out=zeros.copy())
    recall = np.divide(correct, support, where=support > 0, out=zeros.copy())
    f1 = np.divide(2 * precision * recall, precision + recall, where=precision + recall > 0, out=zeros.copy())
    total = int(support.sum())
    rows: list[tuple[str, float | None, float | None, float | None, int]] = [
        (name, float(p), float(r), float(f), int(n))
        for name, p, r, f, n in zip(report["class_names"], precision, recall, f1, support, strict=True)
    ]
    present = (support > 0) | (predicted > 0)
    rows.append(("accuracy", None, None, float(correct.sum() / max(1, total)), total))
    for name, weight in (("macro avg", present.astype(np.float64)), ("weighted avg", support)):
        means = [float(np.average(v, weights=weight)) if total else 0.0 for v in (precision, recall, f1)]
        rows.append((name, means[0], means[1], means[2], total))
    return rows


def classification_text(report: Mapping[str, Any]) -> str:
    """Return `classification_report.txt` in scikit-learn's layout."""
    rows = classification_rows(report)
    width = max(len("weighted avg"), *(len(r[0]) for r in rows))
    lines = [" " * width + " " + "".join(f" {h:>9}" for h in ("precision", "recall", "f1-score", "support")), ""]
    for index, (name, precision, recall, f1, support) in enumerate(rows):
        if index == len(rows) - 3:
            lines.append("")
        cells = "".join(f" {'' if v is None else f'{v:.2f}':>9}" for v in (precision, recall, f1))
        lines.append(f"{name:>{width}} {cells} {support:>9}")
    return "\n".join(lines) + "\n"


def classification_csv(report: Mapping[str, Any]) -> str:
    """Return `classification_report.csv`, with 95 % CIs."""
    keys = ("precision", "recall", "f1")
    rows, measured = [], report["per_class"]
    for i, (name, *values, support) in enumerate(classification_rows(report)):
        ends = [measured[i][key] if i < len(measured) else {} for key in keys]  # averages have no intervals
        cells = [v for value, e in zip(values, ends, strict=True) for v in (value, e.get("low"), e.get("high"))]
        rows.append([name, *cells, support])
    return _csv(["class", *(f"{k}{e}" for k in keys for e in ("", "_low", "_high")), "support"], rows)


def detection_csv(report: Mapping[str, Any]) -> str:
    """Return `detection_report.csv`: one row per class."""
    head = ("class", "boxes", "images", "AP50", "AP50_low", "AP50_high", "AP50_95", "precision", "recall", "threshold")
    rows = []
    for c in report["per_class"]:
        ap, point = c["AP50"], c.get("threshold") or {}
        scores = (
            ap["value"],
            ap["low"],
            ap["high"],
            c["AP50_95"]["value"],
            point.get("precision"),
            point.get("recall"),
        )
        rows.append([c["name"], c["num_boxes"], c["num_images"], *scores, c.get("used_threshold")])
    return _csv(head, rows)


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return CSV rows: names cannot be formulas, fractions have five digits, None is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for name, *cells in rows:
        texts = [f"{v:.5f}" if isinstance(v, float) else "" if v is None else v for v in cells]
        writer.writerow([escape_formula(name), *texts])
    return out.getvalue()


def detection_class_text(report: Mapping[str, Any]) -> str:
    """Return a table of AP50 with interval, precision and recall at the threshold per class."""
    rows = report["per_class"]
    width = max([5, *(len(c["name"]) for c in rows)])
    lines = [f"{'class':<{width}}   AP50         95 % CI  AP50-95  precision  recall  boxes"]
    for c in rows:
        ap, point = c["AP50"], c.get("threshold") or {}
        low, high = ap.get("low"), ap.get("high")
        between = f"{low:.3f}-{high:.3f}" if low is not None and high is not None else "-"
        lines.append(
            f"{c['name']:<{width}}{_number(ap['value']):>7}{between:>15}{_number(c['AP50_95']['value']):>9}"
            f"{_number(point.get('precision')):>11}{_number(point.get('recall')):>8}{c['num_boxes']:>7,}"
        )
    score = report["headline"].get("score")
    if score:
        lines.append(f"{'mAP50':<{width}}{_number(score['value']):>7}")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
