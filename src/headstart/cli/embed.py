"""Define `headstart embed DATA --out features.npz`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from headstart.cli._options import (
    IMAGE_SIZE,
    INTENSITY_RANGE,
    NUM_THREADS,
    OFFLINE,
    READING,
    console,
    with_options,
)

if TYPE_CHECKING:
    from headstart.events import EventStream


@with_options(reading=READING, events=console())
def embed(
    data: str = typer.Argument(..., help="Images, labeled or not."),
    out: str = typer.Option(..., "--out", help="The .npz file to write."),
    backbone: str = typer.Option(
        None, "--backbone", "--model", "--arch", help="Pretrained backbone (default: efficientnet_lite0)."
    ),
    weights: str = typer.Option(None, "--weights", help="Weights tag or file (default: that of the backbone)."),
    image_size: int = IMAGE_SIZE,
    resize_mode: str = typer.Option(None, "--resize-mode", help="Resize mode: crop, cover, squash or pad."),
    intensity_range: str = INTENSITY_RANGE,
    max_pixels: int = typer.Option(None, "--max-pixels", help="Reject images with more pixels (default: 178 million)."),
    device: str = typer.Option(None, "--device", help="auto, cpu, a GPU index (0), or cuda, mps ..."),
    num_threads: int = NUM_THREADS,
    *,
    reading: dict[str, Any],
    offline: bool = OFFLINE,
    events: EventStream,
) -> None:
    """Extract features of images with a pretrained backbone, without training."""
    from headstart.cli._shared import merged_settings
    from headstart.pipelines.embed import extract

    settings = {
        "data": data,
        "backbone": backbone,
        "weights": weights,
        "image_size": image_size,
        "resize_mode": resize_mode,
        "intensity_range": intensity_range,
        "max_pixels": max_pixels,
        "device": device,
        "num_threads": num_threads,
        "offline": offline or None,
    }
    extract(merged_settings({**settings, **reading}, None, []).resolve(), events, out)
