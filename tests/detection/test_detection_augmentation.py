"""Test views of images with boxes: boxes follow the pixels, and views are reproducible."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from headstart.data.boxes.records import Boxes
from headstart.detection.augmentation import BOX_IMAGES, DEFAULT_AUGMENT, check_augment, make_box_view, view_boxes
from headstart.errors import SettingError
from headstart.preprocessing.augmentation import WHOLE_IMAGES, parse_augment, view_rng
from headstart.preprocessing.image_spec import ImageSpec, read_image

SPEC = ImageSpec(size_hw=(96, 128), resize_mode="squash")
BOX = (150, 60, 270, 200)


@pytest.fixture(scope="module")
def image() -> bytes:
    """A white rectangle on black, 400 x 300."""
    pixels = np.zeros((300, 400, 3), dtype=np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    return stream.getvalue()


@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_boxes_follow_object(image: bytes, fit: str) -> None:
    spec = SPEC.with_(resize_mode=fit, background=(0, 0, 0), mean=(0.0, 0.0, 0.0))
    augment = parse_augment("flip=0.5,vflip=0.5,zoom=0.5,shift=0.1,brightness=0.1")
    digest = hashlib.sha256(image).digest()
    boxes, num_visible = Boxes.of([BOX], [0]), 0
    for view in range(1, 25):
        pixels = make_box_view(image, spec, augment, view_rng(digest, view, 3))
        assert pixels.shape == (*spec.size_hw, 3)
        boxes_in_view = view_boxes(boxes, (300, 400), digest, spec, augment, view, 3)
        foreground = np.argwhere(pixels[..., 0] > 128)
        if len(boxes_in_view.xyxy):
            num_visible += 1
            (y0, x0), (y1, x1) = foreground.min(0), foreground.max(0) + 1
            np.testing.assert_allclose(boxes_in_view.xyxy[0], [x0, y0, x1, y1], atol=1.6)
        elif len(foreground) > 40:
            assert len(boxes_in_view.ignored) == 1
    assert num_visible > 15


def test_plain_view_is_image(image: bytes) -> None:
    augment = parse_augment(DEFAULT_AUGMENT)
    assert np.array_equal(make_box_view(image, SPEC, augment, None), read_image(image, SPEC))
    boxes_in_view = view_boxes(Boxes.of([BOX], [0]), (300, 400), b"x" * 32, SPEC, augment, 0, 0)
    np.testing.assert_allclose(boxes_in_view.xyxy[0], np.array(BOX) * [0.32, 0.32, 0.32, 0.32], atol=1e-4)


def test_view_depends_on_number_and_seed_only(image: bytes) -> None:
    augment, digest = parse_augment(DEFAULT_AUGMENT), b"d" * 32
    first = make_box_view(image, SPEC, augment, view_rng(digest, 5, 0))
    assert np.array_equal(first, make_box_view(image, SPEC, augment, view_rng(digest, 5, 0)))
    assert not np.array_equal(first, make_box_view(image, SPEC, augment, view_rng(digest, 6, 0)))
    assert not np.array_equal(first, make_box_view(image, SPEC, augment, view_rng(digest, 5, 1)))


def test_crowds_are_ignored() -> None:
    boxes = Boxes.of([BOX, (0, 0, 100, 100)], [0, 1], [False, True])
    boxes_in_view = view_boxes(boxes, (300, 400), b"x" * 32, SPEC, parse_augment("none"), 1, 0)
    assert boxes_in_view.class_ids.tolist() == [0]
    assert len(boxes_in_view.ignored) == 1


def test_unsupported_augmentations_are_refused() -> None:
    with pytest.raises(SettingError, match="rotate"):
        check_augment(parse_augment("rotate=20"))
    assert check_augment(parse_augment(DEFAULT_AUGMENT)).zoom == 0.5


@pytest.mark.parametrize("strengths", [DEFAULT_AUGMENT, "zoom=0.2,shift=0.1", "flip=1", "none"])
def test_views_of_decoded_images_match_file(strengths: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80)
    data, augment = stream.getvalue(), parse_augment(strengths)
    kept = BOX_IMAGES.decode(data, SPEC, augment)
    assert kept.pixels.nbytes < pixels.nbytes / 4  # a JPEG, decoded at reduced size
    for view in range(1, 9):
        own = [view_rng(b"d" * 32, view, 0) for _ in range(2)]
        expected = make_box_view(data, SPEC, augment, own[0])
        assert np.array_equal(BOX_IMAGES.cut(kept, SPEC, augment, own[1]), expected)


def test_decoding_rules_have_distinct_names() -> None:
    texts = ("zoom=0.5", "zoom=0.5,flip=0.5", "zoom=0.2", "none")
    rules = [BOX_IMAGES.rule(SPEC, parse_augment(text)) for text in texts]
    assert rules[0] == rules[1]
    assert len(set(rules)) == 3
    assert rules[3] == WHOLE_IMAGES.rule(SPEC, parse_augment("none"))  # read_image in both tasks
