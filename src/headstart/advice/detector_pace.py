"""Pace a planned training of a detector: step schedules, validations and the parity check within the time left."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from headstart.advice.detector_costs import AffordableTraining, FinalSteps, MeasuredCosts
from headstart.detection.schedule import Deadline, StepSchedule
from headstart.runs.journal import Journal
from headstart.utils.system import Clock

__all__ = ["DetectPace", "TimeBudget"]

_MAX_VALIDATIONS, _VALIDATION_FRACTION = 8, 0.05  # per training; maximum fraction of its time


@dataclass(frozen=True)
class TimeBudget:
    """The time of a run.

    Attributes:
        started: Clock time at the start of the command.
        budget_s: Time budget in seconds.
        clock: Returns the time in seconds.
        num_trainings: Trainings that share the time: the folds and the final one.
    """

    started: float
    budget_s: float
    clock: Clock
    num_trainings: int = 1

    @property
    def deadline(self) -> float:
        """Clock time at which the run ends."""
        return self.started + self.budget_s

    def remaining_s(self) -> float:
        """Return the seconds until the deadline."""
        return self.deadline - self.clock()

    def fold_scoring_s(self, final: FinalSteps, num_images: int) -> float:
        """Return the seconds to score all training images out of fold; 0 without folds."""
        return final.image_s * num_images if self.num_trainings > 1 else 0.0


@dataclass
class DetectPace:
    """Keeps the trainings of a run within its budget.

    Attributes:
        budget: The time budget.
        journal: Stores the changes of the schedules.
        costs: Measured costs of the plan.
        fit: The training that fits.
        final: Costs of the steps after training.
        reserve_s: Seconds reserved for them.
        max_steps: Steps of a training without a budget.
        schedules: Schedules of the trainings so far.
    """

    budget: TimeBudget
    journal: Journal
    costs: MeasuredCosts
    fit: AffordableTraining
    final: FinalSteps
    reserve_s: float
    max_steps: int
    schedules: list[StepSchedule] = field(default_factory=list)

    def make_schedule(self, phase: str, num_held: int) -> StepSchedule:
        """Return the step schedule of the next training, which gets an equal part of the time left.

        Args:
            phase: Name of the training.
            num_held: Number of held-out images scored after it.
        """
        budget = self.budget
        after = budget.num_trainings - len(self.schedules) - 1  # trainings after this one = folds to score
        held_s = self.final.image_s * num_held * after
        remaining_s = max(budget.remaining_s() - self.reserve_s - held_s, 0.0)
        deadline = Deadline(
            at=budget.deadline,
            reserve_s=self.reserve_s + held_s + remaining_s * after / (after + 1),
            step_s=self.costs.step_s,
            max_steps=max(self.max_steps, self.fit.num_steps),
        )
        schedule = StepSchedule(
            self.fit.num_steps, deadline=deadline, clock=budget.clock, journal=self.journal, name=f"pace-{phase}"
        )
        self.schedules.append(schedule)
        return schedule

    def num_validations(self, num_held: int) -> int:
        """Return the number of validations during a training."""
        validation_s = (self.costs.view_s + self.final.image_s) * num_held
        training_s = self.costs.step_s * self.fit.num_steps
        return min(_MAX_VALIDATIONS, int(_VALIDATION_FRACTION * training_s / max(validation_s, 1e-9)))

    def num_compared(self, most: int) -> int:
        """Return the number of images for the parity check in the time left."""
        return self.final.num_compared(self.budget.remaining_s() - self.final.parts()["other"], most)

    def to_json(self) -> dict[str, Any]:
        """Return planned, measured and used times for `metrics.json`."""
        used_s = self.budget.clock() - self.budget.started
        return {
            "seconds": round(self.budget.budget_s, 3),
            "used_s": round(used_s, 3),
            "is_kept": bool(used_s <= self.budget.budget_s),
            "spent_before_s": round(float(self.journal.read("spent_s")), 3),
            "reserved_s": {name: round(value, 3) for name, value in self.final.parts().items()},
            "contention": [round(self.final.contention, 3), round(self.final.worker_contention, 3)],
            "view_s": round(self.costs.view_s, 5),
            "step_s": round(self.costs.step_s, 5),
            "image_cpu_s": round(self.final.image_cpu_s, 5),
            "planned": asdict(self.fit),
            "num_steps": [schedule.num_steps for schedule in self.schedules],
            "num_replans": [schedule.num_replans for schedule in self.schedules],
        }
