"""Test contact sheets, with tiles for unreadable images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.sources import read
from headstart.preprocessing.augmentation import make_view, parse_augment, view_rng
from headstart.preprocessing.image_spec import ImageSpec, read_image
from headstart.quality.contact_sheet import Tile, draw_by_class, draw_pairs, draw_sheet, draw_views, image_tile


def test_one_row_per_class_and_reproducible(photos: Path) -> None:
    samples = read(photos)
    one, two = (draw_by_class(samples, per_class=4, seed=s) for s in (0, 1))
    again = draw_by_class(samples, per_class=4, seed=0)
    np.testing.assert_array_equal(np.asarray(one), np.asarray(again))
    assert (np.asarray(one) != np.asarray(two)).any()
    assert one.height > 3 * 128


def test_as_seen_shows_network_input(photos: Path) -> None:
    samples = read(photos)
    spec = ImageSpec(size_hw=(100, 100), crop_fraction=0.5)
    sheet = np.asarray(draw_by_class(samples, per_class=1, seed=3, side=100, preprocessed=spec))
    inputs = [read_image(s.path, spec) for s in samples]
    windows = [sheet[y : y + 100, 8:108] for y in range(sheet.shape[0] - 100)]
    assert sum(any(np.array_equal(w, p) for w in windows) for p in inputs) == 3


def test_views_match_training_cache(photos: Path) -> None:
    samples, spec, augment = read(photos), ImageSpec(size_hw=(64, 64)), parse_augment("flip,crop=.4,brightness=.3")
    sheet = np.asarray(draw_views(samples, spec, augment, count=2, num_images=3, seed=5))
    windows = [sheet[y : y + 64, x : x + 64] for y in range(sheet.shape[0] - 64) for x in (8, 80, 152)]

    def is_shown(pixels: np.ndarray) -> bool:
        return any(np.array_equal(w, pixels) for w in windows)

    shown = [s for s in samples if is_shown(read_image(s.path, spec))]
    assert len({s.label for s in shown}) == 3
    for sample in shown:
        data = Path(sample.path).read_bytes()
        digest = hashlib.sha256(data).digest()
        for view in (0, 1):
            assert is_shown(make_view(data, spec, augment, view_rng(digest, view, 5)))


def test_unreadable_images_are_tiles_with_reason(tmp_path: Path, make_images: Callable[..., Path]) -> None:
    data = make_images(tmp_path / "d", {"a": 2, "b": 2})
    (data / "a" / "broken.jpg").write_bytes(b"nonsense")
    sheet = np.asarray(draw_by_class(read(data), per_class=5))
    assert (sheet == (170, 30, 30)).all(-1).sum() > 200


def test_unusual_names_are_drawn() -> None:
    tiles = [
        Tile(None, "a\nb\udcff" * 30, "the\x00 file " * 40),
        image_tile(np.zeros((5, 900, 3), np.uint8), "Ω漢字"),
    ]
    assert draw_sheet([("<script>" * 50, tiles)], title="t" * 500, side=64).width >= 420


def test_pairs(photos: Path) -> None:
    samples = read(photos)
    sheet = draw_pairs(samples, [(0, 1, "near copies (0.99)"), (2, 3, "the same bytes")], side=80)
    assert isinstance(sheet, Image.Image)
    with pytest.raises(ValueError, match="at least one"):
        draw_pairs(samples, [])
