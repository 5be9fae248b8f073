"""Render a detector report as plain text: network, classes, comment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.messages.numbers import pluralize

__all__ = ["detection_class_text", "detection_comment_text", "detection_network_text"]


def detection_network_text(report: Mapping[str, Any]) -> str:
    """Return the architecture of the detector."""
    m = report["model"]
    height, width = m["size_hw"] or ("?", "?")
    frozen = "frozen" if m["strategy"] == "head" else f"trained from {m['train_from'] or 'its first stage'} on"
    origin = f"{m['weights_tag'] or 'unnamed weights'}, {m['weights_license'] or 'license not stated'}"
    lines = [
        f"backbone   {m['title']} ({origin})",
        f"           {frozen}",
        f"input      {width} x {height} pixels",
        f"pyramid    {_of(m['fpn_channels'])} channels, minimum stride {_of(m['min_stride'])} pixels",
        f"head       {_of(m['head_depth'])} convolutions in each of two towers (class, box)",
        f"output     {pluralize(len(report['class_names']), 'class', 'classes')}, boxes in image pixels",
    ]
    if m["size_bytes"]:
        lines.append(f"file       {m['size_bytes'] / 1e6:.1f} MB")
    if m["latency_ms"]:
        num_threads = pluralize(m["latency_threads"], "thread")
        lines.append(f"latency    {m['latency_ms']:.1f} ms per image with {num_threads}, measured at training")
    return "\n".join(lines) + "\n"


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


def detection_comment_text(report: Mapping[str, Any]) -> str:
    """Return headline and findings as Markdown."""
    lines = [f"# {report['run']}", "", report["headline"]["sentence"], "", report["headline"]["protocol"], ""]
    for finding in report["comment"]["findings"]:
        lines += [f"**{finding['title']}.** {finding['text']}", ""]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _of(value: Any) -> str:
    return "?" if value is None else str(value)
