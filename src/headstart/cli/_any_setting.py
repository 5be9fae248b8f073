"""Accept every setting as `--name value` or `name=value` on the command line.

Undeclared options are passed on as settings; `headstart.config.settings` validates them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from headstart.errors import SettingError

__all__ = ["AnySettingCommand", "as_overrides", "data_and_overrides", "show_all_help"]

_ALL = "headstart.help_all"


class AnySettingCommand(TyperCommand):
    """Command that accepts undeclared options as settings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Turn undeclared options into `name=value`."""
        declared = {name: not getattr(p, "is_flag", False) for p in self.get_params(ctx) for name in p.opts}
        return super().parse_args(ctx, as_overrides(args, declared))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the options; with `--help-all` also the hidden options and the settings of all groups."""
        super().format_help(ctx, formatter)
        if not ctx.meta.get(_ALL):
            return
        try:
            from headstart.config.settings import finer_settings
        except ImportError:  # the training extra is not installed
            return
        typer.echo("Advanced settings, as --NAME VALUE or NAME=VALUE (docs/tuning.md and docs/detection.md):\n")
        for name, meaning in finer_settings():
            typer.echo(f"  {name:27} {meaning}")


def show_all_help(ctx: typer.Context, value: bool) -> None:
    """Print the complete help and exit if `--help-all` is given.

    Raises:
        typer.Exit: The help was printed.
    """
    if not value:
        return
    ctx.meta[_ALL] = True
    for parameter in ctx.command.params:
        parameter.hidden = False  # type: ignore[attr-defined]
    typer.echo(ctx.get_help(), nl=False)
    raise typer.Exit


def as_overrides(arguments: Sequence[str], declared: dict[str, bool]) -> list[str]:
    """Move undeclared options behind the other arguments, as `name=value`.

    Args:
        arguments: The command-line arguments.
        declared: Each option (`--name`, `-n`) and whether it takes a value.

    Raises:
        SettingError: The setting does not exist, or its value is missing.
    """
    kept: list[str] = []
    moved: list[str] = []
    rest = list(arguments)
    while rest:
        text = rest.pop(0)
        if text == "--":
            return [*kept, *moved, text, *rest]
        name, equals, value = text.partition("=")
        if not name.startswith("--") or name in declared:
            kept.append(text)
            if declared.get(name, False) and not equals and rest:
                kept.append(rest.pop(0))
            continue
        moved.append(f"{name[2:]}={value if equals else _next_value(name, rest)}")
    return [*kept, *moved]


def _next_value(name: str, rest: list[str]) -> str:
    from headstart.cli._shared import settings_module

    config = settings_module()
    setting = config.canonical_name(name[2:])
    is_value = bool(rest) and (not rest[0].startswith("-") or re.match(r"-\.?\d", rest[0]) is not None)
    if config.takes_no_value(setting) and not (is_value and rest[0].lower() in ("true", "false", "on", "off")):
        return "true"
    if not is_value:
        raise SettingError(f"`{name}` requires a value.", hint=f"use {name} VALUE")
    return rest.pop(0)


def data_and_overrides(data: str | None, overrides: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the data path (None if given as `data=PATH`) and the other settings."""
    if data is None or ("=" in data and not Path(data).exists()):
        return None, [*([] if data is None else [data]), *overrides]
    return data, list(overrides)
