"""Train a detector within a time budget: measure costs, choose a plan, cache views, schedule steps.

By default the backbone is frozen and views are cached; the last stages are trained only if the budget allows enough
steps. Every measurement that affects a decision is written to the journal before it is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.advice.detector_costs import (
    SAFETY,
    AffordableTraining,
    FinalSteps,
    MeasuredCosts,
    fit_training,
    least_budget_s,
    least_training_s,
)
from headstart.data.boxes.records import Boxes
from headstart.detection.plan import DetectPlan
from headstart.detection.schedule import Deadline, ScheduleChange, StepSchedule
from headstart.detection.subset import subset_order
from headstart.errors import BudgetError
from headstart.runs.journal import Journal
from headstart.training.batch_sources import epoch_order
from headstart.types.codes import DecisionReason, Evidence
from headstart.types.records import Decision
from headstart.utils.system import Clock

if TYPE_CHECKING:
    from headstart.detection.loop import DetectTraining

__all__ = ["BudgetTrainer", "DetectBudget", "Scored"]

Ids = NDArray[np.int64]
MakePlan = Callable[[str], tuple[DetectPlan, list[Decision]]]

_WARMUP_STEPS, _TIMED_STEPS, _MIN_TIMED = 2, 5, 2
_TIMED_S = 3.0  # timing stops after this many seconds, but not before `_MIN_TIMED` steps
_CHUNK, _CHUNKS = 8, 3  # views are timed in chunks; the first is warm-up
_FINETUNE_FRACTION = 0.5  # minimum number of fine-tuning steps, as a fraction of the default steps
_FINETUNE_COST = 2.0  # minimum cost of a fine-tuning step, relative to a step with a frozen backbone
_MORE_WORKERS = 1.5  # default contention of several threads, relative to one thread
_MAX_DELAY = 1.5  # caching views stops after this multiple of the planned time
_MIN_START_S = 4.0  # minimum time to prepare the backbone, and of the final steps
_MAX_VALIDATIONS, _VALIDATION_FRACTION = 8, 0.05  # per training; maximum fraction of its time


class BudgetTrainer(Protocol):
    """Interface of `DetectorTrainer` for `DetectBudget`."""

    @property
    def num_threads(self) -> int:
        """Return the number of threads that make views and score images."""
        ...

    def set_torch_threads(self, count: int) -> None:
        """Set the number of torch threads."""
        ...

    def training(self, plan: DetectPlan, train: Ids, schedule: StepSchedule | None = None) -> DetectTraining:
        """Return a new training."""
        ...

    def is_cached(self, plan: DetectPlan, sample: int, view: int) -> bool:
        """Return whether a view is cached; True if the plan does not cache views."""
        ...

    def make_views(self, plan: DetectPlan, pairs: Sequence[tuple[int, int]], until: float) -> None:
        """Cache views in this order until clock time `until`."""
        ...

    def time_images(self, plan: DetectPlan, samples: Ids) -> float:
        """Return the CPU seconds of torch inference per image, after warm-up."""
        ...

    def export_cpu_s(self, plan: DetectPlan) -> float | None:
        """Return the CPU seconds of exporting the frozen prefix; None if not measured."""
        ...


@dataclass(frozen=True, slots=True)
class Scored:
    """Numbers of images and boxes scored after the training.

    Attributes:
        num_images: Number of scored images.
        num_boxes: Number of their ground-truth boxes.
    """

    num_images: int
    num_boxes: int


@dataclass(frozen=True, slots=True)
class _Choice:
    """A plan, its measured costs and the longest training that fits the budget."""

    plan: DetectPlan
    costs: MeasuredCosts
    fit: AffordableTraining


class DetectBudget:
    """Time budget of a detector run.

    Args:
        started: Clock time at the start of the command.
        budget_s: Time budget in seconds.
        trainer: The trainer.
        journal: Stores measured values.
        clock: Returns the time in seconds.
        cpu_clock: Returns the CPU seconds of this process.
        scored: Numbers of images and boxes scored after the training.
        num_folds: Number of cross-validation folds trained before the final training.
    """

    def __init__(
        self,
        *,
        started: float,
        budget_s: float,
        trainer: BudgetTrainer,
        journal: Journal,
        clock: Clock,
        scored: Scored,
        cpu_clock: Clock = time.process_time,
        num_folds: int = 0,
    ) -> None:
        self.started, self.budget_s, self.deadline = started, budget_s, started + budget_s
        self._trainer, self._journal, self._clock, self._cpu_clock = trainer, journal, clock, cpu_clock
        self._scored, self._num_trainings = scored, num_folds + 1
        self._schedules: list[StepSchedule] = []
        self._choice: _Choice | None = None
        self._final: FinalSteps | None = None
        self._full_steps = 0
        self._image_s = 0.0
        self._num_torch_threads = trainer.num_threads
        self._contention = 1.0
        self._worker_contention: float | None = None
        self._safety = SAFETY
        self._order: Ids = np.zeros(0, dtype=np.int64)

    # -- planning

    def plan_training(
        self,
        strategies: Sequence[str],
        make_plan: MakePlan,
        train: Ids,
        boxes: Sequence[Boxes],
        num_classes: int,
        *,
        seed: int = 0,
        torch_threads: Callable[[], tuple[int, float | None]] | None = None,
    ) -> tuple[DetectPlan, Ids, list[Decision]]:
        """Measure costs, choose a plan that fits the budget and cache its views.

        Args:
            strategies: Allowed strategies, cheapest first.
            make_plan: Returns the default plan of a strategy, and its decisions.
            train: Positions of the training images.
            boxes: Boxes of all images.
            num_classes: Number of classes K.
            seed: Random seed of the subset order.
            torch_threads: Measures the best number of torch threads and the speedup over one thread; None keeps the
                current number.

        Returns:
            The plan, the positions of the images used for training, and all decisions.

        Raises:
            BudgetError: Even the shortest training exceeds the budget.
        """
        self._check_start()
        decisions = []
        if torch_threads is not None:
            count, speedup = self._journal.once("torch_threads", torch_threads)
            self._num_torch_threads = int(count)
            self._trainer.set_torch_threads(int(count))
            measured: Evidence = {"num_threads": self._trainer.num_threads, "speedup": speedup}
            reason = DecisionReason.THREADS_MEASURED
            decisions.append(Decision("budget.torch_threads", int(count), reason, evidence=measured))
        self._order, least_images = subset_order(train, boxes, num_classes, seed=seed)
        plan, made = make_plan(strategies[0])
        choice = self._measure(plan, least_images)
        for strategy in strategies[1:]:
            if not self._is_affordable(choice):
                break
            next_plan, next_decisions = make_plan(strategy)
            candidate = self._try(next_plan, least_images)
            if candidate is not None:
                choice, made = candidate, next_decisions
            else:  # measuring the candidate used some of the budget
                choice = self._measure(choice.plan, least_images, turn="again")
        from_fit = {"epochs", "num_views", *(("strategy",) if len(strategies) > 1 else ())}
        decisions += [d for d in made if d.setting not in from_fit]
        choice = self._make_views(choice, least_images)
        self._choice = choice
        plan = self._sized(choice)
        decisions += self._decisions(choice, plan, len(train), len(strategies))
        return plan, np.sort(self._order[: choice.fit.num_images]), decisions

    def _check_start(self) -> None:
        """Raise BudgetError if too little time is left to measure anything."""
        spent = self._journal.once("spent_s", lambda: self._clock() - self.started)
        if spent + 2 * _MIN_START_S > self.budget_s:
            raise self._budget_error(spent, least_training_s(MeasuredCosts(0.0, 0.1), 1), 2 * _MIN_START_S)

    def _measure(self, plan: DetectPlan, least_images: int, turn: str = "first") -> _Choice:
        """Return the longest training of a plan that fits.

        Raises:
            BudgetError: Even the shortest training does not fit.
        """
        costs, fitting = self._measure_costs(plan, least_images, turn, is_needed=True)
        assert self._final is not None
        if fitting["fit"] is None:
            least_s = least_training_s(costs, least_images, self._num_trainings) + self._fold_scoring_s()
            raise self._budget_error(fitting["spent_s"], least_s, self._final.seconds())
        self._safety = fitting["safety"]
        return _Choice(plan, costs, AffordableTraining(**fitting["fit"]))

    def _try(self, plan: DetectPlan, least_images: int) -> _Choice | None:
        """Return the longest training of a more expensive strategy, or None if it has too few steps."""
        costs, fitting = self._measure_costs(plan, least_images, "first", is_needed=False)
        fit = None if fitting["fit"] is None else AffordableTraining(**fitting["fit"])
        if fit is None or fit.num_images < len(self._order) or fit.num_steps < _FINETUNE_FRACTION * self._full_steps:
            return None
        self._safety = fitting["safety"]
        return _Choice(plan, costs, fit)

    def _measure_costs(
        self, plan: DetectPlan, least_images: int, turn: str, *, is_needed: bool
    ) -> tuple[MeasuredCosts, dict[str, Any]]:
        """Return the measured costs of a plan and the result of `_fit_now`; the first call times the final steps."""
        name = plan.strategy
        costs = MeasuredCosts(**self._journal.once(f"prices-{name}", lambda: self._time_training(plan)))
        if self._final is None:
            self._final = FinalSteps(**self._journal.once("ending", lambda: self._time_final_steps(plan)))
            self._image_s = self._final.image_cpu_s * self._final.contention
        self._full_steps = max(1, len(self._order) // plan.batch_size) * plan.epochs
        # The time left and the missing views change between calls.
        key = f"fit-{name}-{turn}"
        return costs, self._journal.once(key, lambda: self._fit_now(plan, costs, least_images, is_needed))

    def _fit_now(self, plan: DetectPlan, costs: MeasuredCosts, least_images: int, is_needed: bool) -> dict[str, Any]:
        """Fit the longest training to the time left; if none fits and one is needed, retry without safety factor."""
        now = self._clock()
        has_cached_views = plan.strategy in ("head", "finetune")
        by_view = [
            len(self._missing(plan, self._order, v, v)) if has_cached_views else 0 for v in range(1, plan.num_views + 1)
        ]
        missing = np.cumsum([0, *by_view])
        assert self._final is not None
        for safety in (SAFETY, 1.0) if is_needed else (SAFETY,):
            fit = fit_training(
                self.deadline - now - self._final.seconds(safety) - self._fold_scoring_s(),
                costs,
                num_images=len(self._order),
                batch_size=plan.batch_size,
                limit_views=plan.num_views if has_cached_views else 1,
                full_steps=self._full_steps,
                least_images=least_images,
                missing=lambda views: int(missing[views]),
                num_trainings=self._num_trainings,
            )
            if fit is not None:
                break
        return {"spent_s": now - self.started, "safety": safety, "fit": None if fit is None else fit.to_json()}

    def _missing(self, plan: DetectPlan, samples: Ids, last: int, first: int = 1) -> list[tuple[int, int]]:
        """Return (image, view) pairs of the views that are not cached, ordered by view."""
        pairs = [(int(s), v) for v in range(first, last + 1) for s in samples]
        return [pair for pair in pairs if not self._trainer.is_cached(plan, *pair)]

    def _is_affordable(self, choice: _Choice) -> bool:
        """Estimate from the measured costs whether fine-tuning would have enough steps."""
        assert self._final is not None
        steps_s = _FINETUNE_FRACTION * self._full_steps * _FINETUNE_COST * choice.costs.step_s * self._num_trainings
        views_s = choice.costs.view_s * len(self._order)
        export_s = self._final.parts()["export"]
        left_s = self._journal.once("left_s", lambda: self._left_s() - self._fold_scoring_s())
        return bool(steps_s + views_s + export_s <= left_s)

    def _make_views(self, choice: _Choice, least_images: int) -> _Choice:
        """Cache the views of a fit; reduce the fit if this takes much longer than planned."""

        def make() -> dict[str, Any]:
            plan, fit = choice.plan, choice.fit
            samples = self._order[: fit.num_images]
            if plan.strategy in ("head", "finetune"):
                pairs = self._missing(plan, samples, fit.num_views)
                planned_s = choice.costs.view_s * len(pairs)
                latest = self.deadline - self._reserve_s() - self._least_s(choice, least_images)
                until = min(self._clock() + _MAX_DELAY * planned_s + 1.0, latest)
                self._trainer.make_views(plan, pairs, until)
                fit = self._reduce_to_cached(plan, fit, least_images)
            left_s = self.deadline - self._reserve_s() - self._fold_scoring_s() - self._clock()
            steps = int(left_s / (choice.costs.step_s * self._num_trainings))
            full_steps = max(1, fit.num_images // min(plan.batch_size, fit.num_images)) * plan.epochs
            return AffordableTraining(fit.num_images, fit.num_views, max(1, min(steps, full_steps))).to_json()

        return _Choice(choice.plan, choice.costs, AffordableTraining(**self._journal.once("fit", make)))

    def _reduce_to_cached(self, plan: DetectPlan, fit: AffordableTraining, least_images: int) -> AffordableTraining:
        """Reduce a fit to the views cached for all images, or to the images whose first view is cached."""
        samples = self._order[: fit.num_images]
        for views in range(fit.num_views, 0, -1):
            if not self._missing(plan, samples, views):
                return AffordableTraining(fit.num_images, views, fit.num_steps)
        first_missing = self._missing(plan, samples, 1)[0][0]
        count = int(np.flatnonzero(samples == first_missing)[0])
        return AffordableTraining(max(count, min(least_images, fit.num_images)), 1, fit.num_steps)

    def _least_s(self, choice: _Choice, least_images: int) -> float:
        return least_training_s(choice.costs, least_images, self._num_trainings)

    def _sized(self, choice: _Choice) -> DetectPlan:
        """Return the plan with the number of epochs, batch size and views of the fit."""
        plan, fit = choice.plan, choice.fit
        batch_size = min(plan.batch_size, fit.num_images)
        epochs = -(-fit.num_steps // max(1, fit.num_images // batch_size))
        has_cached_views = plan.strategy in ("head", "finetune")
        return plan.with_(batch_size=batch_size, epochs=epochs, num_views=fit.num_views if has_cached_views else epochs)

    # -- measuring

    def _time_training(self, plan: DetectPlan) -> dict[str, float]:
        """Measure the seconds per view and per step, after warm-up."""
        view_s = self._time_views(plan) if plan.strategy in ("head", "finetune") else 0.0
        training = self._trainer.training(plan, self._order)
        size = min(plan.batch_size, len(self._order))
        order = np.resize(epoch_order(self._order, 0, plan.seed), (_WARMUP_STEPS + _TIMED_STEPS) * size)
        if view_s or plan.strategy in ("head", "finetune"):
            order = np.resize(self._order[:size], len(order))  # their first view is cached
        training.source.announce([(int(s), 1) for s in order])
        seconds, busy = list[float](), list[float]()
        for i in range(_WARMUP_STEPS + _TIMED_STEPS):
            began, began_cpu = self._clock(), self._cpu_clock()
            training.take_step(order[i * size : (i + 1) * size], np.ones(size, dtype=np.int64))
            seconds.append(self._clock() - began)
            busy.append(self._cpu_clock() - began_cpu)
            timed = seconds[_WARMUP_STEPS:]
            if len(timed) >= _MIN_TIMED and sum(seconds) > _TIMED_S:
                break
        cpu_s = sum(busy[_WARMUP_STEPS:]) / self._num_torch_threads
        self._contention = max(1.0, sum(seconds[_WARMUP_STEPS:]) / max(cpu_s, 1e-9))
        return MeasuredCosts(view_s, max(float(np.median(seconds[_WARMUP_STEPS:])), 1e-6)).to_json()

    def _time_views(self, plan: DetectPlan) -> float:
        """Measure the seconds per view; 0 if all views are cached."""
        pairs = self._missing(plan, self._order, max(1, plan.num_views))[: _CHUNK * _CHUNKS]
        if not pairs:
            return 0.0
        seconds_per_view, seconds, cpu_s = list[float](), 0.0, 0.0
        for start in range(0, len(pairs), _CHUNK):
            part = pairs[start : start + _CHUNK]
            began, began_cpu = self._clock(), self._cpu_clock()
            self._trainer.make_views(plan, part, self.deadline)
            seconds_per_view.append((self._clock() - began) / len(part))
            if start:
                seconds += self._clock() - began
                cpu_s += self._cpu_clock() - began_cpu
        if cpu_s:
            self._worker_contention = max(1.0, seconds * self._trainer.num_threads / cpu_s)
        return float(np.median(seconds_per_view[1:] or seconds_per_view))

    def _time_final_steps(self, plan: DetectPlan) -> dict[str, Any]:
        """Measure the final steps; return the fields of `FinalSteps`."""
        return {
            "num_scored": self._scored.num_images,
            "num_scored_boxes": self._scored.num_boxes,
            "export_cpu_s": self._trainer.export_cpu_s(plan),
            "image_cpu_s": self._trainer.time_images(plan, self._order[:3]),
            "contention": self._contention,
            "num_threads": self._trainer.num_threads,
            "worker_contention": self._worker_contention or _MORE_WORKERS * (self._contention - 1.0) + 1.0,
        }

    # -- time left

    def _reserve_s(self) -> float:
        assert self._final is not None
        return self._final.seconds(self._safety)

    def _left_s(self) -> float:
        """Return the seconds left for caching views and for all trainings."""
        return self.deadline - self._clock() - self._reserve_s()

    def _fold_scoring_s(self) -> float:
        """Return the seconds to score all training images out of fold; 0 without folds."""
        return self._image_s * len(self._order) if self._num_trainings > 1 else 0.0

    # -- pacing

    def make_schedule(self, phase: str, num_held: int) -> StepSchedule:
        """Return the step schedule of the next training, which gets an equal part of the time left.

        Args:
            phase: Name of the training.
            num_held: Number of held-out images scored after it.
        """
        assert self._choice is not None
        after = self._num_trainings - len(self._schedules) - 1  # trainings after this one = folds to score
        held_s = self._image_s * num_held * after
        left_s = max(self._left_s() - held_s, 0.0)
        replans: list[dict[str, Any]] = []
        replay = [ScheduleChange(**r) for r in self._journal.read(f"pace-{phase}") or []]

        def record(replan: ScheduleChange) -> None:
            replans.append(replan.to_json())
            self._journal.write(f"pace-{phase}", replans)

        for earlier in replay:
            replans.append(earlier.to_json())
        fit = self._choice.fit
        full_steps = self._full_steps * fit.num_images // len(self._order)
        deadline = Deadline(
            at=self.deadline,
            reserve_s=self._reserve_s() + held_s + left_s * after / (after + 1),
            step_s=self._choice.costs.step_s,
            most_steps=max(full_steps, fit.num_steps),
        )
        schedule = StepSchedule(fit.num_steps, deadline=deadline, clock=self._clock, record=record, replay=replay)
        self._schedules.append(schedule)
        return schedule

    def num_validations(self, num_held: int) -> int:
        """Return the number of validations during a training."""
        assert self._choice is not None
        validation_s = (self._choice.costs.view_s + self._image_s) * num_held
        training_s = self._choice.costs.step_s * self._choice.fit.num_steps
        return min(_MAX_VALIDATIONS, int(_VALIDATION_FRACTION * training_s / max(validation_s, 1e-9)))

    # -- final steps

    def num_compared(self, most: int) -> int:
        """Return the number of images for the parity check in the time left."""
        assert self._final is not None
        left_s = self.deadline - self._clock() - self._final.parts()["other"]
        return self._final.num_compared(left_s, most)

    def to_json(self) -> dict[str, Any]:
        """Return planned, measured and used times for `metrics.json`."""
        assert self._choice is not None
        assert self._final is not None
        used_s = self._clock() - self.started
        return {
            "seconds": round(self.budget_s, 3),
            "used_s": round(used_s, 3),
            "is_kept": bool(used_s <= self.budget_s),
            "spent_before_s": round(float(self._journal.read("spent_s")), 3),
            "reserved_s": {name: round(value, 3) for name, value in self._final.parts().items()},
            "contention": [round(self._final.contention, 3), round(self._final.worker_contention, 3)],
            "view_s": round(self._choice.costs.view_s, 5),
            "step_s": round(self._choice.costs.step_s, 5),
            "image_cpu_s": round(self._final.image_cpu_s, 5),
            "planned": self._choice.fit.to_json(),
            "num_steps": [schedule.num_steps for schedule in self._schedules],
            "num_replans": [schedule.num_replans for schedule in self._schedules],
        }

    def _decisions(self, choice: _Choice, plan: DetectPlan, num_train: int, num_strategies: int) -> list[Decision]:
        costs, fit = choice.costs, choice.fit
        evidence: Evidence = {
            **fit.to_json(),
            "num_train": num_train,
            "full_steps": self._full_steps,
            "view_seconds": costs.view_s,
            "step_seconds": costs.step_s,
            "left_seconds": round(self._left_s(), 1),
            "reserved_seconds": self._reserve_s(),
        }
        chosen: list[tuple[str, Any, DecisionReason]] = [("epochs", plan.epochs, DecisionReason.STEPS_FIT_BUDGET)]
        chosen.append(("num_views", plan.num_views, DecisionReason.VIEWS_FIT_BUDGET))
        if num_strategies > 1:
            chosen.insert(0, ("strategy", plan.strategy, DecisionReason.STRATEGY_FITS_BUDGET))
        if fit.num_images < num_train:
            chosen.append(("budget.num_images", fit.num_images, DecisionReason.IMAGES_FIT_BUDGET))
        if plan.batch_size < choice.plan.batch_size:
            chosen.append(("batch_size", plan.batch_size, DecisionReason.IMAGES_FIT_BUDGET))
        return [Decision(setting, value, reason, evidence=evidence) for setting, value, reason in chosen]

    def _budget_error(self, spent_s: float, training_s: float, ending_s: float) -> BudgetError:
        least_s = least_budget_s(spent_s, training_s, ending_s)
        return BudgetError(
            f"the budget of {self.budget_s:.0f} s is too small: preparation took {spent_s:.0f} s, the shortest "
            f"training takes {training_s:.0f} s, and export, scoring and report take {ending_s:.0f} s.",
            hint=f"use --budget {least_s:.0f}s or more",
            least_s=least_s,
            measured={"spent_s": spent_s, "training_s": training_s, "ending_s": ending_s},
        )
