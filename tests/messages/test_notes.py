"""Every kind of note has a message that fits on one line of the screen."""

from __future__ import annotations

import io
import json

import pytest

from headstart.events import Note, event_to_json
from headstart.messages.log import event_lines
from headstart.messages.notes import note_message
from headstart.messages.screen import LABEL_WIDTH, LINE_WIDTH, Screen, Verbosity
from headstart.types import Evidence, NoteKind, Severity

EXAMPLES: dict[NoteKind, Evidence] = {
    NoteKind.COVERAGE_NOT_KEPT: {"asked": 0.93, "used": 0.95},
    NoteKind.DATA_MOVED: {},
    NoteKind.IMAGES_MISSING: {"count": 3, "total": 40},
    NoteKind.LABELS_CHANGED: {},
    NoteKind.REPORT_NOT_WRITTEN: {"reason": "the disk is full", "run": "runs/train1"},
    NoteKind.RUN_WITHOUT_DATA_PATH: {},
    NoteKind.RUN_WITHOUT_PREDICTIONS: {"file": "predictions.csv"},
    NoteKind.RUN_WITHOUT_SCORES: {},
    NoteKind.RUN_WITHOUT_SETTINGS: {"file": "config.resolved.yaml"},
    NoteKind.FEATURES_NOT_CACHED: {"reason": "the disk is full"},
    NoteKind.NO_BACKBONE_FOR_CHECK: {"reason": "its weights are missing"},
    NoteKind.NO_COPIES_TO_DRAW: {"path": "pairs.png"},
    NoteKind.TEXT: {"text": "anything"},
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
def test_severity_says_when_a_note_is_shown(severity: Severity, least: Verbosity) -> None:
    note = Note(NoteKind.FEATURES_NOT_CACHED, severity, EXAMPLES[NoteKind.FEATURES_NOT_CACHED])
    for verbosity in Verbosity:
        assert len(shown(note, verbosity)) == (verbosity >= least)
    assert event_lines(note)
