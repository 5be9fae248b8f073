"""Summarize a run as data: `report.json`, from which the page and the figures are rendered.

An empty section has `missing`, the reason, and `finding`, its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.messages.comment import empty_section
from headstart.messages.notes import note_to_json
from headstart.messages.protocols import measured_on
from headstart.messages.scores import binary_message
from headstart.messages.sections import headline_message
from headstart.messages.values import quote
from headstart.reports.calibration_section import calibration_section, operating_section
from headstart.reports.comment import comment_to_json
from headstart.reports.image_selection import choose_cells, choose_errors, choose_samples, choose_unsure
from headstart.reports.network import describe_network
from headstart.reports.ood_section import coverage_section, ood_section
from headstart.reports.result_summary import images_by_split, summarize_result
from headstart.reports.run_data import RunData
from headstart.reports.transfer_quadrants import find_quadrant
from headstart.types.codes import EvaluationSetup
from headstart.types.report import ReportKind

__all__ = ["SCHEMA", "summarize"]

SCHEMA = 1
_PAIRS = 12  # near-duplicate pairs in the report


def summarize(facts: RunData, *, seed: int = 0) -> dict[str, Any]:
    """Create `report.json`.

    Args:
        facts: The finished run.
        seed: Random seed of the sample images.

    Returns:
        JSON-able sections. Images are positions in `images`, which holds their predictions.
    """
    situation, metrics = summarize_result(facts), facts.metrics
    scored = facts.scored
    where = np.flatnonzero(scored.split == facts.headline_split)
    samples = choose_samples(scored, len(facts.class_names), seed)
    cells = choose_cells(scored, where)
    errors, unsure = choose_errors(scored, where), choose_unsure(scored, where)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "run": facts.run,
        "class_names": list(facts.class_names),
        "headline": {
            "sentence": headline_message(metrics.get("headline") or {}, metrics.get("baselines") or {}),
            "protocol": _how(facts),
            "score": facts.metrics.get("headline"),
            "binary": _binary(facts),
            "baselines": facts.metrics.get("baselines"),
            "including_leaks": facts.metrics.get("test_including_leaks"),
        },
        "comment": comment_to_json(situation),
        "square": find_quadrant(situation),
        "data": _data(facts, samples),
        "model": describe_network(facts),
        "learning": _learning(facts),
        "per_class": _per_class(facts),
        "confusion": _confusion(facts, cells),
        "errors": {"wrong": errors, "unsure": unsure, "num_errors": int((~scored.is_correct[where]).sum())},
        "calibration": {**calibration_section(facts, where), **dict(facts.extra.get("calibration") or {})},
        "operating": facts.extra.get("operating") or operating_section(facts, where),
        "ood": ood_section(facts, where),
        "coverage": coverage_section(facts),
        "label_errors": facts.extra.get("label_errors") or empty_section(ReportKind.LABEL_ERRORS_NOT_CHECKED),
        "settings": [{"name": k, **dict(v)} for k, v in facts.settings.items()],
        "environment": dict(facts.environment),
        "digests": {n: f.get("sha256") for n, f in (facts.bundle.get("files") or {}).items()},
        "duration_s": facts.metrics.get("duration_s"),
        "parity": facts.metrics.get("parity"),
        "problems": [note_to_json(note) for note in facts.problems],
    }
    shown = _shown(report)
    report["images"] = {str(i): _image(facts, i) for i in sorted(shown)}
    return report


def _binary(facts: RunData) -> dict[str, Any] | None:
    """Return ROC AUC, sensitivity and specificity of two classes with their text, or None."""
    binary = facts.headline_block.get("binary")
    if not binary:
        return None
    return {**binary, "message": f"{binary_message(binary)}; positive class {quote(binary['positive'])}"}


def _how(facts: RunData) -> str:
    block = facts.headline_block
    return f"Measured on {measured_on(EvaluationSetup.from_json(block), int(block.get('num_samples') or 0))}."


def _data(facts: RunData, samples: list[list[int]]) -> dict[str, Any]:
    scored = facts.scored
    counts = images_by_split(facts)
    groups = scored.groups
    has_groups = groups is not None and bool((groups >= 0).any())
    return {
        "num_samples": sum(map(sum, counts.values())),
        "num_groups": len(np.unique(groups[groups >= 0])) if has_groups and groups is not None else None,
        "counts": counts,
        "samples": samples,
        "unreadable": [dict(p) for p in _rows(facts.dataset_report.get("unreadable"))],
        "duplicates": _duplicates(facts),
        "conflicts": _rows(facts.dataset_report.get("label_conflicts")),
        "shortcuts": _rows(facts.dataset_report.get("shortcuts")),
        "group_patterns": _rows(facts.dataset_report.get("group_patterns")),
        "sizes": facts.extra.get("sizes"),
    }


def _rows(value: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in value if isinstance(row, Mapping)] if isinstance(value, Sequence) else []


def _duplicates(facts: RunData) -> dict[str, Any]:
    """Return near-duplicate pairs, leaks first; pairs of known images with their positions."""
    position = {name: i for i, name in enumerate((*facts.scored.names, *(b[0] for b in facts.beside)))}
    pairs, leaks = [], 0
    named = set()
    for kind in ("leaks", "duplicates", "near_duplicates"):
        for row in _rows(facts.dataset_report.get(kind)):
            named.add(frozenset((str(row.get("a")), str(row.get("b")))))
            a, b = position.get(str(row.get("a"))), position.get(str(row.get("b")))
            leaks += kind == "leaks"
            if a is not None and b is not None:
                pairs.append({"a": a, "b": b, "is_leak": kind == "leaks", "kind": str(row.get("kind", kind))})
    unique = {(p["a"], p["b"]): p for p in reversed(pairs)}
    ordered = sorted(unique.values(), key=lambda p: (not p["is_leak"], p["a"], p["b"]))
    is_checked = any(kind in facts.dataset_report for kind in ("leaks", "duplicates", "near_duplicates"))
    return {
        "num_pairs": len(named),
        "num_leaks": leaks,
        "pairs": ordered[:_PAIRS],
        **({} if is_checked else empty_section(ReportKind.DUPLICATES_NOT_CHECKED)),
    }


def _learning(facts: RunData) -> dict[str, Any]:
    epochs = _epochs(facts.epochs)
    metrics = facts.metrics
    blocks = [
        {"name": label, **{k: block.get(k) for k in ("accuracy", "balanced_accuracy", "log_loss", "num_samples")}}
        for label, block in (
            ("training images", metrics.get("train")),
            (_held_out_name(metrics.get("cv") or {}), metrics.get("cv")),
            ("validation images", metrics.get("val")),
            ("test images", metrics.get("test")),
        )
        if block
    ]
    path = facts.extra.get("penalty_path")
    return {
        "blocks": blocks,
        "epochs": epochs or None,
        "is_trial": bool(epochs) and metrics.get("strategy") == "probe",
        "unfreezing": _unfreezing(facts, len(epochs.get("epoch", ()))),
        "penalty_path": path,
        "curve": facts.extra.get("learning_curve") or empty_section(ReportKind.CURVE_NOT_MEASURED),
        **({} if epochs else empty_section(ReportKind.CLOSED_FORM)),
    }


def _held_out_name(block: Mapping[str, Any]) -> str:
    is_all = EvaluationSetup.from_json(block).protocol.is_out_of_fold
    return "training images, cross-validated" if is_all else "held-out training images"


def _unfreezing(facts: RunData, num_epochs: int) -> list[dict[str, Any]]:
    """Return the stages unfrozen later, each with its epoch (1.0 is the end of the first epoch)."""
    plan = dict((facts.extra.get("finetune") or {}).get("plan") or {})
    total = int(
        plan.get("epochs") or num_epochs
    )  # of the plan: fractions refer to its steps, even after early stopping
    later = [(str(stage), float(start) * total) for stage, start in plan.get("unfreeze") or () if start > 0]
    return [{"stage": stage, "epoch": round(at, 3)} for stage, at in sorted(later, key=lambda m: m[1])]


def _epochs(rows: Sequence[Mapping[str, str]]) -> dict[str, list[float | None]]:
    """Return columns of `results.csv` over epochs, averaged over cross-validation folds.

    The final training on all images (phase `final`) has no validation images and is used only without folds.
    """
    checked = [row for row in rows if row.get("phase") != "final"] or list(rows)
    columns: dict[str, dict[float, list[float]]] = {}
    for position, row in enumerate(checked):
        epoch = _float(row.get("epoch"))
        at = float(position + 1) if epoch is None else epoch
        for key, text in row.items():
            value = _float(text)
            if value is not None and key not in ("epoch", "phase"):
                columns.setdefault(key, {}).setdefault(at, []).append(value)
    xs = sorted({at for column in columns.values() for at in column})
    if not xs:
        return {}
    means: dict[str, list[float | None]] = {"epoch": list(xs)}
    for key, column in columns.items():
        means[key] = [float(np.mean(column[at])) if at in column else None for at in xs]
    return means


def _float(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _per_class(facts: RunData) -> list[dict[str, Any]]:
    return [dict(row) for row in facts.headline_block.get("per_class") or []]


def _confusion(facts: RunData, cells: Mapping[tuple[int, int], list[int]]) -> dict[str, Any]:
    counts = np.asarray(facts.headline_block.get("confusion") or [[0]], dtype=np.int64)
    support = counts.sum(axis=1, keepdims=True)
    rates = np.divide(counts, support, where=support > 0, out=np.zeros(counts.shape))
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:20]
    pairs = [tuple(int(v) for v in np.unravel_index(i, wrong.shape)) for i in order if wrong.flat[i] > 0]
    return {
        "counts": counts.tolist(),
        "rates": np.round(rates, 4).tolist(),
        "cells": [{"truth": t, "predicted": p, "images": members} for (t, p), members in cells.items()],
        "pairs": [
            {"truth": t, "predicted": p, "count": int(counts[t, p]), "rate": float(rates[t, p])} for t, p in pairs
        ],
    }


def _image(facts: RunData, i: int) -> dict[str, Any]:
    scored, names = facts.scored, facts.class_names
    if i >= len(scored):
        name, _, label = facts.beside[i - len(scored)]
        return {"name": name, "label": label, "prediction": None, "confidence": None, "split": "excluded"}
    return {
        "name": scored.names[i],
        "label": names[scored.truth[i]],
        "prediction": names[scored.predicted[i]],
        "confidence": round(float(scored.confidence[i]), 4),
        **(
            {}
            if scored.ood_score is None or np.isnan(scored.ood_score[i])
            else {"ood_score": round(float(scored.ood_score[i]), 2)}
        ),
        "split": str(scored.split[i]),
    }


def _shown(report: Mapping[str, Any]) -> set[int]:
    """Return the positions of all images in the report."""
    positions = {i for members in report["data"]["samples"] for i in members}
    positions |= {i for cell in report["confusion"]["cells"] for i in cell["images"]}
    positions |= {*report["errors"]["wrong"], *report["errors"]["unsure"]}
    positions |= {p[k] for p in report["data"]["duplicates"]["pairs"] for k in ("a", "b")}
    positions |= set(report["ood"].get("strangest", ()))
    for row in report["label_errors"].get("shown", ()):
        positions |= {row["image"], *row.get("neighbors", ())}
    return positions
