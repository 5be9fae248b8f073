"""Compute attribution maps for images of a run from its bundle, with a randomized control."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.errors import HeadstartError, MissingExtraError
from headstart.inference.bundle import Bundle, read_bundle
from headstart.messages.comment import empty_section
from headstart.messages.sections import attribution_message
from headstart.preprocessing.image_spec import ImageError, normalize, read_image
from headstart.probe.linear import LinearHead
from headstart.probe.normalize import Normalizer
from headstart.reports.attribution import MAX_ALIKE, Mapper, mean_similarity, paint
from headstart.types.report import ReportKind

__all__ = ["explain_images", "read_head"]

_BATCH = 8
_CONTROLS = 12  # images on which the control is computed


def explain_images(
    folder: Path, paths: Sequence[str | None], class_ids: Sequence[int]
) -> tuple[dict[str, Any], list[bytes | None]]:
    """Return one attribution map per image for the given class.

    Args:
        folder: The run folder.
        paths: One file per image; None where it is missing.
        class_ids: The class to explain, one per image.

    Returns:
        The `attribution` section of the report, and one JPEG per image. A JPEG is None where the image cannot be
        opened; all are None where the maps fail the control.
    """
    nothing: list[bytes | None] = [None] * len(paths)
    try:
        bundle = read_bundle(folder)
        head = read_head(bundle)
        mapper = Mapper.open(bundle.model, head)
        control = Mapper.open(bundle.model, head, is_control=True)
    except MissingExtraError:
        raise
    except (HeadstartError, ValueError, KeyError) as error:
        return empty_section(ReportKind.ATTRIBUTION_NOT_POSSIBLE, detail=str(error)), nothing
    painted = list(nothing)
    pairs: list[tuple[Any, Any]] = []
    readable = []
    for i, path in enumerate(paths):
        try:
            if path is not None:
                readable.append((i, read_image(path, bundle.spec)))
        except ImageError:
            continue
    for start in range(0, len(readable), _BATCH):
        part = readable[start : start + _BATCH]
        pixels = normalize(np.stack([image for _, image in part]), bundle.spec)
        ids = np.array([class_ids[i] for i, _ in part], dtype=np.int64)
        maps = mapper.maps(pixels, ids)
        if len(pairs) < _CONTROLS:
            pairs += list(zip(maps, control.maps(pixels, ids), strict=True))
        for (i, image), one in zip(part, maps, strict=True):
            painted[i] = paint(image, one)
    if not readable:
        return empty_section(ReportKind.ATTRIBUTION_IMAGES_GONE), nothing
    alike = mean_similarity([a for a, _ in pairs], [b for _, b in pairs])
    section = {"alike": alike, "num_controls": len(pairs), "limit": MAX_ALIKE, "blocks": list(mapper.names)}
    if alike >= MAX_ALIKE:
        return {**section, **empty_section(ReportKind.ATTRIBUTION_CONTROL_FAILED, alike=alike)}, nothing
    section["text"] = attribution_message(mapper.names, alike)
    return section, painted


def read_head(bundle: Bundle) -> LinearHead:
    """Read the head of a bundle from `model.safetensors`.

    Raises:
        ValueError: The bundle has no separate head.
    """
    if not bundle.info.get("head"):
        raise ValueError("the network ends in its own classifier")
    tensors = bundle.weights()
    normalizer = Normalizer.from_json(
        bundle.info["head"], {"mean": tensors["head.mean"], "scale": tensors["head.scale"]}
    )
    return LinearHead(normalizer, tensors["head.weight"], tensors["head.bias"], bundle.temperature)
