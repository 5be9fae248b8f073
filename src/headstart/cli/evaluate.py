"""Define `headstart evaluate MODEL DATA`."""

from __future__ import annotations

from typing import Any

import typer

from headstart.cli._reading import with_reading_options

__all__ = ["register"]

_DATA_PROBLEM = 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(with_reading_options(_evaluate))


def _evaluate(
    *,
    model: str = typer.Argument(..., help="A run, a bundle folder or its zip, or imagenet:NAME."),
    data: str = typer.Argument(..., help="Labeled images, or images with boxes for a detector."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON on stdout."),
    num_threads: int = typer.Option(
        None, "--num-threads", "--workers", "--threads", help="Number of threads (default: one per core)."
    ),
    reading: dict[str, Any],
    positive: str = typer.Option(
        None, "--positive", metavar="NAME", help="Positive class of a binary task (default: as trained)."
    ),
    box_format: str = typer.Option(None, "--box-format", help="Format of box coordinates, e.g. rel_xyxy."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show every decision and finding with its evidence."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show only the score."),
    progress: str = typer.Option(None, "--progress", metavar="text|json", help="json: one event per line on stderr."),
) -> None:
    """Evaluate a saved model on labeled images; images it was trained on are scored separately.

    Exit code 3 if it was trained on all of them.
    """
    import json

    from headstart.api.functions import evaluate
    from headstart.console import open_console

    result = evaluate(
        model,
        data,
        num_threads=num_threads,
        positive=positive,
        box_format=box_format,
        **reading,
        events=open_console(verbose=verbose, quiet=quiet, progress=progress, details="-v"),
    )
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    if result.evaluation is None:
        raise typer.Exit(_DATA_PROBLEM)
