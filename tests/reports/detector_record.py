"""Build detector runs for report tests, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.boxes.records import Boxes, Detections, DetectionSamples
from headstart.reports.record import DetectorRecord


def detector_record(
    metrics: dict[str, Any],
    ground_truth: Sequence[Boxes] = (),
    detections: Sequence[Detections] = (),
    training: Sequence[Boxes] = (),
    split: str = "test",
    **changes: Any,
) -> DetectorRecord:
    """Return a run whose scored images have detections, with further images `train*.jpg` without."""
    names = [*(f"{i}.jpg" for i in range(len(ground_truth))), *(f"train{i}.jpg" for i in range(len(training)))]
    every = len(names)
    samples = DetectionSamples(
        names=tuple(names),
        paths=tuple(Path("/nowhere") / name for name in names),
        boxes=(*ground_truth, *training),
        sizes_hw=np.tile(np.array([[160, 130]]), (every, 1)),
        class_names=tuple(metrics["class_names"]),
        split=("",) * every,
        group=(None,) * every,
        layout="VOC XML",
        notes=(),
        root=Path("/nowhere"),
    )
    return DetectorRecord(
        run="train1",
        metrics=metrics,
        splits={name: split if i < len(ground_truth) else "train" for i, name in enumerate(names)},
        detections={(split, f"{i}.jpg"): found for i, found in enumerate(detections)},
        samples=samples if names else None,
        **changes,
    )
