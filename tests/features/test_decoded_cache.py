"""Test the decoded-image cache: views do not depend on it, and images are decoded once."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.errors import DataError
from headstart.features.decoded_cache import DecodedCache, DecodedImages
from headstart.features.view_activations import ViewSet
from headstart.preprocessing.augmentation import make_view, parse_augment, view_rng
from headstart.preprocessing.image_spec import ImageSpec, normalize, read_image
from headstart.store import rows as rows_module
from headstart.store.cache import Cache, cache_info, clear_cache

SPEC = ImageSpec(size_hw=(32, 32))
AUGMENT = parse_augment("flip,crop=.4,rotate=20,brightness=.3,contrast=.3,saturation=.2,erase=.5")


@pytest.fixture
def files(photos: Path) -> list[str]:
    return [str(p) for p in sorted(photos.rglob("*.jpg"))[:12]]


def digests_of(files: list[str]) -> list[str]:
    return [hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in files]


def keeping_all(root: Path, **options: Any) -> DecodedCache:
    return DecodedCache(Cache(root, **options), read_rate=np.inf)


def open_images(files: list[str], cache: DecodedCache | None, **options: Any) -> DecodedImages:
    values = {"spec": SPEC, "augment": AUGMENT, "seed": 3, **options}
    images = ViewSet(files, digests_of(files), files, values.pop("augment"), values.pop("seed"))
    return DecodedImages(images, cache=cache, **values)


def all_views(images: DecodedImages, num: int = 12) -> list[Any]:
    return [images.make(i, view) for view in (1, 2, 0) for i in range(num)]


def test_pixels_do_not_depend_on_cache(files: list[str], tmp_path: Path) -> None:
    without = open_images(files, None)
    expected = all_views(without)
    assert without.num_decoded == 36
    first = open_images(files, keeping_all(tmp_path))
    np.testing.assert_array_equal(all_views(first), expected)
    assert first.num_decoded == 24  # once for the views, once for the plain image
    assert first.cache is not None
    first.cache.rows.flush()
    np.testing.assert_array_equal(all_views(first), expected)
    assert first.num_decoded == 24
    second = open_images(files, keeping_all(tmp_path))
    np.testing.assert_array_equal(all_views(second), expected)
    assert second.num_decoded == 0


def test_other_strengths_and_seeds_share_decoded_images(files: list[str], tmp_path: Path) -> None:
    first = open_images(files, keeping_all(tmp_path))
    all_views(first)
    other = open_images(files, first.cache, augment=parse_augment("crop=.7"), seed=8)
    all_views(other)
    assert other.num_decoded == 0
    all_views(open_images(files, first.cache, augment=parse_augment("flip,zoom=.2")))  # the plain view comes first
    assert other.num_decoded == 0
    larger = open_images(files, first.cache, view_spec=SPEC.with_(size_hw=(40, 40)))
    assert larger.make(0, 1).shape == (3, 40, 40)
    assert larger.make(0, 0).shape == (3, 32, 32)
    assert larger.num_decoded == 1


def test_plain_view_equals_prediction_input(files: list[str], tmp_path: Path) -> None:
    images = open_images(files, keeping_all(tmp_path))
    for _ in range(2):
        for i, file in enumerate(files):
            np.testing.assert_array_equal(images.make(i, 0), normalize(read_image(file, SPEC), SPEC))
    flipped = open_images(files, images.cache, augment=parse_augment("flip=1"))
    np.testing.assert_array_equal(flipped.make(0, 1), images.make(0, 0)[:, :, ::-1])


def test_views_of_unreduced_images_equal_those_of_the_file(files: list[str], tmp_path: Path) -> None:
    augment = parse_augment("flip,crop=.5,brightness=.3")
    spec = SPEC.with_(size_hw=(56, 56))  # the images have 96 x 80
    images = open_images(files, keeping_all(tmp_path), spec=spec, augment=augment)
    for i, file in enumerate(files):
        rng = view_rng(bytes.fromhex(digests_of(files)[i]), 4, 3)
        expected = normalize(make_view(Path(file).read_bytes(), spec, augment, rng), spec)
        np.testing.assert_array_equal(images.make(i, 4), expected)


def test_damaged_row_is_decoded_again(files: list[str], tmp_path: Path) -> None:
    first = open_images(files, keeping_all(tmp_path))
    expected = [first.make(i, 1) for i in range(12)]
    assert first.cache is not None
    first.cache.rows.flush()
    shard = next((tmp_path / "decoded").rglob("*.rows"))
    content = bytearray(shard.read_bytes())
    content[-100] ^= 0xFF
    shard.write_bytes(content)
    again = open_images(files, keeping_all(tmp_path))
    np.testing.assert_array_equal([again.make(i, 1) for i in range(12)], expected)
    assert again.num_decoded == 1
    assert again.cache is not None
    again.cache.rows.flush()
    for end in (5, 30, len(content) - 7):
        clear_cache(tmp_path)
        shard.parent.mkdir(parents=True)
        shard.write_bytes(content[:end])
        last = open_images(files, keeping_all(tmp_path))
        np.testing.assert_array_equal(last.make(2, 1), expected[2])
        assert last.num_decoded == 1


def test_changed_file_raises(files: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "a.jpg"
    copy.write_bytes(Path(files[0]).read_bytes())
    for cache in (None, keeping_all(tmp_path / "cache")):
        images = open_images([str(copy)], cache)
        copy.write_bytes(Path(files[1]).read_bytes())
        for view in (0, 1):
            with pytest.raises(DataError, match="changed"):
                images.make(0, view)
        copy.write_bytes(Path(files[0]).read_bytes())
    copy.unlink()
    with pytest.raises(DataError, match="no such file"):
        images.make(0, 1)


def test_full_disk_only_costs_time(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    expected = all_views(open_images(files, None))
    monkeypatch.setattr(rows_module, "private_folder", full)
    monkeypatch.setattr(rows_module, "_SHARD_BYTES", 20_000)
    images = open_images(files, keeping_all(tmp_path))
    np.testing.assert_array_equal(all_views(images), expected)
    assert images.cache is not None
    images.cache.rows.flush()
    assert images.cache.rows.write_error == "the disk is full"
    np.testing.assert_array_equal(all_views(images), expected)


def test_size_is_bounded_and_oldest_are_evicted(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "_SHARD_BYTES", 1)  # every image is a shard
    limit = 60_000
    for part in (files[:4], files[4:8], files[8:]):
        images = open_images(part, keeping_all(tmp_path, limit_bytes=2 * limit))
        for i in range(4):
            images.make(i, 1)
        assert images.num_decoded == 4
        (info,) = cache_info(tmp_path)
        assert info.name == "decoded"
        assert 0 < info.size_bytes <= limit
    again = open_images(files[8:], keeping_all(tmp_path, limit_bytes=2 * limit))
    for i in range(4):
        again.make(i, 1)
    assert again.num_decoded == 0
    assert clear_cache(tmp_path, "decoded") > 0
    large = open_images(files, keeping_all(tmp_path, limit_bytes=2 * limit))  # more than fits
    expected = [large.make(i, 1) for i in range(12)]
    np.testing.assert_array_equal([large.make(i, 1) for i in range(12)], expected)
    assert 12 < large.num_decoded < 24  # the first rows stay
    assert clear_cache(tmp_path, "decoded") > 0
    small = open_images(files, keeping_all(tmp_path, limit_bytes=10))
    small.make(0, 1)
    assert "limit" in str(small.cache and small.cache.rows.write_error)


def test_rows_are_written_together(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(rows_module.time, "monotonic", lambda: now[0])
    images = open_images(files, keeping_all(tmp_path))
    now[0] += 100.0  # the first image comes long after the cache was opened
    for i in range(6):
        images.make(i, 1)
        assert not list(tmp_path.rglob("*.rows"))
    now[0] += 100.0
    images.make(6, 1)
    assert len(list(tmp_path.rglob("*.rows"))) == 1


def test_fast_decoding_images_are_not_cached(files: list[str], tmp_path: Path) -> None:
    images = open_images(files, DecodedCache(Cache(tmp_path), read_rate=1.0))
    all_views(images)
    all_views(images)
    assert images.num_decoded == 72
    assert images.cache is not None
    images.cache.rows.flush()
    assert not list(tmp_path.rglob("*.rows"))


def test_rotated_deep_and_transparent_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    turned = Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(rng.integers(0, 65536, (70, 50)).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(rng.integers(0, 256, (80, 70, 4), dtype=np.uint8)).save(tmp_path / "clear.png")
    files = [str(tmp_path / name) for name in ("turned.jpg", "deep.png", "clear.png")]
    spec, augment = SPEC.with_(size_hw=(40, 40), background=(9, 99, 199)), parse_augment("crop=.5")
    images = open_images(files, keeping_all(tmp_path / "cache"), spec=spec, augment=augment)
    for _ in range(2):
        for i, file in enumerate(files):
            generator = view_rng(bytes.fromhex(digests_of(files)[i]), 1, 3)
            expected = make_view(Path(file).read_bytes(), spec, augment, generator)
            np.testing.assert_array_equal(images.make(i, 1), normalize(expected, spec))
    assert images.num_decoded == 3


_PROCESS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_decoded_cache import all_views, keeping_all, open_images
files = [str(p) for p in sorted(Path(sys.argv[2]).rglob("*.jpg"))[:12]]
images = open_images(files, keeping_all(Path(sys.argv[3])))
views = all_views(images)
images.cache.rows.flush()
import hashlib
print(hashlib.sha256(b"".join(v.tobytes() for v in views)).hexdigest())
"""


def test_two_processes_at_once(photos: Path, files: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PROCESS, str(Path(__file__).parent), str(photos), str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].strip() for process in both]
    expected = hashlib.sha256(b"".join(v.tobytes() for v in all_views(open_images(files, None)))).hexdigest()
    assert outputs == [expected, expected]
    again = open_images(files, keeping_all(tmp_path))
    all_views(again)
    assert again.num_decoded == 0


def test_threads_at_once(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(rows_module, "_SHARD_BYTES", 20_000)
    expected = all_views(open_images(files, None))
    images = open_images(files, keeping_all(tmp_path))
    make: Callable[[tuple[int, int]], Any] = lambda pair: images.make(pair[1], pair[0])  # noqa: E731
    pairs = [(view, i) for view in (1, 2, 0) for i in range(12)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            np.testing.assert_array_equal(list(pool.map(make, pairs)), expected)
