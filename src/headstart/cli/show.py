"""Define `headstart show DATA`, a contact sheet of random images by class."""

from __future__ import annotations

from typing import Any

import typer

from headstart.cli._reading import with_reading_options

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(with_reading_options(_show))


def _show(
    *,
    data: str = typer.Argument(..., help="Images, labeled or not."),
    out: str = typer.Option("samples.png", "--out", help="Image file to write, .png or .jpg."),
    per_class: int = typer.Option(8, "--per-class", metavar="N", min=1, max=50, help="Images per class."),
    seed: int = typer.Option(0, "--seed", help="Random seed."),
    preprocessed: bool = typer.Option(False, "--preprocessed", help="Show the images as network inputs."),
    num_augmented: int = typer.Option(
        None, "--num-augmented", metavar="N", min=1, max=50, help="Number of augmented views per image."
    ),
    augment: str = typer.Option(None, "--augment", help="Augmentations, e.g. flip,zoom=.2 (default: as in train)."),
    backbone: str = typer.Option(
        "efficientnet_lite0", "--backbone", "--model", "--arch", help="Backbone whose input is shown."
    ),
    image_size: int = typer.Option(
        None, "--image-size", "--size", "--imgsz", "--img-size", help="Input image size in pixels."
    ),
    resize_mode: str = typer.Option("crop", "--resize-mode", help="Resize mode: crop, cover, squash or pad."),
    reading: dict[str, Any],
    box_format: str = typer.Option(None, "--box-format", help="Format of box coordinates, e.g. rel_xyxy."),
    task: str = typer.Option("auto", "--task", help="Task: classify, detect or auto (from the data)."),
) -> None:
    """Draw random images of each class, with their boxes, on a contact sheet."""
    from headstart.api.data import show
    from headstart.console import open_console

    show(
        data,
        out=out,
        per_class=per_class,
        seed=seed,
        preprocessed=preprocessed,
        num_augmented=num_augmented,
        augment=augment,
        backbone=backbone,
        image_size=image_size,
        resize_mode=resize_mode,
        box_format=box_format,
        task=task,
        **reading,
        events=open_console(),
    )
