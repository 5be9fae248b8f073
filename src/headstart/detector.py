"""A saved detector, ready to use from Python."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from headstart.export.detector_runtime import DetectorRuntime, ImageDetections
from headstart.export.inputs import expand_sources
from headstart.results import html_table, import_pandas, score_text

__all__ = ["DetectedObjects", "Detector"]


class DetectedObjects(list[ImageDetections]):
    """What was found, one entry an image.

    Args:
        images: The entries.
        class_names: By class id.
    """

    def __init__(self, images: Iterable[ImageDetections], class_names: tuple[str, ...]) -> None:
        super().__init__(images)
        self.class_names = class_names

    def rows(self) -> list[dict[str, Any]]:
        """Return one row an object: `file, label, score, xmin, ymin, xmax, ymax`, pixels of the upright image."""
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
        """Write the rows as CSV, images that cannot be read and images without objects included."""
        from pathlib import Path

        from headstart.export.detection_writers import write_box_rows
        from headstart.system import atomic_file

        with atomic_file(Path(path)) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
            write_box_rows(stream, self, self.class_names)

    def _repr_html_(self) -> str:
        return html_table(self.rows()[:50], f"{len(self.rows()):,} objects in {len(self):,} images")


class Detector:
    """A saved detector, open and ready.

    Args:
        runtime: What runs it.
    """

    def __init__(self, runtime: DetectorRuntime) -> None:
        self.runtime = runtime

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.runtime.class_names

    @property
    def thresholds(self) -> dict[str, float]:
        """Score from which an object is reported, by class."""
        return {n: float(t) for n, t in zip(self.class_names, self.runtime.thresholds, strict=True)}

    def predict(
        self,
        images: Any,
        *,
        min_score: float | None = None,
        max_detections: int | None = None,
        channel_order: Any = "rgb",
    ) -> DetectedObjects:
        """Find objects in one or many: paths, folders, globs, PIL images, (H, W, 3) uint8 arrays.

        Args:
            images: Where to look.
            min_score: Least score of what is given, in [0, 1]; None takes each class's own threshold.
            max_detections: Most objects of an image; None takes the limit of the bundle. Where it leaves some out,
                `is_limited` of the entry is true.
            channel_order: Of arrays: `rgb`, or `bgr` as OpenCV has it.
        """
        sources = expand_sources(images)
        found = self.runtime.iter_predict(
            sources, min_score=min_score, max_detections=max_detections, channel_order=channel_order
        )
        return DetectedObjects(found, self.class_names)

    def evaluate(self, data: str | os.PathLike[str]) -> Any:
        """Return scores it on images with boxes; see `headstart.evaluate`."""
        from headstart.events import EventStream
        from headstart.workflow.detector_evaluation import evaluate_detector

        return evaluate_detector(self.runtime, os.fspath(data), False, EventStream())

    def __repr__(self) -> str:
        score = self.runtime.bundle.info.get("score") or {}
        text = repr(self.runtime)
        if score.get("value") is not None:
            text += f"\n{score_text(score)}"
        return text
