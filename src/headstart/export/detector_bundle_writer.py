"""Write and verify the bundle of a detector.

Scores in the graph are raw; two numbers in `bundle.json` calibrate them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.boxes.records import Detections
from headstart.detection.decoding import DecodingSettings, iou_matrix
from headstart.errors import BundleError
from headstart.export.assemble import _finish, _import_onnx, _load
from headstart.export.bundle_writer import first_fields, last_fields, refuse_nonempty, weights_file, write_bundle_files
from headstart.inference.decoders import BoxDecoder
from headstart.inference.runtime import Runtime
from headstart.inference.session import check_session, open_session
from headstart.messages.numbers import pluralize
from headstart.preprocessing.image_spec import ImageSpec
from headstart.utils.system import available_cores

__all__ = ["DetectorParity", "check_detector_parity", "write_detector_bundle"]

_PIXELS = 0.5  # maximum difference of a box edge, in pixels of the network's input
_SCORE = 1e-3
_BUDGET_S = 3.0
_MIN_FILES = 8


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


def write_detector_bundle(
    folder: str | Path,
    *,
    graph_path: str | Path,
    graph_meta: Mapping[str, Any],
    spec: ImageSpec,
    class_names: Sequence[str],
    decoding: DecodingSettings,
    thresholds: Mapping[str, Any],
    meta: Mapping[str, Any] | None = None,
    trained_on: Sequence[str] = (),
) -> Path:
    """Write the bundle of a detector.

    Args:
        folder: The bundle folder; must be empty or not exist.
        graph_path: ONNX: `pixels` (B, 3, H, W) to `logits` (B, P, K) and `boxes` (B, P, 4) in input pixels.
        graph_meta: The backbone's card, JSON-able.
        spec: The preprocessing specification.
        class_names: Names in the order of the logits.
        decoding: Decoding and NMS settings.
        thresholds: `per_class`: threshold of the best F1 by class; `chosen_on`: `val`, `cv` or `test`, and its
            protocol.
        meta: Additional values of `bundle.json`, JSON-able.
        trained_on: sha256 of each training image, hex.

    Raises:
        BundleError: Graph, image size and class names do not match, or the disk is full.
        UsageError: The folder is not empty.
    """
    folder = Path(folder)
    refuse_nonempty(folder)
    onnx = _import_onnx()
    model = _finish(onnx, _load(onnx, graph_path))
    session = open_session(model, available_cores())
    check_session(session, spec.size_hw, len(class_names), "detect")
    info = {
        **first_fields("detect", class_names, spec, session),
        "temperature": 1.0,
        "decoding": decoding.to_json(),
        "thresholds": dict(thresholds),
        **last_fields(graph_meta, spec, session),
        **(meta or {}),
    }
    write_bundle_files(folder, info, model=model, weights=weights_file(graph_path, None), trained_on=trained_on)
    return folder


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
        if num_files >= _MIN_FILES and time.monotonic() - started > _BUDGET_S:
            break
    if not num_files:
        raise BundleError(
            f"the saved detector could not be compared with the trained one: none of "
            f"{pluralize(len(sources), 'file')} is readable.",
            hint="check whether the images were moved during training",
        )
    if not (worst_pixels <= _PIXELS and worst_score <= _SCORE):
        raise BundleError(
            f"the saved detector differs from the trained one: on `{worst}` a box differs by {worst_pixels:.2g} "
            f"pixels (at most {_PIXELS:g}) or a score by {worst_score:.2g} (at most {_SCORE:g}).",
            hint="please report this with your versions of onnxruntime, Pillow and numpy",
        )
    return DetectorParity(num_files, num_boxes, worst_pixels, worst_score)
