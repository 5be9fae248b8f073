"""Define `headstart predict MODEL PATHS...`: rows on stdout (or in a file), events on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headstart.events import EventStream
    from headstart.inference.bundle import Bundle
    from headstart.types.records import Prediction

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predict")(_predict)


def _predict(
    model: str = typer.Argument(..., help="A run, a bundle folder or its zip, or imagenet:NAME."),
    paths: list[str] = typer.Argument(..., help="Images, folders or globs; - reads paths from stdin."),
    out: str | None = typer.Option(
        None, "--out", metavar="PATH", help="A .csv or .jsonl file (default: CSV on stdout), or the target of --to."
    ),
    to: str | None = typer.Option(
        None, "--to", help="Detector: output format csv, coco (.json), yolo or voc (new folder)."
    ),
    draw: str | None = typer.Option(
        None, "--draw", metavar="DIR", help="Detector: folder for images with drawn boxes."
    ),
    min_score: float | None = typer.Option(
        None, "--min-score", "--conf", help="Detector: minimum score (default: as trained)."
    ),
    max_detections: int | None = typer.Option(
        None, "--max-detections", "--max-det", min=1, help="Detector: maximum detections per image (default: 3000)."
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
    num_threads: int | None = typer.Option(
        None, "--num-threads", "--workers", "--threads", min=1, help="Number of threads (default: one per core)."
    ),
    allow_external_paths: bool = typer.Option(
        False, "--allow-external-paths", help="Follow links that leave the folder."
    ),
    offline: bool = typer.Option(False, "--offline", help="Never use the network (imagenet:NAME may need it once)."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show every decision and finding with its evidence."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show only errors."),
    progress: str = typer.Option(None, "--progress", metavar="text|json", help="json: one event per line on stderr."),
) -> None:
    """Predict images with a saved model: one row per image, or per box with a detector.

    A row has the class, its probability, the OOD score, whether the image is out of distribution, and the
    prediction set.

    Exit code 1 if an image cannot be read; its row has the error.
    """
    from headstart.cli._shared import read_fraction
    from headstart.console import open_console
    from headstart.inference.bundle import read_bundle

    fractions = read_fraction("--ood-fpr", ood_fpr), read_fraction("--coverage", coverage)
    events = open_console(verbose=verbose, quiet=quiet, progress=progress, details="-v")
    path = model
    if model.startswith("imagenet:"):
        from headstart.api.functions import imagenet_bundle

        path = str(imagenet_bundle(model.removeprefix("imagenet:"), offline=offline, events=events))
    bundle = read_bundle(path)
    if bundle.task == "detect":
        from headstart.cli._boxes import predict_boxes

        predict_boxes(
            bundle,
            paths,
            out=out,
            to=to,
            draw=draw,
            min_score=min_score,
            max_detections=max_detections,
            num_threads=num_threads,
            allow_external_paths=allow_external_paths,
            unused={"--top": top != 1, "--ood-fpr": ood_fpr is not None, "--coverage": coverage is not None},
            events=events,
        )
        return
    if (to, draw, min_score, max_detections) != (None, None, None, None):
        from headstart.cli._boxes import refuse_box_options

        refuse_box_options(to=to, draw=draw, min_score=min_score, max_detections=max_detections)
    _predict_classes(bundle, paths, out, top, *fractions, num_threads, allow_external_paths, events)


def _predict_classes(
    bundle: Bundle,
    paths: Sequence[str],
    out: str | None,
    top: int,
    ood_fpr: float | None,
    coverage: float | None,
    num_threads: int | None,
    allow_external_paths: bool,
    events: EventStream,
) -> None:
    """Write one row per image, to a file or the screen."""
    import time

    from headstart.cli._shared import end_with_failed, watch
    from headstart.inference.inputs import expand_inputs
    from headstart.inference.output_decoder import OutputDecoder
    from headstart.inference.prediction_writers import check_output, write_rows
    from headstart.inference.runtime import Runtime
    from headstart.types.codes import Finding, FindingKind, NoteKind, Severity
    from headstart.types.records import Problem

    started = time.monotonic()
    if out is not None:
        check_output(out)
    runtime = Runtime(bundle, num_threads)
    decoder = OutputDecoder(runtime.bundle, ood_fpr, coverage)
    if decoder.coverage is not None and (coverage or decoder.coverage) != decoder.coverage:
        events.warn(NoteKind.COVERAGE_NOT_KEPT, requested=coverage, used=decoder.coverage)
    inputs = expand_inputs(paths, allow_external_paths=allow_external_paths)
    events.report(*inputs.notes)
    top = min(top, len(runtime.class_names))
    failed: list[Problem] = []
    ood_files: list[str] = []
    predictions = runtime.iter_predict(inputs, top, ood_fpr=ood_fpr, coverage=coverage)
    rows = watch(
        predictions,
        len(inputs),
        failed,
        events,
        note=lambda prediction: ood_files.append(prediction.file) if prediction.is_ood else None,
        has_rows_on_screen=out is None,
    )
    if out is not None:
        write_rows(out, rows, top)
    else:
        _print_rows(rows, top)
    if ood_files:
        evidence = {"count": len(ood_files), "total": len(inputs)}
        events.report(Finding(FindingKind.OOD_IMAGES, Severity.INFO, evidence))
    end_with_failed(failed, events, [out], started)


def _print_rows(predictions: Iterable[Prediction], top: int) -> None:
    """Write CSV to stdout; names that cannot be encoded are escaped."""
    import sys

    from headstart.cli._shared import forgiving_stdout
    from headstart.inference.prediction_writers import row_writer

    forgiving_stdout()
    write = row_writer(sys.stdout, top)
    for prediction in predictions:
        write(prediction)
    sys.stdout.flush()
