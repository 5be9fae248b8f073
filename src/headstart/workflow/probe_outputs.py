"""From a fitted head to a whole run: scored, saved, and proved on the person's own files."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.console import quoted
from headstart.data.report_text import report_to_json
from headstart.data.split import write_split
from headstart.events import FileWritten, RunFinished, ScoreMeasured, Stage, StageFinished
from headstart.export.bundle import read_bundle
from headstart.export.bundle_writer import amend_bundle, write_bundle
from headstart.export.parity import check_parity
from headstart.export.runtime import Runtime
from headstart.messages.reading import reading_to_json
from headstart.workflow.class_calibration import scale_classes
from headstart.workflow.feature_extraction import averaged_blocks
from headstart.workflow.head_evaluation import HeadEvaluation, evaluate_head, with_leaking
from headstart.workflow.label_corrections import write_label_errors
from headstart.workflow.probe_types import FittedProbe, ProbeRunContext
from headstart.workflow.report_writer import report_run
from headstart.workflow.run_files import write_json, write_oof, write_predictions, write_scores
from headstart.workflow.score_summary import summarize_classification
from headstart.workflow.uncertainty import UncertaintyModel, fit_probe_uncertainty

__all__ = ["close_road", "verify_export", "write_facts", "write_probe_bundle", "write_probe_outputs"]


def write_probe_outputs(context: ProbeRunContext, found: FittedProbe, started: float, **more: Any) -> None:
    """From a fitted head to a whole run: judges, saves, proves; `more` stands in `metrics.json` too."""
    with context.timed("heads"):
        found = _scale_classes(context, found)
    samples, features, split, fit = found.samples, found.features, found.split, found.fit
    with context.timed("judge"):
        evaluation = evaluate_head(
            samples, features, split, fit, positive=context.positive, seed=context.resolved.settings.seed
        )
        if len(found.leaking):
            leaking = fit.head.logits(_leaking_blocks(context, found))
            evaluation = with_leaking(evaluation, samples, split, found.leaking, leaking)
    settings = context.resolved.settings
    with context.timed("trust"):
        trust = fit_probe_uncertainty(
            samples, features, split, fit, evaluation.logits,
            reject=settings.reject, coverage=settings.coverage, seed=settings.seed,
        )  # fmt: skip
    context.events.emit(StageFinished(Stage.UNCERTAINTY, context.duration_s["trust"], trust.evidence()))
    with context.timed("bundle"):
        write_probe_bundle(context.folder / "bundle", found, evaluation, trust)
    with context.timed("parity"):
        parity = verify_export(context, found, evaluation, trust, context.resolved.settings.workers)
    _write_run(context, found, evaluation, trust, parity, started, more)
    close_road(context, evaluation, started)


def _scale_classes(context: ProbeRunContext, found: FittedProbe) -> FittedProbe:
    """With a scale and a shift a class, where that pays; classes that were weighted on purpose stay as they are."""
    settings = context.resolved.settings
    if settings.probe.class_weights != "none":
        return found
    train = found.split.where("train")
    groups = None if found.split.groups is None else found.split.groups[train]
    fit, decision = scale_classes(found.fit, found.samples.class_ids[train], groups, seed=settings.seed)
    context.decide([] if decision is None else [decision])
    return replace(found, fit=fit)


def write_probe_bundle(folder: Path, found: FittedProbe, evaluation: HeadEvaluation, trust: UncertaintyModel) -> None:
    """Write the bundle of the probe into a folder."""
    embedder = found.embedder
    write_bundle(
        folder,
        graph_path=embedder.graph.path,
        graph_meta=embedder.graph.card,
        head=found.fit.head,
        spec=embedder.spec,
        class_names=found.samples.class_names,
        meta={"score": evaluation.headline_score(), "strategy": "probe", "positive": evaluation.positive},
        has_flip=found.has_mirror,
        trained_on=[found.features.digests[i] for i in found.split.where("train")],
        novelty=trust.novelty,
        sets=trust.sets.rule,
    )


def verify_export(
    context: ProbeRunContext,
    found: FittedProbe,
    evaluation: HeadEvaluation,
    trust: UncertaintyModel,
    threads: int | None,
) -> Any:
    """Send own files through the bundle and compares with the training path; a mismatch fails the run.

    Returns:
        How far the two are apart, JSON-able; it stands in the bundle too.
    """
    order = np.random.default_rng(context.resolved.settings.seed).permutation(len(found.samples))
    runtime = Runtime(read_bundle(context.folder), threads=threads)
    paths = [found.samples.paths[i] for i in order]
    parity = check_parity(runtime, paths, evaluation.logits[order], expected_novelty=trust.shipped[order]).to_json()
    amend_bundle(context.folder / "bundle", parity=parity)
    return parity


def _leaking_blocks(context: ProbeRunContext, found: FittedProbe) -> dict[str, NDArray[np.float32]]:
    """Return features of the images that leak, averaged over the mirror image as all others are."""
    blocks = found.leaking_features.blocks
    if not found.has_mirror:
        return blocks
    paths, names = found.leaking.paths, found.leaking.names
    mirrored, _, _ = found.embedder.embed(paths, names, context.events, is_mirrored=True)
    return averaged_blocks(blocks, mirrored.blocks)


def _write_run(
    context: ProbeRunContext,
    found: FittedProbe,
    evaluation: HeadEvaluation,
    trust: UncertaintyModel,
    parity: dict[str, Any],
    started: float,
    more: dict[str, Any],
) -> None:
    samples, features, split, fit = found.samples, found.features, found.split, found.fit
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
    write_predictions(context.folder / "predictions.csv", samples, split, evaluation, fit, trust)
    write_scores(context.folder / "scores.npz", samples, features, split, evaluation, fit, trust)
    write_label_errors(context.folder / "label_errors.csv", samples, features, split, fit, evaluation)
    write_facts(context, found, evaluation, started, strategy="probe", **trust.json, parity=parity, **more)


def write_facts(
    context: ProbeRunContext,
    found: FittedProbe,
    evaluation: HeadEvaluation,
    started: float,
    *,
    strategy: str,
    **more: Any,
) -> None:
    """`dataset_report.json`, `metrics.json` and the settings, as every classifier's run has them.

    Args:
        context: Where they go.
        found: What the data are like.
        evaluation: Of what is shipped.
        started: When the command began.
        strategy: What is shipped.
        more: What else stands in `metrics.json`.
    """
    samples, groups = found.samples, found.split.groups
    write_json(
        context.folder / "dataset_report.json", {**report_to_json(found.health), **reading_to_json(samples.notes)}
    )
    context.write_settings()
    context.paths = {s.name: s.path for s in (*samples, *found.leaking)}
    context.duration_s["total"] = time.monotonic() - started
    context.metrics = {
        "schema": 1,
        "task": "classify",
        "strategy": strategy,
        "backbone": found.embedder.graph.backbone,
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


def close_road(context: ProbeRunContext, evaluation: HeadEvaluation, started: float) -> None:
    """The report, the closing words, the log, and the mark that the run is whole."""
    shown = report_run(context.folder, context.paths, context.events, has_images=context.resolved.settings.images)
    score = summarize_classification(context.metrics)
    context.events.find(*evaluation.headline.findings)
    context.events.emit(ScoreMeasured(score))
    if shown is not None:
        context.events.emit(FileWritten("report", str(context.folder / "report.html"), {"num_images": shown}))
    predict = (f"headstart predict {quoted(context.folder)} NEW_IMAGES", None)
    seconds = time.monotonic() - started
    context.events.emit(RunFinished(seconds, str(context.folder), (predict, *context.next_commands)))
    context.end()
