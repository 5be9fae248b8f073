"""Turn a fitted probe into a complete run: scores, bundle, parity check, records."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.split import write_split
from headstart.evaluation.class_calibration import scale_classes
from headstart.evaluation.head_evaluation import HeadEvaluation, evaluate_head, with_leaking
from headstart.evaluation.score_summary import summarize_classification
from headstart.evaluation.uncertainty import UncertaintyModel, fit_probe_uncertainty
from headstart.events import FileWritten, RunFinished, ScoreMeasured, Stage, StageFinished
from headstart.export.bundle_writer import amend_bundle, write_bundle
from headstart.export.parity import check_parity
from headstart.features.extractor import averaged_blocks
from headstart.inference.bundle import read_bundle
from headstart.inference.runtime import Runtime
from headstart.messages.files import shell_path
from headstart.messages.reading import reading_to_json
from headstart.quality.label_corrections import write_label_errors
from headstart.quality.report_text import report_to_json
from headstart.reports.writer import report_run
from headstart.runs.files import write_json, write_oof, write_predictions, write_scores
from headstart.training.fitted_probe import FittedProbe, ProbeRunContext

__all__ = ["finish_run", "verify_export", "write_metrics", "write_probe_bundle", "write_probe_outputs"]


def write_probe_outputs(context: ProbeRunContext, fitted: FittedProbe, started: float, **more: Any) -> None:
    """Evaluate the probe, save the bundle, verify the export, and write all files; `more` goes into `metrics.json`."""
    with context.timed("probe"):
        fitted = _scale_classes(context, fitted)
    samples, features, split, fit = fitted.samples, fitted.features, fitted.split, fitted.fit
    with context.timed("evaluate"):
        evaluation = evaluate_head(
            samples, features, split, fit, positive=context.positive, seed=context.resolved.settings.seed
        )
        if len(fitted.leaking):
            leaking = fit.head.logits(_leaking_blocks(context, fitted))
            evaluation = with_leaking(evaluation, samples, split, fitted.leaking, leaking)
    settings = context.resolved.settings
    with context.timed("uncertainty"):
        uncertainty = fit_probe_uncertainty(
            samples, features, split, fit, evaluation.logits,
            ood_fpr=settings.ood_fpr, coverage=settings.coverage, seed=settings.seed,
        )  # fmt: skip
    context.events.emit(StageFinished(Stage.UNCERTAINTY, context.duration_s["uncertainty"], uncertainty.evidence()))
    with context.timed("bundle"):
        write_probe_bundle(context.folder / "bundle", fitted, evaluation, uncertainty)
    with context.timed("parity"):
        parity = verify_export(context, fitted, evaluation, uncertainty, context.resolved.settings.num_threads)
    _write_run(context, fitted, evaluation, uncertainty, parity, started, more)
    finish_run(context, evaluation, started)


def _scale_classes(context: ProbeRunContext, fitted: FittedProbe) -> FittedProbe:
    """Apply vector scaling where it pays and no class weights are set."""
    settings = context.resolved.settings
    if settings.probe.class_weights != "none":
        return fitted
    train = fitted.split.where("train")
    groups = None if fitted.split.groups is None else fitted.split.groups[train]
    fit, decision = scale_classes(fitted.fit, fitted.samples.class_ids[train], groups, seed=settings.seed)
    context.decide([] if decision is None else [decision])
    return replace(fitted, fit=fit)


def write_probe_bundle(
    folder: Path, fitted: FittedProbe, evaluation: HeadEvaluation, uncertainty: UncertaintyModel
) -> None:
    """Write the bundle of the probe into a folder."""
    embedder = fitted.embedder
    write_bundle(
        folder,
        graph_path=embedder.graph.path,
        graph_meta=embedder.graph.card,
        head=fitted.fit.head,
        spec=embedder.spec,
        class_names=fitted.samples.class_names,
        meta={"score": evaluation.headline_score(), "strategy": "probe", "positive": evaluation.positive},
        has_flip=fitted.has_flip_tta,
        trained_on=[fitted.features.digests[i] for i in fitted.split.where("train")],
        ood=uncertainty.ood,
        prediction_sets=uncertainty.sets.rule,
    )


def verify_export(
    context: ProbeRunContext,
    fitted: FittedProbe,
    evaluation: HeadEvaluation,
    uncertainty: UncertaintyModel,
    num_threads: int | None,
) -> Any:
    """Predict the run's images with the bundle and compare with the training outputs; a mismatch fails the run.

    Returns:
        The differences as JSON values; also stored in the bundle.
    """
    order = np.random.default_rng(context.resolved.settings.seed).permutation(len(fitted.samples))
    runtime = Runtime(read_bundle(context.folder), num_threads=num_threads)
    paths = [fitted.samples.paths[i] for i in order]
    parity = check_parity(
        runtime, paths, evaluation.logits[order], expected_ood_scores=uncertainty.shipped[order]
    ).to_json()
    amend_bundle(context.folder / "bundle", parity=parity)
    return parity


def _leaking_blocks(context: ProbeRunContext, fitted: FittedProbe) -> dict[str, NDArray[np.float32]]:
    """Return features of the leaking images, averaged over flipped images where flip TTA is on."""
    blocks = fitted.leaking_features.blocks
    if not fitted.has_flip_tta:
        return blocks
    paths, names = fitted.leaking.paths, fitted.leaking.names
    flipped, _, _ = fitted.embedder.embed(paths, names, context.events, is_flipped=True)
    return averaged_blocks(blocks, flipped.blocks)


def _write_run(
    context: ProbeRunContext,
    fitted: FittedProbe,
    evaluation: HeadEvaluation,
    uncertainty: UncertaintyModel,
    parity: dict[str, Any],
    started: float,
    more: dict[str, Any],
) -> None:
    samples, features, split, fit = fitted.samples, fitted.features, fitted.split, fitted.fit
    train = split.where("train")
    write_split(context.folder / "split.csv", samples, split)
    write_oof(
        context.folder / "oof.npz",
        names=[samples.names[i] for i in train],
        groups=None if split.groups is None else split.groups[train],
        class_ids=samples.class_ids[train],
        logits=fit.oof_logits,
        protocol=fit.setup.protocol,
    )
    write_predictions(context.folder / "predictions.csv", samples, split, evaluation, fit, uncertainty)
    write_scores(context.folder / "scores.npz", samples, features, split, evaluation, fit, uncertainty)
    write_label_errors(context.folder / "label_errors.csv", samples, features, split, fit, evaluation)
    write_metrics(context, fitted, evaluation, started, strategy="probe", **uncertainty.json, parity=parity, **more)


def write_metrics(
    context: ProbeRunContext,
    fitted: FittedProbe,
    evaluation: HeadEvaluation,
    started: float,
    *,
    strategy: str,
    **more: Any,
) -> None:
    """Write `dataset_report.json`, `metrics.json` and the settings of a classifier's run.

    Args:
        context: The run context.
        fitted: The probe and its data.
        evaluation: Evaluation of the final model.
        started: `time.monotonic()` when the command began.
        strategy: Strategy of the final model.
        more: Other sections of `metrics.json`.
    """
    samples, groups = fitted.samples, fitted.split.groups
    write_json(
        context.folder / "dataset_report.json",
        {**report_to_json(fitted.dataset_report), **reading_to_json(samples.notes)},
    )
    context.write_settings()
    context.paths = {s.name: s.path for s in (*samples, *fitted.leaking)}
    context.duration_s["total"] = time.monotonic() - started
    context.metrics = {
        "schema": 1,
        "task": "classify",
        "strategy": strategy,
        "backbone": fitted.embedder.graph.backbone,
        "num_samples": len(samples),
        "num_groups": None if groups is None else len(np.unique(groups)),
        "num_classes": len(samples.class_names),
        "class_names": list(samples.class_names),
        "positive": evaluation.positive,
        "duration_s": {name: round(value, 3) for name, value in context.duration_s.items()},
        "baselines": evaluation.baselines,
        **evaluation.blocks_json(),
        **more,
    }
    write_json(context.folder / "metrics.json", context.metrics)


def finish_run(context: ProbeRunContext, evaluation: HeadEvaluation, started: float) -> None:
    """Write the report, emit score and files, and mark the run as complete."""
    num_images = report_run(
        context.folder, context.paths, context.events, has_images=context.resolved.settings.include_images
    )
    score = summarize_classification(context.metrics)
    context.events.report(*evaluation.headline.findings)
    context.events.emit(ScoreMeasured(score))
    if num_images is not None:
        context.events.emit(FileWritten("report", str(context.folder / "report.html"), {"num_images": num_images}))
    predict = (f"headstart predict {shell_path(context.folder)} NEW_IMAGES", None)
    seconds = time.monotonic() - started
    context.events.emit(RunFinished(seconds, str(context.folder), (predict, *context.next_commands)))
    context.end()
