"""Provide saved detectors as Python objects."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from headstart.inference.detector_runtime import DetectorRuntime, ImageDetections
from headstart.inference.inputs import expand_sources
from headstart.results import html_table, import_pandas, score_text

__all__ = ["DetectedObjects", "Detector"]


class DetectedObjects(list[ImageDetections]):
    """Detections, one entry per image.

    Args:
        images: Detections per image.
        class_names: Names by class id.
    """

    def __init__(self, images: Iterable[ImageDetections], class_names: tuple[str, ...]) -> None:
        super().__init__(images)
        self.class_names = class_names

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per object: `file, label, score, xmin, ymin, xmax, ymax` in pixels of the upright image."""
        return [
            {
                "file": image.file,
                "label": self.class_names[kind],
                "score": round(float(score), 6),
                **{edge: round(float(v), 1) for edge, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)},
            }
            for image in self
            for box, score, kind in zip(
                image.detections.xyxy, image.detections.scores, image.detections.class_ids, strict=True
            )
        ]

    def to_pandas(self) -> Any:
        """Return the rows as a DataFrame."""
        return import_pandas().DataFrame(
            self.rows(), columns=["file", "label", "score", "xmin", "ymin", "xmax", "ymax"]
        )

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV, including unreadable images and images without objects."""
        from pathlib import Path

        from headstart.inference.detection_writers import write_box_rows
        from headstart.utils.system import atomic_file

        with atomic_file(Path(path)) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
            write_box_rows(stream, self, self.class_names)

    def _repr_html_(self) -> str:
        return html_table(self.rows()[:50], f"{len(self.rows()):,} objects in {len(self):,} images")


class Detector:
    """A loaded detector.

    Args:
        runtime: Inference runtime.
    """

    def __init__(self, runtime: DetectorRuntime) -> None:
        self.runtime = runtime

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.runtime.class_names

    @property
    def thresholds(self) -> dict[str, float]:
        """Minimum score of reported objects, by class."""
        return {n: float(t) for n, t in zip(self.class_names, self.runtime.thresholds, strict=True)}

    def predict(
        self,
        images: Any,
        *,
        min_score: float | None = None,
        max_detections: int | None = None,
        channel_order: Any = "rgb",
    ) -> DetectedObjects:
        """Detect objects in one or many images: paths, folders, globs, PIL images, (H, W, 3) uint8 arrays.

        Args:
            images: Images to process.
            min_score: Minimum score in [0, 1]; None: the threshold of each class.
            max_detections: Maximum detections per image; None: the limit of the bundle. Entries that reach it have
                `is_limited` set.
            channel_order: Channel order of arrays: `rgb`, or `bgr` as in OpenCV.
        """
        sources = expand_sources(images)
        detections = self.runtime.iter_predict(
            sources, min_score=min_score, max_detections=max_detections, channel_order=channel_order
        )
        return DetectedObjects(detections, self.class_names)

    def evaluate(self, data: str | os.PathLike[str]) -> Any:
        """Evaluate on images with boxes; see `headstart.evaluate`."""
        from headstart.events import EventStream
        from headstart.pipelines.evaluate import evaluate_detector

        return evaluate_detector(self.runtime, os.fspath(data), EventStream())

    def __repr__(self) -> str:
        score = self.runtime.bundle.info.get("score") or {}
        text = repr(self.runtime)
        if score.get("value") is not None:
            text += f"\n{score_text(score)}"
        return text
