"""Relate the pixels of an image as stored and upright, and decide for a whole dataset which of them boxes refer to.

Annotation tools differ: some apply the EXIF orientation before drawing, some do not. One image whose annotation states
its size, or whose boxes fit only one of the two, proves it for all images that prove nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.draft import DraftImage
from headstart.preprocessing.exif import read_exif
from headstart.preprocessing.image_spec import ImageError, open_image
from headstart.types.records import Problem
from headstart.utils.limits import MAX_PIXELS
from headstart.utils.system import available_cores

__all__ = ["ImageSizes", "decide_stored", "measure_images", "turn_boxes"]

_OVER = 2.0  # pixels over the edge up to which a box fits an image


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


def decide_stored(
    images: Sequence[DraftImage],
    sizes: Sequence[ImageSizes | ImageError],
    pixel_boxes: Sequence[NDArray[np.float64]],
    requested: bool | None,
    problems: list[Problem],
) -> list[bool]:
    """Return for each image whether its boxes refer to the stored pixels rather than to the upright image.

    Args:
        images: The images.
        sizes: Their sizes.
        pixel_boxes: (M, 4) corners in pixels of each image; empty where boxes are fractions.
        requested: Set by the user, or None.
        problems: Receives the rotated images.
    """
    if requested is not None:
        return [requested] * len(images)
    proofs = [
        None if isinstance(size, ImageError) or size.orientation <= 1 else _proof(image, size, boxes)
        for image, size, boxes in zip(images, sizes, pixel_boxes, strict=True)
    ]
    votes = Counter(proof for proof in proofs if proof is not None)
    default = votes[True] > 0 and not votes[False]
    for image, size, proof in zip(images, sizes, proofs, strict=True):
        is_open = not isinstance(size, ImageError) and size.orientation > 1 and proof is None and bool(image.boxes)
        if is_open and len(votes) != 1:
            detail = (
                "rotated by EXIF, and nothing shows whether its boxes are drawn on the upright image, as assumed; "
                "--box-format stored reads all boxes as drawn on the pixels as stored"
            )
            problems.append(Problem(image.file.name, "orientation-unknown", detail))
        elif not isinstance(size, ImageError) and size.orientation > 1 and image.boxes:
            is_stored = default if proof is None else proof
            detail = "and its boxes with it" if is_stored else "its boxes count as drawn on the upright image"
            problems.append(Problem(image.file.name, "rotated", f"rotated by EXIF, {detail}"))
    return [default if proof is None else proof for proof in proofs]


def _proof(image: DraftImage, size: ImageSizes, boxes: NDArray[np.float64]) -> bool | None:
    """Return whether the boxes of one image refer to its stored pixels, or None if nothing shows it."""
    if size.stored_hw == size.upright_hw:
        return None
    if image.stated_hw in (size.stored_hw, size.upright_hw):
        return image.stated_hw == size.stored_hw
    if image.stated_hw is not None or not len(boxes):
        return None
    fits = [
        bool((np.maximum(boxes[:, :2], boxes[:, 2:]) <= np.array(hw[::-1]) + _OVER).all())
        for hw in (size.stored_hw, size.upright_hw)
    ]
    return fits[0] if fits[0] != fits[1] else None
