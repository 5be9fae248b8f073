"""Declare the options that several commands share, and add them to a command in groups.

A command states a group as one parameter, e.g. `reading`; the options of the group take its place on the command line,
and the command receives their values as one argument.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, get_type_hints

import typer

__all__ = [
    "BACKBONE",
    "BOX_FORMAT",
    "DATA_PROBLEM",
    "IMAGE_SIZE",
    "INTENSITY_RANGE",
    "MODEL",
    "NUM_THREADS",
    "OFFLINE",
    "READING",
    "RESIZE_MODE",
    "TASK",
    "Group",
    "console",
    "given_settings",
    "print_json",
    "reading_options",
    "with_options",
]

DATA_PROBLEM = 3
"""Exit code if the data do not allow a valid result."""

MODEL = typer.Argument(..., help="A run, a bundle folder or its zip, or imagenet:NAME.")
BACKBONE = typer.Option(
    "efficientnet_lite0", "--backbone", "--model", "--arch", help="Pretrained backbone of the features."
)
IMAGE_SIZE = typer.Option(
    None, "--image-size", "--size", "--imgsz", "--img-size", help="Input image size in pixels (default: as pretrained)."
)
RESIZE_MODE = typer.Option("crop", "--resize-mode", help="Resize mode: crop, cover, squash or pad.")
INTENSITY_RANGE = typer.Option(
    None, "--intensity-range", "--range", metavar="LOW,HIGH", help="Intensity range of 16-bit and float images."
)
NUM_THREADS = typer.Option(
    None, "--num-threads", "--workers", "--threads", min=1, help="Number of threads (default: one per core)."
)
OFFLINE = typer.Option(False, "--offline", help="Never use the network.")
BOX_FORMAT = typer.Option(None, "--box-format", help="Format of box coordinates, e.g. rel_xyxy.")
TASK = typer.Option("auto", "--task", help="Task: classify, detect or auto (from the data).")


@dataclass(frozen=True)
class Group:
    """Options that a command receives as one argument.

    Attributes:
        options: Parameter name, type and declaration of each option.
        collect: Returns the argument, from the values by parameter name.
    """

    options: tuple[tuple[str, Any, Any], ...]
    collect: Callable[[dict[str, Any]], Any]


def with_options(**groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that replaces parameters of a command by groups of options.

    Args:
        groups: The group of each parameter, by its name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            values = {
                name: group.collect({option: given.pop(option) for option, _, _ in group.options})
                for name, group in groups.items()
            }
            command(**given, **values)

        parameters: list[Parameter] = []
        types = get_type_hints(command, localns={"EventStream": object})  # not imported, since the help must be fast
        for name, parameter in inspect.signature(command).parameters.items():
            if name in groups:
                parameters += _parameters(groups[name])
            else:
                parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=types[name]))
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _parameters(group: Group) -> list[Parameter]:
    return [Parameter(name, Parameter.KEYWORD_ONLY, default=o, annotation=kind) for name, kind, o in group.options]


def console(details: str | None = None, panel: str | None = None, *, is_hidden: bool = False) -> Group:
    """Return the options of the output on stderr; the command receives an `EventStream`.

    Args:
        details: As in `open_console`.
        panel: Panel of the help.
        is_hidden: Whether the help omits rare options.
    """

    def collect(given: dict[str, Any]) -> Any:
        from headstart.console import open_console

        return open_console(**given, details=details)

    def option(default: Any, *names: str, **more: Any) -> Any:
        return typer.Option(default, *names, rich_help_panel=panel, **more)

    progress = option(
        None, "--progress", metavar="text|json", hidden=is_hidden, help="json: one event per line on stderr."
    )
    verbose = option(False, "-v", "--verbose", help="Show every decision and finding with its evidence.")
    quiet = option(False, "-q", "--quiet", help="Show only errors and the result.")
    return Group((("progress", str, progress), ("verbose", bool, verbose), ("quiet", bool, quiet)), collect)


def given_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that were given, with `first_id` as a number or a word."""
    given = {name: value for name, value in values.items() if value is not None and value is not False and value != []}
    if given.get("first_id") in ("0", "1"):
        given["first_id"] = int(given["first_id"])
    return given


READING = Group(
    (
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
        (
            "pages",
            str,
            typer.Option(
                None, "--pages", "--channels", help="Page or channel of several: a number, first, max, mean or R=1,G=3."
            ),
        ),
        (
            "name_encoding",
            str,
            typer.Option(None, "--name-encoding", help="Encoding of file names in a zip or tar, e.g. gbk or cp866."),
        ),
        ("first_id", str, typer.Option(None, "--first-id", help="Class id of the first class name: 0, 1 or none.")),
        (
            "allow_external_paths",
            bool,
            typer.Option(False, "--allow-external-paths", help="Allow table paths outside the folder of the table."),
        ),
    ),
    given_settings,
)
"""Options for reading a dataset; the command receives the given fields of `data.options.ReadOptions`."""


def reading_options(panel: str, shown: Collection[str]) -> tuple[tuple[str, Any, Any], ...]:
    """Return the options of `READING` for a panel of the help that hides all but the `shown` ones."""
    options = []
    for name, kind, declared in READING.options:
        option = copy.copy(declared)
        option.rich_help_panel, option.hidden = panel, name not in shown
        options.append((name, kind, option))
    return tuple(options)


def print_json(value: Any) -> None:
    """Print a result as JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
