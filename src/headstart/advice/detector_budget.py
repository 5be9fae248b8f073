"""Plan the training of a detector within a time budget: measure costs, choose a strategy, cache its views.

By default the backbone is frozen and views are cached; the last stages are trained only if the budget allows enough
steps. Every measurement that affects a decision is written to the journal before it is used.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.advice.detector_costs import (
    SAFETY,
    AffordableTraining,
    FinalSteps,
    MeasuredCosts,
    fit_training,
    min_budget_s,
    min_training_s,
)
from headstart.advice.detector_pace import DetectPace, TimeBudget
from headstart.advice.detector_timing import DetectTimer
from headstart.advice.resources import measure_threads
from headstart.data.boxes.records import Boxes
from headstart.detection.plan import DetectPlan
from headstart.detection.planning import DetectPlanner
from headstart.detection.subset import subset_order
from headstart.errors import BudgetError
from headstart.runs.journal import Journal
from headstart.types.arrays import Ids
from headstart.types.codes import DecisionReason, Evidence
from headstart.types.records import Decision
from headstart.utils.system import Clock

if TYPE_CHECKING:
    from headstart.detection.trainer import DetectorTrainer

__all__ = ["BudgetImages", "BudgetPlanner", "PlannedDetector"]

_FINETUNE_FRACTION = 0.5  # minimum number of fine-tuning steps, as a fraction of the default steps
_FINETUNE_COST = 2.0  # minimum cost of a fine-tuning step, relative to a step with a frozen backbone
_MAX_DELAY = 1.5  # caching views stops after this multiple of the planned time
_MIN_START_S = 4.0  # minimum time to prepare the backbone, and of the final steps


@dataclass(frozen=True)
class BudgetImages:
    """Images of a run.

    Attributes:
        train: Positions of the training images.
        boxes: Boxes of all images.
        num_classes: K.
        scored: Positions of the images scored after the training.
    """

    train: Ids
    boxes: Sequence[Boxes]
    num_classes: int
    scored: Ids


@dataclass(frozen=True)
class PlannedDetector:
    """A planned training.

    Attributes:
        plan: The training plan.
        decisions: Choices made for it.
        train: Positions of the images to train on.
        pace: Keeps it within the budget; None without one.
    """

    plan: DetectPlan
    decisions: list[Decision]
    train: Ids
    pace: DetectPace | None = None


@dataclass(frozen=True, slots=True)
class _Choice:
    """A strategy: its plan and decisions, measured costs, the training that fits, and the safety factor used."""

    plan: DetectPlan
    decisions: list[Decision]
    costs: MeasuredCosts
    fit: AffordableTraining
    safety: float


class BudgetPlanner:
    """Plans one run within its time budget.

    Args:
        budget: The time budget.
        trainer: The trainer.
        planner: Makes the plan of each strategy.
        journal: Stores measured values.
        images: The images of the run.
        seed: Random seed of the subset order.
        cpu_clock: Returns the CPU seconds of this process.
    """

    def __init__(
        self,
        budget: TimeBudget,
        trainer: DetectorTrainer,
        planner: DetectPlanner,
        journal: Journal,
        images: BudgetImages,
        *,
        seed: int = 0,
        cpu_clock: Clock = time.process_time,
    ) -> None:
        self._budget, self._trainer, self._planner, self._journal = budget, trainer, planner, journal
        self._images, self._cpu_clock = images, cpu_clock
        self._order, self._least_images = subset_order(images.train, images.boxes, images.num_classes, seed=seed)
        self._timer = DetectTimer(trainer, budget.clock, cpu_clock, trainer.num_threads)
        self._final: FinalSteps

    def plan(self, *, is_threads_chosen: bool = True) -> PlannedDetector:
        """Measure costs, choose a plan that fits the budget and cache its views.

        Args:
            is_threads_chosen: Whether the number of torch threads is measured; otherwise it stays.

        Raises:
            BudgetError: Even the shortest training exceeds the budget.
        """
        self._check_start()
        decisions = self._choose_threads() if is_threads_chosen else []
        strategies = self._planner.strategies()
        choice = self._measure(*self._planner.plan(strategies[0]))
        for strategy in strategies[1:]:
            if not self._is_affordable(choice):
                break
            # Where it does not pay, measuring it has used some of the budget.
            choice = self._try(*self._planner.plan(strategy)) or self._measure(
                choice.plan, choice.decisions, turn="again"
            )
        from_fit = {"epochs", "num_views", *(("strategy",) if len(strategies) > 1 else ())}
        decisions += [d for d in choice.decisions if d.setting not in from_fit]
        fit = self._make_views(choice)
        plan = _resize(choice.plan, fit)
        full_steps = self._full_steps(choice.plan)
        pace = DetectPace(
            self._budget,
            self._journal,
            choice.costs,
            fit,
            self._final,
            self._final.seconds(choice.safety),
            full_steps * fit.num_images // len(self._order),
        )
        decisions += self._decisions(pace, choice.plan, plan, full_steps)
        return PlannedDetector(plan, decisions, np.sort(self._order[: fit.num_images]), pace)

    def _check_start(self) -> None:
        """Raise BudgetError if too little time is left to measure anything."""
        spent = self._journal.once("spent_s", lambda: self._budget.clock() - self._budget.started)
        if spent + 2 * _MIN_START_S > self._budget.budget_s:
            raise self._budget_error(spent, min_training_s(MeasuredCosts(0.0, 0.1), 1), 2 * _MIN_START_S)

    def _choose_threads(self) -> list[Decision]:
        most = self._trainer.num_threads
        count, speedup = self._journal.once("torch_threads", lambda: measure_threads(most))
        self._trainer.set_torch_threads(int(count))
        self._timer = DetectTimer(self._trainer, self._budget.clock, self._cpu_clock, int(count))
        measured: Evidence = {"num_threads": most, "speedup": speedup}
        return [Decision("budget.torch_threads", int(count), DecisionReason.THREADS_MEASURED, evidence=measured)]

    def _measure(self, plan: DetectPlan, decisions: list[Decision], turn: str = "first") -> _Choice:
        """Return the longest training of a plan that fits.

        Raises:
            BudgetError: Even the shortest training does not fit.
        """
        costs = self._measure_costs(plan)
        fitting = self._fit(plan, costs, turn, is_needed=True)
        if fitting["fit"] is None:
            min_s = self._least_s(costs) + self._fold_scoring_s()
            raise self._budget_error(fitting["spent_s"], min_s, self._final.seconds())
        return _Choice(plan, decisions, costs, AffordableTraining(**fitting["fit"]), fitting["safety"])

    def _try(self, plan: DetectPlan, decisions: list[Decision]) -> _Choice | None:
        """Return the longest training of a more expensive strategy, or None if it has too few steps."""
        costs = self._measure_costs(plan)
        fitting = self._fit(plan, costs, "first", is_needed=False)
        fit = None if fitting["fit"] is None else AffordableTraining(**fitting["fit"])
        min_steps = _FINETUNE_FRACTION * self._full_steps(plan)
        if fit is None or fit.num_images < len(self._order) or fit.num_steps < min_steps:
            return None
        return _Choice(plan, decisions, costs, fit, fitting["safety"])

    def _measure_costs(self, plan: DetectPlan) -> MeasuredCosts:
        """Return the measured costs of a plan; the first call also times the final steps."""
        timer, order, scored = self._timer, self._order, self._images.scored
        costs = self._journal.once(f"prices-{plan.strategy}", lambda: timer.time_training(plan, order))
        counts = {"num_scored": len(scored), "num_scored_boxes": sum(len(self._images.boxes[i]) for i in scored)}
        final = self._journal.once("ending", lambda: {**counts, **timer.time_final_steps(plan, order)})
        self._final = FinalSteps(**final)
        return MeasuredCosts(**costs)

    def _fit(self, plan: DetectPlan, costs: MeasuredCosts, turn: str, *, is_needed: bool) -> dict[str, Any]:
        """Fit the longest training to the time left; if none fits and one is needed, retry without safety factor."""

        def fit() -> dict[str, Any]:
            remaining_s = self._budget.remaining_s() - self._fold_scoring_s()
            by_view = [
                len(self._timer.missing_views(plan, self._order, v, v)) if plan.is_cached else 0
                for v in range(1, plan.num_views + 1)
            ]
            for safety in (SAFETY, 1.0) if is_needed else (SAFETY,):
                fitting = fit_training(
                    remaining_s - self._final.seconds(safety),
                    costs,
                    num_images=len(self._order),
                    batch_size=plan.batch_size,
                    full_steps=self._full_steps(plan),
                    min_images=self._least_images,
                    missing=np.cumsum([0, *by_view])[: None if plan.is_cached else 2].tolist(),
                    num_trainings=self._budget.num_trainings,
                )
                if fitting is not None:
                    break
            spent_s = self._budget.budget_s - remaining_s - self._fold_scoring_s()
            return {"spent_s": spent_s, "safety": safety, "fit": None if fitting is None else asdict(fitting)}

        # The time left and the missing views change between calls.
        return self._journal.once(f"fit-{plan.strategy}-{turn}", fit)

    def _is_affordable(self, choice: _Choice) -> bool:
        """Estimate from the measured costs whether fine-tuning would have enough steps."""
        min_steps = _FINETUNE_FRACTION * self._full_steps(choice.plan)
        steps_s = min_steps * _FINETUNE_COST * choice.costs.step_s * self._budget.num_trainings
        views_s = choice.costs.view_s * len(self._order)
        reserve_s = self._final.seconds(choice.safety) + self._fold_scoring_s()
        remaining_s = self._journal.once("remaining_s", lambda: self._budget.remaining_s() - reserve_s)
        return bool(steps_s + views_s + self._final.parts()["export"] <= remaining_s)

    def _make_views(self, choice: _Choice) -> AffordableTraining:
        """Cache the views of a fit; return a smaller fit if this takes much longer than planned."""

        def make() -> dict[str, Any]:
            plan, fit, costs = choice.plan, choice.fit, choice.costs
            reserve_s = self._final.seconds(choice.safety)
            if plan.is_cached:
                pairs = self._timer.missing_views(plan, self._order[: fit.num_images], fit.num_views)
                latest = self._budget.deadline - reserve_s - self._least_s(costs)
                until = min(self._budget.clock() + _MAX_DELAY * costs.view_s * len(pairs) + 1.0, latest)
                self._trainer.make_views(plan, pairs, until)
                fit = self._reduce_to_cached(plan, fit)
            remaining_s = self._budget.remaining_s() - reserve_s - self._fold_scoring_s()
            steps = int(remaining_s / (costs.step_s * self._budget.num_trainings))
            full_steps = max(1, fit.num_images // min(plan.batch_size, fit.num_images)) * plan.epochs
            return asdict(AffordableTraining(fit.num_images, fit.num_views, max(1, min(steps, full_steps))))

        return AffordableTraining(**self._journal.once("fit", make))

    def _reduce_to_cached(self, plan: DetectPlan, fit: AffordableTraining) -> AffordableTraining:
        """Reduce a fit to the views cached for all images, or to the images whose first view is cached."""
        samples = self._order[: fit.num_images]
        for views in range(fit.num_views, 0, -1):
            if not self._timer.missing_views(plan, samples, views):
                return AffordableTraining(fit.num_images, views, fit.num_steps)
        first_missing = self._timer.missing_views(plan, samples, 1)[0][0]
        count = int(np.flatnonzero(samples == first_missing)[0])
        return AffordableTraining(max(count, min(self._least_images, fit.num_images)), 1, fit.num_steps)

    def _full_steps(self, plan: DetectPlan) -> int:
        """Return the steps of a plan on all training images."""
        return max(1, len(self._order) // plan.batch_size) * plan.epochs

    def _least_s(self, costs: MeasuredCosts) -> float:
        return min_training_s(costs, self._least_images, self._budget.num_trainings)

    def _fold_scoring_s(self) -> float:
        return self._budget.fold_scoring_s(self._final, len(self._order))

    def _decisions(self, pace: DetectPace, requested: DetectPlan, plan: DetectPlan, full_steps: int) -> list[Decision]:
        num_train, fit = len(self._images.train), pace.fit
        evidence: Evidence = {
            **asdict(fit),
            "num_train": num_train,
            "full_steps": full_steps,
            "view_seconds": pace.costs.view_s,
            "step_seconds": pace.costs.step_s,
            "remaining_seconds": round(self._budget.remaining_s() - pace.reserve_s, 1),
            "reserved_seconds": pace.reserve_s,
        }
        chosen: list[tuple[str, Any, DecisionReason]] = [("epochs", plan.epochs, DecisionReason.STEPS_FIT_BUDGET)]
        chosen.append(("num_views", plan.num_views, DecisionReason.VIEWS_FIT_BUDGET))
        if len(self._planner.strategies()) > 1:
            chosen.insert(0, ("strategy", plan.strategy, DecisionReason.STRATEGY_FITS_BUDGET))
        if fit.num_images < num_train:
            chosen.append(("budget.num_images", fit.num_images, DecisionReason.IMAGES_FIT_BUDGET))
        if plan.batch_size < requested.batch_size:
            chosen.append(("batch_size", plan.batch_size, DecisionReason.IMAGES_FIT_BUDGET))
        return [Decision(setting, value, reason, evidence=evidence) for setting, value, reason in chosen]

    def _budget_error(self, spent_s: float, training_s: float, ending_s: float) -> BudgetError:
        min_s = min_budget_s(spent_s, training_s, ending_s)
        return BudgetError(
            f"the budget of {self._budget.budget_s:.0f} s is too small: preparation took {spent_s:.0f} s, the shortest "
            f"training takes {training_s:.0f} s, and export, scoring and report take {ending_s:.0f} s.",
            hint=f"use --budget {min_s:.0f}s or more",
            min_s=min_s,
            measured={"spent_s": spent_s, "training_s": training_s, "ending_s": ending_s},
        )


def _resize(plan: DetectPlan, fit: AffordableTraining) -> DetectPlan:
    """Return the plan with the number of epochs, batch size and views of the fit."""
    batch_size = min(plan.batch_size, fit.num_images)
    epochs = -(-fit.num_steps // max(1, fit.num_images // batch_size))
    return plan.with_(batch_size=batch_size, epochs=epochs, num_views=fit.num_views if plan.is_cached else epochs)
