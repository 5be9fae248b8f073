"""Open HEIC, DICOM and multi-channel TIFF images with the packages of the extra `data`, if they are installed."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["DICOM", "HEIF", "TooLargeError", "is_dicom", "open_channels", "open_extra"]

HEIF, DICOM = (".heic", ".heif"), (".dcm", ".dicom")
"""Extensions of the formats."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class TooLargeError(Exception):
    """The image has more pixels than allowed: width and height, pixels."""


def is_dicom(head: bytes) -> bool:
    """Return whether the first 132 bytes are those of a DICOM file."""
    return head[128:132] == b"DICM"


def open_extra(data: bytes, max_pixels: int) -> Image.Image | None:
    """Open an image; None for other formats, or if the package for it is not installed.

    Args:
        data: The file.
        max_pixels: Larger DICOM images are not decoded.

    Raises:
        TooLargeError: It has more than `max_pixels`.
        ValueError: The image is damaged or compressed in a way that is not supported.
    """
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and find_spec("pi_heif"):
        import pi_heif

        pi_heif.register_heif_opener()
        return Image.open(io.BytesIO(data), formats=("HEIF",))
    if is_dicom(data) and find_spec("pydicom"):
        return _open_dicom(data, max_pixels)
    return None


def _open_dicom(data: bytes, max_pixels: int) -> Image.Image:
    """Return a DICOM image: 8 bits as they are, more bits as float in physical units; frames become pages."""
    import pydicom
    from pydicom.pixels.processing import apply_modality_lut, convert_color_space

    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        if int(dataset.Rows) * int(dataset.Columns) > max_pixels:
            raise TooLargeError(int(dataset.Columns), int(dataset.Rows))
        values: NDArray[Any] = dataset.pixel_array
        kind = str(dataset.PhotometricInterpretation)
        if int(dataset.SamplesPerPixel) == 3:
            values = convert_color_space(values, kind, "RGB") if kind.startswith("YBR") else values
        elif int(dataset.BitsStored) > 8 or "RescaleSlope" in dataset:
            values = np.asarray(apply_modality_lut(values, dataset), dtype=np.float32)
        if kind == "MONOCHROME1":  # 0 is white
            values = -values if values.dtype.kind == "f" else 255 - values
    except (AttributeError, KeyError, TypeError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"cannot read the pixels of the DICOM file ({error})") from error
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        return _as_pages(values)
    image = Image.fromarray(np.ascontiguousarray(values))
    image.format = "DICOM"
    return image


def open_channels(data: bytes, max_pixels: int) -> Image.Image | None:
    """Open a TIFF of more than 4 channels as pages; None for other files, or if tifffile is not installed.

    Raises:
        TooLargeError: It has more than `max_pixels`.
        ValueError: The image is damaged or compressed in a way that is not supported.
    """
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") or not find_spec("tifffile"):
        return None
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            if page.samplesperpixel <= 4:
                return None
            if page.imagelength * page.imagewidth > max_pixels:
                raise TooLargeError(page.imagewidth, page.imagelength)
            values = np.moveaxis(page.asarray(), page.axes.index("S"), 0)
    except (tifffile.TiffFileError, AttributeError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"cannot read the channels of the TIFF ({error})") from error
    return _as_pages(values if values.dtype in (np.uint8, np.uint16) else values.astype(np.float32))


def _as_pages(values: NDArray[Any]) -> Image.Image:
    first, *rest = [Image.fromarray(np.ascontiguousarray(frame)) for frame in values]
    buffer = io.BytesIO()
    first.save(buffer, format="TIFF", save_all=True, append_images=rest)
    return Image.open(buffer, formats=("TIFF",))
