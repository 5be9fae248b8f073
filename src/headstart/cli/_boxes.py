"""Run `headstart predict` with a detector: write boxes as rows or annotation files, and draw them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headstart.cli._shared import end_with_failed, forgiving_stdout, watch
from headstart.errors import UsageError
from headstart.inference.detection_drawing import check_drawing_folder, draw_detections
from headstart.inference.detection_writers import (
    check_box_output,
    coco_text,
    relative_names,
    write_box_rows,
    write_detections,
)
from headstart.inference.detector_runtime import DetectorRuntime
from headstart.inference.inputs import expand_inputs
from headstart.types.codes import Evidence, Finding, FindingKind, Severity
from headstart.types.records import Problem

if TYPE_CHECKING:
    from headstart.events import EventStream
    from headstart.inference.bundle import Bundle
    from headstart.inference.detector_runtime import ImageDetections

__all__ = ["predict_boxes", "refuse_box_options"]

_EXAMPLES = 5


def predict_boxes(
    bundle: Bundle,
    paths: Sequence[str],
    *,
    out: str | None,
    to: str | None,
    draw: str | None,
    min_score: float | None,
    max_detections: int | None,
    num_threads: int | None,
    allow_external_paths: bool,
    unused: Mapping[str, bool],
    events: EventStream,
) -> None:
    """Detect objects and write them.

    Args:
        bundle: The detector.
        paths: Input paths.
        out, to, draw, min_score, max_detections, threads, allow_external_paths: As on the command line.
        unused: Options of a classifier, and whether each was given.
        events: The event stream.

    Raises:
        UsageError: An option has no effect.
        typer.Exit: An image cannot be read (code 1).
    """
    started = time.monotonic()
    for option, is_given in unused.items():
        if is_given:
            raise UsageError(f"{option} has no effect with a detector.", hint=f"remove {option}")
    to = check_box_output(out, to)
    if draw is not None:
        check_drawing_folder(draw)
    runtime = DetectorRuntime(bundle, num_threads)
    inputs = expand_inputs(paths, allow_external_paths=allow_external_paths)
    events.report(*inputs.notes)
    names = relative_names(list(inputs))
    failed: list[Problem] = []
    limited: list[str] = []
    detections = runtime.iter_predict(inputs, min_score=min_score, max_detections=max_detections)
    if draw is not None:
        detections = _draw_images(detections, draw, names, runtime)

    totals = {"num_boxes": 0}

    def count(image: ImageDetections) -> None:
        totals["num_boxes"] += len(image.detections)
        if image.is_limited:
            limited.append(image.file)

    images = watch(
        detections,
        len(inputs),
        failed,
        events,
        note=count,
        has_rows_on_screen=out is None,
        totals=totals,
    )
    if out is not None:
        write_detections(out, to, images, names, runtime.class_names)
    else:
        _to_screen(to, images, names, runtime.class_names)
    if limited:
        limit = max_detections or runtime.decoding.num_kept
        evidence: Evidence = {"count": len(limited), "limit": limit, "examples": limited[:_EXAMPLES]}
        events.report(Finding(FindingKind.DETECTION_LIMIT_REACHED, Severity.WARNING, evidence))
    end_with_failed(failed, events, [out, draw], started)


def refuse_box_options(**given: Any) -> None:
    """Raise an error if an option of a detector was given for a classifier.

    Raises:
        UsageError: Such an option was given.
    """
    for name, value in given.items():
        if value is not None:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} needs a detector; this model is a classifier.", hint=f"remove {option}")


def _draw_images(
    detections: Iterator[ImageDetections], folder: str, names: Sequence[str], runtime: DetectorRuntime
) -> Iterator[ImageDetections]:
    for image, name in zip(detections, names, strict=True):
        draw_detections(image, folder, name, runtime.class_names, runtime.bundle.spec)
        yield image


def _to_screen(
    to: str, detections: Iterator[ImageDetections], names: Sequence[str], class_names: Sequence[str]
) -> None:
    """Write CSV or COCO JSON to stdout; names that cannot be encoded are escaped."""

    from headstart.data.boxes.writers import ImageBoxes

    forgiving_stdout()
    if to == "csv":
        write_box_rows(sys.stdout, detections, class_names)
    else:
        images = [
            ImageBoxes(name, p.size_hw, p.detections.xyxy, p.detections.class_ids, p.detections.scores)
            for p, name in zip(detections, names, strict=True)
            if p.error is None
        ]
        sys.stdout.write(coco_text(images, class_names))
    sys.stdout.flush()
