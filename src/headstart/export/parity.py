"""Verify a bundle against the trained model on the user's files, from decoding to softmax or boxes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Detections
from headstart.errors import BundleError
from headstart.evaluation.softmax import softmax
from headstart.inference.decoders import BoxDecoder, ClassDecoder, RowDecoder
from headstart.inference.runtime import Runtime
from headstart.messages.numbers import pluralize

__all__ = ["DetectorParity", "Parity", "check_detector_parity", "check_parity"]

_MAX_FILES = 200
_MIN_FILES = 20  # compared even beyond the time budget
_BUDGET_S = 1.5  # 2 s with opening the session and the running batches
_OOD_TOLERANCE = 0.05  # 1/20 of the standard deviation of in-distribution scores
_MIN_BOX_FILES = 8
_BOX_BUDGET_S = 3.0
_PIXELS = 0.5  # maximum difference of a box edge, in pixels of the network's input
_SCORE = 1e-3
_TOLERANCE = 1e-3  # of a probability; float32 on another engine or processor differs by 1e-6 to 1e-4

_REPORT = "please report this with your versions of onnxruntime, Pillow and numpy"


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement of a bundle with the trained model.

    Attributes:
        num_files: Compared files.
        num_unreadable: Files that were readable in training but no longer are.
        label_agreement: Fraction of files with the same most probable class, in [0, 1].
        max_difference: Maximum difference of a probability.
        tolerance: Maximum accepted difference.
        max_ood_score_difference: Maximum difference of the OOD score; None without OOD detection.
    """

    num_files: int
    num_unreadable: int
    label_agreement: float
    max_difference: float
    tolerance: float = _TOLERANCE
    max_ood_score_difference: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for `bundle.json` and `metrics.json`."""
        return asdict(self)


def check_parity(
    runtime: Runtime,
    sources: Sequence[Any],
    expected_logits: NDArray[np.floating[Any]],
    *,
    expected_ood_scores: NDArray[np.float64] | None = None,
    max_files: int = _MAX_FILES,
    budget_s: float = _BUDGET_S,
    tolerance: float = _TOLERANCE,
) -> Parity:
    """Compare predictions of a bundle with those of training.

    Args:
        runtime: The bundle.
        sources: Files (or images), compared in this order; shuffle them for a representative sample.
        expected_logits: (N, K) of the training path, temperature applied; rows with NaN are skipped.
        expected_ood_scores: (N,) of the training path, if the bundle has OOD detection.
        max_files: Maximum number of compared files.
        budget_s: Seconds after which the comparison ends, once 20 files are compared.
        tolerance: Maximum accepted difference of a probability.

    Returns:
        The comparison.

    Raises:
        BundleError: A probability differs by more than the tolerance, a label differs that is not a tie
            within it, an OOD score differs by more than 0.05, or no file could be compared.
    """
    usable = np.flatnonzero(np.isfinite(expected_logits).all(axis=1))[:max_files]
    expected = softmax(expected_logits[usable])
    started = time.monotonic()
    differences: list[float] = []
    num_same = num_unreadable = 0
    worst = ""
    decoder = ClassDecoder(runtime.bundle)
    ood_differences: list[float] = []
    with closing(runtime.predict((sources[i] for i in usable), RowDecoder(decoder.outputs))) as outputs:
        for i, (name, row), probabilities in zip(usable, outputs, expected, strict=False):
            if row is None:
                num_unreadable += 1
                continue
            actual = softmax(row[0])
            difference = float(np.abs(actual - probabilities).max())
            if difference >= max(differences, default=0.0):
                worst = name
            differences.append(difference)
            if expected_ood_scores is not None:
                (score,) = decoder.ood_scores(actual[None], [output[None] for output in row])
                ood_differences.append(abs(float(np.nan_to_num(score)) - float(expected_ood_scores[i])))
            # Classes of equal probability may be reordered by rounding errors.
            num_same += bool(probabilities[actual.argmax()] >= probabilities.max() - 2 * tolerance)
            if len(differences) >= _MIN_FILES and time.monotonic() - started > budget_s:
                break
    if not differences:
        raise _not_compared("model", len(usable))
    agreement = num_same / len(differences)
    furthest = max(ood_differences) if ood_differences else None
    parity = Parity(len(differences), num_unreadable, agreement, max(differences), tolerance, furthest)
    if not parity.max_difference <= tolerance or num_same < len(differences):
        raise BundleError(
            f"the saved model differs from the trained one: on `{worst}` a probability differs by "
            f"{parity.max_difference:.2g} (tolerance {tolerance:g}), and {num_same:,} of "
            f"{pluralize(len(differences), 'label')} agree.",
            hint=_REPORT,
        )
    if furthest is not None and not furthest <= _OOD_TOLERANCE:
        raise BundleError(
            f"the saved model differs from the trained one: an OOD score differs by {furthest:.2g} "
            f"(tolerance {_OOD_TOLERANCE:g}).",
            hint=_REPORT,
        )
    return parity


@dataclass(frozen=True, slots=True)
class DetectorParity:
    """Agreement of a bundle with the trained model.

    Attributes:
        num_files, num_boxes: Compared files and boxes.
        max_pixels: Maximum difference of an edge, in pixels of the network's input.
        max_score: Maximum difference of a score.
    """

    num_files: int
    num_boxes: int
    max_pixels: float
    max_score: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def check_detector_parity(
    runtime: Runtime, sources: Sequence[str], expected: Sequence[Detections], min_score: float = 0.05
) -> DetectorParity:
    """Run a bundle on files and compare the detections with those of torch.

    Args:
        runtime: The bundle.
        sources: Files.
        expected: Detections of torch, decoded with the settings of the bundle.
        min_score: Only boxes with at least this score are compared; rounding errors may change NMS below it.

    Raises:
        BundleError: A box differs by more than 0.5 pixels of the input or a score by more than 0.001, a box is
            missing, or no file could be compared.
    """
    from headstart.detection.decoding import iou_matrix

    worst_pixels = worst_score = 0.0
    num_files = num_boxes = 0
    started, worst = time.monotonic(), ""
    images = runtime.predict(list(sources), BoxDecoder(runtime.bundle, min_score=min_score / 2))
    for image, reference in zip(images, expected, strict=False):
        if image.error is not None:
            continue
        num_files += 1
        scale = np.tile(np.array(runtime.bundle.spec.size_hw[::-1]) / np.array(image.size_hw[::-1]), 2)
        for xyxy, score, kind in zip(reference.xyxy, reference.scores, reference.class_ids, strict=True):
            if score < min_score:
                continue
            same = image.detections.class_ids == kind
            boxes, scores = image.detections.xyxy[same], image.detections.scores[same]
            nearest = int(iou_matrix(xyxy[None], boxes)[0].argmax()) if len(boxes) else -1
            pixels = float(np.abs((boxes[nearest] - xyxy) * scale).max()) if nearest >= 0 else float("inf")
            difference = float(abs(scores[nearest] - score)) if nearest >= 0 else float("inf")
            if pixels > worst_pixels or difference > worst_score:
                worst = image.file
            worst_pixels, worst_score, num_boxes = (
                max(worst_pixels, pixels),
                max(worst_score, difference),
                num_boxes + 1,
            )
        if num_files >= _MIN_BOX_FILES and time.monotonic() - started > _BOX_BUDGET_S:
            break
    if not num_files:
        raise _not_compared("detector", len(sources))
    if not (worst_pixels <= _PIXELS and worst_score <= _SCORE):
        raise BundleError(
            f"the saved detector differs from the trained one: on `{worst}` a box differs by {worst_pixels:.2g} "
            f"pixels (at most {_PIXELS:g}) or a score by {worst_score:.2g} (at most {_SCORE:g}).",
            hint=_REPORT,
        )
    return DetectorParity(num_files, num_boxes, worst_pixels, worst_score)


def _not_compared(what: str, count: int) -> BundleError:
    return BundleError(
        f"the saved {what} could not be compared with the trained one: none of {pluralize(count, 'file')} is readable.",
        hint="check whether the images were moved during training",
    )
