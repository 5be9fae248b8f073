"""Select a fine-tuning candidate within a budget: measure costs, run short pilots, keep the better candidate.

Only trials that fit the budget at the measured speed are started. A candidate continues only if it beats the probe
on held-out images.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headstart.advice.finetune_costs import (
    FINAL_STEPS_S,
    NUM_FOLDS,
    SAFETY,
    folds_that_fit,
    image_seconds,
    measure_speed,
    training_s,
    views_s,
)
from headstart.advice.resources import adapt_plan
from headstart.events import Stage
from headstart.training.plan import FinetunePlan
from headstart.training.planning import make_plan
from headstart.types.codes import DecisionReason, Evidence, JsonValue, NoteKind
from headstart.types.records import Decision

if TYPE_CHECKING:
    from headstart.config.settings import ResolvedConfig
    from headstart.training.held_out_trainer import HeldOutTrainer
    from headstart.training.trainer import FinetuneTrainer

__all__ = ["PlanChoice", "Trial", "fit_trial", "keep_probe", "make_candidates", "select_candidate"]

_LATE_LR = 1e-3
"""Peak learning rate if only the last stage trains: three times the default."""

_LADDER = (
    (40, 3), (30, 3), (24, 3), (18, 3), (12, 3), (10, 3), (8, 3), (6, 3), (8, 2), (6, 2), (5, 2),
    (6, 1), (4, 1), (3, 1), (2, 1),
)  # fmt: skip
"""(epochs, folds), longest first; the first that fits is used."""

_MIN_EPOCHS = 8  # minimum; try fewer candidates instead of shorter pilots


@dataclass(frozen=True)
class PlanChoice:
    """The selected plan.

    Attributes:
        plan: The training plan; None keeps the probe.
        num_folds: Number of folds.
        num_used: Number of these folds that are trained before the final training.
        decisions: Decisions to show and record.
        hidden_decisions: Decisions to record only, after the others.
    """

    plan: FinetunePlan | None
    num_folds: int = 0
    num_used: int = 0
    decisions: tuple[Decision, ...] = ()
    hidden_decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class Trial:
    """Pilots that fit into the budget.

    Attributes:
        plans: The candidates.
        speeds: Result of `measure_speed` for each.
        epochs: Number of epochs of each pilot.
        num_folds: Total number of folds trained for the best candidate.
        seconds: Expected seconds, including the final training of the best candidate.
    """

    plans: list[FinetunePlan]
    speeds: list[dict[str, float]]
    epochs: int
    num_folds: int
    seconds: float


@dataclass(frozen=True)
class _Pilot:
    """Result of a pilot: log-loss gain over the probe of the fold, and seconds per training image."""

    plan: FinetunePlan
    speed: dict[str, float]
    gain: float
    image_s: float

    def to_json(self) -> dict[str, JsonValue]:
        return {**_candidate_json(self.plan), "log_loss_gain": self.gain}


def select_candidate(resolved: ResolvedConfig, trials: HeldOutTrainer, deadline: float) -> PlanChoice:
    """Measure speeds, run pilots of the candidates that fit the budget on one fold, and return the best plan.

    Args:
        resolved: The settings, with a budget.
        trials: Trains the pilots.
        deadline: `time.monotonic()` at which the final steps must start.
    """
    trainer, num = trials.trainer, len(trials.train)
    journal, budget_s = trainer.checkpoints, 60.0 * (resolved.settings.time_budget or 0.0)
    remaining_s = journal.once("remaining_seconds", lambda: deadline - time.monotonic())
    if remaining_s <= 0:
        spent_s = budget_s - FINAL_STEPS_S - remaining_s
        times: Evidence = {"budget_seconds": budget_s, "spent_seconds": spent_s, "reserved_seconds": FINAL_STEPS_S}
        return keep_probe(trials, DecisionReason.BUDGET_SPENT, times, why="budget", remaining_seconds=0.0)
    plans, decisions = make_candidates(resolved, trainer, num, trials.num_classes)
    begun = time.monotonic()
    speeds = _measure_speeds(trials, plans)
    remaining_s = journal.once("remaining_seconds_measured", lambda: remaining_s - (time.monotonic() - begun))
    trial = fit_trial(resolved, plans, speeds, num, remaining_s, len(trials.val))
    if trial is None:
        reason, remaining_s = DecisionReason.BUDGET_TOO_SHORT_FOR_TRIAL, max(remaining_s, 0.0)
        times = {"remaining_seconds": remaining_s, "reserved_seconds": FINAL_STEPS_S}
        return keep_probe(trials, reason, times, decisions, why="budget", remaining_seconds=remaining_s)
    fitting = {"epochs": trial.epochs, "num_folds_used": trial.num_folds, "num_folds": NUM_FOLDS}
    times = {"remaining_seconds": remaining_s, "expected_seconds": trial.seconds}
    decisions.append(Decision("finetune.trial", fitting, DecisionReason.TRIAL_FITS_BUDGET, evidence=times))
    sized = [p if resolved.is_explicit("epochs") else p.with_(epochs=trial.epochs) for p in trial.plans]
    sized = [p.with_(num_views=min(p.num_views, p.epochs)) for p in sized]
    sized = _with_more_views(resolved, trainer, replace(trial, plans=sized), remaining_s - trial.seconds, decisions)
    pilots = [_run_pilot(trials, plan, speed) for plan, speed in zip(sized, trial.speeds, strict=True)]
    best = max(pilots, key=lambda p: p.gain)
    evidence: Evidence = {"pilots": [p.to_json() for p in pilots]}
    if best.gain <= 0:
        return keep_probe(trials, DecisionReason.NO_PILOT_GAIN, evidence, decisions, why="no_gain")
    candidate = _candidate_json(best.plan)
    decisions.append(Decision("finetune.candidate", candidate, DecisionReason.PILOTS_COMPARED, evidence=evidence))
    chosen = [Decision(n, v, DecisionReason.PILOTS_COMPARED, evidence=evidence) for n, v in candidate.items()]
    chosen.append(Decision("epochs", best.plan.epochs, DecisionReason.TRIAL_FITS_BUDGET, evidence=times))
    hidden_decisions = [d for d in chosen if not resolved.is_explicit(d.setting)]
    if not len(trials.val) and resolved.settings.folds is None:
        hidden_decisions.append(Decision("folds", NUM_FOLDS, DecisionReason.TRIAL_FITS_BUDGET, evidence=times))
    remaining_s = journal.once("remaining_seconds_after_pilots", lambda: deadline - time.monotonic())
    num_used = trial.num_folds
    if not len(trials.val):
        num_used = folds_that_fit(best.plan, best.image_s, best.speed["view_s"], num, remaining_s)
    if num_used != trial.num_folds:
        times = {"remaining_seconds": remaining_s, "image_seconds": best.image_s, "num_folds": NUM_FOLDS}
        decisions.append(Decision("finetune.folds", num_used, DecisionReason.FOLDS_FIT_BUDGET, evidence=times))
    return PlanChoice(best.plan, NUM_FOLDS, num_used, tuple(decisions), tuple(hidden_decisions))


def keep_probe(
    trials: HeldOutTrainer,
    reason: DecisionReason,
    evidence: Evidence,
    decisions: Sequence[Decision] = (),
    **skipped: JsonValue,
) -> PlanChoice:
    """Warn that fine-tuning is skipped, with evidence `skipped`, and return the choice of the probe."""
    trials.trainer.events.warn(NoteKind.FINE_TUNING_SKIPPED, **skipped)
    return PlanChoice(None, decisions=(*decisions, Decision("strategy", "probe", reason, evidence=evidence)))


def _measure_speeds(trials: HeldOutTrainer, plans: list[FinetunePlan]) -> list[dict[str, float]]:
    """Measure the speed of each plan, once per first trainable stage."""
    speeds: dict[str, dict[str, float]] = {}
    for plan in plans:
        cut = plan.train_from
        if cut not in speeds:

            def measure(plan: FinetunePlan = plan) -> dict[str, float]:
                return measure_speed(trials.trainer, plan, trials.start_head(plan))

            speed = speeds[cut] = trials.trainer.checkpoints.once(f"speed-{cut}", measure)
            numbers = {"image_seconds": speed["image_s"], "view_seconds": speed["view_s"]}
            trials.trainer.events.note(NoteKind.SPEED_MEASURED, train_from=cut, **numbers)
    return [speeds[plan.train_from] for plan in plans]


def _run_pilot(trials: HeldOutTrainer, plan: FinetunePlan, speed: dict[str, float]) -> _Pilot:
    """Train a plan on the first fold.

    The gain is at the best interpolation factor, so all candidates have the same optimistic bias.
    """
    settings = {"train_from": plan.train_from, "lr": plan.lr, "augment": plan.augment, "num_epochs": plan.epochs}
    with trials.trainer.events.stage(Stage.PILOT, **settings) as evidence:
        trainings = trials.measure(plan, NUM_FOLDS, 1)
        gain = evidence["log_loss_gain"] = trials.compare(trainings).best_gain
    num_held = len(trainings.samples)
    num_train = len(trials.train) - (0 if len(trials.val) else num_held)
    return _Pilot(plan, speed, gain, image_seconds(trainings.results[0].records, num_train, num_held))


def fit_trial(
    resolved: ResolvedConfig,
    plans: list[FinetunePlan],
    speeds: list[dict[str, float]],
    num: int,
    remaining_s: float,
    num_val: int,
) -> Trial | None:
    """Return the longest trial that fits.

    Args:
        resolved: The settings.
        plans: The candidates, most expensive first.
        speeds: Result of `measure_speed` for each.
        num: Number of training images.
        remaining_s: Remaining seconds.
        num_val: Number of images of a user's validation split, or 0.
    """
    for number in range(len(plans), 0, -1):
        used, cost = plans[-number:], speeds[-number:]
        for epochs, folds in _LADDER:
            if resolved.is_explicit("epochs"):
                epochs = resolved.settings.epochs or epochs
            elif number > 1 and epochs < _MIN_EPOCHS:
                continue
            held = num_val or num // NUM_FOLDS
            num_train = num if num_val else num - held
            rests, by_cut = [0.0], dict[str, float]()
            seconds = 0.0
            for p, c in zip(used, cost, strict=True):
                sized = p.with_(epochs=epochs)
                pilot = training_s(sized, c["image_s"], num_train, held)
                seconds += pilot
                if not num_val:
                    rests.append((folds - 1) * pilot + training_s(sized, c["image_s"], num))
                by_cut[p.train_from] = max(by_cut.get(p.train_from, 0.0), views_s(sized, c["view_s"], num + num_val))
            seconds = SAFETY * (seconds + max(rests) + sum(by_cut.values()))
            if seconds <= remaining_s:
                return Trial(used, cost, epochs, 1 if num_val else folds, seconds)
    return None


def make_candidates(
    resolved: ResolvedConfig, trainer: FinetuneTrainer, num: int, num_classes: int
) -> tuple[list[FinetunePlan], list[Decision]]:
    """Return the candidate plans, most expensive first, and decisions; explicit settings are the same in all.

    Source: trials on 120 to 150 images of four datasets. Cropped views helped blood cells (log-loss .74 against .82)
    and clothing little, and hurt solar cells and digits, so both are tried; training the last stage alone was best on
    the first three, the last two stages on digits.
    """
    cut_setting = resolved.settings.train_from
    cuts = [trainer.backbone.cut(text) for text in ((cut_setting,) if cut_setting else ("last-2", "last-1"))]
    plans: list[FinetunePlan] = []
    decisions: list[Decision] = []
    for cut in cuts:
        plan = make_plan(resolved, "finetune", cut, num, num_classes)
        if cut == cuts[-1] and len(cuts) > 1 and not resolved.is_explicit("lr"):
            plan = plan.with_(lr=_LATE_LR)
        adapted = adapt_plan(resolved, trainer, plan)
        plan = adapted.plan
        decisions += adapted.decisions
        if plan.train_from != cut:
            continue  # limited by disk space to the cut of the next candidate
        plans.append(plan)
        if not resolved.is_explicit("augment") and not resolved.is_explicit("num_views"):
            plans.append(plan.with_(augment="none", num_views=1))
    return plans, decisions


def _candidate_json(plan: FinetunePlan) -> dict[str, JsonValue]:
    return {"train_from": plan.train_from, "lr": plan.lr, "augment": plan.augment}


def _with_more_views(
    resolved: ResolvedConfig, trainer: FinetuneTrainer, trial: Trial, spare_s: float, decisions: list[Decision]
) -> list[FinetunePlan]:
    """Return the plans of a trial with as many views as time and disk space allow; append the decision."""
    plans, speeds = trial.plans, trial.speeds
    if resolved.is_explicit("num_views") or all(p.augment == "none" for p in plans):
        return plans
    now, num = max(p.num_views for p in plans), len(trainer.data.train)

    def number() -> int:
        cuts = {p.train_from: s["view_s"] for p, s in zip(plans, speeds, strict=True)}
        more = int(0.5 * spare_s / max(SAFETY * num * sum(cuts.values()), 1e-9))
        row = max(trainer.sources.row_bytes(p) for p in plans) * num * len(cuts)
        return min(plans[0].epochs, now + min(more, trainer.sources.cache.free_bytes() // max(row, 1) - now - 1))

    views = trainer.checkpoints.once("num_views", number)  # journaled: free space differs when a run is resumed
    if views <= now or not all(p.is_cached for p in plans):
        return plans
    evidence: Evidence = {"spare_seconds": spare_s, "view_seconds": max(s["view_s"] for s in speeds)}
    decisions.append(Decision("num_views", views, DecisionReason.VIEWS_FIT_BUDGET, evidence=evidence))
    return [p if p.augment == "none" else p.with_(num_views=views) for p in plans]
