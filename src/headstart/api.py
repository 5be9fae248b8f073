"""The story on one page: what the command line does, as functions that take and return values.

Nothing here blocks, opens a browser or exits the interpreter.  Heavy imports happen inside, so that
predicting needs neither torch nor the training part.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.console import open_stream
from headstart.events import CancelToken, Event, EventStream
from headstart.keyword_settings import resolve_keywords
from headstart.system import release_idle_threads

if TYPE_CHECKING:
    from headstart.config import ResolvedConfig
    from headstart.model import Run
    from headstart.reports.comparison_text import Comparison
    from headstart.results import EvaluationResult, Report
    from headstart.workflow.detector_evaluation import DetectionResult

__all__ = ["compare", "evaluate", "imagenet_bundle", "load", "predict", "report", "resume", "train", "train_resolved"]


def train(
    data: str | os.PathLike[str] | None = None,
    *,
    config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    verbose: bool | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: CancelToken | None = None,
    events: EventStream | None = None,
    **settings: Any,
) -> Run:
    """Turn labeled images into a model, a score with an interval, and a run folder.

    Args:
        data: Folder, table, metadata file, list or zip of images.
        config: Settings as a dict, or a YAML file.
        verbose: Whether it prints what it does; by default in notebooks and interactive interpreters, elsewhere it logs
            to the logger `headstart`.
        on_progress: Called with every event (`headstart.events`).
        cancel: Its `cancel()`, called from another thread, stops the work; what is saved can be resumed.
        events: An event stream of your own, instead of the three above.
        settings: Any setting of `headstart train`, in any accepted spelling, e.g. `backbone="lite1"`,
            `budget="5m"`, `test_size=0.2`.

    Returns:
        The run: its score, its folder, and the model ready to predict.

    Raises:
        SettingError: An unknown setting or value.
        DataError: The images do not allow an honest model.

    Example:
        >>> run = headstart.train("photos/")        # doctest: +SKIP
        >>> run.score                               # doctest: +SKIP
        >>> run.predict("new_images/")            # doctest: +SKIP
    """
    started = time.monotonic()
    resolved = resolve_keywords(data, config, settings, has_boxes=is_box_dataset)
    return train_resolved(resolved, events or open_stream(verbose, on_progress, cancel), started=started)


def train_resolved(resolved: ResolvedConfig, events: EventStream, *, started: float | None = None) -> Run:
    """`train` from settings that are already resolved (the command line's entry)."""
    from headstart.model import Run

    settings = resolved.settings
    if settings.task == "detect":
        release_idle_threads()
        from headstart.workflow.detector_pipeline import train_detector

        return Run(train_detector(resolved, events, started=started))
    if settings.strategy == "probe" or (settings.strategy == "auto" and settings.budget_minutes is None):
        from headstart.workflow.probe_pipeline import train_probe

        return Run(train_probe(resolved, events, started=started))
    release_idle_threads()
    from headstart.workflow.finetune_pipeline import train_finetuned

    return Run(train_finetuned(resolved, events, started=started))


def is_box_dataset(data: str, allow_external_paths: bool) -> bool:
    """Return whether data hold boxes, so that the task is detection; asked where nobody says the task."""
    from headstart.data.boxes.reader import has_boxes

    return has_boxes(data, allow_external_paths=allow_external_paths)


def resume(
    run: str | os.PathLike[str] | None = None,
    *,
    verbose: bool | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: CancelToken | None = None,
    events: EventStream | None = None,
) -> Run:
    """Go on with a training that was stopped or killed, to the result it would have had.

    Args:
        run: The run folder; the newest one that can go on by default.
        verbose, on_progress, cancel, events: See `train`.

    Raises:
        UsageError: There is nothing that can go on.
        DataError: The images have changed since.
    """
    started = time.monotonic()
    release_idle_threads()
    from headstart.model import Run
    from headstart.workflow.finetune_pipeline import train_finetuned
    from headstart.workflow.resume_state import find_resumable, load_resume_settings

    folder = Path(run) if run is not None else find_resumable()
    return Run(
        train_finetuned(
            load_resume_settings(folder),
            events or open_stream(verbose, on_progress, cancel),
            started=started,
            folder=folder,
        )
    )


def load(model: str | os.PathLike[str], *, num_threads: int | None = None) -> Any:
    """Open a run, a bundle folder or its zip, or `imagenet:NAME`, to predict with.

    Returns:
        A `Model`; for a model that finds objects a `Detector`.

    Raises:
        UsageError: There is nothing there.
        BundleError: It is damaged, of a newer version, or would reach outside of itself.
    """
    from headstart.export.bundle import read_bundle
    from headstart.export.runtime import Runtime
    from headstart.model import Model

    place = os.fspath(model)
    if place.startswith("imagenet:"):
        place = str(imagenet_bundle(place.removeprefix("imagenet:")))
    bundle = read_bundle(place)
    if bundle.task == "detect":
        from headstart.detector import Detector
        from headstart.export.detector_runtime import DetectorRuntime

        return Detector(DetectorRuntime(bundle, num_threads=num_threads))
    return Model(Runtime(bundle, num_threads=num_threads))


def predict(
    model: str | os.PathLike[str],
    images: Any,
    *,
    top: int = 1,
    num_threads: int | None = None,
    ood_fpr: float | None = None,
    coverage: float | None = None,
) -> Any:
    """Predict images with a saved model.

    Args:
        model: See `load`.
        images: One or many: paths, folders, PIL images, (H, W, 3) uint8 arrays.
        top: How many classes to name for each.
        num_threads: Cores to use.
        ood_fpr: Share of known images that may be called unknown, e.g. 0.05; None as the model was trained.
        coverage: Share of sets that shall hold the right class, e.g. 0.9; None as the model was trained.

    Returns:
        `Predictions`: a list with `.to_pandas()`, `.to_csv()`; images that cannot be read carry an error.
    """
    return load(model, num_threads=num_threads).predict(images, top=top, ood_fpr=ood_fpr, coverage=coverage)


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    num_threads: int | None = None,
    allow_external_paths: bool = False,
    box_format: str | None = None,
    layout: str | None = None,
    label_pattern: str | None = None,
    first_id: int | str | None = None,
    positive: str | None = None,
    verbose: bool | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: CancelToken | None = None,
    events: EventStream | None = None,
) -> EvaluationResult | DetectionResult:
    """Score a saved model on labeled images, or a detector on images with boxes.

    Says which of them it was trained on (by content) and which classes are missing or new; images it
    was trained on are scored apart and are not in the headline.  Labels that differ from a class of the model only in
    case, blanks or Unicode form count as that class, which is reported.

    Args:
        model: See `load`.
        data: Labeled images, or for a detector images with boxes.
        num_threads: Cores to use.
        allow_external_paths, layout, label_pattern, first_id: As in `train`.
        box_format: As `detect.box_format` in `train`.
        positive: Positive class of two; by default as the model was trained.
        verbose, on_progress, cancel, events: See `train`.

    Raises:
        SettingError: The model has no two classes, or `positive` is neither of them.
        DataError: No image has a label (or box of a class) the model knows, or none of them can be read.
        UsageError: An option of the reader has no effect.
    """
    runtime, place = load(model, num_threads=num_threads).runtime, os.fspath(data)
    events = events or open_stream(verbose, on_progress, cancel)
    if runtime.bundle.task == "detect":
        from headstart.workflow.box_check import refuse_without_effect
        from headstart.workflow.detector_evaluation import evaluate_detector

        refuse_without_effect(layout=layout, label_pattern=label_pattern, first_id=first_id, positive=positive)
        return evaluate_detector(runtime, place, allow_external_paths, events, box_format=box_format)
    from headstart.workflow.box_check import refuse_box_format
    from headstart.workflow.model_evaluation import evaluate_model

    refuse_box_format(box_format)
    return evaluate_model(
        runtime,
        place,
        events,
        allow_external_paths=allow_external_paths,
        layout=layout,
        label_pattern=label_pattern,
        first_id=first_id,
        positive=positive,
    )


def report(
    run: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    images: bool | None = None,
    attributions: bool = True,
    figures: bool = True,
    curve: bool = True,
    verbose: bool | None = None,
    events: EventStream | None = None,
) -> Report:
    """Write the report of a finished run again: `report.html` and the files beside it.

    Args:
        run: The run folder.
        data: Where the images are now, if they were moved since.
        out: Where the files go; the run folder by default.
        images: Whether photographs and file names go into the files; None as the run was trained.
        attributions: Whether it is drawn which part of each shown error spoke.
        figures: Whether `figures/*.png` are drawn.
        curve: Whether it is measured what more images would bring.
        verbose, events: See `train`.

    Returns:
        The report; a notebook shows it inline.

    Raises:
        UsageError: It is no finished run.
        DataError: There are no images in `data`.
    """
    from headstart.workflow.detector_report import is_detector_run, make_detection_report
    from headstart.workflow.report_writer import emit_report, make_report

    started, events = time.monotonic(), events or open_stream(verbose)
    if is_detector_run(Path(run)):
        is_shown = images is not False
        made = make_detection_report(Path(run), data=data, out=out, images=is_shown, figures=figures)
    else:
        made = make_report(
            Path(run), data=data, out=out, images=images, attributions=attributions, figures=figures, curve=curve
        )
    emit_report(made, Path(run), events, started)
    return made


def compare(
    run_a: str | os.PathLike[str],
    run_b: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    verbose: bool | None = None,
    events: EventStream | None = None,
    allow_external_paths: bool = False,
    layout: str | None = None,
    label_pattern: str | None = None,
    first_id: int | str | None = None,
) -> Comparison:
    """State whether run B is better than run A: paired, on the same images.

    Args:
        run_a, run_b: Run folders.
        data: Labeled images to score both on; by default their own test images, or where neither has
            any, their training images out of fold.
        verbose, events: See `train`.
        allow_external_paths, layout, label_pattern, first_id: How `data` is read, as in `train`.

    Returns:
        The comparison: a sentence, all differences with intervals, `.plot()`.

    Raises:
        DataError: They were scored on different images or know different classes.
        InvalidEvaluationError: Every image of `data` was trained on by one of them.
    """
    from headstart.workflow.run_comparison import compare_runs

    return compare_runs(
        run_a,
        run_b,
        data=data,
        events=events or open_stream(verbose),
        allow_external_paths=allow_external_paths,
        layout=layout,
        label_pattern=label_pattern,
        first_id=first_id,
    )


def imagenet_bundle(name: str, *, offline: bool = False, events: EventStream | None = None) -> Path:
    """Return the bundle of a network with its own 1,000 ImageNet classes; built once, torch-free afterwards.

    Returns:
        Its folder in the cache.

    Raises:
        MissingExtraError: It has to be built and the training part is not installed.
    """
    from headstart.workflow.imagenet_model import direct_bundle

    return direct_bundle(name, events or open_stream(), offline=offline)
