"""Define `headstart demo`: train on bundled photographs, or detect objects in synthetic images made from them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from headstart.events import EventStream

_DETECT = {"strategy": "head", "image_size": 192, "epochs": 15}  # two or three minutes on two cores


def demo(
    out: str = typer.Option(None, "--out", help="Run folder (default: the next free runs/trainN)."),
    task: str = typer.Option("classify", "--task", help="classify, or detect (objects in synthetic images)."),
    offline: bool = typer.Option(None, "--offline", help="Never use the network."),
) -> None:
    """Train a classifier of defects on 2,624 photographs of solar cells.

    With --task detect: detect two kinds of cells in synthetic images made from the photographs.
    """
    started = time.monotonic()
    from headstart.cli._shared import merged_settings
    from headstart.console import open_console
    from headstart.errors import UsageError

    if task not in ("classify", "detect"):
        raise UsageError(f"no demo for the task `{task}`.", hint="use --task classify or --task detect")
    events = open_console()
    given = _boxes(events) if task == "detect" else _table(events)
    merged = merged_settings({**given, "out": out, "offline": offline or None}, None, [])
    from headstart.api.functions import train_merged

    train_merged(merged, events, started=started)


def _table(events: EventStream) -> dict[str, Any]:
    """Write the photographs as a table of labeled images; return its settings."""
    from headstart.api.demo import LICENSE, write_solar_csv
    from headstart.events import FileWritten
    from headstart.utils.system import cache_root, private_folder

    table = private_folder(cache_root() / "demo") / "solar.csv"
    count = write_solar_csv(table)
    events.emit(FileWritten("demo", str(table), {"num_images": count, "license": LICENSE, "is_synthetic": False}))
    return {"data": str(table), "allow_external_paths": True}


def _boxes(events: EventStream) -> dict[str, Any]:
    """Write synthetic images with boxes; return their settings."""
    from headstart.api.demo import LICENSE, write_synthetic_boxes
    from headstart.events import FileWritten
    from headstart.utils.system import cache_root, private_folder

    folder = private_folder(cache_root() / "demo") / "boxes"
    samples = write_synthetic_boxes(folder)
    counts = {"num_images": len(samples), "num_boxes": samples.num_boxes}
    events.emit(FileWritten("demo", str(folder), {**counts, "license": LICENSE, "is_synthetic": True}))
    return {"data": str(folder), "task": "detect", **_DETECT}
