"""Test mapping of boxes between image and input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.detection.image_frames import MIN_SIDE, Frame, clip_boxes, draw_frame, plain_frame
from headstart.preprocessing.augmentation import Augment
from headstart.preprocessing.image_spec import ImageSpec

SPEC = ImageSpec(size_hw=(64, 96), resize_mode="squash")
STRONG = Augment(flip=0.5, vflip=0.5, zoom=0.6, shift=0.2)


@given(
    st.integers(20, 400),
    st.integers(20, 400),
    st.sampled_from(["squash", "pad"]),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20),
)
def test_round_trip(height: int, width: int, fit: str, draws: list[float]) -> None:
    spec = SPEC.with_(resize_mode=fit)
    frame = draw_frame((height, width), spec, STRONG, np.array(draws))
    boxes = np.array([[1.0, 2.0, 11.0, 15.0], [0.0, 0.0, width, height]])
    back = frame.to_image(frame.to_input(boxes))
    np.testing.assert_allclose(back, boxes, atol=1e-2)
    moved = frame.to_input(boxes)
    assert (moved[:, 2:] > moved[:, :2]).all()


def test_squash_covers_input() -> None:
    frame = plain_frame((200, 50), SPEC)
    assert frame.to_input(np.array([[0, 0, 50, 200]])).tolist() == [[0.0, 0.0, 96.0, 64.0]]


def test_pad_matches_pixels() -> None:
    from PIL import Image

    from headstart.preprocessing.image_spec import fit_image

    spec = SPEC.with_(resize_mode="pad", background=(0, 0, 0))
    image = Image.new("RGB", (50, 200), (255, 255, 255))
    foreground = np.argwhere(fit_image(image, spec)[..., 0] > 0)
    x0, y0, x1, y1 = plain_frame((200, 50), spec).to_input(np.array([[0, 0, 50, 200]]))[0]
    assert (y0, x0) == tuple(foreground.min(0))
    assert (y1, x1) == tuple(foreground.max(0) + 1)


def test_crop_is_refused() -> None:
    with pytest.raises(ValueError, match="whole image"):
        plain_frame((10, 10), ImageSpec(resize_mode="crop"))


def test_flip() -> None:
    frame = Frame(0, 0, 1, 1, (10, 20), is_flipped=True)
    assert frame.to_input(np.array([[1, 2, 5, 6]])).tolist() == [[15, 2, 19, 6]]


def test_clip_boxes() -> None:
    boxes = np.array(
        [
            [10, 10, 30, 30],  # inside
            [-10, 10, 10, 30],  # half remains
            [-30, 10, 2, 30],  # a sixteenth remains: kept
            [-30, 10, -2, 30],  # gone
            [10, 10, 10 + MIN_SIDE / 2, 30],  # too thin
        ]
    )
    clipped, is_kept, is_truncated = clip_boxes(boxes, (64, 64))
    assert is_kept.tolist() == [True, True, False, False, False]
    assert is_truncated.tolist() == [False, False, True, False, True]
    assert clipped[1].tolist() == [0, 10, 10, 30]


def test_clip_no_boxes() -> None:
    clipped, is_kept, is_truncated = clip_boxes(np.zeros((0, 4)), (64, 64))
    assert clipped.shape == (0, 4)
    assert not len(is_kept)
    assert not len(is_truncated)
