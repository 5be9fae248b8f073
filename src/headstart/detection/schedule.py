"""How many steps a training takes, and where on its schedule each step is.

Without a deadline the number of steps is fixed. With one it follows the clock: when steps turn out slower or faster
than planned, the rest of the schedule is stretched over the steps that still fit, so that rates end where they should.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.system import Clock

__all__ = ["Deadline", "ScheduleChange", "StepSchedule"]

_RECENT = 20  # steps whose median is the price of a step
_FIRST_CHECK, _CHECKS = 8, 8  # the plan is checked after so many steps, then after this part of the rest
_SLACK = 0.02  # a plan stays as long as the number of steps that are left changes by less
_MOST_SLOWDOWN = 3.0  # of what comes after the training, estimated from the slowdown of its steps


@dataclass(frozen=True, slots=True)
class ScheduleChange:
    """A change of plan, for the journal.

    Attributes:
        step: Steps taken so far.
        num_steps: Steps of the whole training from now on.
    """

    step: int
    num_steps: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a training has to end.

    Attributes:
        at: Clock time by which everything has to be done.
        reserve_s: Seconds kept for what follows the training, as estimated when a step took `step_s`.
        step_s: Seconds of a step by which the training was planned.
        most_steps: More steps are never taken, however fast they are.
    """

    at: float
    reserve_s: float
    step_s: float
    most_steps: int

    def left_s(self, now: float, step_s: float) -> float:
        """Return the seconds left for training when a step takes `step_s`; the reserve grows with slower steps."""
        slowdown = min(max(step_s / max(self.step_s, 1e-9), 1.0), _MOST_SLOWDOWN)
        return self.at - now - self.reserve_s * slowdown


class StepSchedule:
    """The number of steps of one training and the position of each step on its schedule.

    Args:
        num_steps: Steps as planned.
        deadline: When it has to end; None keeps the number of steps.
        clock: Source of time.
        record: Called with every change of plan before it takes effect.
        replay: Changes of an earlier run of the same training. They are made again at the same steps, and the clock
            decides only what comes after the last of them.
    """

    def __init__(
        self,
        num_steps: int,
        *,
        deadline: Deadline | None = None,
        clock: Clock = time.monotonic,
        record: Callable[[ScheduleChange], None] | None = None,
        replay: Sequence[ScheduleChange] = (),
    ) -> None:
        self.num_steps = max(1, num_steps)
        self.deadline = deadline
        self.num_replans = 0
        self._clock = clock
        self._record = record
        self._replay = list(replay)
        self._origin = (0, 0.0)  # step and share of the schedule at the last change
        self._seconds: list[float] = []
        self._last = self._clock()
        self._next_check = _FIRST_CHECK

    def start(self) -> None:
        """Start the clock: the first step begins now."""
        self._last = self._clock()

    def share(self, step: int) -> float:
        """Return how far the schedule is at a step, in [0, 1]."""
        at, share = self._origin
        return share + (1.0 - share) * ((step - at) / max(self.num_steps - at, 1))

    def is_done(self, step: int) -> bool:
        """Return whether a training has ended after so many steps."""
        return step >= self.num_steps

    @property
    def step_s(self) -> float | None:
        """Return the median seconds of the last steps, None before the first."""
        return float(np.median(self._seconds[-_RECENT:])) if self._seconds else None

    def after_step(self, step: int) -> None:
        """Take note of a step that has ended; may change the number of steps.

        Args:
            step: Steps taken so far, this one included.
        """
        if self.deadline is None:
            return
        now = self._clock()
        self._seconds.append(now - self._last)
        self._last = now
        if self._replay:
            if self._replay[0].step == step:
                self._apply(self._replay.pop(0))
            return
        step_s = self.step_s or 0.0
        is_late = self.deadline.at - self.deadline.reserve_s - now < step_s
        if step < self._next_check and not is_late:
            return
        left_s = 0.0 if is_late else self.deadline.left_s(now, step_s)
        left = int(max(left_s, 0.0) / max(step_s, 1e-9))
        planned = self.num_steps - step
        self._next_check = step + max(_FIRST_CHECK // 2, left // _CHECKS)
        num_steps = max(step, min(step + left, self.deadline.most_steps))
        if abs(num_steps - self.num_steps) > _SLACK * planned:
            self._change(ScheduleChange(step, num_steps))

    def finish(self, step: int) -> None:
        """Record that the training has ended after so many steps, so that a replay ends there too."""
        if self.deadline is not None and self._record is not None and not self._replay and self._origin[0] < step:
            self._record(ScheduleChange(step, step))

    def _change(self, replan: ScheduleChange) -> None:
        if self._record is not None:
            self._record(replan)
        self._apply(replan)

    def _apply(self, replan: ScheduleChange) -> None:
        self._origin = (replan.step, self.share(replan.step))
        self.num_steps = replan.num_steps
        self.num_replans += 1
