"""Detect box formats: what the four numbers of a box mean, from all boxes of an annotation file.

Annotation formats define a layout and a unit, but exported files often use another one: fractions of the image size
instead of pixels, corners instead of width and height, y before x. Such a file still parses, and its boxes are wrong.
`choose_format` tests the stated format on every box of a file. If it does not fit, another format is used only if it
is the single one that fits; otherwise the file is refused and the formats that fit are listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from headstart.errors import BoxFormatError
from headstart.messages.numbers import pluralize

__all__ = ["BOX_FORMATS", "BoxFormat", "FormatChoice", "choose_format"]

Layout = Literal["xyxy", "xywh", "cxcywh", "yxyx", "yxhw"]
_PREFIXES = {"": 0.0, "rel_": 1.0, "percent_": 100.0, "permille_": 1000.0}
_UNITS = {0.0: "pixels", 1.0: "fractions of the image size", 100.0: "percent of the image size", 1000.0: "thousandths"}
_WORDS: dict[str, str] = {
    "xyxy": "xmin, ymin, xmax, ymax",
    "xywh": "xmin, ymin, width, height",
    "cxcywh": "center x, center y, width, height",
    "yxyx": "ymin, xmin, ymax, xmax",
    "yxhw": "ymin, xmin, height, width",
}

_UNSWAPPED: dict[str, Layout] = {"yxyx": "xyxy", "yxhw": "xywh"}

_TINY = 2.0  # pixels; a box with both sides below it cannot be an annotated object
_FAR = (2.0, 0.05)  # pixels and fraction of the side; a box beyond the edge by more than both is far outside
_NEAR = (1.5, 0.01)  # the same for a format other than the stated one, which has to fit closely
_CLEAN = 0.02  # fraction of boxes that may fail a format that fits
_DOUBT = (0.1, 0.04)  # fraction of failing boxes from which one other format that fits is considered, or several
_RIVAL = 0.1  # fraction of boxes that must fail every other format if one is used
_MOST = 0.5  # fraction of failing boxes from which the stated format is discarded
_ENOUGH = 8  # boxes below which no other layout is used, only another unit of a layout that columns or tags name
_MANY = 10  # boxes below which percent and thousandths are not considered
_CORNER = 0.5  # percent and thousandths are considered if no box reaches beyond this fraction of the image
_FILLED = 0.6  # ... and the largest value reaches this fraction of the bound


@dataclass(frozen=True, slots=True)
class BoxFormat:
    """Meaning of the four numbers of a box.

    Attributes:
        layout: Order of the numbers.
        scale: Value that stands for the whole side of an image (1 for fractions, 100 for percent); 0 for pixels.
    """

    layout: Layout = "xyxy"
    scale: float = 0.0

    @property
    def is_relative(self) -> bool:
        """Return whether values are relative to the image size rather than pixels."""
        return self.scale > 0

    @property
    def name(self) -> str:
        """Return the name as in `BOX_FORMATS`, e.g. `rel_xyxy`."""
        return next(prefix for prefix, scale in _PREFIXES.items() if scale == self.scale) + self.layout

    @property
    def description(self) -> str:
        """Return a description, e.g. `xmin, ymin, xmax, ymax in pixels`."""
        return f"{_WORDS[self.layout]} in {_UNITS[self.scale]}"

    def to_corners(self, values: NDArray[np.float64], size_wh: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert boxes to corners.

        Args:
            values: (N, 4) numbers as in the file.
            size_wh: (2,) or (N, 2) image width and height, pixels; used by relative formats only.

        Returns:
            (N, 4) xmin, ymin, xmax, ymax in pixels.
        """
        first, second = values[:, :2], values[:, 2:]
        if self.layout in ("yxyx", "yxhw"):
            first, second = first[:, ::-1], second[:, ::-1]
        if self.layout in ("xywh", "yxhw"):
            second = first + second
        elif self.layout == "cxcywh":
            first, second = first - second / 2, first + second / 2
        corners = np.concatenate([first, second], axis=1)
        if not self.is_relative:
            return corners
        return np.asarray(corners * np.concatenate([size_wh, size_wh], axis=-1) / self.scale)


BOX_FORMATS: dict[str, BoxFormat] = {
    prefix + layout: BoxFormat(layout, scale) for prefix, scale in _PREFIXES.items() for layout in get_args(Layout)
}
"""All formats by name: the layout, with `rel_`, `percent_` or `permille_` before it for relative units."""


@dataclass(frozen=True, slots=True)
class FormatChoice:
    """The format of one annotation file.

    Attributes:
        format: Format used for its boxes.
        stated: Format stated by the file.
        num_boxes: Number of boxes tested.
        num_failing: Boxes that the stated format makes smaller than 2 pixels, far outside, or inverted.
    """

    format: BoxFormat
    stated: BoxFormat
    num_boxes: int
    num_failing: int

    @property
    def is_assumed(self) -> bool:
        """Return whether a format other than the stated one is used."""
        return self.format != self.stated


def choose_format(
    values: NDArray[np.float64],
    sizes_wh: NDArray[np.float64],
    stated: BoxFormat,
    *,
    source: str,
    is_layout_certain: bool,
    other_sizes_wh: NDArray[np.float64] | None = None,
) -> FormatChoice:
    """Detect the format of the boxes of one annotation file.

    Args:
        values: (N, 4) numbers as in the file; rows that are not finite are ignored.
        sizes_wh: (N, 2) width and height of the image of each box, pixels.
        stated: Format stated by the file.
        source: Name of the annotation file, for the error.
        is_layout_certain: Whether columns or tags name the layout, so that only its unit can differ.
        other_sizes_wh: (N, 2, S) further sizes that a box may lie within (as stated by the file, as stored), pixels.

    Returns:
        The stated format if it fits, else the only other one that does.

    Raises:
        BoxFormatError: The stated format does not fit, and no other one or several others do.
    """
    is_tested = np.isfinite(values).all(axis=1) & (values[:, 2:] != 0).any(axis=1)
    values, sizes = values[is_tested], sizes_wh[is_tested]
    frames = sizes[:, :, None] if other_sizes_wh is None else np.dstack([sizes, other_sizes_wh[is_tested]])
    count = len(values)
    if not count:
        return FormatChoice(stated, stated, 0, 0)
    failures = _failures(values, frames, stated, _FAR)
    is_swapped_often = count >= _ENOUGH or failures.is_swapped.mean() > _MOST  # a few are fixed while reading
    is_failing = failures.is_misplaced | (failures.is_swapped & is_swapped_often)
    result = FormatChoice(stated, stated, count, int(is_failing.sum()))
    fraction = float(is_failing.mean())
    is_cornered = fraction <= _CLEAN and _is_cornered(values, frames, stated)
    if fraction < _DOUBT[result.num_failing > 1] and not is_cornered:
        return result
    fits = {f: _failing_fraction(values, frames, f) for f in _others(values, frames, stated)}
    fitting = [f for f, bad in fits.items() if bad <= _CLEAN and (f.is_relative or not is_cornered)]
    fitting = [f for f in fitting if not (f.layout in _UNSWAPPED and _unswapped(f) in fitting)]
    if is_layout_certain and any(f.layout == stated.layout for f in fitting):
        fitting = [f for f in fitting if f.layout == stated.layout]
    if not fitting and failures.is_misplaced.mean() <= _MOST:
        return result
    if fraction > _MOST and len(fitting) == 1:
        chosen = fitting[0]
        rivals = [f for f, bad in fits.items() if f != chosen and bad < _RIVAL and f.layout not in _UNSWAPPED]
        is_named = is_layout_certain and chosen.layout == stated.layout
        if is_named or (not is_layout_certain and count >= _ENOUGH and not rivals):
            return FormatChoice(chosen, stated, count, result.num_failing)
        fitting += rivals
    raise _refusal(source, stated, failures, fitting)


@dataclass(frozen=True)
class _Failures:
    """(N,) boxes that a format makes smaller than 2 pixels, far outside, or inverted."""

    is_tiny: NDArray[np.bool_]
    is_far: NDArray[np.bool_]
    is_swapped: NDArray[np.bool_]

    @property
    def is_misplaced(self) -> NDArray[np.bool_]:
        return self.is_tiny | self.is_far


def _failures(
    values: NDArray[np.float64], frames: NDArray[np.float64], tested: BoxFormat, slack: tuple[float, float]
) -> _Failures:
    corners = tested.to_corners(values, frames[:, :, 0])
    low, high = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])
    if tested.is_relative:
        frames = frames[:, :, :1]
    over = np.maximum(-low[:, :, None], high[:, :, None] - frames)  # (N, 2, S) pixels beyond the edge
    return _Failures(
        is_tiny=np.all(high - low < _TINY, axis=1),
        is_far=np.all(np.any(over > np.maximum(slack[0], slack[1] * frames), axis=1), axis=1),
        is_swapped=np.any(corners[:, :2] > corners[:, 2:], axis=1),
    )


def _failing_fraction(values: NDArray[np.float64], frames: NDArray[np.float64], tested: BoxFormat) -> float:
    failures = _failures(values, frames, tested, _NEAR)
    return float((failures.is_misplaced | failures.is_swapped).mean())


def _others(values: NDArray[np.float64], frames: NDArray[np.float64], stated: BoxFormat) -> list[BoxFormat]:
    """Return formats that the values may have besides the stated one; the stated layout first."""
    largest = float(np.quantile(np.abs(values).max(axis=1), 1 - _CLEAN, method="lower"))
    scales = []
    if largest > 1 + _NEAR[1]:
        scales = [0.0, *(s for s in (100.0, 1000.0) if _is_bounded(values, frames, stated.layout, s))]
    elif (values != np.round(values)).any():
        scales = [1.0]
    layouts = sorted(get_args(Layout), key=lambda layout: layout != stated.layout)
    others = [BoxFormat(layout, s) for s in scales for layout in layouts]
    return [f for f in others if f != stated and not (f.is_relative and f.layout in _UNSWAPPED)]


def _unswapped(swapped: BoxFormat) -> BoxFormat:
    return BoxFormat(_UNSWAPPED[swapped.layout], swapped.scale)


def _is_cornered(values: NDArray[np.float64], frames: NDArray[np.float64], stated: BoxFormat) -> bool:
    """Return whether all boxes in pixels are in one corner of their images, as percent and thousandths would be."""
    return not stated.is_relative and any(_is_bounded(values, frames, stated.layout, s) for s in (100.0, 1000.0))


def _is_bounded(values: NDArray[np.float64], frames: NDArray[np.float64], layout: Layout, scale: float) -> bool:
    """Return whether values fill the range up to `scale` while no box leaves the upper left quarter of its image."""
    if len(values) < _MANY:
        return False
    corners = BoxFormat(layout).to_corners(values, frames[:, :, 0])
    reach = corners[:, 2:].max(axis=0)
    is_filled = bool((reach <= scale * (1 + _NEAR[1])).all() and reach.min() >= _FILLED * scale)
    return is_filled and bool((corners[:, 2:] <= _CORNER * frames[:, :, 0]).all())


def _refusal(source: str, stated: BoxFormat, failures: _Failures, fitting: list[BoxFormat]) -> BoxFormatError:
    counts = {
        "would be smaller than 2 pixels": int(failures.is_tiny.sum()),
        "would reach far outside their image": int(failures.is_far.sum()),
        "would have their corners swapped": int(failures.is_swapped.sum()),
    }
    parts = [f"{count:,} {words}" for words, count in counts.items() if count]
    parts = parts or ["all would lie in the upper left quarter of their image"]
    boxes = pluralize(len(failures.is_tiny), "box", "boxes")
    text = f"`{source}`: of {boxes}, with {stated.description}, {' and '.join(parts)}."
    if fitting:
        text += " Formats that fit: " + "; ".join(f"{f.name} ({f.description})" for f in fitting) + "."
        hint = "choose the right format: " + " or ".join(f"--box-format {f.name}" for f in (*fitting, stated))
    else:
        text += " No other format fits: Maybe the boxes were drawn on images of another size."
        hint = f"export the annotations for these images; --box-format {stated.name} uses them unchanged"
    return BoxFormatError(text, hint, source, stated.name, tuple(f.name for f in fitting))
