"""Define `headstart embed DATA --out features.npz`."""

from __future__ import annotations

from typing import Any

import typer

from headstart.cli._reading import with_reading_options

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("embed")(with_reading_options(_embed))


def _embed(
    *,
    data: str = typer.Argument(..., help="Images, labeled or not."),
    out: str = typer.Option(..., "--out", help="The .npz file to write."),
    backbone: str = typer.Option(
        None, "--backbone", "--model", "--arch", help="Pretrained backbone (default: efficientnet_lite0)."
    ),
    weights: str = typer.Option(None, "--weights", help="Weights tag or file (default: that of the backbone)."),
    image_size: int = typer.Option(
        None, "--image-size", "--size", "--imgsz", "--img-size", help="Input image size in pixels."
    ),
    resize_mode: str = typer.Option(None, "--resize-mode", help="Resize mode: crop, cover, squash or pad."),
    intensity_range: str = typer.Option(
        None, "--intensity-range", "--range", metavar="LOW,HIGH", help="Intensity range of 16-bit and float images."
    ),
    max_pixels: int = typer.Option(None, "--max-pixels", help="Reject images with more pixels (default: 178 million)."),
    device: str = typer.Option(None, "--device", help="auto, cpu, a GPU index (0), or cuda, mps ..."),
    num_threads: int = typer.Option(
        None, "--num-threads", "--workers", "--threads", help="Number of threads (default: one per core)."
    ),
    reading: dict[str, Any],
    offline: bool = typer.Option(None, "--offline", help="Never use the network."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show every decision and finding with its evidence."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show only errors."),
    progress: str = typer.Option(None, "--progress", metavar="text|json", help="json: one event per line on stderr."),
) -> None:
    """Extract features of images with a pretrained backbone, without training."""
    from headstart.cli._shared import merged_settings
    from headstart.console import open_console

    merged = merged_settings(
        {
            "data": data,
            "backbone": backbone,
            "weights": weights,
            "image_size": image_size,
            "resize_mode": resize_mode,
            "intensity_range": intensity_range,
            "max_pixels": max_pixels,
            "device": device,
            "num_threads": num_threads,
            **reading,
            "offline": offline or None,
        },
        None,
        [],
    )
    from headstart.pipelines.embed import extract

    extract(merged.resolve(), open_console(verbose=verbose, quiet=quiet, progress=progress), out)
