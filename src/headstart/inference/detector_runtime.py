"""Run a saved detector with numpy, Pillow and ONNX Runtime.

Each thread processes a batch from decoding to NMS. Boxes are decoded by the same function as in evaluation.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.data.boxes.records import Detections
from headstart.detection.decoding import DecodingSettings, decode_with_limit
from headstart.detection.image_frames import plain_frame
from headstart.errors import BundleError, UsageError
from headstart.inference.bundle import Bundle, read_bundle
from headstart.inference.image_inputs import Source, as_sources, name_of, to_pixels
from headstart.inference.runtime import BATCH, ChannelOrder
from headstart.inference.session import open_session
from headstart.messages.numbers import pluralize
from headstart.preprocessing.image_spec import ImageError, normalize, open_image, read_bytes
from headstart.types.records import Problem
from headstart.utils.system import available_cores

__all__ = ["DetectorRuntime", "ImageDetections", "check_detector", "open_decoding", "upright_size"]

_Decoded: TypeAlias = "tuple[tuple[int, int], Detections, bool]"  # size, detections, whether the limit dropped some
_Output: TypeAlias = "tuple[str, ImageError | _Decoded]"

_MAX_DETECTIONS = 100_000
_ALMOST_ONE = 1.0 - 1e-9

_SWAPPING = {5, 6, 7, 8}  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class ImageDetections:
    """Detections in one image.

    Attributes:
        file: The path as given; `#3` for the fourth image in memory.
        size_hw: Height and width in pixels, EXIF orientation applied; (0, 0) if the image is unreadable.
        detections: Objects by descending score, in pixels after EXIF orientation.
        error: Why the image is unreadable, or None.
        is_limited: Whether objects were dropped because of the maximum number of detections.
        problem: Code of the error, as in `Problem.kind`.
    """

    file: str
    size_hw: tuple[int, int]
    detections: Detections
    error: str | None = None
    is_limited: bool = False
    problem: str | None = None


class DetectorRuntime:
    """Inference runtime of a detector bundle.

    Args:
        bundle: A bundle, or its path (run folder, bundle folder or zip).
        num_threads: Number of threads; None uses all available cores.

    Raises:
        UsageError: `num_threads` is below 1, or see `read_bundle`.
        BundleError: The bundle is not a detector, or see `read_bundle`.
    """

    def __init__(self, bundle: Bundle | str | os.PathLike[str], num_threads: int | None = None) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(os.fspath(bundle))
        if self.bundle.task != "detect":
            raise BundleError(f"`{self.bundle.path}` is a `{self.bundle.task}` model, not a detector.")
        if num_threads is not None and num_threads < 1:
            raise UsageError(f"num_threads must be at least 1, got {num_threads}.")
        self.num_threads = num_threads or available_cores()
        self.decoding = open_decoding(self.bundle)
        self._worker = _Worker(self.bundle, self.num_threads)

    def __reduce__(self) -> tuple[type[DetectorRuntime], tuple[Bundle, int]]:
        return DetectorRuntime, (self.bundle, self.num_threads)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.bundle.class_names

    @property
    def thresholds(self) -> NDArray[np.float32]:
        """(K,) minimum score of reported objects of each class; 0.5 if the bundle has none."""
        known: Mapping[str, Any] = self.bundle.thresholds.get("per_class") or {}
        return np.array([float(known.get(name, 0.5)) for name in self.class_names], dtype=np.float32)

    def predict(
        self,
        sources: Any,
        *,
        min_score: float | None = None,
        max_detections: int | None = None,
        channel_order: ChannelOrder = "rgb",
    ) -> list[ImageDetections]:
        """Detect objects in one or many images; see `iter_predict`."""
        return list(
            self.iter_predict(sources, min_score=min_score, max_detections=max_detections, channel_order=channel_order)
        )

    def iter_predict(
        self,
        sources: Any,
        *,
        min_score: float | None = None,
        max_detections: int | None = None,
        batch: int = BATCH,
        channel_order: ChannelOrder = "rgb",
    ) -> Iterator[ImageDetections]:
        """Detect objects lazily, with a few batches in memory.

        Args:
            sources: One or an iterable of: paths, bytes of files, PIL images, (H, W, 3) uint8 arrays.
            min_score: Minimum score of detections; None uses the threshold of each class, 0 keeps all candidates.
            max_detections: Maximum number of detections per image; None uses the limit of the bundle.
            batch: Batch size.
            channel_order: Channel order of arrays: `rgb`, or `bgr` as in OpenCV.

        Returns:
            One result per source, in order; unreadable images have `error` set and no detections.

        Raises:
            UsageError: A source has an unsupported type, or an option is out of range.
        """
        if min_score is not None and not 0.0 <= min_score <= 1.0:
            raise UsageError(f"min_score must be between 0 and 1, got {min_score:g}.")
        if channel_order not in ("rgb", "bgr"):
            raise UsageError(f"channel_order must be `rgb` or `bgr`, got {channel_order!r}.")
        if max_detections is not None and not 1 <= max_detections <= _MAX_DETECTIONS:
            raise UsageError(f"max_detections must be between 1 and {_MAX_DETECTIONS:,}, got {max_detections:,}.")
        limits = self.thresholds if min_score is None else np.full(len(self.class_names), min_score, dtype=np.float32)
        if isinstance(sources, Sequence) and not isinstance(sources, (str, bytes)):
            batch = min(batch, max(1, -(-len(sources) // self.num_threads)))
        decoding = self.decoding if max_detections is None else self.decoding.limited(max_detections)
        # NMS processes boxes by descending score, so boxes below all thresholds do not affect those above.
        floor = max(decoding.min_score, (1.0 - 1e-4) * min(float(limits.min()), _ALMOST_ONE))
        outputs = self._worker.stream(as_sources(sources), batch, channel_order, replace(decoding, min_score=floor))
        return (_image(name, output, limits) for name, output in outputs)

    def __repr__(self) -> str:
        classes = pluralize(len(self.class_names), "class", "classes")
        return f"headstart detector of {classes}: {', '.join(self.class_names[:8])}"


class _Worker:
    """Process batches of images in several threads; results keep the order of the sources.

    Args:
        bundle: The detector.
        num_threads: Number of threads.
    """

    def __init__(self, bundle: Bundle, num_threads: int) -> None:
        self.bundle, self.num_threads = bundle, num_threads
        self._sessions: dict[int, Any] = {}
        self._lock = threading.Lock()

    def stream(
        self, sources: Iterator[Source], batch: int, channel_order: ChannelOrder, decoding: DecodingSettings
    ) -> Generator[_Output, None, None]:
        """Yield one output per source, in order."""
        numbered = enumerate(sources)
        chunk = list(islice(numbered, max(batch, 2)))
        if len(chunk) < 2 or self.num_threads == 1:
            session = self._session(self.num_threads)
            while chunk:
                yield from self._work(chunk, session, channel_order, decoding)
                chunk = list(islice(numbered, batch))
            return
        rest, chunk = chain(chunk, numbered), []
        session = self._session(1)
        pending: deque[Future[list[_Output]]] = deque()
        with ThreadPoolExecutor(self.num_threads, thread_name_prefix="headstart") as pool:
            try:
                while (chunk := list(islice(rest, batch))) or pending:
                    if chunk:
                        pending.append(pool.submit(self._work, chunk, session, channel_order, decoding))
                    if not chunk or len(pending) > 2 * self.num_threads:
                        yield from pending.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _work(
        self, chunk: list[tuple[int, Source]], session: Any, channel_order: ChannelOrder, decoding: DecodingSettings
    ) -> list[_Output]:
        spec = self.bundle.spec
        pixels: list[NDArray[np.uint8]] = []
        sizes: list[tuple[int, int]] = []
        outputs: list[Any] = []
        for index, source in chunk:
            name = name_of(source, index)
            try:
                data = read_bytes(source) if isinstance(source, (str, os.PathLike)) else source
                sizes.append(upright_size(data, spec.max_pixels))
                pixels.append(to_pixels(data, spec, channel_order))
                outputs.append((name, None))
            except ImageError as error:
                del sizes[len(pixels) :]
                outputs.append((name, error))
        if not pixels:
            return outputs
        try:
            logits, boxes = session.run(["logits", "boxes"], {"pixels": normalize(np.stack(pixels), spec)})
        except Exception as error:  # ONNX Runtime's errors share no base but Exception
            raise BundleError(f"the model of `{self.bundle.path}` failed: {str(error).splitlines()[0]}") from error
        rows = iter(zip(logits, boxes, sizes, strict=True))
        return [(name, error if error is not None else self._decode(*next(rows), decoding)) for name, error in outputs]

    def _decode(
        self,
        logits: NDArray[np.float32],
        boxes: NDArray[np.float32],
        size_hw: tuple[int, int],
        decoding: DecodingSettings,
    ) -> _Decoded:
        frame = plain_frame(size_hw, self.bundle.spec)
        return size_hw, *decode_with_limit(logits, boxes, decoding, frame, size_hw)

    def _session(self, num_threads: int) -> Any:
        """Return the session with this number of threads; it is created once."""
        with self._lock:
            if num_threads not in self._sessions:
                session = open_session(self.bundle.model, num_threads)
                check_detector(session, self.bundle.spec.size_hw, len(self.bundle.class_names))
                self._sessions[num_threads] = session
            return self._sessions[num_threads]


def open_decoding(bundle: Bundle) -> DecodingSettings:
    """Read and validate the decoding settings and thresholds of an untrusted bundle.

    Raises:
        BundleError: A key or value is invalid.
    """
    value = bundle.info.get("decoding")
    try:
        if not isinstance(value, dict) or set(value) != set(DecodingSettings.__dataclass_fields__):
            raise ValueError("unexpected keys in `decoding`")
        if not all(type(v) in (int, float) and math.isfinite(v) for v in value.values()):
            raise ValueError("a value of `decoding` is not a finite number")
        decoding = replace(
            DecodingSettings(**value), num_candidates=int(value["num_candidates"]), num_kept=int(value["num_kept"])
        )
        is_valid = 0 < decoding.min_score < 1 and 0 < decoding.nms_iou <= 1 and decoding.slope > 0
        if not is_valid or not 1 <= decoding.num_kept <= _MAX_DETECTIONS or decoding.num_candidates < 1:
            raise ValueError("a value of `decoding` is out of range")
        for name, limit in (bundle.thresholds.get("per_class") or {}).items():
            if type(limit) not in (int, float) or not 0.0 <= limit <= 1.0:
                raise ValueError(f"the threshold of `{name}` is not between 0 and 1")
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"the bundle `{bundle.path}` is damaged: {error}.", hint="copy the bundle again") from error
    return decoding


def check_detector(session: Any, size_hw: tuple[int, int], num_classes: int) -> None:
    """Check the inputs and outputs of the ONNX model against the bundle.

    Raises:
        BundleError: They do not match.
    """
    inputs = {value.name: (value.type, list(value.shape)) for value in session.get_inputs()}
    outputs = {value.name: list(value.shape) for value in session.get_outputs()}
    if list(inputs) != ["pixels"] or inputs["pixels"][0] != "tensor(float)" or inputs["pixels"][1][1:] != [3, *size_hw]:
        raise BundleError(f"the model has inputs {inputs}; expected one float32 input `pixels` of (B, 3, {size_hw}).")
    logits, boxes = outputs.get("logits", []), outputs.get("boxes", [])
    if len(logits) != 3 or len(boxes) != 3 or logits[2] != num_classes or boxes[1:] != [logits[1], 4]:
        raise BundleError(
            f"the model has outputs {outputs}; expected `logits` (B, P, {num_classes}) and `boxes` (B, P, 4)."
        )


def upright_size(source: Source, max_pixels: int) -> tuple[int, int]:
    """Return height and width of an image with EXIF orientation applied; files are not decoded.

    Raises:
        ImageError: The image cannot be opened.
    """
    if isinstance(source, Problem):
        raise ImageError(source.kind, source.detail)
    if isinstance(source, np.ndarray):
        return int(source.shape[0]), int(source.shape[1])
    if isinstance(source, Image.Image):
        return _upright(source)
    with open_image(source if isinstance(source, bytes) else os.fspath(source), max_pixels) as image:
        return _upright(image)


def _upright(image: Image.Image) -> tuple[int, int]:
    try:
        is_swapped = image.getexif().get(_ORIENTATION) in _SWAPPING
    except Exception:  # a damaged EXIF block is ignored, as in `open_image`
        is_swapped = False
    return (image.width, image.height) if is_swapped else (image.height, image.width)


def _image(name: str, output: Any, limits: NDArray[np.float32]) -> ImageDetections:
    if isinstance(output, ImageError):
        return ImageDetections(name, (0, 0), Detections.of(()), str(output), problem=output.kind)
    size_hw, detections, is_limited = output
    kept = detections.take(detections.scores >= limits[detections.class_ids])
    return ImageDetections(name, size_hw, kept, is_limited=is_limited)
