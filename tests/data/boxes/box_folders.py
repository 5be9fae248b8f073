"""Create folders of small images with boxes in every format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from headstart.data.boxes.records import Boxes, DetectionSamples

VOC = "<annotation>{head}{objects}</annotation>"


def put_image(path: Path, size: tuple[int, int] = (100, 80), *, orientation: int = 1, seed: int = 0) -> Path:
    """Return a small image of `size` (width, height) as stored, with an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *size])
    image = Image.fromarray(rng.integers(0, 255, (6, 8, 3)).astype(np.uint8)).resize(size)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def put_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def voc_xml(
    objects: Sequence[tuple[str, tuple[object, object, object, object]]],
    size: tuple[int, int] | None = (100, 80),
    filename: str = "",
) -> str:
    """Return a VOC file with (name, corners) and (width, height)."""
    head = f"<filename>{filename}</filename>" if filename else ""
    if size is not None:
        head += f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    inner = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for name, (a, b, c, d) in objects
    )
    return VOC.format(head=head, objects=inner)


def coco_json(
    images: Mapping[int, tuple[str, tuple[int, int]]],
    annotations: Sequence[Mapping[str, object]],
    categories: Mapping[int, str],
) -> str:
    """Return a COCO file: images by id as (name, (width, height)), annotations as they are, categories by id."""
    return json.dumps(
        {
            "images": [{"id": i, "file_name": n, "width": w, "height": h} for i, (n, (w, h)) in images.items()],
            "annotations": [{"id": k, **a} for k, a in enumerate(annotations, start=1)],
            "categories": [{"id": i, "name": n} for i, n in categories.items()],
        }
    )


def box_samples(
    root: Path, images: Sequence[tuple[str, tuple[int, int], Boxes, str]], class_names: Sequence[str]
) -> DetectionSamples:
    """Return samples of images (name, (width, height), boxes, split) written below `root`."""
    for name, size, _, _ in images:
        if not (root / name).exists():
            put_image(root / name, size)
    return DetectionSamples(
        names=tuple(n for n, *_ in images),
        paths=tuple(root / n for n, *_ in images),
        boxes=tuple(b for _, _, b, _ in images),
        sizes_hw=np.array([(h, w) for _, (w, h), _, _ in images], dtype=np.int64).reshape(-1, 2),
        class_names=tuple(class_names),
        split=tuple(s for *_, s in images),
        group=(None,) * len(images),
        layout="test",
        notes=(),
        root=root,
    )
