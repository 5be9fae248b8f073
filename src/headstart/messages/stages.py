"""Render the dataset and finished stages, one screen line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.messages.numbers import percent, signed
from headstart.messages.values import count, duration, fit, plural
from headstart.types.events import DatasetRead, EpochFinished, Progress, Stage, StageFinished, StageStarted

__all__ = [
    "DETAIL_STAGES",
    "dataset_message",
    "epoch_message",
    "progress_message",
    "stage_line",
    "stage_started_message",
]

DETAIL_STAGES = frozenset({Stage.PILOT, Stage.FINAL_TRAINING})
"""Stages shown with `-v` only."""

_PROGRESS = {
    Stage.SCAN: "Scanning",
    Stage.FEATURES: "Features",
    Stage.FLIPPED_FEATURES: "Features (flipped)",
    Stage.CHECK: "Checking",
    Stage.VIEWS: "Augmented views",
    Stage.TRAIN: "Training",
    Stage.FINAL_TRAINING: "Final training",
    Stage.EVALUATE: "Evaluating",
    Stage.PREDICT: "Predicting",
    Stage.DOWNLOAD: "Downloading",
}


_EPOCH_METRICS = {
    "train_loss": "train loss",
    "val_loss": "val loss",
    "val_accuracy": "val accuracy",
    "val_mAP50": "val mAP50",
}
_FRACTIONS = ("val_accuracy", "val_mAP50")


def dataset_message(event: DatasetRead, width: int | None = None) -> str:
    """Return e.g. `2,527 images, 6 classes; class folders with train/val/test (1,768/328/431)`.

    Args:
        event: Dataset that was read.
        width: Maximum number of characters; a longer text has no layout.
    """
    parts = [count(event.num_images, "image")]
    if event.class_names:
        parts.append(count(len(event.class_names), "class"))
    if event.num_boxes is not None:
        parts.append(count(event.num_boxes, "box"))
    if event.num_unlabeled:
        parts.append(f"{event.num_unlabeled:,} unlabeled")
    if event.num_groups:
        parts.append(count(event.num_groups, "group"))
    text = f"{', '.join(parts)}; {event.layout.removeprefix('split folders with ')}"
    if not event.splits:
        return text
    splits = f"{'/'.join(event.splits)} ({'/'.join(f'{n:,}' for n in event.splits.values())})"
    variants = (f"{text} with {splits}", f"{', '.join(parts)}; {splits}")
    return variants[0] if width is None else fit(variants, width)


def epoch_message(event: EpochFinished) -> str:
    """Return e.g. `fold1 epoch 3/10: train loss 0.412, val loss 0.380, val accuracy 88.1 %, 2.5 s`."""
    parts = [
        f"{name} {percent(value) if key in _FRACTIONS else f'{value:.3f}'}"
        for key, name in _EPOCH_METRICS.items()
        if (value := event.metrics.get(key)) is not None
    ]
    if (seconds := event.metrics.get("duration_s")) is not None:
        parts.append(duration(seconds))
    return f"{event.phase} epoch {event.epoch}/{event.num_epochs}: {', '.join(parts)}"


def progress_message(event: Progress) -> str:
    """Return e.g. `Features: 440/2,093 images, 41/s, 40 s left`."""
    text = f"{_PROGRESS.get(event.stage, event.stage.value)}: {event.done:,}/{event.total:,} {plural(event.unit)}"
    if event.remaining_seconds is not None:
        text += f", {event.rate:,.0f}/s, {duration(event.remaining_seconds)} left"
    return text


def stage_started_message(event: StageStarted) -> str | None:
    """Return the configuration of a started stage for the log; None for most stages."""
    return _plan(event.evidence) if event.stage is Stage.TRAIN else None


def stage_line(event: StageFinished) -> tuple[str, str] | None:
    """Return the label and text of a finished stage; None for stages without a line."""
    message = _STAGES.get(event.stage)
    if message is None:
        return None
    label, render = message
    text = render(event.evidence, event.seconds)
    return None if text is None else (label, text)


def _features(e: Mapping[str, Any], seconds: float) -> str:
    computed, cached = e["num_computed"], e["num_cached"]
    text = f"{e['backbone']} @ {e['width']} px" + ("" if e["width"] == e["height"] else f" x {e['height']} px")
    text += f": {count(computed + cached, 'image')} in {duration(seconds)}"
    if computed and cached:
        return f"{text} ({cached:,} from the cache)"
    if cached:
        return f"{text}, from the cache"
    return f"{text} ({computed / max(seconds, 1e-6):,.0f}/s)" + (", cached" if e.get("is_cached") else "")


def _probe(e: Mapping[str, Any], seconds: float) -> str:
    if e.get("is_constant"):
        return "constant prediction for all images: add images of each class"
    methods = " + ".join({"ridge": "ridge", "lda": "LDA", "logistic": "logistic regression"}[m] for m in e["methods"])
    where = "the last stage" if e["num_blocks"] == 1 else f"the last {e['num_blocks']} stages"
    protocol = {"leave_one_out": "LOO", "leave_one_group_out": "LOGO"}.get(e["protocol"], "cross-validated")
    return f"{methods} on {where}; {protocol} log-loss {e['log_loss']:.3f}"


def _strategy(e: Mapping[str, Any]) -> str:
    return {
        "head": "new head",
        "finetune": f"fine-tuning from {e['train_from']}",
        "full": "full fine-tuning",
        "scratch": "from random weights",
    }[e["strategy"]]


def _plan(e: Mapping[str, Any]) -> str:
    """Return the training configuration for the log."""
    rates = f"lr {e['lr']:g}" + (f" (head {e['head_lr']:g})" if "head_lr" in e else "")
    parts = [
        _strategy(e) + (f" ({e['num_parameters']:,} parameters)" if "num_parameters" in e else ""),
        f"{count(e['num_epochs'], 'epoch')} of {count(e['num_images'], 'image')}",
        f"batch size {e['batch_size']}",
        f"{e['optimizer']} with {rates}, {e['schedule']} schedule",
    ]
    if e.get("cache_bytes"):
        parts.append(f"{count(e['num_views'], 'cached view')} per image ({e['cache_bytes'] / 1e6:,.1f} MB)")
    if e.get("expected_seconds") is not None:
        parts.append(f"about {duration(e['expected_seconds'])}")
    return ", ".join(parts)


def _train(e: Mapping[str, Any], seconds: float) -> str:
    text = f"{_strategy(e)}: {count(e['num_epochs'], 'epoch')} in {duration(e.get('train_seconds', seconds))}"
    if e.get("verdict") is None:
        return text
    verdict = e["verdict"] if e["is_kept"] else "probe kept"
    return f"{text}; log-loss {e['log_loss']:.3f}, probe {e['probe_log_loss']:.3f} ({verdict})"


def _final_training(e: Mapping[str, Any], seconds: float) -> str:
    return f"{count(e['num_epochs'], 'epoch')} of all {count(e['num_images'], 'training image')}"


def _pilot(e: Mapping[str, Any], seconds: float) -> str:
    views = "images without augmentation" if e["augment"] == "none" else "augmented images"
    gain = signed(-e["log_loss_gain"], 4)
    return f"from {e['train_from']}, lr {e['lr']:g}, {views}: log-loss {gain} against the probe"


def _download(e: Mapping[str, Any], seconds: float) -> str:
    return f"{e['backbone']} `{e['weights']}` downloaded in {duration(seconds)}; license {e['license'] or 'not stated'}"


def _predict(e: Mapping[str, Any], seconds: float) -> str:
    done = e["num_images"] - e["num_failed"]
    text = f"{done:,} of {count(e['num_images'], 'image')}" if e["num_failed"] else count(done, "image")
    if "num_boxes" in e:
        text += f", {count(e['num_boxes'], 'box')}"
    return f"{text} in {duration(seconds)} ({e['num_images'] / max(seconds, 1e-6):,.0f}/s)"


_STAGES: Mapping[Stage, tuple[str, Callable[[Mapping[str, Any], float], str | None]]] = {
    Stage.DOWNLOAD: ("Weights", _download),
    Stage.FEATURES: ("Features", _features),
    Stage.PREDICT: ("Predicted", _predict),
    Stage.PROBE: ("Probe", _probe),
    Stage.TRAIN: ("Training", _train),
    Stage.FINAL_TRAINING: ("Training", _final_training),
    Stage.PILOT: ("Pilot", _pilot),
}
