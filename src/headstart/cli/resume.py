"""Define `headstart resume [RUN]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from headstart.cli._options import console, with_options

if TYPE_CHECKING:
    from headstart.events import EventStream


@with_options(events=console())
def resume(
    run: str = typer.Argument(None, help="Run folder (default: the newest interrupted run)."),
    *,
    events: EventStream,
) -> None:
    """Resume a stopped or killed run; the result equals that of an uninterrupted run."""
    from headstart.api import functions

    functions.resume(run, events=events)
