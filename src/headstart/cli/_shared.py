"""Provide helpers shared by several commands."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer

from headstart.errors import MissingExtraError, UsageError
from headstart.events import FileWritten, RunFinished, Stage
from headstart.types.records import Problem
from headstart.utils.fractions import parse_fraction

if TYPE_CHECKING:
    from headstart.config.settings import MergedSettings
    from headstart.events import EventStream

__all__ = [
    "end_with_failed",
    "merged_settings",
    "read_fraction",
    "settings_module",
    "watch",
]

_MANY = 20  # minimum number of images for a progress display


class _ImageResult(Protocol):
    """Prediction for one image."""

    @property
    def file(self) -> str: ...

    @property
    def error(self) -> str | None: ...

    @property
    def problem(self) -> str | None: ...


ImageResult = TypeVar("ImageResult", bound=_ImageResult)


def read_fraction(option: str, text: str | None) -> float | None:
    """Parse a fraction, e.g. `5%`; None stays None."""
    if text is None:
        return None
    try:
        return parse_fraction(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}.") from error


def merged_settings(given: Mapping[str, Any], config: str | None, overrides: Iterable[str]) -> MergedSettings:
    """Merge the settings of a command."""
    merged: MergedSettings = settings_module().merge_settings(
        given, config_file=config, overrides=overrides, source="cli"
    )
    return merged


def settings_module() -> ModuleType:
    """Import `headstart.config.settings`; raise MissingExtraError without the training extra."""
    try:
        from headstart.config import settings as config
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    return config


def watch(
    results: Iterable[ImageResult],
    total: int,
    failed: list[Problem],
    events: EventStream,
    *,
    note: Callable[[ImageResult], None],
    has_rows_on_screen: bool,
    totals: Mapping[str, int] | None = None,
) -> Iterator[ImageResult]:
    """Pass results on, collect failed images and emit progress.

    Args:
        results: One per image.
        total: Number of images.
        failed: Receives an entry per unreadable image.
        events: Receives the stage and its progress.
        note: Called with every result.
        has_rows_on_screen: Whether rows are printed at the same time.
        totals: Counts of `note`, as evidence of the stage.
    """
    is_quiet = total < _MANY or (has_rows_on_screen and sys.stdout.isatty())
    report = None if is_quiet else events.progress(Stage.PREDICT)
    with events.stage(Stage.PREDICT, num_images=total) as evidence:
        for done, result in enumerate(results, start=1):
            if result.error is not None:
                failed.append(Problem(result.file, result.problem or "format", result.error))
            note(result)
            if report is not None:
                report(done, total)
            yield result
        evidence.update({"num_failed": len(failed), **(totals or {})})


def end_with_failed(
    failed: Sequence[Problem], events: EventStream, written: Iterable[str | None], started: float
) -> None:
    """Emit unreadable images and written files; exit with code 1 if images are unreadable.

    Args:
        failed: The unreadable images.
        events: Receives the findings.
        written: Files and folders written.
        started: `time.monotonic()` when the command began.

    Raises:
        typer.Exit: Images are unreadable.
    """
    from headstart.data.problem_findings import unreadable_findings

    events.report(*unreadable_findings(failed))
    for path in written:
        if path is not None:
            events.emit(FileWritten("predictions", path))
    events.emit(RunFinished(time.monotonic() - started))
    if failed:
        raise typer.Exit(1)
