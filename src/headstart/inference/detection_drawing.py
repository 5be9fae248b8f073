"""Draw detected boxes on full-size images for `predict --draw`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from headstart.errors import HeadstartError
from headstart.preprocessing.image_spec import ImageError, ImageSpec, read_image
from headstart.quality.box_drawing import color_of, draw_boxes
from headstart.utils.system import atomic_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headstart.inference.decoders import ImageDetections

__all__ = ["draw_detections"]


def draw_detections(
    image: ImageDetections, folder: str, name: str, class_names: Sequence[str], spec: ImageSpec
) -> str | None:
    """Write one image with its boxes, labels and scores drawn on it, EXIF orientation applied.

    Args:
        image: Detections; unreadable images are skipped.
        folder: Output folder.
        name: Path below `folder`, with `/`; other formats than JPEG are written as PNG.
        class_names: Class names by class id.
        spec: Image spec; gives the intensity range of 16-bit images.

    Returns:
        The path of the written file, or None if the image is unreadable or not a file.

    Raises:
        HeadstartError: The file cannot be written.
    """
    if image.error is not None or not os.path.isfile(image.file):
        return None
    full_spec = spec.with_(size_hw=image.size_hw, resize_mode="squash", has_draft=False)
    try:
        pixels = Image.fromarray(read_image(image.file, full_spec))
    except ImageError:
        return None
    boxes = image.detections
    captions = [f"{class_names[k]} {s:.2f}" for k, s in zip(boxes.class_ids, boxes.scores, strict=True)]
    drawn = draw_boxes(pixels, boxes.xyxy, captions, [color_of(int(k)) for k in boxes.class_ids])
    is_jpeg = name.lower().endswith((".jpg", ".jpeg"))
    target = Path(folder, *(name if is_jpeg else f"{name}.png").split("/"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as temporary:
            if is_jpeg:
                drawn.save(temporary, format="JPEG", quality=92)
            else:
                drawn.save(temporary, format="PNG")
    except OSError as error:
        raise HeadstartError(
            f"cannot write `{target}` ({error.strerror or error}).", hint="use another folder with --draw"
        ) from error
    return str(target)
