"""Define `headstart doctor`, the check of this machine."""

from __future__ import annotations

import typer


def doctor(
    prepare: bool = typer.Option(False, "--prepare", help="Export the backbone graphs now, e.g. before going offline."),
    backbone: list[str] = typer.Option(None, "--backbone", help="Backbones to prepare (default: the bundled ones)."),
) -> None:
    """Check this machine: versions, memory, disk, cache, weights."""
    from headstart.console import open_console
    from headstart.pipelines.system_check import check_machine, prepare_backbones

    lines, problems = check_machine()
    for line in lines:
        typer.echo(line)
    for problem in problems:
        typer.echo(f"problem: {problem}")
    if not problems:
        typer.echo("No problems found.")
    if prepare:
        prepare_backbones(backbone or None, open_console())
    if problems:
        raise typer.Exit(1)
