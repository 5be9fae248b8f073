"""Scan every image once: decode it and collect what all later checks need.

Each file is decoded once, in threads, at a reduced scale where the format allows it. Digests, a thumbnail and a
few statistics stay in memory; only candidate duplicates are decoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.preprocessing.exif import Exif
from headstart.preprocessing.image_spec import ImageError, ImageSpec, flatten, read_bytes, read_image
from headstart.preprocessing.reduced_decoding import (
    DEEP_MODES,
    ReducedImage,
    decode_for_both,
    decode_reduced,
    extension_notes,
)
from headstart.types.records import Problem, Sample
from headstart.utils.limits import MAX_PIXELS
from headstart.utils.system import available_cores

__all__ = ["THUMB", "ImageInfo", "ImageScanner", "ScanResult", "StoredScans", "scan_images"]

THUMB = 96
"""Side of the gray thumbnails in pixels; the aspect ratio is not kept."""

_MIN_SIDE = 256  # large JPEGs are decoded at the smallest scale that keeps both sides this long: as for 224 pixels
_BATCH = 16
_TINY, _LONG = 16, 8.0
_QUANTILES = (0.0, 0.001, 0.01, 0.5, 0.99, 0.999, 1.0)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Properties of one image besides its pixels.

    Attributes:
        digest: SHA-256 of the file's bytes, hex.
        pixel_key: Digest of the thumbnails and the size, hex; equal for equal pixels.
        size_bytes: Length of the file.
        format: Pillow's name of the format, e.g. `JPEG`.
        mode: Pillow's mode before any conversion, e.g. `RGBA`.
        size_hw: Height and width in pixels, upright.
        quality: Estimated JPEG quality 1-100, or None.
        exif: EXIF data.
        smoothness: Correlation of neighboring pixels in [-1, 1]; near 0 for noise.
        quantiles: For 16-bit and float images, values at 0, 0.1, 1, 50, 99, 99.9 and 100 %.
        notes: (kind, detail) of unusual properties that were handled.
    """

    digest: str
    pixel_key: str
    size_bytes: int
    format: str
    mode: str
    size_hw: tuple[int, int]
    quality: int | None
    exif: Exif
    smoothness: float
    quantiles: tuple[float, ...] | None
    notes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ScanResult:
    """Scan of N images; rows of unreadable images are zero.

    Attributes:
        info: Properties of each image, None where it is unreadable.
        problems: Reason by position, for unreadable images.
        thumbnails: (N, 96, 96) uint8 gray.
        colors: (N, 8, 8, 3) uint8.
        histograms: (N, 64) uint8, fractions of 4 x 4 x 4 colors times 255.
        borders: (N, 96) uint8, mean colors along the edges: 4 edges x 8 parts x RGB.
    """

    info: tuple[ImageInfo | None, ...]
    problems: dict[int, Problem]
    thumbnails: NDArray[np.uint8]
    colors: NDArray[np.uint8]
    histograms: NDArray[np.uint8]
    borders: NDArray[np.uint8]

    @property
    def is_ok(self) -> NDArray[np.bool_]:
        """Return (N,) whether each image is readable."""
        return np.array([f is not None for f in self.info], dtype=bool)


class StoredScans(Protocol):
    """Scans of earlier runs by SHA-256 of the file (`scan_cache.ScanCache`)."""

    def get(self, digest: str) -> ImageInfo | None:
        """Return the properties of a file, or None."""

    def fill(self, scan: ScanResult, i: int, digest: str) -> bool:
        """Copy thumbnail and statistics of a file to position `i`; False if they are missing or damaged."""


class ImageScanner:
    """Scan images one by one, in any order and from any thread, also during feature extraction.

    Args:
        samples: The images.
        max_pixels: Larger images are refused before they are decoded.
        cache: Scans of earlier runs; cached files are not decoded again, and `result` fetches their rows.
    """

    def __init__(
        self, samples: Sequence[Sample], *, max_pixels: int = MAX_PIXELS, cache: StoredScans | None = None
    ) -> None:
        count = len(samples)
        self._samples, self._max_pixels, self._cache = samples, max_pixels, cache
        self._info: list[ImageInfo | None] = [None] * count
        self._problems: dict[int, Problem] = {}
        self._unfetched: dict[int, str] = {}
        self._thumbnails = np.zeros(
            (count, THUMB, THUMB), dtype=np.uint8
        )  # memory is allocated only where it is written
        self._colors = np.zeros((count, 8, 8, 3), dtype=np.uint8)
        self._histograms = np.zeros((count, 64), dtype=np.uint8)
        self._borders = np.zeros((count, 96), dtype=np.uint8)

    def scan(self, i: int, data: bytes, digest: str, spec: ImageSpec | None = None) -> NDArray[np.uint8] | None:
        """Scan the bytes of image `i`; with a spec, also return the preprocessed image: (H, W, 3) uint8.

        Raises:
            ImageError: The image is unreadable; it is also recorded as such.
        """
        path = self._samples[i].path
        try:
            if self._info[i] is None:
                before = self._cache.get(digest) if self._cache is not None else None
                if before is not None and before.size_hw[0] * before.size_hw[1] <= self._max_pixels:
                    self._info[i], self._unfetched[i] = _renamed(before, path), digest
                elif spec is None:
                    self._decode(i, data, digest)
                else:
                    reduced, pixels = decode_for_both(data, spec, min_side=_MIN_SIDE, name=path)
                    self._store(i, reduced, digest, len(data))
                    return pixels
            return None if spec is None else read_image(data, spec)
        except ImageError as error:
            self.mark_unreadable(i, error)
            raise

    def mark_unreadable(self, i: int, error: ImageError) -> None:
        """Record that image `i` is unreadable."""
        self._info[i] = None
        self._unfetched.pop(i, None)
        self._problems[i] = Problem(self._samples[i].name, error.kind, error.detail)

    def digests(self) -> list[str]:
        """Return (N,) SHA-256 of each file, empty where it is unreadable."""
        return ["" if info is None else info.digest for info in self._info]

    def problems(self) -> list[Problem]:
        """Return the unreadable images, in the order of the samples."""
        return [self._problems[i] for i in sorted(self._problems)]

    def result(self) -> ScanResult:
        """Return the scan in the order of the samples; arrays are shared with the scanner, not copied."""
        unfetched, self._unfetched = self._unfetched, {}
        result = self._all()
        missing = [i for i, digest in unfetched.items() if self._cache and not self._cache.fill(result, i, digest)]
        for i in missing:  # deleted or damaged since it was opened
            self._scan_again(i)
        return self._all() if missing else result

    def _all(self) -> ScanResult:
        return ScanResult(
            info=tuple(self._info),
            problems=dict(sorted(self._problems.items())),
            thumbnails=self._thumbnails,
            colors=self._colors,
            histograms=self._histograms,
            borders=self._borders,
        )

    def _scan_again(self, i: int) -> None:
        try:
            data = read_bytes(self._samples[i].path)
            self._decode(i, data, hashlib.sha256(data).hexdigest())
        except ImageError as error:
            self.mark_unreadable(i, error)

    def _decode(self, i: int, data: bytes, digest: str) -> None:
        path = self._samples[i].path
        reduced = decode_reduced(data, min_side=_MIN_SIDE, max_pixels=self._max_pixels, name=path)
        self._store(i, reduced, digest, len(data))

    def _store(self, i: int, reduced: ReducedImage, digest: str, size_bytes: int) -> None:
        self._info[i], self._thumbnails[i], self._colors[i], self._histograms[i], self._borders[i] = _describe(
            reduced, digest, size_bytes
        )


def scan_images(
    samples: Sequence[Sample],
    *,
    max_pixels: int = MAX_PIXELS,
    num_threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    scanner: ImageScanner | None = None,
) -> ScanResult:
    """Scan every image, in threads.

    Args:
        samples: The images.
        max_pixels: Larger images are refused before they are decoded.
        num_threads: Worker threads; one per core by default.
        progress: Called with (done, all) after every few images, from a worker thread.
        scanner: Scanner that keeps the results, for later use; a new one by default.
    """
    count = len(samples)
    scanner = scanner or ImageScanner(samples, max_pixels=max_pixels)
    lock = threading.Lock()
    done = 0

    def work(start: int) -> None:
        nonlocal done
        stop = min(start + _BATCH, count)
        for i in range(start, stop):
            try:
                data = read_bytes(samples[i].path)
            except ImageError as error:
                scanner.mark_unreadable(i, error)
                continue
            with contextlib.suppress(ImageError):  # the scanner records it
                scanner.scan(i, data, hashlib.sha256(data).hexdigest())
        with lock:
            done += stop - start
            if progress:
                progress(done, count)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about problems that are reported here
        pool = ThreadPoolExecutor(max(1, num_threads or available_cores()), thread_name_prefix="look")
        try:
            for future in [pool.submit(work, start) for start in range(0, count, _BATCH)]:
                future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return scanner.result()


def _describe(
    reduced: ReducedImage, digest: str, size_bytes: int
) -> tuple[ImageInfo, NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the properties, thumbnail, colors, histogram and border of a decoded image.

    16-bit and float images get a range of their own here: the thumbnails are compared and never trained on.
    """
    spec, quantiles = ImageSpec(), None
    if reduced.mode in DEEP_MODES:
        quantiles = _quantiles(reduced.image)
        low, high = quantiles[1], quantiles[5]
        spec = spec.with_(intensity_range=(low, high if high > low else low + 1.0))
    try:
        rgb = flatten(reduced.image, spec)
        gray = rgb.convert("L")
        thumb = np.asarray(gray.resize((THUMB, THUMB), Image.Resampling.BICUBIC, reducing_gap=2.0))
        factor = max(1, min(rgb.size) // 64)  # integer reduction first: almost the same, in a third of the time
        small = np.asarray(rgb.reduce(factor).resize((32, 32), Image.Resampling.BOX))
    except (OSError, ValueError, MemoryError) as error:
        raise ImageError("damaged", f"cannot convert the image to RGB ({error})") from error
    color = np.rint(small.reshape(8, 4, 8, 4, 3).mean((1, 3))).astype(np.uint8)
    bins = (small >> 6).astype(np.int64) @ np.array([16, 4, 1])
    histogram = np.rint(np.bincount(bins.ravel(), minlength=64) * (255 / 1024)).astype(np.uint8)
    content = thumb.tobytes() + small.tobytes() + repr((reduced.size_hw, quantiles)).encode()
    key = hashlib.blake2b(content, digest_size=16)
    info = ImageInfo(
        digest=digest,
        pixel_key=key.hexdigest(),
        size_bytes=size_bytes,
        format=reduced.format,
        mode=reduced.mode,
        size_hw=reduced.size_hw,
        quality=reduced.quality,
        exif=reduced.exif,
        smoothness=_smoothness(gray),
        quantiles=quantiles,
        notes=(*reduced.notes, *_shape_notes(reduced.size_hw, thumb)),
    )
    return info, thumb, color, histogram, _border(rgb)


def _renamed(info: ImageInfo, path: str) -> ImageInfo:
    """Return the same under another file name, which decides whether the extension is right."""
    others = tuple(r for r in info.notes if r[0] != "wrong-extension")
    notes = (*extension_notes(info.format, path), *others)
    return info if notes == info.notes else replace(info, notes=notes)


def _quantiles(image: Image.Image) -> tuple[float, ...]:
    values = np.asarray(image, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    if not len(values):
        raise ImageError("range", "the floating-point image has no finite value")
    if len(values) > 65536:
        ends = (values.min(), values.max())
        values = np.append(values[:: len(values) // 65536], ends)
    return tuple(float(v) for v in np.quantile(values, _QUANTILES))


def _smoothness(gray: Image.Image) -> float:
    """Return the correlation of horizontally neighboring pixels in the middle of the image; 1 for a uniform image."""
    width, height = gray.size
    w, h = min(width, 128), min(height, 128)
    left, top = (width - w) // 2, (height - h) // 2
    part = np.asarray(gray.crop((left, top, left + w, top + h)), dtype=np.float32)
    if w < 3:
        return 1.0
    part -= part.mean()
    power = float((part * part).mean())
    return float((part[:, 1:] * part[:, :-1]).mean()) / power if power > 1.0 else 1.0


def _border(rgb: Image.Image) -> NDArray[np.uint8]:
    """Return (96,) mean colors of the outermost 2 %: top, bottom, left, right, 8 parts each."""
    width, height = rgb.size
    deep_x, deep_y = max(1, width // 50), max(1, height // 50)
    edges = (
        ((0, 0, width, deep_y), (8, 1)),
        ((0, height - deep_y, width, height), (8, 1)),
        ((0, 0, deep_x, height), (1, 8)),
        ((width - deep_x, 0, width, height), (1, 8)),
    )
    parts = [np.asarray(rgb.resize(size, Image.Resampling.BOX, box=box)).reshape(-1) for box, size in edges]
    return np.concatenate(parts)


def _shape_notes(size_hw: tuple[int, int], thumb: NDArray[np.uint8]) -> list[tuple[str, str]]:
    notes = []
    height, width = size_hw
    if min(size_hw) < _TINY:
        notes.append(("tiny", f"only {width} x {height} pixels"))
    if max(size_hw) > _LONG * min(size_hw):
        notes.append(("long", f"{width} x {height} pixels: most of it will be cropped or squashed"))
    if thumb.max() == thumb.min():
        notes.append(("one-color", "the image is uniform (one color)"))
    return notes
