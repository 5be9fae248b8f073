"""Draw charts as inline SVG without a plotting library; the style sheet of the page sets their colors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

__all__ = ["bar", "curves", "heat_level", "histogram", "interval", "reliability", "ticks_between"]

_W, _H = 360, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 20, 12, 40


def heat_level(rate: float) -> int:
    """Return the color level of a confusion matrix cell, 0-10."""
    return 0 if rate <= 0 else max(1, min(10, round(10 * rate)))


def bar(fraction: float, label: str) -> Markup:
    """Draw a horizontal bar, `fraction` in [0, 1]."""
    width = round(100 * min(1.0, max(0.0, fraction)), 2)
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="track" x="0" y="0" width="100" height="10"/>'
        '<rect class="fill" x="0" y="0" width="{}" height="10"/></svg>'
    ).format(label, width)


def interval(value: float | None, low: float | None, high: float | None, label: str) -> Markup:
    """Draw a value with its interval on a line from 0 to 1."""
    if value is None:
        return Markup('<span class="quiet">not measurable</span>')
    whisker = Markup("")
    if low is not None and high is not None:
        whisker = Markup('<line class="whisker" x1="{}" x2="{}" y1="8" y2="8"/>').format(
            round(4 + 112 * low, 1), round(4 + 112 * high, 1)
        )
    return Markup(
        '<svg class="interval" viewBox="0 0 120 16" role="img" aria-label="{}">'
        '<line class="axis" x1="4" x2="116" y1="8" y2="8"/>{}<circle class="dot" cx="{}" cy="8" r="3.5"/></svg>'
    ).format(label, whisker, round(4 + 112 * value, 1))


def reliability(bins: Sequence[Mapping[str, Any]], label: str) -> Markup:
    """Draw a reliability diagram with intervals and the line of perfect calibration."""
    x, y = _scales((0.0, 1.0), (0.0, 1.0))
    parts = [_frame((0.0, 1.0), (0.0, 1.0), "predicted probability", "accuracy", percent=True)]
    parts.append(Markup('<line class="ideal" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(x(0.0), y(0.0), x(1.0), y(1.0)))
    points = []
    for b in bins:
        cx, cy = x(b["confidence"]), y(b["right"])
        parts.append(
            Markup('<line class="whisker" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(cx, cx, y(b["low"]), y(b["high"]))
        )
        parts.append(Markup('<circle class="dot" cx="{}" cy="{}" r="4"/>').format(cx, cy))
        points.append(f"{cx},{cy}")
    parts.append(Markup('<polyline class="line a" points="{}"/>').format(" ".join(points)))
    return _svg(parts, label)


def histogram(
    edges: Sequence[float], counts: Sequence[int], label: str, *, x_title: str, threshold: float | None = None
) -> Markup:
    """Draw a histogram; bins above the threshold have another color.

    Args:
        edges: Bin edges, ascending, one more than counts.
        counts: Images per bin.
        label: Text alternative of the chart.
        x_title: Axis title.
        threshold: Drawn as a line, if given.
    """
    x, y = _scales((edges[0], edges[-1]), (0.0, 1.05 * max(*counts, 1)))
    step = max(1, round((edges[-1] - edges[0]) / 6))
    ticks = [t for t in range(-10 * step, 100 * step, step) if edges[0] <= t <= edges[-1]]
    most = max(*counts, 1)
    parts = [_frame((edges[0], edges[-1]), (0.0, 1.05 * most), x_title, "images", is_count=True,
                    x_ticks=[(float(t), str(t)) for t in ticks])]  # fmt: skip
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        is_above = threshold is not None and (low + high) / 2 > threshold
        parts.append(
            Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                "column above" if is_above else "column", x(low) + 0.5, y(count),
                max(0.5, round(x(high) - x(low) - 1, 1)), round(y(0.0) - y(count), 1),
            )
        )  # fmt: skip
    if threshold is not None:
        parts.append(
            Markup('<line class="mark" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                x(threshold), x(threshold), _TOP, y(0.0)
            )
        )
    return _svg(parts, label)


def curves(
    series: Sequence[Mapping[str, Any]],
    label: str,
    *,
    x_title: str,
    y_title: str,
    percent: bool = False,
    log_x: bool = False,
    marks: Sequence[Mapping[str, Any]] = (),
) -> Markup:
    """Draw lines over a common axis.

    Args:
        series: Each `{name, x, y}` and optionally `low` and `high`; missing values are None.
        label: Text alternative of the chart.
        x_title, y_title: Axis titles.
        percent: Whether y is a fraction.
        log_x: Whether x has a log scale.
        marks: Each `{stage, epoch}`: a dashed line at an epoch with the stage name.
    """
    import math

    def transform(value: float) -> float:
        return math.log2(max(value, 1e-9)) if log_x else value

    xs = [transform(v) for s in series for v in s["x"]]
    ys = [v for s in series for key in ("y", "low", "high") for v in (s.get(key) or ()) if v is not None]
    if not xs or not ys:
        return Markup("")
    x_range = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 1, max(xs) + 1)
    low, high = min(ys), max(ys)
    pad = 0.06 * (high - low) or 0.05
    y_range = (max(0.0, low - pad) if low >= 0 else low - pad, min(1.0, high + pad) if percent else high + pad)
    x, y = _scales(x_range, y_range)
    ticks = sorted({v for s in series for v in s["x"]})
    if len(ticks) > 8:
        at = ticks_between(ticks[0], ticks[-1], most=7, is_whole=True)
        ticks = [ticks[round(i * (len(ticks) - 1) / 5)] for i in range(6)] if log_x else at
    parts = [
        _frame(
            x_range, y_range, x_title, y_title, percent=percent, x_ticks=[(transform(t), f"{t:,.0f}") for t in ticks]
        )
    ]
    labeled = -_W
    for mark in marks:
        at = x(max(transform(mark["epoch"]), x_range[0]))
        parts.append(Markup('<line class="mark" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(at, at, _TOP, _H - _BOTTOM))
        if at - labeled > 6 * len(mark["stage"]):  # avoids overlapping names
            parts.append(Markup('<text class="tick mid" x="{}" y="{}">{}</text>').format(at, _TOP - 3, mark["stage"]))
            labeled = at
    for index, s in enumerate(series):
        kind = "abcd"[index % 4]
        band = [
            (x(transform(a)), y(lo), y(hi))
            for a, lo, hi in zip(s["x"], s.get("low") or (), s.get("high") or (), strict=False)
            if lo is not None and hi is not None
        ]
        if band:
            outline = [f"{a},{b}" for a, b, _ in band] + [f"{a},{c}" for a, _, c in reversed(band)]
            parts.append(Markup('<polygon class="band {}" points="{}"/>').format(kind, " ".join(outline)))
        points = [(x(transform(a)), y(b)) for a, b in zip(s["x"], s["y"], strict=True) if b is not None]
        parts.append(
            Markup('<polyline class="line {}" points="{}"/>').format(kind, " ".join(f"{a},{b}" for a, b in points))
        )
        if len(points) <= 12:
            parts += [Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"/>').format(kind, a, b) for a, b in points]
    legend = Markup("").join(
        Markup('<li><svg class="key" viewBox="0 0 20 8" aria-hidden="true"><line class="line {}" x1="0" x2="20" y1="4" '
               'y2="4"/></svg>{}</li>').format("abcd"[i % 4], s["name"])
        for i, s in enumerate(series)
    )  # fmt: skip
    return _svg(parts, label) + Markup('<ul class="legend">{}</ul>').format(legend)


def _scales(x_range: tuple[float, float], y_range: tuple[float, float]) -> tuple[Any, Any]:
    def x(value: float) -> float:
        return round(_LEFT + (_W - _LEFT - _RIGHT) * (value - x_range[0]) / (x_range[1] - x_range[0]), 1)

    def y(value: float) -> float:
        return round(_H - _BOTTOM - (_H - _TOP - _BOTTOM) * (value - y_range[0]) / (y_range[1] - y_range[0]), 1)

    return x, y


def ticks_between(low: float, high: float, *, most: int = 6, is_whole: bool = False) -> list[float]:
    """Return round tick values (steps of 1, 2, 2.5 or 5 times a power of ten) in [low, high].

    Args:
        low, high: Range, low < high.
        most: Maximum number of ticks.
        is_whole: Whether ticks are integers.
    """
    import math

    power = math.floor(math.log10((high - low) / most))
    steps = [m * 10.0**p for p in (power, power + 1, power + 2) for m in ((1, 2, 5) if is_whole else (1, 2, 2.5, 5))]
    for step in steps:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most and (step >= 1 or not is_whole):
            return [round(i * step, 10) for i in range(first, last + 1)]
    return [low, high]


def _frame(
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_title: str,
    y_title: str,
    *,
    percent: bool = False,
    is_count: bool = False,
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> Markup:
    x, y = _scales(x_range, y_range)
    parts = []
    for value in ticks_between(*y_range, is_whole=is_count):
        text = f"{100 * value:.4g} %" if percent else f"{value:,.0f}" if is_count else f"{value:g}"
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                _LEFT, _W - _RIGHT, y(value), y(value)
            )
        )
        parts.append(Markup('<text class="tick end" x="{}" y="{}">{}</text>').format(_LEFT - 5, y(value) + 4, text))
    if x_ticks is None:
        x_ticks = [(v, f"{100 * v:.0f} %") for v in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for value, text in x_ticks:
        parts.append(Markup('<text class="tick mid" x="{}" y="{}">{}</text>').format(x(value), _H - _BOTTOM + 15, text))
    parts.append(
        Markup('<text class="title mid" x="{}" y="{}">{}</text>').format((_LEFT + _W - _RIGHT) / 2, _H - 6, x_title)
    )
    middle = (_TOP + _H - _BOTTOM) / 2
    parts.append(
        Markup('<text class="title mid" x="11" y="{}" transform="rotate(-90 11 {})">{}</text>').format(
            middle, middle, y_title
        )
    )
    return Markup("").join(parts)


def _svg(parts: Sequence[Markup], label: str) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _W, _H, escape(label), Markup("").join(parts)
    )
