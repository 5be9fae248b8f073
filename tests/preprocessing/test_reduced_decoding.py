"""Test that one decode gives both the dataset check and the network their exact result."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from headstart.preprocessing import reduced_decoding as reduced_room
from headstart.preprocessing.image_spec import ImageError, ImageSpec, read_image
from headstart.preprocessing.reduced_decoding import decode_for_both, decode_reduced, extension_notes

MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "RGBA", "LA", "P", "1", "I;16"),
    "TIFF": ("RGB", "L", "CMYK", "I;16", "F", "I"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB", "L", "1"),
    "GIF": ("P", "L"),
    "PPM": ("RGB", "L"),
}
KINDS = [(form, mode) for form, modes in MODES.items() for mode in modes]


def draw_image(width: int, height: int, mode: str, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng([seed, width, height])
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 4)).astype(np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    if mode in ("I;16", "F", "I"):
        gray = np.asarray(image.convert("L"), dtype=np.float64) * 15.9
        return Image.fromarray(gray.astype({"I;16": np.uint16, "F": np.float32, "I": np.int32}[mode]))
    if mode in ("RGBA", "LA"):
        return image if mode == "RGBA" else image.convert("LA")
    return image.convert("RGB").convert(mode)


def encode(image: Image.Image, form: str, orientation: int = 1, **options: object) -> bytes:
    buffer = io.BytesIO()
    if form in ("JPEG", "PNG", "TIFF", "WEBP") and orientation > 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def assert_same(data: bytes, spec: ImageSpec, min_side: int) -> None:
    """Check that both functions return the same or raise the same error."""
    expected: ImageError | None = None
    try:
        alone = decode_reduced(data, min_side=min_side, max_pixels=spec.max_pixels, name="a.jpg")
        seen = read_image(data, spec)
    except ImageError as error:
        expected = error
    if expected is not None:
        with pytest.raises(ImageError) as caught:
            decode_for_both(data, spec, min_side=min_side, name="a.jpg")
        assert (caught.value.kind, caught.value.detail) == (expected.kind, expected.detail)
        return
    both, pixels = decode_for_both(data, spec, min_side=min_side, name="a.jpg")
    np.testing.assert_array_equal(pixels, seen)
    assert pixels.dtype == np.uint8
    assert both.image.size == alone.image.size
    np.testing.assert_array_equal(np.asarray(both.image), np.asarray(alone.image))
    for name in ("format", "mode", "size_hw", "quality", "exif", "notes"):
        assert getattr(both, name) == getattr(alone, name), name


@pytest.mark.parametrize(("form", "mode"), KINDS, ids=[f"{f}-{m}" for f, m in KINDS])
@pytest.mark.parametrize("fit", ["crop", "cover", "squash", "pad"])
def test_every_format_and_mode(form: str, mode: str, fit: str) -> None:
    spec = ImageSpec(size_hw=(48, 56), resize_mode=fit, intensity_range=(0, 4095))  # type: ignore[arg-type]
    for size in ((70, 50), (260, 300)):
        assert_same(encode(draw_image(*size, mode), form), spec, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", ["crop", "cover", "squash", "pad"])
def test_every_orientation_of_a_photograph(orientation: int, fit: str) -> None:
    for size in ((900, 500), (400, 700), (130, 90)):
        data = encode(draw_image(*size, "RGB"), "JPEG", orientation)
        assert_same(data, ImageSpec(size_hw=(96, 64), resize_mode=fit), 64)  # type: ignore[arg-type]
        assert_same(data, ImageSpec(size_hw=(32, 32), resize_mode=fit), 256)  # type: ignore[arg-type]


@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    out_hw=st.tuples(st.integers(1, 260), st.integers(1, 260)),
    fit=st.sampled_from(["crop", "cover", "squash", "pad"]),
    crop_fraction=st.sampled_from([0.5, 0.875, 0.96, 1.0]),
    orientation=st.integers(1, 8),
    min_side=st.sampled_from([16, 64, 256, 1 << 30]),
    has_draft=st.booleans(),
    kind=st.sampled_from([("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("TIFF", "RGB")]),
)
@example(700, 500, (224, 224), "crop", 0.875, 6, 256, True, ("JPEG", "RGB"))
@example(512, 512, (256, 256), "squash", 0.875, 1, 256, True, ("JPEG", "RGB"))
@example(511, 512, (64, 128), "pad", 0.875, 5, 64, True, ("JPEG", "RGB"))
def test_any_size_spec_and_orientation(
    width: int,
    height: int,
    out_hw: tuple[int, int],
    fit: str,
    crop_fraction: float,
    orientation: int,
    min_side: int,
    has_draft: bool,
    kind: tuple[str, str],
) -> None:
    spec = ImageSpec(size_hw=out_hw, resize_mode=fit, crop_fraction=crop_fraction, has_draft=has_draft)  # type: ignore[arg-type]
    assert_same(encode(draw_image(width, height, kind[1]), kind[0], orientation), spec, min_side)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: b"",
        lambda d: d[: len(d) // 2],
        lambda d: d[:3],
        lambda d: b"words and more words",
        lambda d: d[:200] + b"\xff\xc0" + d[202:],
    ],
    ids=["empty", "half", "head", "text", "mangled"],
)
def test_bad_files_raise_same_error(spoil: Callable[[bytes], bytes]) -> None:
    for form in ("JPEG", "PNG", "TIFF"):
        assert_same(spoil(encode(draw_image(300, 200, "RGB"), form)), ImageSpec(size_hw=(64, 64)), 64)


def test_too_large_and_float_without_a_range() -> None:
    assert_same(encode(draw_image(300, 200, "RGB"), "JPEG"), ImageSpec(size_hw=(64, 64), max_pixels=50_000), 64)
    assert_same(encode(draw_image(60, 40, "F"), "TIFF"), ImageSpec(size_hw=(64, 64)), 64)


def test_many_images_in_one_file() -> None:
    for form in ("MPO", "WEBP", "TIFF", "GIF"):
        first, second = draw_image(300, 240, "RGB"), draw_image(300, 240, "RGB", 1)
        data = encode(first, form, save_all=True, append_images=[second])
        assert_same(data, ImageSpec(size_hw=(64, 64)), 64)


def test_transparent_palette_and_progressive_jpeg() -> None:
    spec = ImageSpec(size_hw=(64, 64), background=(0, 200, 0))
    assert_same(encode(draw_image(90, 70, "P"), "PNG", transparency=3), spec, 64)
    assert_same(encode(draw_image(800, 600, "RGB"), "JPEG", progressive=True, quality=60), spec, 64)


def test_large_photograph_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both need the same scale in almost all cases."""
    decoded = []
    monkeypatch.setattr(reduced_room, "read_image", lambda *a: decoded.append(a) or read_image(*a))
    for size in ((640, 480), (1200, 900), (300, 220), (224, 224), (480, 640)):
        for orientation in (1, 6):
            data = encode(draw_image(*size, "RGB"), "JPEG", orientation)
            decode_for_both(data, ImageSpec(), min_side=256)
    assert not decoded


def test_reduced_image_is_at_least_requested_size() -> None:
    for size in ((1600, 1200), (1024, 512), (700, 3000), (513, 512), (100, 2000)):
        decoded = decode_reduced(encode(draw_image(*size, "RGB"), "JPEG"), min_side=256, max_pixels=10**8)
        assert min(decoded.image.size) >= min(256, *size)
        assert decoded.size_hw == size[::-1]
    large = decode_reduced(encode(draw_image(1600, 1200, "RGB"), "JPEG"), min_side=256, max_pixels=10**8)
    assert large.image.size == (400, 300)


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95, 100])
def test_jpeg_quality(quality: int) -> None:
    decoded = decode_reduced(encode(draw_image(64, 64, "RGB"), "JPEG", quality=quality), min_side=64, max_pixels=10**8)
    assert decoded.quality is not None
    assert abs(decoded.quality - quality) <= 2
    assert decode_reduced(encode(draw_image(64, 64, "RGB"), "PNG"), min_side=64, max_pixels=10**8).quality is None


def test_extension_notes() -> None:
    assert extension_notes("JPEG", "a.JPG") == extension_notes("JPEG", "") == extension_notes("TIFF", "b/c.tiff") == []
    ((kind, detail),) = extension_notes("PNG", "a.jpg")
    assert (kind, ".jpg" in detail, "PNG" in detail) == ("wrong-extension", True, True)
    assert "no extension" in extension_notes("PNG", "a")[0][1]
