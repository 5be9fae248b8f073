"""Define `headstart compare RUN_A RUN_B`."""

from __future__ import annotations

from typing import Any

import typer

from headstart.cli._reading import with_reading_options

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(with_reading_options(_compare))


def _compare(
    *,
    run_a: str = typer.Argument(..., metavar="RUN_A", help="A run folder."),
    run_b: str = typer.Argument(..., metavar="RUN_B", help="The run to compare with RUN_A."),
    data: str = typer.Option(None, "--data", help="Labeled images to evaluate both on (default: their test images)."),
    reading: dict[str, Any],
    out: str = typer.Option(None, "--out", help="Folder for compare.json and compare.png (training curves)."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON on stdout."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show every decision and finding with its evidence."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show only the result."),
    progress: str = typer.Option(None, "--progress", metavar="text|json", help="json: one event per line on stderr."),
) -> None:
    """Compare two runs on the same images and test whether RUN_B is better or worse than RUN_A."""
    import json
    import time
    from pathlib import Path

    from headstart.api.functions import compare
    from headstart.console import open_console
    from headstart.events import FileWritten, RunFinished

    started = time.monotonic()
    events = open_console(verbose=verbose, quiet=quiet, progress=progress, details="-v")
    comparison = compare(
        run_a,
        run_b,
        data=data,
        **reading,
        events=events,
    )
    if out is not None:
        from headstart.pipelines.compare import write_comparison

        for path in write_comparison(Path(out), comparison):
            events.emit(FileWritten("comparison", str(path)))
        events.emit(RunFinished(time.monotonic() - started))
    if as_json:
        typer.echo(json.dumps(comparison.to_json(), indent=2, ensure_ascii=False))
