"""Train a probe: read, check, extract features, split, fit the head, evaluate, save."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from headstart.advice.resize_mode import add_choice_candidates, choose_resize_mode
from headstart.backbones.latency import scanning_s
from headstart.config.settings import ResolvedConfig
from headstart.evaluation.positive import check_positive, choose_positive
from headstart.events import CheckFinished, EventStream, Stage, StageFinished, StageStarted
from headstart.features.device_choice import check_device
from headstart.features.extractor import (
    FeatureExtractor,
    averaged_blocks,
    open_from_settings,
    raise_if_all_unreadable,
)
from headstart.messages.files import shell_path
from headstart.pipelines.probe_outputs import write_probe_outputs
from headstart.probe.class_weights import class_factors
from headstart.probe.probe import ProbeFit, fit_probe
from headstart.quality.dataset_split import (
    ReadSamples,
    check_classes,
    note_split,
    read_samples,
    split_dataset,
    without_classes,
)
from headstart.quality.inspector import DatasetInspector
from headstart.quality.label_corrections import correct_labels
from headstart.quality.reading_events import report_reading
from headstart.quality.report_findings import dataset_findings
from headstart.runs.folder import own_run_folder
from headstart.training.fitted_probe import FittedProbe, ProbeRunContext
from headstart.training.probe_comparison import refuse_finetuned_features
from headstart.types.codes import DecisionReason, Evidence, JsonValue, ReadingKind
from headstart.types.records import Decision, Features, Samples, Split
from headstart.utils.system import available_cores

__all__ = ["fit_probe_on_dataset", "train_probe"]

_CONSTANT = 0.02  # logit range below which all images get the same prediction


def train_probe(resolved: ResolvedConfig, events: EventStream, *, started: float | None = None) -> Path:
    """Train a new head on a frozen backbone and write the run folder.

    Args:
        resolved: The settings.
        events: The event stream.
        started: `time.monotonic()` when the command began.

    Returns:
        The run folder.

    Raises:
        DataError: The images do not allow a valid model.
        HeadstartError: Any other known failure.
    """
    started = time.monotonic() if started is None else started
    settings = resolved.settings
    check_device(settings.device)
    data = read_samples(settings)
    with own_run_folder(settings.out, started=started) as folder:
        context = ProbeRunContext(resolved, events, folder)
        context.duration_s["read"] = time.monotonic() - started
        _run(context, data, started)
    return folder


def _run(context: ProbeRunContext, data: ReadSamples, started: float) -> None:
    """Run all steps after reading."""
    fitted = fit_probe_on_dataset(context, data, started)
    context.decide_used(Decision("strategy", "probe", DecisionReason.NO_BUDGET, "default"))
    if context.resolved.settings.strategy == "auto":
        context.next_commands.append(
            (f"headstart train {shell_path(context.resolved.settings.data)} --budget 5m", "try fine-tuning")
        )
    write_probe_outputs(context, fitted, started)


def fit_probe_on_dataset(context: ProbeRunContext, data: ReadSamples, started: float) -> FittedProbe:
    """Extract features, inspect and split the data, and fit the head."""
    settings, events = context.resolved.settings, context.events
    report_reading(data.samples, events, is_checked=True)

    samples = correct_labels(
        without_classes(data.samples, settings.exclude_classes), settings.label_corrections, events
    )
    check_positive(settings.positive, samples.class_names)
    inspector = DatasetInspector(
        samples,
        events,
        data=settings.data,
        intensity_range=settings.intensity_range,
        max_pixels=settings.max_pixels,
        group_from=settings.group_from,
        num_threads=settings.num_threads,
        use_cache=settings.cache,
    )
    with context.timed("prepare"):
        intensity_range, decision = inspector.find_range(is_split_later=settings.test_size is not None)
        context.decide([] if decision is None else [decision])
        choice = None
        if settings.resize_mode == "auto":
            choice = choose_resize_mode(
                samples,
                lambda fit: open_from_settings(settings, events, intensity_range=intensity_range, resize_mode=fit),
                events,
                group_from=settings.group_from,
                seed=settings.seed,
            )
            context.decide([] if choice is None else [choice.decision])
        resize_mode = (
            settings.resize_mode
            if settings.resize_mode != "auto"
            else (choice.resize_mode if choice is not None else "crop")
        )
        embedder = open_from_settings(settings, events, intensity_range=intensity_range, resize_mode=resize_mode)
    card = embedder.graph.card
    context.decide_used(
        Decision("task", "classify", DecisionReason.NO_BOXES),
        Decision("out", str(context.folder), DecisionReason.NEXT_FREE_FOLDER),
        Decision("weights", card.get("weights_tag"), DecisionReason.DEFAULT_WEIGHTS, "default"),
        Decision("image_size", embedder.spec.size_hw[0], DecisionReason.DEFAULT_INPUT_SIZE, "default"),
        Decision("num_threads", available_cores(), DecisionReason.ONE_THREAD_PER_CORE, "default"),
        Decision("device", "cpu", DecisionReason.FEATURES_ON_CPU, "default"),
        Decision("layout", samples.layout, DecisionReason.LAYOUT_RECOGNIZED),
        *_class_numbers(samples),
    )
    if choice is None:
        context.decide_used(Decision("resize_mode", resize_mode, DecisionReason.RESIZE_MODES_NOT_COMPARABLE))
    features, seconds = _embed(context, embedder, samples, inspector)
    with context.timed("check"):
        report = inspector.inspect(features, f"{embedder.graph.digest}-{embedder.spec.digest}")
    context.findings = report.findings
    events.report(*dataset_findings(report))
    events.emit(CheckFinished(settings.data, len(samples)))
    dataset = split_dataset(samples, features, report, settings, data.manifest)
    del inspector, features  # frees memory for fitting
    context.decide(dataset.decisions)
    note_split(dataset.split, events)
    check_classes(dataset.samples, dataset.split)
    train = dataset.split.where("train")
    class_names, class_ids = dataset.samples.class_names, dataset.samples.class_ids[train]
    context.positive, positive_decision = choose_positive(settings.positive, class_names, class_ids)
    context.decide([] if positive_decision is None else [positive_decision])
    begun = time.monotonic()
    with context.timed("probe"):
        fit, features, has_flip_tta = _fit(
            context, embedder, dataset.samples, dataset.features, dataset.split, seconds, started
        )
        is_constant = bool(np.ptp(fit.head.logits(features.blocks), axis=0).max() < _CONSTANT)
        fit = add_choice_candidates(fit, [dataset.samples.paths[i] for i in train], choice)
    events.emit(StageFinished(Stage.PROBE, time.monotonic() - begun, _probe_evidence(fit, is_constant=is_constant)))
    return FittedProbe(
        embedder,
        dataset.samples,
        features,
        dataset.split,
        fit,
        has_flip_tta,
        report,
        dataset.leaking,
        dataset.leaking_features,
    )


def _class_numbers(samples: Samples) -> list[Decision]:
    """Return the decision for the number of the first class name, if a file names numbered classes."""
    named = [n.evidence for n in samples.notes if n.kind is ReadingKind.NAMES_FROM_FILE]
    return [
        Decision("first_id", e["first_id"], DecisionReason.NAMES_NUMBERED, evidence={"file": e["file"]})
        for e in named
        if e.get("first_id") is not None
    ]


def _embed(
    context: ProbeRunContext, embedder: FeatureExtractor, samples: Samples, inspector: DatasetInspector
) -> tuple[Features, float]:
    """Return features of all images, and the estimated seconds of a second pass over them."""
    height, _ = embedder.spec.size_hw
    uncached = len(samples) - embedder.num_known()
    expected = scanning_s(embedder.graph.backbone, height, uncached) if uncached > 0 else None
    evidence: dict[str, JsonValue] = {} if expected is None else {"expected_seconds": expected}
    context.events.emit(StageStarted(Stage.FEATURES, evidence))
    features, computed, seconds = embedder.embed(
        samples.paths, samples.names, context.events, scanner=inspector.scanner
    )
    raise_if_all_unreadable(features)
    context.duration_s["features"] = seconds
    context.events.emit(StageFinished(Stage.FEATURES, seconds, embedder.evidence(features, computed)))
    return features, seconds * len(samples) / computed if computed else 0.0


def _fit(
    context: ProbeRunContext,
    embedder: FeatureExtractor,
    samples: Samples,
    features: Features,
    split: Split,
    second_pass_s: float,
    started: float,
) -> tuple[ProbeFit, Features, bool]:
    """Fit the probe; with flip TTA if requested, or if it helps within a budget."""
    settings = context.resolved.settings
    fit = _make_fit(context, samples, split)
    plain = fit(features)
    choice = settings.probe.flip_tta
    if choice == "off":
        context.decide(plain.decisions)
        return plain, features, False
    left = (settings.time_budget or 0.0) * 60 - (time.monotonic() - started)
    if choice == "auto" and (settings.time_budget is None or left < 1.5 * second_pass_s):
        times: Evidence = {
            "left_seconds": None if settings.time_budget is None else left,
            "needed_seconds": 1.5 * second_pass_s,
        }
        flip = Decision("probe.flip_tta", "off", DecisionReason.FLIP_NEEDS_BUDGET, evidence=times)
        context.decide([*plain.decisions, flip])
        return plain, features, False

    flipped, _, seconds = embedder.embed(samples.paths, samples.names, context.events, is_flipped=True)
    context.duration_s["features"] += seconds
    both = Features(
        blocks=averaged_blocks(features.blocks, flipped.blocks),
        digests=features.digests,
        problems=features.problems,
        is_ok=features.is_ok,
    )
    averaged = fit(both)
    gain, error = _paired_gain(plain, averaged)
    pays = gain > error
    is_on = choice == "on" or pays
    evidence: Evidence = {"log_loss_change": -gain, "standard_error": error, "protocol": plain.setup.protocol.value}
    source = "cli" if choice == "on" else "auto"
    flip = Decision("probe.flip_tta", "on" if is_on else "off", DecisionReason.FLIP_COMPARED, source, evidence)
    context.decide([*(averaged if is_on else plain).decisions, flip])
    if is_on:
        return averaged, both, True
    return plain, features, False


def _probe_evidence(fit: ProbeFit, *, is_constant: bool) -> dict[str, JsonValue]:
    """Return the evidence of the probe stage; `is_constant`: every image gets the same prediction."""
    mixture: dict[str, float] = next((d.value for d in fit.decisions if d.setting == "probe.mixture"), {})
    return {
        "methods": [name for name in ("ridge", "lda", "logistic") if float(mixture.get(name, 0.0)) > 0],
        "num_blocks": len(fit.head.normalizer.names),
        "log_loss": float(fit.candidate_losses[-1].mean()),
        "protocol": fit.setup.protocol.value,
        "is_constant": is_constant,
    }


def _make_fit(context: ProbeRunContext, samples: Samples, split: Split) -> Callable[[Features], ProbeFit]:
    """Return a function that fits a probe on features of the training images with the requested class weights."""
    settings = context.resolved.settings
    train = split.where("train")
    labels = samples.class_ids[train]
    weights = class_factors(settings.probe.class_weights, labels, samples.class_names)
    if weights is not None:
        source = settings.probe.class_weights
        reason = DecisionReason.CLASSES_WEIGH_THE_SAME if source == "auto" else DecisionReason.CLASS_WEIGHTS_FROM_FILE
        factors: Evidence = {"factors": dict(zip(samples.class_names, map(float, weights), strict=True))}
        context.decide([Decision("probe.class_weights", source, reason, "cli", factors)])

    def fit(features: Features) -> ProbeFit:
        refuse_finetuned_features(features, train)
        return fit_probe(
            {name: block if len(train) == len(block) else block[train] for name, block in features.blocks.items()},
            labels,
            len(samples.class_names),
            groups=None if split.groups is None else split.groups[train],
            class_weights=weights,
            seed=settings.seed,
            logistic={"auto": "auto", "on": True, "off": False}[settings.probe.logistic],  # type: ignore[arg-type]
        )

    return fit


def _paired_gain(a: ProbeFit, b: ProbeFit) -> tuple[float, float]:
    """Return the mean paired difference (log-loss of a - log-loss of b) and its standard error."""
    difference = a.candidate_losses[-1].astype(np.float64) - b.candidate_losses[-1]
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))
