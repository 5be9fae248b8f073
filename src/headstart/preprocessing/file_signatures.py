"""Identify files that are not supported images, with a reason and a fix.

The first bytes decide, not the name, because the extension is often wrong.
"""

from __future__ import annotations

import struct

__all__ = ["identify_file"]

_EXPORT = "export it as PNG or JPEG"

_VIDEO = "a video or sound; cut a video into frames: `ffmpeg -i VIDEO -vf fps=1 frame_%05d.png`"
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "lfs-pointer", "a Git LFS pointer, not the image; run `git lfs pull`"),
    (b"%PDF", "foreign-format", f"a PDF; {_EXPORT}"),
    (b"PK\x03\x04", "archive", "a zip archive; unpack it"),
    (b"\x1f\x8b", "archive", "a gzip archive; unpack it"),
    (b"Rar!", "archive", "a RAR archive; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "archive", "a 7z archive; unpack it"),
    (b"8BPS", "foreign-format", f"a Photoshop file; {_EXPORT}"),
    (b"\x00\x00\x00\x0cjP  ", "foreign-format", f"a JPEG 2000; {_EXPORT}"),
    (b"\xff\x4f\xff\x51", "foreign-format", f"a JPEG 2000; {_EXPORT}"),
    (b"\x00\x00\x00\x0cJXL ", "foreign-format", f"a JPEG XL; {_EXPORT}"),
    (b"\xff\x0a", "foreign-format", f"a JPEG XL; {_EXPORT}"),
    (b"\x00\x00\x01\x00", "foreign-format", f"a Windows icon; {_EXPORT}"),
    (b"SIMPLE  =", "foreign-format", "a FITS file; save it as 16-bit or float TIFF"),
    (b"\x93NUMPY", "foreign-format", "a NumPy array; save it as PNG or TIFF"),
    (b"\x89HDF", "foreign-format", "an HDF5 file; save each image as PNG or TIFF"),
    (b"\x76\x2f\x31\x01", "foreign-format", "an OpenEXR; save it as float TIFF"),
    (b"#?RADIANCE", "foreign-format", "a Radiance HDR; save it as float TIFF"),
    (b"ZISRAWFILE", "foreign-format", "a Zeiss CZI; export it as 16-bit TIFF"),
    (b"\xda\xce\xbe\x0a", "foreign-format", "a Nikon ND2; export it as 16-bit TIFF"),
    (b"gimp xcf", "foreign-format", "a GIMP file; export it as PNG"),
    (b"FORM", "foreign-format", f"an IFF image; {_EXPORT}"),
    (b"\x1aE\xdf\xa3", "video", _VIDEO),
    (b"SQLite format 3", "not-an-image", "a database"),
    (b"\x7fELF", "not-an-image", "a program"),
    (b"MZ", "not-an-image", "a program"),
)
_IMAGES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"RIFF", "WEBP"),
)
_BOXES: dict[bytes, tuple[str, str]] = {
    b"heic": ("foreign-format", "a HEIC photo; export it as JPEG"),
    b"heix": ("foreign-format", "a HEIC photo; export it as JPEG"),
    b"heim": ("foreign-format", "a HEIC photo; export it as JPEG"),
    b"hevc": ("foreign-format", "a HEIC photo; export it as JPEG"),
    b"mif1": ("foreign-format", "a HEIF photo; export it as JPEG"),
    b"msf1": ("foreign-format", "a HEIF photo; export it as JPEG"),
    b"avif": ("foreign-format", "an AVIF; export it as PNG or JPEG"),
    b"avis": ("foreign-format", "an AVIF; export it as PNG or JPEG"),
    b"crx ": ("foreign-format", "a Canon raw photo; develop it to JPEG or TIFF"),
}


def identify_file(data: bytes) -> tuple[str, str] | None:
    """Identify a file by its first bytes, if it is not a supported image.

    Returns:
        (kind, detail), e.g. `("lfs-pointer", "a Git LFS pointer ...")`, or None if unknown.
    """
    if not data:
        return "empty", "the file is empty (0 bytes)"
    for signature, kind, detail in _SIGNATURES:
        if data.startswith(signature):
            return kind, detail
    if data[4:8] == b"ftyp":
        return _BOXES.get(data[8:12], ("video", _VIDEO))
    if data[:4] == b"RIFF" and data[8:12] in (b"AVI ", b"WAVE"):
        return "video", _VIDEO
    if data[128:132] == b"DICM":
        return "foreign-format", "a DICOM; export it as PNG with one fixed window for all images"
    if not data.strip(b"\x00"):
        return "zeros", "nothing but zero bytes: a damaged disk, or a cloud folder that has not downloaded the file"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "web-page", "a web page saved in place of the image: the download failed"
    if start.startswith((b"<svg", b"<?xml")):
        return "foreign-format" if b"<svg" in data[:4096] else "text", "an XML or SVG file; export it as PNG"
    if _is_text(data[:512]):
        return "text", "a text file, not an image"
    for signature, name in _IMAGES:
        if data.startswith(signature):
            channels = _tiff_channels(data) if name == "TIFF" else None
            if channels is not None and channels > 4:
                return "channels", f"a TIFF with {channels} channels; --pages R=1,G=2,B=3 selects three"
            return "damaged", f"a {name} whose header is damaged"
    return None


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3:  # not just cut inside a character
            return False
        text = data[: error.start].decode("utf-8")
    return len(text) >= 4 and all(c.isprintable() or c in "\t\r\n\f" for c in text)


def _tiff_channels(data: bytes) -> int | None:
    """Return SamplesPerPixel (tag 277) of the first directory of a TIFF, or None."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        for k in range(min(count, 512)):
            tag, _, _, value = struct.unpack_from(order + "HHIH", data, start + 2 + 12 * k)
            if tag == 277:
                return int(value)
    except struct.error:
        pass
    return None
