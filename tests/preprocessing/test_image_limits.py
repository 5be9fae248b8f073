"""Test that images beyond Pillow's own limit are refused with their size and the option."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from headstart.preprocessing.image_spec import ImageError, open_image


def test_image_beyond_the_limit_of_pillow_states_its_size() -> None:
    file = BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError) as caught:
        open_image(file.getvalue(), 100_000_000)
    assert caught.value.kind == "too-large"
    assert {"20000", "100,000,000", "--max-pixels"} <= set(caught.value.detail.replace(";", "").split())
    assert limit == Image.MAX_IMAGE_PIXELS
