"""Train a model of any task: read, check and split, fit, score, save, verify, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.config.settings import ResolvedConfig, TrainSettings
from headstart.errors import DataError
from headstart.events import EventStream, FileWritten, RunFinished, ScoreMeasured
from headstart.features.device_choice import check_device
from headstart.reports.writer import report_run
from headstart.runs.context import RunContext
from headstart.runs.folder import own_run_folder
from headstart.tasks.registry import AnyTask
from headstart.utils.system import Clock

__all__ = ["train"]


def train(
    resolved: ResolvedConfig,
    task: AnyTask,
    events: EventStream,
    *,
    started: float | None = None,
    folder: Path | None = None,
    clock: Clock = time.monotonic,
    journal: Mapping[str, Any] | None = None,
) -> Path:
    """Train a model and write the run folder.

    Args:
        resolved: The settings.
        task: What the model predicts.
        events: The event stream.
        started: Clock time when the command began.
        folder: A run to resume.
        clock: Clock in seconds; used for the budget.
        journal: Values from `journal.json` of an earlier run. They are not measured again, so the same journal
            gives the same weights.

    Returns:
        The run folder.

    Raises:
        TrainingInterruptedError: Ctrl-C while training; the run can be resumed.
        DataError: The images do not allow a valid model.
        HeadstartError: Any other known failure.
    """
    started = clock() if started is None else started
    resolved = task.check_settings(resolved)
    settings = resolved.settings
    check_device(settings.device)
    source = _read(task, settings, is_resumed=folder is not None)
    began = time.monotonic() - (clock() - started)
    with own_run_folder(settings.out, resume=folder, events=events, started=began) as path:
        duration_s = {"read": clock() - started}
        is_resumed, earlier = folder is not None, journal or {}
        run = RunContext(resolved, events, path, duration_s, clock, started, is_resumed, earlier, task.has_effect)
        data = task.prepare(run, source)
        del source
        model = task.fit(run, data)
        scored = task.score(run, data, model)
        with run.timed("parity"):
            parity = task.verify(run, data, scored)
        record = task.write(run, data, scored, parity)
        num_images = report_run(path, record, events)
        outcome = task.outcome(run, scored)
        events.report(*outcome.findings)
        events.emit(ScoreMeasured(outcome.score))
        if num_images is not None:
            events.emit(FileWritten("report", str(path / "report.html"), {"num_images": num_images}))
        events.emit(RunFinished(clock() - started, str(path), outcome.next_commands))
        run.end()
    return path


def _read(task: AnyTask, settings: TrainSettings, *, is_resumed: bool) -> Any:
    """Read the images; a resumed run says what it needs."""
    try:
        return task.read(settings)
    except DataError as error:
        if not is_resumed:
            raise
        hint = "resuming needs the same images at the same path: restore them, or start a new run"
        raise DataError(error.message, hint=hint) from error
