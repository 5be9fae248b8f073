"""Define `headstart compare RUN_A RUN_B`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from headstart.cli._options import READING, console, print_json, with_options

if TYPE_CHECKING:
    from headstart.events import EventStream


@with_options(reading=READING, events=console("-v"))
def compare(
    run_a: str = typer.Argument(..., metavar="RUN_A", help="A run folder."),
    run_b: str = typer.Argument(..., metavar="RUN_B", help="The run to compare with RUN_A."),
    data: str = typer.Option(None, "--data", help="Labeled images to evaluate both on (default: their test images)."),
    *,
    reading: dict[str, Any],
    out: str = typer.Option(None, "--out", help="Folder for compare.json and compare.png (training curves)."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON on stdout."),
    events: EventStream,
) -> None:
    """Compare two runs on the same images and test whether RUN_B is better or worse than RUN_A."""
    import time
    from pathlib import Path

    from headstart.api import functions
    from headstart.events import FileWritten, RunFinished

    started = time.monotonic()
    comparison = functions.compare(run_a, run_b, data=data, **reading, events=events)
    if out is not None:
        from headstart.pipelines.compare import write_comparison

        for path in write_comparison(Path(out), comparison):
            events.emit(FileWritten("comparison", str(path)))
        events.emit(RunFinished(time.monotonic() - started))
    if as_json:
        print_json(comparison.to_json())
