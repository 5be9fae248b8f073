"""Define `headstart evaluate MODEL DATA`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from headstart.cli._options import (
    BOX_FORMAT,
    DATA_PROBLEM,
    MODEL,
    NUM_THREADS,
    READING,
    console,
    print_json,
    with_options,
)

if TYPE_CHECKING:
    from headstart.events import EventStream


@with_options(reading=READING, events=console("-v"))
def evaluate(
    model: str = MODEL,
    data: str = typer.Argument(..., help="Labeled images, or images with boxes for a detector."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON on stdout."),
    num_threads: int = NUM_THREADS,
    *,
    reading: dict[str, Any],
    positive: str = typer.Option(
        None, "--positive", metavar="NAME", help="Positive class of a binary task (default: as trained)."
    ),
    box_format: str = BOX_FORMAT,
    events: EventStream,
) -> None:
    """Evaluate a saved model on labeled images; images it was trained on are scored separately.

    Exit code 3 if it was trained on all of them.
    """
    from headstart.api import functions

    result = functions.evaluate(
        model, data, num_threads=num_threads, positive=positive, box_format=box_format, **reading, events=events
    )
    if as_json:
        print_json(result.to_json())
    if result.evaluation is None:
        raise typer.Exit(DATA_PROBLEM)
