"""List file extensions: supported image formats, formats that need an export, and other files.

Unsupported formats are never ignored silently; they are counted and reported with their export step.
"""

from __future__ import annotations

import re
from importlib.util import find_spec

from headstart.preprocessing.extra_formats import DICOM, HEIF

__all__ = [
    "EXPORT_STEPS",
    "IGNORED",
    "IMAGES",
    "PICKLE",
    "PLAIN",
    "TABLES",
    "TAR",
    "UNFINISHED",
    "container_kind",
    "export_step",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OPTIONAL = {"pi_heif": HEIF, "pydicom": DICOM}
IMAGES = _words(".jpg .jpeg .jpe .jfif .mpo .png .apng .bmp .dib .gif .tif .tiff .webp .ppm .pgm .pbm .pnm").union(
    *(endings for package, endings in _OPTIONAL.items() if find_spec(package))
)
"""Extensions of supported images, with those of installed packages of the extra `data`."""

UNFINISHED = _words(".part .partial .crdownload .download .opdownload .filepart .!ut .aria2 .tmp")
"""Extensions that browsers and download tools use for unfinished downloads."""

PLAIN = _words(
    ".txt .lst .csv .tsv .json .jsonl .xml .yaml .yml .md .rst .html .htm .css .js .py .ipynb .toml .ini .cfg .log "
    ".xlsx .xls .ods .doc .docx .ppt .pptx .zip .tar .gz .tgz .7z .rar .bz2 .xz .db .sqlite .pt .pth .onnx "
    ".safetensors .bin .exe .sh .bat .names .data .license .cff .bib"
)
"""Extensions of other files, which are not opened."""

TABLES = _words(".csv .tsv .jsonl .txt .lst .xlsx .xls .ods")
"""Extensions of files that may hold labels."""

TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Extensions of tar archives."""

_IDX = re.compile(r"idx[1-4][-._]ubyte(\.gz)?$", re.IGNORECASE)


def container_kind(name: str) -> str | None:
    """Return the kind of container by a file name: `arrays`, `parquet`, `tar` or `zip`; None for other files."""
    lower = name.lower()
    if lower.endswith((".npz", ".npy", ".mat")) or _IDX.search(lower):
        return "arrays"
    if lower.endswith((".parquet", ".arrow")):
        return "parquet"
    return "tar" if lower.endswith(TAR) else "zip" if lower.endswith(".zip") else None


IGNORED = _words("__macosx thumbs.db desktop.ini ehthumbs.db $recycle.bin @eadir lost+found") | {
    "system volume information"
}
"""File and folder names (lower case) left behind by operating systems; names with a leading dot are ignored too."""

_PICKLES = (
    "pickles can run code and are never opened: load it yourself, then numpy.savez('data.npz', images=x, labels=y)"
)
_HEIC = (
    'install "headstart[data]", or convert to JPEG: in Photos choose Export, on iPhone set Camera > Formats > Most '
    "Compatible"
)
_DICOM = 'install "headstart[data]", or export as PNG from the DICOM viewer with one fixed window for all images'
EXPORT_STEPS = {
    ".heic": _HEIC,
    ".heif": _HEIC,
    ".avif": "convert to PNG or JPEG with an image viewer",
    ".jxl": "convert to PNG or JPEG with `djxl in.jxl out.png`",
    ".jp2": "convert to PNG with an image viewer or `opj_decompress -i in.jp2 -o out.png`",
    ".j2k": "convert to PNG with an image viewer or `opj_decompress -i in.j2k -o out.png`",
    ".dcm": _DICOM,
    ".dicom": _DICOM,
    ".nii": "export slices as PNG from the viewer with one fixed window for all images",
    ".czi": "export as 16-bit TIFF from ZEN or Fiji (File > Save As > Tiff)",
    ".nd2": "export as 16-bit TIFF from NIS-Elements or Fiji (File > Save As > Tiff)",
    ".lif": "export as 16-bit TIFF from LAS X or Fiji (File > Save As > Tiff)",
    ".lsm": "export as 16-bit TIFF from ZEN or Fiji (File > Save As > Tiff)",
    ".oib": "export as 16-bit TIFF from Fiji (File > Save As > Tiff)",
    ".oif": "export as 16-bit TIFF from Fiji (File > Save As > Tiff)",
    ".svs": "export tiles as PNG or JPEG from QuPath (Automate > Script > Tile exporter)",
    ".ndpi": "export tiles as PNG or JPEG from QuPath (Automate > Script > Tile exporter)",
    ".mrxs": "export tiles as PNG or JPEG from QuPath (Automate > Script > Tile exporter)",
    ".scn": "export tiles as PNG or JPEG from QuPath (Automate > Script > Tile exporter)",
    ".vsi": "export tiles as PNG or JPEG from QuPath (Automate > Script > Tile exporter)",
    ".raw": "develop to JPEG or 16-bit TIFF with the camera's program or darktable",
    ".dng": "develop to JPEG or 16-bit TIFF with the camera's program or darktable",
    ".cr2": "develop to JPEG or 16-bit TIFF with the camera's program or darktable",
    ".cr3": "develop to JPEG or 16-bit TIFF with the camera's program or darktable",
    ".nef": "develop to JPEG or 16-bit TIFF with the camera's program or darktable",
    ".arw": "develop to JPEG or 16-bit TIFF with the camera's program or darktable",
    ".orf": "develop to JPEG or 16-bit TIFF with the camera's program or darktable",
    ".rw2": "develop to JPEG or 16-bit TIFF with the camera's program or darktable",
    ".psd": "save as PNG from the painting program",
    ".xcf": "export as PNG from GIMP",
    ".kra": "export as PNG from Krita",
    ".ai": "export as PNG from the drawing program",
    ".eps": "export as PNG from the drawing program",
    ".svg": "export as PNG from the drawing program",
    ".pdf": "export the pages as PNG",
    ".exr": "save as 16-bit or float TIFF",
    ".hdr": "save as 16-bit or float TIFF",
    ".fits": "save as 16-bit or float TIFF",
    ".fit": "save as 16-bit or float TIFF",
    ".h5": "export with h5py, then numpy.savez('data.npz', images=f['images'][()], labels=f['labels'][()])",
    ".hdf5": "export with h5py, then numpy.savez('data.npz', images=f['images'][()], labels=f['labels'][()])",
    ".tfrecord": "export with tensorflow_datasets.as_numpy, then numpy.savez('data.npz', images=..., labels=...)",
    ".tfrecords": "export with tensorflow_datasets.as_numpy, then numpy.savez('data.npz', images=..., labels=...)",
    ".lmdb": "export with the package lmdb: write each value as an image file into a folder per class",
    ".mdb": "export with the package lmdb: write each value as an image file into a folder per class",
    ".pkl": _PICKLES,
    ".pickle": _PICKLES,
    ".rec": "export with mxnet.recordio as image files, one folder per class",
    ".beton": "export the images as files with ffcv, one folder per class",
    ".zarr": "export with zarr, then numpy.savez('data.npz', images=z['images'][:], labels=z['labels'][:])",
    ".ico": "save as PNG",
    ".tga": "save as PNG",
    ".mp4": "cut into frames: `ffmpeg -i in.mp4 -vf fps=1 out_%05d.png`, one folder per video",
    ".avi": "cut into frames: `ffmpeg -i in.avi -vf fps=1 out_%05d.png`, one folder per video",
    ".mov": "cut into frames: `ffmpeg -i in.mov -vf fps=1 out_%05d.png`, one folder per video",
    ".mkv": "cut into frames: `ffmpeg -i in.mkv -vf fps=1 out_%05d.png`, one folder per video",
    ".webm": "cut into frames: `ffmpeg -i in.webm -vf fps=1 out_%05d.png`, one folder per video",
}
"""Unsupported image formats, each with the step that makes it readable."""

for _ending in IMAGES & EXPORT_STEPS.keys():
    del EXPORT_STEPS[_ending]


PICKLE = b"\x80\4"
"""First bytes of a pickle."""

_SHARDED = re.compile(r"(\.tfrecords?)-\d+-of-\d+$")


def export_step(name: str, head: bytes = b"") -> str | None:
    """Return how to export an unsupported file, by its name or its first bytes; None for other files."""
    lower = name.lower()
    if lower.endswith(".nii.gz"):
        return EXPORT_STEPS[".nii"]
    sharded = _SHARDED.search(lower)
    extension = sharded[1] if sharded else "." + lower.rpartition(".")[2]
    if head[:1] == PICKLE[:1] and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):  # e.g. of CIFAR
        extension = ".pkl"
    return EXPORT_STEPS.get(extension)
