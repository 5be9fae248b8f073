"""Fine-tune: plan, train with held-out images, compare with the probe, keep the better or the requested model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import numpy as np

from headstart.advice.candidates import PlanChoice, select_candidate
from headstart.advice.finetune_costs import FINAL_STEPS_S
from headstart.advice.requested_plan import requested_plan
from headstart.advice.resources import measure_threads
from headstart.backbones.latency import training_s
from headstart.config.planned import planned_decision
from headstart.config.settings import ResolvedConfig
from headstart.evaluation.head_evaluation import ModelLogits
from headstart.events import Stage
from headstart.features.backbone_graph import export_network
from headstart.features.engines import OnnxEngine
from headstart.features.extraction import embed_files
from headstart.features.graph_weights import refill_graph
from headstart.runs.context import RunContext
from headstart.tasks.classify.trained_model import FinetuneOutcome, TrainedModel
from headstart.tasks.resume_state import (
    clear_partial_output,
    dataset_fingerprint,
    save_resume_state,
    verify_resume_state,
)
from headstart.training.checkpoint import Checkpoints
from headstart.training.fitted_probe import FittedProbe
from headstart.training.held_out_trainer import FinalTraining, HeldOutTrainer, HeldOutTrainings
from headstart.training.image_sources import BatchSources
from headstart.training.jobs import check_frozen
from headstart.training.log import EpochLog, check_tensorboard, overfitting
from headstart.training.network import interpolate
from headstart.training.plan import FinetunePlan
from headstart.training.planning import check_descriptions, check_stages
from headstart.training.probe_comparison import ProbeComparison
from headstart.training.shared_backbone import SharedBackbone
from headstart.training.trainer import FinetuneTrainer
from headstart.types.codes import DecisionReason, Evidence, JsonValue, NoteKind
from headstart.types.records import Decision
from headstart.utils.system import available_cores

__all__ = ["check_finetuning", "finetune"]

_TOP = ("train_from", "epochs", "batch_size", "lr", "optimizer", "schedule", "augment", "num_views", "patience")


def check_finetuning(resolved: ResolvedConfig) -> ResolvedConfig:
    """Check the settings before anything is computed, and return them without flip TTA.

    Flipped images are among the views already; flip TTA in the probe would only blur the comparison.

    Raises:
        SettingError: A description is invalid, or the network lacks a stage.
        MissingExtraError: TensorBoard is requested and not installed.
    """
    settings = resolved.settings
    if settings.finetune.tensorboard:
        check_tensorboard()
    check_descriptions(settings)
    probe = settings.probe.model_copy(update={"flip_tta": "off"})
    resolved = replace(resolved, settings=settings.model_copy(update={"probe": probe}))
    return resolved.with_decisions([Decision("probe.flip_tta", "off", DecisionReason.FLIP_IS_TRAINING_VIEW)])


def finetune(run: RunContext, probe: FittedProbe) -> FinetuneOutcome:
    """Fine-tune by gradient descent, or let a measured comparison decide.

    Args:
        run: The run; a resumed one repeats the steps in its journal.
        probe: The probe.

    Raises:
        TrainingInterruptedError: Ctrl-C; the run can be resumed.
        DataError: The images of a resumed run have changed.
    """
    settings = run.resolved.settings
    checkpoints = Checkpoints(run.folder / "checkpoints")
    backbone = SharedBackbone(probe.embedder, settings)
    if not run.is_resumed:
        check_stages(settings, backbone, has_val=bool(len(probe.data.split.where("val"))))
        save_resume_state(checkpoints, run.resolved, dataset_fingerprint(probe.data))
    else:
        verify_resume_state(checkpoints, dataset_fingerprint(probe.data))
        clear_partial_output(run.folder)
    trainer = _open_trainer(run, probe, backbone, checkpoints)
    log = EpochLog(run.folder, run.events, has_events=settings.finetune.tensorboard)
    trials = HeldOutTrainer(trainer, probe, log)
    try:
        outcome = _train(run, trials)
    finally:
        trainer.close()
    if log.phases:
        run.duration_s["finetune"] = trials.seconds
    _report(run, outcome, log)
    shutil.rmtree(checkpoints.folder / "views", ignore_errors=True)
    return replace(outcome, epochs=log.write() if log.phases else ())


def _open_trainer(
    run: RunContext, probe: FittedProbe, backbone: SharedBackbone, checkpoints: Checkpoints
) -> FinetuneTrainer:
    """Open the trainer with the number of torch threads that is faster now."""
    settings = run.resolved.settings
    num_threads = checkpoints.once("threads", lambda: settings.num_threads or available_cores())
    torch_threads = settings.num_threads
    if torch_threads is None:
        torch_threads, speedup = checkpoints.once("torch_threads", lambda: measure_threads(num_threads))
        if torch_threads < num_threads:
            evidence: Evidence = {"num_threads": num_threads, "speedup": speedup}
            reason = DecisionReason.THREADS_MEASURED
            run.decide([Decision("finetune.num_threads", torch_threads, reason, evidence=evidence)])
    sources = BatchSources(probe.data, backbone, checkpoints, run.events, num_threads)
    trainer = FinetuneTrainer(sources, str(run.folder), torch_threads)
    run.decide_used(Decision("device", str(trainer.device), DecisionReason.DEVICE_OF_TRAINING, "default"))
    return trainer


def _train(run: RunContext, trials: HeldOutTrainer) -> FinetuneOutcome:
    """Plan, train, compare with the probe, and export the model that is kept."""
    settings, events = run.resolved.settings, run.events
    is_requested = settings.strategy != "auto"
    deadline = run.started + 60.0 * (settings.time_budget or 0.0) - FINAL_STEPS_S
    choice: PlanChoice = (requested_plan if is_requested else select_candidate)(run.resolved, trials, deadline)
    run.decide(choice.decisions)
    run.decide(choice.hidden_decisions, is_shown=False)
    plan = choice.plan
    if plan is None:
        return FinetuneOutcome()
    with events.stage(Stage.TRAIN, **_describe_plan(run, trials, plan)) as stage:
        trainings = trials.measure(plan, choice.num_folds, choice.num_used)
        comparison = trials.compare(trainings, is_probe_allowed=not is_requested)
        is_kept = comparison.is_better or (is_requested and settings.select != "best")
        stage |= {**trials.describe(comparison, trainings), "is_kept": is_kept}
        strategy, reason = plan.strategy if is_kept else "probe", DecisionReason.TUNED_COMPARED_WITH_PROBE
        run.decide([Decision("strategy", strategy, reason, evidence=comparison.to_json())])
        jobs = list(trainings.results)
        if is_kept:
            final = trials.train_final(trainings)
            jobs += [] if final.result is jobs[0] else [final.result]
        stage["train_seconds"] = sum(record.duration_s for job in jobs for record in job.records)
    if not is_kept:
        return FinetuneOutcome(None, comparison)
    for result in jobs:
        check_frozen(result.frozen_before, result.frozen_after)
    with run.timed("export"), events.stage(Stage.EXPORT_MODEL):
        model = _export(trials.trainer, trials.probe, trainings, final, comparison)
    return FinetuneOutcome(model, comparison)


def _describe_plan(run: RunContext, trials: HeldOutTrainer, plan: FinetunePlan) -> dict[str, JsonValue]:
    """Record the values of a plan as decisions, and return the evidence of the training stage."""
    trainer, num = trials.trainer, len(trials.train)
    net = trainer.network(plan, trials.start_head(plan))
    graph = trainer.embedder.graph
    planned = {
        name if name in _TOP else f"finetune.{name}": value
        for name, value in plan.to_json().items()
        if name not in ("strategy", "seed", "unfreeze")
    }
    planned["finetune.head"] = plan.head or None  # None: the linear head of the probe
    planned["finetune.train_image_size"] = planned["finetune.train_image_size"] or graph.spec.size_hw[0]
    known = {d.setting: d.value for d in run.resolved.decisions}  # decided with a reason already
    for name, value in planned.items():
        if name not in known or known[name] != value:
            chosen = planned_decision(run.resolved, name, value, num)
            run.decide(chosen, is_shown=run.resolved.is_explicit(name))
    row_bytes = 0 if plan.is_from_pixels else trainer.sources.row_bytes(plan)
    names = ("strategy", "train_from", "batch_size", "optimizer", "lr", "head_lr", "schedule", "num_views")
    return {
        **{name: getattr(plan, name) for name in names},
        "num_parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "num_images": num,
        "num_epochs": plan.epochs,
        "cache_bytes": row_bytes * num * (plan.num_views + 1),
        "expected_seconds": training_s(graph.backbone, graph.spec.size_hw[0], plan.train_from, plan.epochs * num),
    }


def _export(
    trainer: FinetuneTrainer,
    probe: FittedProbe,
    trainings: HeldOutTrainings,
    final: FinalTraining,
    comparison: ProbeComparison,
) -> TrainedModel:
    """Export the final network, and compute features and logits of every image with it."""
    data, embedder, plan = probe.data, probe.embedder, trainings.plan
    net = trainer.network(plan, final.head)
    trainer.move_to_cpu(net)
    net.load_trained(interpolate(final.result.start, final.result.end, comparison.alpha))
    net.set_training(False)
    temperature = 1.0 / comparison.inverse_temperature
    head = replace(net.head.to_linear(final.head), temperature=temperature) if plan.is_linear else None
    if head is not None and plan.strategy == "head":
        path, features = str(embedder.graph.path), data.features
        leaking = data.leaking_features
    else:
        path = _export_graph(trainer, plan, net, head, temperature)
        engine, samples = OnnxEngine(path), data.samples
        features, _ = embed_files(
            samples.paths,
            engine,
            embedder.spec,
            names=samples.names,
            num_threads=trainer.num_threads,
            progress=trainer.events.progress(Stage.EVALUATE),
        )
        features = replace(features, tuned_on=frozenset(features.digests[i] for i in final.trained_on))
        leaking, _ = embed_files(data.leaking.paths, engine, embedder.spec)

    def logits_of(blocks: Any) -> Any:
        if not len(next(iter(blocks.values()), ())):
            return np.zeros((0, len(data.samples.class_names)), dtype=np.float32)
        return blocks["logits"] if head is None else head.logits(blocks)

    hidden: dict[str, Any] | None = None
    if plan.hidden and not plan.head:
        normalizer = final.head.normalizer
        hidden = {"names": normalizer.names, "sizes": normalizer.sizes, "hidden": plan.hidden}
    logits = ModelLogits(logits_of(features.blocks), trainings.samples, comparison.logits, final.trained_on)
    return TrainedModel(
        path, head, features, logits, logits_of(leaking.blocks), plan=plan, setup=trainings.setup, hidden_head=hidden
    )


def _export_graph(trainer: FinetuneTrainer, plan: FinetunePlan, net: Any, head: Any, temperature: float) -> str:
    """Write the network as ONNX; a head that is not linear is inside the graph. Returns the path."""
    folder = trainer.checkpoints.folder / "graph"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "graph.onnx"
    graph, size_hw = trainer.embedder.graph, trainer.embedder.spec.size_hw
    if head is None:
        cut = trainer.backbone.head_cut(plan.head) if plan.head else "head"
        export_network(trainer.with_logits(net, temperature, cut), ("logits", "embedding"), size_hw, path)
    else:
        names = tuple(dict.fromkeys((*head.normalizer.names, "embedding")))
        module = trainer.backbone.pooled(names)
        if not refill_graph(graph.path, module, names, size_hw, path):
            export_network(module, names, size_hw, path)
    return str(path)


def _report(run: RunContext, outcome: FinetuneOutcome, log: EpochLog) -> None:
    """Note overfitting and a probe that is not worse."""
    model, comparison = outcome.model, outcome.comparison
    if model is None or comparison is None:
        return
    for phase, records in log.phases.items():
        epochs = overfitting(records)
        if epochs is not None:
            run.events.warn(NoteKind.OVERFITTING, phase=phase, **epochs)
            break
    if run.resolved.settings.strategy != "auto" and not comparison.is_better:
        probe = str(run.folder / "probe")
        run.events.warn(NoteKind.PROBE_NOT_WORSE, is_probe_better=comparison.is_worse, probe=probe)
