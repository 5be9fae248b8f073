"""Test preprocessing of every image mode, orientation and resize mode."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.preprocessing.image_spec import ImageError, ImageSpec, normalize, read_image

SPEC = ImageSpec(size_hw=(32, 48), resize_mode="squash")


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def gradient(width: int = 200, height: int = 120) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8))


def test_shape_and_type() -> None:
    pixels = read_image(encode(gradient()), SPEC)
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8


def test_normalize_is_value_over_255_minus_mean_over_std() -> None:
    spec = ImageSpec(size_hw=(4, 5), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    expected = np.moveaxis((pixels / 255 - np.array(spec.mean)) / np.array(spec.std), -1, 1)
    got = normalize(pixels, spec)
    assert got.shape == (2, 3, 4, 5)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, expected, atol=2e-6)
    np.testing.assert_array_equal(normalize(pixels[0], spec), got[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", ["crop", "cover", "squash", "pad"])
def test_exif_orientation_is_applied(orientation: int, fit: str) -> None:
    upright = gradient()
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's Transpose that the camera "did"
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    spec = SPEC.with_(resize_mode=fit)
    plain = read_image(encode(upright), spec).astype(int)
    turned = read_image(encode(stored, exif=exif), spec).astype(int)
    assert np.abs(plain - turned).max() <= 2


def test_transparency_is_composited_on_the_stated_color() -> None:
    clear = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    assert (read_image(encode(clear), SPEC) == 255).all()
    green = SPEC.with_(background=(0, 200, 0))
    assert (read_image(encode(clear), green)[0, 0] == (0, 200, 0)).all()
    palette = Image.new("P", (10, 10), 0)
    palette.putpalette([10, 20, 30] + [0] * 765)
    assert (read_image(encode(palette, transparency=0), green)[0, 0] == (0, 200, 0)).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = gradient().convert("L")
    if mode == "I;16":
        image = Image.fromarray((np.asarray(image).astype(np.uint16)) * 257)
    else:
        image = image.convert(mode)
    pixels = read_image(encode(image, "TIFF" if mode == "CMYK" else "PNG"), SPEC)
    assert pixels.shape == (32, 48, 3)
    if mode not in ("1", "P"):
        reference = read_image(encode(gradient().convert("L")), SPEC).astype(int)
        assert np.abs(pixels.astype(int) - reference).max() <= 3


def test_deep_images_use_one_range() -> None:
    dim = Image.fromarray(np.full((20, 20), 1000, np.uint16))
    assert read_image(encode(dim), SPEC).max() == 4  # 0-65535 unless a range is stated
    ranged = SPEC.with_(intensity_range=(0, 2000))
    assert abs(int(read_image(encode(dim), ranged).max()) - 128) <= 1
    with pytest.raises(ImageError, match="range"):
        read_image(encode(Image.fromarray(np.ones((5, 5), np.float32)), "TIFF"), SPEC)


def test_resize_modes() -> None:
    wide = Image.new("RGB", (400, 100), (0, 0, 0))
    wide.paste((255, 0, 0), (0, 0, 100, 100))
    square = ImageSpec(size_hw=(64, 64), background=(0, 0, 255))
    assert read_image(encode(wide), square.with_(resize_mode="cover"))[..., 0].max() < 30  # the red part is cut off
    squashed = read_image(encode(wide), square.with_(resize_mode="squash"))
    assert squashed[:, :12, 0].min() > 200
    padded = read_image(encode(wide), square.with_(resize_mode="pad"))
    assert (padded[0, 32] == (0, 0, 255)).all()
    assert (padded[32, 2] == (255, 0, 0)).all()


def test_crop_keeps_fraction_of_short_side() -> None:
    framed = Image.new("RGB", (200, 200), (255, 0, 0))
    framed.paste((0, 0, 0), (20, 20, 180, 180))  # a red frame of 10 % on every side
    spec = ImageSpec(size_hw=(64, 64), resize_mode="crop", crop_fraction=0.75)
    assert read_image(encode(framed), spec)[..., 0].max() < 10
    assert read_image(encode(framed), spec.with_(crop_fraction=0.95))[0, 0, 0] > 200


def test_draft_decoding_never_falls_below_the_target() -> None:
    smooth = gradient(1600, 1200).resize((1600, 1200))
    data = encode(smooth, "JPEG", quality=95)
    fast = read_image(data, ImageSpec())
    slow = read_image(data, ImageSpec(has_draft=False))
    assert np.abs(fast.astype(int) - slow.astype(int)).mean() < 3


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"not an image at all", "format"),
        (encode(gradient())[:-100], "truncated"),
        (encode(gradient(), "JPEG")[:900], "truncated"),
    ],
    ids=["empty", "text", "half a PNG", "half a JPEG"],
)
def test_bad_files_raise_with_name(tmp_path: Path, content: bytes, kind: str) -> None:
    file = tmp_path / "bad.png"
    file.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_image(file, SPEC)
    assert caught.value.kind == kind


def test_missing_folder_and_large_image_raise(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as missing:
        read_image(tmp_path / "none.png", SPEC)
    assert missing.value.kind == "missing"
    with pytest.raises(ImageError) as folder:
        read_image(tmp_path, SPEC)
    assert folder.value.kind in ("folder", "permission")
    with pytest.raises(ImageError) as large:
        read_image(encode(gradient()), SPEC.with_(max_pixels=100))
    assert large.value.kind == "too-large"


def test_spec_is_a_json_value() -> None:
    spec = ImageSpec(size_hw=(240, 240), resize_mode="pad", intensity_range=(0, 4095))
    assert ImageSpec.from_json(spec.to_json()) == spec
    assert spec.digest != spec.with_(background=(0, 0, 0)).digest
    with pytest.raises(ValueError, match="unknown"):
        ImageSpec.from_json({"color": 1})
    with pytest.raises(ValueError, match="resize_mode"):
        ImageSpec(resize_mode="stretch")  # type: ignore[arg-type]
