"""Write the files of a classifier's run: metrics, predictions, split, settings, dataset report."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from headstart.data.split import write_split
from headstart.evaluation.metrics import evaluation_to_json
from headstart.messages.reading import reading_to_json
from headstart.quality.label_corrections import write_label_errors
from headstart.quality.report_findings import report_to_json
from headstart.reports.record import ClassifierRecord, read_bundle_info
from headstart.runs.context import RunContext
from headstart.runs.files import write_json, write_oof, write_predictions, write_scores
from headstart.tasks.classify import NAME
from headstart.tasks.classify.report_sections import add_slow_sections
from headstart.tasks.classify.trained_model import FinetuneOutcome, ScoredModel
from headstart.training.fitted_probe import FittedProbe
from headstart.types.records import DatasetReport

__all__ = ["write_run"]


def write_run(
    run: RunContext,
    report: DatasetReport,
    probe: FittedProbe,
    scored: ScoredModel,
    parity: dict[str, Any],
    reference: ScoredModel | None,
    outcome: FinetuneOutcome,
) -> ClassifierRecord:
    """Write all files except the report; the tables of predictions hold held-out images only.

    Args:
        run: The run.
        report: Of the dataset.
        probe: The probe, with the data.
        scored: The model of the run.
        parity: Differences between bundle and training.
        reference: The probe that a fine-tuned model is compared with.
        outcome: Of fine-tuning.

    Returns:
        What was written, for the report.
    """
    folder, samples, split = run.folder, probe.data.samples, probe.data.split
    evaluation, uncertainty, features = scored.evaluation, scored.uncertainty, scored.model.features
    write_split(folder / "split.csv", samples, split)
    write_oof(folder / "oof.npz", samples, split, evaluation)
    write_predictions(folder / "predictions.csv", samples, split, evaluation, uncertainty)
    images = write_scores(folder / "scores.npz", samples, features, split, evaluation, uncertainty)
    label_errors = None
    if reference is None:
        label_errors = write_label_errors(folder / "label_errors.csv", samples, features, split, probe.fit, evaluation)
    dataset_report = {**report_to_json(report), **reading_to_json(samples.notes, samples.inventory)}
    metrics = _metrics(probe, scored, parity, reference, outcome)
    bundle, tensors = read_bundle_info(folder)
    record = ClassifierRecord(
        run=folder.resolve().name,
        metrics=metrics,
        dataset_report=write_json(folder / "dataset_report.json", dataset_report),
        bundle=bundle,
        tensors=tensors,
        epochs=outcome.epochs,
        scored=images,
        paths={s.name: s.path for s in (*samples, *probe.data.leaking)},
        label_errors=label_errors,
    )
    sections = add_slow_sections(run, record, probe)
    settings, environment = run.write_settings(), run.write_environment()
    run.duration_s["total"] = time.monotonic() - run.started
    metrics["duration_s"] = {name: round(value, 3) for name, value in run.duration_s.items()}
    return replace(
        record,
        metrics=write_json(folder / "metrics.json", metrics),
        settings=settings,
        environment=environment,
        sections=sections,
    )


def _metrics(
    probe: FittedProbe,
    scored: ScoredModel,
    parity: dict[str, Any],
    reference: ScoredModel | None,
    outcome: FinetuneOutcome,
) -> dict[str, Any]:
    """Return `metrics.json` without the durations."""
    evaluation, samples, split = scored.evaluation, probe.data.samples, probe.data.split
    metrics: dict[str, Any] = {
        "schema": 1,
        "task": NAME,
        "strategy": scored.model.strategy,
        "backbone": probe.embedder.graph.backbone,
        "num_samples": len(samples),
        "num_groups": None if split.groups is None else len(np.unique(split.groups)),
        "num_classes": len(samples.class_names),
        "class_names": list(samples.class_names),
        "positive": evaluation.positive,
        "duration_s": {},
        "baselines": evaluation.baselines,
        **evaluation.blocks_json(),
        **scored.uncertainty.json,
        "parity": parity,
    }
    finetuning = outcome.to_json()
    if finetuning is not None:
        metrics["finetune"] = finetuning
    if reference is not None:
        cv, test = reference.evaluation.cv, reference.evaluation.test
        metrics["probe"] = {
            "cv": evaluation_to_json(cv),
            "test": None if test is None else evaluation_to_json(test),
        }
    return metrics
