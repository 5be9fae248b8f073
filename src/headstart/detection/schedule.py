"""Schedule the steps of a training with or without a deadline.

Without a deadline the number of steps is fixed. With one it follows the clock: if steps are slower or faster than
planned, the rest of the schedule is rescaled to the steps that still fit, so that rates end at their planned values.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.runs.journal import Journal
from headstart.utils.system import Clock

__all__ = ["Deadline", "ScheduleChange", "StepSchedule"]

_RECENT = 20  # last steps whose median is the duration of a step
_FIRST_CHECK, _CHECKS = 8, 8  # steps before the first check; later checks after 1/8 of the rest
_SLACK = 0.02  # minimum relative change of the remaining steps that changes the plan
_MAX_SLOWDOWN = 3.0  # of the final steps, estimated from the slowdown of the training


@dataclass(frozen=True, slots=True)
class ScheduleChange:
    """Change of the number of steps, for the journal.

    Attributes:
        step: Steps taken so far.
        num_steps: Steps of the whole training from now on.
    """

    step: int
    num_steps: int


@dataclass(frozen=True, slots=True)
class Deadline:
    """Deadline of a training.

    Attributes:
        at: Clock time by which the run must be finished.
        reserve_s: Seconds reserved for the final steps, estimated when a step took `step_s`.
        step_s: Planned seconds per step.
        max_steps: Maximum number of steps.
    """

    at: float
    reserve_s: float
    step_s: float
    max_steps: int

    def remaining_s(self, now: float, step_s: float) -> float:
        """Return the seconds left for training when a step takes `step_s`; the reserve grows with slower steps."""
        slowdown = min(max(step_s / max(self.step_s, 1e-9), 1.0), _MAX_SLOWDOWN)
        return self.at - now - self.reserve_s * slowdown


class StepSchedule:
    """Number of steps of one training, and the progress of each step on its schedule.

    Args:
        num_steps: Planned number of steps.
        deadline: The deadline; None keeps the number of steps.
        clock: Clock in seconds.
        journal: Stores every change before it takes effect. Changes that it holds already are repeated at the same
            steps; the clock is used only after the last of them. Needed with a deadline.
        name: Name of the changes in the journal.
    """

    def __init__(
        self,
        num_steps: int,
        *,
        deadline: Deadline | None = None,
        clock: Clock = time.monotonic,
        journal: Journal | None = None,
        name: str = "pace",
    ) -> None:
        self.num_steps = max(1, num_steps)
        self.deadline = deadline
        self.num_replans = 0
        self._clock = clock
        self._journal, self._name = journal, name
        self._changes = [ScheduleChange(**c) for c in (journal.read(name) if journal else None) or []]
        self._replay = list(self._changes)
        self._origin = (0, 0.0)  # step and progress at the last change
        self._seconds: list[float] = []
        self._last = self._clock()
        self._next_check = _FIRST_CHECK

    def start(self) -> None:
        """Start the clock: the first step begins now."""
        self._last = self._clock()

    def progress(self, step: int) -> float:
        """Return the progress of the schedule at a step, in [0, 1]."""
        at, progress = self._origin
        return progress + (1.0 - progress) * ((step - at) / max(self.num_steps - at, 1))

    def is_done(self, step: int) -> bool:
        """Return whether the training ends after `step` steps."""
        return step >= self.num_steps

    @property
    def step_s(self) -> float | None:
        """Return the median seconds of the last steps; None before the first."""
        return float(np.median(self._seconds[-_RECENT:])) if self._seconds else None

    def after_step(self, step: int) -> None:
        """Register a finished step; may change the number of steps.

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
        remaining_s = 0.0 if is_late else self.deadline.remaining_s(now, step_s)
        left = int(max(remaining_s, 0.0) / max(step_s, 1e-9))
        planned = self.num_steps - step
        self._next_check = step + max(_FIRST_CHECK // 2, left // _CHECKS)
        num_steps = max(step, min(step + left, self.deadline.max_steps))
        if abs(num_steps - self.num_steps) > _SLACK * planned:
            change = ScheduleChange(step, num_steps)
            self._record(change)
            self._apply(change)

    def state(self) -> dict[str, Any]:
        """Return the values needed to resume."""
        return {"num_steps": self.num_steps, "num_replans": self.num_replans, "origin": list(self._origin)}

    def restore(self, state: dict[str, Any], step: int) -> None:
        """Restore the schedule after `step` steps; later changes in the journal are repeated."""
        at, progress = state["origin"]
        self.num_steps, self.num_replans = state["num_steps"], state["num_replans"]
        self._origin, self._next_check = (at, progress), step + _FIRST_CHECK
        self._replay = [change for change in self._changes if change.step > step]

    def finish(self, step: int) -> None:
        """Record the end of the training after `step` steps, so that a replay ends there too."""
        if self.deadline is not None and not self._replay and self._origin[0] < step:
            self._record(ScheduleChange(step, step))

    def _record(self, change: ScheduleChange) -> None:
        if self._journal is not None:
            self._changes.append(change)
            self._journal.write(self._name, [asdict(c) for c in self._changes])

    def _apply(self, change: ScheduleChange) -> None:
        self._origin = (change.step, self.progress(change.step))
        self.num_steps = change.num_steps
        self.num_replans += 1
