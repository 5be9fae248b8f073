"""What several commands need."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer

from headstart.errors import MissingExtraError, UsageError
from headstart.events import FileWritten, RunFinished, Stage
from headstart.fractions import parse_fraction
from headstart.records import Problem

if TYPE_CHECKING:
    from headstart.config import ResolvedConfig
    from headstart.events import EventStream

__all__ = [
    "end_with_failed",
    "forgiving_stdout",
    "read_first_id",
    "read_fraction",
    "resolved_settings",
    "settings_module",
    "watch",
]

_MANY = 20  # from so many images on it is shown how far it is


class _Answer(Protocol):
    """What a model says about one image."""

    @property
    def file(self) -> str: ...

    @property
    def error(self) -> str | None: ...

    @property
    def problem(self) -> str | None: ...


Answer = TypeVar("Answer", bound=_Answer)


def read_fraction(option: str, text: str | None) -> float | None:
    """Return the share that was given, e.g. `5%`; None where none was."""
    if text is None:
        return None
    try:
        return parse_fraction(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}.") from error


def read_first_id(text: str | None) -> int | str | None:
    """Return the value of `--first-id` as a number where it is one."""
    return int(text) if text in ("0", "1") else text


def resolved_settings(
    given: Mapping[str, Any],
    config: str | None,
    overrides: Iterable[str],
    has_boxes: Callable[[str, bool], bool] | None = None,
) -> ResolvedConfig:
    """Return settings of a command; names the missing part where only prediction is installed."""
    resolved: ResolvedConfig = settings_module().resolve(
        given, config_file=config, overrides=overrides, source="cli", has_boxes=has_boxes
    )
    return resolved


def settings_module() -> ModuleType:
    """`headstart.config`; names the missing part where only prediction is installed."""
    try:
        from headstart import config
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    return config


def watch(
    answers: Iterable[Answer],
    total: int,
    failed: list[Problem],
    events: EventStream,
    *,
    note: Callable[[Answer], None],
    has_rows_on_screen: bool,
    totals: Mapping[str, int] | None = None,
) -> Iterator[Answer]:
    """Pass answers about images on, collect what failed and emit progress.

    Args:
        answers: One for each image, with `file`, `error` and `problem`.
        total: Number of images.
        failed: Gets an entry for each image that could not be read.
        events: Gets the stage and its progress.
        note: Called with every answer.
        has_rows_on_screen: Whether rows are printed at the same time.
        totals: What `note` counts: evidence of the stage.
    """
    is_quiet = total < _MANY or (has_rows_on_screen and sys.stdout.isatty())
    report = None if is_quiet else events.progress(Stage.PREDICT)
    with events.stage(Stage.PREDICT, num_images=total) as evidence:
        for done, answer in enumerate(answers, start=1):
            if answer.error is not None:
                failed.append(Problem(answer.file, answer.problem or "format", answer.error))
            note(answer)
            if report is not None:
                report(done, total)
            yield answer
        evidence.update({"num_failed": len(failed), **(totals or {})})


def end_with_failed(
    failed: Sequence[Problem], events: EventStream, written: Iterable[str | None], started: float
) -> None:
    """Emit which images could not be read and what was written; end with exit code 1 if images could not be read.

    Args:
        failed: The images that could not be read.
        events: Gets the findings.
        written: Files and folders that were written.
        started: `time.monotonic()` when the command began.

    Raises:
        typer.Exit: Images could not be read.
    """
    from headstart.data.report_findings import unreadable_findings

    events.find(*unreadable_findings(failed))
    for place in written:
        if place is not None:
            events.emit(FileWritten("predictions", place))
    events.emit(RunFinished(time.monotonic() - started))
    if failed:
        raise typer.Exit(1)


def forgiving_stdout() -> None:
    """A name that the console cannot show must not stop the rest."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        with contextlib.suppress(io.UnsupportedOperation):
            sys.stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")
