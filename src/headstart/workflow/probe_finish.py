"""From a fitted head to a whole run: scored, saved, and proved on the person's own files."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.console import quoted
from headstart.data.split import write_split
from headstart.data.wording import health_to_json
from headstart.deploy.bundle import read_bundle
from headstart.deploy.parity import check_parity
from headstart.deploy.runtime import Runtime
from headstart.deploy.writing import amend_bundle, write_bundle
from headstart.events import FileWritten, RunFinished, ScoreMeasured, Stage, StageFinished
from headstart.messages.reading import reading_to_json
from headstart.workflow.calibrating import scale_classes
from headstart.workflow.embedding import averaged_blocks
from headstart.workflow.judgement import Judgement, judge, with_leaking
from headstart.workflow.probe_types import FoundProbe, ProbeRoad
from headstart.workflow.reporting import report_run
from headstart.workflow.run_files import write_json, write_oof, write_predictions, write_scores
from headstart.workflow.score_summary import summarize_classification
from headstart.workflow.suspecting import write_suspects
from headstart.workflow.trusting import Trust, trust_probe

__all__ = ["close_road", "finish_probe", "prove", "write_facts", "write_probe_bundle"]


def finish_probe(road: ProbeRoad, found: FoundProbe, started: float, **more: Any) -> None:
    """From a fitted head to a whole run: judges, saves, proves; `more` stands in `metrics.json` too."""
    with road.timed("heads"):
        found = _scale_classes(road, found)
    samples, features, split, fit = found.samples, found.features, found.split, found.fit
    with road.timed("judge"):
        judgement = judge(samples, features, split, fit, positive=road.positive, seed=road.resolved.settings.seed)
        if len(found.leaking):
            leaking = fit.head.logits(_leaking_blocks(road, found))
            judgement = with_leaking(judgement, samples, split, found.leaking, leaking)
    settings = road.resolved.settings
    with road.timed("trust"):
        trust = trust_probe(
            samples, features, split, fit, judgement.logits,
            reject=settings.reject, coverage=settings.coverage, seed=settings.seed,
        )  # fmt: skip
    road.events.emit(StageFinished(Stage.UNCERTAINTY, road.duration_s["trust"], trust.evidence()))
    with road.timed("bundle"):
        write_probe_bundle(road.folder / "bundle", found, judgement, trust)
    with road.timed("parity"):
        parity = prove(road, found, judgement, trust, road.resolved.settings.workers)
    _write_run(road, found, judgement, trust, parity, started, more)
    close_road(road, judgement, started)


def _scale_classes(road: ProbeRoad, found: FoundProbe) -> FoundProbe:
    """With a scale and a shift a class, where that pays; classes that were weighted on purpose stay as they are."""
    settings = road.resolved.settings
    if settings.head.class_weights != "none":
        return found
    train = found.split.where("train")
    groups = None if found.split.groups is None else found.split.groups[train]
    fit, decision = scale_classes(found.fit, found.samples.class_ids[train], groups, seed=settings.seed)
    road.decide([] if decision is None else [decision])
    return replace(found, fit=fit)


def write_probe_bundle(folder: Path, found: FoundProbe, judgement: Judgement, trust: Trust) -> None:
    """Writes the bundle of the probe into a folder."""
    embedder = found.embedder
    write_bundle(
        folder,
        graph_path=embedder.graph.path,
        graph_meta=embedder.graph.card,
        head=found.fit.head,
        spec=embedder.spec,
        class_names=found.samples.class_names,
        meta={"score": judgement.headline_score(), "strategy": "probe", "positive": judgement.positive},
        has_flip=found.has_mirror,
        trained_on=[found.features.digests[i] for i in found.split.where("train")],
        novelty=trust.novelty,
        sets=trust.sets.rule,
    )


def prove(road: ProbeRoad, found: FoundProbe, judgement: Judgement, trust: Trust, threads: int | None) -> Any:
    """Sends own files through the bundle and compares with the training path; a mismatch fails the run.

    Returns:
        How far the two are apart, JSON-able; it stands in the bundle too.
    """
    order = np.random.default_rng(road.resolved.settings.seed).permutation(len(found.samples))
    runtime = Runtime(read_bundle(road.folder), threads=threads)
    paths = [found.samples.paths[i] for i in order]
    parity = check_parity(runtime, paths, judgement.logits[order], expected_novelty=trust.shipped[order]).to_json()
    amend_bundle(road.folder / "bundle", parity=parity)
    return parity


def _leaking_blocks(road: ProbeRoad, found: FoundProbe) -> dict[str, NDArray[np.float32]]:
    """Features of the pictures that leak, averaged over the mirror image as all others are."""
    blocks = found.leaking_features.blocks
    if not found.has_mirror:
        return blocks
    paths, names = found.leaking.paths, found.leaking.names
    mirrored, _, _ = found.embedder.embed(paths, names, road.events, is_mirrored=True)
    return averaged_blocks(blocks, mirrored.blocks)


def _write_run(
    road: ProbeRoad,
    found: FoundProbe,
    judgement: Judgement,
    trust: Trust,
    parity: dict[str, Any],
    started: float,
    more: dict[str, Any],
) -> None:
    samples, features, split, fit = found.samples, found.features, found.split, found.fit
    train = split.where("train")
    write_split(road.folder / "split.csv", samples, split)
    write_oof(
        road.folder / "oof.npz",
        names=[samples.names[i] for i in train],
        groups=None if split.groups is None else split.groups[train],
        class_ids=samples.class_ids[train],
        logits=fit.oof_logits,
        protocol=fit.setup.protocol,
    )
    write_predictions(road.folder / "predictions.csv", samples, split, judgement, fit, trust)
    write_scores(road.folder / "scores.npz", samples, features, split, judgement, fit, trust)
    write_suspects(road.folder / "suspects.csv", samples, features, split, fit, judgement)
    write_facts(road, found, judgement, started, strategy="probe", **trust.json, parity=parity, **more)


def write_facts(
    road: ProbeRoad, found: FoundProbe, judgement: Judgement, started: float, *, strategy: str, **more: Any
) -> None:
    """`health.json`, `metrics.json` and the settings, as every classifier's run has them.

    Args:
        road: Where they go.
        found: What the data are like.
        judgement: Of what is shipped.
        started: When the command began.
        strategy: What is shipped.
        more: What else stands in `metrics.json`.
    """
    samples, groups = found.samples, found.split.groups
    write_json(road.folder / "health.json", {**health_to_json(found.health), **reading_to_json(samples.notes)})
    road.write_settings()
    road.paths = {s.name: s.path for s in (*samples, *found.leaking)}
    road.duration_s["total"] = time.monotonic() - started
    road.metrics = {
        "schema": 1,
        "task": "classify",
        "strategy": strategy,
        "backbone": found.embedder.graph.backbone,
        "num_samples": len(samples),
        "num_groups": None if groups is None else len(np.unique(groups)),
        "num_classes": len(samples.class_names),
        "class_names": list(samples.class_names),
        "positive": judgement.positive,
        "duration_s": {name: round(value, 3) for name, value in road.duration_s.items()},
        "baselines": judgement.baselines,
        **judgement.blocks_json(),
        **more,
    }
    write_json(road.folder / "metrics.json", road.metrics)


def close_road(road: ProbeRoad, judgement: Judgement, started: float) -> None:
    """The report, the closing words, the log, and the mark that the run is whole."""
    shown = report_run(road.folder, road.paths, road.events, has_pictures=road.resolved.settings.pictures)
    score = summarize_classification(road.metrics)
    road.events.find(*judgement.headline.findings)
    road.events.emit(ScoreMeasured(score))
    if shown is not None:
        road.events.emit(FileWritten("report", str(road.folder / "report.html"), {"num_images": shown}))
    predict = (f"headstart predict {quoted(road.folder)} NEW_IMAGES", None)
    seconds = time.monotonic() - started
    road.events.emit(RunFinished(seconds, str(road.folder), (predict, *road.next_commands)))
    road.end()
