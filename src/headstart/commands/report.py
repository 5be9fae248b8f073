"""`headstart report RUN`."""

from __future__ import annotations

import typer

from headstart.messages.numbers import pluralize

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("report")(_report)


def _report(
    run: str = typer.Argument(..., help="The run folder."),
    data: str = typer.Option(None, "--data", help="Where the pictures are now, if they were moved since."),
    out: str = typer.Option(None, "--out", help="Where the files go (default: the run folder)."),
    pictures: bool = typer.Option(
        None, "--pictures/--no-pictures", help="Photographs and file names (default: as the run was trained)."
    ),
    attributions: bool = typer.Option(True, help="Draw which part of each shown error spoke."),
    figures: bool = typer.Option(True, help="Draw figures/*.png as well."),
    curve: bool = typer.Option(True, help="Measure what more pictures would bring."),
) -> None:
    """Write the report of a run: one page, and figures and texts to hand in or paste."""
    from headstart.api import report
    from headstart.console import open_console

    made = report(run, data=data, out=out, pictures=pictures, attributions=attributions, figures=figures, curve=curve)
    events = open_console()
    events.note(made.data["headline"]["sentence"])
    for text in made.data["problems"]:
        events.warn(text)
    names = ["report.html", "report.json", "classification_report.txt and .csv", "summary.txt", "comment.md"]
    if made.data.get("task") == "detect":
        names = ["report.html", "report.json", "detection_report.csv"]
    events.note(f"Written to {made.folder}: {', '.join([*names, 'figures/'] if figures else names)}.")
    if not made.has_pictures:
        events.note("There are no photographs and no file names in these files.")
    else:
        shown = pluralize(len(made.data["pictures"]), "image")
        events.note(f"The page shows {shown} of yours with file names; --no-pictures leaves both out.")
