"""Make augmented views of images with boxes: the pixels of a window, and the transformed boxes.

Pixels and boxes use the same random draws, so rows are cached without boxes, and boxes are computed without opening
the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.data.boxes.records import Boxes
from headstart.detection.image_frames import clip_boxes, draw_frame
from headstart.errors import SettingError
from headstart.preprocessing.augmentation import (
    WHOLE_IMAGES,
    Augment,
    DecodedImage,
    ViewCodec,
    _decode,
    _recolor,
    name_rule,
    view_rng,
)
from headstart.preprocessing.image_spec import _FILTERS, ImageSpec, read_image

__all__ = ["BOX_IMAGES", "DEFAULT_AUGMENT", "ViewBoxes", "check_augment", "make_box_view", "view_boxes"]

DEFAULT_AUGMENT = "flip=0.5,zoom=0.5,brightness=0.2,contrast=0.2,saturation=0.2"
_UNSUPPORTED = ("crop", "rotate", "shear", "erase")
_NUM_DRAWS = 20


@dataclass(frozen=True, slots=True)
class ViewBoxes:
    """The boxes of one view, in input pixels.

    Attributes:
        xyxy: (M, 4) float32, clipped to the input.
        class_ids: (M,) int64.
        ignored: (I, 4) float32: truncated boxes and crowds; anchor points inside are ignored in the loss.
    """

    xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    ignored: NDArray[np.float32]


def check_augment(augment: Augment) -> Augment:
    """Raise an error for augmentations that are not supported with boxes.

    Raises:
        SettingError: An unsupported augmentation is on.
    """
    plain = Augment()
    for name in _UNSUPPORTED:
        if getattr(augment, name) != getattr(plain, name):
            raise SettingError(
                f"`{name}` cannot be used on images with boxes.",
                hint="use flip, vflip, zoom, shift, brightness, contrast, saturation",
            )
    return augment


def make_box_view(data: bytes, spec: ImageSpec, augment: Augment, rng: np.random.Generator | None) -> NDArray[np.uint8]:
    """Return the pixels of one view: (H, W, 3) uint8 at `spec.size_hw`.

    Args:
        data: The bytes of the file.
        spec: The preprocessing specification; without a generator the result is exactly `read_image(data, spec)`.
        augment: Augmentation strengths; see `draw_frame`.
        rng: Generator of the view.

    Raises:
        ImageError: The image cannot be read.
    """
    if rng is None or augment.is_plain:
        return read_image(data, spec)
    return _cut(_decode_once(data, spec, augment), spec, augment, rng)


def _min_fraction(augment: Augment) -> float:
    """Return the smallest fraction of an image that fills a view; it limits reduced-size decoding."""
    return max(0.05, (1.0 + augment.zoom) ** -2)


def _rule(spec: ImageSpec, augment: Augment) -> str:
    return WHOLE_IMAGES.rule(spec, augment) if augment.is_plain else name_rule(f"boxes{_min_fraction(augment)}", spec)


def _decode_once(data: bytes, spec: ImageSpec, augment: Augment) -> DecodedImage:
    """Decode the image once for all views, bit-identical to `make_box_view`."""
    if augment.is_plain:
        return WHOLE_IMAGES.decode(data, spec, augment)
    image = _decode(data, spec, _min_fraction(augment))
    return DecodedImage(image, (image.height, image.width))


def _cut(
    decoded: DecodedImage, spec: ImageSpec, augment: Augment, rng: np.random.Generator | None
) -> NDArray[np.uint8]:
    if rng is None or augment.is_plain:
        return decoded.pixels
    image, draws = decoded.image, rng.random(_NUM_DRAWS)
    frame = draw_frame((image.height, image.width), spec, augment, draws)
    height, width = spec.size_hw
    # The part of the input covered by the image, in whole pixels, and the corresponding part of the image.
    left, right = (np.array([0.0, image.width]) - frame.left) * frame.scale_x
    upper, lower = (np.array([0.0, image.height]) - frame.upper) * frame.scale_y
    x0, x1 = round(min(max(left, 0), width - 1)), round(max(min(right, width), 1))
    y0, y1 = round(min(max(upper, 0), height - 1)), round(max(min(lower, height), 1))
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    box = (
        min(max(frame.left + x0 / frame.scale_x, 0.0), image.width - 1.0),
        min(max(frame.upper + y0 / frame.scale_y, 0.0), image.height - 1.0),
        min(frame.left + x1 / frame.scale_x, float(image.width)),
        min(frame.upper + y1 / frame.scale_y, float(image.height)),
    )
    part = image.resize((x1 - x0, y1 - y0), _FILTERS[spec.interpolation], box=box, reducing_gap=2.0)
    if part.size != (width, height):
        canvas = Image.new("RGB", (width, height), _mean_color(spec))
        canvas.paste(part, (x0, y0))
        part = canvas
    if frame.is_flipped:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if frame.is_vflipped:
        part = part.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return _recolor(np.asarray(part), augment, draws)


BOX_IMAGES = ViewCodec(_rule, _decode_once, _cut)
"""View codec of images with boxes."""


def view_boxes(
    boxes: Boxes,
    image_hw: tuple[int, int],
    digest: bytes,
    spec: ImageSpec,
    augment: Augment,
    view: int,
    seed: int,
) -> ViewBoxes:
    """Return the boxes of one view; the image is not opened.

    Args:
        boxes: Boxes of the upright image.
        image_hw: Its height and width.
        digest: Digest of the file.
        spec: The preprocessing specification.
        augment: Augmentation strengths.
        view: View number; 0 is the unaugmented image.
        seed: Random seed of the views.
    """
    is_plain = view == 0 or augment.is_plain
    draws = None if is_plain else view_rng(digest, view, seed).random(_NUM_DRAWS)
    frame = draw_frame(image_hw, spec, augment, draws)
    clipped, is_kept, is_truncated = clip_boxes(frame.to_input(boxes.xyxy), spec.size_hw)
    is_kept &= ~boxes.is_crowd
    is_ignored = is_truncated | (boxes.is_crowd & (np.prod(clipped[:, 2:] - clipped[:, :2], axis=1) > 0))
    return ViewBoxes(clipped[is_kept], boxes.class_ids[is_kept], clipped[is_ignored])


def _mean_color(spec: ImageSpec) -> tuple[int, int, int]:
    """Return the mean color, which normalizes to zero."""
    r, g, b = (round(255 * m) for m in spec.mean)
    return r, g, b
