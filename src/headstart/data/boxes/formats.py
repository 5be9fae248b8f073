"""Detect the box format of an annotation file: the meaning of the four numbers of a box.

Files often use another box format than their annotation format specifies: fractions of the image size instead of
pixels, corners instead of width and height, y before x. They parse without an error, but their boxes are wrong.
`choose_format` tests the stated format on all boxes of a file. If it does not fit, another format is used only if it is
the only one that fits; otherwise the file is rejected with a list of the formats that fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from headstart.errors import BoxFormatError, UsageError
from headstart.messages.numbers import pluralize

__all__ = ["BOX_FORMATS", "BoxFormat", "FormatChoice", "Layout", "Requested", "choose_format", "parse_requested"]

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

_UPRIGHT: tuple[Layout, ...] = ("xyxy", "xywh", "cxcywh")
_SCALES = (100.0, 1000.0)
_UNSWAPPED: dict[str, Layout] = {"yxyx": "xyxy", "yxhw": "xywh"}

_MIN_SIDE = 2.0  # pixels; a box with both sides below it is not an annotated object
_FAR = (2.0, 0.05)  # tolerance in pixels and as a fraction of the side; a box beyond both is far outside the image
_NEAR = (1.5, 0.01)  # stricter tolerance for formats other than the stated one
_MAX_FAILING = 0.02  # maximum fraction of failing boxes of a format that fits
_MIN_FAILING = (0.1, 0.04)  # fraction of failing boxes from which other formats are tested: one box, several boxes
_MIN_RIVAL_FAILING = 0.1  # minimum fraction of failing boxes of all other formats if one is used
_MAX_STATED_FAILING = 0.5  # fraction of failing boxes above which the stated format is replaced
_OVER_SLACK = 0.1  # more boxes than that may reach over the edge by the stricter tolerance
_MIN_BOXES = 8  # with fewer boxes the layout is not replaced, only the unit if columns or tags define the layout
_MIN_BOXES_SCALED = 6  # with fewer boxes percent and thousandths are not tested
_CORNER = 0.5  # percent and thousandths are tested if all boxes are within this fraction of the image
_FILLED = 0.6  # ... and the largest value reaches this fraction of 100 or 1000
_NEARLY_FILLED = 0.85  # ... or this fraction, with decimals, where pixels would be this unlikely to stay below 100
_UNLIKELY = 1e-3
_ALL_FILLED = 0.95  # ... or this fraction without decimals
_MAX_ROUNDING = 1.0  # pixels; fractions that are rounded more coarsely than that are refused
_MAX_DIGITS = 6


@dataclass(frozen=True, slots=True)
class BoxFormat:
    """Meaning of the four numbers of a box.

    Attributes:
        layout: Order of the numbers.
        scale: Value that represents the full side of the image: 1 (fractions), 100 (percent), 1000; 0 for pixels.
    """

    layout: Layout = "xyxy"
    scale: float = 0.0

    @property
    def is_relative(self) -> bool:
        """Return whether values are relative to the image size rather than pixels."""
        return self.scale > 0

    @property
    def name(self) -> str:
        """Return the key in `BOX_FORMATS`, e.g. `rel_xyxy`."""
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
"""All formats by name: the layout, prefixed with `rel_`, `percent_` or `permille_` for relative units."""


@dataclass(frozen=True, slots=True)
class Requested:
    """What the user says about all boxes; None where the values decide.

    Attributes:
        format: Meaning of the four numbers.
        is_stored: Whether boxes refer to the pixels as stored, without the EXIF orientation.
    """

    format: BoxFormat | None = None
    is_stored: bool | None = None


def parse_requested(text: str | None) -> Requested:
    """Parse `--box-format`: a name in `BOX_FORMATS`, `stored` or `upright`, or both as `stored_rel_xyxy`.

    Raises:
        UsageError: The format is unknown.
    """
    if text is None:
        return Requested()
    frame, _, rest = text.partition("_")
    is_stored = {"stored": True, "upright": False}.get(frame)
    name = text if is_stored is None else rest
    if name and name not in BOX_FORMATS:
        known = ", ".join(("stored", "upright", *BOX_FORMATS))
        raise UsageError(f"unknown box format `{text}`.", hint=f"one of: {known}")
    return Requested(BOX_FORMATS[name] if name else None, is_stored)


@dataclass(frozen=True, slots=True)
class FormatChoice:
    """The box format chosen for an annotation file.

    Attributes:
        format: Format that is used.
        stated: Format stated by the file.
        num_boxes: Number of boxes tested.
        num_failing: Boxes that are tiny, far outside the image or have swapped corners in the stated format.
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
    """Choose the box format of an annotation file.

    Args:
        values: (N, 4) numbers as in the file; rows with NaN or infinity are ignored.
        sizes_wh: (N, 2) width and height of the image of each box, pixels.
        stated: Format stated by the file.
        source: Name of the annotation file, for error messages.
        is_layout_certain: Whether columns or tags define the layout, so that only the unit is uncertain.
        other_sizes_wh: (N, 2, S) other possible image sizes (as stated by the file, as stored), pixels.

    Returns:
        The stated format if it fits, else the only other format that fits.

    Raises:
        BoxFormatError: The stated format does not fit, and either none or several of the other formats do; or relative
            values are rounded to more than a pixel.
    """
    is_tested = np.isfinite(values).all(axis=1) & (values[:, 2:] != 0).any(axis=1)
    values, sizes = values[is_tested], sizes_wh[is_tested]
    frames = sizes[:, :, None] if other_sizes_wh is None else np.dstack([sizes, other_sizes_wh[is_tested]])
    if not len(values):
        return FormatChoice(stated, stated, 0, 0)
    choice = _choose(values, frames, stated, source, is_layout_certain)
    error = _rounding_error(values, sizes, choice.format)
    if error > _MAX_ROUNDING:
        name = choice.format.name
        raise BoxFormatError(
            f"`{source}`: {pluralize(len(values), 'box', 'boxes')} in {_UNITS[choice.format.scale]} are rounded: "
            f"edges are up to {error:.1f} pixels off.",
            f"export the annotations with more decimals; --box-format {name} uses them as they are",
            source,
            stated.name,
            (name,),
        )
    return choice


def _choose(
    values: NDArray[np.float64],
    frames: NDArray[np.float64],
    stated: BoxFormat,
    source: str,
    is_layout_certain: bool,
) -> FormatChoice:
    """Return the stated format if it fits, else the only other format that fits.

    Args:
        values: (N, 4) finite numbers as in the file, N > 0.
        frames: (N, 2, S) possible image sizes, pixels; that of the image first.
        stated, source, is_layout_certain: As in `choose_format`.

    Raises:
        BoxFormatError: No single format fits.
    """
    count = len(values)
    failures = _failures(values, frames, stated, _FAR)
    # A few swapped corners are fixed by the reader.
    is_swapped_often = count >= _MIN_BOXES or failures.is_swapped.mean() > _MAX_STATED_FAILING
    is_failing = failures.is_misplaced | (failures.is_swapped & is_swapped_often)
    result = FormatChoice(stated, stated, count, int(is_failing.sum()))
    fraction = float(is_failing.mean())
    is_in_corner = _is_in_corner(values, frames, stated)
    is_confined = is_in_corner and fraction <= _MAX_FAILING
    if fraction < _MIN_FAILING[result.num_failing > 1] and not is_in_corner:
        return result
    is_over = _failures(values, frames, stated, _NEAR).is_misplaced
    fits = {f: _failing_fraction(values, frames, f) for f in _others(values, frames, stated)}
    fitting = [f for f, bad in fits.items() if bad <= _MAX_FAILING and (f.is_relative or not is_confined)]
    fitting = [f for f in fitting if not (f.layout in _UNSWAPPED and _unswapped(f) in fitting)]
    if is_layout_certain and any(f.layout == stated.layout for f in fitting):
        fitting = [f for f in fitting if f.layout == stated.layout]
    is_mixed = count >= _MIN_BOXES and _MAX_STATED_FAILING < failures.is_swapped.mean() < 1 - _MAX_FAILING
    is_usable = max(failures.is_misplaced.mean(), is_over.mean() - _OVER_SLACK) <= _MAX_STATED_FAILING
    if not fitting and is_usable and not is_mixed:
        return result
    if fraction > _MAX_STATED_FAILING and len(fitting) == 1:
        chosen = fitting[0]
        rivals = [f for f, bad in fits.items() if f != chosen and bad < _MIN_RIVAL_FAILING]
        rivals = [f for f in rivals if f.layout not in _UNSWAPPED]
        has_certain_layout = is_layout_certain and chosen.layout == stated.layout
        if has_certain_layout or (not is_layout_certain and count >= _MIN_BOXES and not rivals):
            return FormatChoice(chosen, stated, count, result.num_failing)
        fitting += rivals
    raise _refusal(source, stated, failures, fitting)


@dataclass(frozen=True)
class _Failures:
    """(N,) masks of boxes that are smaller than 2 pixels, far outside the image, or have swapped corners."""

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
        is_tiny=np.all(high - low < _MIN_SIDE, axis=1),
        is_far=np.all(np.any(over > np.maximum(slack[0], slack[1] * frames), axis=1), axis=1),
        is_swapped=np.any(corners[:, :2] > corners[:, 2:], axis=1),
    )


def _failing_fraction(values: NDArray[np.float64], frames: NDArray[np.float64], tested: BoxFormat) -> float:
    failures = _failures(values, frames, tested, _NEAR)
    return float((failures.is_misplaced | failures.is_swapped).mean())


def _others(values: NDArray[np.float64], frames: NDArray[np.float64], stated: BoxFormat) -> list[BoxFormat]:
    """Return the other formats that are possible for the range of the values; the stated layout first."""
    largest = float(np.quantile(np.abs(values).max(axis=1), 1 - _MAX_FAILING, method="lower"))
    layouts = sorted(get_args(Layout), key=lambda layout: layout != stated.layout)
    if largest > 1 + _NEAR[1]:
        others = [BoxFormat(layout) for layout in layouts]
        others += [
            BoxFormat(layout, s) for s in _SCALES for layout in layouts if _is_bounded(values, frames, layout, s)
        ]
    elif (values != np.round(values)).any():
        others = [BoxFormat(layout, 1.0) for layout in layouts]
    else:
        others = []
    return [f for f in others if f != stated and not (f.is_relative and f.layout in _UNSWAPPED)]


def _unswapped(swapped: BoxFormat) -> BoxFormat:
    return BoxFormat(_UNSWAPPED[swapped.layout], swapped.scale)


def _is_in_corner(values: NDArray[np.float64], frames: NDArray[np.float64], stated: BoxFormat) -> bool:
    """Return whether all boxes, read as pixels, are in the upper left corner, as percent or thousandths would be."""
    layouts = (stated.layout, *(layout for layout in _UPRIGHT if layout != stated.layout))
    return not stated.is_relative and any(_is_bounded(values, frames, x, s) for s in _SCALES for x in layouts)


def _is_bounded(values: NDArray[np.float64], frames: NDArray[np.float64], layout: Layout, scale: float) -> bool:
    """Return whether values fill the range up to `scale` and all boxes are in the upper left quarter of their image."""
    if len(values) < _MIN_BOXES_SCALED:
        return False
    corners = BoxFormat(layout).to_corners(values, frames[:, :, 0])
    if (corners[:, :2] > corners[:, 2:]).mean() > _MAX_FAILING or corners[:, :2].min() < -_NEAR[1] * scale:
        return False
    reach = corners[:, 2:].max(axis=0)
    if (reach > scale * (1 + _NEAR[1])).any() or reach.min() < _FILLED * scale:
        return False
    if (corners[:, 2:] <= _CORNER * frames[:, :, 0]).all():
        return True
    has_decimals = (values != np.round(values)).mean() > _CORNER
    log_probability = float(np.log(np.minimum(scale / frames[:, :, 0], 1)).sum())  # of pixels spread over the images
    filled = _NEARLY_FILLED if has_decimals else _ALL_FILLED
    return bool(reach.min() >= filled * scale and log_probability < np.log(_UNLIKELY))


def _rounding_error(values: NDArray[np.float64], sizes_wh: NDArray[np.float64], used: BoxFormat) -> float:
    """Return the largest error of an edge, in pixels, from the rounding of relative values; 0 with too few boxes."""
    if not used.is_relative or len(np.unique(values, axis=0)) < _MIN_BOXES:
        return 0.0
    digits = next((d for d in range(_MAX_DIGITS) if np.allclose(values, np.round(values, d), 0, 1e-9)), _MAX_DIGITS)
    parts = 1.5 if used.layout == "cxcywh" else 2.0 if used.layout in ("xywh", "yxhw") else 1.0  # rounded summands
    return float(0.5 * parts * 10.0**-digits * sizes_wh.max() / used.scale)


def _refusal(source: str, stated: BoxFormat, failures: _Failures, fitting: list[BoxFormat]) -> BoxFormatError:
    counts = {
        "would be smaller than 2 pixels": int(failures.is_tiny.sum()),
        "would reach far outside their image": int(failures.is_far.sum()),
        "would have swapped corners": int(failures.is_swapped.sum()),
    }
    parts = [f"{count:,} {words}" for words, count in counts.items() if count]
    parts = parts or ["all would be in the upper left quarter of their image"]
    boxes = pluralize(len(failures.is_tiny), "box", "boxes")
    text = f"`{source}`: of {boxes}, read as {stated.description}, {' and '.join(parts)}."
    if fitting:
        text += " Formats that fit: " + "; ".join(f"{f.name} ({f.description})" for f in fitting) + "."
        hint = "select the format: " + " or ".join(f"--box-format {f.name}" for f in (*fitting, stated))
    else:
        text += " No other format fits; the boxes may refer to images of another size."
        hint = f"export the annotations for these images; --box-format {stated.name} uses them unchanged"
    return BoxFormatError(text, hint, source, stated.name, tuple(f.name for f in fitting))
