"""The pace of a training: its schedule ends where the time does, however long a step takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest

from headstart.detection.schedule import Deadline, ScheduleChange, StepSchedule


class FakeClock:
    """A clock that only tests advance."""

    def __init__(self) -> None:
        self.t = 0.0

    def __call__(self) -> float:
        return self.t


def walk(
    pace: StepSchedule, clock: FakeClock, step_s: Callable[[int], float], num_steps: int | None = None
) -> tuple[int, list[float]]:
    """Take steps until the pace ends them, or so many; the number of steps and the share before each."""
    shares, step = [], 0
    pace.start()
    while not pace.is_done(step) and step != num_steps:
        shares.append(pace.progress(step))
        clock.t += step_s(step)
        step += 1
        pace.after_step(step)
    pace.finish(step)
    return step, shares


def timed(
    at: float,
    *,
    reserve_s: float = 20.0,
    step_s: float = 0.1,
    most: int = 10_000,
    replay: Sequence[ScheduleChange] = (),
) -> tuple[StepSchedule, FakeClock, list[ScheduleChange]]:
    clock, journal = FakeClock(), list[ScheduleChange]()
    planned = int((at - reserve_s) / step_s)
    deadline = Deadline(at, reserve_s, step_s, most)
    pace = StepSchedule(planned, deadline=deadline, clock=clock, record=journal.append, replay=replay)
    return pace, clock, journal


def test_without_a_deadline_the_schedule_is_that_of_the_plan_to_the_last_bit() -> None:
    clock = FakeClock()
    steps, shares = walk(StepSchedule(37, clock=clock), clock, lambda _: 1e6)
    assert steps == 37
    assert shares == [i / 37 for i in range(37)]


@pytest.mark.parametrize("factor", [0.3, 1.0, 3.0, 8.0])
def test_a_step_that_costs_more_or_less_than_planned_moves_the_end_of_the_schedule(factor: float) -> None:
    pace, clock, _ = timed(120.0)
    steps, shares = walk(pace, clock, lambda _: 0.1 * factor)
    reserve_s = 20.0 * min(max(factor, 1.0), 3.0)  # what follows is slower too
    assert clock.t <= 120.0 - 20.0
    if factor < 8.0:
        assert clock.t >= 0.9 * (120.0 - reserve_s)
        assert steps == pytest.approx((120.0 - reserve_s) / (0.1 * factor), rel=0.1)
    assert all(a < b for a, b in itertools.pairwise(shares))
    assert shares[-1] > 1.0 - 3.0 / steps


def test_steps_that_become_slow_midway_shorten_the_rest() -> None:
    pace, clock, journal = timed(120.0)
    steps, shares = walk(pace, clock, lambda step: 0.1 if step < 300 else 0.3)
    assert clock.t <= 100.0
    assert 300 < steps < 700
    assert shares[-1] > 0.98
    assert journal[-1] == ScheduleChange(steps, steps)


def test_one_slow_step_does_not_end_a_training() -> None:
    pace, clock, _ = timed(120.0)
    steps, _ = walk(pace, clock, lambda step: 3.0 if step == 0 else 0.1)
    assert steps > 900


def test_the_last_resort_ends_in_time_even_within_the_first_steps() -> None:
    pace, clock, _ = timed(30.0)
    steps, _ = walk(pace, clock, lambda _: 4.0)
    assert steps == 2
    assert clock.t <= 10.0


def test_more_steps_than_the_most_are_never_taken() -> None:
    pace, clock, _ = timed(1000.0, most=50)
    assert walk(pace, clock, lambda _: 0.1)[0] == 50


def test_the_same_journal_gives_the_same_schedule_on_another_machine() -> None:
    first, clock, journal = timed(120.0)
    steps, shares = walk(first, clock, lambda step: 0.1 + 0.002 * (step % 7) + (0.2 if step > 400 else 0.0))
    again, slow, more = timed(120.0, replay=journal)
    assert walk(again, slow, lambda _: 5.0) == (steps, shares)
    assert more == []


def test_a_journal_that_breaks_off_is_followed_as_far_as_it_goes() -> None:
    first, clock, journal = timed(120.0)
    _, shares = walk(first, clock, lambda step: 0.1 if step < 300 else 0.3, num_steps=500)
    known = [r for r in journal if r.num_steps != r.step]
    again, other, more = timed(120.0, replay=known)
    steps, same = walk(again, other, lambda _: 0.15)
    last = known[-1].step
    assert same[:last] == shares[:last]
    assert other.t <= 100.0 + 0.15
    assert more[-1] == ScheduleChange(steps, steps)
