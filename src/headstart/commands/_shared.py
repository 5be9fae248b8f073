"""What several commands need."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer

from headstart.errors import MissingExtraError, UsageError
from headstart.shares import parse_share

if TYPE_CHECKING:
    from headstart.config import Resolved
    from headstart.events import EventStream, Stage

__all__ = [
    "end_with_failed",
    "forgiving_stdout",
    "read_first_id",
    "read_share",
    "resolved_settings",
    "settings_module",
    "watch",
]

_MANY = 20  # from so many pictures on it is shown how far it is


class _Answer(Protocol):
    """What a model says about one picture."""

    @property
    def file(self) -> str: ...

    @property
    def error(self) -> str | None: ...


Answer = TypeVar("Answer", bound=_Answer)


def read_share(option: str, text: str | None) -> float | None:
    """The share that was given, e.g. `5%`; None where none was."""
    if text is None:
        return None
    try:
        return parse_share(text)
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
) -> Resolved:
    """Settings of a command; names the missing part where only prediction is installed."""
    resolved: Resolved = settings_module().resolve(
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
    stage: Stage,
    failed: list[str],
    events: EventStream,
    *,
    note: Callable[[Answer], None],
    has_rows_on_screen: bool,
) -> Iterator[Answer]:
    """Passes answers about pictures on, collects what failed and shows how far it is.

    Args:
        answers: One a picture, with `file` and `error`.
        total: How many pictures there are.
        stage: What is being done.
        failed: Gets a line for each picture that could not be read.
        events: Told how far it is.
        note: Shown every answer.
        has_rows_on_screen: Whether rows are printed at the same time.
    """
    is_quiet = total < _MANY or (has_rows_on_screen and sys.stdout.isatty())
    report = None if is_quiet else events.progress(stage)
    for done, answer in enumerate(answers, start=1):
        if answer.error is not None:
            failed.append(f"{answer.file}: {answer.error}")
        note(answer)
        if report is not None:
            report(done, total)
        yield answer


def end_with_failed(failed: list[str], total: int, events: EventStream, *, where: str = "") -> None:
    """Says which pictures could not be read, the first ten by name, and ends with exit code 1 where there are such.

    Args:
        failed: A line each.
        total: How many pictures there were.
        events: Told.
        where: What names the rest.

    Raises:
        typer.Exit: There are such.
    """
    if not failed:
        return
    events.note(f"{len(failed):,} of {total:,} pictures could not be read:")
    for line in failed[:10]:
        events.note(f"  {line}")
    if len(failed) > 10:
        events.note(f"  and {len(failed) - 10:,} more{where}")
    raise typer.Exit(1)


def forgiving_stdout() -> None:
    """A name that the console cannot show must not stop the rest."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        with contextlib.suppress(io.UnsupportedOperation):
            sys.stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")
