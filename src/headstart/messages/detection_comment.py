"""Render the findings of a detector report: a title and a text each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.messages.findings import finding_message
from headstart.messages.numbers import percent, pluralize
from headstart.types.codes import Finding, FindingKind, Severity
from headstart.types.report import ReportKind

__all__ = ["DETECTION_TEXTS", "NO_DETECTION_SCORE", "detection_headline_message", "detection_protocol_message"]

NO_DETECTION_SCORE = "No image was held out, so there is no score."

E = Mapping[str, Any]


def detection_headline_message(block: E, name: str) -> str:
    """Return the score of a detector in one sentence.

    Args:
        block: A block of `metrics.json`.
        name: Its key: `test`, `val` or `cv`.
    """
    value = block["mAP50"]
    text = f"mAP50 {percent(value['value'])}"
    if value.get("low") is not None and value.get("high") is not None:
        text += f" (95 % CI {100 * value['low']:.0f} to {100 * value['high']:.0f})"
    images = pluralize(block["num_samples"], {"test": "test image", "val": "validation image", "cv": "image"}[name])
    by_folds = " by cross-validation" if name == "cv" else ""
    text += f" on {images}{by_folds} with {pluralize(block['num_boxes'], 'box', 'boxes')}."
    if block.get("is_leaky"):
        text += " Measured on the split as given: each of these images has a near-duplicate in training."
    return text


def detection_protocol_message(block: E, protocol: str) -> str:
    """Return the definition of mAP50, the protocol, and mAP50-95 if measured."""
    text = (
        "mAP50 is the mean over the classes of average precision, where a predicted box is correct if its IoU with a "
        f"true box is at least 0.5. Protocol: {protocol}."
    )
    stricter = block.get("mAP50_95") or {}
    if stricter.get("value") is not None:
        text += f" Averaged over IoU thresholds from 0.5 to 0.95 (mAP50-95): {percent(stricter['value'])}."
    return text


def _wide(e: E) -> str:
    return (
        f"The 95 % CI of mAP50 is {100 * (e['high'] - e['low']):.0f} points wide "
        f"({100 * e['low']:.0f} to {100 * e['high']:.0f} %). More scored images narrow it; --folds 5 scores all images."
    )


def _weak(e: E) -> str:
    text = f"`{e['class']}` has AP50 {percent(e['ap50'])}, the best class {percent(e['best_ap50'])}."
    if e["num_boxes"] is not None:
        boxes = pluralize(e["num_boxes"], "training box", "training boxes")
        text += f" It has only {boxes}: add images of this class first."
    if e["small_fraction"] is not None:
        text += (
            f" {percent(e['small_fraction'], 0)} of its boxes have a side under 16 pixels at the input size: try a "
            "larger --image-size."
        )
    return text


def _errors(advice: str) -> Callable[[E], str]:
    return lambda e: f"{e['count']:,} of {pluralize(e['num_errors'], 'error')} at the thresholds. {advice}"


def _loose(e: E) -> str:
    return (
        f"mAP50 is {percent(e['map50'])}, but mAP75 (IoU of at least 0.75) is {percent(e['map75'])}: objects "
        "are detected, but located inaccurately. Longer training, a larger --image-size or more exact annotations help."
    )


def _data(e: E) -> str:
    text = finding_message(Finding(FindingKind(e["kind"]), Severity(e["severity"]), e["evidence"]))
    return f"{text[:1].upper()}{text[1:]}."


def _title(text: str) -> Callable[[E], str]:
    return lambda _: text


DETECTION_TEXTS: Mapping[ReportKind, tuple[Callable[[E], str], Callable[[E], str]]] = {
    ReportKind.DATA_FINDING: (_title("Dataset finding"), _data),
    ReportKind.LOOSE_BOXES: (_title("Boxes are inaccurate"), _loose),
    ReportKind.MOSTLY_FALSE_POSITIVES: (
        _title("Most errors are false positives"),
        _errors("Images without objects help as negatives; a higher --min-score removes the least confident boxes."),
    ),
    ReportKind.MOSTLY_FALSE_NEGATIVES: (
        _title("Most errors are missed objects"),
        _errors("A lower --min-score detects more objects but adds false positives."),
    ),
    ReportKind.MOSTLY_MISCLASSIFIED: (
        _title("Most errors are class confusions"),
        _errors("The confusion matrix shows which classes; more images of both help."),
    ),
    ReportKind.NOTHING_FOUND: (_title("No problems found"), lambda _: "No check of the scores reports a problem."),
    ReportKind.WEAK_CLASS: (lambda e: f"{e['class']} has a low AP50", _weak),
    ReportKind.WIDE_INTERVAL: (_title("The score is uncertain"), _wide),
}
