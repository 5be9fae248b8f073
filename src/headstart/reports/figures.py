"""Draw the figures of a report with matplotlib: SVG for the page, PNG files with 200 dpi on white.

A figure is a row of panels. The page shows each panel alone, so they wrap on narrow screens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from headstart.messages.numbers import pluralize
from headstart.reports.drawing import (
    COLORS,
    GRAY,
    Panel,
    draw_images,
    draw_intervals,
    draw_lines,
    draw_row,
    draw_stacked,
    finish_axes,
    font_families,
    numbered_names,
    percent_ticks,
    save_figure,
    save_panel,
    short,
    using_matplotlib,
)
from headstart.utils.dependencies import prepare_matplotlib

__all__ = ["FIGURES", "draw_compare", "draw_figure", "draw_svgs", "figure_png"]

_DPI = 200
_NAMED = 30  # maximum number of class names on an axis
_MOST_CURVES, _PER_PANEL = 12, 4  # precision-recall curves
_PAGE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "headstart",
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.fontsize": 8,
}
_NOTE = "Numbered classes: no installed font has the glyphs of their names, see class_names.txt."

Report = Mapping[str, Any]
Thumbs = Mapping[int, bytes | None]


def draw_figure(name: str, report: Report, thumbs: Thumbs | None = None) -> Any:
    """Return one figure by name, or None if the report lacks its data.

    Args:
        name: One of `FIGURES` of the page.
        report: From `summarize`.
        thumbs: JPEG bytes by position, for `samples` and `errors`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    numbers = numbered_names(report["class_names"])
    shown = _rename(report, numbers) if numbers else report
    panels = FIGURES[report["page"]][name](shown, thumbs or {})
    if not panels:
        return None
    with using_matplotlib({"font.family": font_families(report["class_names"])[0]}):
        figure = draw_row(panels)
        from matplotlib.text import Text

        if any(text.get_text() in numbers.values() for text in figure.findobj(Text)):
            figure.text(0.0, -0.02, _NOTE, fontsize=7, va="top")
    return figure


def figure_png(figure: Any) -> bytes:
    """Return the figure as a PNG, 200 dpi on white."""
    return save_figure(figure, format="png", dpi=_DPI, facecolor="white", metadata={"Software": "headstart"})


def draw_svgs(name: str, report: Report) -> list[tuple[str, bytes]]:
    """Return text alternative and SVG of each panel of a figure; empty if the report lacks its data.

    The user's matplotlib settings do not apply, and the browser selects the fonts.
    """
    panels = FIGURES[report["page"]][name](report, {})
    if not panels:
        return []
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with using_matplotlib(_PAGE, is_default=True):
        return [(p.alt, save_panel(draw_row([p]), format="svg", transparent=True, metadata=nothing)) for p in panels]


def draw_compare(names: Sequence[str], reports: Sequence[Report]) -> Any:
    """Draw the training curves of runs in one figure; without epochs, their scores by split with intervals."""
    panels = []
    for kind in ("loss", "accuracy"):
        pairs = zip(names, reports, strict=True)
        series = [s for name, report in pairs for s in _series(report, kind, f"{name}: ")]
        panels += [Panel(kind, draw_lines(series, "epoch", kind), (5.5, 3.8))] if series else []
    if not panels:
        scores = [{b["name"]: b["accuracy"] or {} for b in report["learning"]["blocks"]} for report in reports]
        rows = [(block, [of_run.get(block, {}) for of_run in scores]) for block in scores[0]]
        panels = [Panel("accuracy", draw_intervals(rows, "accuracy with 95 % CI", names, low=None), (7.0, 3.6))]
    with using_matplotlib():
        return draw_row(panels)


def _rename(value: Any, names: Mapping[str, str]) -> Any:
    """Return JSON values with other names for some texts."""
    if isinstance(value, Mapping):
        return {key: _rename(v, names) for key, v in value.items()}
    if isinstance(value, list):
        return [_rename(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def _series(report: Report, kind: str, prefix: str = "") -> list[dict[str, Any]]:
    """Return the columns over epochs of a kind: `loss`, `accuracy` or `mAP50`."""
    epochs = report["learning"].get("epochs") or {}
    columns = {k: v for k, v in epochs.items() if kind in k and any(n is not None for n in v)}
    return [{"name": prefix + k.replace("_", " "), "x": epochs["epoch"], "y": v} for k, v in columns.items()]


def _curves(report: Report, _: Thumbs) -> list[Panel]:
    """Draw losses, and accuracies or mAP, over epochs."""
    marks = report["learning"].get("unfreezing") or ()
    panels = []
    for kind, series in ((kind, _series(report, kind)) for kind in ("loss", "accuracy", "mAP50")):
        title = f"{kind} over epochs"
        alt = ", ".join([title, *(f"unfreezing of {m['stage']}" for m in marks)])
        draw = draw_lines(series, "epoch", kind, title=title, is_fraction=kind != "loss", marks=marks)
        panels += [Panel(alt, draw)] if series else []
    return panels


def _learning_curve(report: Report, _: Thumbs) -> list[Panel]:
    curve = report["learning"]["curve"]
    if not curve.get("series"):
        return []
    draw = draw_lines(
        curve["series"], "training images", curve.get("metric") or "accuracy", is_fraction=True, is_log=True
    )
    return [Panel("Accuracy by number of training images", draw)]


def _confusion(is_rate: bool) -> Callable[[Report, Thumbs], list[Panel]]:
    """Draw the confusion matrix; names and numbers only where they are legible."""

    def panels(report: Report, _: Thumbs) -> list[Panel]:
        table: Mapping[str, Any] = report["confusion"] or {"counts": ()}
        names, counts = table.get("names", report["class_names"]), table["counts"]
        is_legible = len(names) <= _NAMED + 1

        def draw(axis: Any) -> None:
            axis.imshow(table["rates"], cmap="Blues", vmin=0, vmax=1, interpolation="none")
            axis.spines[["top", "right"]].set_visible(True)
            axis.set(xlabel="prediction", ylabel="label", title="row rates" if is_rate else "")
            if not is_legible:
                return
            axis.set_xticks(range(len(names)), [short(n) for n in names], rotation=90)
            axis.set_yticks(range(len(names)), [short(n) for n in names])
            for i, j in ((i, j) for i, row in enumerate(counts) for j, count in enumerate(row) if count):
                rate = table["rates"][i][j]
                text = f"{100 * rate:.0f} %" if is_rate else f"{counts[i][j]:,}"
                axis.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if rate > 0.55 else "black")

        side = max(3.6, 0.5 * len(names) + 1.8) if is_legible else 6.0
        alt = f"Confusion matrix of {pluralize(len(names), 'class', 'classes')}"
        return [Panel(alt, draw, (side, side))] if counts else []

    return panels


def _reliability(report: Report, _: Thumbs) -> list[Panel]:
    """Draw accuracy by predicted probability with intervals, and the line of perfect calibration."""

    def panel(bins: Sequence[Mapping[str, float]], title: str) -> Panel:
        def draw(axis: Any) -> None:
            x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
            below = [max(0.0, b["accuracy"] - b["low"]) for b in bins]
            above = [max(0.0, b["high"] - b["accuracy"]) for b in bins]
            axis.plot([0, 1], [0, 1], "--", color=GRAY, linewidth=1)
            axis.errorbar(x, y, yerr=[below, above], fmt="o-", color=COLORS[0], capsize=2, markersize=4)
            finish_axes(axis, "predicted probability", "accuracy", title, is_fraction=True)
            axis.xaxis.set_major_formatter(percent_ticks())
            axis.set(xlim=(0, 1.02), ylim=(0, 1.02))

        return Panel(f"Reliability {title.lower()}: {pluralize(len(bins), 'group')} of images", draw, (4.0, 3.4))

    titles = (("before", "Before calibration"), ("after", "After calibration"))
    return [panel(report["calibration"][key], title) for key, title in titles if report["calibration"].get(key)]


def _ood(report: Report, _: Thumbs) -> list[Panel]:
    """Draw the OOD scores of in-distribution images; bars above the threshold have another color."""
    histogram, threshold = report["ood"].get("histogram"), report["ood"].get("threshold")
    if not histogram:
        return []
    edges, counts = histogram["edges"], histogram["known"]

    def draw(axis: Any) -> None:
        widths = [high - low for low, high in pairwise(edges)]
        is_above = [threshold is not None and low + high > 2 * threshold for low, high in pairwise(edges)]
        axis.bar(edges[:-1], counts, widths, align="edge", color=[COLORS[is_ood] for is_ood in is_above], edgecolor="w")
        if threshold is not None:
            axis.axvline(threshold, color="black", linestyle="--", linewidth=1.2)
        finish_axes(axis, "OOD score", "images", "OOD score of in-distribution images")
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.grid(visible=False, axis="x")

    limit = "" if threshold is None else f", threshold at {threshold:.3g}"
    return [Panel(f"OOD score of in-distribution images{limit}", draw)]


def _classes(report: Report, _: Thumbs) -> list[Panel]:
    rows = report["per_class"]
    height = max(2.4, 0.28 * len(rows) + 1.2)
    return [
        Panel(f"{key} by class", draw_intervals([(r["name"], [r[key]]) for r in rows], key), (3.4, height))
        for key in ("precision", "recall", "f1")
        if rows
    ]


def _average_precision(report: Report, _: Thumbs) -> list[Panel]:
    measured = [c for c in report["per_class"] if c["AP50"].get("value") is not None][:_NAMED]
    rows = [(c["name"], [c["AP50"], {"value": (c.get("AP50_95") or {}).get("value")}]) for c in measured]
    draw = draw_intervals(rows, "average precision", ("AP50 with 95 % CI", "AP50-95"))
    return [Panel("Average precision by class", draw, (6.0, max(2.2, 0.35 * len(rows) + 1.2)))] if rows else []


def _diagram(report: Report, _: Thumbs) -> list[Panel]:
    """Draw the network as a row of boxes; trained parts have a thick border."""
    model = report["model"]
    size = model.get("size_hw") or ["?", "?"]
    boxes = [("image", f"{size[1]} x {size[0]}", "input")]
    boxes += [(p["name"], f"{p['num_params']:,}", p["state"]) for p in model["parts"]]
    boxes.append(("head", f"{model['head']['num_params']:,}", "trained"))
    boxes.append((pluralize(model["head"]["num_classes"], "class", "classes"), "probabilities", "output"))

    def draw(axis: Any) -> None:
        prepare_matplotlib()
        from matplotlib.patches import FancyBboxPatch

        axis.set_axis_off()
        axis.set(xlim=(-0.1, len(boxes)), ylim=(-0.35, 1.25))
        for i, (name, count, state) in enumerate(boxes):
            look: dict[str, Any] = {"facecolor": {"frozen": "#dbe7f3", "trained": "#f6d9c4"}.get(state, "white")}
            look |= {"edgecolor": COLORS[1], "linewidth": 2} if state == "trained" else {"edgecolor": "#666666"}
            axis.add_patch(FancyBboxPatch((i + 0.02, 0.1), 0.78, 0.9, boxstyle="round,pad=0.02", **look))
            for height, text, points in ((0.78, short(name, 14), 8.5), (0.52, count, 7.0), (0.27, state, 7.0)):
                axis.text(i + 0.41, height, text, ha="center", va="center", fontsize=points)
            if i:
                axis.annotate("", (i, 0.55), (i - 0.18, 0.55), arrowprops={"arrowstyle": "->", "color": "#444444"})
        total = f"{model['title']}: {model['num_params']:,} parameters, {model['num_trained']:,} trained"
        axis.text(0, -0.25, total, fontsize=8.5)

    return [Panel("Parts of the network", draw, (1.05 * len(boxes), 1.9))]


def _boxes(report: Report, _: Thumbs) -> list[Panel]:
    """Draw boxes per class by split, and by size."""
    counts, sides = report["data"]["counts"], report["data"]["sides"]
    if not counts or sides is None:
        return []
    names, num = report["class_names"][:_NAMED], len(COLORS)
    by_split = {split: row[: len(names)] for split, row in counts.items()}
    by_class = dict(zip(names, sides["counts"][:num], strict=False))
    rest = [sum(column) for column in zip(*sides["counts"][num:], strict=True)]
    by_class |= {"other classes": rest} if rest else {}
    height = max(3.0, 0.35 * max(len(names), len(sides["labels"])) + 1.2)
    size = "box size (square root of the area), pixels"
    return [
        Panel("Boxes per class", draw_stacked(by_split, names, "boxes", "boxes per class"), (5.0, height)),
        Panel("Boxes by size", draw_stacked(by_class, sides["labels"], "boxes", size), (5.0, height)),
    ]


def _precision_recall(report: Report, _: Thumbs) -> list[Panel]:
    """Draw precision by recall, a few classes per panel."""
    curves = report["curves"][:_MOST_CURVES]
    panels = []
    for part in (curves[i : i + _PER_PANEL] for i in range(0, len(curves), _PER_PANEL)):
        series = [
            {"name": f"{short(c['name'])} (AP50 {100 * (c['AP50'] or 0):.0f} %)", "x": c["recall"], "y": c["precision"]}
            for c in part
        ]
        draw = draw_lines(series, "recall, %", "precision", is_fraction=True)
        panels.append(Panel(f"Precision by recall of {', '.join(c['name'] for c in part)}", draw))
    return panels


def _sampled(report: Report, thumbs: Thumbs) -> list[Panel]:
    rows = zip(report["class_names"], report["data"]["samples"], strict=True)
    shown = [(name, [data for i in members if (data := thumbs.get(i))]) for name, members in rows]
    return draw_images([row for row in shown if row[1]][:20], "Random images per class", 1.2)


def _with_boxes(name: str) -> Callable[[Report, Thumbs], list[Panel]]:
    def panels(report: Report, thumbs: Thumbs) -> list[Panel]:
        wanted = report["samples"] if name == "samples" else report["errors"]["shown"]
        shown = [data for i in wanted if (data := thumbs.get(int(i)))]
        rows = [("" if i else "dashed blue: true boxes; orange: predictions", shown[i : i + 4])
                for i in range(0, len(shown), 4)]  # fmt: skip
        return draw_images(rows, name, 2.5)

    return panels


FIGURES: dict[str, dict[str, Callable[[Report, Thumbs], list[Panel]]]] = {
    "classification": {
        "samples": _sampled,
        "curves": _curves,
        "learning_curve": _learning_curve,
        "confusion": _confusion(False),
        "confusion_rates": _confusion(True),
        "classes": _classes,
        "reliability": _reliability,
        "ood": _ood,
        "diagram": _diagram,
    },
    "detection": {
        "boxes": _boxes,
        "precision_recall": _precision_recall,
        "curves": _curves,
        "per_class": _average_precision,
        "confusion": _confusion(False),
        "samples": _with_boxes("samples"),
        "errors": _with_boxes("errors"),
    },
    "sections": {},
}
"""Figures by page and name; each becomes `figures/<name>.png`."""
