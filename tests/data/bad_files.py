"""Create a folder with every kind of bad, unusual and good file; used by tests and benchmarks."""

from __future__ import annotations

import io
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Maker = Callable[[Path], None]


def scene(seed: int = 0, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Image.Image:
    """Return an image with some structure: smooth colors and a few lines."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3)).astype(np.uint8))
    image = small.resize(size, Image.Resampling.BICUBIC)
    pixels = np.array(image)
    for _ in range(4):
        pixels[rng.integers(0, size[1])] = rng.integers(0, 255, 3)
    return Image.fromarray(pixels).convert(mode)


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _bytes(data: bytes) -> Maker:
    def make(path: Path) -> None:
        path.write_bytes(data)

    return make


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bomb_png(width: int, height: int) -> bytes:
    """Return a tiny PNG that states a huge size."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + _png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _text_bomb_png() -> bytes:
    good = encode(scene(), "PNG")
    chunk = _png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * (80 << 20)))
    return good[:33] + chunk + good[33:]


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.txt", "x")
    return buffer.getvalue()


def bad_files() -> dict[str, tuple[str, Maker]]:
    """Return file names with (expected kind, maker) of unusable files."""
    jpeg, png = encode(scene(1), "JPEG"), encode(scene(2), "PNG")
    gif, bmp, tiff = encode(scene(3, mode="P"), "GIF"), encode(scene(4), "BMP"), encode(scene(5), "TIFF")
    webp, ppm = encode(scene(6), "WEBP"), encode(scene(7), "PPM")
    dicom = b"\0" * 128 + b"DICM" + b"\x02\x00" * 40
    heic = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + b"\0" * 64
    broken_middle = jpeg[:200] + b"\xff\xc0" + jpeg[202:]
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    return {
        "empty.jpg": ("empty", _bytes(b"")),
        "empty.png": ("empty", _bytes(b"")),
        "lfs.jpg": ("lfs-pointer", _bytes(lfs)),
        "page.jpg": ("web-page", _bytes(b"<!DOCTYPE html><html><body>404 Not Found</body></html>")),
        "page2.png": ("web-page", _bytes(b"\n\n<html><head></head></html>")),
        "message.jpg": ("text", _bytes(b'{"error": "rate limit exceeded"}')),
        "vector.png": ("foreign-format", _bytes(b'<?xml version="1.0"?><svg xmlns="x"></svg>')),
        "zeros.jpg": ("zeros", _bytes(b"\0" * 5000)),
        "random.jpg": ("format", _bytes(np.random.default_rng(0).bytes(4000))),
        "cut.jpg": ("truncated", _bytes(jpeg[: len(jpeg) // 2])),
        "cut_header.jpg": ("damaged", _bytes(jpeg[:3])),
        "cut.png": ("truncated", _bytes(png[: len(png) // 2])),
        "cut_header.png": ("damaged", _bytes(png[:20])),
        "cut.gif": ("truncated", _bytes(gif[: len(gif) // 2])),
        "cut.bmp": ("truncated", _bytes(bmp[: len(bmp) // 2])),
        "cut.tif": ("truncated", _bytes(tiff[: len(tiff) // 2])),
        "cut.webp": ("damaged", _bytes(webp[: len(webp) // 2])),
        "cut.ppm": ("truncated", _bytes(ppm[: len(ppm) // 2])),
        "mangled.jpg": ("damaged", _bytes(broken_middle)),
        "crc.png": ("damaged", _bytes(png[:40] + bytes([png[40] ^ 255]) + png[41:])),
        "bomb.png": ("too-large", _bytes(_bomb_png(60000, 60000))),
        "text_bomb.png": ("damaged", _bytes(_text_bomb_png())),
        "phone.jpg": ("foreign-format", _bytes(heic)),
        "modern.jpg": ("foreign-format", _bytes(heic.replace(b"heic", b"avif"))),
        "clip.jpg": ("video", _bytes(b"\x00\x00\x00\x18ftypmp42" + b"\0" * 64)),
        "scan.jpg": ("foreign-format", _bytes(dicom)),
        "layers.png": ("foreign-format", _bytes(b"8BPS\x00\x01" + b"\0" * 40)),
        "jp2.jpg": ("foreign-format", _bytes(b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\0" * 30)),
        "pages.jpg": ("foreign-format", _bytes(b"%PDF-1.4\n%...")),
        "icon.png": ("foreign-format", _bytes(b"\x00\x00\x01\x00\x01\x00" + b"\0" * 30)),
        "array.png": ("foreign-format", _bytes(b"\x93NUMPY\x01\x00" + b"\0" * 30)),
        "archive.jpg": ("archive", _bytes(_zip())),
        "packed.png": ("archive", _bytes(b"\x1f\x8b\x08" + b"\0" * 30)),
        "nan.tif": ("range", _bytes(encode(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"))),
        "five_bands.tif": ("channels", _bytes(_five_bands())),
        "photo.heic": ("foreign-format", _bytes(heic)),
        "slide.svs": ("foreign-format", _bytes(tiff)),
        "stack.czi": ("foreign-format", _bytes(b"ZISRAWFILE")),
        "volume.nii.gz": ("foreign-format", _bytes(b"\x1f\x8b")),
        "ct.dcm": ("foreign-format", _bytes(dicom)),
        "film.mp4": ("foreign-format", _bytes(b"\x00\x00\x00\x18ftypmp42")),
        "raw.nef": ("foreign-format", _bytes(b"MM\x00*" + b"\0" * 20)),
        "half.jpg.crdownload": ("unfinished-download", _bytes(jpeg[:100])),
        "half.png.part": ("unfinished-download", _bytes(png[:50])),
        ".away.jpg.icloud": ("cloud-placeholder", _bytes(b"bplist00")),
        **({} if sys.platform == "win32" else _posix_only()),
    }


def unusual_files() -> dict[str, tuple[str | None, Maker]]:
    """Return (note kind or None, maker) of unusual but usable files, by name."""
    rgb, gray = scene(20), scene(21, mode="L")
    deep = (np.asarray(gray, dtype=np.uint16) * 200).astype(np.uint16)
    frames = [scene(i, mode="P") for i in (22, 23)]
    pages = [scene(i) for i in (24, 25)]
    turned = Image.Exif()
    turned[0x0112] = 6
    jpeg = encode(scene(26), "JPEG")

    def save(image: Image.Image, form: str, **options: object) -> Maker:
        return _bytes(encode(image, form, **options))

    return {
        "good.jpg": (None, _bytes(jpeg)),
        "good.png": (None, save(rgb, "PNG")),
        "good.bmp": (None, save(scene(27), "BMP")),
        "good.webp": (None, save(scene(28), "WEBP")),
        "good.tif": (None, save(scene(29), "TIFF")),
        "good.ppm": (None, save(scene(30), "PPM")),
        "gray.png": (None, save(scene(31, mode="L"), "PNG")),
        "progressive.jpg": (None, save(scene(32), "JPEG", progressive=True)),
        "trailing.jpg": (None, _bytes(encode(scene(33), "JPEG") + b"\0" * 100)),
        "is_png.jpg": ("wrong-extension", save(scene(34), "PNG")),
        "is_jpeg.png": ("wrong-extension", save(scene(35), "JPEG")),
        "turned.jpg": ("rotated", save(scene(36), "JPEG", exif=turned)),
        "film.gif": ("animated", save(frames[0], "GIF", save_all=True, append_images=frames[1:])),
        "film.webp": ("animated", save(pages[0], "WEBP", save_all=True, append_images=pages[1:])),
        "film.png": ("animated", save(pages[0], "PNG", save_all=True, append_images=pages[1:])),
        "stack.tif": ("stack", save(pages[0], "TIFF", save_all=True, append_images=pages[1:])),
        "alpha.png": ("transparent", save(scene(37, mode="RGBA"), "PNG")),
        "gray_alpha.png": ("transparent", save(scene(38, mode="LA"), "PNG")),
        "palette.png": ("palette", save(scene(39, mode="P"), "PNG")),
        "bits.png": ("one-bit", save(scene(40, mode="1"), "PNG")),
        "print.jpg": ("cmyk", save(scene(41, mode="CMYK"), "JPEG")),
        "deep.png": ("deep", save(Image.fromarray(deep), "PNG")),
        "deep.tif": ("deep", save(Image.fromarray(deep[::-1].copy()), "TIFF")),
        "float.tif": ("float", save(Image.fromarray((deep / 65535).astype(np.float32)), "TIFF")),
        "dot.png": ("tiny", save(scene(42, (3, 3)), "PNG")),
        "strip.png": ("long", save(scene(43, (400, 20)), "PNG")),
        "black.png": ("one-color", save(Image.new("RGB", (30, 30)), "PNG")),
        "no_ending": ("wrong-extension", save(scene(44), "PNG")),
        "bad_exif.jpg": (None, _bytes(_bad_exif())),
    }


def make_folder(root: Path) -> tuple[dict[str, str], dict[str, str | None]]:
    """Write all files below `root/a` and `root/b`.

    Returns:
        Names with kinds of unusable files, and names with notes (or None) of usable ones.
    """
    bad, odd = {}, {}
    for k, (name, (kind, make)) in enumerate(bad_files().items()):
        path = root / "ab"[k % 2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        bad[f"{path.parent.name}/{name}"] = kind
    for k, (name, (note, make)) in enumerate(unusual_files().items()):
        path = root / "ab"[k % 2] / f"ok_{name}"
        make(path)
        odd[f"{path.parent.name}/ok_{name}"] = note
    return bad, odd


def _posix_only() -> dict[str, tuple[str, Maker]]:
    return {
        "pipe.jpg": ("special", lambda p: os.mkfifo(p)),
        "dead_link.jpg": ("broken-link", lambda p: p.symlink_to(p.with_name("nowhere.jpg"))),
        "loop.jpg": ("broken-link", lambda p: p.symlink_to(p)),
        "out.jpg": ("outside", lambda p: p.symlink_to(Path(__file__))),
    }


def _five_bands() -> bytes:
    """Return a TIFF of 9 x 9 pixels with five channels, assembled from bytes because Pillow cannot write one."""
    side, bands = 9, 5
    pixels = bytes(side * side * bands)
    tags = [(256, 3, 1, side), (257, 3, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    tags += [(277, 3, 1, bands), (278, 3, 1, side), (279, 4, 1, len(pixels)), (284, 3, 1, 1)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


def _bad_exif() -> bytes:
    data = encode(scene(45), "JPEG")
    block = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xde\xad" * 40
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
