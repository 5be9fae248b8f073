"""Define `headstart compare RUN_A RUN_B`."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(_compare)


def _compare(
    run_a: str = typer.Argument(..., metavar="RUN_A", help="A run folder."),
    run_b: str = typer.Argument(..., metavar="RUN_B", help="The run to compare with RUN_A."),
    data: str = typer.Option(None, "--data", help="Labeled images to evaluate both on (default: their test images)."),
    layout: str = typer.Option(
        None, "--layout", help="Meaning of the folder levels of --data, e.g. '{group}/{label}/*'."
    ),
    label_pattern: str = typer.Option(
        None, "--label-pattern", help="Regular expression for the label in a file name of --data."
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
    from headstart.cli._shared import read_first_id
    from headstart.console import open_console
    from headstart.events import FileWritten, RunFinished

    started = time.monotonic()
    events = open_console(verbose=verbose, quiet=quiet, progress=progress, details="-v")
    comparison = compare(
        run_a,
        run_b,
        data=data,
        events=events,
        allow_external_paths=allow_external_paths,
        layout=layout,
        label_pattern=label_pattern,
        first_id=read_first_id(first_id),
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        exclude=exclude or None,
    )
    if out is not None:
        from headstart.pipelines.compare import write_comparison

        for path in write_comparison(Path(out), comparison):
            events.emit(FileWritten("comparison", str(path)))
        events.emit(RunFinished(time.monotonic() - started))
    if as_json:
        typer.echo(json.dumps(comparison.to_json(), indent=2, ensure_ascii=False))
