"""Define `headstart train DATA`."""

from __future__ import annotations

import time
from typing import Any

import typer

from headstart.commands._any_setting import AnySettingCommand, data_and_overrides

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", cls=AnySettingCommand, context_settings={"allow_interspersed_args": True})(_train)


def _train(
    data: str = typer.Argument(
        None, metavar="DATA", help="Folder, CSV/TSV table, metadata file, list or zip of labeled images."
    ),
    overrides: list[str] = typer.Argument(None, metavar="NAME=VALUE", help="Any setting; finer ones are listed below."),
    out: str = typer.Option(None, "--out", "--project", help="The run folder (default: the next free runs/trainN)."),
    task: str = typer.Option(None, "--task", help="auto (seen from the data), classify or detect."),
    strategy: str = typer.Option(
        None, "--strategy", help="auto, probe (new head, closed form), head (by gradient), finetune, full or scratch."
    ),
    train_from: str = typer.Option(
        None, "--train-from", metavar="STAGE", help="First stage that trains, e.g. stage6, last, last-2."
    ),
    epochs: int = typer.Option(None, "--epochs", help="Passes over the training images."),
    lr: float = typer.Option(None, "--lr", "--lr0", help="Peak learning rate of the last stage."),
    batch: int = typer.Option(None, "--batch-size", "--batch", help="Images a training step."),
    optimizer: str = typer.Option(
        None, "--optimizer", "--optimiser", help="adamw, adam, nadam, radam, adagrad, rmsprop or sgd."
    ),
    schedule: str = typer.Option(None, "--schedule", help="cosine, linear, constant, step or onecycle."),
    augment: str = typer.Option(None, "--augment", help="E.g. flip,zoom=.2,shear=.2 or none."),
    num_views: int = typer.Option(None, "--num-views", help="Stored augmented views of each image."),
    head: str = typer.Option(None, "--head", help="The head to train, e.g. pool=avg,hidden=64 (docs/tuning.md)."),
    unfreeze: str = typer.Option(None, "--unfreeze", help="When stages start to train: stage7@0,stage6@30%."),
    folds: int = typer.Option(None, "--folds", help="Cross-validate the training in so many parts."),
    patience: int = typer.Option(None, "--patience", help="Stop after so many epochs without progress."),
    select: str = typer.Option(
        None, "--select", help="`best` keeps the probe where the asked-for model is not better."
    ),
    backbone: str = typer.Option(None, "--backbone", "--model", "--arch", help="The pretrained network."),
    weights: str = typer.Option(None, "--weights", help="A weights tag or file (default: the network's own)."),
    image_size: int = typer.Option(None, "--image-size", help="Side of what the network sees, pixels."),
    resize_mode: str = typer.Option(
        None, "--resize-mode", help="How an image is brought to size: crop, cover, squash, pad or auto."
    ),
    intensity_range: str = typer.Option(
        None, "--intensity-range", metavar="LOW,HIGH", help="Of 16-bit and float images."
    ),
    max_pixels: int = typer.Option(None, "--max-pixels", help="Larger images are refused (default: 178 million)."),
    seed: int = typer.Option(None, "--seed", help="Seed of everything that is drawn (default: 0)."),
    budget: str = typer.Option(None, "--budget", help="Time that may be spent, e.g. 5m or 90s."),
    group_from: str = typer.Option(None, "--group-from", help="Groups: column, pattern, none or image."),
    layout: str = typer.Option(None, "--layout", help="How folders are read, e.g. '{group}/{label}/*'."),
    label_pattern: str = typer.Option(None, "--label-pattern", help="Finds the label in a file name."),
    first_id: str = typer.Option(None, "--first-id", help="Number of the first class name: 0, 1 or none."),
    split: str = typer.Option(None, "--split", help="The split.csv of an earlier run, to use again."),
    test_size: str = typer.Option(None, "--test-size", help="Share held out as test split, e.g. 20%."),
    exclude_classes: list[str] = typer.Option(None, "--exclude-classes", help="Leave a class out (may be repeated)."),
    positive: str = typer.Option(
        None, "--positive", metavar="NAME", help="Positive class of two (default: the rarer class in training)."
    ),
    label_corrections: str = typer.Option(
        None, "--label-corrections", help="A label_errors.csv whose column `action` is filled in."
    ),
    class_weights: str = typer.Option(
        None, "--class-weights", help="`none`, `auto` (each class weighs the same) or FILE."
    ),
    ood_fpr: str = typer.Option(None, "--ood-fpr", help="Share of known images that may be called unknown, e.g. 5%."),
    coverage: str = typer.Option(None, "--coverage", help="Share of sets that shall hold the right class, e.g. 90%."),
    no_images: bool = typer.Option(None, "--no-images", help="A report without photographs and file names."),
    device: str = typer.Option(None, "--device", help="auto, cpu, a GPU by its index (0), or cuda, mps ..."),
    num_threads: int = typer.Option(None, "--num-threads", help="Threads (default: one a core)."),
    config: str = typer.Option(None, "--config", "-c", help="A YAML file of settings, or a config.resolved.yaml."),
    offline: bool = typer.Option(None, "--offline", help="Never use the network."),
    allow_external_paths: bool = typer.Option(
        None, "--allow-external-paths", help="Allow a table's paths outside its folder."
    ),
    no_cache: bool = typer.Option(None, "--no-cache", help="Keep no features for the next time."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show each decision and finding with its evidence."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show the score only."),
    progress: str = typer.Option(None, "--progress", metavar="text|json", help="json: one event per line on stderr."),
) -> None:
    """Train a model on labeled images, and estimate its accuracy without bias."""
    started = time.monotonic() - time.process_time()  # the process has started before
    from headstart.commands._shared import read_first_id, resolved_settings
    from headstart.console import open_console

    options: dict[str, Any] = {
        "out": out,
        "task": task,
        "strategy": strategy,
        "backbone": backbone,
        "weights": weights,
        "image_size": image_size,
        "resize_mode": resize_mode,
        "intensity_range": intensity_range,
        "max_pixels": max_pixels,
        "seed": seed,
        "budget_minutes": budget,
        "group_from": group_from,
        "layout": layout,
        "label_pattern": label_pattern,
        "first_id": read_first_id(first_id),
        "split": split,
        "test_size": test_size,
        "exclude_classes": exclude_classes or None,
        "positive": positive,
        "label_corrections": label_corrections,
        "probe.class_weights": class_weights,
        "ood_fpr": ood_fpr,
        "coverage": coverage,
        "include_images": False if no_images else None,
        "device": device,
        "num_threads": num_threads,
        "batch_size": batch,
        "epochs": epochs,
        "lr": lr,
        "patience": patience,
        "train_from": train_from,
        "optimizer": optimizer,
        "schedule": schedule,
        "augment": augment,
        "num_views": num_views,
        "unfreeze": unfreeze,
        "finetune.head": head,
        "folds": folds,
        "select": select,
        "offline": offline or None,
        "allow_external_paths": allow_external_paths or None,
        "cache": False if no_cache else None,
    }
    from headstart.api import is_box_dataset, train_resolved

    options["data"], settings = data_and_overrides(data, overrides or [])
    resolved = resolved_settings(options, config, settings, has_boxes=is_box_dataset)
    train_resolved(resolved, open_console(verbose=verbose, quiet=quiet, progress=progress), started=started)
