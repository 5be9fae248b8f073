"""`headstart resume [RUN]`."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("resume")(_resume)


def _resume(
    run: str = typer.Argument(None, help="The run folder (default: the newest one that was stopped)."),
) -> None:
    """Go on with a training that was stopped or killed, to the same result."""
    from headstart.api import resume
    from headstart.talk import to_stderr

    resume(run, talk=to_stderr())
