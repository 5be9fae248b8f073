"""Render what was read and what each stage did: one line each on the screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.events import DatasetRead, EpochFinished, Progress, Stage, StageFinished
from headstart.messages.numbers import percent
from headstart.messages.values import count, duration, plural

__all__ = ["dataset_message", "epoch_message", "progress_message", "stage_line"]

_PROGRESS = {
    Stage.SCAN: "Scanning",
    Stage.FEATURES: "Features",
    Stage.MIRRORED_FEATURES: "Features (flipped)",
    Stage.CHECK: "Checking",
    Stage.VIEWS: "Augmented views",
    Stage.TRAIN: "Training",
    Stage.FINAL_TRAINING: "Final training",
    Stage.EVALUATE: "Evaluating",
    Stage.PREDICT: "Predicting",
    Stage.DOWNLOAD: "Downloading",
}


def dataset_message(event: DatasetRead) -> str:
    """Return e.g. `2,527 images, 6 classes; class folders with train/val/test (1,768/328/431)`."""
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
    if event.splits:
        text += f" with {'/'.join(event.splits)} ({'/'.join(f'{n:,}' for n in event.splits.values())})"
    return text


def epoch_message(event: EpochFinished) -> str:
    """Return one line about an epoch: losses and accuracies."""
    m = event.metrics
    text = f"{event.phase} epoch {event.epoch}/{event.num_epochs}: train loss {m.get('train_loss', float('nan')):.3f}"
    for key, name in (("val_loss", "val loss"), ("val_map50", "val mAP50")):
        if m.get(key) is not None:
            text += f", {name} {m[key]:.3f}"
    if m.get("val_accuracy") is not None:
        text += f", val accuracy {percent(m['val_accuracy'])}"
    seconds = m.get("duration_s")
    return text if seconds is None else f"{text}, {duration(seconds)}"


def progress_message(event: Progress) -> str:
    """Return e.g. `Features: 440/2,093 images, 41/s, 40 s left`."""
    text = f"{_PROGRESS.get(event.stage, event.stage.value)}: {event.done:,}/{event.total:,} {plural(event.unit)}"
    if event.seconds_left is not None:
        text += f", {event.rate:,.0f}/s, {duration(event.seconds_left)} left"
    return text


def stage_line(event: StageFinished) -> tuple[str, str] | None:
    """Return the label and the text of a finished stage; None for stages that have no line of their own."""
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
        return "nothing learned: every image gets the same prediction; add images of each class"
    methods = " + ".join({"ridge": "ridge", "lda": "LDA", "logistic": "logistic regression"}[m] for m in e["methods"])
    where = "the last stage" if e["num_blocks"] == 1 else f"the last {e['num_blocks']} stages"
    protocol = {"leave_one_out": "LOO", "leave_one_group_out": "LOGO"}.get(e["protocol"], "cross-validated")
    return f"{methods} on {where}; {protocol} log-loss {e['log_loss']:.3f}"


def _train(e: Mapping[str, Any], seconds: float) -> str:
    text = f"{e['strategy']}"
    if e.get("train_from"):
        text += f" from {e['train_from']}"
    text += f": {count(e['num_epochs'], 'epoch')} in {duration(seconds)}"
    if e.get("log_loss") is not None and e.get("probe_log_loss") is not None:
        kept = {"better": "kept", "worse": "probe kept", "undecided": "not better"}.get(e.get("verdict", ""), "")
        text += f"; log-loss {e['log_loss']:.3f}, probe {e['probe_log_loss']:.3f}" + (f" ({kept})" if kept else "")
    return text


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
    Stage.FINAL_TRAINING: ("Training", _train),
}
