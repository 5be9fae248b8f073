"""Define `headstart resume [RUN]`."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("resume")(_resume)


def _resume(
    run: str = typer.Argument(None, help="Run folder (default: the newest interrupted run)."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show every decision and finding with its evidence."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show only the score."),
    progress: str = typer.Option(None, "--progress", metavar="text|json", help="json: one event per line on stderr."),
) -> None:
    """Resume a stopped or killed run; the result equals that of an uninterrupted run."""
    from headstart.api.functions import resume
    from headstart.console import open_console

    resume(run, events=open_console(verbose=verbose, quiet=quiet, progress=progress))
