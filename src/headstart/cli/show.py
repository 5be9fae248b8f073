"""Define `headstart show DATA`, a contact sheet of random images by class."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(_show)


def _show(
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
    layout: str = typer.Option(None, "--layout", help="Meaning of the folder levels, e.g. '{group}/{label}/*'."),
    label_pattern: str = typer.Option(None, "--label-pattern", help="Regular expression for the label in a file name."),
    image_column: str = typer.Option(None, "--image-column", help="Column of a table with the image paths."),
    label_column: str = typer.Option(None, "--label-column", help="Column of a table with the labels."),
    split_column: str = typer.Option(None, "--split-column", help="Column with the splits; none ignores it."),
    group_column: str = typer.Option(None, "--group-column", help="Column with the groups; none ignores it."),
    exclude: list[str] = typer.Option(
        None, "--exclude", metavar="PATTERN", help="Files or folders that are not read (repeatable)."
    ),
    first_id: str = typer.Option(None, "--first-id", help="Id of the first class name: 0, 1 or none."),
    allow_external_paths: bool = typer.Option(
        False, "--allow-external-paths", help="Allow table paths outside the folder of the table."
    ),
    box_format: str = typer.Option(None, "--box-format", help="Format of box coordinates, e.g. rel_xyxy."),
    task: str = typer.Option("auto", "--task", help="Task: classify, detect or auto (from the data)."),
) -> None:
    """Draw random images of each class, with their boxes, on a contact sheet."""
    from headstart.api.data import show
    from headstart.cli._shared import read_first_id
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
        layout=layout,
        first_id=read_first_id(first_id),
        label_pattern=label_pattern,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        exclude=exclude or None,
        allow_external_paths=allow_external_paths,
        box_format=box_format,
        task=task,
        events=open_console(),
    )
