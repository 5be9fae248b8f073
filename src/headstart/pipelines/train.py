"""Train a classifier: read, scan, inspect, split, fit the probe, fine-tune, evaluate, save, verify, report."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from headstart.config.settings import ResolvedConfig, TrainSettings
from headstart.data.options import read_options
from headstart.errors import DataError
from headstart.evaluation.binary import check_positive
from headstart.evaluation.class_calibration import scale_classes
from headstart.evaluation.uncertainty import UncertaintyTargets
from headstart.events import CheckFinished, EventStream, Stage, StageFinished
from headstart.features.device_choice import check_device
from headstart.pipelines.classifier_files import finish_run, write_run
from headstart.pipelines.probe_training import extract_features, fit_training_probe, open_backbone
from headstart.pipelines.trained_model import (
    FinetuneOutcome,
    ScoredModel,
    TrainedModel,
    evaluate_model,
    fit_uncertainty,
    probe_model,
    save_bundle,
    verify_bundle,
)
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
from headstart.quality.report_findings import dataset_findings, report_reading
from headstart.runs.context import RunContext
from headstart.runs.folder import own_run_folder
from headstart.training.fitted_probe import FittedProbe
from headstart.types.codes import DecisionReason
from headstart.types.records import DatasetReport, Decision, Samples
from headstart.utils.system import release_idle_threads

__all__ = ["train_classifier"]


def train_classifier(
    resolved: ResolvedConfig, events: EventStream, *, started: float | None = None, folder: Path | None = None
) -> Path:
    """Train a new head on a frozen backbone, fine-tune where the settings ask for it, and write the run folder.

    Args:
        resolved: The settings.
        events: The event stream.
        started: `time.monotonic()` when the command began.
        folder: A run to resume.

    Returns:
        The run folder.

    Raises:
        TrainingInterruptedError: Ctrl-C while fine-tuning; the run can be resumed.
        DataError: The images do not allow a valid model.
        HeadstartError: Any other known failure.
    """
    started, is_new = time.monotonic() if started is None else started, folder is None
    is_finetuning = _is_finetuning(resolved.settings)
    if is_finetuning:
        release_idle_threads()
        from headstart.pipelines.finetune import check_finetuning, finetune

        resolved = check_finetuning(resolved)
    settings = resolved.settings
    check_device(settings.device)
    source = _read(settings, is_new=is_new)
    with own_run_folder(settings.out, resume=folder, events=events, started=started) as folder:
        run = RunContext(resolved, events, folder, started=started)
        run.duration_s["read"] = time.monotonic() - started
        samples = _select(source, settings, events)
        inspector = DatasetInspector(
            samples,
            events,
            intensity_range=settings.intensity_range,
            max_pixels=settings.max_pixels,
            group_from=settings.group_from,
            num_threads=settings.num_threads,
            use_cache=settings.cache,
        )
        with run.timed("prepare"):
            opened = open_backbone(run, samples, inspector)
        extracted = extract_features(run, opened.extractor, samples, inspector)
        with run.timed("check"):
            report = inspector.inspect(extracted.features, opened.extractor.key)
        events.report(*dataset_findings(report))
        events.emit(CheckFinished(settings.data, len(samples)))
        data = split_dataset(samples, extracted.features, report, settings, source.manifest)
        second_pass_s = extracted.second_pass_s
        del inspector, extracted  # frees memory for fitting
        run.decide(data.decisions)
        note_split(data.split, events)
        check_classes(data.samples, data.split)
        with run.timed("probe"):
            probe = fit_training_probe(run, opened, data, second_pass_s)
        outcome = FinetuneOutcome()
        if is_finetuning:
            outcome = finetune(run, probe, is_new=is_new)
        else:
            run.decide_used(Decision("strategy", "probe", DecisionReason.NO_BUDGET, "default"))
        _score_and_save(run, report, probe, outcome)
    return folder


def _is_finetuning(settings: TrainSettings) -> bool:
    """Return whether networks are trained: by a strategy that asks for it, or within a budget."""
    return settings.strategy != "probe" and (settings.strategy != "auto" or settings.time_budget is not None)


def _read(settings: TrainSettings, *, is_new: bool) -> ReadSamples:
    """Read the images; a resumed run says what it needs."""
    try:
        return read_samples(settings)
    except DataError as error:
        if is_new:
            raise
        hint = "resuming needs the same images at the same path: restore them, or start a new run"
        raise DataError(error.message, hint=hint) from error


def _select(source: ReadSamples, settings: TrainSettings, events: EventStream) -> Samples:
    """Report what was read, and return the images without excluded classes, with corrected labels."""
    report_reading(source.samples, events, is_checked=True)
    samples = without_classes(source.samples, settings.exclude_classes)
    samples = correct_labels(samples, settings.label_corrections, events)
    check_positive(settings.positive, samples.class_names)
    return samples


def _score_and_save(run: RunContext, report: DatasetReport, probe: FittedProbe, outcome: FinetuneOutcome) -> None:
    """Evaluate the model, save and verify its bundle, and write all files of the run."""
    settings = run.resolved.settings
    tuned = outcome.model
    targets = UncertaintyTargets(settings.ood_fpr, settings.coverage, settings.seed)

    def score(model: TrainedModel) -> ScoredModel:
        with run.timed("evaluate"):
            evaluation = evaluate_model(model, probe, seed=settings.seed)
        with run.timed("uncertainty"):
            return ScoredModel(model, evaluation, fit_uncertainty(model, probe, targets))

    if tuned is None:
        with run.timed("probe"):
            probe = _scale_classes(run, probe)
    of_probe = score(probe_model(probe, run.events))
    scored = of_probe if tuned is None else score(tuned)
    run.events.emit(StageFinished(Stage.UNCERTAINTY, run.duration_s["uncertainty"], scored.uncertainty.evidence()))
    with run.timed("bundle"):
        reading = read_options(settings).portable()
        save_bundle(run.folder / "bundle", scored, probe, reading)
        if tuned is not None:
            (run.folder / "probe").mkdir(exist_ok=True)
            save_bundle(run.folder / "probe" / "bundle", of_probe, probe, reading)
    with run.timed("parity"):
        parity = verify_bundle(run.folder, scored, probe, num_threads=settings.num_threads, seed=settings.seed)
    record = write_run(run, report, probe, scored, parity, None if tuned is None else of_probe, outcome)
    finish_run(run, scored, record)


def _scale_classes(run: RunContext, probe: FittedProbe) -> FittedProbe:
    """Apply vector scaling where it pays and no class weights are set."""
    settings, data = run.resolved.settings, probe.data
    if settings.probe.class_weights != "none":
        return probe
    groups = data.split.groups_of(data.train)
    fit, decision = scale_classes(probe.fit, data.labels(data.train), groups, seed=settings.seed)
    run.decide([] if decision is None else [decision])
    return replace(probe, fit=fit)
