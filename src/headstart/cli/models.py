"""Define `headstart models` and `headstart summary`: list, explain, compare, measure, draw and fetch networks.

Only measuring, drawing and layer tables import torch.
"""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(
    help="List, explain, compare, measure and download pretrained networks.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_TO = typer.Option("text", "--to", help="Output format: text, md, csv or html.")
_TASK = typer.Option("classify", "--task", help="classify, or detect (backbones suitable for detection).")
_SORT = typer.Option(None, "--sort", help="Sort by name, year, parameters, macs, top1 or size.")


@app.callback(invoke_without_command=True)
def _models(
    context: typer.Context,
    task: str = _TASK,
    sort: str = _SORT,
    to: str = _TO,
    history: bool = typer.Option(False, "--history", help="The networks of the ImageNet challenge, 2012 to 2018."),
) -> None:
    """List the networks; `headstart models show NAME` explains one."""
    if context.invoked_subcommand is not None:
        return
    if history:
        _history(to)
    else:
        _list(task, sort, to)


@app.command("list")
def _list(
    task: str = _TASK,
    sort: str = _SORT,
    to: str = _TO,
) -> None:
    """List the networks."""
    from headstart.backbones.card_tables import LIST_LEGEND, list_rows, render_rows

    typer.echo(render_rows(list_rows(has_pyramid=_needs_pyramid(task), sort=sort), to))
    typer.echo(LIST_LEGEND, err=True)


@app.command("history")
def _history(to: str = _TO) -> None:
    """Show the networks of the ImageNet challenge, 2012 to 2018."""
    from headstart.backbones.card_tables import history_rows, render_rows

    typer.echo(render_rows(history_rows(), to))
    typer.echo("errors as reported by papers and challenge entries, most of them of ensembles", err=True)


@app.command("show")
def _show(
    name: str = typer.Argument(..., help="A network, e.g. ResNet50, timm:resnet50d or tv:vgg11."),
    summary: bool = typer.Option(False, "--summary", help="Show the layer table."),
    depth: str = typer.Option("block", "--depth", help="Detail of the layer table: stage, block or layer."),
    size: int = typer.Option(None, "--image-size", "--size", help="Input image size in pixels."),
    diagram: Path = typer.Option(None, "--diagram", help="Draw the architecture to a .svg or .png file."),
    freeze: str = typer.Option(None, "--freeze", help="Mark frozen parts: a stage (all before it), all, or a count."),
    classes: int = typer.Option(None, "--classes", help="Show the network with a new head for this number of classes."),
    head: str = typer.Option(None, "--head", help="Custom head, e.g. hidden=256,dropout=0.5,pool=flatten."),
) -> None:
    """Show one network: description, cost, stages, weights, when to choose it."""
    from headstart.backbones.cards import find_card

    card = find_card(name)
    if not (summary or diagram):
        from headstart.backbones.card_tables import card_text

        typer.echo(card_text(card))
        return
    from headstart.backbones.network_view import show_network

    shown = show_network(
        card,
        size=size,
        depth=depth if summary else None,
        diagram=diagram,
        freeze=freeze,
        head=head,
        num_classes=classes,
    )
    if shown.text:
        typer.echo(shown.text)
    if shown.diagram:
        typer.echo(f"diagram: {shown.diagram}", err=True)


@app.command("compare")
def _compare(
    names: list[str] = typer.Argument(..., help="Networks, e.g. VGG16 ResNet50 MobileNetV2."),
    to: str = _TO,
) -> None:
    """Compare networks side by side, with measurements on this machine."""
    from headstart.backbones.card_tables import compare_cards
    from headstart.backbones.latency import measured_columns

    typer.echo(compare_cards(names, to, measured_columns(names)))


@app.command("bench")
def _bench(
    names: list[str] = typer.Argument(None, help="Networks (default: a few of different sizes)."),
    size: int = typer.Option(
        None, "--image-size", "--size", help="Input image size in pixels (default: that of each network)."
    ),
    batch: int = typer.Option(8, "--batch", help="Batch size."),
    seconds: float = typer.Option(2.0, "--seconds", help="Approximate duration of each measurement."),
    training: bool = typer.Option(True, "--training/--no-training", help="Also measure training steps."),
    to: str = _TO,
) -> None:
    """Measure networks on this machine: throughput, training steps, memory, start-up."""
    from headstart.backbones.card_tables import render_rows
    from headstart.backbones.latency import bench_rows
    from headstart.pipelines.backbone_bench import BENCH_NAMES, bench

    def say(text: str) -> None:
        typer.echo(text, err=True)

    results = bench(names or BENCH_NAMES, size, batch, seconds=seconds, has_training=training, say=say)
    typer.echo(render_rows(bench_rows(results), to))


@app.command("import")
def _import(
    source: Path = typer.Argument(..., help="A .safetensors or .pth file, or a folder made by `models fetch`."),
    name: str = typer.Option(None, "--as", help="Network of the weights; NAME.TAG keeps the published weights."),
    classes: int = typer.Option(
        None, "--classes", help="Number of classes in the file, if it differs from the published weights."
    ),
) -> None:
    """Import weights into the local store, verify them, and make them available offline."""
    from headstart.backbones.store import import_weights

    for card in import_weights(source, name, num_classes=classes):
        license = card.license or "not stated"
        typer.echo(f"{card.weights_tag}: imported, SHA-256 {card.digest[:16]}..., license: {license}")


@app.command("fetch")
def _fetch(
    names: list[str] = typer.Argument(..., help="Networks."),
    to: Path = typer.Option(None, "--to", help="Folder to copy to an offline machine."),
    mirror: str = typer.Option(None, "--mirror", help="URL of a download mirror."),
) -> None:
    """Download weights for offline use, here or on another machine."""
    from headstart.backbones.store import fetch_weights
    from headstart.console import open_console

    for entry in fetch_weights(names, to, mirror=mirror, events=open_console()):
        megabytes = entry["size_bytes"] / 1e6
        license = entry["license"] or "not stated"
        typer.echo(
            f"{entry['weights_tag']}: {megabytes:,.1f} MB, SHA-256 {entry['sha256'][:16]}..., license: {license}"
        )
    if to is not None:
        typer.echo(f"on the other machine: headstart models import {to}", err=True)


def summary(
    run: Path = typer.Argument(..., help="A run folder."),
    depth: str = typer.Option("block", "--depth", help="Detail: stage, block or layer."),
    diagram: Path = typer.Option(None, "--diagram", help="Draw the network to a .svg or .png file."),
) -> None:
    """Show the network of a run with its new head: layers, parameters, trainable and frozen stages."""
    from headstart.api.run import Run
    from headstart.backbones.network_view import show_run
    from headstart.reports.record import has_boxes, read_json

    if has_boxes(read_json(run / "metrics.json")):
        typer.echo(Run(run).summary(), nl=False)
        return
    shown = show_run(run, depth=depth, diagram=diagram)
    typer.echo(shown.text)
    if shown.diagram:
        typer.echo(f"diagram: {shown.diagram}", err=True)


def _needs_pyramid(task: str) -> bool:
    """Return whether networks for a task need feature maps of several stages.

    Raises:
        UsageError: An unknown task.
    """
    from headstart.tasks.registry import find_task

    return find_task(task).needs_pyramid
