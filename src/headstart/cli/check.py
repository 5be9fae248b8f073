"""Define `headstart check DATA`, the dataset check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from headstart.cli._options import (
    BACKBONE,
    BOX_FORMAT,
    DATA_PROBLEM,
    INTENSITY_RANGE,
    NUM_THREADS,
    OFFLINE,
    READING,
    TASK,
    console,
    print_json,
    with_options,
)
from headstart.utils.limits import MAX_PIXELS

if TYPE_CHECKING:
    from headstart.events import EventStream


@with_options(reading=READING, events=console("-v or --json -"))
def check(
    data: str = typer.Argument(..., help="Folder, CSV or TSV table, metadata file, list or zip of images."),
    json_file: str = typer.Option(None, "--json", metavar="FILE", help="Write the report as JSON (- for stdout)."),
    sheet: str = typer.Option(
        None, "--sheet", metavar="FILE", help="Draw near-duplicates and boxes to a .png or .jpg file."
    ),
    repair: str = typer.Option(
        None, "--repair", metavar="FILE", help="Write a split.csv without leaks and divided groups."
    ),
    *,
    reading: dict[str, Any],
    group_from: str = typer.Option(None, "--group-from", help="Group key: column, pattern, none or image."),
    backbone: str = BACKBONE,
    intensity_range: str = INTENSITY_RANGE,
    max_pixels: int = typer.Option(MAX_PIXELS, "--max-pixels", help="Reject images with more pixels."),
    no_network: bool = typer.Option(False, "--pixels-only", help="Compare pixels only, without a backbone."),
    offline: bool = OFFLINE,
    num_threads: int = NUM_THREADS,
    box_format: str = BOX_FORMAT,
    task: str = TASK,
    events: EventStream,
) -> None:
    """Check a dataset without changing it: unreadable files, invalid boxes, near-duplicates, leaks, groups, shortcuts.

    Exit code 3 if a finding would bias a score, or a file cannot be used.
    """
    from headstart.api.data import check
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
        events=events,
    )
    if json_file == "-":
        print_json(result.to_json())
    if result.dataset_report.is_misleading:
        raise typer.Exit(DATA_PROBLEM)
