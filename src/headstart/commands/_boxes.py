"""`headstart predict` with a detector: a row a box, or files that annotation tools open, and pictures with boxes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headstart.commands._shared import end_with_failed, forgiving_stdout, watch
from headstart.deploy.boxes_drawn import check_drawing_folder, draw_found
from headstart.deploy.boxes_out import check_box_output, coco_text, relative_names, write_box_rows, write_found_boxes
from headstart.deploy.detector_runtime import DetectorRuntime
from headstart.deploy.inputs import expand_inputs
from headstart.errors import UsageError
from headstart.records import Problem
from headstart.types import Evidence, Finding, FindingKind, Severity

if TYPE_CHECKING:
    from headstart.deploy.bundle import Bundle
    from headstart.deploy.detector_runtime import PictureDetections
    from headstart.events import EventStream

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
    threads: int | None,
    allow_outside: bool,
    unused: Mapping[str, bool],
    events: EventStream,
) -> None:
    """Finds objects and writes them.

    Args:
        bundle: The detector.
        paths: What the person named.
        out, to, draw, min_score, max_detections, threads, allow_outside: As on the command line.
        unused: Options of a classifier, and whether each was given.
        events: The event stream.

    Raises:
        UsageError: An option does not fit.
        typer.Exit: A picture could not be read (code 1).
    """
    started = time.monotonic()
    for option, is_given in unused.items():
        if is_given:
            raise UsageError(f"{option} has no effect with a detector.", hint=f"leave {option} out")
    to = check_box_output(out, to)
    if draw is not None:
        check_drawing_folder(draw)
    runtime = DetectorRuntime(bundle, threads)
    inputs = expand_inputs(paths, allow_outside=allow_outside)
    events.find(*inputs.notes)
    names = relative_names(list(inputs))
    failed: list[Problem] = []
    limited: list[str] = []
    found = runtime.iter_predict(inputs, min_score=min_score, max_detections=max_detections)
    if draw is not None:
        found = _drawn(found, draw, names, runtime)

    totals = {"num_boxes": 0}

    def count(picture: PictureDetections) -> None:
        totals["num_boxes"] += len(picture.detections)
        if picture.is_limited:
            limited.append(picture.file)

    watched = watch(
        found,
        len(inputs),
        failed,
        events,
        note=count,
        has_rows_on_screen=out is None,
        totals=totals,
    )
    if out is not None:
        write_found_boxes(out, to, watched, names, runtime.class_names)
    else:
        _to_screen(to, watched, names, runtime.class_names)
    if limited:
        most = max_detections or runtime.decoding.num_kept
        evidence: Evidence = {"count": len(limited), "limit": most, "examples": limited[:_EXAMPLES]}
        events.find(Finding(FindingKind.DETECTION_LIMIT_REACHED, Severity.WARNING, evidence))
    end_with_failed(failed, events, [out, draw], started)


def refuse_box_options(**given: Any) -> None:
    """Stops where an option of a detector was given for a classifier.

    Raises:
        UsageError: It was.
    """
    for name, value in given.items():
        if value is not None:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is for a detector; this model tells classes.", hint=f"leave {option} out")


def _drawn(
    found: Iterator[PictureDetections], folder: str, names: Sequence[str], runtime: DetectorRuntime
) -> Iterator[PictureDetections]:
    for picture, name in zip(found, names, strict=True):
        draw_found(picture, folder, name, runtime.class_names, runtime.bundle.spec)
        yield picture


def _to_screen(to: str, found: Iterator[PictureDetections], names: Sequence[str], class_names: Sequence[str]) -> None:
    """CSV or COCO JSON on stdout; a name that the console cannot show must not stop the rest."""

    from headstart.data.boxes.writing import PictureBoxes

    forgiving_stdout()
    if to == "csv":
        write_box_rows(sys.stdout, found, class_names)
    else:
        pictures = [
            PictureBoxes(name, p.size_hw, p.detections.xyxy, p.detections.class_ids, p.detections.scores)
            for p, name in zip(found, names, strict=True)
            if p.error is None
        ]
        sys.stdout.write(coco_text(pictures, class_names))
    sys.stdout.flush()
