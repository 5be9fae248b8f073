"""Detect objects with a saved detector, using numpy, Pillow and ONNX Runtime.

Each worker processes a few images completely (decoding, network, boxes, NMS); boxes are decoded by the same function
as in evaluation.
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

_Found: TypeAlias = "tuple[tuple[int, int], Detections, bool]"  # size, detections, whether the limit left some out
_Answer: TypeAlias = "tuple[str, ImageError | _Found]"

_MOST_DETECTIONS = 100_000
_ALMOST_ONE = 1.0 - 1e-9

_SWAPPING = {5, 6, 7, 8}  # values of the EXIF orientation under which width and height change places
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class ImageDetections:
    """Detections in one image.

    Attributes:
        file: The path as given; `#3` for the fourth image in memory.
        size_hw: Height and width of the upright image, pixels; (0, 0) where it cannot be read.
        detections: The objects, the most certain first, in pixels of the upright image.
        error: What is wrong with the image, or None.
        is_limited: Whether the limit of detections left some out.
        problem: Kind of the error, as in `Problem`.
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
        bundle: A bundle, or the path of one (run folder, bundle folder or zip).
        num_threads: Cores to use; None means all that this process may use.

    Raises:
        UsageError, BundleError: As in `read_bundle`, or it is no detector's bundle.
    """

    def __init__(self, bundle: Bundle | str | os.PathLike[str], num_threads: int | None = None) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(os.fspath(bundle))
        if self.bundle.task != "detect":
            raise BundleError(f"`{self.bundle.path}` is a model for `{self.bundle.task}`, not a detector.")
        if num_threads is not None and num_threads < 1:
            raise UsageError(f"the number of threads is at least 1, not {num_threads}.")
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
        """(K,) minimum score of reported objects by class; default 0.5."""
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
        """Detect objects lazily, with few images in memory.

        Args:
            sources: One or an iterable of: paths, bytes of files, PIL images, (H, W, 3) uint8 arrays.
            min_score: Least score of what is given; None takes each class's own threshold, 0 gives all candidates.
            max_detections: Most detections of an image; None takes the limit of the bundle.
            batch: Images a run of the network.
            channel_order: Of arrays: `rgb`, or `bgr` as OpenCV has it.

        Returns:
            One entry a source, in order; where an image cannot be read, with `error` and without detections.

        Raises:
            UsageError: A source is of another kind, or an option does not fit.
        """
        if min_score is not None and not 0.0 <= min_score <= 1.0:
            raise UsageError(f"min_score must be between 0 and 1, got {min_score:g}.")
        if channel_order not in ("rgb", "bgr"):
            raise UsageError(f"channel_order is `rgb` or `bgr`, not {channel_order!r}.")
        if max_detections is not None and not 1 <= max_detections <= _MOST_DETECTIONS:
            raise UsageError(f"max_detections must be between 1 and {_MOST_DETECTIONS:,}, got {max_detections:,}.")
        limits = self.thresholds if min_score is None else np.full(len(self.class_names), min_score, dtype=np.float32)
        if isinstance(sources, Sequence) and not isinstance(sources, (str, bytes)):
            batch = min(batch, max(1, -(-len(sources) // self.num_threads)))
        decoding = self.decoding if max_detections is None else self.decoding.limited(max_detections)
        # NMS proceeds by descending score: boxes below all thresholds do not change those above.
        floor = max(decoding.min_score, (1.0 - 1e-4) * min(float(limits.min()), _ALMOST_ONE))
        answers = self._worker.stream(as_sources(sources), batch, channel_order, replace(decoding, min_score=floor))
        return (_image(name, outputs, limits) for name, outputs in answers)

    def __repr__(self) -> str:
        classes = pluralize(len(self.class_names), "class", "classes")
        return f"headstart detector of {classes}: {', '.join(self.class_names[:8])}"


class _Worker:
    """Process batches of images on several threads in order.

    Args:
        bundle: The detector.
        num_threads: Cores to use.
    """

    def __init__(self, bundle: Bundle, num_threads: int) -> None:
        self.bundle, self.num_threads = bundle, num_threads
        self._sessions: dict[int, Any] = {}
        self._lock = threading.Lock()

    def stream(
        self, sources: Iterator[Source], batch: int, channel_order: ChannelOrder, decoding: DecodingSettings
    ) -> Generator[_Answer, None, None]:
        """Return one answer a source, in order."""
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
        pending: deque[Future[list[_Answer]]] = deque()
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
    ) -> list[_Answer]:
        spec = self.bundle.spec
        pixels: list[NDArray[np.uint8]] = []
        sizes: list[tuple[int, int]] = []
        answers: list[Any] = []
        for index, source in chunk:
            name = name_of(source, index)
            try:
                data = read_bytes(source) if isinstance(source, (str, os.PathLike)) else source
                sizes.append(upright_size(data, spec.max_pixels))
                pixels.append(to_pixels(data, spec, channel_order))
                answers.append((name, None))
            except ImageError as error:
                del sizes[len(pixels) :]
                answers.append((name, error))
        if not pixels:
            return answers
        try:
            logits, boxes = session.run(["logits", "boxes"], {"pixels": normalize(np.stack(pixels), spec)})
        except Exception as error:  # ONNX Runtime's errors share no base but Exception
            raise BundleError(f"the model of `{self.bundle.path}` fails: {str(error).splitlines()[0]}") from error
        rows = iter(zip(logits, boxes, sizes, strict=True))
        return [(name, error if error is not None else self._decode(*next(rows), decoding)) for name, error in answers]

    def _decode(
        self,
        logits: NDArray[np.float32],
        boxes: NDArray[np.float32],
        size_hw: tuple[int, int],
        decoding: DecodingSettings,
    ) -> _Found:
        frame = plain_frame(size_hw, self.bundle.spec)
        return size_hw, *decode_with_limit(logits, boxes, decoding, frame, size_hw)

    def _session(self, num_threads: int) -> Any:
        """Return the session with the given number of threads, created lazily."""
        with self._lock:
            if num_threads not in self._sessions:
                session = open_session(self.bundle.model, num_threads)
                check_detector(session, self.bundle.spec.size_hw, len(self.bundle.class_names))
                self._sessions[num_threads] = session
            return self._sessions[num_threads]


def open_decoding(bundle: Bundle) -> DecodingSettings:
    """Return the rules of a bundle, with every number of the right kind: it comes from outside.

    Raises:
        BundleError: They do not fit.
    """
    value = bundle.info.get("decoding")
    try:
        if not isinstance(value, dict) or set(value) != set(DecodingSettings.__dataclass_fields__):
            raise ValueError("`decoding` names other values than expected")
        if not all(type(v) in (int, float) and math.isfinite(v) for v in value.values()):
            raise ValueError("`decoding` holds something that is no number")
        decoding = replace(
            DecodingSettings(**value), num_candidates=int(value["num_candidates"]), num_kept=int(value["num_kept"])
        )
        is_fit = 0 < decoding.min_score < 1 and 0 < decoding.nms_iou <= 1 and decoding.slope > 0
        if not is_fit or not 1 <= decoding.num_kept <= _MOST_DETECTIONS or decoding.num_candidates < 1:
            raise ValueError("a value of `decoding` is out of range")
        for name, limit in (bundle.thresholds.get("per_class") or {}).items():
            if type(limit) not in (int, float) or not 0.0 <= limit <= 1.0:
                raise ValueError(f"the threshold of `{name}` is no score")
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"the bundle `{bundle.path}` is damaged: {error}.", hint="copy it again") from error
    return decoding


def check_detector(session: Any, size_hw: tuple[int, int], num_classes: int) -> None:
    """Check that inputs and outputs match the detector bundle.

    Raises:
        BundleError: It does not.
    """
    inputs = {value.name: (value.type, list(value.shape)) for value in session.get_inputs()}
    outputs = {value.name: list(value.shape) for value in session.get_outputs()}
    if list(inputs) != ["pixels"] or inputs["pixels"][0] != "tensor(float)" or inputs["pixels"][1][1:] != [3, *size_hw]:
        raise BundleError(f"the model takes {inputs}; one float32 input `pixels` of (B, 3, {size_hw}) is expected.")
    logits, boxes = outputs.get("logits", []), outputs.get("boxes", [])
    if len(logits) != 3 or len(boxes) != 3 or logits[2] != num_classes or boxes[1:] != [logits[1], 4]:
        raise BundleError(
            f"the model gives {outputs}; `logits` (B, P, {num_classes}) and `boxes` (B, P, 4) are expected."
        )


def upright_size(source: Source, max_pixels: int) -> tuple[int, int]:
    """Return height and width of an image with EXIF orientation applied; files are not decoded.

    Raises:
        ImageError: It cannot be opened.
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
    except Exception:  # a damaged EXIF block leaves the image as stored, as in reading
        is_swapped = False
    return (image.width, image.height) if is_swapped else (image.height, image.width)


def _image(name: str, outputs: Any, limits: NDArray[np.float32]) -> ImageDetections:
    if isinstance(outputs, ImageError):
        return ImageDetections(name, (0, 0), Detections.of(()), str(outputs), problem=outputs.kind)
    size_hw, detections, is_limited = outputs
    kept = detections.take(detections.scores >= limits[detections.class_ids])
    return ImageDetections(name, size_hw, kept, is_limited=is_limited)
