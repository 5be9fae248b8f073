"""Provide the datasets of the fine-tuning benchmarks as `train/` and `test/` folders with n images per class.

Test images are the same at every size and seed, so that cells are paired. Duplicates of training images are
excluded from the test images.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks._common import bench_data
from headstart.api.demo import write_solar_csv

SETS = ("digits", "elpv", "blood_cells", "hand_drawn_shapes", "clothing", "covid_xray")
MAX_TEST = 400  # test images of a set: enough for a mean over cells, and predicted in seconds
_SUFFIXES = {".jpg", ".jpeg", ".png"}

Pair = tuple[Path, str]
"""A file and its label."""


def load_set(name: str, scratch: Path) -> tuple[list[Pair], list[Pair]]:
    """Return training and test images of a dataset; generated files are written to `scratch`."""
    if name == "digits":
        train, test = _digits(scratch)
    elif name == "elpv":
        train, test = solar_cells(scratch, by_module=True)
    else:
        train, test = (_folder(bench_data() / name / part) for part in ("train", "test"))
    if name == "covid_xray":
        test = _without_copies(train, test)
    order = np.random.default_rng(17).permutation(len(test))[:MAX_TEST]
    return train, [test[i] for i in sorted(order)]


def make_cell(train: list[Pair], test: list[Pair], size: str, seed: int, folder: Path) -> tuple[Path, list[Pair]]:
    """Link `size` training images per class (or `all`) and all test images.

    Returns:
        The folder, and the test images with their paths in it.
    """
    by_class: dict[str, list[Path]] = defaultdict(list)
    for file, label in train:
        by_class[label].append(file)
    rng = np.random.default_rng([seed, 3])
    chosen: list[tuple[str, Path, str]] = []
    for label, files in sorted(by_class.items()):
        files = sorted(files)
        picks = range(len(files)) if size == "all" else sorted(rng.permutation(len(files))[: int(size)])
        chosen += [("train", files[i], label) for i in picks]
    chosen += [("test", file, label) for file, label in test]
    placed = []
    for number, (part, file, label) in enumerate(chosen):
        place = folder / part / label / f"{number:05d}-{file.name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file)
        if part == "test":
            placed.append((place, label))
    return folder, placed


def solar_cells(scratch: Path, *, by_module: bool, seed: int = 0) -> tuple[list[Pair], list[Pair]]:
    """Return photographs of solar cells, a quarter for testing, split by module or by cell."""
    table = scratch / "solar.csv"
    write_solar_csv(table)
    with open(table, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng([seed, 9])
    if by_module:
        modules = sorted({r["group"] for r in rows})
        held = {modules[i] for i in rng.permutation(len(modules))[: len(modules) // 4]}
        is_test = np.array([r["group"] in held for r in rows])
    else:
        is_test = np.zeros(len(rows), dtype=bool)
        is_test[rng.permutation(len(rows))[: len(rows) // 4]] = True
    pairs = [(Path(r["image"]), r["label"]) for r in rows]
    return [p for p, t in zip(pairs, is_test, strict=True) if not t], [
        p for p, t in zip(pairs, is_test, strict=True) if t
    ]


def _folder(root: Path) -> list[Pair]:
    return [
        (file, place.name)
        for place in sorted(p for p in root.iterdir() if p.is_dir())
        for file in sorted(place.iterdir())
        if file.suffix.lower() in _SUFFIXES
    ]


def _digits(scratch: Path) -> tuple[list[Pair], list[Pair]]:
    """Return scikit-learn's handwritten digits, enlarged from 8 x 8 to 64 x 64 pixels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pairs = []
    for i, (values, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = scratch / "digits" / f"{i:04d}.png"
        place.parent.mkdir(exist_ok=True)
        if not place.exists():
            image = Image.fromarray(np.uint8(np.minimum(values * 16, 255)))
            image.resize((64, 64), Image.Resampling.BICUBIC).save(place)
        pairs.append((place, str(label)))
    cut = 1297  # other writers before and after
    return pairs[:cut], pairs[cut:]


def _without_copies(train: list[Pair], test: list[Pair]) -> list[Pair]:
    """Return the test images whose thumbnail matches no training image."""
    train_thumbs, test_thumbs = _thumbnails(train), _thumbnails(test)
    return [pair for pair, best in zip(test, (test_thumbs @ train_thumbs.T).max(axis=1), strict=True) if best < 0.99]


def _thumbnails(pairs: list[Pair]) -> NDArray[np.float64]:
    """Return (N, 1024) gray thumbnails with mean 0 and norm 1."""
    rows = []
    for file, _ in pairs:
        with Image.open(file) as image:
            rows.append(np.asarray(image.convert("L").resize((32, 32)), dtype=np.float64).ravel())
    values = np.stack(rows)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
