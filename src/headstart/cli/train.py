"""Define `headstart train DATA`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from headstart.cli._any_setting import data_and_overrides, show_all_help
from headstart.cli._options import Group, console, given_settings, reading_options, with_options

if TYPE_CHECKING:
    from headstart.events import EventStream


def _panel(title: str) -> Callable[..., Any]:
    """Return a function that declares an option in a panel of the help; `default` is None unless given."""

    def option(*names: str, default: Any = None, **more: Any) -> Any:
        return typer.Option(default, *names, rich_help_panel=title, **more)

    return option


_data, _model, _training = _panel("Data"), _panel("Model"), _panel("Training")
_evaluation, _output = _panel("Evaluation"), _panel("Output")


_SETTINGS = Group(
    (
        ("task", str, _data("--task", help="Task: classify, detect or auto (from the data).")),
        *reading_options("Data", shown=("layout", "label_pattern", "exclude")),
        ("group_from", str, _data("--group-from", help="Group key: column, pattern, none or image.")),
        ("split", str, _data("--split", metavar="FILE", help="Reuse the split.csv of an earlier run.")),
        ("test_size", str, _data("--test-size", help="Fraction held out as test split, e.g. 20%.")),
        (
            "exclude_classes",
            list[str],
            _data("--exclude-classes", metavar="NAME", help="Class to exclude (repeatable)."),
        ),
        (
            "label_corrections",
            str,
            _data("--label-corrections", metavar="FILE", help="Apply the column `action` of a label_errors.csv."),
        ),
        (
            "intensity_range",
            str,
            _data(
                "--intensity-range", metavar="LOW,HIGH", help="Intensity range of 16-bit and float images.", hidden=True
            ),
        ),
        (
            "max_pixels",
            int,
            _data("--max-pixels", help="Reject images with more pixels (default: 178 million).", hidden=True),
        ),
        ("backbone", str, _model("--backbone", help="Pretrained backbone (default: efficientnet_lite0).")),
        ("weights", str, _model("--weights", help="Weights tag or file (default: that of the backbone).", hidden=True)),
        ("image_size", int, _model("--image-size", help="Input image size in pixels.")),
        ("resize_mode", str, _model("--resize-mode", help="Resize mode: crop, cover, squash, pad or auto.")),
        ("finetune__head", str, _model("--head", help="Custom head, e.g. pool=avg,hidden=64.", hidden=True)),
        ("strategy", str, _training("--strategy", help="Strategy: auto, probe, head, finetune, full or scratch.")),
        ("time_budget", str, _training("--budget", help="Time budget, e.g. 5m or 90s; fine-tunes if it helps.")),
        (
            "train_from",
            str,
            _training("--train-from", metavar="STAGE", help="First trained stage, e.g. stage6, last, last-2."),
        ),
        ("epochs", int, _training("--epochs", help="Number of epochs.")),
        ("batch_size", int, _training("--batch-size", help="Batch size.")),
        ("lr", float, _training("--lr", help="Peak learning rate of the last stage.")),
        ("augment", str, _training("--augment", help="Augmentations, e.g. flip,zoom=.2, or none.")),
        (
            "probe__class_weights",
            str,
            _training("--class-weights", help="Class weights: none, auto (balanced) or a file."),
        ),
        ("seed", int, _training("--seed", help="Random seed (default: 0).")),
        (
            "optimizer",
            str,
            _training("--optimizer", help="adamw, adam, nadam, radam, adagrad, rmsprop or sgd.", hidden=True),
        ),
        ("schedule", str, _training("--schedule", help="cosine, linear, constant, step or onecycle.", hidden=True)),
        ("num_views", int, _training("--num-views", help="Cached augmented views per image.", hidden=True)),
        ("unfreeze", str, _training("--unfreeze", help="Gradual unfreezing, e.g. stage7@0,stage6@30%.", hidden=True)),
        ("folds", int, _training("--folds", help="Number of cross-validation folds.", hidden=True)),
        ("patience", int, _training("--patience", help="Early stopping: epochs without improvement.", hidden=True)),
        (
            "select",
            str,
            _training(
                "--select", help="Final model: requested, or best (the probe unless training is better).", hidden=True
            ),
        ),
        (
            "positive",
            str,
            _evaluation(
                "--positive", metavar="NAME", help="Positive class of a binary task (default: the rarer class)."
            ),
        ),
        (
            "ood_fpr",
            str,
            _evaluation("--ood-fpr", help="Target false-positive rate of OOD detection, e.g. 5%.", hidden=True),
        ),
        (
            "coverage",
            str,
            _evaluation("--coverage", help="Target coverage of the prediction sets, e.g. 90%.", hidden=True),
        ),
        ("out", str, _output("--out", help="Run folder (default: the next free runs/trainN).")),
        ("no_images", bool, _output("--no-images", help="Omit images and file names from the report.")),
        ("device", str, _output("--device", help="Device: auto, cpu, a GPU index (0), or cuda, mps ...")),
        ("num_threads", int, _output("--num-threads", help="Number of threads (default: one per core).", hidden=True)),
        ("offline", bool, _output("--offline", help="Never use the network.", hidden=True)),
        ("no_cache", bool, _output("--no-cache", help="Do not cache features.", hidden=True)),
    ),
    given_settings,
)
"""Settings by name; a double underscore stands for the dot of a group."""


@with_options(settings=_SETTINGS, events=console(panel="Output", is_hidden=True))
def train(
    data: str = typer.Argument(
        None, metavar="DATA", help="Folder, CSV or TSV table, metadata file, list or zip of labeled images."
    ),
    overrides: list[str] = typer.Argument(None, metavar="NAME=VALUE", help="Any setting; --help-all lists them."),
    *,
    settings: dict[str, Any],
    config: str = _output("--config", "-c", metavar="FILE", help="YAML file of settings, or a config.resolved.yaml."),
    events: EventStream,
    help_all: bool = typer.Option(
        False, "--help-all", is_eager=True, callback=show_all_help, help="Show all options and settings."
    ),
) -> None:
    """Train an image classifier or detector and estimate its accuracy on unseen images."""
    started = time.monotonic() - time.process_time()  # the process has started before
    from headstart.api.functions import train_merged
    from headstart.cli._shared import merged_settings

    options = {name.replace("__", "."): value for name, value in settings.items()}
    for name, setting in (("no_images", "include_images"), ("no_cache", "cache")):
        if options.pop(name, False):
            options[setting] = False
    options["data"], rest = data_and_overrides(data, overrides or [])
    train_merged(merged_settings(options, config, rest), events, started=started)
