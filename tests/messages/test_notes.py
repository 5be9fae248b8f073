"""Test that every kind of note has a message of one line."""

from __future__ import annotations

import io
import json

import pytest

from headstart.events import Note, event_to_json
from headstart.messages.log import event_lines
from headstart.messages.notes import note_message
from headstart.messages.screen import LABEL_WIDTH, LINE_WIDTH, Screen, Verbosity
from headstart.types.codes import Evidence, NoteKind, Severity

EXAMPLES: dict[NoteKind, Evidence] = {
    NoteKind.COVERAGE_NOT_KEPT: {"requested": 0.93, "used": 0.95},
    NoteKind.DATA_MOVED: {},
    NoteKind.IMAGES_MISSING: {"count": 3, "total": 40},
    NoteKind.LABELS_CHANGED: {},
    NoteKind.RUN_WITHOUT_DATA_PATH: {},
    NoteKind.RUN_WITHOUT_PREDICTIONS: {"file": "predictions.csv"},
    NoteKind.RUN_WITHOUT_SETTINGS: {"file": "config.resolved.yaml"},
    NoteKind.NO_BACKBONE_FOR_CHECK: {"reason": "its weights are missing"},
    NoteKind.NO_DUPLICATES_TO_DRAW: {"path": "pairs.png"},
    NoteKind.BOX_SIZES: {"width": 416, "height": 416, "num_boxes": {"0-8": 12, "8-16": 40}},
    NoteKind.CACHE_NOT_WRITTEN: {"what": "decoded images", "reason": "no space left on device"},
    NoteKind.DATASET_SPLIT: {
        "source": "file",
        "reason": "given",
        "num_images": {"train": 2000, "val": 300, "test": 431},
        "num_missing": 9,
    },
    NoteKind.FINE_TUNING_SKIPPED: {"why": "budget", "remaining_seconds": 12.3},
    NoteKind.RESIZE_MODE_NOT_MEASURED: {"resize_mode": "crop"},
    NoteKind.OVERFITTING: {"phase": "fold1", "epoch": 3, "min_val_loss": 0.21, "last_val_loss": 0.9},
    NoteKind.PROBE_NOT_WORSE: {"is_probe_better": False, "probe": "a/very/long/path/to/runs/train12/probe"},
    NoteKind.REPORT_NOT_WRITTEN: {"reason": "a long reason " * 9, "run": "a/very/long/path/to/runs/train12"},
    NoteKind.RUN_RESUMABLE: {"run": "runs/train12"},
    NoteKind.SPEED_MEASURED: {"train_from": "stage6", "image_seconds": 0.0101, "view_seconds": 0.0123},
    NoteKind.STOP_REQUESTED: {},
    NoteKind.TRAINING_DIVERGED: {"phase": "fold1", "epoch": 12, "setting": "finetune.head_lr", "lr": 0.00033},
    NoteKind.TRAINING_RESUMED: {"phase": "finetune-stage6-fold1", "step": 1200, "num_steps": 12000},
    NoteKind.TRAINING_STOPPED: {"epoch": 3, "num_epochs": 50},
}


def test_every_kind_has_an_example() -> None:
    assert set(EXAMPLES) == set(NoteKind)


@pytest.mark.parametrize("kind", NoteKind)
def test_every_kind_has_a_message_of_one_line(kind: NoteKind) -> None:
    text = note_message(Note(kind, Severity.INFO, EXAMPLES[kind]))
    assert 0 < len(text) <= LINE_WIDTH - LABEL_WIDTH
    assert text.isprintable()
    assert json.loads(json.dumps(event_to_json(Note(kind, Severity.INFO, EXAMPLES[kind]))))["kind"] == kind.value


def shown(note: Note, verbosity: Verbosity) -> list[str]:
    out = io.StringIO()
    Screen(out, verbosity=verbosity)(note)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("severity", "least"), [(Severity.INFO, Verbosity.VERBOSE), (Severity.WARNING, Verbosity.NORMAL)]
)
def test_severity_decides_visibility(severity: Severity, least: Verbosity) -> None:
    note = Note(NoteKind.CACHE_NOT_WRITTEN, severity, EXAMPLES[NoteKind.CACHE_NOT_WRITTEN])
    for verbosity in Verbosity:
        assert len(shown(note, verbosity)) == (verbosity >= least)
    assert event_lines(note)
