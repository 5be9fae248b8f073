"""`headstart evaluate MODEL DATA`."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("evaluate")(_evaluate)


def _evaluate(
    model: str = typer.Argument(..., help="A run, a bundle folder or its zip, or imagenet:NAME."),
    data: str = typer.Argument(..., help="Labelled pictures, or for a detector pictures with boxes."),
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON on stdout."),
    threads: int = typer.Option(None, "--threads", "--workers", help="Threads (default: one a core)."),
    allow_outside: bool = typer.Option(False, "--allow-outside", help="Allow a table's paths outside its folder."),
    box_format: str = typer.Option(None, "--box-format", help="Meaning of the numbers of a box, e.g. rel_xyxy."),
) -> None:
    """Score a saved model on labelled pictures, apart from those it was trained on."""
    import json

    from headstart.api import evaluate
    from headstart.talk import to_stderr

    result = evaluate(
        model, data, threads=threads, allow_outside=allow_outside, box_format=box_format, talk=to_stderr()
    )
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
        return
    for line in result.lines():
        typer.echo(line)
