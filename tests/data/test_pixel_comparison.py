"""Test pixel equality of files, beyond thumbnail digests."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import encode, scene

from headstart.data.image_scan import scan_images
from headstart.data.sources import read
from headstart.quality.duplicates import find_duplicates, have_same_pixels

IMAGE = scene(3, (300, 240))


def equal(tmp_path: Path, one: bytes, two: bytes, max_pixels: int = 10**8) -> bool:
    paths = [tmp_path / "one", tmp_path / "two"]
    for path, data in zip(paths, (one, two), strict=True):
        path.write_bytes(data)
    same = partial(have_same_pixels, [str(p) for p in paths], max_pixels)
    assert same(0, 1) == same(1, 0)
    return same(0, 1)


def one_off(image: Image.Image) -> Image.Image:
    """Return the same image with one value of one pixel changed by one."""
    pixels = np.array(image)
    pixels[-1, -1] = np.where(pixels[-1, -1] > 0, pixels[-1, -1] - 1, 1)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_same_pixels_in_other_files(tmp_path: Path, form: str) -> None:
    assert equal(tmp_path, encode(IMAGE, "PNG"), encode(IMAGE, form))
    assert not equal(tmp_path, encode(IMAGE, "PNG"), encode(one_off(IMAGE), form))


def test_gray_and_color_files_of_one_gray_image(tmp_path: Path) -> None:
    gray = IMAGE.convert("L")
    assert equal(tmp_path, encode(gray, "PNG"), encode(gray.convert("RGB"), "PNG"))
    assert not equal(tmp_path, encode(gray, "PNG"), encode(IMAGE, "PNG"))
    assert not equal(tmp_path, encode(one_off(gray), "PNG"), encode(gray.convert("RGB"), "PNG"))


def test_all_16_bits_are_compared(tmp_path: Path) -> None:
    deep = np.asarray(IMAGE.convert("L"), dtype=np.uint16) * 256
    low = deep + 1  # only the lowest bit differs
    files = [encode(Image.fromarray(a), "PNG") for a in (deep, low)]
    assert not equal(tmp_path, *files)
    assert equal(tmp_path, files[0], encode(Image.fromarray(deep), "TIFF"))


def test_transparent_pixels_are_compared(tmp_path: Path) -> None:
    clear = IMAGE.convert("RGBA")
    clear.putalpha(0)
    assert not equal(tmp_path, encode(IMAGE, "PNG"), encode(clear, "PNG"))
    assert equal(tmp_path, encode(clear, "PNG"), encode(clear, "TIFF"))


def test_large_photographs_are_compared_at_full_size(tmp_path: Path) -> None:
    """Reduced decoding would miss one changed corner."""
    large = scene(4, (1400, 1100))
    marked = large.copy()
    marked.paste((255, 0, 0), (0, 0, 8, 8))
    assert not equal(tmp_path, encode(large, quality=95), encode(marked, quality=95))
    data = encode(large, quality=95)
    assert equal(tmp_path, data, data[:2] + b"\xff\xfe\x00\x07hello" + data[2:])  # one more comment


def test_exif_rotation_equals_stored_rotation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = IMAGE.transpose(Image.Transpose.ROTATE_180)
    assert equal(tmp_path, encode(IMAGE, "PNG"), encode(turned, "PNG", exif=exif))


def test_sizes_and_unreadable_files(tmp_path: Path) -> None:
    data = encode(IMAGE, "PNG")
    assert not equal(tmp_path, data, encode(IMAGE.resize((150, 120)), "PNG"))
    assert not equal(tmp_path, data, data[: len(data) // 2])
    assert not equal(tmp_path, data, b"")
    assert not equal(tmp_path, data, data, max_pixels=1000)  # refused before it is decoded


def test_equal_thumbnails_need_not_be_equal_images(tmp_path: Path) -> None:
    """A difference too small for any thumbnail: pixels are compared and the pair is not reported as equal."""
    large = np.array(scene(6, (960, 960)))
    other = large.copy()
    other[500, 500] ^= 1
    for label, pixels in (("a", large), ("b", other)):
        (tmp_path / label).mkdir()
        Image.fromarray(pixels).save(tmp_path / label / "1.png")
    samples = read(tmp_path)
    scan = scan_images(samples, num_threads=1)
    keys = [f.pixel_key for f in scan.info if f is not None]
    assert keys[0] == keys[1]  # otherwise the test proves nothing
    exact, _, _ = find_duplicates(scan, same_pixels=partial(have_same_pixels, samples.paths, 10**8), num_threads=1)
    assert exact == []
    exact, _, _ = find_duplicates(scan, num_threads=1)
    assert [p.kind for p in exact] == ["pixels"]
