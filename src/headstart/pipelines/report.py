"""Write the report of a finished run again, from its files."""

from __future__ import annotations

import os
import time
from pathlib import Path

from headstart.evaluation.score_summary import summarize_run
from headstart.events import EventStream
from headstart.reports.record import RunRecord, read_metrics
from headstart.reports.writer import ReportOptions, emit_report, make_report
from headstart.results import Report
from headstart.tasks.registry import find_task

__all__ = ["read_run", "report"]


def report(
    folder: Path, options: ReportOptions, events: EventStream | None = None, *, started: float | None = None
) -> Report:
    """Write the report with figures and texts; see `api.report`.

    Args:
        folder: A finished run.
        options: What to write, and where.
        events: Receives the score and the files.
        started: `time.monotonic()` when the command began.
    """
    started = time.monotonic() if started is None else started
    record = read_run(folder, data=None if options.data is None else os.fspath(options.data))
    made = make_report(folder, record, options)
    if events is not None:
        emit_report(made, summarize_run(record.metrics), events, started)
    return made


def read_run(folder: Path, *, data: str | None = None, has_paths: bool = True) -> RunRecord:
    """Read the record of a finished run of any task.

    Args:
        folder: The run folder.
        data: Current path of the data, if they were moved.
        has_paths: Whether to look for the images.

    Raises:
        UsageError: The folder is not a finished run.
    """
    metrics = read_metrics(folder)
    return find_task(str(metrics["task"])).read_record(folder, data=data, has_paths=has_paths)
