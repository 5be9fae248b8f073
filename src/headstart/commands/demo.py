"""`headstart demo`: the main job on real photographs that come by pip."""

from __future__ import annotations

import time

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("demo")(_demo)


def _demo(
    out: str = typer.Option(None, "--out", help="The run folder (default: the next free runs/trainN)."),
    offline: bool = typer.Option(None, "--offline", help="Never use the network."),
) -> None:
    """Train on 2,624 real photographs of solar cells: which ones are defective?"""
    started = time.monotonic()
    from headstart.commands._shared import resolved_settings
    from headstart.demo import LICENCE, write_solar_csv
    from headstart.machine import cache_root, private_folder
    from headstart.talk import to_stderr

    talk = to_stderr()
    table = private_folder(cache_root() / "demo") / "solar.csv"
    count = write_solar_csv(table)
    talk.say(f"{count:,} photographs of solar cells, functional or defective; {LICENCE}.")
    talk.say(f"headstart train {table} --allow-outside")
    resolved = resolved_settings(
        {"data": str(table), "out": out, "allow_outside": True, "offline": offline or None}, None, []
    )
    from headstart.api import train_resolved

    train_resolved(resolved, talk, started=started)
