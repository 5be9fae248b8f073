"""Define `headstart report RUN`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from headstart.cli._options import console, with_options

if TYPE_CHECKING:
    from headstart.events import EventStream


@with_options(events=console())
def report(
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
    *,
    events: EventStream,
) -> None:
    """Write the report of a run: an HTML page, figures and text files."""
    from headstart.api import functions

    functions.report(
        run, data=data, out=out, images=images, attributions=attributions, figures=figures, curve=curve, events=events
    )
