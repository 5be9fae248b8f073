"""Read CVAT's own XML for images (`CVAT for images 1.1`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from headstart.data.boxes.draft import Draft, number
from headstart.data.boxes.entries import Entry, Tool, size_of
from headstart.data.boxes.files import split_of_name
from headstart.data.boxes.formats import BoxFormat
from headstart.data.boxes.outlines import bounds, circle_bounds, rotated_bounds
from headstart.data.file_tree import LocatedFile
from headstart.errors import DataError

__all__ = ["CVAT"]

_XYXY, _XYWH = BoxFormat("xyxy"), BoxFormat("xywh")


def _read(draft: Draft, file: LocatedFile, tree: Any) -> Iterator[Entry]:
    if tree.find("track") is not None and tree.find("image") is None:
        raise DataError(
            f"`{file.name}` holds tracks of a video, without names of images.",
            hint="export the task of CVAT as `CVAT for images 1.1` or `COCO 1.0`, with images",
        )
    for position, name in enumerate(n.findtext("name") or "" for n in tree.iter("label")):
        if name:
            draft.classes.setdefault(name, position)
    for image in tree.findall("image"):
        size = size_of(image.get("height"), image.get("width"))
        entry = Entry((image.get("name") or "",), split_of_name(image.get("subset") or ""), size)
        for shape in image:
            attributes = {item.get("name"): item.text for item in shape.findall("attribute")}
            if shape.tag != "tag":
                values, form, is_outline = _shape(shape)
                entry.add(draft, shape.get("label"), values, form, is_outline=is_outline, attributes=attributes)
        yield entry


def _shape(shape: Any) -> tuple[Any, BoxFormat, bool]:
    """Return four numbers, their meaning, and whether they are the bounds of an outline."""
    if shape.tag == "box":
        corners = [number(shape.get(k)) for k in ("xtl", "ytl", "xbr", "ybr")]
        degrees = number(shape.get("rotation")) or 0.0
        if not degrees or any(v is None for v in corners):
            return corners, _XYXY, False
        x0, y0, x1, y1 = (v for v in corners if v is not None)
        turned = rotated_bounds((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, math.radians(degrees))
        return turned, _XYXY, True
    if shape.tag == "polygon":
        points = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
        return bounds(points), _XYXY, True
    if shape.tag == "ellipse":
        values = [number(shape.get(k)) for k in ("cx", "cy", "rx", "ry")]
        return None if None in values else circle_bounds(*values), _XYXY, True  # type: ignore[arg-type]
    if shape.tag == "mask":
        return [shape.get(k) for k in ("left", "top", "width", "height")], _XYWH, False
    return None, _XYXY, False


CVAT = Tool("cvat", "CVAT XML", (".xml",), (b"<annotations",), lambda tree: tree.tag == "annotations", _read)
