"""The screen: how many lines, how long, and what must stand on them."""

from __future__ import annotations

import io

import pytest
from test_scores import PLAIN

from headstart.events import (
    CheckFinished,
    DatasetRead,
    DecisionMade,
    EpochFinished,
    Event,
    EventStream,
    FindingMade,
    Progress,
    RunFinished,
    ScoreMeasured,
    Stage,
    StageFinished,
)
from headstart.messages.screen import LINE_WIDTH, Screen, Verbosity
from headstart.records import Decision
from headstart.types import DecisionReason, Finding, FindingKind, Severity

FITTED = {"log_loss": 0.0197, "protocol": "leave_one_out"}


def story(findings: int = 0) -> list[Event]:
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
        DecisionMade(Decision("head.temperature", 1.04, DecisionReason.TEMPERATURE_FITTED, evidence=FITTED)),
        *(Progress(Stage.FEATURES, i, 2527, "image", float(i)) for i in range(0, 2527, 200)),
        StageFinished(
            Stage.FEATURES,
            17.0,
            {"backbone": "efficientnet_lite0", "width": 224, "height": 224, "num_computed": 2527, "num_cached": 0},
        ),
        ScoreMeasured(PLAIN),
        RunFinished(19.0, "runs/train1", (("headstart predict runs/train1 NEW_IMAGES", None),)),
    ]


def shown(events: list[Event], verbosity: Verbosity = Verbosity.NORMAL) -> list[str]:
    out = io.StringIO()
    screen = Screen(out, verbosity=verbosity, details="headstart check photos")
    for event in events:
        screen(event)
    screen.close()
    return [line for line in out.getvalue().splitlines() if "left" not in line]


@pytest.mark.parametrize("findings", [0, 1, 300])
def test_at_most_twelve_lines_of_a_hundred_characters(findings: int) -> None:
    lines = shown(story(findings))
    assert len(lines) <= 12
    assert max(map(len, lines)) <= LINE_WIDTH


def test_findings_are_counted_by_kind() -> None:
    checks = [line for line in shown(story(300)) if line.startswith("Checks")]
    assert len(checks) == 1
    assert "300" in checks[0]


def test_quiet_shows_the_score_only() -> None:
    lines = shown(story(300), Verbosity.QUIET)
    assert len(lines) == 2
    assert "1,278/1,380" in lines[0]


def test_verbose_shows_each_decision() -> None:
    assert not any("head.temperature" in line for line in shown(story()))
    assert any("head.temperature" in line for line in shown(story(), Verbosity.VERBOSE))


def test_names_with_control_characters_stay_on_one_line() -> None:
    lines = shown([DatasetRead("a\nb", "class\nfolders", 2)])
    assert len(lines) == 1


def test_a_failing_listener_does_not_hide_behind_the_stream() -> None:
    def broken(event: Event) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        EventStream([broken]).emit(CheckFinished("x", 1))


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

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
def test_epochs_are_a_live_line_on_a_terminal_and_plain_text_with_verbose_only(
    stream: type[io.StringIO], verbosity: Verbosity, is_shown: bool
) -> None:
    out = stream()
    screen = Screen(out, verbosity=verbosity)
    for epoch in range(1, 4):
        screen(EpochFinished("fold1", epoch, 3, {"train_loss": 0.5, "val_loss": 0.4, "lr": 0.1, "duration_s": 1.0}))
    screen.close()
    assert ("3/3" in out.getvalue()) == is_shown
