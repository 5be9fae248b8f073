"""Define `headstart check DATA`, the dataset check."""

from __future__ import annotations

from typing import Any

import typer

from headstart.cli._reading import with_reading_options
from headstart.utils.limits import MAX_PIXELS

__all__ = ["register"]

_DATA_PROBLEM = 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check")(with_reading_options(_check))


def _check(
    *,
    data: str = typer.Argument(..., help="Folder, CSV or TSV table, metadata file, list or zip of images."),
    json_file: str = typer.Option(None, "--json", metavar="FILE", help="Write the report as JSON (- for stdout)."),
    sheet: str = typer.Option(
        None, "--sheet", metavar="FILE", help="Draw near-duplicates and boxes to a .png or .jpg file."
    ),
    repair: str = typer.Option(
        None, "--repair", metavar="FILE", help="Write a split.csv without leaks and divided groups."
    ),
    reading: dict[str, Any],
    group_from: str = typer.Option(None, "--group-from", help="Group key: column, pattern, none or image."),
    backbone: str = typer.Option(
        "efficientnet_lite0", "--backbone", "--model", "--arch", help="Backbone whose features are used."
    ),
    intensity_range: str = typer.Option(
        None, "--intensity-range", "--range", metavar="LOW,HIGH", help="Intensity range of 16-bit and float images."
    ),
    max_pixels: int = typer.Option(MAX_PIXELS, "--max-pixels", help="Reject images with more pixels."),
    no_network: bool = typer.Option(False, "--pixels-only", help="Compare pixels only, without a backbone."),
    offline: bool = typer.Option(False, "--offline", help="Never use the network."),
    num_threads: int = typer.Option(
        None, "--num-threads", "--workers", "--threads", help="Number of threads (default: one per core)."
    ),
    box_format: str = typer.Option(None, "--box-format", help="Format of box coordinates, e.g. rel_xyxy."),
    task: str = typer.Option("auto", "--task", help="Task: classify, detect or auto (from the data)."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show every decision and finding with its evidence."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show only errors and the result."),
    progress: str = typer.Option(None, "--progress", metavar="text|json", help="json: one event per line on stderr."),
) -> None:
    """Check a dataset without changing it: unreadable files, invalid boxes, near-duplicates, leaks, groups, shortcuts.

    Exit code 3 if a finding would bias a score, or a file cannot be used.
    """
    from headstart.api.data import check
    from headstart.console import open_console
    from headstart.quality.intensity_range import parse_range

    result = check(
        data,
        group_from=group_from,
        backbone=backbone,
        intensity_range=parse_range(intensity_range) if intensity_range else None,
        max_pixels=max_pixels,
        use_network=not no_network,
        offline=offline,
        num_threads=num_threads,
        box_format=box_format,
        task=task,
        json_file=None if json_file == "-" else json_file,
        sheet=sheet,
        repair=repair,
        **reading,
        events=open_console(verbose=verbose, quiet=quiet, progress=progress, details="-v or --json -"),
    )
    if json_file == "-":
        import json

        typer.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    if result.dataset_report.is_misleading:
        raise typer.Exit(_DATA_PROBLEM)
