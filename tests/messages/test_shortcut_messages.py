"""Test shortcut messages: cue names and optional parts."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest
from event_text import finding_lines

from headstart.messages.shortcuts import CUES, shortcut_message
from headstart.quality.report_findings import dataset_findings
from headstart.quality.shortcuts import _CUES, _LIMITS
from headstart.types.records import DatasetReport, Shortcut


def test_every_cue_has_a_name() -> None:
    assert set(CUES) == set(_CUES) == set(_LIMITS)


@pytest.mark.parametrize("cue", CUES)
@pytest.mark.parametrize("given", [None, "a"])
def test_line_has_no_empty_part(cue: str, given: str | None) -> None:
    share, names = (0.0, ()) if given is None else (0.6, ("a/1.jpg",))
    shortcut = Shortcut(cue, 1.0, 0.5, given, share, (), names)
    text = shortcut_message(asdict(shortcut))
    assert ("`a`" in text) == ("60.0 %" in text) == (given is not None)
    assert "100.0 %" in text
    assert "50.0 %" in text
    (line,) = finding_lines(
        dataset_findings(DatasetReport(2, "class folders", {"a": {"none": 2}}, {}, shortcuts=(shortcut,)))
    )
    assert text in line
    assert ("`a/1.jpg`" in line) == (given is not None)
    assert re.search(r"(?<![\d.])0(\.0)? %", line) is None
