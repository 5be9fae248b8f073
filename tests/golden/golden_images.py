"""Images and data sets for the golden runs, drawn from seeds.

Images are PNG files without compression: their pixels and sizes do not depend on the version of an encoder.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("checks", "discs", "stripes")


def pattern(kind: str, seed: int, size: tuple[int, int] = (96, 80), contrast: float = 30.0) -> NDArray[np.float64]:
    """Draw a texture of a class under a random background and noise; not every image shows its class clearly.

    Returns:
        (H, W) values around 127 within about 0 to 255; `size` is (width, height).
    """
    rng = np.random.default_rng([CLASSES.index(kind), seed])
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    phase, period = rng.uniform(0, 20), rng.uniform(8, 16)
    wave_x, wave_y = np.sin((x + phase) * 2 * np.pi / period), np.sin((y + phase) * 2 * np.pi / period)
    shapes = {
        "stripes": wave_x,
        "checks": np.sign(wave_x * wave_y),
        "discs": np.where(np.hypot(x - width / 2 - phase, y - height / 2) < period * 1.8, 1.0, -1.0),
    }
    clouds = Image.fromarray(rng.uniform(-90, 90, (5, 6)).astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    strength = contrast * rng.uniform(0.05, 1.0)
    return 127 + strength * shapes[kind] + np.asarray(clouds) + rng.normal(0, 25, (height, width))


def save(values: NDArray[np.float64], path: Path, *, bits: int = 8) -> Path:
    """Save as an RGB image of 8 bits with a slight tint, or as a gray image of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if bits == 16:
        image = Image.fromarray(np.clip(values * 16 + 500, 0, 65535).astype(np.uint16))
    else:
        image = Image.fromarray(np.clip(values[..., None] * [1.0, 0.9, 0.8], 0, 255).astype(np.uint8))
    image.save(path, compress_level=0)
    return path


def class_folders(root: Path, counts: dict[str, int], *, first: int = 0, bits: int = 8) -> Path:
    """Write `root/<class>/NNN.png`."""
    for kind, count in counts.items():
        for i in range(count):
            save(pattern(kind, first + i), root / kind / f"{i:03d}.png", bits=bits)
    return root


def user_split(root: Path, parts: dict[str, int]) -> Path:
    """Write `root/<split>/<class>/NNN.png`, so many images of each class in each split."""
    first = 0
    for part, count in parts.items():
        class_folders(root / part, dict.fromkeys(CLASSES, count), first=first)
        first += count
    return root


def grouped_table(root: Path, *, groups: int = 9, views: int = 5) -> Path:
    """Write images of objects seen several times, and `table.csv` with the columns image, label, group."""
    rows = []
    for group in range(groups):
        kind = CLASSES[group % len(CLASSES)]
        shared = np.random.default_rng([7, group]).normal(0, 40, (4, 4)).astype(np.float32)
        tint = np.asarray(Image.fromarray(shared).resize((96, 80), Image.Resampling.BICUBIC))
        for view in range(views):
            name = f"images/{group * views + view:03d}.png"
            save(pattern(kind, 1000 + group * views + view) + tint, root / name)
            rows.append((name, kind, f"object{group}"))
    return write_table(root / "table.csv", ("image", "label", "group"), rows)


def leaky_split(root: Path) -> Path:
    """Write a split with exact and near copies across train and test, a conflicting label and a damaged file."""
    user_split(root, {"train": 8, "val": 3, "test": 5})
    noise = np.random.default_rng(5)
    for number in range(3):  # the same object under a little noise, on both sides
        values = pattern("discs", number)
        save(values + noise.normal(0, 2, values.shape), root / "test" / "discs" / f"near{number}.png")
    copy = (root / "train" / "checks" / "000.png").read_bytes()
    (root / "test" / "checks" / "copy.png").write_bytes(copy)
    (root / "train" / "stripes" / "conflict.png").write_bytes((root / "train" / "checks" / "003.png").read_bytes())
    (root / "train" / "discs" / "damaged.png").write_bytes(copy[:3000])
    return root


def boxes_table(root: Path, count: int, *, first: int = 0, is_faulty: bool = False) -> Path:
    """Write colored squares on noise and `boxes.csv`; every fifth image has no box.

    Args:
        root: A new folder.
        count: Number of images.
        first: Seed of the first image.
        is_faulty: Also write an empty box, one that leaves its image, one listed twice, and a copied image.
    """
    root.mkdir(parents=True)
    rows: list[Sequence[object]] = []
    for i in range(count):
        rng = np.random.default_rng([2, first + i])
        pixels, name = rng.integers(60, 120, (60, 90, 3)).astype(np.uint8), f"{i:02d}.png"
        for k in range(0 if i % 5 == 0 else 1 + i % 2):
            side, kind = int(rng.integers(14, 30)), (i + k) % 2
            x, y = 45 * k + int(rng.integers(0, 45 - side)), int(rng.integers(0, 60 - side))
            pixels[y : y + side, x : x + side] = (230, 40, 40) if kind else (40, 40, 230)
            rows.append((name, "red" if kind else "blue", x, y, x + side, y + side))
        if i % 5 == 0:
            rows.append((name, "", "", "", "", ""))
        Image.fromarray(pixels).save(root / name, compress_level=0)
    if is_faulty:
        rows += [("01.png", "red", 5, 5, 5, 20), ("02.png", "blue", 70, 40, 130, 55), rows[-1]]
        (root / "copy.png").write_bytes((root / "03.png").read_bytes())
        rows.append(("copy.png", "red", 4, 4, 30, 30))
    return write_table(root / "boxes.csv", ("image", "label", "xmin", "ymin", "xmax", "ymax"), rows)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path
