"""Write a detector's bundle and verify it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from headstart.advice.detector_budget import PlannedDetector
from headstart.backbones.cards import Card
from headstart.config.settings import TrainSettings
from headstart.detection.decoding import DecodingSettings
from headstart.detection.reference import detect_from_pixels
from headstart.export.bundle_writer import BundleGraph, amend_bundle, write_detector_bundle
from headstart.export.parity import check_detector_parity
from headstart.features.extractor import _card_json
from headstart.inference.runtime import Runtime
from headstart.tasks.detect.state import DetectorData, TrainedDetector
from headstart.tasks.detect.training_phases import num_threads_of

__all__ = ["verify_bundle", "write_bundle"]

_MAX_COMPARED = 40  # images of the parity check


def write_bundle(
    folder: Path, graph: Path, card: Card, data: DetectorData, planned: PlannedDetector, trained: TrainedDetector
) -> None:
    """Write the bundle without calibration and thresholds, which are measured with it."""
    write_detector_bundle(
        folder,
        BundleGraph(graph, data.spec, _card_json(card)),
        data.samples.class_names,
        trained.decoding,
        thresholds={},
        meta={
            "strategy": planned.plan.strategy,
            "sizes": data.sizes.to_json(),
            "declared_classes": [list(pair) for pair in data.samples.declared],
            "parity": None,
        },
        trained_on=[data.digests[i] for i in planned.train],
    )


def verify_bundle(
    bundle: Path,
    data: DetectorData,
    detector: Any,
    decoding: DecodingSettings,
    planned: PlannedDetector,
    settings: TrainSettings,
) -> dict[str, Any]:
    """Compare the bundle with torch on images from their files, and record the result in the bundle."""
    count = _MAX_COMPARED if planned.pace is None else planned.pace.num_compared(_MAX_COMPARED)
    index = np.random.default_rng(settings.seed).permutation(len(data.samples))[:count]
    runtime = Runtime(bundle, num_threads_of(settings))
    expected = detect_from_pixels(detector, data.samples, index, data.spec, decoding)
    parity = check_detector_parity(runtime, [str(data.samples.paths[i]) for i in index], expected).to_json()
    amend_bundle(bundle, parity=parity)
    return parity
