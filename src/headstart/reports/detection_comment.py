"""What the numbers of a detector say in words: a few remarks, each from a rule that can be read here.

The one decision: a remark needs evidence in the report's own data and says what a person can do about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.messages.numbers import percent, pluralize

__all__ = ["detection_remarks"]

_WIDE = 0.15  # width of a 95 % interval from which a score says little
_WEAK = 0.15  # AP50 so far below the best class is worth a remark
_FEW = 50  # boxes of a class below which more pictures are the first thing to try

_ERRORS = (
    (
        "missed",
        "Most errors are objects that were missed",
        "A lower --min-score finds more, at the price of more false boxes.",
    ),
    (
        "false",
        "Most errors are boxes where nothing is",
        "Pictures without objects teach what is none; a higher --min-score drops the least sure.",
    ),
    (
        "wrong_class",
        "Most errors are confusions of classes",
        "The confusion table shows which; more pictures of both help.",
    ),
)


def detection_remarks(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Remarks as `{kind, title, text}`; kind is `good` or `problem`."""
    remarks = [*_interval(report), *_weak_classes(report), *_errors(report), *_overlap(report), *_tiny(report)]
    remarks += [
        {"kind": "problem", "title": "About the data", "text": f"{text[:1].upper()}{text[1:]}."}
        for text in (finding["message"] for finding in report["data"]["findings"][:5])
    ]
    return remarks or [{"kind": "good", "title": "Nothing stands out", "text": "No rule found anything to remark on."}]


def _interval(report: Mapping[str, Any]) -> list[dict[str, str]]:
    score = report["headline"].get("score")
    if not score or score.get("low") is None or score.get("high") is None:
        return []
    width = score["high"] - score["low"]
    if width < _WIDE:
        return []
    text = (
        f"The 95 % interval of mAP50 is {100 * width:.0f} points wide: other pictures of the same kind could have "
        f"given {100 * score['low']:.0f} or {100 * score['high']:.0f} %. More scored pictures narrow it; --folds 5 "
        "scores all."
    )
    return [{"kind": "problem", "title": "The score is uncertain", "text": text}]


def _weak_classes(report: Mapping[str, Any]) -> list[dict[str, str]]:
    scored = [(c["name"], c["AP50"]["value"]) for c in report["per_class"] if c["AP50"].get("value") is not None]
    if len(scored) < 2:
        return []
    best = max(value for _, value in scored)
    train = report["data"]["counts"].get("train") or report["data"]["counts"].get("all")
    remarks = []
    for name, value in sorted(scored, key=lambda c: c[1])[:3]:
        if value > best - _WEAK:
            continue
        text = f"`{name}` has AP50 {percent(value, 0)}, the best class {percent(best, 0)}."
        if train is not None:
            num_boxes = train[report["class_names"].index(name)]
            if num_boxes < _FEW:
                boxes = pluralize(num_boxes, "training box", "training boxes")
                text += f" It has only {boxes}: more pictures of it are the first thing to try."
        text += _small(report, name)
        remarks.append({"kind": "problem", "title": f"{name} is found less well", "text": text})
    return remarks


def _small(report: Mapping[str, Any], name: str) -> str:
    """Whether the boxes of a class are mostly small once pictures are resized."""
    sizes = report["data"].get("after_resizing") or {}
    if name not in (sizes.get("names") or ()):
        return ""
    row = sizes["counts"][sizes["names"].index(name)]
    total = sum(row)
    tiny = row[0] + row[1]  # under 16 pixels
    if not total or tiny / total < 0.3:
        return ""
    return (
        f" {percent(tiny / total, 0)} of its boxes have a side under 16 pixels as the network sees them: try a larger "
        "--size."
    )


def _errors(report: Mapping[str, Any]) -> list[dict[str, str]]:
    e = report["errors"]
    total = e["missed"] + e["false"] + e["wrong_class"]
    if total < 10:
        return []
    for key, title, text in _ERRORS:
        if e[key] > 0.6 * total:
            return [
                {
                    "kind": "problem",
                    "title": title,
                    "text": f"{e[key]:,} of {pluralize(total, 'error')} at the thresholds. {text}",
                }
            ]
    return []


def _overlap(report: Mapping[str, Any]) -> list[dict[str, str]]:
    block = next(iter(report["scores"]), None)
    if block is None:
        return []
    half, strict = (block.get(k, {}).get("value") for k in ("mAP50", "mAP75"))
    if half is None or strict is None or half < 0.5 or strict > 0.5 * half:
        return []
    text = (
        f"mAP50 is {percent(half, 0)}, but at an overlap of three quarters it is {percent(strict, 0)}: objects are "
        "found, their edges less well. Longer training, a larger --size, or more exact boxes in the data help."
    )
    return [{"kind": "problem", "title": "Boxes fit loosely", "text": text}]


def _tiny(report: Mapping[str, Any]) -> list[dict[str, str]]:
    sizes = report["data"].get("after_resizing") or {}
    share, better = sizes.get("tiny_share") or 0.0, sizes.get("better_size")
    if share <= 0.2 or not better:
        return []
    text = f"{percent(share, 0)} of the boxes have a side under 8 pixels as the network sees them; --size {better} "
    text += "mends that."
    return [{"kind": "problem", "title": "Many boxes are too small to see", "text": text}]
