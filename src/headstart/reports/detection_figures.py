"""Draw the figures of a detector report with matplotlib, from `report.json`."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

from headstart.reports.figures import _BLUE, _COLORS, _ORANGE, _STYLES, _new, _text

__all__ = ["DETECTION_FIGURES", "draw_detection_figure"]

_MOST_CURVES = 12
_NAMED = 30


def draw_detection_figure(
    name: str, report: Mapping[str, Any], thumbs: Mapping[int, bytes | None] | None = None
) -> Any:
    """Return one figure by name, or None if the report lacks its data.

    Args:
        name: One of `DETECTION_FIGURES`.
        report: From `summarize_detection`.
        thumbs: JPEG bytes by position, for `samples` and `errors`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return DETECTION_FIGURES[name](report, thumbs or {})


def _boxes(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
    """Draw boxes per class by split and by size."""
    counts, sides = report["data"]["counts"], report["data"]["sides"]
    names = report["class_names"][:_NAMED]
    if not counts or sides is None:
        return None
    figure, axes = _new(10, max(3.0, 0.35 * len(names) + 1.6), 1, 2)
    left, right = axes[0]
    start = [0] * len(names)
    for (split, row), color in zip(counts.items(), _COLORS, strict=False):
        left.barh(range(len(names)), row[: len(names)], left=start, color=color, label=split)
        start = [a + b for a, b in zip(start, row, strict=False)]
    left.set_yticks(range(len(names)), [_text(n) for n in names])
    left.invert_yaxis()
    left.set_xlabel("boxes")
    left.set_title("boxes per class")
    left.legend()
    bottom = [0] * len(sides["labels"])
    for k, row in enumerate(sides["counts"][: len(_COLORS)]):
        right.bar(range(len(row)), row, bottom=bottom, color=_COLORS[k % len(_COLORS)], label=_text(names[k]))
        bottom = [a + b for a, b in zip(bottom, row, strict=True)]
    rest = [sum(column) for column in zip(*sides["counts"][len(_COLORS) :], strict=True)]
    if rest:
        right.bar(range(len(rest)), rest, bottom=bottom, color="#999999", label="other classes")
    right.set_xticks(range(len(sides["labels"])), sides["labels"], rotation=30, ha="right")
    right.set_xlabel("box size (square root of the area), pixels")
    right.set_title("boxes by size")
    right.legend()
    return figure


def _precision_recall(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
    if not report["curves"]:
        return None
    figure, axes = _new(5.5, 4.5)
    axis = axes[0][0]
    for k, curve in enumerate(report["curves"][:_MOST_CURVES]):
        label = f"{_text(curve['name'])} (AP50 {100 * (curve['AP50'] or 0):.0f} %)"
        style = _STYLES[(k // len(_COLORS)) % len(_STYLES)]
        axis.plot(curve["recall"], [100 * v for v in curve["precision"]], style, color=_COLORS[k % 4], label=label)
    axis.set(
        xlim=(0, 100),
        ylim=(0, 102),
        xlabel="recall, %",
        ylabel="precision, %",
    )
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    axis.set_title("precision and recall at IoU 0.5")
    return figure


def _curves(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
    epochs = report["learning"].get("epochs") or {}
    if not epochs.get("train_loss"):
        return None
    has_map = any(v is not None for v in epochs.get("val_mAP50", []))
    figure, axes = _new(10 if has_map else 5.5, 3.8, 1, 2 if has_map else 1)
    losses = axes[0][0]
    for k, key in enumerate(("train_loss", "class_loss", "box_loss")):
        if epochs.get(key):
            losses.plot(epochs["epoch"], epochs[key], _STYLES[k], color=_COLORS[k], label=key.replace("_", " "))
    losses.set(xlabel="epoch", ylabel="loss", title="loss over epochs")
    losses.grid(alpha=0.3)
    losses.legend()
    if has_map:
        axis = axes[0][1]
        points = [(e, 100 * v) for e, v in zip(epochs["epoch"], epochs["val_mAP50"], strict=True) if v is not None]
        axis.plot(*zip(*points, strict=True), "o-", color=_BLUE)
        axis.set(xlabel="epoch", ylabel="mAP50 of validation images, %", title="mAP over epochs")
        axis.grid(alpha=0.3)
    return figure


def _per_class(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
    rows = [c for c in report["per_class"] if c["AP50"].get("value") is not None][:_NAMED]
    if not rows:
        return None
    figure, axes = _new(6, max(2.2, 0.35 * len(rows) + 1.2))
    axis = axes[0][0]
    for k, c in enumerate(rows):
        ap = c["AP50"]
        if ap.get("low") is not None and ap.get("high") is not None:
            axis.plot([100 * ap["low"], 100 * ap["high"]], [k, k], color=_BLUE, linewidth=2)
        axis.plot(100 * ap["value"], k, "o", color=_BLUE)
        strict = (c.get("AP50_95") or {}).get("value")
        if strict is not None:
            axis.plot(100 * strict, k, "D", color=_ORANGE, markersize=5)
    axis.set_yticks(range(len(rows)), [_text(c["name"]) for c in rows])
    axis.invert_yaxis()
    axis.set(xlim=(0, 102), xlabel="AP50 with 95 % CI (dot), AP50-95 (diamond), %")
    axis.grid(alpha=0.3, axis="x")
    return figure


def _confusion(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
    table = report.get("confusion")
    if table is None:
        return None
    names, counts, rates = table["names"], table["counts"], table["rates"]
    figure, axes = _new(0.5 * min(len(names), 40) + 3, 0.5 * min(len(names), 40) + 2.2)
    axis = axes[0][0]
    axis.imshow(rates, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= _NAMED:
        axis.set_xticks(range(len(names)), [_text(n) for n in names], rotation=45, ha="right")
        axis.set_yticks(range(len(names)), [_text(n) for n in names])
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                if count:
                    axis.text(j, i, f"{count:,}", ha="center", va="center", fontsize=8,
                              color="white" if rates[i][j] > 0.6 else "black")  # fmt: skip
    axis.set(xlabel="prediction", ylabel="label")
    return figure


def _images(indices: str) -> Callable[[Mapping[str, Any], Mapping[int, bytes | None]], Any]:
    def draw(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
        from PIL import Image

        wanted = report["samples"] if indices == "samples" else report["errors"]["shown"]
        shown = [data for i in wanted if (data := thumbs.get(int(i)))]
        if not shown:
            return None
        columns = min(4, len(shown))
        rows = -(-len(shown) // columns)
        figure, axes = _new(2.6 * columns, 2.3 * rows, rows, columns)
        for axis in axes.ravel():
            axis.set_axis_off()
        for axis, data in zip(axes.ravel(), shown, strict=False):
            axis.imshow(Image.open(io.BytesIO(data)))
        figure.suptitle("dashed blue: true boxes; orange: predictions", fontsize=9)
        return figure

    return draw


DETECTION_FIGURES: dict[str, Callable[[Mapping[str, Any], Mapping[int, bytes | None]], Any]] = {
    "boxes": _boxes,
    "precision_recall": _precision_recall,
    "curves": _curves,
    "per_class": _per_class,
    "confusion": _confusion,
    "samples": _images("samples"),
    "errors": _images("errors"),
}
"""Figures by name."""
