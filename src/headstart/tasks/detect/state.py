"""Define the values that the steps of a detector's training hand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Detections, DetectionSamples
from headstart.detection.box_sizes import BoxSizes
from headstart.detection.decoding import DecodingSettings
from headstart.detection.metrics import DetectionEvaluation
from headstart.preprocessing.image_spec import ImageSpec
from headstart.quality.box_inspection import BoxReport
from headstart.types.arrays import Ids
from headstart.types.codes import EvaluationSetup, Finding, FindingKind
from headstart.types.records import Split
from headstart.utils.limits import MAX_DETECTIONS

if TYPE_CHECKING:
    from headstart.detection.loop import DetectNetwork

__all__ = ["Calibration", "DetectorData", "HeldOut", "ScoredBlock", "TrainedDetector"]


@dataclass(frozen=True, kw_only=True)
class DetectorData:
    """Images of a run, and how the network sees them.

    Attributes:
        samples: The images that are in a split.
        digests: SHA-256 of each file, hex.
        report: The check of the dataset.
        split: Training and scored images.
        leaking: Positions of scored images with a near-duplicate in training, which the headline excludes.
        findings: Findings about the split.
        spec: The image spec.
        sizes: Box sizes at its input size.
    """

    samples: DetectionSamples
    digests: tuple[str, ...]
    report: BoxReport
    split: Split
    leaking: frozenset[int]
    findings: tuple[Finding, ...]
    spec: ImageSpec
    sizes: BoxSizes

    @property
    def leaky_splits(self) -> frozenset[str]:
        """Return the scored splits in which every image has a near-duplicate in training; they are scored unchanged."""
        kind = FindingKind.ALL_SCORED_IMAGES_LEAK
        return frozenset(str(f.evidence["split"]) for f in self.findings if f.kind is kind)


@dataclass(frozen=True)
class HeldOut:
    """Raw detections in held-out images.

    Attributes:
        samples: (N,) positions of the images.
        detections: N detections with raw scores.
        is_clean: (N,) False for images with a near-duplicate in training; they are not scored.
        setup: The evaluation setup.
        is_leaky: Whether every image has a near-duplicate in training; all are scored then.
        num_kept: Maximum number of detections per image.
    """

    samples: Ids
    detections: list[Detections]
    is_clean: NDArray[np.bool_]
    setup: EvaluationSetup
    is_leaky: bool = False
    num_kept: int = MAX_DETECTIONS


@dataclass(frozen=True)
class TrainedDetector:
    """Result of the trainings.

    Attributes:
        net: The trained network.
        decoding: How candidates become detections, with limits for scoring.
        num_epochs, num_steps: Length of the final training.
        is_stopped: Whether Ctrl-C ended it early.
        oof: Out-of-fold detections of a cross-validation; None without one.
        epochs: Rows of `results.csv`.
    """

    net: DetectNetwork
    decoding: DecodingSettings
    num_epochs: int
    num_steps: int
    is_stopped: bool
    oof: HeldOut | None = None
    epochs: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Calibration:
    """Calibration of scores and the thresholds of the classes.

    Attributes:
        slope, offset: Of the logits of the scores.
        thresholds: As in `bundle.json`: `per_class`, and the block that they were `chosen_on` with its protocol.
    """

    slope: float
    offset: float
    thresholds: dict[str, Any]


@dataclass(frozen=True)
class ScoredBlock:
    """Calibrated detections in held-out images, and their evaluation at the thresholds of the bundle.

    Attributes:
        samples: (N,) positions of the images, leaking ones included.
        detections: N detections with calibrated scores.
        evaluation: Of the images without a leak.
        including_leaks: Of all images; None where none leaks.
        is_leaky: Whether every image has a near-duplicate in training.
    """

    samples: Ids
    detections: list[Detections]
    evaluation: DetectionEvaluation
    including_leaks: DetectionEvaluation | None
    is_leaky: bool
