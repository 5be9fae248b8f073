"""Test that a run folder reproduces the events of its screen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import headstart
from headstart.errors import UsageError
from headstart.events import CheckFinished, DatasetRead, Event, FindingMade, RunFinished, ScoreMeasured, event_to_json
from headstart.reports.run_story import read_story
from headstart.types.codes import Finding, FindingKind, ReadingKind, ReadingNote, Severity

SCORE = {"task": "classify", "metric": "accuracy", "value": 0.5}
STORY: list[Event] = [
    DatasetRead("photos", "class folders", 9, ("a", "b"), {"train": 5, "test": 4}),
    FindingMade(ReadingNote(ReadingKind.EMPTY_FOLDERS, 2, ("c", "d"))),
    FindingMade(Finding(FindingKind.CLASS_TOO_SMALL, Severity.WARNING, {"class": "a", "count": 3})),
    CheckFinished("photos", 9),
    ScoreMeasured(SCORE),
]


def write(folder: Path, events: list[Event]) -> None:
    lines = [json.dumps(event_to_json(event)) for event in events]
    (folder / "events.jsonl").write_text("\n".join([*lines, '{"type": "of a later version"}', "{"]), encoding="utf-8")


def test_events_are_read_back(tmp_path: Path) -> None:
    write(tmp_path, STORY)
    assert read_story(tmp_path, {}) == (*STORY, RunFinished(0.0, str(tmp_path)))


def test_resumed_run_reports_data_once(tmp_path: Path) -> None:
    write(tmp_path, [*STORY[:3], *STORY])
    assert read_story(tmp_path, {})[:-1] == tuple(STORY)


def test_story_without_events(tmp_path: Path) -> None:
    assert read_story(tmp_path, {"num_boxes": 4, "duration_s": {"total": 3.0}}) == (RunFinished(3.0, str(tmp_path)),)


def test_folder_without_run_has_repr_and_error(tmp_path: Path) -> None:
    run = headstart.Run(tmp_path / "nothing")
    assert "nothing" in repr(run)
    with pytest.raises(UsageError):
        _ = run.score
