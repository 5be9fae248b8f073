"""Fit the probe on the features of the training images."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import numpy as np

from headstart.advice.resize_mode import add_choice_candidates
from headstart.evaluation.binary import choose_positive
from headstart.events import Stage, StageFinished
from headstart.features.extractor import FeatureExtractor, averaged_blocks
from headstart.probe.class_weights import class_factors
from headstart.probe.probe import ProbeFit, fit_probe
from headstart.quality.dataset_split import SplitDataset
from headstart.runs.context import RunContext
from headstart.tasks.features import OpenedBackbone
from headstart.training.fitted_probe import FittedProbe
from headstart.training.probe_comparison import refuse_finetuned_features
from headstart.types.codes import DecisionReason, Evidence, JsonValue
from headstart.types.records import Decision

__all__ = ["fit_training_probe"]

_CONSTANT = 0.02  # logit range below which all images get the same prediction


def fit_training_probe(
    run: RunContext, opened: OpenedBackbone, data: SplitDataset, second_pass_s: float
) -> FittedProbe:
    """Fit the probe on the training images, and choose the positive class of two."""
    started, settings = time.monotonic(), run.resolved.settings
    positive, decision = choose_positive(settings.positive, data.samples.class_names, data.labels(data.train))
    run.decide([] if decision is None else [decision])
    probe = _fit(run, opened.extractor, data, second_pass_s)
    fit, is_constant = probe.fit, np.ptp(probe.fit.head.logits(probe.data.features.blocks), axis=0).max() < _CONSTANT
    if opened.resize_choice is not None:
        fit = add_choice_candidates(fit, [data.samples.paths[i] for i in data.train], opened.resize_choice)
    seconds = time.monotonic() - started
    run.events.emit(StageFinished(Stage.PROBE, seconds, _evidence(fit, is_constant=bool(is_constant))))
    return replace(probe, fit=fit, positive=positive)


def _fit(run: RunContext, extractor: FeatureExtractor, data: SplitDataset, second_pass_s: float) -> FittedProbe:
    """Fit the probe; with flip TTA if requested, or if it helps within a budget."""
    settings = run.resolved.settings
    labels, names = data.labels(data.train), data.samples.class_names
    weights = class_factors(settings.probe.class_weights, labels, names)
    if weights is not None:
        source = settings.probe.class_weights
        reason = DecisionReason.CLASSES_WEIGH_THE_SAME if source == "auto" else DecisionReason.CLASS_WEIGHTS_FROM_FILE
        factors: Evidence = {"factors": dict(zip(names, map(float, weights), strict=True))}
        run.decide([Decision("probe.class_weights", source, reason, "cli", factors)])
    refuse_finetuned_features(data.features, data.train)
    fit = partial(
        fit_probe,
        logistic={"auto": "auto", "on": True, "off": False}[settings.probe.logistic],  # type: ignore[arg-type]
        class_ids=labels,
        num_classes=len(names),
        groups=data.split.groups_of(data.train),
        class_weights=weights,
        seed=settings.seed,
    )
    plain = FittedProbe(extractor, data, fit(data.blocks(data.train)))
    choice = settings.probe.flip_tta
    if choice == "off":
        run.decide(plain.fit.decisions)
        return plain
    remaining_s = None if settings.time_budget is None else settings.time_budget * 60 - (time.monotonic() - run.started)
    needed = 1.5 * second_pass_s
    if choice == "auto" and (remaining_s is None or remaining_s < needed):
        times: Evidence = {"remaining_seconds": remaining_s, "needed_seconds": needed}
        flip = Decision("probe.flip_tta", "off", DecisionReason.FLIP_NEEDS_BUDGET, evidence=times)
        run.decide([*plain.fit.decisions, flip])
        return plain
    flipped = extractor.embed(data.samples.paths, data.samples.names, run.events, is_flipped=True)
    run.duration_s["features"] += flipped.seconds
    both = replace(data.features, blocks=averaged_blocks(data.features.blocks, flipped.features.blocks))
    averaged_data = replace(data, features=both)
    averaged = FittedProbe(extractor, averaged_data, fit(averaged_data.blocks(data.train)), has_flip_tta=True)
    difference = plain.fit.candidate_losses[-1].astype(np.float64) - averaged.fit.candidate_losses[-1]
    gain, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))
    kept = averaged if choice == "on" or gain > error else plain
    protocol = plain.fit.setup.protocol.value
    evidence: Evidence = {"log_loss_change": -gain, "standard_error": error, "protocol": protocol}
    source, value = "cli" if choice == "on" else "auto", "on" if kept.has_flip_tta else "off"
    run.decide([*kept.fit.decisions, Decision("probe.flip_tta", value, DecisionReason.FLIP_COMPARED, source, evidence)])
    return kept


def _evidence(fit: ProbeFit, *, is_constant: bool) -> dict[str, JsonValue]:
    """Return the evidence of the probe stage; `is_constant`: every image gets the same prediction."""
    mixture: dict[str, float] = next((d.value for d in fit.decisions if d.setting == "probe.mixture"), {})
    return {
        "methods": [name for name in ("ridge", "lda", "logistic") if float(mixture.get(name, 0.0)) > 0],
        "num_blocks": len(fit.head.normalizer.names),
        "log_loss": float(fit.candidate_losses[-1].mean()),
        "protocol": fit.setup.protocol.value,
        "is_constant": is_constant,
    }
