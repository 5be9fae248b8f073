"""Draw contact sheets of boxes, to check annotations at a glance.

Images with problems come first, then random images of each class with the boxes of that class in its color and all
others in gray.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.data.boxes.records import DetectionSamples
from headstart.messages.numbers import pluralize, pluralize_is
from headstart.preprocessing.image_spec import ImageError, ImageSpec, read_image
from headstart.quality.box_drawing import color_of, draw_boxes
from headstart.quality.contact_sheet import Tile, draw_sheet
from headstart.types.records import ImagePair

__all__ = ["box_tile", "draw_box_sheet"]

_GRAY = (150, 150, 150)
_MAX_CLASSES = 40
_MAX_ODD = 24
_MAX_PAIRS = 12
_CAPTIONED = 6  # number of boxes up to which each has a caption


def draw_box_sheet(
    samples: DetectionSamples,
    *,
    per_class: int = 6,
    seed: int = 0,
    side: int = 224,
    has_problems: bool = False,
    pairs: Sequence[ImagePair] = (),
    intensity_range: tuple[float, float] | None = None,
) -> Image.Image:
    """Draw one sheet with a row per class.

    Args:
        samples: The images with their boxes.
        per_class: Images per class.
        seed: Random seed.
        side: Tile size in pixels.
        has_problems: Show images with problems first.
        pairs: Duplicates to show at the end.
        intensity_range: Input range of 16-bit and float images.
    """
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, Sequence[Tile]]] = []

    def tile(i: int, caption: str = "", class_id: int | None = None) -> Tile:
        return box_tile(samples, i, side, caption=caption, class_id=class_id, intensity_range=intensity_range)

    if has_problems:
        rows += _odd_rows(samples, per_class, tile)
    inside = [set(b.class_ids.tolist()) for b in samples.boxes]
    for k, name in enumerate(samples.class_names[:_MAX_CLASSES]):
        members = np.array([i for i, ids in enumerate(inside) if k in ids], dtype=np.int64)
        count = sum(int((samples.boxes[i].class_ids == k).sum()) for i in members)
        chosen = np.sort(rng.permutation(members)[:per_class])
        heading = f"{name}: {pluralize(count, 'box', 'boxes')} in {pluralize(len(members), 'image')}"
        rows.append((heading, [tile(int(i), class_id=k) for i in chosen]))
    empty = np.array([i for i, ids in enumerate(inside) if not ids], dtype=np.int64)
    if len(empty):
        chosen = np.sort(rng.permutation(empty)[:per_class])
        rows.append((f"no objects: {pluralize(len(empty), 'image')}", [tile(int(i)) for i in chosen]))
    for pair in pairs[:_MAX_PAIRS]:
        heading = f"duplicates ({pair.kind}, similarity {pair.similarity:.3f})"
        heading += f", leak: {pair.split_a} / {pair.split_b}" if pair.split_a != pair.split_b else ""
        rows.append((heading, [tile(pair.index_a), tile(pair.index_b)]))
    boxes = pluralize(samples.num_boxes, "box", "boxes")
    title = f"Annotations of {pluralize(len(samples), 'image')}, {boxes}, drawn with seed {seed}"
    left = len(samples.class_names) - _MAX_CLASSES
    return draw_sheet(
        rows, title=title + (f"; {pluralize_is(left, 'class', 'classes')} not shown" if left > 0 else ""), side=side
    )


def box_tile(
    samples: DetectionSamples,
    i: int,
    side: int,
    *,
    caption: str = "",
    class_id: int | None = None,
    intensity_range: tuple[float, float] | None = None,
) -> Tile:
    """Draw one image with its boxes, no larger than `side`; an unreadable image is a tile with the reason."""
    boxes = samples.boxes[i]
    caption = caption or samples.names[i].rpartition("/")[2]
    try:
        image, scale = small_image(str(samples.paths[i]), tuple(samples.sizes_hw[i].tolist()), side, intensity_range)
    except ImageError as error:
        return Tile(None, caption, error.detail)
    is_mine = np.ones(len(boxes), dtype=bool) if class_id is None else boxes.class_ids == class_id
    order = np.argsort(is_mine, kind="stable")
    has_names = class_id is None and len(boxes) <= _CAPTIONED
    captions = [samples.class_names[boxes.class_ids[j]] if has_names else "" for j in order]
    colors = [color_of(int(boxes.class_ids[j])) if is_mine[j] else _GRAY for j in order]
    return Tile(draw_boxes(image, boxes.xyxy[order] * scale, captions, colors), caption)


def small_image(
    path: str, size_hw: tuple[int, int], side: int, intensity_range: tuple[float, float] | None = None
) -> tuple[Image.Image, NDArray[np.float32]]:
    """Return an image of at most `side` pixels, EXIF orientation applied, and (4,) scale factors for its boxes.

    Raises:
        ImageError: The image is unreadable.
    """
    height, width = size_hw
    factor = min(1.0, side / max(height, width))
    small = (max(1, round(height * factor)), max(1, round(width * factor)))
    pixels = read_image(path, ImageSpec(size_hw=small, resize_mode="squash", intensity_range=intensity_range))
    return Image.fromarray(pixels), np.array([small[1] / width, small[0] / height] * 2, dtype=np.float32)


def _odd_rows(samples: DetectionSamples, per_row: int, tile: object) -> list[tuple[str, Sequence[Tile]]]:
    """Return images with a problem, by kind."""
    assert callable(tile)
    place = {name: i for i, name in enumerate(samples.names)}
    by_kind: dict[str, list[int]] = defaultdict(list)
    for problem in samples.problems:
        i = place.get(problem.name)
        if i is not None and i not in by_kind[problem.kind]:
            by_kind[problem.kind].append(i)
    rows: list[tuple[str, Sequence[Tile]]] = []
    for kind, members in by_kind.items():
        shown = members[: min(per_row, _MAX_ODD)]
        rows.append((f"problem: {kind}, {pluralize(len(members), 'image')}", [tile(i) for i in shown]))
    return rows
