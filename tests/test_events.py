"""Test the event stream: order, JSON, throttling and cancelling."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from headstart.errors import CancelledError
from headstart.events import (
    CancelToken,
    DecisionMade,
    Event,
    EventStream,
    FindingMade,
    JsonLines,
    Progress,
    Stage,
    StageFinished,
    StageStarted,
    event_to_json,
)
from headstart.types.codes import DecisionReason, Finding, FindingKind, Severity
from headstart.types.records import Decision


def test_events_reach_every_listener_in_order() -> None:
    received: list[Event] = []
    stream = EventStream([received.append])
    with stream.stage(Stage.FEATURES, backbone="x") as evidence:
        evidence["num_computed"] = 3
    assert [type(e) for e in received] == [StageStarted, StageFinished]
    assert received[1].evidence == {"backbone": "x", "num_computed": 3}  # type: ignore[attr-defined]


def test_json_holds_codes_and_plain_numbers() -> None:
    decision = Decision(
        "probe.temperature", np.float32(1.5), DecisionReason.TEMPERATURE_FITTED, evidence={"loss": float("nan")}
    )
    value = event_to_json(DecisionMade(decision))
    assert value["type"] == "decision"
    assert value["decision"]["value"] == 1.5
    assert value["decision"]["evidence"] == {"loss": None}
    finding = event_to_json(FindingMade(Finding(FindingKind.SINGLE_CLASS, Severity.ERROR, {"class": "a"})))
    assert finding["finding"]["kind"] == "single_class"
    assert json.loads(json.dumps(value))


def test_json_lines_with_unusual_names() -> None:
    out = io.StringIO()
    stream = EventStream([JsonLines(out)])
    stream.report(Finding(FindingKind.SINGLE_CLASS, Severity.ERROR, {"class": "a\nb\udce9"}))
    stream.report(Finding(FindingKind.SINGLE_CLASS, Severity.ERROR, {"class": "c"}))
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [r["finding"]["evidence"]["class"] for r in rows] == ["a\nb\udce9", "c"]


def test_progress_is_throttled_except_last() -> None:
    received: list[Event] = []
    report = EventStream([received.append]).progress(Stage.FEATURES, pause=100.0)
    for done in range(1, 1001):
        report(done, 1000)
    assert [e.done for e in received if isinstance(e, Progress)] == [1000]


def test_progress_states_rate_and_time_left() -> None:
    event = Progress(Stage.FEATURES, 200, 1000, "image", 4.0)
    assert event.rate == pytest.approx(50.0)
    assert event.remaining_seconds == pytest.approx(16.0)
    assert Progress(Stage.FEATURES, 0, 10, "image", 1.0).remaining_seconds is None


def test_cancelled_pipeline_stops_at_next_progress() -> None:
    token = CancelToken()
    stream = EventStream(cancel=token)
    report = stream.progress(Stage.FEATURES)
    report(1, 10)
    token.cancel()
    with pytest.raises(CancelledError) as caught:
        report(2, 10)
    assert caught.value.exit_code == 130
