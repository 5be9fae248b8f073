"""Cache image scans and reports between runs, so that a repeated check decodes no image.

Rows are keyed by file content and Pillow version, not by name, folder or date: a moved or renamed dataset, and
images that two datasets share, are scanned once.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np
import PIL

from headstart.data.image_scan import ImageInfo, ScanResult
from headstart.preprocessing.exif import Exif
from headstart.store.cache import Cache, row_key
from headstart.store.rows import RowStore

__all__ = ["ScanCache"]

_VERSION = 6  # of the rows; those of other versions are ignored
_CHUNK = 1024  # images whose properties stand together in a shard: they are read without their thumbnails
_INFO_FIELDS = tuple(f.name for f in fields(ImageInfo) if f.name != "exif")
_EXIF_FIELDS = tuple(f.name for f in fields(Exif))
_ARRAYS = ("thumbnails", "colors", "histograms", "borders")


class ScanCache:
    """Cached scans of all datasets, by SHA-256 of the file, and JSON notes by name.

    Args:
        cache: The cache folder.
    """

    def __init__(self, cache: Cache) -> None:
        self.rows = RowStore(cache.folder("scans", _VERSION, _INFO_FIELDS, _EXIF_FIELDS, PIL.__version__), cache)

    def get(self, digest: str) -> ImageInfo | None:
        """Return the properties of a file, or None."""
        value = self._read(_key(digest, "info"))
        return None if value is None else _info_from_json(value)

    def fill(self, scan: ScanResult, i: int, digest: str) -> bool:
        """Copy thumbnail and statistics of a file to position `i`; False if they are missing or damaged."""
        row, start = self.rows.get(_key(digest, "arrays")), 0
        for name in _ARRAYS if row is not None else ():
            part = getattr(scan, name)[i]
            part[...] = row[start : start + part.size].reshape(part.shape)  # type: ignore[index]
            start += part.size
        return row is not None

    def note(self, name: str) -> Any | None:
        """Return the JSON value under a name, or None."""
        return self._read(row_key(name.encode(), "note"))

    def save(self, scan: ScanResult, notes: dict[str, Any] | None = None) -> None:
        """Save a scan and notes; a write error is stored in `rows.write_error` and does not raise."""
        new = [i for i, f in enumerate(scan.info) if f is not None and not self._has(f.digest)]
        for start in range(0, len(new), _CHUNK):
            chunk = new[start : start + _CHUNK]
            infos = [info for i in chunk if (info := scan.info[i]) is not None]
            arrays = np.concatenate([getattr(scan, name)[chunk].reshape(len(chunk), -1) for name in _ARRAYS], axis=1)
            self.rows.add({_key(info.digest, "info"): _bytes(_info_to_json(info)) for info in infos})
            self.rows.add({_key(info.digest, "arrays"): row for info, row in zip(infos, arrays, strict=True)})
        self.rows.add({row_key(name.encode(), "note"): _bytes(value) for name, value in (notes or {}).items()})
        self.rows.flush()

    def _has(self, digest: str) -> bool:
        return _key(digest, "info") in self.rows and _key(digest, "arrays") in self.rows

    def _read(self, key: bytes) -> Any | None:
        row = self.rows.get(key)
        return None if row is None else json.loads(str(row.data, "utf-8"))


def _key(digest: str, part: str) -> bytes:
    return row_key(bytes.fromhex(digest), part)


def _bytes(value: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def _info_to_json(info: ImageInfo) -> list[Any]:
    exif = [getattr(info.exif, name) for name in _EXIF_FIELDS]
    return [exif, *(getattr(info, name) for name in _INFO_FIELDS)]


def _info_from_json(value: list[Any]) -> ImageInfo:
    known = dict(zip(_INFO_FIELDS, value[1:], strict=True))
    known["size_hw"] = tuple(known["size_hw"])
    known["quantiles"] = None if known["quantiles"] is None else tuple(known["quantiles"])
    known["notes"] = tuple((kind, detail) for kind, detail in known["notes"])
    return ImageInfo(exif=Exif(*value[0]), **known)
