"""Test that planted shortcuts are detected and clean images have none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.image_scan import scan_images
from headstart.data.sources import read
from headstart.quality.shortcuts import Shortcut, _evaluate, find_shortcuts

Change = Callable[[Image.Image, str, int], tuple[Image.Image, dict[str, object]]]
RNG = np.random.default_rng(7)


def scene(rng: np.random.Generator) -> Image.Image:
    """Return a soft image whose class shows only in a small patch in the middle."""
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((96, 72), Image.Resampling.BICUBIC)


def build(root: Path, change: Change, count: int = 40) -> list[Shortcut]:
    rng = np.random.default_rng(1)
    for name in ("left", "middle", "right"):
        (root / name).mkdir(parents=True)
        for i in range(count):
            image, options = change(scene(rng), name, i)
            image.save(root / name / f"{i}.jpg", **({"quality": int(rng.integers(80, 96))} | options))
    samples = read(root)
    return list(find_shortcuts(scan_images(samples), samples.paths, samples.class_ids, samples.class_names))


def flagged(shortcuts: list[Shortcut]) -> set[str]:
    return {s.cue for s in shortcuts if s.is_flagged}


def test_clean_images_have_no_shortcuts(tmp_path: Path) -> None:
    assert flagged(build(tmp_path, lambda image, name, i: (image, {}))) == set()


def test_jpeg_quality_by_class(tmp_path: Path) -> None:
    quality = {"left": 40, "middle": 90, "right": 90}
    shortcuts = build(tmp_path, lambda image, name, i: (image, {"quality": quality[name] + i % 3}))
    assert "format" in flagged(shortcuts)
    (shortcut,) = (s for s in shortcuts if s.cue == "format")
    assert shortcut.accuracy > shortcut.chance + 0.2
    assert shortcut.revealed_fractions["left"] > 0.9
    assert shortcut.given_class is not None


def test_colored_border_in_one_class(tmp_path: Path) -> None:
    def frame(image: Image.Image, name: str, i: int) -> tuple[Image.Image, dict[str, object]]:
        if name == "right":
            inner = image.resize((88, 64))
            image = Image.new("RGB", (96, 72), (200, 30, 30))
            image.paste(inner, (4, 4))
        return image, {}

    shortcuts = build(tmp_path, frame)
    assert "border" in flagged(shortcuts)
    (shortcut,) = (s for s in shortcuts if s.cue == "border")
    assert shortcut.given_class == "right"
    assert 0 < len(shortcut.examples) <= 6


def test_noise_in_half_of_one_class(tmp_path: Path) -> None:
    def noise(image: Image.Image, name: str, i: int) -> tuple[Image.Image, dict[str, object]]:
        if name == "middle" and i % 2:
            image = Image.fromarray(RNG.integers(0, 256, (72, 96, 3), dtype=np.uint8))
        return image, {}

    assert "noise" in flagged(build(tmp_path, noise))


def test_camera_by_class(tmp_path: Path) -> None:
    def camera(image: Image.Image, name: str, i: int) -> tuple[Image.Image, dict[str, object]]:
        exif = Image.Exif()
        exif[0x010F] = "Maker A" if name == "left" else "Maker B"
        return image, {"exif": exif}

    assert "camera" in flagged(build(tmp_path, camera))


def test_folder_dates(tmp_path: Path) -> None:
    build(tmp_path, lambda image, name, i: (image, {}))
    for file in tmp_path.rglob("*.jpg"):
        day = 86400 * (100 if file.parent.name == "left" else 200)
        os.utime(file, (day, day))
    samples = read(tmp_path)
    scan = scan_images(samples)
    shortcuts = find_shortcuts(scan, samples.paths, samples.class_ids, samples.class_names)
    assert "date" in flagged(list(shortcuts))


def test_duplicates_do_not_vote_for_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    groups = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for original in range(12):
            image = scene(rng)
            for copy in range(10):
                image.save(tmp_path / name / f"{original:02d}_{copy}.jpg", quality=90)
                groups.append(12 * (name == "b") + original)
    samples = read(tmp_path)
    scan = scan_images(samples)
    apart = find_shortcuts(scan, samples.paths, samples.class_ids, samples.class_names)
    together = find_shortcuts(
        scan, samples.paths, samples.class_ids, samples.class_names, groups=np.array(groups, dtype=np.int64)
    )
    assert {s.cue: s.accuracy for s in apart}["thumbnail"] == 1.0
    assert {s.cue: s.accuracy for s in together}["thumbnail"] < 0.8


def shortcut_of(own: int, num_classes: int = 3, count: int = 40) -> Shortcut:
    """Return a cue in which `own` of the nine nearest images are of the same class, the others of the next one."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_classes), count)
    near = np.empty((len(labels), 9), dtype=np.int64)
    for i, k in enumerate(labels):
        mine, other = (np.flatnonzero(labels == c) for c in (k, (k + 1) % num_classes))
        near[i] = [*rng.choice(mine[mine != i], own, replace=False), *rng.choice(other, 9 - own, replace=False)]
    shuffles = [rng.permutation(labels) for _ in range(99)]
    return _evaluate("file size", near, labels, np.arange(len(labels)), ("a", "b", "c")[:num_classes], shuffles)


def test_cue_can_predict_class_without_given_class() -> None:
    shortcut = shortcut_of(own=5)
    assert shortcut.is_flagged
    assert shortcut.accuracy == 1.0
    assert (shortcut.given_class, shortcut.examples) == (None, ())


def test_examples_belong_to_given_class() -> None:
    shortcut = shortcut_of(own=9)
    assert shortcut.given_class in ("a", "b", "c")
    assert len(shortcut.examples) == 6
    assert {"abc"[i // 40] for i in shortcut.examples} == {shortcut.given_class}


@pytest.mark.parametrize("counts", [{"a": 4, "b": 40}, {"a": 10, "b": 10}])
def test_too_few_images_give_no_result(
    counts: dict[str, int], tmp_path: Path, make_images: Callable[..., Path]
) -> None:
    samples = read(make_images(tmp_path / "d", counts))
    scan = scan_images(samples)
    assert find_shortcuts(scan, samples.paths, samples.class_ids, samples.class_names) == ()
