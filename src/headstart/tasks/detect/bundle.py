"""Write a detector's bundle and verify it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.advice.detector_budget import PlannedDetector
from headstart.backbones.cards import Card
from headstart.config.settings import TrainSettings
from headstart.detection.decoding import DecodingSettings
from headstart.detection.reference import detect_from_pixels
from headstart.errors import BundleError
from headstart.export.bundle_writer import BundleContent, BundleGraph, amend_bundle, check_bundle_folder, write_bundle
from headstart.export.parity import check_detector_parity
from headstart.features.extractor import _card_json
from headstart.inference.runtime import Runtime
from headstart.tasks.detect import NAME
from headstart.tasks.detect.state import DetectorData, TrainedDetector
from headstart.tasks.detect.training_phases import num_threads_of

__all__ = ["verify_bundle", "write_detector_bundle", "write_run_bundle"]


_MAX_COMPARED = 40  # images of the parity check


def write_detector_bundle(
    folder: str | Path,
    graph: BundleGraph,
    class_names: Sequence[str],
    decoding: DecodingSettings,
    *,
    thresholds: Mapping[str, Any],
    meta: Mapping[str, Any] | None = None,
    trained_on: Sequence[str] = (),
) -> Path:
    """Write the bundle of a detector; scores in the graph are raw, and the decoding settings calibrate them.

    Args:
        folder, graph, class_names, meta, trained_on: As in `BundleContent`.
        decoding: Decoding and NMS settings.
        thresholds: `per_class`: threshold of the best F1 by class; `chosen_on`: `val`, `cv` or `test`, and its
            protocol.

    Raises:
        BundleError: Graph, image size and class names do not match, or the disk is full.
        UsageError: The folder is not empty.
    """
    from headstart.export.assemble import assemble_detector

    check_bundle_folder(folder, meta)
    if not class_names:
        raise BundleError("there are no class names.")
    model = assemble_detector(graph.path)
    fields = {"decoding": decoding.to_json(), "thresholds": dict(thresholds)}
    content = BundleContent(NAME, graph, class_names, fields, meta or {}, trained_on)
    return write_bundle(folder, content, model)


def write_run_bundle(
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
