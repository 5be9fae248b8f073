"""Validate every box and convert it to absolute pixels of the upright image.

Unambiguous errors are fixed (swapped corners, a box over the edge, an image that was scaled or rotated since);
ambiguous boxes are dropped. Both are reported.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.draft import Draft, DraftBox, DraftImage, LayoutSource, class_label, merged_spellings
from headstart.data.boxes.formats import BoxFormat, FormatChoice, Requested, choose_format
from headstart.data.boxes.image_frames import ImageSizes, decide_stored, measure_images, turn_boxes
from headstart.data.boxes.records import KEPT_PROBLEMS, Boxes, DetectionSamples
from headstart.data.reading_notes import similar_name_notes
from headstart.errors import DataError
from headstart.messages.numbers import pluralize
from headstart.preprocessing.image_spec import ImageError
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import Problem
from headstart.utils.limits import MAX_PIXELS

__all__ = ["validate_boxes"]

_EXAMPLES = 5

_OVER_EDGE = 1.0  # pixels over the edge caused by counting pixels from 1 or at their centers
_MIN_LEFT = 1.0  # a box clipped to less than this side, pixels, is outside
_MIN_SIDE = 1e-3  # a box thinner than this, pixels, has no area in single precision
_MIN_PIXEL = 1.0  # pixels; a box with both sides below it is not an object but a misread unit or layout
_FRACTION_SLACK = 1e-3  # fractions this far outside [0, 1] are rounding errors
_SAME_SHAPE = 0.01  # relative difference of the two sides' scales up to which an image was only scaled


def validate_boxes(
    draft: Draft, *, max_pixels: int = MAX_PIXELS, requested: Requested | None = None
) -> DetectionSamples:
    """Validate all boxes of a draft.

    Args:
        draft: The annotations as read.
        max_pixels: Larger images are refused.
        requested: The box format and orientation set by the user; what it leaves open is decided by the values.

    Returns:
        The images sorted by name; `problems` lists everything unusual, fixed or not.

    Raises:
        BoxFormatError: The boxes of a file do not fit its stated format, and no other one is certain.
        DataError: No image is left, or no box.
    """
    requested = requested or Requested()
    problems = list(draft.problems)
    drafted = sorted(draft.images, key=lambda p: (p.file.name, p.split))
    sizes = measure_images([p.file.path for p in drafted], max_pixels)
    formats, notes = _choose_formats(drafted, sizes, requested.format)
    in_pixels = [_pixel_boxes(image, formats) for image in drafted]
    is_stored = decide_stored(drafted, sizes, in_pixels, requested.is_stored, problems)
    kept_images: list[_Kept] = []
    for image, size, stored in zip(drafted, sizes, is_stored, strict=True):
        if isinstance(size, ImageError):
            problems.append(Problem(image.file.name, "unreadable-image", size.detail))
            continue
        with np.errstate(over="ignore", invalid="ignore"):  # overflowing numbers become infinite and are reported
            boxes, placed = _to_upright(image, size, formats, problems, stored)
        if placed is not None:
            kept_images.append(_Kept(image, size, *_check_boxes(image, boxes, size.upright_hw, placed, problems)))
    kept_images = _without_lost(kept_images, problems)
    names, more = _class_names(draft, kept_images, problems)
    return _samples(draft, kept_images, names, [*notes, *more, *draft.notes], problems, formats)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A usable image with its boxes: (M, 4) upright corners, labels, reasons to ignore, stated areas or NaN."""

    image: DraftImage
    size: ImageSizes
    xyxy: NDArray[np.float64]
    labels: list[str]
    ignored: list[str]
    areas: list[float]


def _without_lost(kept_images: Sequence[_Kept], problems: list[Problem]) -> list[_Kept]:
    """Return the images without those that lost all their boxes, which would be learned as images without objects."""
    if not any(kept.labels for kept in kept_images):
        return [*kept_images]  # the error lists the causes
    uses = Counter(kept.image.annotation for kept in kept_images)
    losses = {problem.name for problem in problems if problem.kind not in KEPT_PROBLEMS}
    left = []
    for kept in kept_images:
        names = {kept.image.file.name, *([kept.image.annotation] if uses[kept.image.annotation] == 1 else [])}
        if kept.labels or not (names & losses or kept.image.num_lost):
            left.append(kept)
        else:
            detail = "none of its annotations can be used; the image is skipped"
            problems.append(Problem(kept.image.file.name, "no-usable-box", detail))
    return left


def _class_names(
    draft: Draft, kept_images: Sequence[_Kept], problems: list[Problem]
) -> tuple[list[str], list[ReadingNote]]:
    """Return the classes with boxes, declared ones first, and notes about classes and ignored objects.

    Raises:
        DataError: No image or box is left.
    """
    pairs = [pair for kept in kept_images for pair in zip(kept.labels, kept.ignored, strict=True)]
    used = Counter(label for label, ignored in pairs if not ignored)
    if not kept_images or not used:
        _refuse_empty(draft, kept_images, problems)
    names = [n for n in draft.classes if n in used] + sorted(set(used) - set(draft.classes))
    notes = similar_name_notes(names)
    merged = {label: found for label, found in merged_spellings(draft.images).items() if label in used}
    if merged:
        groups = [[*found] for found in merged.values()]
        examples = tuple(found[0] for found in groups[:_EXAMPLES])
        notes.append(ReadingNote(ReadingKind.CLASSES_MERGED, len(groups), examples, {"groups": groups[:_EXAMPLES]}))
    reasons = Counter(ignored for _, ignored in pairs if ignored)
    if reasons:
        evidence = {"reasons": dict(reasons.most_common())}
        notes.append(ReadingNote(ReadingKind.OBJECTS_IGNORED, sum(reasons.values()), (), evidence))
    for name in draft.classes:
        if name not in used:
            problems.append(Problem(name, "unused-class", "declared class without boxes; its id is kept"))
    return names, notes


def _samples(
    draft: Draft,
    kept_images: Sequence[_Kept],
    names: Sequence[str],
    notes: Sequence[ReadingNote],
    problems: Sequence[Problem],
    formats: Mapping[_Key, BoxFormat],
) -> DetectionSamples:
    """Return the samples; a split of training images only is none."""
    ids = {name: i for i, name in enumerate(names)}
    splits = [kept.image.split for kept in kept_images]
    notes = [*notes]
    if set(splits) == {"train"}:
        splits = [""] * len(splits)
        notes.append(ReadingNote(ReadingKind.TRAIN_SPLIT_ONLY, len(splits)))
    boxes = []
    for kept in kept_images:
        rows = [  # an ignored region of no class counts for all classes
            (i, class_id)
            for i, label in enumerate(kept.labels)
            for class_id in ([ids[label]] if label in ids else range(len(names)))
        ]
        which, class_ids = [i for i, _ in rows], [k for _, k in rows]
        is_ignored, areas = [bool(kept.ignored[i]) for i in which], [kept.areas[i] for i in which]
        boxes.append(Boxes.of(kept.xyxy[which], class_ids, is_ignored, areas))
    return DetectionSamples(
        names=tuple(kept.image.file.name for kept in kept_images),
        paths=tuple(Path(kept.image.file.path) for kept in kept_images),
        boxes=tuple(boxes),
        sizes_hw=np.array([kept.size.upright_hw for kept in kept_images], dtype=np.int64).reshape(-1, 2),
        class_names=tuple(names),
        split=tuple(splits),
        group=tuple(kept.image.group for kept in kept_images),
        layout=draft.layout,
        notes=tuple(notes),
        root=Path(draft.root),
        problems=tuple(problems),
        box_formats=tuple(sorted({chosen.name for chosen in formats.values()})),
        declared=tuple(draft.classes.items()),
    )


_Key = tuple[str, BoxFormat, LayoutSource]  # source of the boxes, stated format, source of its layout


def _choose_formats(
    images: Sequence[DraftImage],
    sizes: Sequence[ImageSizes | ImageError],
    forced: BoxFormat | None,
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
        if forced is not None:
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


def _pixel_boxes(image: DraftImage, formats: Mapping[_Key, BoxFormat]) -> NDArray[np.float64]:
    """Return (M, 4) corners of the boxes of an image that are in pixels."""
    rows = [
        used.to_corners(np.array([box.values], dtype=np.float64), np.ones((1, 2)))
        for box in image.boxes
        if (used := formats.get((image.source, box.format, box.layout_source))) is not None and not used.is_relative
    ]
    return np.concatenate(rows) if rows else np.zeros((0, 4))


def _to_upright(
    image: DraftImage,
    size: ImageSizes,
    formats: Mapping[_Key, BoxFormat],
    problems: list[Problem],
    is_stored: bool,
) -> tuple[list[DraftBox], NDArray[np.float64] | None]:
    """Return the usable boxes and their (M, 4) corners in pixels of the upright image.

    The corners are None if the image cannot be used.
    """
    frame_hw = size.stored_hw if is_stored else size.upright_hw
    width_height = np.array([frame_hw[::-1]], dtype=np.float64)
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
        boxes.append(replace(box, area=math.nan) if used.is_relative and not math.isnan(box.area) else box)
        rows.append(used.to_corners(values, width_height))
        in_pixels.append(not used.is_relative)
    corners = np.concatenate(rows) if rows else np.zeros((0, 4))
    is_pixel = np.array(in_pixels, dtype=bool)
    stated = image.stated_hw
    if is_pixel.any() and stated is not None and stated != frame_hw:
        scaled = _to_image_size(image, frame_hw, corners[is_pixel], problems)
        if scaled is None:
            return boxes, None
        if not np.array_equal(scaled, corners[is_pixel]):
            factor = frame_hw[0] * frame_hw[1] / (stated[0] * stated[1])
            boxes = [replace(box, area=box.area * factor) for box in boxes]
        corners[is_pixel] = scaled
    if size.orientation > 1 and is_stored and boxes:
        corners = turn_boxes(
            np.sort(corners.reshape(-1, 2, 2), axis=1).reshape(-1, 4), size.orientation, size.stored_hw
        )
    return boxes, corners


def _to_image_size(
    image: DraftImage, frame_hw: tuple[int, int], xyxy: NDArray[np.float64], problems: list[Problem]
) -> NDArray[np.float64] | None:
    """Return (M, 4) corners for an image whose size differs from the stated one; None if it cannot be used."""
    height, width = frame_hw
    name, stated = image.file.name, image.stated_hw
    assert stated is not None
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
) -> tuple[NDArray[np.float64], list[str], list[str], list[float]]:
    """Return the usable boxes as in `_Kept`, clipped to the image, without repetitions."""
    height, width = size_hw
    name = image.file.name
    rows: list[NDArray[np.float64]] = []
    labels: list[str] = []
    ignored: list[str] = []
    areas: list[float] = []
    labels_of: dict[tuple[float, ...], set[str]] = {}
    for box, corners in zip(boxes, xyxy, strict=True):
        label = class_label(box.label)
        shown = f"{box.where} (`{label}`)"
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
        if label in before:
            problems.append(Problem(name, "duplicate", f"{shown} is repeated; one was kept"))
            continue
        if before:
            problems.append(Problem(name, "two-classes", f"{shown} is also a `{min(before)}`; both were kept"))
        before.add(label)
        rows.append(np.array(cut))
        labels.append(label)
        ignored.append(box.ignored)
        areas.append(box.area)
    return np.array(rows).reshape(-1, 4), labels, ignored, areas


def _numbers(*values: float) -> str:
    return ", ".join(f"{v:g}" for v in values)


def _refuse_empty(draft: Draft, kept_images: Sequence[object], problems: Sequence[Problem]) -> None:
    """Raise if nothing is left.

    Raises:
        DataError: Always.
    """
    causes = sorted(problems, key=lambda p: p.kind in KEPT_PROBLEMS)  # remarks last
    shown = "; ".join(f"`{p.name}`: {p.detail}" for p in causes[:10])
    more = f" ... ({len(problems)} in all)" if len(problems) > 10 else ""
    if not kept_images:
        raise DataError(
            f"no annotated image ({draft.layout}) can be used" + (f": {shown}{more}." if shown else "."),
            hint="put annotations and images into one folder, under the same names",
        )
    raise DataError(
        f"{pluralize(len(kept_images), 'image')} read ({draft.layout}), but none has a box"
        + (f" that can be used: {shown}{more}." if shown else "."),
        hint="correct these annotations or export them again"
        if causes and causes[0].kind not in KEPT_PROBLEMS
        else "draw boxes around the objects first; an image without objects is allowed",
    )
