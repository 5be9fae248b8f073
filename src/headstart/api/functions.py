"""Functions of the Python API, one per command.

Heavy imports are local, so that prediction requires neither torch nor the extra `train`.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from headstart.api.keywords import (
    CompareKeywords,
    EvaluateKeywords,
    PredictKeywords,
    ReportKeywords,
    TrainKeywords,
    refuse_unknown,
)
from headstart.config.keyword_settings import merge_keywords
from headstart.console import open_stream
from headstart.data.objects import as_data_path
from headstart.errors import SettingError
from headstart.events import Cancel, Event, EventStream
from headstart.utils.system import release_idle_threads

if TYPE_CHECKING:
    from headstart.api.model import DetectedObjects, Detector, Model
    from headstart.api.run import Run
    from headstart.config.settings import MergedSettings
    from headstart.reports.comparison_text import Comparison
    from headstart.results import ModelEvaluation, Predictions, Report

__all__ = ["compare", "evaluate", "imagenet_bundle", "load", "predict", "report", "resume", "train", "train_merged"]


def train(
    data: Any = None,
    labels: Any = None,
    *,
    config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    verbose: bool | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: Cancel | None = None,
    events: EventStream | None = None,
    **settings: Unpack[TrainKeywords],
) -> Run:
    """Train a model on labeled images and write a run folder.

    Args:
        data: Folder, table, list or container of images, or an object: a DataFrame with columns image and label,
            (images, labels), a Dataset of `datasets` or torch, or a dict of these by split. Objects are stored in the
            cache folder, so that the run can be resumed and reported.
        labels: Labels of the images in `data`, one each, if `data` holds images only.
        config: Settings as a dict, or a YAML file.
        verbose: Whether to print progress; by default in notebooks and interactive interpreters, otherwise events go to
            the logger `headstart`.
        on_progress: Called with every event (`headstart.events`).
        cancel: `CancelToken` or `threading.Event` that stops the run with `CancelledError`; it can be resumed.
        events: Event stream that replaces the three arguments above.
        settings: Settings of `headstart train` (`TrainKeywords`), e.g. `backbone="lite1"`, `budget="5m"`,
            `test_size=0.2`; names of other tools are accepted too.

    Returns:
        The run: score, folder and model.

    Raises:
        SettingError: An unknown setting or value.
        DataError: The data do not allow training or a valid evaluation.

    Example:
        >>> run = headstart.train("photos/")        # doctest: +SKIP
        >>> run.score                               # doctest: +SKIP
        >>> run.predict("new_images/")            # doctest: +SKIP
    """
    started = time.monotonic()
    place = as_data_path(data, labels) if data is not None else None
    merged = merge_keywords(place, config, settings)
    return train_merged(merged, events or open_stream(verbose, on_progress, cancel), started=started)


def train_merged(merged: MergedSettings, events: EventStream, *, started: float) -> Run:
    """Train with merged settings; the task is the requested one, or that of the data.

    Args:
        merged: The settings.
        events: The event stream.
        started: `time.monotonic()` at the start of the command.
    """
    from headstart.api.run import Run
    from headstart.data.options import ReadOptions
    from headstart.tasks.registry import find_task, recognize_task

    values = merged.values
    if "data" in values:
        given = {f.name: values[f.name] for f in fields(ReadOptions) if f.name in values}
        task = recognize_task(os.fspath(values["data"]), values.get("task", "auto"), ReadOptions(**given))
        task.validate(values)
        resolved = replace(merged, values={**values, "task": task.name}).resolve(is_validated=True)
    else:
        resolved = merged.resolve()
    from headstart.pipelines.train import train

    return Run(train(resolved, find_task(resolved.settings.task), events, started=started))


def resume(
    run: str | os.PathLike[str] | None = None,
    *,
    verbose: bool | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: Cancel | None = None,
    events: EventStream | None = None,
) -> Run:
    """Resume an interrupted run; the result is the same as without the interruption.

    Args:
        run: Run folder; by default the newest resumable one.
        verbose, on_progress, cancel, events: See `train`.

    Raises:
        UsageError: There is no resumable run.
        DataError: The images have changed.
    """
    started = time.monotonic()
    release_idle_threads()
    from headstart.api.run import Run
    from headstart.pipelines.resume import resume_run

    events = events or open_stream(verbose, on_progress, cancel)
    return Run(resume_run(None if run is None else Path(run), events, started=started))


def load(model: str | os.PathLike[str], *, num_threads: int | None = None) -> Model | Detector:
    """Load a run, a bundle folder or zip, or `imagenet:NAME` for prediction.

    Returns:
        A `Model`, or a `Detector` for object detection.

    Raises:
        UsageError: The path does not exist or has no model.
        BundleError: The bundle is damaged, has another schema, or has an unsafe model.
    """
    from headstart.api.model import open_model

    path = os.fspath(model)
    if path.startswith("imagenet:"):
        path = str(imagenet_bundle(path.removeprefix("imagenet:")))
    opened: Model | Detector = open_model(path, num_threads)
    return opened


def predict(
    model: str | os.PathLike[str],
    images: object,
    *,
    num_threads: int | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: Cancel | None = None,
    **options: Unpack[PredictKeywords],
) -> Predictions | DetectedObjects:
    """Predict images with a saved model.

    Args:
        model: See `load`.
        images: One or many: paths, folders, tables, containers, bytes, open files, PIL images, (H, W, 3) or (H, W)
            uint8 arrays; a DataFrame or Dataset with a column of images.
        num_threads: Number of CPU threads.
        on_progress, cancel: See `train`.
        options: Options of `Model.predict` or `Detector.predict`; see `PredictKeywords`.

    Returns:
        `Predictions`, or `DetectedObjects` of a detector: a list with `.to_pandas()` and `.to_csv()`; unreadable images
        have `error` set.

    Raises:
        SettingError: An option is unknown, or has no effect with this model.
    """
    refuse_unknown("predict", options, PredictKeywords.__annotations__)
    loaded = load(model, num_threads=num_threads)
    call: Callable[..., Predictions | DetectedObjects] = loaded.predict
    used = inspect.signature(call).parameters
    for name in options:
        if name not in used:
            raise SettingError(f"`{name}` has no effect with this {loaded.kind}.", hint=f"remove `{name}`")
    return call(images, on_progress=on_progress, cancel=cancel, **options)


def evaluate(
    model: str | os.PathLike[str],
    data: Any,
    *,
    num_threads: int | None = None,
    verbose: bool | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: Cancel | None = None,
    events: EventStream | None = None,
    **reading: Unpack[EvaluateKeywords],
) -> ModelEvaluation[Any]:
    """Evaluate a saved model on labeled images, or a detector on annotated images.

    Training images (matched by content) are scored separately and excluded from the headline. Labels that differ from a
    class name only in case, spaces or Unicode form are matched to that class; this is reported.

    Args:
        model: See `load`.
        data: Labeled images as in `train`, or annotated images for a detector.
        num_threads: Number of CPU threads.
        verbose, on_progress, cancel, events: See `train`.
        reading: `positive` (of a binary classifier; by default as in training), and options for reading as in `train`;
            see `EvaluateKeywords`.

    Raises:
        SettingError: `positive` is not one of exactly two classes.
        DataError: No readable image has a label or box of a class of the model.
        UsageError: A reader option has no effect.
    """
    refuse_unknown("evaluate", reading, EvaluateKeywords.__annotations__)
    from headstart.tasks.options import EvaluateOptions
    from headstart.tasks.registry import find_task

    runtime, path = load(model, num_threads=num_threads).runtime, as_data_path(data)
    events = events or open_stream(verbose, on_progress, cancel)
    return find_task(runtime.bundle.task).evaluate(runtime, path, EvaluateOptions(**reading), events)


def report(
    run: str | os.PathLike[str],
    *,
    verbose: bool | None = None,
    events: EventStream | None = None,
    **options: Unpack[ReportKeywords],
) -> Report:
    """Rewrite the report of a finished run: `report.html`, figures and text files.

    Args:
        run: The run folder.
        verbose, events: See `train`.
        options: Fields of `headstart.reports.writer.ReportOptions`: `data` (current image folder, if the images were
            moved), `out` (by default the run folder), `images`, `attributions`, `figures`, `curve`.

    Returns:
        The report; a notebook shows it inline.

    Raises:
        UsageError: The folder is not a finished run, or a setting has no effect on a detector.
        DataError: There are no images in `data`.
    """
    refuse_unknown("report", options, ReportKeywords.__annotations__)
    from headstart.pipelines.report import report as write_report
    from headstart.reports.writer import ReportOptions

    started, events = time.monotonic(), events or open_stream(verbose)
    if (data := options.get("data")) is not None:
        options["data"] = as_data_path(data)
    return write_report(Path(run), ReportOptions(**options), events, started=started)


def compare(
    run_a: str | os.PathLike[str],
    run_b: str | os.PathLike[str],
    *,
    data: Any = None,
    verbose: bool | None = None,
    events: EventStream | None = None,
    **reading: Unpack[CompareKeywords],
) -> Comparison:
    """Compare run B with run A by a paired test on the same images.

    Args:
        run_a, run_b: Run folders.
        data: Labeled images for both runs; by default their test images, or else their training images, out of fold.
        verbose, events: See `train`.
        reading: Options for reading `data`, as in `evaluate`.

    Returns:
        The comparison: result, differences with 95 % CI, `.plot()`.

    Raises:
        DataError: The runs have different images or classes.
        SettingError: An option is unknown or has no effect.
        InvalidEvaluationError: All images of `data` are training images of one of the runs.
    """
    refuse_unknown("compare", reading, CompareKeywords.__annotations__)
    if data is None and (given := [name for name, value in reading.items() if value]):
        raise SettingError(f"`{given[0]}` has no effect without `data`.", hint=f"give `data`, or remove `{given[0]}`")
    from headstart.data.options import ReadOptions
    from headstart.pipelines.compare import compare_runs

    place = as_data_path(data) if data is not None else None
    events = events or open_stream(verbose)
    return compare_runs(Path(run_a), Path(run_b), events, data=place, options=ReadOptions(**reading))


def imagenet_bundle(name: str, *, offline: bool = False, events: EventStream | None = None) -> Path:
    """Return the bundle folder of a network with its 1,000 ImageNet classes; cached after the first call.

    Raises:
        MissingExtraError: The bundle is not cached and the extra `train` is not installed.
    """
    from headstart.pipelines.imagenet_model import direct_bundle

    return direct_bundle(name, events or open_stream(), offline=offline)
