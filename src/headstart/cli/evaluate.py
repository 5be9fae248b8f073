"""Define `headstart evaluate MODEL DATA`."""

from __future__ import annotations

import typer

__all__ = ["register"]

_DATA_PROBLEM = 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(_evaluate)


def _evaluate(
    model: str = typer.Argument(..., help="A run, a bundle folder or its zip, or imagenet:NAME."),
    data: str = typer.Argument(..., help="Labeled images, or images with boxes for a detector."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON on stdout."),
    num_threads: int = typer.Option(
        None, "--num-threads", "--workers", "--threads", help="Number of threads (default: one per core)."
    ),
    layout: str = typer.Option(None, "--layout", help="Meaning of the folder levels, e.g. '{group}/{label}/*'."),
    label_pattern: str = typer.Option(None, "--label-pattern", help="Regular expression for the label in a file name."),
    positive: str = typer.Option(
        None, "--positive", metavar="NAME", help="Positive class of a binary task (default: as trained)."
    ),
    image_column: str = typer.Option(None, "--image-column", help="Column of a table with the image paths."),
    label_column: str = typer.Option(None, "--label-column", help="Column of a table with the labels."),
    split_column: str = typer.Option(None, "--split-column", help="Column with the splits; none ignores it."),
    group_column: str = typer.Option(None, "--group-column", help="Column with the groups; none ignores it."),
    exclude: list[str] = typer.Option(
        None, "--exclude", metavar="PATTERN", help="Files or folders that are not read (repeatable)."
    ),
    first_id: str = typer.Option(None, "--first-id", help="Id of the first class name: 0, 1 or none."),
    allow_external_paths: bool = typer.Option(
        False, "--allow-external-paths", help="Allow table paths outside the folder of the table."
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
    from headstart.cli._shared import read_first_id
    from headstart.console import open_console

    result = evaluate(
        model,
        data,
        num_threads=num_threads,
        layout=layout,
        label_pattern=label_pattern,
        first_id=read_first_id(first_id),
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        exclude=exclude or None,
        positive=positive,
        allow_external_paths=allow_external_paths,
        box_format=box_format,
        events=open_console(verbose=verbose, quiet=quiet, progress=progress, details="-v"),
    )
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    if result.evaluation is None:
        raise typer.Exit(_DATA_PROBLEM)
