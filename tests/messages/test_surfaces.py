"""Test the output of each command on large and bad data: at most 12 lines of 100 characters, required values.

`HEADSTART_UPDATE_SNAPSHOTS=1 pytest tests/messages/test_surfaces.py` rewrites the snapshots.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from stories import STORIES

from headstart.events import Progress
from headstart.messages.objects import story_html, story_lines
from headstart.messages.screen import LINE_WIDTH, Screen, Verbosity

SNAPSHOTS = Path(__file__).parent / "snapshots"
MOST = 12
DETAILS = {"train": None, "check": "-v or --json -", "evaluate": "-v", "compare": "-v", "predict": "-v", "detect": "-v"}
NEEDED = {
    "train": ["2,500 images", "300 classes", "31 images", "9 leaks", "4 conflicts", "900 unreadable files",
              "headstart check", "88.6 %", "378/416", "95 % CI", "test split", "majority 35.6 %", "1-NN 83.0 %",
              "9 leaking images", "runs/train1", "report.html", "headstart predict runs/train1"],
    "check": ["2,500 images", "31 images", "9 test images", "4 pairs", "900 files", "280 classes", "--json",
              "check.json", "pairs.png", "imbalance", "narrow crop"],
    "evaluate": ["2,500 images", "88.6 %", "378/416", "95 % CI", "majority", "900 files", "-v"],
    "compare": ["better", "425 test images", "p = 0.02", "95 % CI", "12", "23", "900 unreadable", "compare.json",
                "compare.png"],
    "predict": ["1,600 of 2,500 images", "900 files", "113 of 2,500", "predictions.csv", "5 .txt"],
    "detect": ["2,500 images", "9,120 boxes", "71.3 %", "95 % CI", "mAP50-95 44.2 %", "900 files", "-v"],
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(surface: str, verbosity: Verbosity = Verbosity.NORMAL, stream: io.StringIO | None = None) -> list[str]:
    out = io.StringIO() if stream is None else stream
    shown = Screen(out, verbosity=verbosity, details=DETAILS[surface])
    for event in STORIES[surface]:
        if stream is None or not isinstance(event, Progress):  # no bar on the terminal
            shown(event)
    shown.close()
    return [line for line in out.getvalue().splitlines() if "/s, " not in line]  # without progress lines


def check_snapshot(name: str, text: str) -> None:
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("HEADSTART_UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("surface", STORIES)
def test_at_most_twelve_lines_of_a_hundred_characters(surface: str) -> None:
    lines = screen(surface)
    assert len(lines) <= MOST, "\n".join(lines)
    assert max(map(len, lines)) <= LINE_WIDTH
    assert all(line.isprintable() for line in lines)
    assert all(line.count("`") % 2 == 0 and not re.search(r"[^ .]\.\.\.$", line) for line in lines), "\n".join(lines)


@pytest.mark.parametrize("surface", STORIES)
def test_screen_contains_required_values(surface: str) -> None:
    text = "\n".join(screen(surface))
    assert not [part for part in NEEDED[surface] if part not in text], text


@pytest.mark.parametrize("surface", STORIES)
def test_quiet_shows_the_score_only(surface: str) -> None:
    lines = screen(surface, Verbosity.QUIET)
    assert len(lines) <= 4
    assert bool(lines) is (surface != "predict")


@pytest.mark.parametrize("surface", STORIES)
def test_verbose_shows_every_finding(surface: str) -> None:
    text = "\n".join(screen(surface, Verbosity.VERBOSE))
    assert text.count("it cannot be decoded") == 40
    if surface == "evaluate":
        assert text.count("0.500") == 3 * 300


@pytest.mark.parametrize("surface", STORIES)
def test_terminal_shows_same_text(surface: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")  # rich without colors
    assert [line.rstrip() for line in screen(surface, stream=Terminal())] == screen(surface)


@pytest.mark.parametrize("surface", STORIES)
def test_rendered_text(surface: str) -> None:
    check_snapshot(surface, "\n".join(screen(surface)) + "\n")


def test_python_output_equals_screen() -> None:
    lines = story_lines(STORIES["train"])
    page = story_html(STORIES["train"])
    assert page.count("<tr>") == len(lines) <= MOST
    assert "378/416" in page
    check_snapshot("python", "\n".join([*lines, page]) + "\n")
