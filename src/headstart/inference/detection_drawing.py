"""Draw detected boxes on images for `predict --draw`; upright, full size, existing files are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from headstart.errors import HeadstartError, UsageError
from headstart.preprocessing.image_spec import ImageError, ImageSpec, read_image
from headstart.quality.box_drawing import color_of, draw_boxes
from headstart.utils.system import atomic_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headstart.inference.detector_runtime import ImageDetections

__all__ = ["check_drawing_folder", "draw_detections"]


def check_drawing_folder(folder: str) -> None:
    """To be called before any work is done.

    Raises:
        UsageError: It is a file, or already holds something.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise UsageError(f"`{target}` is a file; --draw needs a folder.")
    if target.is_dir() and any(target.iterdir()):
        raise UsageError(
            f"the folder `{target}` already holds files, which are not written over.", hint="name a new one"
        )
    if not target.absolute().parent.is_dir():
        raise UsageError(f"the folder `{target.parent}` does not exist.", hint="make it first, or name another place")


def draw_detections(
    image: ImageDetections, folder: str, name: str, class_names: Sequence[str], spec: ImageSpec
) -> str | None:
    """Write one image with its boxes, names and scores.

    Args:
        image: Detections; unreadable images are skipped.
        folder: Where to.
        name: Path below it, with `/`; what is no JPEG is written as PNG.
        class_names: By class id.
        spec: The pixel contract, for the range of 16-bit images.

    Returns:
        The file, or None where nothing was drawn.

    Raises:
        HeadstartError: The place cannot be written.
    """
    if image.error is not None or not os.path.isfile(image.file):
        return None
    whole = spec.with_(size_hw=image.size_hw, resize_mode="squash", has_draft=False)
    try:
        pixels = Image.fromarray(read_image(image.file, whole))
    except ImageError:
        return None
    boxes = image.detections
    captions = [f"{class_names[k]} {s:.2f}" for k, s in zip(boxes.class_ids, boxes.scores, strict=True)]
    drawn = draw_boxes(pixels, boxes.xyxy, captions, [color_of(int(k)) for k in boxes.class_ids])
    is_jpeg = name.lower().endswith((".jpg", ".jpeg"))
    target = Path(folder, *(name if is_jpeg else f"{name}.png").split("/"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as place:
            if is_jpeg:
                drawn.save(place, format="JPEG", quality=92)
            else:
                drawn.save(place, format="PNG")
    except OSError as error:
        raise HeadstartError(
            f"`{target}` cannot be written ({error.strerror or error}).", hint="name another folder with --draw"
        ) from error
    return str(target)
