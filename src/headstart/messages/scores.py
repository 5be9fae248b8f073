"""Render a score: k/n with its 95 % CI and protocol, and the baselines on the same images.

A score is a mapping with these keys (fractions in [0, 1]; intervals as `low`, `high`, None if not measurable):

- `metric`, `value`, `low`, `high`, `protocol` (an `EvaluationProtocol` value), `num_folds`, `is_users_split`
- classification: `correct`, `total`, `accuracy`, `balanced_accuracy` (each `value, low, high`), `majority`,
  `nearest_neighbor`, `hardest_class` (`name`, `recall`), `leaky` (the score with leaking images, or None)
- two classes: `positive` (name), `roc_auc`, `sensitivity`, `specificity` (each `value, low, high`)
- detection: `map50_95`, `num_images`, `num_boxes`, `hardest_class` (`name`, `ap50`), `by_size` (mAP50-95),
  `is_leaky` (whether every scored image leaks from training)
- other tasks: a metric with a unit of its own, and `num_images`
- `per_class`, for a verbose screen only: a mapping for each class
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.messages.numbers import percent
from headstart.messages.values import count, interval, quote

__all__ = ["METRIC_NAMES", "binary_message", "metric_name", "protocol_message", "score_lines", "score_message"]

METRIC_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "map50": "mAP50",
    "map50_95": "mAP50-95",
    "AP50": "mAP50",
    "f1_macro": "macro F1",
    "log_loss": "log-loss",
    "roc_auc": "ROC AUC",
}


def metric_name(code: str) -> str:
    """Return the usual name of a metric, e.g. `balanced accuracy`."""
    return METRIC_NAMES.get(code, code.replace("_", " "))


def protocol_message(score: Mapping[str, Any]) -> str:
    """Return the protocol of a score, e.g. `leave-one-out`, `your test split`."""
    folds = score.get("num_folds")
    own = "your " if score.get("is_users_split") else "held-out "
    return {
        "resubstitution": "on the training images",
        "leave_one_out": "leave-one-out",
        "leave_one_group_out": "leave-one-group-out",
        "k_fold": f"{folds}-fold cross-validation" if folds else "cross-validation",
        "validation_split": f"{own}validation split",
        "test_split": f"{own}test split",
    }.get(str(score.get("protocol")), str(score.get("protocol")))


def score_message(score: Mapping[str, Any]) -> str:
    """Return the headline score on one line, without the baselines."""
    if score.get("value") is None:
        return f"{metric_name(score['metric'])} cannot be measured on these images"
    if "num_boxes" in score:
        return _detection(score)
    if "correct" not in score:
        return _value(score)
    first = f"{metric_name(score['metric'])} {percent(score['value'])} ({_interval(score)}"
    if score["metric"] == "accuracy":
        return f"{first}; {_ratio(score)}), {protocol_message(score)}"
    accuracy = score.get("accuracy") or {}
    return f"{first}), accuracy {percent(accuracy.get('value'))} ({_ratio(score)}), {protocol_message(score)}"


def score_lines(score: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (label, text) rows: the headline, two-class metrics, and the baselines."""
    label = {"test_split": "Test", "validation_split": "Val"}.get(str(score.get("protocol")), "Score")
    lines = [(label, score_message(score))]
    if score.get("value") is None:
        return lines
    if "num_boxes" in score:
        lines += [(label, more) for more in _detection_details(score)]
        leaks = "measured on the split as given; every image has a near-duplicate in training"
        return [*lines, (label, leaks)] if score.get("is_leaky") else [*lines, *_with_leaks(score, label)]
    if "correct" not in score:
        return lines
    if score.get("positive") is not None:
        area, *rates = _binary_parts(score)
        lines.append((label, f"{area}; positive class {quote(str(score['positive']), 24)}"))
        lines.append((label, ", ".join(rates)))
    parts = []
    baselines = [
        f"{name} {percent(score[key])}"
        for key, name in (("majority", "majority"), ("nearest_neighbor", "1-NN"))
        if score.get(key) is not None
    ]
    if baselines:
        parts.append(f"baselines: {', '.join(baselines)}")
    hardest = score.get("hardest_class")
    if hardest and not score.get("positive"):
        parts.append(f"hardest class {quote(hardest['name'], 14)} (recall {percent(hardest['recall'])})")
    if parts:
        lines.append((label, "; ".join(parts)))
    return [*lines, *_with_leaks(score, label)]


def _with_leaks(score: Mapping[str, Any], label: str) -> list[tuple[str, str]]:
    """Return the score with leaking images, if any."""
    leaky = score.get("leaky")
    if not leaky or leaky.get("value") is None:
        return []
    return [(label, f"{percent(leaky['value'])} with the {count(leaky['num_leaks'], 'leaking image')}")]


def _interval(score: Mapping[str, Any]) -> str:
    return interval(score.get("low"), score.get("high"))


def _ratio(score: Mapping[str, Any]) -> str:
    return f"{score['correct']:,}/{score['total']:,}"


def binary_message(score: Mapping[str, Any]) -> str:
    """Return ROC AUC, sensitivity and specificity of two classes on one line."""
    return ", ".join(_binary_parts(score))


def _binary_parts(score: Mapping[str, Any]) -> list[str]:
    auc = score["roc_auc"]
    if auc["value"] is None:
        parts = ["ROC AUC not defined"]
    elif auc["low"] is None:
        parts = [f"ROC AUC {auc['value']:.3f}"]
    else:
        parts = [f"ROC AUC {auc['value']:.3f} (95 % CI {auc['low']:.2f}-{auc['high']:.2f})"]
    for name in ("sensitivity", "specificity"):
        rate = score[name]
        ends = "" if rate["low"] is None else f" ({100 * rate['low']:.0f}-{100 * rate['high']:.0f})"
        parts.append(f"{name} {'not defined' if rate['value'] is None else percent(rate['value']) + ends}")
    return parts


def _value(score: Mapping[str, Any]) -> str:
    """Return a metric of another task, in its own unit."""
    text = f"{metric_name(score['metric'])} {score['value']:.4g}"
    if score.get("low") is not None and score.get("high") is not None:
        text += f" (95 % CI {score['low']:.4g} to {score['high']:.4g})"
    return f"{text}, {protocol_message(score)}: {count(score['num_images'], 'image')}"


def _detection(score: Mapping[str, Any]) -> str:
    text = f"mAP50 {percent(score['value'])} ({_interval(score)})"
    if score.get("map50_95") is not None:
        text += f", mAP50-95 {percent(score['map50_95'])}"
    return f"{text}, {protocol_message(score)}: {count(score['num_images'], 'image')}"


def _detection_details(score: Mapping[str, Any]) -> list[str]:
    """Return a line of mAP by object size and one of the hardest class, where measured."""
    sizes = [f"{name} {percent(value)}" for name, value in (score.get("by_size") or {}).items() if value is not None]
    parts = [f"mAP50-95 {', '.join(sizes)}"] if sizes else []
    hardest = score.get("hardest_class")
    if hardest:
        parts.append(f"hardest class {quote(hardest['name'], 30)} (AP50 {percent(hardest['ap50'])})")
    return parts
