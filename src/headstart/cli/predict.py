"""Define `headstart predict MODEL PATHS...`: rows on stdout (or in a file), events on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from headstart.cli._options import MODEL, NUM_THREADS, console, with_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from headstart.events import EventStream
    from headstart.inference.bundle import Bundle
    from headstart.inference.decoders import BoxDecoder, ImageDetections
    from headstart.inference.inputs import PredictInputs
    from headstart.types.codes import Evidence, Finding
    from headstart.types.records import Prediction

_EXAMPLES = 5


@with_options(events=console("-v"))
def predict(
    model: str = MODEL,
    paths: list[str] = typer.Argument(..., help="Images, folders or globs; - reads paths from stdin."),
    out: str | None = typer.Option(
        None, "--out", metavar="PATH", help="A .csv or .jsonl file (default: CSV on stdout), or the target of --to."
    ),
    to: str | None = typer.Option(
        None, "--to", help="Detector: output format csv, coco or coco-results (.json), yolo or voc (new folder)."
    ),
    like: str | None = typer.Option(
        None, "--like", metavar="FILE", help="Detector: write the class and image ids of this COCO JSON or data.yaml."
    ),
    draw: str | None = typer.Option(
        None, "--draw", metavar="DIR", help="Detector: folder for images with drawn boxes."
    ),
    min_score: float | None = typer.Option(
        None, "--min-score", "--conf", help="Detector: minimum score (default: as trained)."
    ),
    max_detections: int | None = typer.Option(
        None,
        "--max-detections",
        "--max-det",
        min=1,
        help="Detector: maximum per image (default: as trained).",
    ),
    iou: float | None = typer.Option(
        None, "--iou", "--nms-iou", help="Detector: IoU threshold of NMS (default: as trained)."
    ),
    class_agnostic_nms: bool | None = typer.Option(
        None,
        "--class-agnostic-nms/--class-wise-nms",
        "--agnostic-nms",
        help="Detector: NMS across classes, or in each (default: as trained).",
    ),
    top: int = typer.Option(1, "--top", "--topk", min=1, help="Number of classes per image."),
    ood_fpr: str | None = typer.Option(
        None,
        "--ood-fpr",
        metavar="FRACTION",
        help="Target false-positive rate of OOD detection, e.g. 5% (default: as trained).",
    ),
    coverage: str | None = typer.Option(
        None,
        "--coverage",
        metavar="FRACTION",
        help="Target coverage of the prediction sets, e.g. 90% (default: as trained).",
    ),
    num_threads: int | None = NUM_THREADS,
    allow_external_paths: bool = typer.Option(
        False, "--allow-external-paths", help="Follow links that leave the folder."
    ),
    offline: bool = typer.Option(False, "--offline", help="Never use the network (imagenet:NAME may need it once)."),
    *,
    events: EventStream,
) -> None:
    """Predict images with a saved model: one row per image, or per box with a detector.

    A row has the class, its probability, the OOD score, whether the image is out of distribution, and the
    prediction set.

    Exit code 1 if an image cannot be read; its row has the error.
    """
    import time

    from headstart.cli._shared import end_with_failed, read_fraction, watch
    from headstart.inference.bundle import read_bundle
    from headstart.inference.decoders import BoxDecoder
    from headstart.inference.inputs import expand_inputs
    from headstart.inference.runtime import Runtime
    from headstart.types.records import Problem

    path = model
    if model.startswith("imagenet:"):
        from headstart.api.functions import imagenet_bundle

        path = str(imagenet_bundle(model.removeprefix("imagenet:"), offline=offline, events=events))
    started = time.monotonic()
    bundle = read_bundle(path)
    of_boxes = {"--to": to, "--like": like, "--draw": draw, "--min-score": min_score}
    of_boxes |= {"--max-detections": max_detections, "--iou": iou, "--class-agnostic-nms": class_agnostic_nms}
    of_classes = {"--top": None if top == 1 else top, "--ood-fpr": ood_fpr, "--coverage": coverage}
    task: _Boxes | _Classes
    if bundle.task == "detect":
        _refuse(of_classes, "has no effect with a detector")
        decoder = BoxDecoder(
            bundle,
            min_score=min_score,
            max_detections=max_detections,
            nms_iou=iou,
            class_agnostic_nms=class_agnostic_nms,
        )
        task = _Boxes(bundle, decoder, out, to, like, draw)
    else:
        _refuse(of_boxes, "needs a detector; this model is a classifier")
        rates = read_fraction("--ood-fpr", ood_fpr), read_fraction("--coverage", coverage)
        task = _Classes(bundle, out, top, *rates, events)
    runtime = Runtime(bundle, num_threads)
    inputs = expand_inputs(paths, allow_external_paths=allow_external_paths)
    events.report(*inputs.notes)
    failed: list[Problem] = []
    results: Any = watch(
        runtime.predict(inputs, task.decoder),
        len(inputs),
        failed,
        events,
        note=task.note,
        has_rows_on_screen=out is None,
        totals=task.totals,
    )
    task.write(results, inputs)
    events.report(*task.findings(len(inputs)))
    end_with_failed(failed, events, [out, draw], started)


class _Classes:
    """Rows of a classifier, in a file or on stdout."""

    def __init__(
        self,
        bundle: Bundle,
        out: str | None,
        top: int,
        ood_fpr: float | None,
        coverage: float | None,
        events: EventStream,
    ) -> None:
        from headstart.inference.decoders import ClassDecoder
        from headstart.inference.writers import check_output
        from headstart.types.codes import NoteKind

        self.out, self.top = out, min(top, len(bundle.class_names))
        self.is_json = out is not None and check_output(out)
        self.decoder = ClassDecoder(bundle, self.top, ood_fpr=ood_fpr, coverage=coverage)
        used = self.decoder.coverage
        if used is not None and (coverage or used) != used:
            events.warn(NoteKind.COVERAGE_NOT_KEPT, requested=coverage, used=used)
        self.totals: dict[str, int] = {}
        self.num_ood = 0

    def note(self, prediction: Prediction) -> None:
        """Count images that are out of distribution."""
        self.num_ood += bool(prediction.is_ood)

    def write(self, predictions: Iterable[Prediction], inputs: PredictInputs) -> None:
        """Write one row per image."""
        from headstart.inference.writers import open_output, write_predictions

        with open_output(self.out) as stream:
            write_predictions(stream, predictions, self.top, is_json=self.is_json)

    def findings(self, num_images: int) -> list[Finding]:
        """Return the finding on images out of distribution, if there are any."""
        from headstart.types.codes import Finding, FindingKind, Severity

        evidence: Evidence = {"count": self.num_ood, "total": num_images}
        return [Finding(FindingKind.OOD_IMAGES, Severity.INFO, evidence)] if self.num_ood else []


class _Boxes:
    """Rows or annotation files of a detector, and drawn images."""

    def __init__(
        self, bundle: Bundle, decoder: BoxDecoder, out: str | None, to: str | None, like: str | None, draw: str | None
    ) -> None:
        from headstart.data.boxes.classes import ClassTable, read_class_table
        from headstart.inference.writers import check_box_output, check_new_folder

        self.bundle, self.decoder, self.out, self.draw = bundle, decoder, out, draw
        self.to = check_box_output(out, to)
        self.classes = ClassTable.of(bundle.class_names, bundle.info.get("declared_classes") or ())
        if like is not None:
            self.classes = self.classes.like(read_class_table(like))
        if draw is not None:
            check_new_folder(draw, "--draw")
        self.totals = {"num_boxes": 0}
        self.limited: list[str] = []

    def note(self, image: ImageDetections) -> None:
        """Count boxes, and images with too many of them."""
        self.totals["num_boxes"] += len(image.detections)
        if image.is_limited:
            self.limited.append(image.file)

    def write(self, images: Iterable[ImageDetections], inputs: PredictInputs) -> None:
        """Write the boxes, and draw them on the images."""
        from headstart.inference.writers import relative_names, write_detections

        names = relative_names(list(inputs))
        if self.draw is not None:
            images = self._drawn(images, self.draw, names)
        write_detections(self.out, self.to, images, names, self.classes)

    def findings(self, num_images: int) -> list[Finding]:
        """Return the finding on images with too many boxes, if there are any."""
        from headstart.types.codes import Finding, FindingKind, Severity

        count, examples = len(self.limited), self.limited[:_EXAMPLES]
        evidence: Evidence = {"count": count, "limit": self.decoder.settings.num_kept, "examples": examples}
        return [Finding(FindingKind.DETECTION_LIMIT_REACHED, Severity.WARNING, evidence)] if count else []

    def _drawn(self, images: Iterable[ImageDetections], folder: str, names: Sequence[str]) -> Iterator[ImageDetections]:
        from headstart.inference.detection_drawing import draw_detections

        for image, name in zip(images, names, strict=True):
            draw_detections(image, folder, name, self.bundle.class_names, self.bundle.spec)
            yield image


def _refuse(options: Mapping[str, Any], reason: str) -> None:
    """Raise an error if an option was given that has no effect on the task of the model.

    Raises:
        UsageError: Such an option was given.
    """
    from headstart.errors import UsageError

    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} {reason}.", hint=f"remove {option}")
