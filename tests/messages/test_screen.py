"""Test the number, length and contents of screen lines."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest
from test_findings import EXAMPLES
from test_notes import EXAMPLES as NOTES
from test_reading import EVIDENCE as READINGS
from test_scores import PLAIN

from headstart.events import (
    CheckFinished,
    DatasetRead,
    DecisionMade,
    EpochFinished,
    Event,
    EventStream,
    FileWritten,
    FindingMade,
    Note,
    Progress,
    RunFinished,
    ScoreMeasured,
    Stage,
    StageFinished,
    StageStarted,
)
from headstart.messages.files import shell_path
from headstart.messages.screen import LINE_WIDTH, Screen, Verbosity
from headstart.messages.summaries import AnyFinding
from headstart.types.codes import (
    DecisionReason,
    Evidence,
    Finding,
    FindingKind,
    NoteKind,
    ReadingKind,
    ReadingNote,
    Severity,
)
from headstart.types.records import Decision

FITTED = {"log_loss": 0.0197, "protocol": "leave_one_out"}


def training_events(findings: int = 0) -> list[Event]:
    """Return the events of a training."""
    small = [
        FindingMade(
            Finding(
                FindingKind.CLASS_TOO_SMALL,
                Severity.WARNING,
                {"class": f"class {i} with a very long name indeed", "count": 3, "minimum": 10, "unit": "images"},
            )
        )
        for i in range(findings)
    ]
    names = tuple(f"class {i}" for i in range(300))
    return [
        DatasetRead("photos", "class folders", 2527, names, {"train": 1768, "val": 328, "test": 431}),
        *small,
        CheckFinished("photos", 2527),
        DecisionMade(Decision("probe.temperature", 1.04, DecisionReason.TEMPERATURE_FITTED, evidence=FITTED)),
        *(Progress(Stage.FEATURES, i, 2527, "image", float(i)) for i in range(0, 2527, 200)),
        StageFinished(
            Stage.FEATURES,
            17.0,
            {"backbone": "efficientnet_lite0", "width": 224, "height": 224, "num_computed": 2527, "num_cached": 0},
        ),
        ScoreMeasured(PLAIN),
        RunFinished(19.0, "runs/train1", (("headstart predict runs/train1 NEW_IMAGES", None),)),
    ]


def shown(
    events: list[Event], verbosity: Verbosity = Verbosity.NORMAL, details: str | None = "headstart check photos"
) -> list[str]:
    out = io.StringIO()
    screen = Screen(out, verbosity=verbosity, details=details)
    for event in events:
        screen(event)
    screen.close()
    return [line for line in out.getvalue().splitlines() if "left" not in line]


@pytest.mark.parametrize("findings", [0, 1, 300])
def test_at_most_twelve_lines_of_a_hundred_characters(findings: int) -> None:
    lines = shown(training_events(findings))
    assert len(lines) <= 12
    assert max(map(len, lines)) <= LINE_WIDTH


def test_findings_are_counted_by_kind() -> None:
    checks = [line for line in shown(training_events(300)) if line.startswith("Checks")]
    assert len(checks) == 1
    assert "300" in checks[0]


def test_quiet_shows_the_score_only() -> None:
    lines = shown(training_events(300), Verbosity.QUIET)
    assert len(lines) == 2
    assert "1,278/1,380" in lines[0]


def test_verbose_shows_each_decision() -> None:
    assert not any("probe.temperature" in line for line in shown(training_events()))
    assert any("probe.temperature" in line for line in shown(training_events(), Verbosity.VERBOSE))


def test_names_with_control_characters_stay_on_one_line() -> None:
    lines = shown([DatasetRead("a\nb", "class\nfolders", 2)])
    assert len(lines) == 1


def test_failing_listener_raises() -> None:
    def broken(event: Event) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        EventStream([broken]).emit(CheckFinished("x", 1))


class Terminal(io.StringIO):
    """Stream that reports to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "verbosity", "is_shown"),
    [
        (io.StringIO, Verbosity.NORMAL, False),
        (io.StringIO, Verbosity.VERBOSE, True),
        (Terminal, Verbosity.NORMAL, True),
        (Terminal, Verbosity.QUIET, False),
    ],
)
def test_epochs_are_live_on_terminal_only(stream: type[io.StringIO], verbosity: Verbosity, is_shown: bool) -> None:
    out = stream()
    screen = Screen(out, verbosity=verbosity)
    for epoch in range(1, 4):
        screen(EpochFinished("fold1", epoch, 3, {"train_loss": 0.5, "val_loss": 0.4, "lr": 0.1, "duration_s": 1.0}))
    screen.close()
    assert ("3/3" in out.getvalue()) == is_shown


TRAINING = {
    "strategy": "finetune", "train_from": "stage6", "num_epochs": 10, "num_images": 900, "batch_size": 32,
    "optimizer": "adamw", "lr": 3e-4, "schedule": "cosine",
}  # fmt: skip
COMPARED = {"verdict": "undecided", "log_loss": 0.31, "probe_log_loss": 0.32, "is_kept": True}
FROZEN = {"backbone": "efficientnet_lite0", "width": 224, "height": 224, "num_computed": 2527, "num_cached": 0}
PROBE = {"methods": ["ridge", "lda", "logistic"], "num_blocks": 4, "log_loss": 0.3, "protocol": "leave_one_out"}
LONG = "a very long name of a class or file with many words " * 3
SHARE = {"value": 0.9, "low": 0.8, "high": 0.95}
OF_CLASSES = {
    **PLAIN, "positive": LONG, "roc_auc": SHARE, "sensitivity": SHARE, "specificity": SHARE,
    "leaky": {**SHARE, "num_leaks": 12},
}  # fmt: skip
OF_BOXES = {
    "metric": "map50", **SHARE, "protocol": "test_split", "is_users_split": True, "map50_95": 0.5,
    "num_images": 400, "num_boxes": 900, "by_size": {"small": 0.1, "medium": 0.3, "large": 0.8}, "per_class": [],
    "hardest_class": {"name": LONG, "ap50": 0.1},
}  # fmt: skip


def long_findings() -> list[AnyFinding]:
    """Return findings of many kinds about many classes."""
    few: Evidence = {"count": 3, "minimum": 10, "unit": "images"}
    of_class = (FindingKind.CLASS_NOT_IN_TEST, FindingKind.CLASS_WITHOUT_IMAGES, FindingKind.CLASS_IN_ONE_GROUP)
    return [
        *(ReadingNote(kind, 3, (LONG,), evidence) for kind, evidence in READINGS.items()),
        *(Finding(FindingKind.CLASS_TOO_SMALL, Severity.WARNING, {**few, "class": f"{LONG}{i}"}) for i in range(300)),
        *(Finding(kind, Severity.ERROR, {"class": LONG}) for kind in of_class),
    ]


def long_training_events(*, has_boxes: bool) -> list[Event]:
    """Return the events of a fine-tuning or detector run with many findings."""
    names = tuple(f"{LONG}{i}" for i in range(300))
    urgent = (NoteKind.RUN_RESUMABLE, NoteKind.STOP_REQUESTED)
    notes = [Note(kind, Severity.WARNING, NOTES[kind]) for kind in NoteKind if kind not in urgent]
    predict = "headstart predict runs/train1"
    return [
        DatasetRead("photos", "class folders", 2527, names, {"train": 1768, "test": 431}),
        *map(FindingMade, long_findings()),
        CheckFinished(LONG, 2527),
        *([] if has_boxes else [StageFinished(Stage.FEATURES, 17.0, FROZEN), StageFinished(Stage.PROBE, 1.0, PROBE)]),
        *notes[: len(notes) // 2],
        StageStarted(Stage.TRAIN, TRAINING),
        *(EpochFinished("fold1", i, 10, {"train_loss": 0.5}) for i in range(1, 11)),
        StageFinished(Stage.TRAIN, 100.0, TRAINING | ({} if has_boxes else COMPARED)),
        *notes[len(notes) // 2 :],
        ScoreMeasured(OF_BOXES if has_boxes else OF_CLASSES),
        FileWritten("report", "runs/train1/report.html"),
        RunFinished(190.0, "runs/train1", ((f"{predict} NEW_IMAGES", None), (f"{predict}/probe IMAGES", "the probe"))),
    ]


@pytest.mark.parametrize("has_boxes", [False, True])
def test_long_training_has_at_most_twelve_lines(has_boxes: bool) -> None:
    lines = shown(long_training_events(has_boxes=has_boxes))
    assert all(line.count("`") % 2 == 0 and not re.search(r"[^ .]\.\.\.$", line) for line in lines), "\n".join(lines)
    assert len(lines) <= 12
    assert max(map(len, lines)) <= LINE_WIDTH
    labels = {line[:10].strip() for line in lines}
    assert labels >= {"Dataset", "Read", "Checks", "Training", "Test" if has_boxes else "Score", "Saved", "Next"}
    assert has_boxes or labels >= {"Features", "Probe"}
    assert max(map(len, shown(long_training_events(has_boxes=has_boxes), Verbosity.QUIET))) <= LINE_WIDTH


def test_deferred_note_is_shown_at_the_end() -> None:
    note = Note(NoteKind.TRAINING_STOPPED, Severity.WARNING, NOTES[NoteKind.TRAINING_STOPPED])
    reads = [e for e in long_training_events(has_boxes=True) if not isinstance(e, (Note, EpochFinished))]
    with_note = shown([*reads[:-4], note, *reads[-4:]])
    assert any("3/50" in line for line in with_note)
    assert len(with_note) <= 12


@pytest.mark.parametrize(
    "folder", ["runs/train1", "a folder/with 'quotes' & blanks/train1", "long name/" * 12 + "train1"]
)
def test_commands_can_be_copied(folder: str) -> None:
    command = f"headstart predict {shell_path(folder)} NEW_IMAGES"
    lines = shown(
        [
            FindingMade(Finding(FindingKind.NARROW_CROP, Severity.WARNING, {"crop": 0.4, "cover": 0.5})),
            CheckFinished(folder, 20),
            Note(NoteKind.RUN_RESUMABLE, Severity.WARNING, {"run": folder}),
            Note(NoteKind.REPORT_NOT_WRITTEN, Severity.WARNING, {"run": folder, "reason": "the disk is full"}),
            RunFinished(1.0, "runs/train1", ((command, "a comment"),)),
        ],
        details=None,
    )
    for words in (
        ["headstart", "check", folder],
        ["headstart", "resume", folder],
        ["headstart", "report", folder],
        ["headstart", "predict", folder, "NEW_IMAGES"],
    ):
        (line,) = [line for line in lines if " ".join(words[:2]) in line]
        assert shlex.split(line[line.index("headstart") :], comments=True) == words
        assert len(line) <= LINE_WIDTH or line.endswith(("train1'", "train1' NEW_IMAGES"))


def test_command_has_the_shorter_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell_path(tmp_path / "runs" / "train 1") == "'runs/train 1'"


def test_crowded_check_loses_no_problem() -> None:
    """Three lines about reading and four kinds of problems: each is named, the data problems by number."""
    pair = ["test/a.jpg", "train/b.jpg"]
    problems = (
        (FindingKind.LEAKING_IMAGES, {"split": "test", "other_split": "train", "count": 9, "pairs": [pair]}),
        (FindingKind.LABEL_CONFLICTS, {"count": 4, "pairs": [["a.jpg", "x", "b.jpg", "y"]]}),
        (FindingKind.UNREADABLE_FILES, {"problem": "empty", "count": 900, "examples": ["a.jpg"], "detail": "empty"}),
        (FindingKind.CLASS_IMBALANCE, EXAMPLES[FindingKind.CLASS_IMBALANCE]),
    )
    story = [
        event for event in long_training_events(has_boxes=False) if not isinstance(event, (FindingMade, CheckFinished))
    ]
    reading = [
        ReadingNote(ReadingKind.CLASSES_ALIKE, 1, ("Cat", "cat"), {"groups": [["Cat", "cat"]]}),
        ReadingNote(ReadingKind.UNLABELED_IMAGES, 31, ("loose.jpg",), {"folders": {"./": 31}}),
        ReadingNote(ReadingKind.IMAGES_NOT_IN_TABLE, 12, ("a.jpg",), READINGS[ReadingKind.IMAGES_NOT_IN_TABLE]),
    ]
    findings = [Finding(kind, Severity.WARNING, evidence) for kind, evidence in problems]
    checks = [*map(FindingMade, (*reading, *findings)), CheckFinished("photos", 2527)]
    lines = shown([story[0], *checks, *story[1:]])
    assert len(lines) <= 12
    assert max(map(len, lines)) <= LINE_WIDTH
    first = next(i for i, line in enumerate(lines) if line.startswith("Checks"))
    assert sum(line.startswith("Read") for line in lines) == 1
    assert first == 4
    assert lines[first].split(None, 1)[1] == "9 leaks, 4 conflicts, 900 unreadable files, imbalance 400:1"
