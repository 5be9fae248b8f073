"""From trained weights to a whole run: export, score, bundle, proof, and the probe kept beside it.

The one decision: the tuned model's score comes from pictures that its fold's network had not seen; nothing
of what was trained on everything is ever scored on what it was trained on, but as resubstitution.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.console import quoted
from headstart.deploy.writing import write_bundle
from headstart.events import Stage, StageFinished
from headstart.features.embed import embed_files
from headstart.features.engine import OnnxEngine
from headstart.features.graph import export_network
from headstart.features.refilling import refill_graph
from headstart.heads.linear import LinearHead
from headstart.records import Evaluation, Features, Split
from headstart.trust.metrics import evaluate, evaluation_to_json
from headstart.tuning.network import interpolate
from headstart.tuning.plan import TuningPlan
from headstart.tuning.safety import Verdict
from headstart.types import RESUBSTITUTION, USER_TEST_SPLIT, EvaluationProtocol, EvaluationSetup, NoteKind
from headstart.workflow.judgement import Judgement, judge, measure_baselines, with_leaking
from headstart.workflow.probe_finish import close_road, prove, write_facts, write_probe_bundle
from headstart.workflow.probe_types import FoundProbe, ProbeRoad
from headstart.workflow.run_files import write_oof, write_predictions, write_scores
from headstart.workflow.trusting import Trust, trust_probe, trust_tuned
from headstart.workflow.tune_bench import Bench
from headstart.workflow.tune_jobs import JobResult
from headstart.workflow.tune_records import EpochLog, overfitting

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Tuned", "finish_tuned"]

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Tuned:
    """What is shipped, with the evidence for it.

    Attributes:
        plan: Its training.
        result: The weights at both ends of the way.
        head: The head it started from.
        verdict: The comparison with the probe.
        scored: Positions of the pictures with out-of-fold logits, in the order of the verdict's rows.
        setup: How those were scored.
        train: Positions of what the shipped weights were trained on.
        is_asked: Whether a person asked for it.
    """

    plan: TuningPlan
    result: JobResult
    head: LinearHead
    verdict: Verdict
    scored: Ids
    setup: EvaluationSetup
    train: Ids
    is_asked: bool


def finish_tuned(road: ProbeRoad, found: FoundProbe, bench: Bench, tuned: Tuned, log: EpochLog, started: float) -> None:
    """Writes the whole run."""
    probe = judge(
        found.samples,
        found.features,
        found.split,
        found.fit,
        positive=road.positive,
        seed=road.resolved.settings.seed,
    )
    with road.timed("export"), road.events.stage(Stage.EXPORT_MODEL):
        graph_path, head, logits, features = _deployed(road, found, bench, tuned)
    with road.timed("judge"):
        judgement = _judge(found, tuned, logits, probe, road.resolved.settings.seed)
        if len(found.leaking):
            leaking = _said_of_leaking(found, graph_path, head)
            judgement = with_leaking(judgement, found.samples, found.split, found.leaking, leaking)
    trust, probe_trust = _trust(road, found, tuned, probe, head, logits, features)
    meta = {
        "score": judgement.headline_score(),
        "strategy": tuned.plan.strategy,
        "positive": judgement.positive,
        "freeze": {"head": "all", "finetune": tuned.plan.cut}.get(tuned.plan.strategy, "none"),
        "head_spec": tuned.plan.head or None,
        "head_beside": None if tuned.plan.is_linear or tuned.plan.head else _beside(tuned),
    }
    with road.timed("bundle"):
        write_bundle(
            road.folder / "bundle",
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
        (road.folder / "probe").mkdir(exist_ok=True)
        write_probe_bundle(road.folder / "probe" / "bundle", found, probe, probe_trust)
    with road.timed("parity"):
        parity = prove(road, found, judgement, trust, bench.threads)
    _say(road, tuned, log)
    _write(road, found, tuned, judgement, probe, trust, parity, features, log, started)
    close_road(road, judgement, started)


def _trust(
    road: ProbeRoad,
    found: FoundProbe,
    tuned: Tuned,
    probe: Judgement,
    head: LinearHead | None,
    logits: NDArray[np.float32],
    features: Features,
) -> tuple[Trust, Trust]:
    """Novelty and sets of the tuned model and of the probe."""
    asked: Any = {name: getattr(road.resolved.settings, name) for name in ("reject", "coverage", "seed")}
    # Rows of a network from random weights hardly differ from each other: how far one lies off the rest says nothing.
    known = None if tuned.plan.strategy == "scratch" else head
    with road.timed("trust"):
        trust = trust_tuned(
            found.samples, features, found.split, known, logits, tuned.scored, tuned.verdict.logits, tuned.train,
            frozen=_frozen_blocks(tuned, head), **asked,
        )  # fmt: skip
        of_probe = trust_probe(found.samples, found.features, found.split, found.fit, probe.logits, **asked)
    road.events.emit(StageFinished(Stage.UNCERTAINTY, road.duration_s["trust"], trust.evidence()))
    return trust, of_probe


def _frozen_blocks(tuned: Tuned, head: LinearHead | None) -> list[str]:
    """Blocks of the head's features that come out of the network before anything of it was trained."""
    if head is None:
        return []
    names = head.normaliser.names
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
    road: ProbeRoad, found: FoundProbe, bench: Bench, tuned: Tuned
) -> tuple[Path | str, LinearHead | None, NDArray[np.float32], Features]:
    """The tuned network as a graph, its head (None inside the graph), and what the two say of every picture."""
    net = bench.network(tuned.plan, tuned.head)
    bench.move_to_cpu(net)
    share = tuned.verdict.share
    net.load_trained(interpolate(tuned.result.start, tuned.result.end, share))
    net.set_training(False)
    temperature = 1.0 / tuned.verdict.multiplier
    is_head = tuned.plan.strategy == "head"
    if is_head and tuned.plan.is_linear:
        head = replace(net.head.to_linear(tuned.head), temperature=temperature)
        return found.embedder.graph.path, head, head.logits(found.features.blocks), found.features
    folder = road.folder / "checkpoints" / "graph"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "graph.onnx"
    linear: LinearHead | None = None
    names: tuple[str, ...]
    if not tuned.plan.is_linear:
        cut = bench.trunk.head_cut(tuned.plan.head) if tuned.plan.head else "head"
        module, names = bench.with_logits(net, temperature, cut), ("logits", "embedding")
    else:
        linear = replace(net.head.to_linear(tuned.head), temperature=temperature)
        names = tuple(dict.fromkeys((*linear.normaliser.names, "embedding")))
        module = bench.trunk.pooled(names)
    size_hw = found.embedder.spec.size_hw
    if linear is None or not refill_graph(found.embedder.graph.path, module, names, size_hw, path):
        export_network(module, names, size_hw, path)
    features, _ = embed_files(
        found.samples.paths,
        OnnxEngine(str(path)),
        found.embedder.spec,
        names=found.samples.names,
        threads=bench.threads,
        progress=road.events.progress(Stage.EVALUATE),
    )
    tuned_on = frozenset(features.digests[i] for i in tuned.train)
    features = replace(features, tuned_on=tuned_on)
    logits = features.blocks["logits"] if linear is None else linear.logits(features.blocks)
    return path, linear, logits, features


def _beside(tuned: Tuned) -> dict[str, Any]:
    """A head with hidden layers beside its linear map lies in the graph; this is what it is made of."""
    normaliser = tuned.head.normaliser
    return {"names": normaliser.names, "sizes": normaliser.sizes, "hidden": tuned.plan.hidden}


def _said_of_leaking(found: FoundProbe, graph_path: Path | str, head: LinearHead | None) -> NDArray[np.float32]:
    """(M, K) logits of the pictures that were taken out of the test split."""
    if head is not None and str(graph_path) == str(found.embedder.graph.path):
        return head.logits(found.leaking_features.blocks)
    features, _ = embed_files(found.leaking.paths, OnnxEngine(str(graph_path)), found.embedder.spec)
    return features.blocks["logits"] if head is None else head.logits(features.blocks)


def _judge(found: FoundProbe, tuned: Tuned, logits: NDArray[np.float32], probe: Judgement, seed: int) -> Judgement:
    """Scores: training pictures as resubstitution, unseen ones out of fold, val and test by the shipped model."""
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


def _say(road: ProbeRoad, tuned: Tuned, log: EpochLog) -> None:
    for phase, records in log.phases.items():
        found = overfitting(records)
        if found is not None:
            road.events.warn(NoteKind.OVERFITTING, phase=phase, **found)
            break
    probe = str(road.folder / "probe")
    if tuned.is_asked and not tuned.verdict.is_better:
        road.events.warn(NoteKind.PROBE_NOT_WORSE, is_probe_better=tuned.verdict.is_worse, probe=probe)
    road.next_commands.append((f"headstart predict {quoted(probe)} NEW_IMAGES", "the probe"))


def _write(
    road: ProbeRoad,
    found: FoundProbe,
    tuned: Tuned,
    judgement: Judgement,
    probe: Judgement,
    trust: Trust,
    parity: dict[str, Any],
    features: Features,
    log: EpochLog,
    started: float,
) -> None:
    from headstart.data.split import write_split

    samples, split = found.samples, found.split
    write_split(road.folder / "split.csv", samples, split)
    log.write()
    log.draw(tuned.plan.unfreeze)
    # Only pictures that a network has not seen have something to be said of them in the tables of predictions.
    is_scored = np.isin(np.arange(len(samples)), tuned.scored) | (split.assignment != "train")
    kept = np.flatnonzero(is_scored)
    assignment = split.assignment[kept].copy()
    is_oof = np.isin(kept, tuned.scored) & (assignment == "train")
    groups = None if split.groups is None else split.groups[kept]
    shown = Split(assignment, groups, split.source, split.setup, split.seed, split.reason)
    row_of = {int(s): i for i, s in enumerate(tuned.scored)}
    rows = tuned.verdict.logits[[row_of[int(s)] for s in kept[is_oof]]]
    fit = replace(found.fit, oof_logits=rows, setup=tuned.setup)
    part, shown_judgement = samples.take(kept), replace(judgement, logits=judgement.logits[kept])
    write_oof(
        road.folder / "oof.npz",
        names=[samples.names[i] for i in tuned.scored],
        groups=None if split.groups is None else split.groups[tuned.scored],
        class_ids=samples.class_ids[tuned.scored],
        logits=tuned.verdict.logits,
        protocol=tuned.setup.protocol,
    )
    write_predictions(road.folder / "predictions.csv", part, shown, shown_judgement, fit, trust.take(kept))
    write_scores(road.folder / "scores.npz", part, features.take(kept), shown, shown_judgement, fit, trust.take(kept))
    write_facts(
        road,
        found,
        judgement,
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
