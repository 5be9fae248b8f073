"""Render notes of a running pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.messages.files import shell_path
from headstart.messages.numbers import percent
from headstart.messages.values import count, names, quote, shorten
from headstart.types.codes import NoteKind, SplitReason
from headstart.types.events import Note

__all__ = ["COMMAND_NOTES", "note_message", "note_to_json"]

COMMAND_NOTES = frozenset({NoteKind.REPORT_NOT_WRITTEN, NoteKind.RUN_RESUMABLE})
"""Notes that end with a command to copy, so they are never cut."""


def note_message(note: Note) -> str:
    """Return one lower-case sentence without a full stop, at most 90 characters with short names."""
    return _MESSAGES[note.kind](note.evidence)


def note_to_json(note: Note) -> dict[str, Any]:
    """Return kind, severity, evidence and the rendered message."""
    return {
        "kind": note.kind.value,
        "severity": note.severity.value,
        "evidence": dict(note.evidence),
        "message": note_message(note),
    }


def _box_sizes(e: Mapping[str, Any]) -> str:
    parts = [f"{number:,} of {bounds} px" for bounds, number in e["num_boxes"].items()]
    return f"shorter side of boxes at {e['width']} x {e['height']} px: {', '.join(parts)}"


_SPLITS: Mapping[SplitReason, str] = {
    SplitReason.ALL_TRAIN: "no test images, scored out of fold",
    SplitReason.FOLDS: "scored by cross-validation",
    SplitReason.GIVEN: "your own",
    SplitReason.HELD_OUT: "held out by class",
    SplitReason.NOT_SPLIT: "no test images, scored out of fold",
    SplitReason.REPAIR_MOVED: "your own, groups moved",
    SplitReason.REPAIR_REDRAWN: "drawn again",
    SplitReason.TEST_NOT_SCORABLE: "no test image can be scored, scored out of fold",
    SplitReason.VAL_IS_SCORED: "your own, the validation images are scored",
}


def _split(e: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name} {number:,}" for name, number in e["num_images"].items())
    text = f"split ({_SPLITS[SplitReason(e['reason'])]}): {text}"
    if e.get("num_missing"):
        text += f"; {count(e['num_missing'], 'listed image')} missing"
    if e.get("num_not_listed"):
        text += f"; {count(e['num_not_listed'], 'unlisted image')} excluded"
    if e.get("unscorable_classes"):
        text += f"; one group each, not scored: {names(e['unscorable_classes'], shown=3)}"
    return text


_SKIPPED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "budget": lambda e: f"{e['remaining_seconds']:.0f} s left of the budget, too short; the probe is kept",
    "no_gain": lambda e: "no pilot beats the probe; the probe is kept",
}

_MESSAGES: Mapping[NoteKind, Callable[[Mapping[str, Any]], str]] = {
    NoteKind.BOX_SIZES: _box_sizes,
    NoteKind.CACHE_NOT_WRITTEN: lambda e: f"{e['what']} could not be cached ({e['reason']}); results are unaffected",
    NoteKind.COVERAGE_NOT_KEPT: lambda e: (
        f"the model has no prediction sets at {percent(e['requested'], 0)}; those at {percent(e['used'], 0)} are used"
    ),
    NoteKind.DATASET_SPLIT: _split,
    NoteKind.DATA_MOVED: lambda e: (
        "the data are not at the path of the run: no images in the report (set --data FOLDER)"
    ),
    NoteKind.FINE_TUNING_SKIPPED: lambda e: f"no fine-tuning: {_SKIPPED[e['why']](e)}",
    NoteKind.RESIZE_MODE_NOT_MEASURED: lambda e: (
        f"--resize-mode auto cannot be measured on these images: {e['resize_mode']} is used"
    ),
    NoteKind.IMAGES_MISSING: lambda e: (
        f"{e['count']:,} of {count(e['total'], 'image')} of the report cannot be opened (moved, renamed or deleted)"
    ),
    NoteKind.LABELS_CHANGED: lambda e: "labels changed since the run: errors shown on images differ from the metrics",
    NoteKind.NO_BACKBONE_FOR_CHECK: lambda e: (
        f"duplicates are confirmed by pixels only, without features: {e['reason']}"
    ),
    NoteKind.NO_DUPLICATES_TO_DRAW: lambda e: f"no duplicates found: {quote(e['path'])} is not drawn",
    NoteKind.OVERFITTING: lambda e: (
        f"overfitting in {e['phase']}: val loss {e['min_val_loss']:.3f} after epoch {e['epoch']}, "
        f"{e['last_val_loss']:.3f} at the end"
    ),
    NoteKind.PROBE_NOT_WORSE: lambda e: (
        f"the probe is {'better' if e['is_probe_better'] else 'not clearly worse'} (saved in "
        f"{shorten(e['probe'], 24)}); use --select best"
    ),
    NoteKind.REPORT_NOT_WRITTEN: lambda e: (
        f"no report ({shorten(str(e['reason']), 20)}), try: headstart report {shell_path(e['run'])}"
    ),
    NoteKind.RUN_RESUMABLE: lambda e: f"resume with: headstart resume {shell_path(e['run'])}",
    NoteKind.RUN_WITHOUT_DATA_PATH: lambda e: "the run has no data path: no images in the report",
    NoteKind.RUN_WITHOUT_PREDICTIONS: lambda e: f"the run has no readable {e['file']}: no single images in the report",
    NoteKind.RUN_WITHOUT_SETTINGS: lambda e: f"the run has no readable {e['file']}: no settings in the report",
    NoteKind.SPEED_MEASURED: lambda e: (
        f"training from {e['train_from']}: {1e3 * e['image_seconds']:.1f} ms per image and epoch, "
        f"{1e3 * e['view_seconds']:.1f} ms per view"
    ),
    NoteKind.STOP_REQUESTED: lambda e: "stopping after the current step; press Ctrl-C again to abort",
    NoteKind.TRAINING_DIVERGED: lambda e: (
        f"{e['phase']} diverged in epoch {e['epoch']}: the last good weights are kept; try {e['setting']}={e['lr']:.2g}"
    ),
    NoteKind.TRAINING_RESUMED: lambda e: f"{e['phase']} continues at step {e['step']:,}/{e['num_steps']:,}",
    NoteKind.TRAINING_STOPPED: lambda e: (
        f"stopped in epoch {e['epoch']}/{e['num_epochs']}: the current model is saved and evaluated"
    ),
}
