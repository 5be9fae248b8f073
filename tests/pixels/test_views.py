"""Views belong to the picture, the number and the seed, and to nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from headstart.errors import SettingError
from headstart.pixels.spec import PictureError, PixelSpec, read_picture
from headstart.pixels.views import Augment, make_view, parse_augment, view_rng

SPEC = PixelSpec(size_hw=(48, 64))
STRONG = parse_augment("flip,vflip,crop=.3,zoom=.3,shift=.2,rotate=30,shear=.2,brightness=.4,contrast=.4,saturation=.5")


def as_file(seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((96, 80), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_same_view_twice_and_another() -> None:
    data, digest = as_file(), b"a" * 32
    one, again, other = (make_view(data, SPEC, STRONG, view_rng(digest, v, 0)) for v in (1, 1, 2))
    assert one.shape == (48, 64, 3)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.3
    assert (one != make_view(data, SPEC, STRONG, view_rng(digest, 1, 1))).mean() > 0.3
    assert (one != make_view(data, SPEC, STRONG, view_rng(b"b" * 32, 1, 0))).mean() > 0.3


def test_without_a_generator_or_strength_it_is_the_contract() -> None:
    data = as_file()
    plain = read_picture(data, SPEC)
    np.testing.assert_array_equal(make_view(data, SPEC, STRONG, None), plain)
    np.testing.assert_array_equal(make_view(data, SPEC, Augment(), view_rng(b"a" * 32, 1, 0)), plain)


@pytest.mark.parametrize("part", ["crop=.3", "zoom=.5", "shift=.3", "rotate=45", "shear=.4", "brightness=.5",
                                  "contrast=.9", "saturation=.9", "erase=1", "flip=1", "vflip=1"])  # fmt: skip
@pytest.mark.parametrize("fit", ["crop", "cover", "squash", "pad"])
def test_every_part_changes_something(part: str, fit: str) -> None:
    spec = SPEC.with_(fit=fit)
    data = as_file(3)
    view = make_view(data, spec, parse_augment(part), view_rng(b"c" * 32, 1, 0))
    assert view.shape == (48, 64, 3)
    assert (view != read_picture(data, spec)).mean() > 0.01


def test_a_flip_is_a_flip() -> None:
    data = as_file()
    view = make_view(data, SPEC, parse_augment("flip=1"), view_rng(b"d" * 32, 1, 0))
    np.testing.assert_array_equal(view, read_picture(data, SPEC)[:, ::-1])


def test_words_of_other_tools() -> None:
    augment = parse_augment("horizontal_flip, zoom_range=.2 ,shear_range=.1,rotation=10")
    assert augment == Augment(flip=0.5, zoom=0.2, shear=0.1, rotate=10)
    assert parse_augment(augment.to_text()) == augment
    assert parse_augment("none").is_plain
    assert parse_augment("").to_text() == "none"


@pytest.mark.parametrize(("text", "word"), [("flop", "flip"), ("zoom", "strength"), ("zoom=much", "number"),
                                            ("crop=0", "between"), ("rotate=200", "between")])  # fmt: skip
def test_what_is_not_understood_is_said(text: str, word: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_augment(text)
    assert word in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"nonsense", as_file()[:200]])
def test_damaged_files_are_picture_errors(data: bytes) -> None:
    with pytest.raises(PictureError):
        make_view(data, SPEC, STRONG, view_rng(b"a" * 32, 1, 0))
