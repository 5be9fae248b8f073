"""From trained weights to a whole run: export, score, bundle, proof, and the probe kept beside it.

The tuned model's score comes from images that its fold's network had not seen; nothing
of what was trained on everything is ever scored on what it was trained on, but as resubstitution.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.console import quoted
from headstart.evaluation.metrics import evaluate, evaluation_to_json
from headstart.events import Stage, StageFinished
from headstart.export.bundle_writer import write_bundle
from headstart.features.backbone_graph import export_network
from headstart.features.engines import OnnxEngine
from headstart.features.extraction import embed_files
from headstart.features.graph_weights import refill_graph
from headstart.probe.linear import LinearHead
from headstart.records import Evaluation, Features, Split
from headstart.training.network import interpolate
from headstart.training.plan import FinetunePlan
from headstart.training.probe_comparison import ProbeComparison
from headstart.types import RESUBSTITUTION, USER_TEST_SPLIT, EvaluationProtocol, EvaluationSetup, NoteKind
from headstart.workflow.finetune_log import EpochLog, overfitting
from headstart.workflow.finetune_trainer import FinetuneTrainer
from headstart.workflow.head_evaluation import HeadEvaluation, evaluate_head, measure_baselines, with_leaking
from headstart.workflow.probe_outputs import close_road, verify_export, write_facts, write_probe_bundle
from headstart.workflow.probe_types import FittedProbe, ProbeRunContext
from headstart.workflow.run_files import write_oof, write_predictions, write_scores
from headstart.workflow.training_jobs import TrainingResult
from headstart.workflow.uncertainty import UncertaintyModel, fit_finetuned_uncertainty, fit_probe_uncertainty

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FinetunedModel", "write_finetune_outputs"]

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class FinetunedModel:
    """What is shipped, with the evidence for it.

    Attributes:
        plan: Its training.
        result: The weights at both ends of the way.
        head: The head it started from.
        verdict: The comparison with the probe.
        scored: Positions of the images with out-of-fold logits, in the order of the verdict's rows.
        setup: How those were scored.
        train: Positions of what the shipped weights were trained on.
        is_asked: Whether a person asked for it.
    """

    plan: FinetunePlan
    result: TrainingResult
    head: LinearHead
    verdict: ProbeComparison
    scored: Ids
    setup: EvaluationSetup
    train: Ids
    is_asked: bool


def write_finetune_outputs(
    context: ProbeRunContext,
    found: FittedProbe,
    trainer: FinetuneTrainer,
    tuned: FinetunedModel,
    log: EpochLog,
    started: float,
) -> None:
    """Write the whole run."""
    probe = evaluate_head(
        found.samples,
        found.features,
        found.split,
        found.fit,
        positive=context.positive,
        seed=context.resolved.settings.seed,
    )
    with context.timed("export"), context.events.stage(Stage.EXPORT_MODEL):
        graph_path, head, logits, features = _deployed(context, found, trainer, tuned)
    with context.timed("judge"):
        evaluation = _judge(found, tuned, logits, probe, context.resolved.settings.seed)
        if len(found.leaking):
            leaking = _said_of_leaking(found, graph_path, head)
            evaluation = with_leaking(evaluation, found.samples, found.split, found.leaking, leaking)
    trust, probe_trust = _trust(context, found, tuned, probe, head, logits, features)
    meta = {
        "score": evaluation.headline_score(),
        "strategy": tuned.plan.strategy,
        "positive": evaluation.positive,
        "freeze": {"head": "all", "finetune": tuned.plan.cut}.get(tuned.plan.strategy, "none"),
        "head_spec": tuned.plan.head or None,
        "head_beside": None if tuned.plan.is_linear or tuned.plan.head else _beside(tuned),
    }
    with context.timed("bundle"):
        write_bundle(
            context.folder / "bundle",
            graph_path=graph_path,
            graph_meta=found.embedder.graph.card,
            head=head,
            spec=found.embedder.spec,
            class_names=found.samples.class_names,
            meta=meta,
            trained_on=[features.digests[i] for i in found.split.where("train")],
            novelty=trust.novelty,
            sets=trust.sets.rule,
        )
        (context.folder / "probe").mkdir(exist_ok=True)
        write_probe_bundle(context.folder / "probe" / "bundle", found, probe, probe_trust)
    with context.timed("parity"):
        parity = verify_export(context, found, evaluation, trust, trainer.threads)
    _say(context, tuned, log)
    _write(context, found, tuned, evaluation, probe, trust, parity, features, log, started)
    close_road(context, evaluation, started)


def _trust(
    context: ProbeRunContext,
    found: FittedProbe,
    tuned: FinetunedModel,
    probe: HeadEvaluation,
    head: LinearHead | None,
    logits: NDArray[np.float32],
    features: Features,
) -> tuple[UncertaintyModel, UncertaintyModel]:
    """Novelty and sets of the tuned model and of the probe."""
    asked: Any = {name: getattr(context.resolved.settings, name) for name in ("reject", "coverage", "seed")}
    # Rows of a network from random weights hardly differ from each other: how far one lies off the rest says nothing.
    known = None if tuned.plan.strategy == "scratch" else head
    with context.timed("trust"):
        trust = fit_finetuned_uncertainty(
            found.samples, features, found.split, known, logits, tuned.scored, tuned.verdict.logits, tuned.train,
            frozen=_frozen_blocks(tuned, head), **asked,
        )  # fmt: skip
        of_probe = fit_probe_uncertainty(found.samples, found.features, found.split, found.fit, probe.logits, **asked)
    context.events.emit(StageFinished(Stage.UNCERTAINTY, context.duration_s["trust"], trust.evidence()))
    return trust, of_probe


def _frozen_blocks(tuned: FinetunedModel, head: LinearHead | None) -> list[str]:
    """Blocks of the head's features that come out of the network before anything of it was trained."""
    if head is None:
        return []
    names = head.normalizer.names
    if tuned.plan.strategy == "head":
        return list(names)
    if tuned.plan.strategy != "finetune":
        return []
    if tuned.plan.cut == "neck":
        return [n for n in names if n.startswith("stage")]
    stage = re.fullmatch(r"stage(\d+)", tuned.plan.cut)
    numbers = {n: re.fullmatch(r"stage(\d+)", n) for n in names}
    return [n for n, m in numbers.items() if m and stage and int(m[1]) < int(stage[1])]


def _deployed(
    context: ProbeRunContext, found: FittedProbe, trainer: FinetuneTrainer, tuned: FinetunedModel
) -> tuple[Path | str, LinearHead | None, NDArray[np.float32], Features]:
    """Return the tuned network as a graph, its head (None inside the graph), and what the two say of every image."""
    net = trainer.network(tuned.plan, tuned.head)
    trainer.move_to_cpu(net)
    share = tuned.verdict.share
    net.load_trained(interpolate(tuned.result.start, tuned.result.end, share))
    net.set_training(False)
    temperature = 1.0 / tuned.verdict.multiplier
    is_head = tuned.plan.strategy == "head"
    if is_head and tuned.plan.is_linear:
        head = replace(net.head.to_linear(tuned.head), temperature=temperature)
        return found.embedder.graph.path, head, head.logits(found.features.blocks), found.features
    folder = context.folder / "checkpoints" / "graph"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "graph.onnx"
    linear: LinearHead | None = None
    names: tuple[str, ...]
    if not tuned.plan.is_linear:
        cut = trainer.trunk.head_cut(tuned.plan.head) if tuned.plan.head else "head"
        module, names = trainer.with_logits(net, temperature, cut), ("logits", "embedding")
    else:
        linear = replace(net.head.to_linear(tuned.head), temperature=temperature)
        names = tuple(dict.fromkeys((*linear.normalizer.names, "embedding")))
        module = trainer.trunk.pooled(names)
    size_hw = found.embedder.spec.size_hw
    if linear is None or not refill_graph(found.embedder.graph.path, module, names, size_hw, path):
        export_network(module, names, size_hw, path)
    features, _ = embed_files(
        found.samples.paths,
        OnnxEngine(str(path)),
        found.embedder.spec,
        names=found.samples.names,
        threads=trainer.threads,
        progress=context.events.progress(Stage.EVALUATE),
    )
    tuned_on = frozenset(features.digests[i] for i in tuned.train)
    features = replace(features, tuned_on=tuned_on)
    logits = features.blocks["logits"] if linear is None else linear.logits(features.blocks)
    return path, linear, logits, features


def _beside(tuned: FinetunedModel) -> dict[str, Any]:
    """Return a head with hidden layers beside its linear map lies in the graph; this is what it is made of."""
    normalizer = tuned.head.normalizer
    return {"names": normalizer.names, "sizes": normalizer.sizes, "hidden": tuned.plan.hidden}


def _said_of_leaking(found: FittedProbe, graph_path: Path | str, head: LinearHead | None) -> NDArray[np.float32]:
    """Return (M, K) logits of the images that were taken out of the test split."""
    if head is not None and str(graph_path) == str(found.embedder.graph.path):
        return head.logits(found.leaking_features.blocks)
    features, _ = embed_files(found.leaking.paths, OnnxEngine(str(graph_path)), found.embedder.spec)
    return features.blocks["logits"] if head is None else head.logits(features.blocks)


def _judge(
    found: FittedProbe, tuned: FinetunedModel, logits: NDArray[np.float32], probe: HeadEvaluation, seed: int
) -> HeadEvaluation:
    """Scores: training images as resubstitution, unseen ones out of fold, val and test by the shipped model."""
    samples, split = found.samples, found.split
    labels, names = samples.class_ids, samples.class_names

    def of(index: Ids, rows: NDArray[np.floating[Any]], setup: EvaluationSetup) -> Evaluation:
        is_unseen = setup.protocol is not EvaluationProtocol.RESUBSTITUTION
        groups = split.groups[index] if split.groups is not None and is_unseen else None
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
        baselines=measure_baselines(samples, found.features, split, found.fit, scored),
        train=of(tuned.train, logits[tuned.train], RESUBSTITUTION),
        cv=of(tuned.scored, tuned.verdict.logits, tuned.setup),
        val=of(val, logits[val], tuned.setup) if len(val) else None,
        test=of(test, logits[test], split.setup or USER_TEST_SPLIT) if len(test) else None,
        logits=logits,
    )


def _say(context: ProbeRunContext, tuned: FinetunedModel, log: EpochLog) -> None:
    for phase, records in log.phases.items():
        found = overfitting(records)
        if found is not None:
            context.events.warn(NoteKind.OVERFITTING, phase=phase, **found)
            break
    probe = str(context.folder / "probe")
    if tuned.is_asked and not tuned.verdict.is_better:
        context.events.warn(NoteKind.PROBE_NOT_WORSE, is_probe_better=tuned.verdict.is_worse, probe=probe)
    context.next_commands.append((f"headstart predict {quoted(probe)} NEW_IMAGES", "the probe"))


def _write(
    context: ProbeRunContext,
    found: FittedProbe,
    tuned: FinetunedModel,
    evaluation: HeadEvaluation,
    probe: HeadEvaluation,
    trust: UncertaintyModel,
    parity: dict[str, Any],
    features: Features,
    log: EpochLog,
    started: float,
) -> None:
    from headstart.data.split import write_split

    samples, split = found.samples, found.split
    write_split(context.folder / "split.csv", samples, split)
    log.write()
    log.draw(tuned.plan.unfreeze)
    # Only images that a network has not seen have something to be said of them in the tables of predictions.
    is_scored = np.isin(np.arange(len(samples)), tuned.scored) | (split.assignment != "train")
    kept = np.flatnonzero(is_scored)
    assignment = split.assignment[kept].copy()
    is_oof = np.isin(kept, tuned.scored) & (assignment == "train")
    groups = None if split.groups is None else split.groups[kept]
    shown = Split(assignment, groups, split.source, split.setup, split.seed, split.reason)
    row_of = {int(s): i for i, s in enumerate(tuned.scored)}
    rows = tuned.verdict.logits[[row_of[int(s)] for s in kept[is_oof]]]
    fit = replace(found.fit, oof_logits=rows, setup=tuned.setup)
    part, shown_judgement = samples.take(kept), replace(evaluation, logits=evaluation.logits[kept])
    write_oof(
        context.folder / "oof.npz",
        names=[samples.names[i] for i in tuned.scored],
        groups=None if split.groups is None else split.groups[tuned.scored],
        class_ids=samples.class_ids[tuned.scored],
        logits=tuned.verdict.logits,
        protocol=tuned.setup.protocol,
    )
    write_predictions(context.folder / "predictions.csv", part, shown, shown_judgement, fit, trust.take(kept))
    write_scores(
        context.folder / "scores.npz", part, features.take(kept), shown, shown_judgement, fit, trust.take(kept)
    )
    write_facts(
        context,
        found,
        evaluation,
        started,
        strategy=tuned.plan.strategy,
        **trust.json,
        parity=parity,
        tuning={"plan": tuned.plan.to_json(), "verdict": tuned.verdict.to_json()},
        probe={
            "cv": evaluation_to_json(probe.cv),
            "test": None if probe.test is None else evaluation_to_json(probe.test),
        },
    )
