"""Write boxes in the formats of annotation tools: VOC XML, COCO JSON, YOLO text, CSV; numpy only.

`read_boxes` reads them back with no box moved by more than half a pixel and no class changed. Names of files and
classes are escaped as each format requires.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import DetectionSamples
from headstart.errors import UsageError
from headstart.utils.csv_cells import escape_formula

__all__ = [
    "CSV_COLUMNS",
    "ImageBoxes",
    "annotation_files",
    "coco_value",
    "csv_row",
    "label_place",
    "voc_text",
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
        is_crowd: (M,) bool, or None; only COCO knows crowds.
        split: `train`, `val`, `test` or empty.
    """

    name: str
    size_hw: tuple[int, int]
    xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float32] | None = None
    is_crowd: NDArray[np.bool_] | None = None
    split: str = ""


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
    for i in _kept(image):
        values = image.xyxy[i].astype(np.float64)
        whole = np.rint(values)
        is_thin = whole[2] <= whole[0] or whole[3] <= whole[1]
        numbers = [f"{v:.4f}" for v in values] if is_thin else [str(int(v)) for v in whole]
        corners = "".join(f"<{c}>{v}</{c}>" for c, v in zip(("xmin", "ymin", "xmax", "ymax"), numbers, strict=True))
        lines.append(
            f"  <object><name>{_xml(class_names[image.class_ids[i]])}</name><pose>Unspecified</pose>"
            f"<truncated>0</truncated><difficult>0</difficult><bndbox>{corners}</bndbox></object>"
        )
    return "\n".join([*lines, "</annotation>", ""])


def yolo_text(image: ImageBoxes) -> str:
    """Return one line `class cx cy width height` per box, as fractions of width and height."""
    height, width = image.size_hw
    lines = []
    for i in _kept(image):
        x0, y0, x1, y1 = (float(v) for v in image.xyxy[i])
        values = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
        digits = 6 if min(values[2:]) > 1e-4 else 10
        lines.append(f"{int(image.class_ids[i])} " + " ".join(f"{min(max(v, 0.0), 1.0):.{digits}f}" for v in values))
    return "".join(line + "\n" for line in lines)


def yolo_dataset_text(class_names: Sequence[str], places: dict[str, str]) -> str:
    """Return `data.yaml`, with names as JSON strings, which YAML reads alike and which cannot inject anything."""
    lines = [f"{split}: {_yaml(place)}" for split, place in places.items()]
    lines += [f"nc: {len(class_names)}", "names:"]
    lines += [f"  {i}: {_yaml(name)}" for i, name in enumerate(class_names)]
    return "\n".join([*lines, ""])


def coco_value(images: Iterable[ImageBoxes], class_names: Sequence[str]) -> dict[str, Any]:
    """Return the JSON of images; category ids start at 1 as in COCO, with scores if there are any."""
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
                "category_id": int(image.class_ids[i]) + 1,
                "bbox": [round(v, 4) for v in (x0, y0, x1 - x0, y1 - y0)],
                "area": round((x1 - x0) * (y1 - y0), 4),
                "iscrowd": 0 if image.is_crowd is None else int(image.is_crowd[i]),
                "segmentation": [],
            }
            if image.scores is not None:
                entry["score"] = round(float(image.scores[i]), 6)
            annotations.append(entry)
    categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(class_names, start=1)]
    return {"images": entries, "annotations": annotations, "categories": categories}


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
    stem = parts[-1].rpartition(".")[0] or parts[-1]
    at = next((i for i in range(len(parts) - 2, -1, -1) if parts[i].casefold() in ("images", "jpegimages")), None)
    folders = [folder, *parts[:-1]] if at is None else [*parts[:at], folder, *parts[at + 1 : -1]]
    return "/".join([*folders, stem + ending])


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
    images = [
        ImageBoxes(name, (int(h), int(w)), boxes.xyxy, boxes.class_ids, None, boxes.is_crowd, split)
        for name, (h, w), boxes, split in zip(
            samples.names, samples.sizes_hw, samples.boxes, samples.split, strict=True
        )
    ]
    files = annotation_files(images, samples.class_names, to)
    written = []
    for place, text in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        written.append(path)
    return written


def annotation_files(images: Sequence[ImageBoxes], class_names: Sequence[str], to: str) -> dict[str, str]:
    """Return text by path (below one folder, with `/`) of every file of a format.

    Raises:
        UsageError: As in `write_boxes`.
    """
    splits = {s: [p for p in images if p.split == s] for s in ("train", "val", "test", "")}
    splits = {s: members for s, members in splits.items() if members}
    has_split = set(splits) != {""}
    files: dict[str, str] = {}
    if to == "coco":
        for split, members in splits.items():
            place = f"annotations/instances_{split or 'rest'}.json" if has_split else "annotations.json"
            files[place] = json.dumps(coco_value(members, class_names), ensure_ascii=False, allow_nan=False)
        return files
    if to == "csv":
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*CSV_COLUMNS, *(["split"] if has_split else [])])
        for image in images:
            more = [image.split] if has_split else []
            rows: list[int | None] = [*_kept(image)]
            for i in rows or [None]:
                writer.writerow([*csv_row(image, i, class_names), *more])
        return {"boxes.csv": stream.getvalue()}
    if to not in ("voc", "yolo"):
        raise UsageError(f"unknown format `{to}`.", hint="voc, coco, yolo or csv")
    for image in images:
        is_voc = to == "voc"
        place = label_place(image.name, "Annotations" if is_voc else "labels", ".xml" if is_voc else ".txt")
        if place in files:
            raise UsageError(
                f"two images would share the file `{place}`, since their names differ only in the extension.",
                hint="rename one of them, or write coco or csv",
            )
        files[place] = voc_text(image, class_names) if is_voc else yolo_text(image)
    if to == "yolo":
        places = {s: f"{s}.txt" for s in splits if s} if has_split else {}
        files |= {f"{s}.txt": "".join(f"./{p.name}\n" for p in splits[s]) for s in places}
        files["data.yaml"] = yolo_dataset_text(class_names, places)
        files["labels/classes.txt"] = "".join(f"{' '.join(n.split())}\n" for n in class_names)
    elif has_split:
        for split in (s for s in splits if s):
            stems = [p.name.rpartition("/")[2].rpartition(".")[0] for p in splits[split]]
            files[f"ImageSets/Main/{split}.txt"] = "".join(f"{stem}\n" for stem in stems)
    return files


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
