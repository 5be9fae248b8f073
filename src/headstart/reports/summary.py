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
from headstart.reports.attribution import attribution_section
from headstart.reports.calibration_section import calibration_section, label_errors_section, operating_section
from headstart.reports.comment import comment_to_json
from headstart.reports.image_selection import choose_cells, choose_errors, choose_samples, choose_unsure
from headstart.reports.learning_curve import curve_section
from headstart.reports.network import describe_network
from headstart.reports.ood_section import coverage_section, ood_section
from headstart.reports.record import ClassifierRecord, parse_number
from headstart.reports.result_summary import images_by_split, summarize_result
from headstart.reports.transfer_quadrants import find_quadrant
from headstart.types.codes import EvaluationSetup
from headstart.types.report import ReportKind

__all__ = ["SCHEMA", "summarize", "without_images"]

SCHEMA = 1
_PAIRS = 12  # near-duplicate pairs in the report


def summarize(record: ClassifierRecord, *, seed: int = 0) -> dict[str, Any]:
    """Create `report.json`.

    Args:
        record: The finished run.
        seed: Random seed of the sample images.

    Returns:
        JSON-able sections. Images are positions in `images`, which holds their predictions.
    """
    curve = curve_section(record.sections.curve, record.class_names)
    situation, metrics = summarize_result(record, curve), record.metrics
    scored = record.scored
    where = np.flatnonzero(scored.split == record.headline_split)
    samples = choose_samples(scored, len(record.class_names), seed)
    cells = choose_cells(scored, where)
    errors, unsure = choose_errors(scored, where), choose_unsure(scored, where)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "task": "classify",
        "run": record.run,
        "class_names": list(record.class_names),
        "headline": {
            "sentence": headline_message(metrics.get("headline") or {}, metrics.get("baselines") or {}),
            "protocol": _how(record),
            "score": record.metrics.get("headline"),
            "binary": _binary(record),
            "baselines": record.metrics.get("baselines"),
            "including_leaks": record.metrics.get("test_including_leaks"),
        },
        "comment": comment_to_json(situation),
        "square": find_quadrant(situation),
        "data": _data(record, samples),
        "model": describe_network(record),
        "learning": _learning(record, curve),
        "per_class": _per_class(record),
        "confusion": _confusion(record, cells),
        "attribution": attribution_section(record.sections.maps),
        "errors": {"wrong": errors, "unsure": unsure, "num_errors": int((~scored.is_correct[where]).sum())},
        "calibration": calibration_section(record, where),
        "operating": operating_section(record, where),
        "ood": ood_section(record, where),
        "coverage": coverage_section(record),
        "label_errors": label_errors_section(record),
        "settings": [{"name": k, **dict(v)} for k, v in record.settings.items()],
        "environment": dict(record.environment),
        "digests": {n: f.get("sha256") for n, f in (record.bundle.get("files") or {}).items()},
        "duration_s": record.metrics.get("duration_s"),
        "parity": record.metrics.get("parity"),
        "problems": [note_to_json(note) for note in record.problems],
    }
    shown = _shown(report)
    report["images"] = {str(i): _image(record, i) for i in sorted(shown)}
    return report


def without_images(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report without images and file names."""
    data, private = report["data"], {"data", "out", "split", "weights"}
    shortcuts = [{k: v for k, v in row.items() if not isinstance(v, list)} for row in data["shortcuts"]]
    return {
        **report,
        "images": {},
        "data": {
            **data,
            "samples": [[] for _ in report["class_names"]],
            "unreadable": [{"kind": p.get("kind")} for p in data["unreadable"]],
            "duplicates": {**data["duplicates"], "pairs": []},
            "conflicts": [{} for _ in data["conflicts"]],
            "shortcuts": shortcuts,
            "group_patterns": [],  # derived from file names
        },
        "confusion": {**report["confusion"], "cells": []},
        "attribution": empty_section(ReportKind.IMAGES_LEFT_OUT),
        "errors": {"wrong": [], "unsure": [], "num_errors": report["errors"]["num_errors"]},
        "ood": {k: v for k, v in report["ood"].items() if k != "strangest"},
        "label_errors": {k: v for k, v in report["label_errors"].items() if k not in ("rows", "shown")},
        "settings": [row for row in report["settings"] if row["name"] not in private],
        "environment": {k: v for k, v in report["environment"].items() if k != "command"},
    }


def _binary(record: ClassifierRecord) -> dict[str, Any] | None:
    """Return ROC AUC, sensitivity and specificity of two classes with their text, or None."""
    binary = record.headline_block.get("binary")
    if not binary:
        return None
    return {**binary, "message": f"{binary_message(binary)}; positive class {quote(binary['positive'])}"}


def _how(record: ClassifierRecord) -> str:
    block = record.headline_block
    return f"Measured on {measured_on(EvaluationSetup.from_json(block), int(block.get('num_samples') or 0))}."


def _data(record: ClassifierRecord, samples: list[list[int]]) -> dict[str, Any]:
    scored = record.scored
    counts = images_by_split(record)
    groups = scored.groups
    has_groups = groups is not None and bool((groups >= 0).any())
    return {
        "num_samples": sum(map(sum, counts.values())),
        "num_groups": len(np.unique(groups[groups >= 0])) if has_groups and groups is not None else None,
        "counts": counts,
        "samples": samples,
        "unreadable": [dict(p) for p in _rows(record.dataset_report.get("unreadable"))],
        "duplicates": _duplicates(record),
        "conflicts": _rows(record.dataset_report.get("label_conflicts")),
        "shortcuts": _rows(record.dataset_report.get("shortcuts")),
        "group_patterns": _rows(record.dataset_report.get("group_patterns")),
    }


def _rows(value: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in value if isinstance(row, Mapping)] if isinstance(value, Sequence) else []


def _duplicates(record: ClassifierRecord) -> dict[str, Any]:
    """Return near-duplicate pairs, leaks first; pairs of known images with their positions."""
    position = {name: i for i, name in enumerate((*record.scored.names, *(name for name, _ in record.unscored)))}
    pairs, leaks = [], 0
    named = set()
    for kind in ("leaks", "duplicates", "near_duplicates"):
        for row in _rows(record.dataset_report.get(kind)):
            named.add(frozenset((str(row.get("a")), str(row.get("b")))))
            a, b = position.get(str(row.get("a"))), position.get(str(row.get("b")))
            leaks += kind == "leaks"
            if a is not None and b is not None:
                pairs.append({"a": a, "b": b, "is_leak": kind == "leaks", "kind": str(row.get("kind", kind))})
    unique = {(p["a"], p["b"]): p for p in reversed(pairs)}
    ordered = sorted(unique.values(), key=lambda p: (not p["is_leak"], p["a"], p["b"]))
    is_checked = any(kind in record.dataset_report for kind in ("leaks", "duplicates", "near_duplicates"))
    return {
        "num_pairs": len(named),
        "num_leaks": leaks,
        "pairs": ordered[:_PAIRS],
        **({} if is_checked else empty_section(ReportKind.DUPLICATES_NOT_CHECKED)),
    }


def _learning(record: ClassifierRecord, curve: Mapping[str, Any]) -> dict[str, Any]:
    epochs = _epochs(record.epochs)
    metrics = record.metrics
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
    return {
        "blocks": blocks,
        "epochs": epochs or None,
        "is_trial": bool(epochs) and metrics.get("strategy") == "probe",
        "unfreezing": _unfreezing(record, len(epochs.get("epoch", ()))),
        "curve": curve,
        **({} if epochs else empty_section(ReportKind.CLOSED_FORM)),
    }


def _held_out_name(block: Mapping[str, Any]) -> str:
    is_all = EvaluationSetup.from_json(block).protocol.is_out_of_fold
    return "training images, cross-validated" if is_all else "held-out training images"


def _unfreezing(record: ClassifierRecord, num_epochs: int) -> list[dict[str, Any]]:
    """Return the stages unfrozen later, each with its epoch (1.0 is the end of the first epoch)."""
    plan = dict((record.metrics.get("finetune") or {}).get("plan") or {})
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
        epoch = parse_number(row.get("epoch"))
        at = float(position + 1) if epoch is None else epoch
        for key, text in row.items():
            value = parse_number(text)
            if value is not None and key not in ("epoch", "phase"):
                columns.setdefault(key, {}).setdefault(at, []).append(value)
    xs = sorted({at for column in columns.values() for at in column})
    if not xs:
        return {}
    means: dict[str, list[float | None]] = {"epoch": list(xs)}
    for key, column in columns.items():
        means[key] = [float(np.mean(column[at])) if at in column else None for at in xs]
    return means


def _per_class(record: ClassifierRecord) -> list[dict[str, Any]]:
    return [dict(row) for row in record.headline_block.get("per_class") or []]


def _confusion(record: ClassifierRecord, cells: Mapping[tuple[int, int], list[int]]) -> dict[str, Any]:
    counts = np.asarray(record.headline_block.get("confusion") or [[0]], dtype=np.int64)
    support = counts.sum(axis=1, keepdims=True)
    rates = np.divide(counts, support, where=support > 0, out=np.zeros(counts.shape))
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:20]
    pairs = [tuple(int(v) for v in np.unravel_index(i, wrong.shape)) for i in order if wrong.flat[i] > 0]
    return {
        "counts": counts.tolist(),
        "rates": np.round(rates, 4).tolist(),
        "cells": [{"label": t, "predicted": p, "images": members} for (t, p), members in cells.items()],
        "pairs": [
            {"label": t, "predicted": p, "count": int(counts[t, p]), "rate": float(rates[t, p])} for t, p in pairs
        ],
    }


def _image(record: ClassifierRecord, i: int) -> dict[str, Any]:
    scored, names = record.scored, record.class_names
    if i >= len(scored):
        name, label = record.unscored[i - len(scored)]
        return {"name": name, "label": label, "prediction": None, "confidence": None, "split": "excluded"}
    return {
        "name": scored.names[i],
        "label": names[scored.class_ids[i]],
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
