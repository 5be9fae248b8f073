"""Define `headstart convert DATA --to FORMAT --out PLACE`: write boxes in the format of another tool."""

from __future__ import annotations

import typer

__all__ = ["convert"]


def convert(
    *,
    data: str = typer.Argument(..., help="Folder or annotation file of images with boxes."),
    to: str = typer.Option(..., "--to", help="Format to write: coco, yolo, voc or csv."),
    out: str = typer.Option(..., "--out", metavar="PLACE", help="Folder to write, new or empty."),
    copy_images: bool = typer.Option(False, "--copy-images", help="Copy the images next to the annotations."),
    like: str = typer.Option(
        None, "--like", metavar="FILE", help="Write the class ids of this COCO JSON, data.yaml or names file."
    ),
    box_format: str = typer.Option(None, "--box-format", help="Format of box coordinates, e.g. rel_xyxy or stored."),
    exclude: list[str] = typer.Option(
        None, "--exclude", metavar="PATTERN", help="Files or folders that are not read (repeatable)."
    ),
    name_encoding: str = typer.Option(
        None, "--name-encoding", help="Encoding of file names in a zip or tar, e.g. gbk or cp866."
    ),
    allow_external_paths: bool = typer.Option(
        False, "--allow-external-paths", help="Allow annotations of images outside the folder."
    ),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show every decision and finding with its evidence."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show only errors and the result."),
) -> None:
    """Write images with boxes in the format of another tool, with your class names and ids.

    Assumptions and everything that is left out are printed. Exit code 3, and nothing is written, where boxes or names
    are not certain.
    """
    from headstart.api.data import convert as convert_boxes
    from headstart.console import open_console

    convert_boxes(
        data,
        to=to,
        out=out,
        copy_images=copy_images,
        like=like,
        box_format=box_format,
        exclude=exclude or None,
        name_encoding=name_encoding,
        allow_external_paths=allow_external_paths,
        events=open_console(verbose=verbose, quiet=quiet, details="-v"),
    )
