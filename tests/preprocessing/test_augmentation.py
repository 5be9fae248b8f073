"""Test that views depend on image, view number and seed only."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from headstart.errors import SettingError
from headstart.preprocessing.augmentation import (
    Augment,
    cut_view,
    decode_once,
    decoding_rule,
    make_view,
    parse_augment,
    view_rng,
)
from headstart.preprocessing.image_spec import ImageError, ImageSpec, read_image

SPEC = ImageSpec(size_hw=(48, 64))
STRONG = parse_augment("flip,vflip,crop=.3,zoom=.3,shift=.2,rotate=30,shear=.2,brightness=.4,contrast=.4,saturation=.5")


def as_file(seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((96, 80), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def test_views_are_reproducible() -> None:
    data, digest = as_file(), b"a" * 32
    one, again, other = (make_view(data, SPEC, STRONG, view_rng(digest, v, 0)) for v in (1, 1, 2))
    assert one.shape == (48, 64, 3)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.3
    assert (one != make_view(data, SPEC, STRONG, view_rng(digest, 1, 1))).mean() > 0.3
    assert (one != make_view(data, SPEC, STRONG, view_rng(b"b" * 32, 1, 0))).mean() > 0.3


def test_plain_view_equals_read_image() -> None:
    data = as_file()
    plain = read_image(data, SPEC)
    np.testing.assert_array_equal(make_view(data, SPEC, STRONG, None), plain)
    np.testing.assert_array_equal(make_view(data, SPEC, Augment(), view_rng(b"a" * 32, 1, 0)), plain)


@pytest.mark.parametrize("part", ["crop=.3", "zoom=.5", "shift=.3", "rotate=45", "shear=.4", "brightness=.5",
                                  "contrast=.9", "saturation=.9", "erase=1", "flip=1", "vflip=1"])  # fmt: skip
@pytest.mark.parametrize("fit", ["crop", "cover", "squash", "pad"])
def test_every_part_changes_something(part: str, fit: str) -> None:
    spec = SPEC.with_(resize_mode=fit)
    data = as_file(3)
    view = make_view(data, spec, parse_augment(part), view_rng(b"c" * 32, 1, 0))
    assert view.shape == (48, 64, 3)
    assert (view != read_image(data, spec)).mean() > 0.01


def test_flip_mirrors_columns() -> None:
    data = as_file()
    view = make_view(data, SPEC, parse_augment("flip=1"), view_rng(b"d" * 32, 1, 0))
    np.testing.assert_array_equal(view, read_image(data, SPEC)[:, ::-1])


def test_parse_augment() -> None:
    augment = parse_augment("horizontal_flip, zoom_range=.2 ,shear_range=.1,rotation=10")
    assert augment == Augment(flip=0.5, zoom=0.2, shear=0.1, rotate=10)
    assert parse_augment(augment.to_text()) == augment
    assert parse_augment("none").is_plain
    assert parse_augment("").to_text() == "none"


@pytest.mark.parametrize(("text", "word"), [("flop", "flip"), ("zoom", "strength"), ("zoom=much", "number"),
                                            ("crop=0", "between"), ("rotate=200", "between")])  # fmt: skip
def test_invalid_augmentation_raises(text: str, word: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_augment(text)
    assert word in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"nonsense", as_file()[:200]])
def test_damaged_files_raise(data: bytes) -> None:
    with pytest.raises(ImageError):
        make_view(data, SPEC, STRONG, view_rng(b"a" * 32, 1, 0))


def ramps(size: tuple[int, int], form: str) -> bytes:
    """Return an image whose red channel encodes the column and whose green channel the row."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    buffer = io.BytesIO()
    Image.fromarray(np.stack([x, y, 0 * x + 90], axis=-1).astype(np.uint8)).save(buffer, form, quality=95)
    return buffer.getvalue()


@pytest.mark.parametrize(("size", "form"), [((700, 500), "PNG"), ((500, 901), "PNG"), ((1600, 1300), "JPEG"),
                                            ((333, 1000), "JPEG"), ((90, 80), "JPEG")])  # fmt: skip
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_views_of_reduced_image_have_the_same_crops(size: tuple[int, int], form: str, fit: str) -> None:
    spec, data = SPEC.with_(resize_mode=fit), ramps(size, form)
    augment = parse_augment("flip,vflip,crop=.2,rotate=25,shift=.1,erase=.5")
    decoded = decode_once(data, spec, augment)
    for view in range(12):
        cut = cut_view(decoded, spec, augment, view_rng(b"a" * 32, view, 0)).astype(float)
        made = make_view(data, spec, augment, view_rng(b"a" * 32, view, 0)).astype(float)
        difference = np.abs(cut - made)
        assert difference.mean() < 2.0  # of 255; a crop shifted by a hundredth of the side differs by more
        assert np.quantile(difference, 0.95) < 6.0


@pytest.mark.parametrize(("size", "expected"), [
    ((100, 90), (100, 90)),  # full size
    ((125, 95), (125, 95)),  # more than is needed, by less than half
    ((640, 480), (91, 68)),  # 48 x 64 times the root of two
    ((480, 640), (91, 121)),
    ((2000, 68), (2000, 68)),
    ((2000, 200), (680, 68)),
])  # fmt: skip
def test_decoded_image_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.new("L", size, 7).save(buffer, "PNG")
    decoded = decode_once(buffer.getvalue(), SPEC, STRONG)
    assert decoded.pixels.shape == (*expected[::-1], 3)
    assert decoded.full_hw == size[::-1]


def test_colors_and_crops_match_those_of_the_file() -> None:
    data, augment = as_file(), parse_augment("flip,crop=.5,brightness=.4,contrast=.4,saturation=.5,erase=.5,zoom=.2")
    spec = SPEC.with_(size_hw=(50, 60))
    decoded = decode_once(data, spec, augment)
    for view in range(10):
        made = make_view(data, spec, augment, view_rng(b"a" * 32, view, 0))
        np.testing.assert_array_equal(cut_view(decoded, spec, augment, view_rng(b"a" * 32, view, 0)), made)
    plain = decode_once(data, spec, Augment())
    np.testing.assert_array_equal(cut_view(plain, spec, Augment(), None), read_image(data, spec))
    flip = parse_augment("flip=.5,rotate=9")
    np.testing.assert_array_equal(
        cut_view(decode_once(data, spec, flip), spec, flip, view_rng(b"a" * 32, 1, 0)),
        make_view(data, spec, flip, view_rng(b"a" * 32, 1, 0)),
    )


def test_decoding_rules_differ_with_the_bytes() -> None:
    rule = decoding_rule(SPEC, STRONG)
    assert rule == decoding_rule(SPEC.with_(mean=(0.1, 0.2, 0.3)), parse_augment("crop=.9"))
    others = [SPEC.with_(size_hw=(9, 9)), SPEC.with_(background=(0, 0, 0)), SPEC.with_(intensity_range=(0.0, 9.0))]
    assert len({rule, decoding_rule(SPEC, Augment()), *(decoding_rule(s, STRONG) for s in others)}) == 5
