"""Read the JSON files of annotation tools; each function reads one of them."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from headstart.data.boxes.draft import Draft, Values, number
from headstart.data.boxes.entries import Entry, Tool, size_of
from headstart.data.boxes.files import split_of_name
from headstart.data.boxes.formats import BoxFormat
from headstart.data.boxes.outlines import bounds, circle_bounds
from headstart.data.file_tree import LocatedFile, printable
from headstart.data.formats import IMAGES
from headstart.errors import DataError

__all__ = ["JSON_TOOLS"]

_XYWH, _XYXY, _CENTER = BoxFormat("xywh"), BoxFormat("xyxy"), BoxFormat("cxcywh")
_PERCENT = BoxFormat("xyxy", 100.0)
_LABEL_KEYS = ("label", "class", "name", "type", "category", "class_name", "object")
_HASH = re.compile(r"^[0-9a-f]{8}-")


def _dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list; of a dict, its values."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, dict)]


def _first(value: Any) -> dict[str, Any]:
    items = _dicts(value)
    return items[0] if items else {}


def _has(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)


def _labelme(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    stem, stated = os.path.splitext(file.file)[0], str(value["imagePath"])
    ending = os.path.splitext(stated)[1]
    entry = Entry((stem + ending, stated), "", size_of(value.get("imageHeight"), value.get("imageWidth")))
    for shape in _dicts(value["shapes"]):
        points, kind = shape.get("points"), shape.get("shape_type", "polygon")
        corners = bounds(points)
        if kind == "circle" and isinstance(points, list) and len(points) == 2 and corners:
            radius = math.dist(points[0], points[1])
            corners = circle_bounds(points[0][0], points[0][1], radius, radius)
        if kind in ("point", "points", "line", "linestrip", "polyline"):
            corners = None
        entry.add(draft, shape.get("label"), corners, _XYXY, is_outline=kind != "rectangle", attributes=shape)
    yield entry


def _via(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    images = _dicts(value.get("_via_img_metadata", value))
    regions = [region for image in images for region in _dicts(image.get("regions"))]
    key = _via_label(file, [r.get("region_attributes") for r in regions])
    for image in images:
        entry = Entry((str(image.get("filename")),))
        for region in _dicts(image.get("regions")):
            attributes = region.get("region_attributes")
            attributes = attributes if isinstance(attributes, dict) else {}
            label = attributes.get(key)
            if isinstance(label, dict):  # check boxes
                label = next((name for name, is_set in label.items() if is_set), None)
            entry.add(draft, label, *_via_shape(region.get("shape_attributes")), attributes=attributes)
        yield entry


def _via_label(file: LocatedFile, attributes: list[Any]) -> str:
    """Return the region attribute that holds the class: the only one, or the one with a usual name.

    Raises:
        DataError: Several attributes could be the class.
    """
    names = sorted({str(name) for item in attributes if isinstance(item, dict) for name in item})
    usual = [name for name in names if name.lower() in _LABEL_KEYS]
    if len(names) == 1 or len(usual) == 1:
        return (usual or names)[0]
    if not names:
        return ""
    shown = ", ".join(f"`{printable(name)}`" for name in names[:6])
    raise DataError(
        f"the regions of `{file.name}` have the attributes {shown}; any of them could be the class.",
        hint="name the attribute of the class `label` in the VGG Image Annotator, and export again",
    )


def _via_shape(shape: Any) -> tuple[Any, BoxFormat]:
    """Return four numbers and their meaning."""
    if not isinstance(shape, dict):
        return None, _XYXY
    kind = shape.get("name")
    if kind == "rect":
        return [shape.get(k) for k in ("x", "y", "width", "height")], _XYWH
    if kind in ("circle", "ellipse"):
        radii = shape.get("rx", shape.get("r")), shape.get("ry", shape.get("r"))
        values = [number(v) for v in (shape.get("cx"), shape.get("cy"), *radii)]
        x, y, rx, ry = (v if v is not None else math.nan for v in values)
        return circle_bounds(x, y, rx, ry), _XYXY
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        return bounds([*map(list, zip(xs, ys, strict=False))]) if xs and ys else None, _XYXY
    return None, _XYXY


def _via_table(draft: Draft, file: LocatedFile, rows: Any) -> Iterator[Entry]:
    """Read the CSV of the VGG Image Annotator, one row per region with JSON in its cells."""
    images: dict[str, dict[str, Any]] = {}
    for row in rows:
        image = images.setdefault(row["filename"], {"filename": row["filename"], "regions": []})
        region = {key: json.loads(row[key] or "{}") for key in ("region_attributes",)}
        shape = json.loads(row["region_shape_attributes"] or "{}")
        if shape:
            image["regions"].append({**region, "shape_attributes": shape})
    yield from _via(draft, file, images)


def _vott(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    for item in _dicts(value["assets"]):
        asset = item.get("asset", {})
        size = asset.get("size", {})
        entry = Entry((unquote(str(asset.get("name"))),), "", size_of(size.get("height"), size.get("width")))
        for region in _dicts(item.get("regions")):
            box = region.get("boundingBox")
            numbers = [box.get(k) for k in ("left", "top", "width", "height")] if isinstance(box, dict) else None
            for tag in region.get("tags") or [None]:
                entry.add(draft, tag, numbers, _XYWH, attributes=region)
        yield entry


def _label_studio(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    """Read tasks with `annotations`, or the short form with the regions beside the image."""
    for task in _dicts(value):
        data = task.get("data", task)
        image = _label_studio_image(data if isinstance(data, dict) else {})
        done = [a for a in _dicts(task.get("annotations") or task.get("completions")) if not a.get("was_cancelled")]
        results = [_dicts(a.get("result")) for a in done]
        if "data" not in task:
            short = [_dicts(v) for v in task.values() if isinstance(v, list) and "original_width" in _first(v)]
            results = [[{**r, "value": r} for regions in short for r in regions]] if short else []
        if not results or image is None:
            if image is not None and task.get("predictions"):
                draft.refuse(file.name, "prediction", f"`{printable(image[-1])}` has predictions but no annotation")
            continue
        if len(results) > 1:
            draft.refuse(
                image[-1],
                "second-annotation",
                f"annotated twice in `{file.name}`; the first one counts",
            )
        entry = Entry(image)
        for region in results[0]:
            _add_region(draft, entry, region)
        yield entry


def _label_studio_image(data: dict[str, Any]) -> tuple[str, ...] | None:
    """Return possible paths of the image of a task: as stored, and without the prefix of an upload."""
    texts = [unquote(v) for v in data.values() if isinstance(v, str)]
    path = next((t for t in texts if os.path.splitext(t.partition("?")[0])[1].lower() in IMAGES or "?d=" in t), None)
    if path is None:
        return None
    path = path.partition("?d=")[2] or path.partition("?")[0]
    folder, slash, name = path.rpartition("/")
    return tuple(dict.fromkeys((folder + slash + name, name, _HASH.sub("", name))))


def _add_region(draft: Draft, entry: Entry, region: dict[str, Any]) -> None:
    """Add a region in percent of the image; regions without area (choices, points) are no boxes."""
    value = region.get("value")
    value = value if isinstance(value, dict) else {}
    kind = str(region.get("type") or next((k for k in value if k.endswith("labels")), ""))
    labels = value.get(kind) or value.get("labels") or [None]
    width, height = number(region.get("original_width")), number(region.get("original_height"))
    entry.stated_hw = size_of(height, width) or entry.stated_hw
    if "radiusX" in value:
        numbers = [number(value.get(k)) for k in ("x", "y", "radiusX", "radiusY")]
        corners = circle_bounds(*numbers) if None not in numbers else None  # type: ignore[arg-type]
    elif "width" in value and kind not in ("brushlabels", "keypointlabels"):
        corners = _percent_corners(value, (width or 1.0) / (height or 1.0))
    elif "points" in value:
        corners = bounds(value["points"])
    elif kind in ("", "choices", "textarea", "rating", "number", "taxonomy"):
        return
    else:
        corners = None
    for label in labels:
        entry.add(draft, label, corners, _PERCENT, is_outline="width" not in value)


def _percent_corners(value: dict[str, Any], aspect: float) -> Values | None:
    """Return corners in percent of a rectangle rotated around its upper left corner."""
    numbers = [number(value.get(k) or 0) for k in ("x", "y", "width", "height", "rotation")]
    if any(n is None for n in numbers):
        return None
    x, y, width, height, degrees = (n for n in numbers if n is not None)
    if not degrees:
        return x, y, x + width, y + height
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    steps = [(0.0, 0.0), (width * aspect, 0.0), (0.0, height), (width * aspect, height)]  # in percent of the height
    return bounds([[x + (a * cos - b * sin) / aspect, y + a * sin + b * cos] for a, b in steps])


def _createml(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    for item in _dicts(value):
        entry = Entry((str(item.get("image") or item.get("imagefilename") or item.get("filename")),))
        for found in _dicts(item.get("annotations") or item.get("annotation")):
            place = found.get("coordinates")
            numbers = [place.get(k) for k in ("x", "y", "width", "height")] if isinstance(place, dict) else None
            entry.add(draft, found.get("label"), numbers, _CENTER, attributes=found)
        yield entry


def _edge_impulse(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    listed = value.get("boundingBoxes")
    images = listed.items() if isinstance(listed, dict) else ()
    pairs = [(str(name), "", boxes) for name, boxes in images]
    for item in _dicts(value.get("files")):
        pairs.append((str(item.get("path")), split_of_name(str(item.get("category", ""))), item.get("boundingBoxes")))
    for name, split, boxes in pairs:
        entry = Entry((name,), split)
        for box in _dicts(boxes):
            numbers = [box.get(k) for k in ("x", "y", "width", "height")]
            entry.add(draft, box.get("label"), numbers, _XYWH, attributes=box)
        yield entry


def _ground_truth(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    """Read the manifest of SageMaker Ground Truth and Rekognition."""
    for line in _dicts(value):
        key = next((k for k, v in line.items() if _has(v, "annotations")), None)
        if key is None or "source-ref" not in line:
            continue
        names = line.get(f"{key}-metadata", {}).get("class-map", {})
        size = _first(line[key].get("image_size"))
        entry = Entry((str(line["source-ref"]),), "", size_of(size.get("height"), size.get("width")))
        for box in _dicts(line[key]["annotations"]):
            label = names.get(str(box.get("class_id")))
            numbers = [box.get(k) for k in ("left", "top", "width", "height")]
            entry.add(draft, label, numbers, _XYWH, attributes=box)
        yield entry


def _supervisely(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    entry = Entry(
        (os.path.splitext(file.file)[0],), "", size_of(value["size"].get("height"), value["size"].get("width"))
    )
    for item in _dicts(value["objects"]):
        kind, points = item.get("geometryType"), item.get("points")
        corners = bounds(points["exterior"]) if isinstance(points, dict) and "exterior" in points else None
        if kind == "bitmap" and _has(item.get("bitmap"), "origin", "data"):
            corners = _bitmap_bounds(item["bitmap"])
        if kind in ("point", "line"):
            corners = None
        named = [tag for tag in _dicts(item.get("tags")) if isinstance(tag.get("name"), str)]
        tags: dict[str, Any] = {tag["name"]: tag.get("value") or "true" for tag in named}
        entry.add(draft, item.get("classTitle"), corners, _XYXY, is_outline=kind != "rectangle", attributes=tags)
    yield entry


def _bitmap_bounds(bitmap: dict[str, Any]) -> Values | None:
    """Return the bounds of a mask: its origin, and the size in the header of its PNG."""
    try:
        png = zlib.decompressobj().decompress(base64.b64decode(bitmap["data"]), 64)
        width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
        x, y = (float(v) for v in bitmap["origin"])
    except (ValueError, TypeError, zlib.error):
        return None
    return x, y, x + width, y + height


def _darwin(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    item = value.get("item") or value.get("image") or {}
    slot = _first(item.get("slots")) or item
    names = (str(item.get("name") or item.get("filename") or item.get("original_filename")),)
    entry = Entry(names, "", size_of(slot.get("height"), slot.get("width")))
    for found in _dicts(value["annotations"]):
        if (box := found.get("bounding_box")) is not None:
            numbers = [box.get(k) for k in ("x", "y", "w", "h")]
            entry.add(draft, found.get("name"), numbers, _XYWH, attributes=found)
    yield entry


def _bdd(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    for frame in _dicts(value.get("frames") if isinstance(value, dict) else value):
        entry = Entry((str(frame.get("name")),))
        for item in _dicts(frame.get("labels")):
            if (box := item.get("box2d")) is not None:
                corners = [box.get(k) for k in ("x1", "y1", "x2", "y2")]
                entry.add(
                    draft, item.get("category"), corners, _XYXY, attributes={**item, **(item.get("attributes") or {})}
                )
        yield entry


def _datumaro(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    names = [str(label.get("name")) for label in _dicts(value["categories"].get("label", {}).get("labels"))]
    for item in _dicts(value["items"]):
        image = item.get("image") or {}
        size = image.get("size") or [None, None]
        entry = Entry((str(image.get("path") or item.get("id")), str(item.get("id"))), "", size_of(*size[:2]))
        for found in _dicts(item.get("annotations")):
            label_id, kind = found.get("label_id"), found.get("type")
            label = names[label_id] if isinstance(label_id, int) and 0 <= label_id < len(names) else None
            if kind == "bbox":
                entry.add(draft, label, found.get("bbox"), _XYWH, attributes=found.get("attributes"))
            elif kind == "polygon":
                entry.add(
                    draft,
                    label,
                    bounds(found.get("points")),
                    _XYXY,
                    is_outline=True,
                    attributes=found.get("attributes"),
                )
        yield entry


def _crowd_human(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    for line in _dicts(value):
        entry = Entry((str(line.get("ID")),))
        for box in _dicts(line.get("gtboxes")):
            extra = {**(box.get("extra") or {})}
            if box.get("tag") == "mask":
                extra["ignore"] = 1
            label = "person" if box.get("tag") == "mask" else box.get("tag")
            entry.add(draft, label, box.get("fbox"), _XYWH, attributes=extra)
        yield entry


def _fiftyone(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    names = value.get("classes")
    for image, boxes in value["labels"].items():
        entry = Entry((str(image),))
        for box in _dicts(boxes):
            label = box.get("label")
            if isinstance(label, int) and isinstance(names, list) and 0 <= label < len(names):
                label = names[label]
            entry.add(draft, label, box.get("bounding_box"), BoxFormat("xywh", 1.0), attributes=box)
        yield entry


def _hugging_face(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    """Read the metadata of an image folder: boxes and categories of each image as two lists."""
    for row in _dicts(value):
        objects = row.get("objects") or {}
        boxes = objects.get("bbox") or []
        labels: list[Any] = next(
            (objects[k] for k in ("categories", "category", "label", "labels") if k in objects), []
        )
        entry = Entry((str(row.get("file_name")),))
        flags = {k: v for k, v in objects.items() if isinstance(v, list) and len(v) == len(boxes)}
        for i, (box, label) in enumerate(zip(boxes, labels, strict=False)):
            entry.add(draft, label, box, _XYWH, attributes={k: v[i] for k, v in flags.items()})
        yield entry


def _darknet_results(draft: Draft, file: LocatedFile, value: Any) -> Iterator[Entry]:
    for item in _dicts(value):
        entry = Entry((str(item.get("filename")),))
        for found in _dicts(item.get("objects")):
            box = found.get("relative_coordinates") or {}
            numbers = [box.get(k) for k in ("center_x", "center_y", "width", "height")]
            entry.add(draft, found.get("name"), numbers, BoxFormat("cxcywh", 1.0), attributes=found)
        yield entry


def _is_fiftyone(value: Any) -> bool:
    return _has(value, "labels") and any("bounding_box" in _first(v) for v in _values(value["labels"]))


def _values(value: Any) -> list[Any]:
    return [*value.values()] if isinstance(value, dict) else []


def _is_label_studio(value: Any) -> bool:
    tasks = _dicts(value) if isinstance(value, list) else []
    done = [t.get("annotations") or t.get("completions") or t.get("predictions") for t in tasks]
    results = [_first(a.get("result")) for annotations in done for a in _dicts(annotations)]
    is_short = any("original_width" in _first(v) for task in tasks[:50] for v in task.values() if isinstance(v, list))
    return is_short or any("original_width" in r and "value" in r for r in results)


def _is_via(value: Any) -> bool:
    first = _first(value.get("_via_img_metadata", value)) if isinstance(value, dict) else {}
    return _has(first, "filename", "regions")


JSON_TOOLS = (
    Tool("labelme", "labelme JSON", (".json",), (b'"shapes"',), lambda v: _has(v, "shapes", "imagePath"), _labelme),
    Tool("via", "VGG Image Annotator JSON", (".json",), (b'"regions"', b'"filename"'), _is_via, _via),
    Tool(
        *("via-csv", "VGG Image Annotator CSV", (".csv",), (b"region_shape_attributes",)),
        lambda rows: isinstance(rows, list) and "region_shape_attributes" in _first(rows),
        _via_table,
    ),
    Tool(
        "vott",
        "VoTT JSON",
        (".json",),
        (b'"assets"',),
        lambda v: "regions" in _first(v.get("assets")) if _has(v, "assets") else False,
        _vott,
    ),
    Tool("label-studio", "Label Studio JSON", (".json",), (b'"original_width"',), _is_label_studio, _label_studio),
    Tool(
        *("createml", "CreateML JSON", (".json",), (b'"coordinates"', b'"label"')),
        lambda v: (
            isinstance(v, list)
            and any("coordinates" in _first(i.get("annotations") or i.get("annotation")) for i in _dicts(v))
        ),
        _createml,
    ),
    Tool(
        *("edge-impulse", "Edge Impulse labels", (".labels", ".json"), (b'"boundingBoxes"',)),
        lambda v: (
            _has(v, "boundingBoxes") or "boundingBoxes" in _first(v.get("files") if isinstance(v, dict) else None)
        ),
        _edge_impulse,
    ),
    Tool(
        *("ground-truth", "SageMaker manifest", (".manifest", ".jsonl", ".json"), (b'"source-ref"', b'"annotations"')),
        lambda v: "source-ref" in _first(v),
        _ground_truth,
    ),
    Tool(
        "supervisely",
        "Supervisely JSON",
        (".json",),
        (b'"objects"', b'"size"'),
        lambda v: _has(v, "objects", "size") and isinstance(v["size"], dict),
        _supervisely,
    ),
    Tool(
        "darwin",
        "Darwin JSON",
        (".json",),
        (b'"bounding_box"',),
        lambda v: _has(v, "annotations") and ("item" in v or "image" in v),
        _darwin,
    ),
    Tool(
        "bdd",
        "BDD100K JSON",
        (".json",),
        (b'"box2d"',),
        lambda v: "labels" in _first(v.get("frames") if isinstance(v, dict) else v),
        _bdd,
    ),
    Tool(
        "datumaro",
        "Datumaro JSON",
        (".json",),
        (b'"items"', b'"categories"'),
        lambda v: _has(v, "items", "categories") and isinstance(v["categories"], dict),
        _datumaro,
    ),
    Tool("crowdhuman", "CrowdHuman lines", (".odgt",), (b'"gtboxes"',), lambda v: "gtboxes" in _first(v), _crowd_human),
    Tool(
        *("hugging-face", "Hugging Face metadata", (".jsonl", ".json"), (b'"file_name"', b'"objects"', b'"bbox"')),
        lambda v: isinstance(v, list) and _has(_first(v).get("objects"), "bbox"),
        _hugging_face,
        is_numbered=True,
    ),
    Tool(
        *("darknet", "Darknet results", (".json",), (b'"relative_coordinates"',)),
        lambda v: isinstance(v, list) and "objects" in _first(v),
        _darknet_results,
    ),
    Tool("fiftyone", "FiftyOne JSON", (".json",), (b'"bounding_box"', b'"labels"'), _is_fiftyone, _fiftyone),
)
