"""Validate every box and convert it to absolute pixels of the upright image.

Unambiguous errors are fixed (swapped corners, a box over the edge, an image that was scaled or rotated since);
ambiguous boxes are dropped. Both are reported.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.draft import Draft, DraftBox, DraftImage, LayoutSource
from headstart.data.boxes.formats import BOX_FORMATS, BoxFormat, FormatChoice, choose_format
from headstart.data.boxes.records import Boxes, DetectionSamples
from headstart.data.reading_notes import similar_name_notes
from headstart.errors import DataError
from headstart.messages.numbers import pluralize
from headstart.preprocessing.exif import read_exif
from headstart.preprocessing.image_spec import ImageError, open_image
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import Problem
from headstart.utils.limits import MAX_PIXELS
from headstart.utils.system import available_cores

__all__ = ["ImageSizes", "measure_images", "turn_boxes", "validate_boxes"]

_OVER_EDGE = 1.0  # pixels over the edge caused by counting pixels from 1 or at their centers
_MIN_LEFT = 1.0  # a box clipped to less than this side, pixels, is outside
_MIN_SIDE = 1e-3  # a box thinner than this, pixels, has no area in single precision
_MIN_PIXEL = 1.0  # pixels; a box with both sides below it is not an object but a misread unit or layout
_FRACTION_SLACK = 1e-3  # fractions this far outside [0, 1] are rounding errors
_SAME_SHAPE = 0.01  # relative difference of the two sides' scales up to which an image was only scaled


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """Sizes of an image in pixels, as stored and upright, with the EXIF orientation between them."""

    stored_hw: tuple[int, int]
    upright_hw: tuple[int, int]
    orientation: int


def measure_images(paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> list[ImageSizes | ImageError]:
    """Read sizes of images from their headers, in threads; nothing is decoded."""

    def one(path: str) -> ImageSizes | ImageError:
        try:
            with open_image(path, max_pixels) as image:
                stored = (image.height, image.width)
                orientation = read_exif(image).orientation
        except ImageError as error:
            return error
        return ImageSizes(stored, stored[::-1] if orientation > 4 else stored, orientation)

    with ThreadPoolExecutor(min(8, available_cores())) as pool:
        return list(pool.map(one, paths))


def validate_boxes(draft: Draft, *, max_pixels: int = MAX_PIXELS, box_format: str | None = None) -> DetectionSamples:
    """Validate all boxes of a draft.

    Args:
        draft: The annotations as read.
        max_pixels: Larger images are refused.
        box_format: One of `BOX_FORMATS` for all boxes, whatever their files state; None decides by the values.

    Returns:
        The images sorted by name; `problems` lists everything unusual, fixed or not.

    Raises:
        BoxFormatError: The boxes of a file do not fit its stated format, and no other one is certain.
        DataError: No image is left, or no box.
    """
    problems = list(draft.problems)
    drafted = sorted(draft.images, key=lambda p: (p.file.name, p.split))
    sizes = measure_images([p.file.path for p in drafted], max_pixels)
    formats, assumed = _choose_formats(drafted, sizes, box_format)
    kept_images: list[tuple[DraftImage, ImageSizes, NDArray[np.float64], list[str], list[bool]]] = []
    for image, size in zip(drafted, sizes, strict=True):
        if isinstance(size, ImageError):
            problems.append(Problem(image.file.name, "unreadable-image", size.detail))
            continue
        with np.errstate(over="ignore", invalid="ignore"):  # overflowing numbers become infinite and are reported
            boxes, placed = _to_upright(image, size, formats, problems)
        if placed is not None:
            kept_images.append((image, size, *_check_boxes(image, boxes, size.upright_hw, placed, problems)))
    used = Counter(label for _, _, _, labels, _ in kept_images for label in labels)
    if not kept_images or not used:
        _refuse_empty(draft, kept_images, problems)
    declared = list(dict.fromkeys(draft.class_names))
    names = [n for n in declared if n in used] + sorted(set(used) - set(declared))
    notes = [*assumed, *similar_name_notes(names), *draft.notes]
    for name in declared:
        if name not in used:
            problems.append(Problem(name, "unused-class", "declared class without boxes; it is dropped"))
    ids = {name: i for i, name in enumerate(names)}
    samples = DetectionSamples(
        names=tuple(p.file.name for p, *_ in kept_images),
        paths=tuple(Path(p.file.path) for p, *_ in kept_images),
        boxes=tuple(Boxes.of(xyxy, [ids[n] for n in labels], crowd) for _, _, xyxy, labels, crowd in kept_images),
        sizes_hw=np.array([s.upright_hw for _, s, *_ in kept_images], dtype=np.int64).reshape(-1, 2),
        class_names=tuple(names),
        split=tuple(p.split for p, *_ in kept_images),
        group=tuple(p.group for p, *_ in kept_images),
        layout=draft.layout,
        notes=tuple(notes),
        root=Path(draft.root),
        problems=tuple(problems),
        box_formats=tuple(sorted({chosen.name for chosen in formats.values()})),
    )
    return samples


def turn_boxes(xyxy: NDArray[np.float64], orientation: int, stored_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Map boxes from stored pixels to the upright image.

    Args:
        xyxy: (M, 4) pixels of the image as stored.
        orientation: EXIF tag 0x0112, 1 to 8 (CIPA DC-008-2012, 4.6.4).
        stored_hw: Height and width as stored.
    """
    height, width = stored_hw
    x, y = xyxy[:, ::2], xyxy[:, 1::2]  # (M, 2) each
    turned = {
        1: (x, y),
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }[orientation]
    left, right = np.sort(turned[0], axis=1).T
    top, bottom = np.sort(turned[1], axis=1).T
    return np.stack([left, top, right, bottom], axis=1)


_Key = tuple[str, BoxFormat, LayoutSource]  # source of the boxes, stated format, source of its layout


def _choose_formats(
    images: Sequence[DraftImage],
    sizes: Sequence[ImageSizes | ImageError],
    box_format: str | None,
) -> tuple[dict[_Key, BoxFormat], list[ReadingNote]]:
    """Detect the box format of each source from all its boxes, and note assumptions.

    Raises:
        BoxFormatError: No single format fits.
    """
    rows: dict[_Key, list[tuple[DraftBox, DraftImage, ImageSizes]]] = defaultdict(list)
    for image, size in zip(images, sizes, strict=True):
        if not isinstance(size, ImageError):
            for box in image.boxes:
                rows[image.source, box.format, box.layout_source].append((box, image, size))
    chosen: dict[_Key, BoxFormat] = {}
    notes = []
    for key, source_boxes in rows.items():
        source, stated, layout_source = key
        if box_format is not None:
            forced = BOX_FORMATS[box_format]
            chosen[key] = BoxFormat("xyxy", forced.scale) if layout_source == "outline" else forced
            continue
        others = [(p.stated_hw or s.upright_hw, s.stored_hw) for _, p, s in source_boxes]
        choice = choose_format(
            np.array([box.values for box, *_ in source_boxes], dtype=np.float64),
            np.array([s.upright_hw[::-1] for *_, s in source_boxes], dtype=np.float64),
            stated,
            source=source or source_boxes[0][1].annotation,
            is_layout_certain=layout_source != "definition",
            other_sizes_wh=np.array(others, dtype=np.float64).transpose(0, 2, 1)[:, ::-1],
        )
        chosen[key] = choice.format
        if choice.is_assumed:
            notes.append(_assumption(source or source_boxes[0][1].annotation, choice))
    return chosen, notes


def _assumption(name: str, choice: FormatChoice) -> ReadingNote:
    evidence = {
        "file": name,
        "stated": choice.stated.name,
        "stated_description": choice.stated.description,
        "used": choice.format.name,
        "used_description": choice.format.description,
        "num_failing": choice.num_failing,
    }
    return ReadingNote(ReadingKind.BOX_FORMAT_ASSUMED, choice.num_boxes, (name,), evidence)


def _to_upright(
    image: DraftImage, size: ImageSizes, formats: Mapping[_Key, BoxFormat], problems: list[Problem]
) -> tuple[list[DraftBox], NDArray[np.float64] | None]:
    """Return the usable boxes and their (M, 4) corners in pixels of the upright image.

    The corners are None if the image cannot be used.
    """
    width_height = np.array([size.upright_hw[::-1]], dtype=np.float64)
    boxes: list[DraftBox] = []
    rows: list[NDArray[np.float64]] = []
    in_pixels: list[bool] = []
    for box in image.boxes:
        used = formats[image.source, box.format, box.layout_source]
        values = np.array([box.values], dtype=np.float64)
        slack = _FRACTION_SLACK * used.scale
        is_beyond = (values < -slack).any() or (values > used.scale + slack).any()
        if used.is_relative and box.format.is_relative and is_beyond and np.isfinite(values).all():
            detail = f"{box.where} has values outside [0, {used.scale:g}]; expected {used.description}"
            problems.append(Problem(image.annotation, "not-a-share", detail))
            continue
        boxes.append(box)
        rows.append(used.to_corners(values, width_height))
        in_pixels.append(not used.is_relative)
    corners = np.concatenate(rows) if rows else np.zeros((0, 4))
    is_pixel = np.array(in_pixels, dtype=bool)
    if boxes and not is_pixel.any():
        if size.orientation > 1:
            detail = "rotated by EXIF; its boxes count as drawn on the upright image"
            problems.append(Problem(image.file.name, "rotated", detail))
        return boxes, corners
    placed = _pixels_to_upright(image, size, corners[is_pixel], problems)
    if placed is None:
        return boxes, None
    corners[is_pixel] = placed
    return boxes, corners


def _pixels_to_upright(
    image: DraftImage, size: ImageSizes, xyxy: NDArray[np.float64], problems: list[Problem]
) -> NDArray[np.float64] | None:
    """Return (M, 4) corners in pixels of the upright image, from pixels of the image as it was annotated.

    Returns None if the image cannot be used.
    """
    height, width = size.upright_hw
    name = image.file.name
    stated = image.stated_hw
    if stated is None or stated == size.upright_hw:
        if size.orientation > 1 and len(xyxy):
            problems.append(Problem(name, "rotated", "rotated by EXIF; its boxes count as drawn on the upright image"))
        return xyxy
    if stated == size.stored_hw:
        problems.append(Problem(name, "rotated", "rotated by EXIF, and its boxes with it"))
        return turn_boxes(np.sort(xyxy.reshape(-1, 2, 2), axis=1).reshape(-1, 4), size.orientation, size.stored_hw)
    scale_y, scale_x = height / stated[0], width / stated[1]
    size_text = f"the annotation states {stated[1]} x {stated[0]}, the image has {width} x {height} pixels"
    if abs(scale_x / scale_y - 1) <= _SAME_SHAPE:
        problems.append(Problem(name, "scaled", f"{size_text}: the boxes were scaled with it"))
        return np.multiply(xyxy, np.array([scale_x, scale_y, scale_x, scale_y], dtype=np.float64))
    inside = np.isfinite(xyxy) & (xyxy >= -_OVER_EDGE) & (xyxy <= np.array([width, height] * 2) + _OVER_EDGE)
    if inside.all():
        problems.append(Problem(name, "size-differs", f"{size_text}: the boxes fit and are used unchanged"))
        return xyxy
    problems.append(Problem(name, "other-image", f"{size_text}, and boxes are outside: the image is skipped"))
    return None


def _check_boxes(
    image: DraftImage,
    boxes: Sequence[DraftBox],
    size_hw: tuple[int, int],
    xyxy: NDArray[np.float64],
    problems: list[Problem],
) -> tuple[NDArray[np.float64], list[str], list[bool]]:
    """Return the usable boxes, clipped to the image, without repetitions."""
    height, width = size_hw
    name = image.file.name
    rows: list[NDArray[np.float64]] = []
    labels: list[str] = []
    crowds: list[bool] = []
    labels_of: dict[tuple[float, ...], set[str]] = {}
    for box, corners in zip(boxes, xyxy, strict=True):
        shown = f"{box.where} (`{box.label}`)"
        if not np.isfinite(corners).all():
            problems.append(Problem(name, "not-a-number", f"{shown} holds NaN or infinity"))
            continue
        x0, y0, x1, y1 = (float(v) for v in corners)
        if x0 > x1 or y0 > y1:
            problems.append(Problem(name, "swapped", f"{shown} has its corners swapped; fixed"))
            x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        if x1 - x0 < _MIN_SIDE or y1 - y0 < _MIN_SIDE:
            problems.append(Problem(name, "no-area", f"{shown} has no area ({_numbers(x0, y0, x1, y1)})"))
            continue
        if max(x1 - x0, y1 - y0) < _MIN_PIXEL:
            detail = f"{shown} is smaller than a pixel ({_numbers(x0, y0, x1, y1)}); fractions instead of pixels?"
            problems.append(Problem(name, "under-a-pixel", detail))
            continue
        cut = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        over = max(cut[0] - x0, cut[1] - y0, x1 - cut[2], y1 - cut[3])
        if cut != (x0, y0, x1, y1):
            needed = (min(_MIN_LEFT, (x1 - x0) / 2), min(_MIN_LEFT, (y1 - y0) / 2))  # a small box may be inside
            if cut[2] - cut[0] < needed[0] or cut[3] - cut[1] < needed[1]:
                detail = f"{shown} is outside the {width} x {height} pixels ({_numbers(x0, y0, x1, y1)})"
                problems.append(Problem(name, "outside", detail))
                continue
            if over > _OVER_EDGE:
                problems.append(Problem(name, "over-edge", f"{shown} reached {over:.4g} pixels over the edge; clipped"))
        if np.float32(cut[2]) <= np.float32(cut[0]) or np.float32(cut[3]) <= np.float32(cut[1]):
            problems.append(Problem(name, "no-area", f"{shown} has no area ({_numbers(x0, y0, x1, y1)})"))
            continue
        key = tuple(round(v, 1) for v in cut)
        before = labels_of.setdefault(key, set())
        if box.label in before:
            problems.append(Problem(name, "duplicate", f"{shown} is repeated; one was kept"))
            continue
        if before:
            problems.append(Problem(name, "two-classes", f"{shown} is also a `{min(before)}`; both were kept"))
        before.add(box.label)
        rows.append(np.array(cut))
        labels.append(box.label)
        crowds.append(box.is_crowd)
    return np.array(rows).reshape(-1, 4), labels, crowds


def _numbers(*values: float) -> str:
    return ", ".join(f"{v:g}" for v in values)


def _refuse_empty(draft: Draft, kept_images: Sequence[object], problems: Sequence[Problem]) -> None:
    """Raise if nothing is left.

    Raises:
        DataError: Always.
    """
    shown = "; ".join(f"`{p.name}`: {p.detail}" for p in problems[:10])
    more = f" ... ({len(problems)} in all)" if len(problems) > 10 else ""
    if not kept_images:
        raise DataError(
            f"no annotated image ({draft.layout}) can be used" + (f": {shown}{more}." if shown else "."),
            hint="put annotations and images into one folder, under the same names",
        )
    raise DataError(
        f"{pluralize(len(kept_images), 'image')} read ({draft.layout}), but none has a box"
        + (f" that can be used: {shown}{more}." if shown else "."),
        hint="draw boxes around the objects first; an image without objects is allowed",
    )
