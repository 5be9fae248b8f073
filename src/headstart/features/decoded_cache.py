"""Cache decoded images as bytes, for trainings in which every epoch uses new views.

A view is always cut from the decoded image, cached or not, so training does not depend on the content of the cache.
Images that decode faster than a disk reads are not cached.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.features.view_activations import PLAIN, ViewSet, check_unchanged, known_image
from headstart.preprocessing.augmentation import WHOLE_IMAGES, Augment, DecodedImage, ViewCodec, view_rng
from headstart.preprocessing.image_spec import ImageSpec, normalize, read_bytes
from headstart.store.cache import Cache, row_key
from headstart.store.rows import RowStore

__all__ = ["DecodedCache", "DecodedImages"]

_MAX_ROW = 16 << 20
_READ_RATE = 500e6  # bytes per second of an ordinary SSD; small JPEGs decode as fast (bench_decoded_cache.py)
_VERSION = 1  # of the row format
_HEAD = 16  # bytes of a row before the pixels: height, width, and both before reduction


class DecodedCache:
    """Decoded images of all datasets, in one folder.

    Args:
        cache: The cache folder.
        read_rate: Images that decode to more bytes per second are not cached.
    """

    def __init__(self, cache: Cache, read_rate: float = _READ_RATE) -> None:
        self.rows = RowStore(cache.folder("decoded", _VERSION), cache)
        self._read_rate = read_rate

    def get(self, key: bytes) -> DecodedImage | None:
        """Return an image, memory-mapped, or None if it is missing or damaged."""
        row = self.rows.get(key)
        if row is None:
            return None
        height, width, full_h, full_w = (int(v) for v in row[:_HEAD].view("<i4"))
        return DecodedImage(Image.fromarray(row[_HEAD:].reshape(height, width, 3)), (full_h, full_w))

    def put(self, key: bytes, decoded: DecodedImage, cost_s: float) -> None:
        """Cache an image if that pays; never raises because of the disk.

        Args:
            key: Identifies file and decoding rule.
            decoded: The image.
            cost_s: Time for reading and decoding, seconds.
        """
        width, height = decoded.image.size
        size = _HEAD + 3 * width * height
        if size > _MAX_ROW or cost_s * self._read_rate < size or self.rows.is_behind:
            return
        head = np.array([height, width, *decoded.full_hw], dtype="<i4")
        row = np.concatenate([head.view(np.uint8), decoded.pixels.reshape(-1)])
        self.rows.add({key: row}, is_waiting=False)


class DecodedImages:
    """Views of one dataset.

    Args:
        images: The images and their augmentation.
        spec: Preprocessing of the plain view, as in prediction.
        cache: Cache of decoded images, or None.
        view_spec: Preprocessing of the other views, if it differs (another size).
        cutting: Functions that decode images and cut views.
    """

    def __init__(
        self,
        images: ViewSet,
        spec: ImageSpec,
        cache: DecodedCache | None = None,
        *,
        view_spec: ImageSpec | None = None,
        cutting: ViewCodec = WHOLE_IMAGES,
    ) -> None:
        self.num_decoded = 0
        self.cache = cache
        self._lock = threading.Lock()
        self._decoding: dict[bytes, Future[DecodedImage]] = {}
        self._images = images
        self._digests = [bytes.fromhex(d) for d in images.digests]
        self._cutting = cutting
        self._plain = (spec, Augment(), cutting.rule(spec, Augment()))
        view_spec = view_spec or spec
        self._other = (view_spec, images.augment, cutting.rule(view_spec, images.augment))

    def make(self, sample: int, view: int) -> NDArray[np.float32]:
        """Return (3, H, W) normalized pixels of a view; thread-safe.

        Raises:
            DataError: The image is no longer readable, or has changed.
        """
        spec, augment, rule = self._plain if view == PLAIN else self._other
        decoded = self._find(sample, spec, augment, rule)
        rng = None if view == PLAIN else view_rng(self._digests[sample], view, self._images.seed)
        return normalize(self._cutting.cut(decoded, spec, augment, rng), spec)

    def _find(self, sample: int, spec: ImageSpec, augment: Augment, rule: str) -> DecodedImage:
        """Return the decoded image from the cache or decode it; threads wait for an image that another one decodes."""
        key = row_key(self._digests[sample], rule)
        cached = self.cache.get(key) if self.cache is not None else None
        if cached is not None:
            return cached
        with self._lock:
            future = self._decoding.get(key)
            is_ours = future is None
            if future is None:
                future = self._decoding[key] = Future()
        if not is_ours:
            return future.result()
        try:
            cached = self.cache.get(key) if self.cache is not None else None  # cached since the first lookup
            future.set_result(cached or self._decode(key, sample, spec, augment))
        except BaseException as error:  # passed to waiting threads
            future.set_exception(error)
        finally:
            with self._lock:
                del self._decoding[key]
        return future.result()

    def _decode(self, key: bytes, sample: int, spec: ImageSpec, augment: Augment) -> DecodedImage:
        name = self._images.names[sample]
        with known_image(name):
            started = time.perf_counter()
            data = read_bytes(self._images.paths[sample])
            read_s = time.perf_counter() - started
            started = time.thread_time()  # excludes time in which other threads had the core
            check_unchanged(data, self._digests[sample], name)
            decoded = self._cutting.decode(data, spec, augment)
            cost_s = read_s + time.thread_time() - started
        with self._lock:
            self.num_decoded += 1
        if self.cache is not None:
            self.cache.put(key, decoded, cost_s)
        return decoded
