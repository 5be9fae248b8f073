"""Define `headstart report RUN`."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(_report)


def _report(
    run: str = typer.Argument(..., help="The run folder."),
    data: str = typer.Option(None, "--data", help="New location of the images, if they were moved."),
    out: str = typer.Option(None, "--out", help="Output folder (default: the run folder)."),
    images: bool = typer.Option(
        None, "--images/--no-images", help="Include images and file names (default: as in training)."
    ),
    attributions: bool = typer.Option(
        None,
        "--attributions/--no-attributions",
        help="Show attribution maps of shown errors (classifiers; default: as in training).",
    ),
    figures: bool = typer.Option(True, help="Write figures/*.png."),
    curve: bool = typer.Option(
        None, "--curve/--no-curve", help="Show the learning curve (classifiers; default: as in training)."
    ),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show every decision and finding with its evidence."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show only errors and the score."),
    progress: str = typer.Option(None, "--progress", metavar="text|json", help="json: one event per line on stderr."),
) -> None:
    """Write the report of a run: an HTML page, figures and text files."""
    from headstart.api.functions import report
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
