"""Draw report figures with matplotlib from `report.json`, for PNG files with 200 dpi on white.

Functions return figures without changing matplotlib's global state, so no window opens and notebooks show the result.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headstart.errors import MissingExtraError
from headstart.messages.numbers import pluralize
from headstart.reports.fonts import NOTE, drawable, lettered
from headstart.utils.dependencies import prepare_matplotlib

__all__ = ["FIGURES", "draw_compare", "draw_figure", "figure_png"]

_DPI = 200
_BLUE, _ORANGE, _GREEN, _VIOLET = "#0b5cad", "#a84300", "#00705a", "#7a3e9d"
_COLORS = (_BLUE, _ORANGE, _GREEN, _VIOLET)
_STYLES = ("-", "--", ":", "-.")
_WITH_NAMES = ("samples", "confusion", "confusion_rates", "classes")  # figures with class names
_MOST_CURVES = 12
_NAMED = 30  # maximum number of class names on an axis


def figure_png(figure: Any) -> bytes:
    """Return the figure as a PNG, 200 dpi on white."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(out, dpi=_DPI, facecolor="white", bbox_inches="tight", metadata={"Software": "headstart"})
    return out.getvalue()


def draw_figure(name: str, report: Mapping[str, Any], thumbs: Mapping[int, bytes | None] | None = None) -> Any:
    """Return one figure by name, or None if the report lacks its data.

    Args:
        name: One of `FIGURES` of the task.
        report: From `summarize`.
        thumbs: JPEG bytes by position, for `samples`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if name not in _WITH_NAMES:
        return FIGURES[report["task"]][name](report, thumbs or {})
    shown, is_numbered = drawable(report)
    with lettered(shown):
        figure = FIGURES[report["task"]][name](shown, thumbs or {})
        if figure is not None and is_numbered:
            figure.text(0.0, -0.02, NOTE, fontsize=7, va="top")
    return figure


def _new(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    try:
        prepare_matplotlib()
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing figures", "train") from error
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _text(value: str, limit: int = 24) -> str:
    """Return a name as short plain text, with math markup escaped."""
    plain = "".join(c if c.isprintable() else "?" for c in value).replace("$", r"\$")
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def _samples(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
    from PIL import Image

    rows = [
        (name, [thumbs[i] for i in members if thumbs.get(i)])
        for name, members in zip(report["class_names"], report["data"]["samples"], strict=True)
    ]
    rows = [row for row in rows if row[1]][:20]
    if not rows:
        return None
    columns = max(len(images) for _, images in rows)
    figure, axes = _new(1.2 * columns + 1.2, 1.25 * len(rows), len(rows), columns)
    for (name, images), line in zip(rows, axes, strict=True):
        for j, axis in enumerate(line):
            axis.set_axis_off()
            if j < len(images):
                axis.imshow(Image.open(io.BytesIO(images[j] or b"")))
        line[0].set_title(_text(name), fontsize=9, loc="left")
    return figure


def _curves(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
    epochs = report["learning"].get("epochs")
    kinds = [k for k in ("loss", "accuracy") if any(k in key for key in epochs or {})]
    if not epochs or not kinds:
        return None
    figure, axes = _new(5.5 * len(kinds), 3.6, 1, len(kinds))
    x = epochs.get("epoch") or list(range(1, 1 + len(next(iter(epochs.values())))))
    for axis, kind in zip(axes[0], kinds, strict=True):
        for i, (key, values) in enumerate((k, v) for k, v in epochs.items() if kind in k):
            axis.plot(
                x,
                [float("nan") if v is None else v for v in values],
                _STYLES[i % 4],
                color=_COLORS[i % 4],
                label=_text(key),
            )
        marks = report["learning"].get("unfreezing") or ()
        for mark in marks:
            axis.axvline(mark["epoch"], color="#777777", linestyle=":", linewidth=1)
            above = {"xycoords": ("data", "axes fraction"), "fontsize": 7, "ha": "center", "va": "bottom"}
            axis.annotate(_text(mark["stage"]), (mark["epoch"], 1.01), **above)
        axis.set(xlabel="epoch", ylabel=kind)
        axis.set_title(f"{kind} over epochs", pad=16 if marks else None)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if kind == "accuracy":
            axis.set_ylim(top=min(1.01, axis.get_ylim()[1]))
        axis.legend(frameon=False)
    return figure


def _learning_curve(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
    series = report["learning"]["curve"].get("series")
    if not series:
        return None
    figure, axes = _new(5.5, 3.8)
    axis = axes[0][0]
    for i, s in enumerate(series):
        axis.plot(s["x"], s["y"], _STYLES[i % 4], marker="o", color=_COLORS[i % 4], label=_text(s["name"], 40))
        if s.get("low") and s.get("high"):
            axis.fill_between(s["x"], s["low"], s["high"], color=_COLORS[i % 4], alpha=0.15)
    axis.set_xscale("log", base=2)
    ticks = sorted({v for s in series for v in s["x"]})
    axis.set_xticks(ticks, [f"{t:,.0f}" for t in ticks])
    axis.minorticks_off()
    axis.set(xlabel="training images", ylabel=report["learning"]["curve"].get("metric") or "accuracy")
    axis.legend(frameon=False)
    return figure


def _confusion(is_rate: bool) -> Callable[[Mapping[str, Any], Mapping[int, bytes | None]], Any]:
    def draw(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
        names, counts, rates = report["class_names"], report["confusion"]["counts"], report["confusion"]["rates"]
        k = len(names)
        side = min(14.0, max(3.6, 0.55 * k + 1.8))
        figure, axes = _new(side, side)
        axis = axes[0][0]
        axis.imshow(rates, cmap="Blues", vmin=0, vmax=1)
        if k <= _NAMED:
            labels = [_text(n) for n in names]
            axis.set_xticks(range(k), labels, rotation=90)
            axis.set_yticks(range(k), labels)
            for t in range(k):
                for p in range(k):
                    if counts[t][p]:
                        text = f"{100 * rates[t][p]:.0f} %" if is_rate else str(counts[t][p])
                        color = "white" if rates[t][p] > 0.55 else "black"
                        axis.text(p, t, text, ha="center", va="center", fontsize=7, color=color)
        axis.set(xlabel="prediction", ylabel="label", title="row rates" if is_rate else "images")
        return figure

    return draw


def _reliability(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
    c = report["calibration"]
    parts = [(title, c[key]) for key, title in (("before", "before"), ("after", "after calibration")) if c.get(key)]
    if not parts:
        return None
    figure, axes = _new(4.2 * len(parts), 4.0, 1, len(parts))
    for axis, (title, bins) in zip(axes[0], parts, strict=True):
        x, y = [b["confidence"] for b in bins], [b["right"] for b in bins]
        below = [max(0.0, b["right"] - b["low"]) for b in bins]
        above = [max(0.0, b["high"] - b["right"]) for b in bins]
        axis.plot([0, 1], [0, 1], "--", color="#777777")
        axis.errorbar(x, y, yerr=[below, above], fmt="o-", color=_BLUE, capsize=2)
        axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="predicted probability", ylabel="accuracy", title=title)
    return figure


def _classes(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
    rows = report["per_class"]
    if not rows:
        return None
    figure, axes = _new(9.0, max(2.4, 0.28 * len(rows) + 1.2), 1, 3)
    for axis, key in zip(axes[0], ("precision", "recall", "f1"), strict=True):
        for i, row in enumerate(rows):
            e = row[key]
            if e["value"] is None:
                continue
            if e["low"] is not None and e["high"] is not None:
                axis.plot([e["low"], e["high"]], [i, i], color=_BLUE, alpha=0.5)
            axis.plot([e["value"]], [i], "o", color=_BLUE, markersize=4)
        axis.set(xlim=(0, 1.02), ylim=(len(rows) - 0.5, -0.5), title=key)
        axis.set_yticks(range(len(rows)), [_text(r["name"]) for r in rows] if key == "precision" else [""] * len(rows))
    return figure


def _diagram(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
    prepare_matplotlib()
    from matplotlib.patches import FancyBboxPatch

    model = report["model"]
    size = model.get("size_hw") or ["?", "?"]
    boxes = [("image", f"{size[1]} x {size[0]}", "input")]
    boxes += [(p["name"], f"{p['num_params']:,}", p["state"]) for p in model["parts"]]
    boxes.append(("head", f"{model['head']['num_params']:,}", "trained"))
    boxes.append((pluralize(model["head"]["num_classes"], "class", "classes"), "probabilities", "output"))
    figure, axes = _new(1.05 * len(boxes), 1.9)
    axis = axes[0][0]
    axis.set_axis_off()
    axis.set(xlim=(-0.1, len(boxes)), ylim=(-0.35, 1.25))
    fills = {"frozen": "#dbe7f3", "trained": "#f6d9c4"}
    for i, (name, count, state) in enumerate(boxes):
        axis.add_patch(
            FancyBboxPatch(
                (i + 0.02, 0.1),
                0.78,
                0.9,
                boxstyle="round,pad=0.02",
                facecolor=fills.get(state, "white"),
                edgecolor=_ORANGE if state == "trained" else "#666666",
                linewidth=2 if state == "trained" else 1,
            )
        )
        for height, text, size_pt in ((0.78, _text(name, 14), 8.5), (0.52, count, 7.0), (0.27, state, 7.0)):
            axis.text(i + 0.41, height, text, ha="center", va="center", fontsize=size_pt)
        if i:
            axis.annotate("", (i, 0.55), (i - 0.18, 0.55), arrowprops={"arrowstyle": "->", "color": "#444444"})
    axis.text(
        0,
        -0.25,
        f"{model['title']}: {model['num_params']:,} parameters, {model['num_trained']:,} trained",
        fontsize=8.5,
    )
    return figure


def draw_compare(names: Sequence[str], reports: Sequence[Mapping[str, Any]]) -> Any:
    """Draw the training curves of runs in one figure; without epochs, their scores by split with intervals."""
    kinds = ("loss", "accuracy")
    with_epochs = [r for r in reports if r["learning"].get("epochs")]
    if with_epochs:
        figure, axes = _new(11.0, 3.8, 1, 2)
        for axis, kind in zip(axes[0], kinds, strict=True):
            for i, (name, report) in enumerate(zip(names, reports, strict=True)):
                epochs = report["learning"].get("epochs") or {}
                for j, (key, values) in enumerate((k, v) for k, v in epochs.items() if kind in k):
                    x = epochs.get("epoch") or list(range(1, 1 + len(values)))
                    y = [float("nan") if v is None else v for v in values]
                    axis.plot(x, y, _STYLES[j % 4], color=_COLORS[i % 4], label=_text(f"{name}: {key}", 40))
            axis.set(xlabel="epoch", ylabel=kind)
            axis.legend(frameon=False, fontsize=8)
        return figure
    figure, axes = _new(7.0, 3.6)
    axis = axes[0][0]
    for i, (name, report) in enumerate(zip(names, reports, strict=True)):
        blocks = report["learning"]["blocks"]
        for j, block in enumerate(blocks):
            e = block["accuracy"] or {}
            if e.get("value") is None:
                continue
            height = j + 0.18 * (i - (len(names) - 1) / 2)
            if e.get("low") is not None and e.get("high") is not None:
                axis.plot([e["low"], e["high"]], [height, height], color=_COLORS[i % 4], alpha=0.6)
            axis.plot(
                [e["value"]], [height], "os^D"[i % 4], color=_COLORS[i % 4], label=_text(name) if j == 0 else None
            )
        axis.set_yticks(range(len(blocks)), [b["name"] for b in blocks])
    axis.invert_yaxis()
    axis.set(xlabel="accuracy with 95 % CI")
    axis.legend(frameon=False)
    return figure


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


def _detection_curves(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
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


def _detection_confusion(report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> Any:
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


def _image_grid(indices: str) -> Callable[[Mapping[str, Any], Mapping[int, bytes | None]], Any]:
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


FIGURES: dict[str, dict[str, Callable[[Mapping[str, Any], Mapping[int, bytes | None]], Any]]] = {
    "classify": {
        "samples": _samples,
        "curves": _curves,
        "learning_curve": _learning_curve,
        "confusion": _confusion(False),
        "confusion_rates": _confusion(True),
        "classes": _classes,
        "reliability": _reliability,
        "diagram": _diagram,
    },
    "detect": {
        "boxes": _boxes,
        "precision_recall": _precision_recall,
        "curves": _detection_curves,
        "per_class": _per_class,
        "confusion": _detection_confusion,
        "samples": _image_grid("samples"),
        "errors": _image_grid("errors"),
    },
}
"""Figures by task and name; each becomes `figures/<name>.png`."""
