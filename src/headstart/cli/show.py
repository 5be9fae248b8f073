"""Define `headstart show DATA`, a contact sheet of random images by class."""

from __future__ import annotations

from typing import Any

import typer

from headstart.cli._options import (
    BACKBONE,
    BOX_FORMAT,
    IMAGE_SIZE,
    READING,
    RESIZE_MODE,
    TASK,
    with_options,
)


@with_options(reading=READING)
def show(
    data: str = typer.Argument(..., help="Images, labeled or not."),
    out: str = typer.Option("samples.png", "--out", help="Image file to write, .png or .jpg."),
    per_class: int = typer.Option(8, "--per-class", metavar="N", min=1, max=50, help="Images per class."),
    seed: int = typer.Option(0, "--seed", help="Random seed."),
    preprocessed: bool = typer.Option(False, "--preprocessed", help="Show the images as network inputs."),
    num_augmented: int = typer.Option(
        None, "--num-augmented", metavar="N", min=1, max=50, help="Number of augmented views per image."
    ),
    augment: str = typer.Option(None, "--augment", help="Augmentations, e.g. flip,zoom=.2 (default: as in train)."),
    backbone: str = BACKBONE,
    image_size: int = IMAGE_SIZE,
    resize_mode: str = RESIZE_MODE,
    *,
    reading: dict[str, Any],
    box_format: str = BOX_FORMAT,
    task: str = TASK,
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
