"""Turn fine-tuned weights into a complete run: export, scores, bundle, parity check, and the probe for comparison.

The score of the fine-tuned model is out-of-fold; training images are scored as resubstitution only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.head_evaluation import HeadEvaluation, evaluate_head, measure_baselines, with_leaking
from headstart.evaluation.metrics import evaluate, evaluation_to_json
from headstart.evaluation.uncertainty import UncertaintyModel, fit_finetuned_uncertainty, fit_probe_uncertainty
from headstart.events import Stage, StageFinished
from headstart.export.bundle_writer import write_bundle
from headstart.features.backbone_graph import export_network
from headstart.features.engines import OnnxEngine
from headstart.features.extraction import embed_files
from headstart.features.graph_weights import refill_graph
from headstart.messages.files import shell_path
from headstart.pipelines.probe_outputs import finish_run, verify_export, write_metrics, write_probe_bundle
from headstart.probe.linear import LinearHead
from headstart.runs.files import write_oof, write_predictions, write_scores
from headstart.training.fitted_probe import FittedProbe, ProbeRunContext
from headstart.training.jobs import TrainingResult
from headstart.training.log import EpochLog, overfitting
from headstart.training.network import interpolate
from headstart.training.plan import FinetunePlan
from headstart.training.probe_comparison import ProbeComparison
from headstart.training.trainer import FinetuneTrainer
from headstart.types.codes import RESUBSTITUTION, USER_TEST_SPLIT, EvaluationProtocol, EvaluationSetup, NoteKind
from headstart.types.records import Evaluation, Features

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FinetunedModel", "write_finetune_outputs"]

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class FinetunedModel:
    """The model to save, with its comparison with the probe.

    Attributes:
        plan: Its training plan.
        result: The weights before and after training.
        head: The initial head.
        comparison: Comparison with the probe.
        scored: Positions of the images with out-of-fold logits, in the row order of the comparison.
        setup: Evaluation setup of these images.
        train: Positions of the training images of the saved weights.
        is_requested: Whether the user requested fine-tuning.
    """

    plan: FinetunePlan
    result: TrainingResult
    head: LinearHead
    comparison: ProbeComparison
    scored: Ids
    setup: EvaluationSetup
    train: Ids
    is_requested: bool


def write_finetune_outputs(
    context: ProbeRunContext,
    fitted: FittedProbe,
    trainer: FinetuneTrainer,
    tuned: FinetunedModel,
    log: EpochLog,
    started: float,
) -> None:
    """Write all files of the run."""
    probe = evaluate_head(
        fitted.samples,
        fitted.features,
        fitted.split,
        fitted.fit,
        positive=context.positive,
        seed=context.resolved.settings.seed,
    )
    with context.timed("export"), context.events.stage(Stage.EXPORT_MODEL):
        graph_path, head, logits, features = _deploy(context, fitted, trainer, tuned)
    with context.timed("evaluate"):
        evaluation = _evaluate(fitted, tuned, logits, probe, context.resolved.settings.seed)
        if len(fitted.leaking):
            leaking = _leaking_logits(fitted, graph_path, head)
            evaluation = with_leaking(evaluation, fitted.samples, fitted.split, fitted.leaking, leaking)
    uncertainty, probe_uncertainty = _fit_uncertainty(context, fitted, tuned, probe, head, logits, features)
    meta = {
        "score": evaluation.headline_score(),
        "strategy": tuned.plan.strategy,
        "positive": evaluation.positive,
        "freeze": {"head": "all", "finetune": tuned.plan.train_from}.get(tuned.plan.strategy, "none"),
        "head_spec": tuned.plan.head or None,
        "head_beside": None if tuned.plan.is_linear or tuned.plan.head else _hidden_head_json(tuned),
    }
    with context.timed("bundle"):
        write_bundle(
            context.folder / "bundle",
            graph_path=graph_path,
            graph_meta=fitted.embedder.graph.card,
            head=head,
            spec=fitted.embedder.spec,
            class_names=fitted.samples.class_names,
            meta=meta,
            trained_on=[features.digests[i] for i in fitted.split.where("train")],
            ood=uncertainty.ood,
            prediction_sets=uncertainty.sets.rule,
        )
        (context.folder / "probe").mkdir(exist_ok=True)
        write_probe_bundle(context.folder / "probe" / "bundle", fitted, probe, probe_uncertainty)
    with context.timed("parity"):
        parity = verify_export(context, fitted, evaluation, uncertainty, trainer.num_threads)
    _emit_notes(context, tuned, log)
    _write(context, fitted, tuned, evaluation, probe, uncertainty, parity, features, log, started)
    finish_run(context, evaluation, started)


def _fit_uncertainty(
    context: ProbeRunContext,
    fitted: FittedProbe,
    tuned: FinetunedModel,
    probe: HeadEvaluation,
    head: LinearHead | None,
    logits: NDArray[np.float32],
    features: Features,
) -> tuple[UncertaintyModel, UncertaintyModel]:
    """Fit the OOD score and prediction sets of the fine-tuned model and of the probe."""
    options: Any = {name: getattr(context.resolved.settings, name) for name in ("ood_fpr", "coverage", "seed")}
    # Features of a network from random weights hardly differ, so distances between them carry no information.
    known = None if tuned.plan.strategy == "scratch" else head
    with context.timed("uncertainty"):
        uncertainty = fit_finetuned_uncertainty(
            fitted.samples, features, fitted.split, known, logits, tuned.scored, tuned.comparison.logits, tuned.train,
            frozen=_frozen_blocks(tuned, head), **options,
        )  # fmt: skip
        of_probe = fit_probe_uncertainty(
            fitted.samples, fitted.features, fitted.split, fitted.fit, probe.logits, **options
        )
    context.events.emit(StageFinished(Stage.UNCERTAINTY, context.duration_s["uncertainty"], uncertainty.evidence()))
    return uncertainty, of_probe


def _frozen_blocks(tuned: FinetunedModel, head: LinearHead | None) -> list[str]:
    """Return the blocks of the head's features that come from frozen stages."""
    if head is None:
        return []
    names = head.normalizer.names
    if tuned.plan.strategy == "head":
        return list(names)
    if tuned.plan.strategy != "finetune":
        return []
    if tuned.plan.train_from == "neck":
        return [n for n in names if n.startswith("stage")]
    stage = re.fullmatch(r"stage(\d+)", tuned.plan.train_from)
    numbers = {n: re.fullmatch(r"stage(\d+)", n) for n in names}
    return [n for n, m in numbers.items() if m and stage and int(m[1]) < int(stage[1])]


def _deploy(
    context: ProbeRunContext, fitted: FittedProbe, trainer: FinetuneTrainer, tuned: FinetunedModel
) -> tuple[Path | str, LinearHead | None, NDArray[np.float32], Features]:
    """Return the fine-tuned graph, its head (None inside the graph), and logits and features of every image."""
    net = trainer.network(tuned.plan, tuned.head)
    trainer.move_to_cpu(net)
    net.load_trained(interpolate(tuned.result.start, tuned.result.end, tuned.comparison.share))
    net.set_training(False)
    temperature = 1.0 / tuned.comparison.multiplier
    is_head = tuned.plan.strategy == "head"
    if is_head and tuned.plan.is_linear:
        head = replace(net.head.to_linear(tuned.head), temperature=temperature)
        return fitted.embedder.graph.path, head, head.logits(fitted.features.blocks), fitted.features
    folder = context.folder / "checkpoints" / "graph"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "graph.onnx"
    linear: LinearHead | None = None
    names: tuple[str, ...]
    if not tuned.plan.is_linear:
        cut = trainer.backbone.head_cut(tuned.plan.head) if tuned.plan.head else "head"
        module, names = trainer.with_logits(net, temperature, cut), ("logits", "embedding")
    else:
        linear = replace(net.head.to_linear(tuned.head), temperature=temperature)
        names = tuple(dict.fromkeys((*linear.normalizer.names, "embedding")))
        module = trainer.backbone.pooled(names)
    size_hw = fitted.embedder.spec.size_hw
    if linear is None or not refill_graph(fitted.embedder.graph.path, module, names, size_hw, path):
        export_network(module, names, size_hw, path)
    features, _ = embed_files(
        fitted.samples.paths,
        OnnxEngine(str(path)),
        fitted.embedder.spec,
        names=fitted.samples.names,
        num_threads=trainer.num_threads,
        progress=context.events.progress(Stage.EVALUATE),
    )
    tuned_on = frozenset(features.digests[i] for i in tuned.train)
    features = replace(features, tuned_on=tuned_on)
    logits = features.blocks["logits"] if linear is None else linear.logits(features.blocks)
    return path, linear, logits, features


def _hidden_head_json(tuned: FinetunedModel) -> dict[str, Any]:
    """Return the description of a head with hidden layers, which is inside the graph."""
    normalizer = tuned.head.normalizer
    return {"names": normalizer.names, "sizes": normalizer.sizes, "hidden": tuned.plan.hidden}


def _leaking_logits(fitted: FittedProbe, graph_path: Path | str, head: LinearHead | None) -> NDArray[np.float32]:
    """Return (M, K) logits of the images excluded from the test split."""
    if head is not None and str(graph_path) == str(fitted.embedder.graph.path):
        return head.logits(fitted.leaking_features.blocks)
    features, _ = embed_files(fitted.leaking.paths, OnnxEngine(str(graph_path)), fitted.embedder.spec)
    return features.blocks["logits"] if head is None else head.logits(features.blocks)


def _evaluate(
    fitted: FittedProbe, tuned: FinetunedModel, logits: NDArray[np.float32], probe: HeadEvaluation, seed: int
) -> HeadEvaluation:
    """Evaluate training images as resubstitution and out of fold, val and test images with the saved model."""
    samples, split = fitted.samples, fitted.split
    labels, names = samples.class_ids, samples.class_names

    def of(index: Ids, rows: NDArray[np.floating[Any]], setup: EvaluationSetup) -> Evaluation:
        is_held_out = setup.protocol is not EvaluationProtocol.RESUBSTITUTION
        groups = split.groups[index] if split.groups is not None and is_held_out else None
        return evaluate(
            rows,
            labels[index],
            names,
            setup=setup,
            is_logits=True,
            groups=groups,
            positive=probe.positive,
            seed=seed,
        )

    val, test = split.where("val"), split.where("test")
    scored = test if len(test) else tuned.scored
    return replace(
        probe,
        baselines=measure_baselines(samples, fitted.features, split, fitted.fit, scored),
        train=of(tuned.train, logits[tuned.train], RESUBSTITUTION),
        cv=of(tuned.scored, tuned.comparison.logits, tuned.setup),
        val=of(val, logits[val], tuned.setup) if len(val) else None,
        test=of(test, logits[test], split.setup or USER_TEST_SPLIT) if len(test) else None,
        logits=logits,
    )


def _emit_notes(context: ProbeRunContext, tuned: FinetunedModel, log: EpochLog) -> None:
    for phase, records in log.phases.items():
        epochs = overfitting(records)
        if epochs is not None:
            context.events.warn(NoteKind.OVERFITTING, phase=phase, **epochs)
            break
    probe = str(context.folder / "probe")
    if tuned.is_requested and not tuned.comparison.is_better:
        context.events.warn(NoteKind.PROBE_NOT_WORSE, is_probe_better=tuned.comparison.is_worse, probe=probe)
    context.next_commands.append((f"headstart predict {shell_path(probe)} NEW_IMAGES", "the probe"))


def _write(
    context: ProbeRunContext,
    fitted: FittedProbe,
    tuned: FinetunedModel,
    evaluation: HeadEvaluation,
    probe: HeadEvaluation,
    uncertainty: UncertaintyModel,
    parity: dict[str, Any],
    features: Features,
    log: EpochLog,
    started: float,
) -> None:
    from headstart.data.split import write_split

    samples, split = fitted.samples, fitted.split
    write_split(context.folder / "split.csv", samples, split)
    log.write()
    log.draw(tuned.plan.unfreeze)
    # The tables of predictions hold held-out images only.
    is_scored = np.isin(np.arange(len(samples)), tuned.scored) | (split.assignment != "train")
    kept = np.flatnonzero(is_scored)
    assignment = split.assignment[kept].copy()
    is_oof = np.isin(kept, tuned.scored) & (assignment == "train")
    groups = None if split.groups is None else split.groups[kept]
    shown = replace(split, assignment=assignment, groups=groups)
    row_of = {int(s): i for i, s in enumerate(tuned.scored)}
    rows = tuned.comparison.logits[[row_of[int(s)] for s in kept[is_oof]]]
    fit = replace(fitted.fit, oof_logits=rows, setup=tuned.setup)
    part, shown_evaluation = samples.take(kept), replace(evaluation, logits=evaluation.logits[kept])
    write_oof(
        context.folder / "oof.npz",
        names=[samples.names[i] for i in tuned.scored],
        groups=None if split.groups is None else split.groups[tuned.scored],
        class_ids=samples.class_ids[tuned.scored],
        logits=tuned.comparison.logits,
        protocol=tuned.setup.protocol,
    )
    write_predictions(context.folder / "predictions.csv", part, shown, shown_evaluation, fit, uncertainty.take(kept))
    write_scores(
        context.folder / "scores.npz", part, features.take(kept), shown, shown_evaluation, fit, uncertainty.take(kept)
    )
    write_metrics(
        context,
        fitted,
        evaluation,
        started,
        strategy=tuned.plan.strategy,
        **uncertainty.json,
        parity=parity,
        finetune={"plan": tuned.plan.to_json(), "verdict": tuned.comparison.to_json()},
        probe={
            "cv": evaluation_to_json(probe.cv),
            "test": None if probe.test is None else evaluation_to_json(probe.test),
        },
    )
