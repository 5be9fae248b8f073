"""Adapt a plan to this machine and data: disk space, precision, threads, flip augmentation.

Explicit settings are never changed; every other change is measured and returned as a decision.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.errors import UsageError, WeightsError
from headstart.preprocessing.augmentation import parse_augment
from headstart.probe.probe import fit_probe
from headstart.training.folds import make_folds
from headstart.training.plan import FinetunePlan
from headstart.types.codes import DecisionReason, Evidence
from headstart.types.records import Decision

if TYPE_CHECKING:
    from headstart.config.settings import ResolvedConfig
    from headstart.probe.linear import LinearHead
    from headstart.training.trainer import FinetuneTrainer

__all__ = ["AdaptedPlan", "adapt_plan", "fit_to_disk", "measure_precision", "measure_threads"]

_FEWEST_VIEWS = 2
_MAX_FLIPPED = 300  # images on which flipping is measured
_MIN_IMAGES_FOR_TRIAL = 3000  # images x epochs; below, a precision trial costs more than it saves
_CLEARLY_FASTER = 1.15


@dataclass(frozen=True)
class AdaptedPlan:
    """A plan that fits the machine and the data, with the decisions that changed it."""

    plan: FinetunePlan
    decisions: tuple[Decision, ...] = ()


def adapt_plan(resolved: ResolvedConfig, trainer: FinetuneTrainer, plan: FinetunePlan) -> AdaptedPlan:
    """Return the plan without harmful flips, reduced to the disk space of the cache."""
    unflipped = _without_harmful_flip(resolved, trainer, plan)
    fitting = fit_to_disk(resolved, trainer, unflipped.plan, len(trainer.data.train))
    return AdaptedPlan(fitting.plan, (*unflipped.decisions, *fitting.decisions))


def fit_to_disk(resolved: ResolvedConfig, trainer: FinetuneTrainer, plan: FinetunePlan, num: int) -> AdaptedPlan:
    """Reduce a plan to the disk space of the cache: fewer views, a later cut, or no caching.

    Args:
        resolved: The settings.
        trainer: Provides row sizes and free space.
        plan: The plan.
        num: Number of images.
    """
    phases = _decide_phases(trainer, plan, num) if plan.unfreeze else ()
    # Decided once: cached rows take space, and a resumed run must keep its plan.
    key = f"free-{plan.strategy}-{plan.train_from}"
    changes, evidence = trainer.checkpoints.once(key, lambda: _fit_changes(resolved, trainer, plan, num))
    shown = {"finetune.is_cached": False} if "is_cached" in changes else changes
    reason = DecisionReason.CACHE_TOO_SMALL
    decisions = (Decision(name, value, reason, evidence=evidence) for name, value in shown.items())
    return AdaptedPlan(plan.with_(**changes), (*phases, *decisions))


def _decide_phases(trainer: FinetuneTrainer, plan: FinetunePlan, num: int) -> tuple[Decision, ...]:
    """Decide whether every phase of gradual unfreezing has its own cached rows: only if all fit on the disk."""
    sources = trainer.sources
    rows = sources.phases
    cuts = rows.cuts(plan)
    if len(cuts) == 1:
        return ()
    try:
        sizes = [size * num * (plan.num_views + 1) for size in sources.phase_bytes(plan)]
    except (UsageError, WeightsError):  # the network cannot be cut at a later stage
        rows.is_on = False
        problem: Evidence = {"cut": plan.train_from, "wanted_cuts": [cut for _, cut in cuts]}
        return (Decision("finetune.phases", "one", DecisionReason.PHASES_CANNOT_BE_CUT, evidence=problem),)
    free = sources.cache.free_bytes()
    # Decided once: a resumed run must use the same rows.
    rows.is_on = trainer.checkpoints.once("phases", lambda: sum(sizes) <= free)
    evidence: Evidence = {
        "phases": [
            {"start": share, "cut": cut, "needed_bytes": int(size)}
            for (share, cut), size in zip(cuts, sizes, strict=True)
        ],
        "free_bytes": int(free),
        "cut": plan.train_from,
    }
    value, reason = (
        ("one_per_cut", DecisionReason.PHASES_FIT_CACHE) if rows.is_on else ("one", DecisionReason.PHASES_TOO_LARGE)
    )
    return (Decision("finetune.phases", value, reason, evidence=evidence),)


def _fit_changes(
    resolved: ResolvedConfig, trainer: FinetuneTrainer, plan: FinetunePlan, num: int
) -> tuple[dict[str, Any], Evidence]:
    """Return the changes of a plan that does not fit the disk, and the sizes."""
    free = trainer.sources.cache.free_bytes()
    needed = trainer.sources.row_bytes(plan) * num * (plan.num_views + 1)
    if needed <= free:
        return {}, {}
    sizes: Evidence = {"needed_bytes": int(needed), "free_bytes": int(free)}
    candidates = [plan]
    if plan.strategy == "finetune" and not (resolved.is_explicit("train_from") or resolved.is_explicit("unfreeze")):
        candidates.append(plan.with_(train_from=trainer.backbone.cut("last-1")))
    for candidate in candidates:
        each = trainer.sources.row_bytes(candidate) * num
        views = plan.num_views if resolved.is_explicit("num_views") else min(plan.num_views, free // max(each, 1) - 1)
        if views >= min(_FEWEST_VIEWS, plan.num_views) and each * (views + 1) <= free:
            moved = {"train_from": candidate.train_from} if candidate.train_from != plan.train_from else {}
            return {**moved, "num_views": int(views)}, sizes
    if plan.strategy != "finetune":
        return {}, {}  # rows of a head are small; those that do not fit stay in memory or are recomputed
    return {"is_cached": False, "num_views": plan.epochs}, sizes


def measure_precision(
    trainer: FinetuneTrainer, plan: FinetunePlan, head: LinearHead, num: int
) -> tuple[str, float | None]:
    """Return the faster of `float32` and `bfloat16`, and the speedup of bfloat16.

    The speedup is None where the training is too short for a trial.
    """
    if plan.strategy not in ("full", "scratch") or plan.epochs * num < _MIN_IMAGES_FOR_TRIAL:
        return "float32", None
    import torch

    net = trainer.network(plan, head)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn((8, 3, *trainer.embedder.spec.size_hw), generator=generator).to(trainer.device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    seconds = {"float32": np.inf, "bfloat16": np.inf}
    net.set_training(True)
    for _ in range(2):  # the first is warm-up
        for name in seconds:
            started = time.monotonic()
            with torch.autocast(trainer.device.type, dtype=torch.bfloat16, enabled=name == "bfloat16"):
                net((pixels,), {}).float().square().mean().backward()
            seconds[name] = min(seconds[name], time.monotonic() - started)
            net.zero_grad(set_to_none=True)
    ratio = seconds["float32"] / seconds["bfloat16"]
    return "bfloat16" if ratio >= _CLEARLY_FASTER else "float32", float(ratio)


def _without_harmful_flip(resolved: ResolvedConfig, trainer: FinetuneTrainer, plan: FinetunePlan) -> AdaptedPlan:
    """Return the plan without flip augmentation where flipping clearly lowers the accuracy, as for letters."""
    augment = parse_augment(plan.augment)
    if resolved.is_explicit("augment") or not augment.flip:
        return AdaptedPlan(plan)
    accuracy, loss, error = trainer.checkpoints.once("flipped", lambda: _measure_flip(trainer))
    if loss <= max(2.0 * error, 0.02):
        return AdaptedPlan(plan)
    text = ",".join(part for part in plan.augment.split(",") if not part.startswith("flip")) or "none"
    evidence: Evidence = {"accuracy": accuracy, "accuracy_flipped": accuracy - loss, "standard_error": error}
    decision = Decision("augment", text, DecisionReason.FLIP_LOWERS_ACCURACY, evidence=evidence)
    return AdaptedPlan(plan.with_(augment=text), (decision,))


def _measure_flip(trainer: FinetuneTrainer) -> tuple[float, float, float]:
    """Return the held-out accuracy of a probe, its loss on flipped images, and the standard error of the loss."""
    data, seed = trainer.data, trainer.settings.seed
    train = data.train
    labels, groups = data.labels(train), data.split.groups_of(train)
    folds = make_folds(labels, 2, groups=groups, seed=seed)
    held = np.flatnonzero(folds == 0)
    held = np.random.default_rng([seed, 31]).permutation(held)[:_MAX_FLIPPED]
    fit = np.flatnonzero(folds != 0)
    if len(np.unique(labels[fit])) < len(np.unique(labels)) or len(held) < 10:
        return 0.0, 0.0, 0.0
    head = fit_probe(
        data.blocks(train[fit]),
        labels[fit],
        len(data.samples.class_names),
        groups=None if groups is None else groups[fit],
        seed=seed,
    ).head
    tried = data.samples.take(train[held])
    flipped = trainer.embedder.embed(tried.paths, tried.names, trainer.events, is_flipped=True).features
    hits = head.logits(data.blocks(train[held])).argmax(axis=1) == labels[held]
    flipped_hits = head.logits(flipped.blocks).argmax(axis=1) == labels[held]
    difference = hits.astype(np.float64) - flipped_hits
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return float(hits.mean()), float(difference.mean()), error


def measure_threads(most: int) -> tuple[int, float | None]:
    """Return the number of torch threads (1 or `most`, whichever is faster now) and the speedup of `most` over 1.

    The speedup is None for one core. On a busy machine, threads that wait for each other at the end of a layer can
    be ten times slower.
    """
    if most == 1:
        return 1, None
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randn((8, 96, 14, 14), generator=generator).contiguous(memory_format=torch.channels_last)
    layers = torch.nn.Sequential(
        *[
            layer
            for _ in range(4)
            for layer in (
                torch.nn.Conv2d(96, 96, 5, padding=2, groups=96),
                torch.nn.Conv2d(96, 96, 1),
                torch.nn.ReLU6(),
            )
        ]
    ).to(memory_format=torch.channels_last)
    total = {1: 0.0, most: 0.0}
    for round_ in range(4):
        if total[most] > 2.0 * total[1]:
            break  # clearly slower: stop measuring
        for count in total:
            torch.set_num_threads(count)
            started = time.monotonic()
            layers(x).square().mean().backward()
            if round_:  # the first is warm-up
                total[count] += time.monotonic() - started
    ratio = total[1] / max(total[most], 1e-9)
    return most if ratio >= _CLEARLY_FASTER else 1, float(ratio)
