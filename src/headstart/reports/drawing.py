"""Draw panels with matplotlib: lines, intervals, bars, images; and select fonts for class names.

matplotlib's global state does not change, so no window opens and notebooks show the result.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from headstart.errors import MissingExtraError
from headstart.utils.dependencies import prepare_matplotlib

__all__ = [
    "COLORS",
    "GRAY",
    "Panel",
    "draw_images",
    "draw_intervals",
    "draw_lines",
    "draw_row",
    "draw_stacked",
    "finish_axes",
    "font_families",
    "numbered_names",
    "percent_ticks",
    "save_figure",
    "save_panel",
    "short",
    "using_matplotlib",
]

COLORS = ("#0b5cad", "#c2570c", "#00806a", "#7a3e9d")
"""Blue, orange, green, violet."""
GRAY = "#777777"

_FONT = "DejaVu Sans"  # comes with matplotlib
_STYLES = ("-", "--", ":", "-.")
_WITH_MARKERS = 12  # maximum number of points with markers


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        alt: Text alternative.
        draw: Draws on the axes.
        size: Width and height in inches.
    """

    alt: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = (4.6, 3.2)


@contextmanager
def using_matplotlib(settings: Mapping[str, Any] | None = None, *, is_default: bool = False) -> Iterator[None]:
    """Apply settings of matplotlib in the block, on top of the user's or of the defaults."""
    try:
        prepare_matplotlib()
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("drawing figures", "train") from error
    kept = ("backend", "interactive", "toolbar", "webagg", "savefig.directory", "tk.", "date.", "docstring")
    default = {k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith(kept)} if is_default else {}
    with mpl.rc_context({**default, **(settings or {})}):
        yield


def draw_row(panels: Sequence[Panel]) -> Any:
    """Return a figure with the panels side by side."""
    prepare_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    widths = [panel.size[0] for panel in panels]
    size = (sum(widths), max(panel.size[1] for panel in panels))
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for panel, axis in zip(panels, axes, strict=True):
        axis.spines[["top", "right"]].set_visible(False)
        panel.draw(axis)
    return figure


def save_figure(figure: Any, **options: Any) -> bytes:
    """Return a figure as a file without its empty margins."""
    return _save(figure, bbox_inches="tight", pad_inches=0.05, **options)


def save_panel(figure: Any, **options: Any) -> bytes:
    """Return a figure as a file of its own size; drawn once, where trimming margins draws it twice."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)
    return _save(figure, **options)


def _save(figure: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(out, **options)
    return out.getvalue()


def _code_points(name: str) -> set[int]:
    """Return the code points of the visible characters."""
    return {ord(c) for c in name if c.isprintable() and not c.isspace()}


def numbered_names(class_names: Sequence[str]) -> dict[str, str]:
    """Return `class 3` by name for names that have glyphs in no installed font."""
    missing = font_families(class_names)[1]
    return {name: f"class {i + 1}" for i, name in enumerate(class_names) if missing & _code_points(name)}


def font_families(class_names: Sequence[str]) -> tuple[list[str], set[int]]:
    """Return font families with the glyphs of the names, and the code points without a glyph in any of them."""
    with using_matplotlib():
        from matplotlib import font_manager
    families = [_FONT]
    missing = set().union(*map(_code_points, class_names)) - _covered(str(font_manager.findfont(_FONT)))
    for family, path in _other_fonts() if missing else ():
        if missing & _covered(path) and family not in families:
            families.append(family)
            missing -= _covered(path)
    return families, missing


@lru_cache(maxsize=1)
def _other_fonts() -> tuple[tuple[str, str], ...]:
    """Return (family, path) of every other installed font."""
    prepare_matplotlib()
    from matplotlib import font_manager

    fonts = {str(f.fname): str(f.name) for f in font_manager.fontManager.ttflist if f.name != _FONT}
    return tuple((name, path) for path, name in sorted(fonts.items()))


@lru_cache(maxsize=512)
def _covered(path: str) -> frozenset[int]:
    prepare_matplotlib()
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def short(value: str, limit: int = 24) -> str:
    """Return a name as short plain text, with math markup escaped."""
    plain = "".join(c if c.isprintable() else "?" for c in value).replace("$", r"\$")
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def draw_lines(
    series: Sequence[Mapping[str, Any]], x: str, y: str, *, title: str = "", is_fraction: bool = False,
    is_log: bool = False, marks: Sequence[Mapping[str, Any]] = (),
) -> Callable[[Any], None]:  # fmt: skip
    """Draw lines over a common axis.

    Args:
        series: Each `{name, x, y}` and optionally `low` and `high`; missing values are None.
        x, y: Axis titles.
        title: Title of the axes.
        is_fraction: Whether y is a fraction, shown in percent.
        is_log: Whether x has a log scale.
        marks: Each `{stage, epoch}`: a line at an epoch with the stage name.
    """

    def draw(axis: Any) -> None:
        for i, s in enumerate(series):
            color, style = COLORS[i % 4], _STYLES[i % 4]
            points = [(a, b) for a, b in zip(s["x"], s["y"], strict=True) if b is not None]
            marker = "o" if len(points) <= _WITH_MARKERS else ""
            xs, ys = [p[0] for p in points], [p[1] for p in points]
            axis.plot(xs, ys, style, color=color, marker=marker, markersize=4, label=short(s["name"], 40))
            band = [
                row for row in zip(s["x"], s.get("low") or (), s.get("high") or (), strict=False) if None not in row
            ]
            if band:
                axis.fill_between(*zip(*band, strict=True), color=color, alpha=0.15, linewidth=0)
        if is_log:
            ticks = sorted({v for s in series for v in s["x"]})
            ticks = ticks if len(ticks) <= 8 else [ticks[round(i * (len(ticks) - 1) / 5)] for i in range(6)]
            axis.set_xscale("log", base=2)
            axis.set_xticks(ticks, [f"{t:,.0f}" for t in ticks])
            axis.minorticks_off()
        else:
            axis.xaxis.get_major_locator().set_params(integer=True)
        low, high = axis.get_xlim()
        labeled = low - (high - low)
        for mark in marks:
            axis.axvline(mark["epoch"], color=GRAY, linestyle=":", linewidth=1)
            if (mark["epoch"] - labeled) / (high - low) > 0.025 * len(mark["stage"]):  # avoids overlapping names
                place = {"xycoords": ("data", "axes fraction"), "fontsize": 7, "ha": "center", "va": "bottom"}
                axis.annotate(short(mark["stage"]), (mark["epoch"], 1.01), **place)
                labeled = mark["epoch"]
        finish_axes(axis, x, y, title, is_fraction=is_fraction, pad=16 if marks else None)
        if is_fraction:
            axis.set_ylim(max(0.0, axis.get_ylim()[0]), min(1.02, axis.get_ylim()[1]))
        if len(series) > 1 or series[0]["name"] != y:
            axis.legend(frameon=False)

    return draw


def finish_axes(axis: Any, x: str, y: str, title: str, *, is_fraction: bool = False, pad: float | None = None) -> None:
    """Set titles and grid lines."""
    axis.set(xlabel=x, ylabel=y)
    axis.set_title(title, pad=pad)
    if is_fraction:
        axis.yaxis.set_major_formatter(percent_ticks())
    axis.grid(alpha=0.3, linewidth=0.6)
    axis.set_axisbelow(True)


def percent_ticks() -> Any:
    prepare_matplotlib()
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1.0, symbol=" %")


def draw_intervals(
    rows: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], title: str, labels: Sequence[str] = (),
    low: float | None = 0.0,
) -> Callable[[Any], None]:  # fmt: skip
    """Draw estimates with their 95 % CIs, one line per name; several estimates of a line have different markers."""

    def draw(axis: Any) -> None:
        for j, (_, estimates) in enumerate(rows):
            for i, e in enumerate(estimates):
                if e.get("value") is None:
                    continue
                height, color = j + 0.18 * (i - (len(estimates) - 1) / 2), COLORS[i % 4]
                if e.get("low") is not None and e.get("high") is not None:
                    axis.plot([e["low"], e["high"]], [height, height], color=color, alpha=0.5, linewidth=2)
                label = labels[i] if labels and j == 0 else None
                axis.plot([e["value"]], [height], "oDs^"[i % 4], color=color, markersize=4, label=label)
        axis.set_yticks(range(len(rows)), [short(name) for name, _ in rows])
        finish_axes(axis, title, "", "")
        axis.set(ylim=(len(rows) - 0.5, -0.5), xlim=(low, 1.02))
        axis.xaxis.set_major_formatter(percent_ticks())
        if labels:
            axis.legend(frameon=False)

    return draw


def draw_stacked(rows: Mapping[str, Sequence[int]], names: Sequence[str], x: str, title: str) -> Callable[[Any], None]:
    """Draw horizontal bars of one row per name, stacked by series."""

    def draw(axis: Any) -> None:
        start = [0] * len(names)
        for (label, values), color in zip(rows.items(), (*COLORS, "#999999"), strict=False):
            axis.barh(range(len(names)), values, left=start, color=color, label=short(label))
            start = [a + b for a, b in zip(start, values, strict=True)]
        axis.set_yticks(range(len(names)), [short(n) for n in names])
        axis.invert_yaxis()
        finish_axes(axis, x, "", title)
        axis.grid(visible=False, axis="y")
        axis.legend(frameon=False)

    return draw


def draw_images(rows: Sequence[tuple[str, Sequence[bytes]]], alt: str, side: float) -> list[Panel]:
    """Draw rows of images with a title each, `side` inches per image."""
    from PIL import Image

    shown = [(title, [Image.open(io.BytesIO(data)) for data in images]) for title, images in rows if images]
    if not shown:
        return []
    columns = max(len(images) for _, images in shown)
    heights = [max(0.96 * i.height / max(i.size) for i in images) + (0.2 if title else 0.04) for title, images in shown]

    def draw(axis: Any) -> None:
        axis.set_axis_off()
        top = 0.0
        for (title, images), row_height in zip(shown, heights, strict=True):
            above = top + (0.2 if title else 0.04)
            axis.text(0.02, above - 0.04, short(title, 60), fontsize=9, va="bottom")
            for j, image in enumerate(images):
                width, height = (0.96 * n / max(image.size) for n in image.size)
                axis.imshow(image, extent=(j + 0.02, j + 0.02 + width, above + height, above))
            top += row_height
        axis.set(xlim=(0, columns), ylim=(top, 0))

    return [Panel(alt, draw, (side * columns, side * sum(heights)))]
