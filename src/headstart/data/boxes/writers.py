"""Write boxes in the formats of annotation tools: VOC XML, COCO JSON, YOLO text, CSV; numpy only.

`read_boxes` reads them back with no box moved by more than half a pixel, and no class or id of the user changed. Names
of files and classes are escaped as each format requires. Objects that must not count are `difficult` in VOC, `iscrowd`
in COCO, `ignore` in CSV; YOLO cannot hold them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.classes import ClassTable
from headstart.data.boxes.draft import IGNORED
from headstart.data.boxes.records import Boxes, DetectionSamples
from headstart.errors import DataError, UsageError
from headstart.utils.csv_cells import escape_formula

__all__ = [
    "CSV_COLUMNS",
    "ImageBoxes",
    "annotation_files",
    "coco_results",
    "coco_value",
    "csv_row",
    "image_boxes",
    "label_place",
    "voc_text",
    "with_regions",
    "write_boxes",
    "yolo_dataset_text",
    "yolo_text",
]

CSV_COLUMNS = ("image", "label", "xmin", "ymin", "xmax", "ymax", "width", "height")
"""Columns of a table of boxes; `width` and `height` are the image's."""


@dataclass(frozen=True, slots=True)
class ImageBoxes:
    """Boxes of one image to write.

    Attributes:
        name: Path of the image with `/`, relative to where the annotations are read from.
        size_hw: Its height and width, upright, pixels.
        xyxy: (M, 4) pixels.
        class_ids: (M,) positions in the class names.
        scores: (M,) in [0, 1], or None for ground-truth boxes.
        is_crowd: (M,) bool, objects that must not count, or None.
        split: `train`, `val`, `test` or empty.
        areas: (M,) areas of the objects, square pixels; None: those of the boxes.
    """

    name: str
    size_hw: tuple[int, int]
    xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float32] | None = None
    is_crowd: NDArray[np.bool_] | None = None
    split: str = ""
    areas: NDArray[np.float64] | None = None


def voc_text(image: ImageBoxes, class_names: Sequence[str]) -> str:
    """Return the XML of one image, in whole pixels unless a box would vanish by rounding."""
    folders, _, file = image.name.rpartition("/")
    height, width = image.size_hw
    lines = [
        "<annotation>",
        f"  <folder>{_xml(folders)}</folder>",
        f"  <filename>{_xml(file)}</filename>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        "  <segmented>0</segmented>",
    ]
    for i in range(len(image.xyxy)):
        values = image.xyxy[i].astype(np.float64)
        difficult = int(image.is_crowd is not None and image.is_crowd[i])
        whole = np.rint(values)
        is_thin = whole[2] <= whole[0] or whole[3] <= whole[1]
        numbers = [f"{v:.4f}" for v in values] if is_thin else [str(int(v)) for v in whole]
        corners = "".join(f"<{c}>{v}</{c}>" for c, v in zip(("xmin", "ymin", "xmax", "ymax"), numbers, strict=True))
        lines.append(
            f"  <object><name>{_xml(class_names[image.class_ids[i]])}</name><pose>Unspecified</pose>"
            f"<truncated>0</truncated><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"
        )
    return "\n".join([*lines, "</annotation>", ""])


def yolo_text(image: ImageBoxes, ids: Sequence[int]) -> str:
    """Return one line `class cx cy width height` per box that counts, as fractions; `ids` are those to write."""
    height, width = image.size_hw
    lines = []
    for i in _kept(image):
        x0, y0, x1, y1 = (float(v) for v in image.xyxy[i])
        values = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
        digits = 6 if min(values[2:]) > 1e-4 else 10
        lines.append(f"{ids[image.class_ids[i]]} " + " ".join(f"{min(max(v, 0.0), 1.0):.{digits}f}" for v in values))
    return "".join(line + "\n" for line in lines)


def yolo_dataset_text(ids: Mapping[str, int], places: dict[str, str]) -> str:
    """Return `data.yaml`, with names as JSON strings, which YAML reads alike and which cannot inject anything."""
    lines = [f"{split}: {_yaml(place)}" for split, place in places.items()]
    lines += [f"nc: {len(ids)}", "names:"]
    lines += [f"  {i}: {_yaml(name)}" for name, i in sorted(ids.items(), key=lambda pair: pair[1])]
    return "\n".join([*lines, ""])


def coco_value(images: Iterable[ImageBoxes], classes: ClassTable) -> dict[str, Any]:
    """Return the JSON of images, with the user's category ids, or from 1 as in COCO; with scores if there are any."""
    ids = classes.coco_ids()
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in images:
        height, width = image.size_hw
        entries.append({"id": len(entries) + 1, "file_name": image.name, "width": width, "height": height})
        for i in range(len(image.xyxy)):
            x0, y0, x1, y1 = (float(v) for v in image.xyxy[i])
            entry: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": len(entries),
                "category_id": ids[classes.names[image.class_ids[i]]],
                "bbox": [round(v, 4) for v in (x0, y0, x1 - x0, y1 - y0)],
                "area": round((x1 - x0) * (y1 - y0) if image.areas is None else float(image.areas[i]), 4),
                "iscrowd": 0 if image.is_crowd is None else int(image.is_crowd[i]),
                "segmentation": [],
            }
            if image.scores is not None:
                entry["score"] = round(float(image.scores[i]), 6)
            annotations.append(entry)
    categories = [{"id": i, "name": name, "supercategory": ""} for name, i in ids.items()]
    return {"images": entries, "annotations": annotations, "categories": categories}


def coco_results(images: Iterable[ImageBoxes], classes: ClassTable) -> list[dict[str, Any]]:
    """Return detections as `pycocotools` loads them: with the image and category ids of the user's COCO file.

    Raises:
        DataError: The file has no image ids, or an image is not in it.
    """
    if not classes.image_ids:
        raise DataError(
            "coco-results need the image ids of the annotations.", hint="pass the COCO JSON with --like FILE"
        )
    results: list[dict[str, Any]] = []
    by_name: dict[str, list[str]] = {}
    for known in classes.image_ids:
        by_name.setdefault(known.replace("\\", "/").rpartition("/")[2], []).append(known)
    for image in images:
        same = by_name.get(image.name.rpartition("/")[2], [])
        fitting = [known for known in same if known.replace("\\", "/") == image.name] or same
        if len(fitting) != 1:
            reason = "is not in the file of --like" if not same else "fits several images of the file of --like"
            raise DataError(f"`{image.name}` {reason}.", hint="pass the annotations of these images")
        for box in coco_value([image], classes)["annotations"]:
            entry = {"image_id": classes.image_ids[fitting[0]], "category_id": box["category_id"]}
            results.append({**entry, "bbox": box["bbox"], "score": box.get("score", 1.0)})
    return results


def csv_row(image: ImageBoxes, i: int | None, class_names: Sequence[str]) -> list[str]:
    """Return cells of `CSV_COLUMNS` of one box, or (None) of an image without objects."""
    height, width = image.size_hw
    box = ["", "", "", "", ""]
    if i is not None:
        box = [escape_formula(class_names[image.class_ids[i]]), *(f"{float(v):.3f}" for v in image.xyxy[i])]
    return [escape_formula(image.name), *box, str(width), str(height)]


def label_place(name: str, folder: str, ending: str) -> str:
    """Return the annotation path of an image: `images/train/a.jpg` -> `labels/train/a.txt`, else `labels/.../a.txt`."""
    parts = name.split("/")
    known = ("images",) if ending == ".txt" else ("images", "jpegimages")  # YOLO programs know `images` only
    stem = parts[-1].rpartition(".")[0] or parts[-1]
    at = next((i for i in range(len(parts) - 2, -1, -1) if parts[i].casefold() in known), None)
    folders = [folder, *parts[:-1]] if at is None else [*parts[:at], folder, *parts[at + 1 : -1]]
    return "/".join([*folders, stem + ending])


def image_boxes(samples: DetectionSamples) -> list[ImageBoxes]:
    """Return the boxes of each image of a dataset."""
    return [
        ImageBoxes(name, (int(h), int(w)), boxes.xyxy, boxes.class_ids, None, boxes.is_crowd, split, boxes.object_areas)
        for name, (h, w), boxes, split in zip(
            samples.names, samples.sizes_hw, samples.boxes, samples.split, strict=True
        )
    ]


def with_regions(samples: DetectionSamples) -> DetectionSamples:
    """Return the samples with each ignored region of all classes as one object of the class `ignore`, if there are any.

    The reader gives such a region (`DontCare`) to every class.
    """
    count = len(samples.class_names)
    collapsed = []
    for boxes in samples.boxes:
        classes: dict[tuple[float, ...], set[int]] = {}
        for xyxy, k in zip(boxes.xyxy[boxes.is_crowd].tolist(), boxes.class_ids[boxes.is_crowd].tolist(), strict=True):
            classes.setdefault(tuple(xyxy), set()).add(k)
        regions = [list(xyxy) for xyxy, members in classes.items() if len(members) == count > 1]
        is_region = boxes.is_crowd & np.array([xyxy in regions for xyxy in boxes.xyxy.tolist()], dtype=bool)
        kept = boxes.take(~is_region)
        xyxy = np.concatenate([kept.xyxy, np.array(regions, np.float32).reshape(-1, 4)])
        flags = [*kept.is_crowd.tolist(), *[True] * len(regions)]
        areas = None if kept.stated_areas is None else [*kept.stated_areas, *[np.nan] * len(regions)]
        collapsed.append(Boxes.of(xyxy, [*kept.class_ids.tolist(), *[count] * len(regions)], flags, areas))
    if not any((boxes.class_ids == count).any() for boxes in collapsed):
        return samples
    return replace(samples, boxes=tuple(collapsed), class_names=(*samples.class_names, IGNORED))


def write_boxes(samples: DetectionSamples, folder: Path, to: str) -> list[Path]:
    """Write the annotations of a dataset (not its images) so that they fit next to copied images.

    Args:
        samples: The images with their boxes.
        folder: An existing folder.
        to: `voc`, `coco`, `yolo` or `csv`.

    Returns:
        The written files.

    Raises:
        UsageError: The format is unknown, or two images would share a file.
    """
    files = annotation_files(image_boxes(samples), ClassTable.of(samples.class_names, samples.declared), to)
    written = []
    for place, text in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        written.append(path)
    return written


def annotation_files(images: Sequence[ImageBoxes], classes: ClassTable, to: str) -> dict[str, str]:
    """Return text by path (below one folder, with `/`) of every file of a format.

    Raises:
        UsageError: As in `write_boxes`.
    """
    writers = {"coco": _coco_files, "csv": _csv_files, "voc": _voc_files, "yolo": _yolo_files}
    if to not in writers:
        raise UsageError(f"unknown format `{to}`.", hint="voc, coco, yolo or csv")
    splits = {s: [p for p in images if p.split == s] for s in ("train", "val", "test", "")}
    splits = {s: members for s, members in splits.items() if members}
    return writers[to](images, classes, splits)


_Splits = Mapping[str, Sequence[ImageBoxes]]


def _coco_files(images: Sequence[ImageBoxes], classes: ClassTable, splits: _Splits) -> dict[str, str]:
    files = {}
    for split, members in splits.items():
        place = f"annotations/instances_{split or 'rest'}.json" if set(splits) != {""} else "annotations.json"
        files[place] = json.dumps(coco_value(members, classes), ensure_ascii=False, allow_nan=False)
    return files


def _csv_files(images: Sequence[ImageBoxes], classes: ClassTable, splits: _Splits) -> dict[str, str]:
    has_split = set(splits) != {""}
    has_ignored = any(image.is_crowd is not None and image.is_crowd.any() for image in images)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*CSV_COLUMNS, *(["split"] if has_split else []), *(["ignore"] if has_ignored else [])])
    for image in images:
        rows: list[int | None] = [*range(len(image.xyxy))]
        for i in rows or [None]:
            ignored = str(int(i is not None and image.is_crowd is not None and image.is_crowd[i]))
            more = [*([image.split] if has_split else []), *([ignored] if has_ignored else [])]
            writer.writerow([*csv_row(image, i, classes.names), *more])
    return {"boxes.csv": stream.getvalue()}


def _voc_files(images: Sequence[ImageBoxes], classes: ClassTable, splits: _Splits) -> dict[str, str]:
    files: dict[str, str] = {}
    for image in images:
        _add(files, label_place(image.name, "Annotations", ".xml"), voc_text(image, classes.names))
    for split in (s for s in splits if s):
        stems = [p.name.rpartition("/")[2].rpartition(".")[0] for p in splits[split]]
        files[f"ImageSets/Main/{split}.txt"] = "".join(f"{stem}\n" for stem in stems)
    return files


def _yolo_files(images: Sequence[ImageBoxes], classes: ClassTable, splits: _Splits) -> dict[str, str]:
    ids = classes.yolo_ids()
    own = [ids[name] for name in classes.names]
    files: dict[str, str] = {}
    for image in images:
        _add(files, label_place(image.name, "labels", ".txt"), yolo_text(image, own))
    has_split = set(splits) != {""}
    places = {s: f"{s}.txt" for s in splits if s}
    if not has_split and all(image.scores is None for image in images):
        places = {"train": "train.txt"}  # annotations of one part are to be trained on
    files |= {place: "".join(f"./{p.name}\n" for p in splits[s if has_split else ""]) for s, place in places.items()}
    files["data.yaml"] = yolo_dataset_text(ids, places)
    named = {i: " ".join(name.split()) for name, i in ids.items()}
    files["labels/classes.txt"] = "".join(f"{named.get(i, '')}\n" for i in range(max(named, default=0) + 1))
    return files


def _add(files: dict[str, str], place: str, text: str) -> None:
    """Add a file.

    Raises:
        UsageError: Two images would share it.
    """
    if place in files:
        raise UsageError(
            f"two images would share the file `{place}`, since their names differ only in the extension.",
            hint="rename one of them, or write coco or csv",
        )
    files[place] = text


def _kept(image: ImageBoxes) -> list[int]:
    """Return boxes that formats without crowds can hold."""
    return [i for i in range(len(image.xyxy)) if image.is_crowd is None or not image.is_crowd[i]]


def _xml(text: str) -> str:
    """Return text without the control characters that XML cannot hold."""
    return escape("".join(c for c in text if c >= " " or c in "\t\n"))


def _yaml(text: str) -> str:
    """Return a double-quoted YAML string: JSON's, with everything that YAML cannot hold written as escapes."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
