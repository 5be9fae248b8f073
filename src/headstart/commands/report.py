"""Define `headstart report RUN`."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(_report)


def _report(
    run: str = typer.Argument(..., help="The run folder."),
    data: str = typer.Option(None, "--data", help="Where the images are now, if they were moved since."),
    out: str = typer.Option(None, "--out", help="Where the files go (default: the run folder)."),
    images: bool = typer.Option(
        None, "--images/--no-images", help="Photographs and file names (default: as the run was trained)."
    ),
    attributions: bool = typer.Option(True, help="Draw which part of each shown error spoke."),
    figures: bool = typer.Option(True, help="Draw figures/*.png as well."),
    curve: bool = typer.Option(True, help="Measure what more images would bring."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show each decision and finding with its evidence."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show the score only."),
    progress: str = typer.Option(None, "--progress", metavar="text|json", help="json: one event per line on stderr."),
) -> None:
    """Write the report of a run: one page, with figures and text files."""
    from headstart.api import report
    from headstart.console import open_console

    report(
        run,
        data=data,
        out=out,
        images=images,
        attributions=attributions,
        figures=figures,
        curve=curve,
        events=open_console(verbose=verbose, quiet=quiet, progress=progress),
    )
