"""Prepare the features of a dataset, and fit the probe on them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from headstart.advice.resize_mode import ResizeModeChoice, add_choice_candidates, choose_resize_mode
from headstart.backbones.latency import scanning_s
from headstart.evaluation.binary import choose_positive
from headstart.events import Stage, StageFinished, StageStarted
from headstart.features.extractor import (
    Extraction,
    ExtractorOptions,
    FeatureExtractor,
    averaged_blocks,
    open_embedder,
    raise_if_all_unreadable,
)
from headstart.probe.class_weights import class_factors
from headstart.probe.probe import ProbeFit, fit_probe
from headstart.quality.dataset_split import SplitDataset
from headstart.quality.inspector import DatasetInspector
from headstart.runs.context import RunContext
from headstart.training.fitted_probe import FittedProbe
from headstart.training.probe_comparison import refuse_finetuned_features
from headstart.types.codes import DecisionReason, Evidence, JsonValue, ReadingKind
from headstart.types.records import Decision, Samples
from headstart.utils.system import available_cores

__all__ = ["OpenedBackbone", "extract_features", "fit_training_probe", "open_backbone"]

_CONSTANT = 0.02  # logit range below which all images get the same prediction


@dataclass(frozen=True)
class OpenedBackbone:
    """The backbone of a run.

    Attributes:
        extractor: Extracts its features.
        resize_choice: Comparison of the resize modes; None where none was made.
    """

    extractor: FeatureExtractor
    resize_choice: ResizeModeChoice | None


def open_backbone(run: RunContext, samples: Samples, inspector: DatasetInspector) -> OpenedBackbone:
    """Choose intensity range and resize mode, and open the backbone."""
    settings, events = run.resolved.settings, run.events
    intensity_range, decision = inspector.find_range(is_split_later=settings.test_size is not None)
    run.decide([] if decision is None else [decision])
    choice, resize_mode = None, str(settings.resize_mode)
    if resize_mode == "auto":
        choice = choose_resize_mode(samples, settings, intensity_range, events)
        run.decide([] if choice is None else [choice.decision])
        resize_mode = "crop" if choice is None else choice.resize_mode
    options = ExtractorOptions.of(settings, resize_mode=resize_mode, intensity_range=intensity_range)
    extractor = open_embedder(options, events)
    named = [n.evidence for n in samples.notes if n.kind is ReadingKind.NAMES_FROM_FILE]
    run.decide_used(
        Decision("task", "classify", DecisionReason.NO_BOXES),
        Decision("out", str(run.folder), DecisionReason.NEXT_FREE_FOLDER),
        Decision("weights", extractor.graph.card.get("weights_tag"), DecisionReason.DEFAULT_WEIGHTS, "default"),
        Decision("image_size", extractor.spec.size_hw[0], DecisionReason.DEFAULT_INPUT_SIZE, "default"),
        Decision("num_threads", available_cores(), DecisionReason.ONE_THREAD_PER_CORE, "default"),
        Decision("device", "cpu", DecisionReason.FEATURES_ON_CPU, "default"),
        Decision("layout", samples.layout, DecisionReason.LAYOUT_RECOGNIZED),
        *(Decision(name, column, DecisionReason.LAYOUT_RECOGNIZED) for name, column in samples.used_columns.items()),
        *(
            Decision("first_id", e["first_id"], DecisionReason.NAMES_NUMBERED, evidence={"file": e["file"]})
            for e in named
            if e.get("first_id") is not None
        ),
    )
    if choice is None:
        run.decide_used(Decision("resize_mode", resize_mode, DecisionReason.RESIZE_MODES_NOT_COMPARABLE))
    return OpenedBackbone(extractor, choice)


def extract_features(
    run: RunContext, extractor: FeatureExtractor, samples: Samples, inspector: DatasetInspector
) -> Extraction:
    """Return features of all images; the inspector scans each file in the same pass."""
    height, _ = extractor.spec.size_hw
    uncached = len(samples) - extractor.num_known()
    expected = scanning_s(extractor.graph.backbone, height, uncached) if uncached > 0 else None
    evidence: dict[str, JsonValue] = {} if expected is None else {"expected_seconds": expected}
    run.events.emit(StageStarted(Stage.FEATURES, evidence))
    extracted = extractor.embed(samples.paths, samples.names, run.events, scanner=inspector.scanner)
    raise_if_all_unreadable(extracted.features)
    run.duration_s["features"] = extracted.seconds
    run.events.emit(StageFinished(Stage.FEATURES, extracted.seconds, extractor.evidence(extracted)))
    return extracted


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
