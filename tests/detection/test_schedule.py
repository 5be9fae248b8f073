"""Test the step schedule of a training with and without a deadline."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from headstart.detection.schedule import Deadline, StepSchedule
from headstart.runs.journal import Journal


class FakeClock:
    """Clock advanced by tests only."""

    def __init__(self) -> None:
        self.t = 0.0

    def __call__(self) -> float:
        return self.t


class FakeJournal(Journal):
    """Journal that is not written to a file."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(Path("unused"), values)

    def write(self, name: str, value: Any) -> None:
        self._values[name] = value

    @property
    def changes(self) -> list[dict[str, int]]:
        changes: list[dict[str, int]] = self.read("pace")
        return changes


def walk(
    schedule: StepSchedule, clock: FakeClock, step_s: Callable[[int], float], num_steps: int | None = None
) -> tuple[int, list[float]]:
    """Take steps until the schedule ends them, or `most`; return the number of steps and the progress before each."""
    progress, step = [], 0
    schedule.start()
    while not schedule.is_done(step) and step != num_steps:
        progress.append(schedule.progress(step))
        clock.t += step_s(step)
        step += 1
        schedule.after_step(step)
    schedule.finish(step)
    return step, progress


def timed(
    at: float,
    *,
    reserve_s: float = 20.0,
    step_s: float = 0.1,
    most: int = 10_000,
    replay: Sequence[dict[str, int]] = (),
) -> tuple[StepSchedule, FakeClock, FakeJournal]:
    clock, journal = FakeClock(), FakeJournal({"pace": list(replay)})
    planned = int((at - reserve_s) / step_s)
    schedule = StepSchedule(planned, deadline=Deadline(at, reserve_s, step_s, most), clock=clock, journal=journal)
    return schedule, clock, journal


def test_schedule_without_deadline_is_exact() -> None:
    clock = FakeClock()
    steps, progress = walk(StepSchedule(37, clock=clock), clock, lambda _: 1e6)
    assert steps == 37
    assert progress == [i / 37 for i in range(37)]


@pytest.mark.parametrize("factor", [0.3, 1.0, 3.0, 8.0])
def test_step_duration_moves_end(factor: float) -> None:
    schedule, clock, _ = timed(120.0)
    steps, progress = walk(schedule, clock, lambda _: 0.1 * factor)
    reserve_s = 20.0 * min(max(factor, 1.0), 3.0)  # final steps slow down too
    assert clock.t <= 120.0 - 20.0
    if factor < 8.0:
        assert clock.t >= 0.9 * (120.0 - reserve_s)
        assert steps == pytest.approx((120.0 - reserve_s) / (0.1 * factor), rel=0.1)
    assert all(a < b for a, b in itertools.pairwise(progress))
    assert progress[-1] > 1.0 - 3.0 / steps


def test_slow_steps_shorten_rest() -> None:
    schedule, clock, journal = timed(120.0)
    steps, progress = walk(schedule, clock, lambda step: 0.1 if step < 300 else 0.3)
    assert clock.t <= 100.0
    assert 300 < steps < 700
    assert progress[-1] > 0.98
    assert journal.changes[-1] == {"step": steps, "num_steps": steps}


def test_one_slow_step_is_tolerated() -> None:
    schedule, clock, _ = timed(120.0)
    steps, _ = walk(schedule, clock, lambda step: 3.0 if step == 0 else 0.1)
    assert steps > 900


def test_deadline_holds_in_first_steps() -> None:
    schedule, clock, _ = timed(30.0)
    steps, _ = walk(schedule, clock, lambda _: 4.0)
    assert steps == 2
    assert clock.t <= 10.0


def test_most_steps_is_limit() -> None:
    schedule, clock, _ = timed(1000.0, most=50)
    assert walk(schedule, clock, lambda _: 0.1)[0] == 50


def test_replay_gives_same_schedule() -> None:
    first, clock, journal = timed(120.0)
    steps, progress = walk(first, clock, lambda step: 0.1 + 0.002 * (step % 7) + (0.2 if step > 400 else 0.0))
    again, slow, more = timed(120.0, replay=journal.changes)
    assert walk(again, slow, lambda _: 5.0) == (steps, progress)
    assert more.changes == journal.changes


def test_partial_replay_is_followed() -> None:
    first, clock, journal = timed(120.0)
    _, progress = walk(first, clock, lambda step: 0.1 if step < 300 else 0.3, num_steps=500)
    known = [c for c in journal.changes if c["num_steps"] != c["step"]]
    again, other, more = timed(120.0, replay=known)
    steps, same = walk(again, other, lambda _: 0.15)
    last = known[-1]["step"]
    assert same[:last] == progress[:last]
    assert other.t <= 100.0 + 0.15
    assert more.changes[-1] == {"step": steps, "num_steps": steps}
