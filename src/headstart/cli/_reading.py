"""Declare the options for reading a dataset, which several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

import typer

__all__ = ["with_reading_options"]

_OPTIONS = (
    ("layout", str, typer.Option(None, "--layout", help="Role of each folder level, e.g. '{group}/{label}/*'.")),
    (
        "label_pattern",
        str,
        typer.Option(None, "--label-pattern", help="Regular expression for the label in a file name."),
    ),
    ("table", str, typer.Option(None, "--table", help="Table or list with the labels, relative to the folder.")),
    ("image_column", str, typer.Option(None, "--image-column", help="Column of a table with the image paths.")),
    ("label_column", str, typer.Option(None, "--label-column", help="Column of a table with the labels.")),
    ("split_column", str, typer.Option(None, "--split-column", help="Column with the splits; none ignores it.")),
    ("group_column", str, typer.Option(None, "--group-column", help="Column with the groups; none ignores it.")),
    (
        "exclude",
        list[str],
        typer.Option(None, "--exclude", metavar="PATTERN", help="Files or folders to skip (repeatable)."),
    ),
    ("first_id", str, typer.Option(None, "--first-id", help="Class id of the first class name: 0, 1 or none.")),
    (
        "allow_external_paths",
        bool,
        typer.Option(False, "--allow-external-paths", help="Allow table paths outside the folder of the table."),
    ),
)


def with_reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `reading` of a command by the options for reading a dataset.

    The command receives the given options as a dict of fields of `data.options.ReadOptions`.
    """

    @functools.wraps(command)
    def run(**given: Any) -> None:
        from headstart.cli._shared import read_first_id

        values = {name: given.pop(name) for name, _, _ in _OPTIONS}
        reading = {name: value for name, value in values.items() if value not in (None, False, [])}
        if "first_id" in reading:
            reading["first_id"] = read_first_id(reading["first_id"])
        command(**given, reading=reading)

    options = [Parameter(name, Parameter.KEYWORD_ONLY, default=o, annotation=kind) for name, kind, o in _OPTIONS]
    declared = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [new for p in declared for new in (options if p.name == "reading" else [p])]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
