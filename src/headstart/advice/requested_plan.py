"""Plan the training that the settings ask for, within the budget if there is one."""

from __future__ import annotations

import time

from headstart.advice.candidates import PlanChoice, keep_probe
from headstart.advice.finetune_costs import FINAL_STEPS_S, epochs_for_budget, measure_speed, trainings_s
from headstart.advice.resources import adapt_plan, measure_precision
from headstart.config.settings import ResolvedConfig
from headstart.training.held_out_trainer import HeldOutTrainer
from headstart.training.plan import FinetunePlan
from headstart.training.planning import make_plan
from headstart.types.codes import DecisionReason, Evidence
from headstart.types.records import Decision

__all__ = ["requested_plan"]

_HELD_OUT = 5  # 1/5 is held out where no folds are requested


def requested_plan(resolved: ResolvedConfig, trials: HeldOutTrainer, deadline: float) -> PlanChoice:
    """Return the requested plan, with epochs from the budget if there is one; the probe where it is too small.

    Args:
        resolved: The settings.
        trials: Provides the trainer and the initial head.
        deadline: `time.monotonic()` at which the final steps must begin, if there is a budget.
    """
    trainer, settings, num = trials.trainer, resolved.settings, len(trials.train)
    strategy = "head" if settings.train_from == "head" else settings.strategy
    adapted = adapt_plan(
        resolved, trainer, make_plan(resolved, strategy, trainer.backbone.cut_for(), num, trials.num_classes)
    )
    plan, decisions = adapted.plan, list(adapted.decisions)
    hidden_decisions: list[Decision] = []
    journal, head = trainer.checkpoints, trials.start_head(plan)
    if settings.finetune.precision == "auto":
        precision, speedup = journal.once("precision", lambda: measure_precision(trainer, plan, head, num))
        reason = DecisionReason.PRECISIONS_COMPARED
        if speedup is None:
            reason = DecisionReason.TRAINING_TOO_SHORT_TO_MEASURE
        decision = Decision("finetune.precision", precision, reason, evidence={"speedup": speedup})
        (hidden_decisions if precision == "float32" else decisions).append(decision)
        plan = plan.with_(precision=precision)
    folds, num_used = settings.folds or _HELD_OUT, settings.folds or 1
    if settings.time_budget is not None:
        speed = journal.once("speed", lambda: measure_speed(trainer, plan, head))
        remaining_s = journal.once("remaining_seconds", lambda: deadline - time.monotonic())
        parts = _parts(trials, plan)
        epochs = epochs_for_budget(plan, speed, parts, remaining_s)
        evidence: Evidence = {
            "remaining_seconds": max(remaining_s, 0.0),
            "reserved_seconds": FINAL_STEPS_S,
            "image_seconds": speed["image_s"],
            "epoch_seconds": trainings_s(plan.with_(epochs=1), speed, parts),
        }
        if epochs < 1:
            reason = DecisionReason.BUDGET_TOO_SHORT_FOR_EPOCH
            return keep_probe(
                trials, reason, evidence, decisions, why="budget", remaining_seconds=max(remaining_s, 0.0)
            )
        decisions.append(Decision("epochs", epochs, DecisionReason.EPOCHS_FIT_BUDGET, evidence=evidence))
        plan = plan.with_(epochs=epochs, num_views=epochs if plan.is_from_pixels else min(plan.num_views, epochs))
    return PlanChoice(plan, folds, num_used, tuple(decisions), tuple(hidden_decisions))


def _parts(trials: HeldOutTrainer, plan: FinetunePlan) -> list[tuple[int, int]]:
    """Return (training images, scored images) of each requested training."""
    num, num_val, folds = len(trials.train), len(trials.val), trials.settings.folds
    if num_val:
        return [(num, num_val)]
    held = num // (folds or _HELD_OUT)
    parts = [(num - held, held)] * (folds or 1)
    return parts if trials.is_scored_kept(plan, len(parts)) else [*parts, (num, 0)]
