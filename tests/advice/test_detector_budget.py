"""Test budgets on simulated machines: slow engines, slow steps, many images; no real time passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headstart.advice.detector_budget import BudgetImages, BudgetPlanner
from headstart.advice.detector_pace import TimeBudget
from headstart.data.boxes.records import Boxes
from headstart.detection.plan import DetectPlan
from headstart.detection.planning import default_epochs
from headstart.detection.schedule import StepSchedule
from headstart.detection.subset import subset_order
from headstart.errors import BudgetError
from headstart.runs.journal import Journal
from headstart.types.codes import DecisionReason
from headstart.types.records import Decision

BATCH = 8


class Machine:
    """Simulated trainer and clock: everything takes the given seconds.

    Args:
        engine_s: Seconds of preparing the frozen prefix, once per strategy.
        view_s: Seconds of a cached view.
        step_s: Seconds of a step, by strategy.
        export_cpu_s, image_cpu_s: CPU seconds from which the final steps are estimated.
        slowdown: Factor on all durations by clock time; not visible in CPU seconds.
    """

    num_threads = 2

    def __init__(
        self,
        *,
        engine_s: float = 8.0,
        view_s: float = 0.02,
        step_s: Mapping[str, float] | None = None,
        export_cpu_s: float = 8.0,
        image_cpu_s: float = 0.1,
        slowdown: Callable[[float], float] = lambda _: 1.0,
    ) -> None:
        self.t = self.cpu = 0.0
        self.torch_threads = self.num_threads
        self.engine_s, self.view_s = engine_s, view_s
        self.step_s = step_s or {"head": 0.1, "finetune": 0.25}
        self.export_cpu, self.image_cpu, self.slowdown = export_cpu_s, image_cpu_s, slowdown
        self.made: set[tuple[str, int, int]] = set()
        self.prepared: list[str] = []

    def clock(self) -> float:
        return self.t

    def cpu_clock(self) -> float:
        return self.cpu

    def work(self, seconds: float, num_threads: int | None = None) -> None:
        self.t += seconds * self.slowdown(self.t)
        self.cpu += (num_threads or self.torch_threads) * seconds

    def set_torch_threads(self, count: int) -> None:
        self.torch_threads = count

    def training(self, plan: DetectPlan, train: Any, schedule: StepSchedule | None = None) -> Any:
        step = lambda samples, views: self.work(self.step_s[plan.strategy])  # noqa: E731
        return SimpleNamespace(source=SimpleNamespace(announce=lambda pairs: None), take_step=step)

    def is_cached(self, plan: DetectPlan, sample: int, view: int) -> bool:
        return (plan.strategy, sample, view) in self.made

    def make_views(self, plan: DetectPlan, pairs: Sequence[tuple[int, int]], until: float) -> None:
        for sample, view in pairs:
            if self.t >= until:
                return
            self.work(self.view_s, self.num_threads)
            self.made.add((plan.strategy, sample, view))

    def time_images(self, plan: DetectPlan, samples: Any) -> float:
        self.work(len(samples) * self.image_cpu / self.num_threads)
        return self.image_cpu

    def export_cpu_s(self, plan: DetectPlan) -> float:
        return self.export_cpu

    def planner(self, num_train: int, strategies: Sequence[str]) -> Any:
        """Return a substitute for `DetectPlanner`."""

        def plan(strategy: str) -> tuple[DetectPlan, list[Decision]]:
            self.prepared.append(strategy)
            self.work(self.engine_s)
            plan = DetectPlan(strategy=strategy, epochs=default_epochs(num_train, BATCH), batch_size=BATCH, num_views=8)
            made = {"strategy": strategy, "lr": plan.lr}
            return plan, [Decision(name, value, DecisionReason.SET_BY_USER) for name, value in made.items()]

        return SimpleNamespace(plan=plan, strategies=lambda: strategies)


@pytest.fixture(autouse=True)
def one_torch_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the measurement of torch threads."""
    monkeypatch.setattr("headstart.advice.detector_budget.measure_threads", lambda most: (1, 0.9))


class Run:
    """One whole run on a simulated machine: plan, train, finish."""

    def __init__(
        self,
        machine: Machine,
        num_train: int,
        budget_s: float,
        *,
        folder: Path,
        strategies: Sequence[str] = ("head", "finetune"),
        num_scored: int | None = None,
        num_folds: int = 0,
        started_s: float = 3.0,
        journal: Mapping[str, Any] | None = None,
    ) -> None:
        self.num_scored = num_train // 4 if num_scored is None else num_scored
        boxes = [Boxes.of([(0, 0, 9, 9)], [i % 3]) for i in range(num_train)]
        machine.work(started_s)
        self.journal = Journal(folder / "journal.json", journal)
        trainer: Any = machine
        planned = BudgetPlanner(
            TimeBudget(0.0, budget_s, machine.clock, num_folds + 1),
            trainer,
            machine.planner(num_train, strategies),
            self.journal,
            BudgetImages(np.arange(num_train), boxes, 3, np.arange(self.num_scored)),
            cpu_clock=machine.cpu_clock,
        ).plan()
        assert planned.pace is not None
        self.plan, self.train, self.decisions, self.pace = planned.plan, planned.train, planned.decisions, planned.pace
        self.steps, self.progress = [], list[float]()
        for phase in (*(f"fold{i}" for i in range(num_folds)), "final"):
            self._train(machine, phase, num_train // num_folds if phase != "final" else 0)
        self.trained_at = machine.t
        quiet = replace(self.pace.final, contention=1.0, worker_contention=1.0).parts()
        machine.work(sum(quiet[name] for name in ("export", "detect", "evaluate", "other")))
        count = self.pace.num_compared(40)
        machine.work(1.6 * count * machine.image_cpu)
        self.num_compared = count
        self.used_s = machine.t

    def _train(self, machine: Machine, phase: str, num_held: int) -> None:
        schedule, step = self.pace.make_schedule(phase, num_held), 0
        schedule.start()
        while not schedule.is_done(step):
            self.progress.append(schedule.progress(step))
            machine.work(machine.step_s[self.plan.strategy])
            step += 1
            schedule.after_step(step)
        schedule.finish(step)
        self.steps.append(step)
        machine.work(machine.image_cpu * num_held)

    @property
    def decided(self) -> dict[str, Any]:
        return {d.setting: d.value for d in self.decisions}


@pytest.mark.parametrize("num_train", [131, 296, 427, 677, 1770])
@pytest.mark.parametrize("budget_s", [90.0, 180.0, 240.0, 480.0])
def test_slow_engine_start_is_not_refused(num_train: int, budget_s: float, tmp_path: Path) -> None:
    run = Run(Machine(engine_s=20.0), num_train, budget_s, folder=tmp_path)
    assert run.used_s <= budget_s
    assert run.steps[-1] >= 100
    assert len(run.train) == num_train or budget_s < 240
    is_short = run.used_s < 0.85 * budget_s
    assert not is_short or run.steps[-1] >= default_epochs(num_train, BATCH) * (num_train // BATCH)


@pytest.mark.parametrize("slow", [1.5, 3.0])
@pytest.mark.parametrize("at", [0.0, 20.0, 45.0])
def test_budget_holds_on_slowing_machine(slow: float, at: float, tmp_path: Path) -> None:
    for budget_s in (120.0, 180.0, 480.0):
        machine = Machine(slowdown=lambda t: slow if t >= at else 1.0)
        run = Run(machine, 160, budget_s, folder=tmp_path)
        assert run.used_s <= 1.1 * budget_s, (budget_s, run.used_s)
        assert run.progress[-1] > 0.9


def test_slow_steps_end_in_time(tmp_path: Path) -> None:
    machine = Machine()
    quiet = Run(machine, 160, 120.0, folder=tmp_path)
    started = quiet.trained_at - quiet.steps[0] * 0.1
    slow = Run(Machine(slowdown=lambda t: 3.0 if t > started + 2.0 else 1.0), 160, 120.0, folder=tmp_path)
    assert slow.steps[0] < 0.5 * quiet.steps[0]
    assert slow.used_s <= 132.0
    assert slow.progress[-1] > 0.9


def test_few_images_prefer_many_epochs(tmp_path: Path) -> None:
    run = Run(Machine(step_s={"head": 0.1, "finetune": 1.0}), 131, 120.0, folder=tmp_path)
    assert run.plan.strategy == "head"
    assert run.plan.epochs >= 12
    assert run.decided["strategy"] == "head"


def test_finetuning_needs_half_of_default_steps(tmp_path: Path) -> None:
    rich = Run(Machine(), 160, 480.0, folder=tmp_path)
    assert rich.plan.strategy == "finetune"
    machine = Machine()
    poor = Run(machine, 160, 90.0, folder=tmp_path)
    assert poor.plan.strategy == "head"
    assert machine.prepared == ["head"]  # the expensive strategy is not prepared if it cannot pay off
    dear = Machine(step_s={"head": 0.1, "finetune": 3.0})
    run = Run(dear, 160, 300.0, folder=tmp_path)
    assert dear.prepared == ["head", "finetune"]
    assert run.plan.strategy == "head"
    assert run.used_s <= 300.0


def test_small_budget_trains_on_subset(tmp_path: Path) -> None:
    run = Run(Machine(view_s=0.08), 1770, 120.0, folder=tmp_path, num_scored=200)
    assert 100 < len(run.train) < 1770
    assert run.decided["budget.num_images"] == len(run.train)
    assert run.plan.num_views == 1
    assert run.used_s <= 120.0


def test_late_views_leave_time_for_training(tmp_path: Path) -> None:
    machine = Machine()
    views = machine.make_views

    def late(plan: DetectPlan, pairs: Sequence[tuple[int, int]], until: float) -> None:
        machine.view_s = 0.02 if len(pairs) <= 24 else 0.1
        views(plan, pairs, until)

    machine.make_views = late  # type: ignore[method-assign]
    run = Run(machine, 400, 120.0, folder=tmp_path)
    assert run.used_s <= 120.0
    assert run.steps[0] >= 24
    assert run.plan.num_views == 1


def test_too_small_budget_names_least_budget(tmp_path: Path) -> None:
    with pytest.raises(BudgetError) as early:
        Run(Machine(), 160, 5.0, folder=tmp_path)
    assert early.value.min_s > 5.0
    machine = Machine(engine_s=20.0)
    with pytest.raises(BudgetError) as late:
        Run(machine, 160, 30.0, folder=tmp_path)
    measured = late.value.measured
    assert measured["spent_s"] >= 23.0
    assert measured["ending_s"] > 10.0
    assert 30.0 < sum(measured.values()) < late.value.min_s <= 2 * sum(measured.values())
    assert Run(Machine(engine_s=20.0), 160, late.value.min_s, folder=tmp_path).used_s <= late.value.min_s


@pytest.mark.parametrize("budget_s", [20.0, 26.0, 30.0])
def test_named_least_budget_is_sufficient(budget_s: float, tmp_path: Path) -> None:
    with pytest.raises(BudgetError) as refused:
        Run(Machine(), 400, budget_s, folder=tmp_path)
    min_s = refused.value.min_s
    assert min_s > budget_s
    assert Run(Machine(), 400, min_s, folder=tmp_path).used_s <= min_s


def test_sufficient_budget_is_accepted(tmp_path: Path) -> None:
    for budget_s in np.arange(36.0, 100.0, 2.0):
        run = Run(Machine(), 400, float(budget_s), folder=tmp_path)
        assert run.used_s <= 1.1 * budget_s
        assert run.steps[0] >= 20


def test_folds_share_budget(tmp_path: Path) -> None:
    run = Run(Machine(), 160, 240.0, folder=tmp_path, num_folds=3, num_scored=0)
    assert len(run.steps) == 4
    assert max(run.steps) < 1.3 * min(run.steps)
    assert run.used_s <= 240.0


def test_cached_views_cost_nothing(tmp_path: Path) -> None:
    machine = Machine()
    first = Run(machine, 160, 90.0, folder=tmp_path)
    machine.t = machine.cpu = 0.0
    again = Run(machine, 160, 90.0, folder=tmp_path)
    assert again.steps[0] > first.steps[0]


def test_same_journal_gives_same_plan(tmp_path: Path) -> None:
    first = Run(Machine(slowdown=lambda t: 1.0 if t < 60 else 1.7), 400, 180.0, folder=tmp_path)
    values = first.journal._values
    again = Run(Machine(view_s=0.2, step_s={"head": 0.7, "finetune": 9.0}), 400, 180.0, folder=tmp_path, journal=values)
    assert (again.plan, again.steps, again.progress) == (first.plan, first.steps, first.progress)
    np.testing.assert_array_equal(again.train, first.train)


def test_budget_json(tmp_path: Path) -> None:
    run = Run(Machine(), 160, 90.0, folder=tmp_path)
    value = run.pace.to_json()
    assert value["seconds"] == 90.0
    assert value["used_s"] == pytest.approx(run.used_s, abs=1e-3)
    assert value["is_kept"] is True
    assert value["step_s"] == pytest.approx(0.1)
    assert value["view_s"] == pytest.approx(0.02)
    assert value["num_steps"] == run.steps
    assert value["planned"]["num_views"] == run.plan.num_views


def test_validations_stay_cheap(tmp_path: Path) -> None:
    poor = Run(Machine(), 160, 60.0, folder=tmp_path)
    assert poor.pace.num_validations(200) == 0
    rich = Run(Machine(), 160, 480.0, folder=tmp_path)
    assert 0 < rich.pace.num_validations(10) <= 8


def test_subset_order_is_stratified() -> None:
    boxes = [Boxes.of([(0, 0, 9, 9)], [0]) for _ in range(90)]
    boxes += [Boxes.of([(0, 0, 9, 9)] * 2, [0, 1]) for _ in range(9)]
    boxes += [Boxes.of([(0, 0, 9, 9)] * 3, [0, 1, 2]), Boxes.of([])]
    train = np.arange(len(boxes))
    order, least = subset_order(train, boxes, 3, seed=0)
    assert sorted(order) == train.tolist()
    for count in (least, 20, 50):
        shown = np.bincount(np.concatenate([boxes[i].class_ids for i in order[:count]]), minlength=3)
        assert shown.min() >= 1
    half = order[:50]
    assert 4 <= sum(i in range(90, 99) for i in half) <= 6
    assert not np.array_equal(order, subset_order(train, boxes, 3, seed=1)[0])
