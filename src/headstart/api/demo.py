"""Create demo datasets from the solar-cell images of a pip package, as a table or with boxes.

Source: elpv-dataset, S. Deitsch et al., https://github.com/zae-bayern/elpv-dataset, CC BY-NC-SA 4.0: not
for commercial use.  2,624 electroluminescence images of cells from 44 solar modules, each with an
expert's probability of a defect.

Cells of one module form a group, but the table does not contain the module. It lists the cells in order, so each run
of one cell type is divided evenly into modules of 60 cells, which gives the 44 modules (18 mono-, 26
polycrystalline) that the authors report.
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from headstart.data.boxes.records import Boxes, DetectionSamples
from headstart.data.boxes.writers import write_boxes
from headstart.errors import MissingExtraError
from headstart.utils.system import atomic_file

__all__ = ["LICENSE", "load_solar_cells", "module_of_each", "write_solar_csv", "write_synthetic_boxes"]

LICENSE = "images: elpv-dataset, CC BY-NC-SA 4.0 (not for commercial use)"

_CELLS_PER_MODULE = 60
_DEFECTIVE_ABOVE = 0.5
_KINDS, _CLASSES = ("mono", "poly"), ("monocrystalline", "polycrystalline")
_MAX_OVERLAP = 0.15  # maximum fraction of a cell covered by another one


def load_solar_cells() -> Path:
    """Return the data folder of the installed package (`labels.csv`, `images/`), without importing it.

    Raises:
        MissingExtraError: The package is not installed.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "data"
        if (folder / "labels.csv").is_file():
            return folder
    raise MissingExtraError("the demo", "demo")


def write_solar_csv(target: Path, source: Path | None = None) -> int:
    """Write `image,label,group` with absolute paths.

    Args:
        target: The CSV file.
        source: Data folder of the package; default: the installed one.

    Returns:
        Number of images.
    """
    source = source or load_solar_cells()
    rows = [line.split() for line in (source / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
    groups = module_of_each([kind for _, _, kind in rows])
    with atomic_file(target) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "label", "group"))
        for (image, probability, _), group in zip(rows, groups, strict=True):
            label = "defective" if float(probability) > _DEFECTIVE_ABOVE else "functional"
            writer.writerow(((source / image).resolve(), label, f"module{group:02d}"))
    return len(rows)


def module_of_each(kinds: list[str]) -> list[int]:
    """Return the module number of each cell, from the cell types in table order."""
    modules: list[int] = []
    for _, run in itertools.groupby(kinds):
        size = len(list(run))
        parts = -(-size // _CELLS_PER_MODULE)
        if size <= 1.5 * _CELLS_PER_MODULE:
            parts = 1  # one module of 72 cells instead of 60 and 12
        first = modules[-1] + 1 if modules else 1
        modules.extend(first + position * parts // size for position in range(size))
    return modules


def write_synthetic_boxes(target: Path, *, count: int = 120, side: int = 256, seed: int = 0) -> DetectionSamples:
    """Create synthetic images with boxes: photographs of single cells pasted onto blurred enlargements of others.

    Cells and their classes (`monocrystalline`, `polycrystalline`) are real, positions are random. Each cell is used
    once; every tenth image has no object.

    Args:
        target: Folder of the VOC dataset (`JPEGImages`, `Annotations`).
        count: Number of images.
        side: Width and height in pixels.
        seed: Random seed.

    Returns:
        The written images with their boxes.

    Raises:
        MissingExtraError: The image package is not installed.
    """
    source = load_solar_cells()
    rows = [line.split() for line in (source / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
    rng = np.random.default_rng(seed)
    cells = iter([(source / rows[i][0], rows[i][2]) for i in rng.permutation(len(rows))])
    folder = target / "JPEGImages"
    folder.mkdir(parents=True, exist_ok=True)
    names, boxes = [], []
    for number in range(count):
        image, cells_drawn = _paste_cells(cells, 0 if number % 10 == 9 else int(rng.integers(1, 5)), side, rng)
        names.append(f"JPEGImages/{number:04d}.jpg")
        with atomic_file(target / names[-1]) as path:
            image.save(path, format="JPEG", quality=88)
        boxes.append(Boxes.of([xyxy for xyxy, _ in cells_drawn], [_KINDS.index(kind) for _, kind in cells_drawn]))
    samples = DetectionSamples(
        names=tuple(names),
        paths=tuple(target / name for name in names),
        boxes=tuple(boxes),
        sizes_hw=np.full((count, 2), side, dtype=np.int64),
        class_names=tuple(_CLASSES),
        split=("",) * count,
        group=(None,) * count,
        layout="synthetic",
        notes=(),
        root=target,
    )
    write_boxes(samples, target, "voc")
    return samples


def _paste_cells(
    cells: Iterator[tuple[Path, str]], count: int, side: int, rng: np.random.Generator
) -> tuple[Image.Image, list[tuple[tuple[int, int, int, int], str]]]:
    """Return one image and its boxes with the class of each cell; cells hardly overlap."""
    with Image.open(next(cells)[0]) as source:
        edge = int(rng.integers(60, 140))
        x, y = (int(v) for v in rng.integers(0, 300 - edge, 2))
        ground = source.convert("L").crop((x, y, x + edge, y + edge)).resize((side, side), Image.Resampling.BICUBIC)
    image = ground.filter(ImageFilter.GaussianBlur(6)).point([int(0.7 * v) for v in range(256)])
    boxes: list[tuple[tuple[int, int, int, int], str]] = []
    for _ in range(count):
        path, kind = next(cells)
        with Image.open(path) as source:
            size = int(np.exp(rng.uniform(np.log(side / 8), np.log(side / 2.5))))
            cell = source.convert("L").resize((size, size), Image.Resampling.BICUBIC).rotate(90 * int(rng.integers(4)))
        for _ in range(20):
            x, y = (int(v) for v in rng.integers(0, side - size, 2))
            box = (x, y, x + size, y + size)
            if all(_overlap(box, other) < _MAX_OVERLAP for other, _ in boxes):
                gain = float(rng.uniform(0.8, 1.2))
                image.paste(cell.point([min(255, int(gain * v)) for v in range(256)]), (x, y))
                boxes.append((box, kind))
                break
    return image.convert("RGB"), boxes


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Return the fraction of the smaller box inside the other."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
