"""Test DICOM and HEIC images of the extra `data`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart.data.formats import EXPORT_STEPS, IMAGES
from headstart.data.sources import read
from headstart.preprocessing import extra_formats
from headstart.preprocessing.image_spec import ImageError, ImageSpec, open_image, read_image
from headstart.preprocessing.reduced_decoding import decode_reduced

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 9), dtype=np.uint8)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


def dicom(pixels: NDArray[Any], *, kind: str = "MONOCHROME2", frames: int = 1, **more: Any) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.SecondaryCaptureImageStorage, "1.2.3"
    bits = 8 * pixels.dtype.itemsize
    is_color = pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if is_color else pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3 if is_color else 1), kind
    if is_color:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    if frames > 1:
        dataset.NumberOfFrames = frames
    for name, value in more.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def values_of(data: bytes) -> NDArray[Any]:
    with open_image(data, 1 << 20) as image:
        return np.asarray(image)


def test_dicom_values() -> None:
    assert (values_of(dicom(PIXELS[0])) == PIXELS[0]).all()
    assert (values_of(dicom(PIXELS[0], kind="MONOCHROME1")) == 255 - PIXELS[0]).all()
    color = np.dstack([PIXELS[0], PIXELS[1], PIXELS[0]])
    assert (values_of(dicom(color, kind="RGB")) == color).all()
    deep = PIXELS[0].astype(np.uint16) * 16
    found = values_of(dicom(deep, RescaleSlope=2, RescaleIntercept=-1024))
    assert (found.dtype, found.tolist()) == (np.float32, (deep * 2.0 - 1024).tolist())


def test_dicom_frames_are_pages() -> None:
    spec = ImageSpec(size_hw=(8, 9), resize_mode="squash", pages="2")
    assert (read_image(dicom(PIXELS, frames=2), spec)[..., 0] == PIXELS[1]).all()


def test_channels_of_a_tiff() -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(1).integers(0, 256, (8, 9, 6), dtype=np.uint8)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="minisblack", planarconfig="contig")
    data, spec = buffer.getvalue(), ImageSpec(size_hw=(8, 9), resize_mode="squash")
    assert (read_image(data, spec.with_(pages="R=6,G=1,B=2")) == pixels[..., [5, 0, 1]]).all()
    assert (read_image(data, spec.with_(pages="max"))[..., 0] == pixels.max(axis=2)).all()
    with pytest.raises(ImageError):
        read_image(data, spec)  # a choice is needed
    for broken, limit in ((data[:300], 1 << 20), (data, 10)):
        with pytest.raises(ImageError):
            open_image(broken, limit, has_channels=True)


def test_dicom_files_are_found(tmp_path: Path) -> None:
    data = dicom(PIXELS[0])
    for name in ("a/1.dcm", "b/2"):  # files of scanners often have no extension
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(data)
    assert read(tmp_path).names == ["a/1.dcm", "b/2"]
    assert decode_reduced(data, min_side=4, max_pixels=1 << 20, name="1.dcm").format == "DICOM"


def test_large_and_damaged_dicom_files_are_refused() -> None:
    data = dicom(PIXELS[0])
    for broken, limit in ((data, 10), (data[:-20], 1 << 20), (data[:200], 1 << 20)):
        with pytest.raises(ImageError):
            open_image(broken, limit)


def test_without_the_packages_the_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra_formats, "find_spec", lambda name: None)
    for data in (HEIC, bytes(128) + b"DICM" + bytes(64)):
        with pytest.raises(ImageError) as caught:
            decode_reduced(data, min_side=4, max_pixels=1 << 20)
        assert caught.value.kind == "foreign-format"


def test_damaged_heic_files_are_refused() -> None:
    with pytest.raises(ImageError) as caught:
        decode_reduced(HEIC, min_side=4, max_pixels=1 << 20)
    assert caught.value.kind == "foreign-format"


def test_a_format_is_read_or_has_a_step() -> None:
    for ending in (*extra_formats.HEIF, *extra_formats.DICOM):
        assert (ending in IMAGES) != (ending in EXPORT_STEPS)
