"""Decode the network outputs of an image into a prediction: one decoder per task, numpy only.

Options that a bundle does not support raise an error when the decoder is created, before any image is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Detections
from headstart.errors import BundleError, UsageError
from headstart.evaluation.softmax import softmax
from headstart.inference.bundle import Bundle
from headstart.preprocessing.image_spec import ImageError
from headstart.types.records import Prediction
from headstart.utils.limits import MAX_BUNDLE_DETECTIONS

__all__ = ["BoxDecoder", "ClassDecoder", "Decoder", "ImageDetections", "OutputRow", "RowDecoder"]

OutputRow: TypeAlias = tuple[NDArray[np.float32], ...]
"""Row of one image of each network output."""

Result = TypeVar("Result", covariant=True)

_ALMOST_ONE = 1.0 - 1e-9


class Decoder(Protocol[Result]):
    """Turn the outputs for one image into a result; called in worker threads.

    Attributes:
        outputs: Names of the required network outputs.
        needs_size: Whether `decode` uses the size of the image.
    """

    outputs: tuple[str, ...]
    needs_size: bool

    def decode(self, name: str, row: OutputRow, size_hw: tuple[int, int]) -> Result:
        """Return the result of an image, from its row of each output and its upright size in pixels."""
        ...

    def fail(self, name: str, error: ImageError) -> Result:
        """Return the result of an unreadable image; the error must not be kept, since it references the image."""
        ...


class RowDecoder:
    """Return the rows of some outputs as they are; None for unreadable images.

    Args:
        outputs: Names of outputs, e.g. `("logits", "embedding")`.
    """

    needs_size = False

    def __init__(self, outputs: tuple[str, ...]) -> None:
        self.outputs = outputs

    def decode(self, name: str, row: OutputRow, size_hw: tuple[int, int]) -> tuple[str, OutputRow | None]:
        """See `Decoder`."""
        return name, row

    def fail(self, name: str, error: ImageError) -> tuple[str, OutputRow | None]:
        """See `Decoder`."""
        return name, None


class ClassDecoder:
    """Decode classes, OOD scores and prediction sets.

    Args:
        bundle: The classifier.
        top: Number of most probable classes per image, at least 1.
        ood_fpr: Maximum false-positive rate of OOD detection; None uses the value stored in the bundle.
        coverage: Coverage of prediction sets; None uses the value stored in the bundle.

    Raises:
        BundleError: The bundle is not a classifier.
        UsageError: An option is out of range or not supported by the bundle.

    Attributes:
        outputs: `logits`, and `residual_norm` if the OOD rule uses it.
        coverage: Coverage of the prediction sets, at least the requested one; None without prediction sets.
    """

    needs_size = False

    def __init__(
        self, bundle: Bundle, top: int = 1, *, ood_fpr: float | None = None, coverage: float | None = None
    ) -> None:
        _check_kind(bundle, bool(bundle.class_names) and not bundle.has_boxes, "a classifier")
        if top < 1:
            raise UsageError(f"top must be at least 1, got {top}.")
        if ood_fpr is not None and bundle.ood is None:
            raise UsageError(f"`{bundle.path}` has no OOD detection, so --ood-fpr cannot be used.")
        if coverage is not None and bundle.prediction_sets is None:
            raise UsageError(f"`{bundle.path}` has no prediction sets, so --coverage cannot be used.")
        try:
            self._threshold = math.inf if bundle.ood is None else bundle.ood.threshold(ood_fpr)
            stored = None if bundle.prediction_sets is None else bundle.prediction_sets.at(coverage)
        except ValueError as error:
            raise UsageError(f"{error}.", hint="for example --ood-fpr 5% or --coverage 90%") from error
        if ood_fpr is not None and math.isinf(self._threshold):
            raise UsageError(
                f"the model has too few calibration images for --ood-fpr {100 * ood_fpr:g}%.",
                hint="use a larger value",
            )
        self._names, self._rule, self._top = bundle.class_names, bundle.ood, top
        self.coverage: float | None = None if stored is None else stored[0]
        self._thresholds: NDArray[np.float64] | None = None if stored is None else stored[1]
        has_norm = self._rule is not None and self._rule.has_residual_norm
        self.outputs: tuple[str, ...] = ("logits", "residual_norm") if has_norm else ("logits",)

    def decode(self, name: str, row: OutputRow, size_hw: tuple[int, int]) -> Prediction:
        """See `Decoder`."""
        probabilities = softmax(row[0])
        (score,) = self.ood_scores(probabilities[None], [output[None] for output in row])
        return self.prediction(name, probabilities, float(score))

    def fail(self, name: str, error: ImageError) -> Prediction:
        """See `Decoder`."""
        return Prediction(file=name, label=None, probability=None, error=str(error), problem=error.kind)

    def ood_scores(self, probabilities: NDArray[np.float64], outputs: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Return (N,) OOD scores from (N, K) probabilities and the N rows of each output; NaN without an OOD rule."""
        if self._rule is None:
            return np.full(len(probabilities), np.nan)
        residual_norm = None
        if len(self.outputs) > 1:  # empty if no image is readable
            norms = np.asarray(outputs[1])
            residual_norm = norms.reshape(len(probabilities)) if norms.size else np.full(len(probabilities), np.nan)
        return self._rule.combine(probabilities.max(axis=1), residual_norm)

    def prediction(self, name: str, probabilities: NDArray[np.float64], ood_score: float) -> Prediction:
        """Return the prediction for an image from its (K,) probabilities and OOD score."""
        order = np.argsort(-probabilities, kind="stable")
        best = tuple((self._names[i], float(probabilities[i])) for i in order[: self._top])
        score = None if math.isnan(ood_score) else ood_score
        limits = self._thresholds
        return Prediction(
            file=name,
            label=best[0][0],
            probability=best[0][1],
            top=best,
            ood_score=score,
            is_ood=None if score is None or math.isinf(self._threshold) else score > self._threshold,
            prediction_set=None
            if limits is None
            else tuple(self._names[i] for i in order if probabilities[i] >= limits[i]),
        )


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


class BoxDecoder:
    """Decode boxes by the same function as in evaluation.

    Args:
        bundle: The detector.
        min_score: Minimum score of detections; None uses the threshold of each class, 0 keeps all candidates.
        max_detections: Maximum number of detections per image; None uses the limit of the bundle.
        nms_iou: IoU threshold of NMS, in (0, 1]; None uses that of the bundle.
        class_agnostic_nms: Whether NMS compares boxes of different classes too; None does as the bundle says.

    Raises:
        BundleError: The bundle is not a detector.
        UsageError: An option is out of range.

    Attributes:
        settings: Decoding settings with the options applied.
    """

    outputs: tuple[str, ...] = ("logits", "boxes")
    needs_size = True

    def __init__(
        self,
        bundle: Bundle,
        *,
        min_score: float | None = None,
        max_detections: int | None = None,
        nms_iou: float | None = None,
        class_agnostic_nms: bool | None = None,
    ) -> None:
        _check_kind(bundle, bool(bundle.class_names) and bundle.has_boxes, "a detector")
        if min_score is not None and not 0.0 <= min_score <= 1.0:
            raise UsageError(f"min_score must be between 0 and 1, got {min_score:g}.")
        if max_detections is not None and not 1 <= max_detections <= MAX_BUNDLE_DETECTIONS:
            raise UsageError(f"max_detections must be between 1 and {MAX_BUNDLE_DETECTIONS:,}, got {max_detections:,}.")
        if nms_iou is not None and not 0.0 < nms_iou <= 1.0:
            raise UsageError(f"nms_iou must be above 0 and at most 1, got {nms_iou:g}.")
        limits = bundle.class_thresholds
        self._limits = limits if min_score is None else np.full(len(limits), min_score, dtype=np.float32)
        self._spec = bundle.spec
        decoding = bundle.decoding if max_detections is None else bundle.decoding.limited(max_detections)
        # NMS processes boxes by descending score, so boxes below all thresholds do not affect those above.
        floor = max(decoding.min_score, (1.0 - 1e-4) * min(float(self._limits.min()), _ALMOST_ONE))
        self.settings = replace(
            decoding,
            min_score=floor,
            nms_iou=decoding.nms_iou if nms_iou is None else nms_iou,
            is_class_agnostic=decoding.is_class_agnostic if class_agnostic_nms is None else class_agnostic_nms,
        )

    def decode(self, name: str, row: OutputRow, size_hw: tuple[int, int]) -> ImageDetections:
        """See `Decoder`."""
        from headstart.detection.decoding import decode_with_limit
        from headstart.detection.image_frames import plain_frame

        logits, boxes = row
        frame = plain_frame(size_hw, self._spec)
        detections, is_limited = decode_with_limit(logits, boxes, self.settings, frame, size_hw)
        kept = detections.take(detections.scores >= self._limits[detections.class_ids])
        return ImageDetections(name, size_hw, kept, is_limited=is_limited)

    def fail(self, name: str, error: ImageError) -> ImageDetections:
        """See `Decoder`."""
        return ImageDetections(name, (0, 0), Detections.of(()), str(error), problem=error.kind)


def _check_kind(bundle: Bundle, is_kind: bool, what: str) -> None:
    if not is_kind:
        raise BundleError(
            f"`{bundle.path}` is a `{bundle.task}` model, not {what}.",
            hint="use headstart.load, which opens models of all tasks",
        )
