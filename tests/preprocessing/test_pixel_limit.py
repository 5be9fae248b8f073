"""Images over the pixel limit: our error with the pixels, the limit and the option, on every path of decoding."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from headstart.inference.image_inputs import to_pixels, upright_size
from headstart.preprocessing.image_spec import ImageError, ImageSpec, read_image
from headstart.preprocessing.reduced_decoding import decode_reduced
from headstart.utils.limits import MAX_PIXELS

SPEC = ImageSpec(size_hw=(32, 32))


def _png_without_pixels(width: int, height: int) -> bytes:
    """Return a PNG file of a few bytes that states its size."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    packed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


_BOMB = _png_without_pixels(60_000, 60_000)  # refused by Pillow before its size is known


def _pages(*sizes: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    first, *rest = [Image.new("L", size) for size in sizes]
    first.save(buffer, "TIFF", save_all=True, append_images=rest)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("decode", "size", "limit"),
    [
        (lambda: read_image(_BOMB, SPEC), "60000 x 60000", MAX_PIXELS),
        (lambda: decode_reduced(_BOMB, min_side=32, max_pixels=MAX_PIXELS), "60000 x 60000", MAX_PIXELS),
        (lambda: upright_size(_BOMB, MAX_PIXELS), "60000 x 60000", MAX_PIXELS),
        (lambda: read_image(_pages((40, 50)), SPEC.with_(max_pixels=100)), "40 x 50", 100),
        (lambda: to_pixels(Image.new("L", (40, 50)), SPEC.with_(max_pixels=100)), "40 x 50", 100),
        (lambda: read_image(_pages((8, 8), (40, 50)), SPEC.with_(max_pixels=100, pages="2")), "40 x 50", 100),
    ],
)
def test_error_has_pixels_limit_and_option(decode: Callable[[], object], size: str, limit: int) -> None:
    with pytest.raises(ImageError) as caught:
        decode()
    assert caught.value.kind == "too-large"
    assert "--max-pixels" in caught.value.detail
    assert size in caught.value.detail
    assert f"{limit:,}" in caught.value.detail


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_limit_above_that_of_pillow_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # restored after the test
    with pytest.raises(ImageError) as caught:
        read_image(_BOMB, SPEC.with_(max_pixels=3_599_999_999))
    assert (caught.value.kind, "3,599,999,999" in caught.value.detail) == ("too-large", True)
