"""Keeps a detector's training within a budget: measures prices, chooses what fits, caches views, sets the pace.

A frozen backbone with cached views comes first; the last stages of the backbone train only where the time allows a
fair number of steps for that. Every measured value that decides something is journalled before it is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Boxes
from headstart.detection.plan import DetectPlan
from headstart.detection.schedule import Deadline, ScheduleChange, StepSchedule
from headstart.detection.subset import subset_order
from headstart.errors import BudgetError
from headstart.records import Decision
from headstart.system import Clock
from headstart.training.batch_sources import epoch_order
from headstart.types import DecisionReason, Evidence
from headstart.workflow.detector_costs import (
    SAFETY,
    AffordableTraining,
    FinalSteps,
    MeasuredCosts,
    fit_training,
    least_budget_s,
    least_training_s,
)
from headstart.workflow.journal import Journal

if TYPE_CHECKING:
    from headstart.detection.loop import DetectTraining

__all__ = ["BudgetTrainer", "DetectBudget", "Scored"]

Ids = NDArray[np.int64]
MakePlan = Callable[[str], tuple[DetectPlan, list[Decision]]]

_WARMUP_STEPS, _TIMED_STEPS, _LEAST_TIMED = 2, 5, 2
_TIMED_S = 3.0  # steps are timed no longer, once there are `_LEAST_TIMED`
_CHUNK, _CHUNKS = 8, 3  # views are timed in chunks, the first of which warms up
_FINETUNE_SHARE = 0.5  # of the default steps, from which training the last stages is worth its price
_FINETUNE_PRICE = 2.0  # a step that trains the last stages costs at least so many frozen ones
_MORE_WORKERS = 1.5  # what several threads lose beside other programs against what one loses, where not measured
_LATE = 1.5  # making views ends after so many times the planned seconds
_LEAST_START_S = 4.0  # of preparing the backbone and of the ending, on the fastest machine
_LOOKS, _LOOK_SHARE = 8, 0.05  # looks at unseen images during a training, and the share of its time for all of them


class BudgetTrainer(Protocol):
    """What a budget needs of `DetectorTrainer`."""

    @property
    def num_threads(self) -> int:
        """Return the number of workers that make views and score."""
        ...

    def set_torch_threads(self, count: int) -> None:
        """Let torch compute with so many threads."""
        ...

    def training(self, plan: DetectPlan, train: Ids, pace: StepSchedule | None = None) -> DetectTraining:
        """Return a training at its start."""
        ...

    def is_made(self, plan: DetectPlan, sample: int, view: int) -> bool:
        """Return whether a stored view is there; always where nothing is stored."""
        ...

    def make_views(self, plan: DetectPlan, pairs: Sequence[tuple[int, int]], until: float) -> None:
        """Make stored views in this order until the clock says `until`."""
        ...

    def time_images(self, plan: DetectPlan, samples: Ids) -> float:
        """Return the processor seconds of finding objects in one image with torch, after warm-up."""
        ...

    def export_cpu_s(self, plan: DetectPlan) -> float | None:
        """Return the processor seconds of exporting the frozen part; None where nobody measured it."""
        ...


@dataclass(frozen=True, slots=True)
class Scored:
    """The images that are scored after the training.

    Attributes:
        num_images: How many.
        num_boxes: Their true boxes.
    """

    num_images: int
    num_boxes: int


@dataclass(frozen=True, slots=True)
class _Choice:
    """A way to train: its plan, prices and the training that fits."""

    plan: DetectPlan
    prices: MeasuredCosts
    fit: AffordableTraining


class DetectBudget:
    """The time of one run.

    Args:
        started: Clock time when the command began.
        budget_s: Seconds that may be spent.
        trainer: Trains.
        journal: Where measured values are kept.
        clock: Source of time.
        cpu_clock: Source of the processor seconds of this process.
        scored: What is scored after the training.
        num_folds: Folds of a cross-validation before the final training, 0 without.
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
        self._bench, self._journal, self._clock, self._cpu_clock = trainer, journal, clock, cpu_clock
        self._scored, self._num_trainings = scored, num_folds + 1
        self._paces: list[StepSchedule] = []
        self._choice: _Choice | None = None
        self._ending: FinalSteps | None = None
        self._full_steps = 0
        self._image_s = 0.0
        self._num_torch_threads = trainer.num_threads
        self._contention = 1.0
        self._worker_contention: float | None = None
        self._safety = SAFETY
        self._order: Ids = np.zeros(0, dtype=np.int64)

    # -- before the training

    def settle(
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
        """Measure, choose what fits and make its views.

        Args:
            strategies: Allowed ones, the cheapest first.
            make_plan: Gives the plan of a strategy with nothing cut, and what was chosen in it.
            train: Positions of the training images.
            boxes: Of all images.
            num_classes: K.
            seed: Of the order in which a subset is drawn.
            torch_threads: Measures with how many threads torch computes, and the speedup of all of them over one; None
                leaves it as it is.

        Returns:
            The plan, the positions of the images that are trained on, and every decision.

        Raises:
            BudgetError: Not even the shortest training fits.
        """
        self._check_start()
        decisions = []
        if torch_threads is not None:
            count, speedup = self._journal.once("torch_threads", torch_threads)
            self._num_torch_threads = int(count)
            self._bench.set_torch_threads(int(count))
            measured: Evidence = {"num_threads": self._bench.num_threads, "speedup": speedup}
            reason = DecisionReason.THREADS_MEASURED
            decisions.append(Decision("budget.torch_threads", int(count), reason, evidence=measured))
        self._order, least_images = subset_order(train, boxes, num_classes, seed=seed)
        plan, made = make_plan(strategies[0])
        choice = self._measure(plan, least_images)
        for strategy in strategies[1:]:
            if not self._may_pay(choice):
                break
            dearer_plan, dearer_made = make_plan(strategy)
            dearer = self._try(dearer_plan, least_images)
            if dearer is not None:
                choice, made = dearer, dearer_made
            else:  # trying it took its time
                choice = self._measure(choice.plan, least_images, turn="again")
        settled = {"epochs", "views", *(("strategy",) if len(strategies) > 1 else ())}
        decisions += [d for d in made if d.setting not in settled]
        choice = self._make_views(choice, least_images)
        self._choice = choice
        plan = self._sized(choice)
        decisions += self._decisions(choice, plan, len(train), len(strategies))
        return plan, np.sort(self._order[: choice.fit.num_images]), decisions

    def _check_start(self) -> None:
        """Refuse a budget that is over before anything could be measured."""
        spent = self._journal.once("spent_s", lambda: self._clock() - self.started)
        if spent + 2 * _LEAST_START_S > self.budget_s:
            raise self._refusal(spent, least_training_s(MeasuredCosts(0.0, 0.1), 1), 2 * _LEAST_START_S)

    def _measure(self, plan: DetectPlan, least_images: int, turn: str = "first") -> _Choice:
        """Return what fits with a plan.

        Raises:
            BudgetError: Nothing does.
        """
        prices, fitting = self._price(plan, least_images, turn, is_needed=True)
        assert self._ending is not None
        if fitting["fit"] is None:
            least_s = least_training_s(prices, least_images, self._num_trainings) + self._held_s()
            raise self._refusal(fitting["spent_s"], least_s, self._ending.seconds())
        self._safety = fitting["safety"]
        return _Choice(plan, prices, AffordableTraining(**fitting["fit"]))

    def _try(self, plan: DetectPlan, least_images: int) -> _Choice | None:
        """Return what fits with the plan of a dearer strategy where that is worth its price, else None."""
        prices, fitting = self._price(plan, least_images, "first", is_needed=False)
        fit = None if fitting["fit"] is None else AffordableTraining(**fitting["fit"])
        if fit is None or fit.num_images < len(self._order) or fit.num_steps < _FINETUNE_SHARE * self._full_steps:
            return None
        self._safety = fitting["safety"]
        return _Choice(plan, prices, fit)

    def _price(
        self, plan: DetectPlan, least_images: int, turn: str, *, is_needed: bool
    ) -> tuple[MeasuredCosts, dict[str, Any]]:
        """Return the prices of a plan and what `_fit_now` says; the first plan prices the ending too."""
        name = plan.strategy
        prices = MeasuredCosts(**self._journal.once(f"prices-{name}", lambda: self._time_training(plan)))
        if self._ending is None:
            self._ending = FinalSteps(**self._journal.once("ending", lambda: self._time_ending(plan)))
            self._image_s = self._ending.image_cpu_s * self._ending.contention
        self._full_steps = max(1, len(self._order) // plan.batch_size) * plan.epochs
        # What is left, and which views are missing, depend on the moment.
        key = f"fit-{name}-{turn}"
        return prices, self._journal.once(key, lambda: self._fit_now(plan, prices, least_images, is_needed))

    def _fit_now(self, plan: DetectPlan, prices: MeasuredCosts, least_images: int, is_needed: bool) -> dict[str, Any]:
        """Return what fits now; where nothing does and something is needed, the ending is taken at its estimate."""
        now = self._clock()
        is_stored = plan.strategy in ("head", "finetune")
        by_view = [len(self._missing(plan, self._order, v, v)) if is_stored else 0 for v in range(1, plan.views + 1)]
        missing = np.cumsum([0, *by_view])
        assert self._ending is not None
        for safety in (SAFETY, 1.0) if is_needed else (SAFETY,):
            fit = fit_training(
                self.deadline - now - self._ending.seconds(safety) - self._held_s(),
                prices,
                num_images=len(self._order),
                batch_size=plan.batch_size,
                limit_views=plan.views if is_stored else 1,
                full_steps=self._full_steps,
                least_images=least_images,
                missing=lambda views: int(missing[views]),
                num_trainings=self._num_trainings,
            )
            if fit is not None:
                break
        return {"spent_s": now - self.started, "safety": safety, "fit": None if fit is None else fit.to_json()}

    def _missing(self, plan: DetectPlan, samples: Ids, last: int, first: int = 1) -> list[tuple[int, int]]:
        """Return (image, view) of the stored views that are to be made, one view of all images after another."""
        pairs = [(int(s), v) for v in range(first, last + 1) for s in samples]
        return [pair for pair in pairs if not self._bench.is_made(plan, *pair)]

    def _may_pay(self, choice: _Choice) -> bool:
        """Return whether a dearer strategy could reach its share of the default steps, from the price of this one."""
        assert self._ending is not None
        steps_s = _FINETUNE_SHARE * self._full_steps * _FINETUNE_PRICE * choice.prices.step_s * self._num_trainings
        views_s = choice.prices.view_s * len(self._order)
        export_s = self._ending.parts()["export"]
        left_s = self._journal.once("left_s", lambda: self._left_s() - self._held_s())
        return bool(steps_s + views_s + export_s <= left_s)

    def _make_views(self, choice: _Choice, least_images: int) -> _Choice:
        """Make the stored views; fewer of them, or of fewer images, where that takes much longer than planned."""

        def make() -> dict[str, Any]:
            plan, fit = choice.plan, choice.fit
            samples = self._order[: fit.num_images]
            if plan.strategy in ("head", "finetune"):
                pairs = self._missing(plan, samples, fit.views)
                planned_s = choice.prices.view_s * len(pairs)
                latest = self.deadline - self._reserve_s() - self._least_s(choice, least_images)
                until = min(self._clock() + _LATE * planned_s + 1.0, latest)
                self._bench.make_views(plan, pairs, until)
                fit = self._made(plan, fit, least_images)
            left_s = self.deadline - self._reserve_s() - self._held_s() - self._clock()
            steps = int(left_s / (choice.prices.step_s * self._num_trainings))
            full_steps = max(1, fit.num_images // min(plan.batch_size, fit.num_images)) * plan.epochs
            return AffordableTraining(fit.num_images, fit.views, max(1, min(steps, full_steps))).to_json()

        return _Choice(choice.plan, choice.prices, AffordableTraining(**self._journal.once("fit", make)))

    def _made(self, plan: DetectPlan, fit: AffordableTraining, least_images: int) -> AffordableTraining:
        """Return what was made of a fit: whole views, or the images whose first view is there."""
        samples = self._order[: fit.num_images]
        for views in range(fit.views, 0, -1):
            if not self._missing(plan, samples, views):
                return AffordableTraining(fit.num_images, views, fit.num_steps)
        gap = self._missing(plan, samples, 1)[0][0]
        count = int(np.flatnonzero(samples == gap)[0])
        return AffordableTraining(max(count, min(least_images, fit.num_images)), 1, fit.num_steps)

    def _least_s(self, choice: _Choice, least_images: int) -> float:
        return least_training_s(choice.prices, least_images, self._num_trainings)

    def _sized(self, choice: _Choice) -> DetectPlan:
        """Return the plan with the epochs and views of the fit."""
        plan, fit = choice.plan, choice.fit
        batch_size = min(plan.batch_size, fit.num_images)
        epochs = -(-fit.num_steps // max(1, fit.num_images // batch_size))
        is_stored = plan.strategy in ("head", "finetune")
        return plan.with_(batch_size=batch_size, epochs=epochs, views=fit.views if is_stored else epochs)

    # -- measuring

    def _time_training(self, plan: DetectPlan) -> dict[str, float]:
        """Return the prices of a view and of a step, each after warm-up."""
        view_s = self._time_views(plan) if plan.strategy in ("head", "finetune") else 0.0
        training = self._bench.training(plan, self._order)
        size = min(plan.batch_size, len(self._order))
        order = np.resize(epoch_order(self._order, 0, plan.seed), (_WARMUP_STEPS + _TIMED_STEPS) * size)
        if view_s or plan.strategy in ("head", "finetune"):
            order = np.resize(self._order[:size], len(order))  # whose first view is made
        training.source.announce([(int(s), 1) for s in order])
        seconds, busy = list[float](), list[float]()
        for i in range(_WARMUP_STEPS + _TIMED_STEPS):
            began, began_cpu = self._clock(), self._cpu_clock()
            training.take_step(order[i * size : (i + 1) * size], np.ones(size, dtype=np.int64))
            seconds.append(self._clock() - began)
            busy.append(self._cpu_clock() - began_cpu)
            timed = seconds[_WARMUP_STEPS:]
            if len(timed) >= _LEAST_TIMED and sum(seconds) > _TIMED_S:
                break
        cpu_s = sum(busy[_WARMUP_STEPS:]) / self._num_torch_threads
        self._contention = max(1.0, sum(seconds[_WARMUP_STEPS:]) / max(cpu_s, 1e-9))
        return MeasuredCosts(view_s, max(float(np.median(seconds[_WARMUP_STEPS:])), 1e-6)).to_json()

    def _time_views(self, plan: DetectPlan) -> float:
        """Return the seconds of making one view; 0 where all that may be wanted are there."""
        pairs = self._missing(plan, self._order, max(1, plan.views))[: _CHUNK * _CHUNKS]
        if not pairs:
            return 0.0
        prices, seconds, cpu_s = list[float](), 0.0, 0.0
        for start in range(0, len(pairs), _CHUNK):
            part = pairs[start : start + _CHUNK]
            began, began_cpu = self._clock(), self._cpu_clock()
            self._bench.make_views(plan, part, self.deadline)
            prices.append((self._clock() - began) / len(part))
            if start:
                seconds += self._clock() - began
                cpu_s += self._cpu_clock() - began_cpu
        if cpu_s:
            self._worker_contention = max(1.0, seconds * self._bench.num_threads / cpu_s)
        return float(np.median(prices[1:] or prices))

    def _time_ending(self, plan: DetectPlan) -> dict[str, Any]:
        """Return the values of `FinalSteps`."""
        return {
            "num_scored": self._scored.num_images,
            "num_scored_boxes": self._scored.num_boxes,
            "export_cpu_s": self._bench.export_cpu_s(plan),
            "image_cpu_s": self._bench.time_images(plan, self._order[:3]),
            "contention": self._contention,
            "num_threads": self._bench.num_threads,
            "worker_contention": self._worker_contention or _MORE_WORKERS * (self._contention - 1.0) + 1.0,
        }

    # -- the time that is left

    def _reserve_s(self) -> float:
        assert self._ending is not None
        return self._ending.seconds(self._safety)

    def _left_s(self) -> float:
        """Return the seconds left now for views and trainings."""
        return self.deadline - self._clock() - self._reserve_s()

    def _held_s(self) -> float:
        """Return the seconds of scoring every training image once, out of fold."""
        return self._image_s * len(self._order) if self._num_trainings > 1 else 0.0

    # -- the training

    def pace(self, phase: str, num_held: int) -> StepSchedule:
        """Return the pace of the next training, which shares the time that is left with those after it.

        Args:
            phase: Its name.
            num_held: Held-out images that are scored after it, out of fold.
        """
        assert self._choice is not None
        after = self._num_trainings - len(self._paces) - 1  # folds that are scored: this one and all after it
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
            step_s=self._choice.prices.step_s,
            most_steps=max(full_steps, fit.num_steps),
        )
        pace = StepSchedule(fit.num_steps, deadline=deadline, clock=self._clock, record=record, replay=replay)
        self._paces.append(pace)
        return pace

    def num_looks(self, num_held: int) -> int:
        """Return how often a training may look at held-out images for its curve."""
        assert self._choice is not None
        look_s = (self._choice.prices.view_s + self._image_s) * num_held
        training_s = self._choice.prices.step_s * self._choice.fit.num_steps
        return min(_LOOKS, int(_LOOK_SHARE * training_s / max(look_s, 1e-9)))

    # -- the ending

    def num_compared(self, most: int) -> int:
        """Return on how many images torch and the bundle are compared in the time that is left now."""
        assert self._ending is not None
        left_s = self.deadline - self._clock() - self._ending.parts()["other"]
        return self._ending.num_compared(left_s, most)

    def to_json(self) -> dict[str, Any]:
        """Return what was planned, measured and used, for `metrics.json`."""
        assert self._choice is not None
        assert self._ending is not None
        used_s = self._clock() - self.started
        return {
            "seconds": round(self.budget_s, 3),
            "used_s": round(used_s, 3),
            "is_kept": bool(used_s <= self.budget_s),
            "spent_before_s": round(float(self._journal.read("spent_s")), 3),
            "reserved_s": {name: round(value, 3) for name, value in self._ending.parts().items()},
            "contention": [round(self._ending.contention, 3), round(self._ending.worker_contention, 3)],
            "view_s": round(self._choice.prices.view_s, 5),
            "step_s": round(self._choice.prices.step_s, 5),
            "image_cpu_s": round(self._ending.image_cpu_s, 5),
            "planned": self._choice.fit.to_json(),
            "num_steps": [pace.num_steps for pace in self._paces],
            "num_replans": [pace.num_replans for pace in self._paces],
        }

    def _decisions(self, choice: _Choice, plan: DetectPlan, num_train: int, num_strategies: int) -> list[Decision]:
        prices, fit = choice.prices, choice.fit
        evidence: Evidence = {
            **fit.to_json(),
            "num_train": num_train,
            "full_steps": self._full_steps,
            "view_seconds": prices.view_s,
            "step_seconds": prices.step_s,
            "left_seconds": round(self._left_s(), 1),
            "reserved_seconds": self._reserve_s(),
        }
        chosen: list[tuple[str, Any, DecisionReason]] = [("epochs", plan.epochs, DecisionReason.STEPS_FIT_BUDGET)]
        chosen.append(("views", plan.views, DecisionReason.VIEWS_FIT_BUDGET))
        if num_strategies > 1:
            chosen.insert(0, ("strategy", plan.strategy, DecisionReason.STRATEGY_FITS_BUDGET))
        if fit.num_images < num_train:
            chosen.append(("budget.num_images", fit.num_images, DecisionReason.IMAGES_FIT_BUDGET))
        if plan.batch_size < choice.plan.batch_size:
            chosen.append(("batch_size", plan.batch_size, DecisionReason.IMAGES_FIT_BUDGET))
        return [Decision(setting, value, reason, evidence=evidence) for setting, value, reason in chosen]

    def _refusal(self, spent_s: float, training_s: float, ending_s: float) -> BudgetError:
        least_s = least_budget_s(spent_s, training_s, ending_s)
        return BudgetError(
            f"the budget of {self.budget_s:.0f} s is too small: {spent_s:.0f} s were spent before the training, the "
            f"shortest training takes {training_s:.0f} s, and export, scores and report take {ending_s:.0f} s.",
            hint=f"--budget {least_s:.0f}s is the smallest that would do here now",
            least_s=least_s,
            measured={"spent_s": spent_s, "training_s": training_s, "ending_s": ending_s},
        )
