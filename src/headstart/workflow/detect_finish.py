"""From a trained detector to a whole run: export, scores, calibration, bundle, proof, records.

The one decision: the test pictures are scored with the very bundle that is handed out, from files to boxes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.cells import guard_cell
from headstart.data.boxes.records import Detections
from headstart.data.boxes.split import as_samples
from headstart.data.split import write_split
from headstart.deploy.detector_runtime import DetectorRuntime
from headstart.deploy.detector_writing import check_detector_parity, write_detector_bundle
from headstart.deploy.writing import amend_bundle
from headstart.detection.calibrate import fit_calibration, recalibrate
from headstart.detection.metrics import DetectionEvaluation, detection_to_json, evaluate_detections
from headstart.messages.findings import finding_to_json
from headstart.workflow.detect_reporting import report_detector_run
from headstart.workflow.headline import report_line
from headstart.workflow.run_files import write_csv, write_json

if TYPE_CHECKING:
    from headstart.workflow.detect_bench import DetectBench
    from headstart.workflow.detect_road import DetectRoad
    from headstart.workflow.detect_training import DetectRun

__all__ = ["finish_detector"]

Ids = NDArray[np.int64]
_MOST_COMPARED = 40
_LEAST = 0.01  # of the scores that are kept in `predictions.csv` and scored


def finish_detector(road: DetectRoad, bench: DetectBench, run: DetectRun) -> None:
    """Writes the whole run."""
    net, plan, talk = run.net, run.plan, road.talk
    assert net is not None
    talk.say("writing the detector for prediction; this takes some seconds")
    with road.timed("export"):
        road.workshop.mkdir(parents=True, exist_ok=True)
        graph = road.workshop / "detector.onnx"
        bench.export(net, plan, graph)
    with road.timed("score"):
        _write_bundle(road, bench, run, graph, {})
        scored = _score(road, bench, run)
        slope, offset, thresholds = _calibrate(scored, road.samples.class_names)
        decoding = replace(run.decoding, slope=slope, offset=offset)
        changed = {"decoding": decoding.to_json(), "thresholds": thresholds, "score": _headline(scored)}
        amend_bundle(road.folder / "bundle", **changed)
    with road.timed("parity"):
        order = np.random.default_rng(road.resolved.settings.seed).permutation(len(road.samples))[:_MOST_COMPARED]
        runtime = DetectorRuntime(str(road.folder), threads=bench.threads)
        expected = bench.find_from_pixels(net, plan, order, decoding)
        parity = check_detector_parity(runtime, [bench.paths[i] for i in order], expected).to_json()
        amend_bundle(road.folder / "bundle", parity=parity)
    _write(road, run, scored, (slope, offset), parity)
    _close(road, scored)


class _Scored:
    """Detections of pictures that the detector had not seen, and what they are worth."""

    def __init__(self, samples: Ids, found: list[Detections], evaluation: DetectionEvaluation) -> None:
        self.samples, self.found, self.evaluation = samples, found, evaluation
        self.truth: list[Any] = []
        self.leaking: list[tuple[int, Detections]] = []
        self.as_given: DetectionEvaluation | None = None  # with the pictures that are also in training


def _score(road: DetectRoad, bench: DetectBench, run: DetectRun) -> dict[str, _Scored]:
    """Blocks `cv`, `val` and `test`, those that there are; raw scores."""
    samples, split, seed = road.samples, road.split, road.resolved.settings.seed
    blocks: dict[str, tuple[Ids, list[Detections], str]] = {}
    if run.oof is not None:
        blocks["cv"] = (run.oof.samples, run.oof.found, f"{run.oof.num_folds}-fold cross-validation")
    runtime = DetectorRuntime(str(road.folder), threads=bench.threads)
    for name in ("val", "test"):
        index = split.where(name)
        if len(index):
            answers = runtime.iter_predict([bench.paths[i] for i in index], min_score=0.0)
            protocol = (split.protocol or "given") if name == "test" else "given"
            blocks[name] = (index, [a.detections for a in answers], protocol)
    scored = {}
    for name, (every, every_found, protocol) in blocks.items():

        def judge(index: Ids, found: list[Detections], protocol: str = protocol) -> DetectionEvaluation:
            truth = [samples.boxes[i] for i in index]
            groups = None if split.groups is None else split.groups[index]
            return evaluate_detections(truth, found, samples.class_names, groups=groups, seed=seed, protocol=protocol)

        is_clean = [name == "cv" or int(i) not in road.leaking for i in every]
        index = every[np.array(is_clean, dtype=bool)]
        found = [f for f, clean in zip(every_found, is_clean, strict=True) if clean]
        scored[name] = _Scored(index, found, judge(index, found))
        scored[name].truth = [samples.boxes[i] for i in index]
        if len(index) < len(every):
            pairs = zip(every, every_found, is_clean, strict=True)
            scored[name].leaking = [(int(i), f) for i, f, clean in pairs if not clean]
            scored[name].as_given = judge(every, every_found)
    return scored


def _calibrate(scored: dict[str, _Scored], class_names: Sequence[str]) -> tuple[float, float, dict[str, Any]]:
    """Slope, offset and thresholds, fitted on pictures that were not trained on; the test pictures come last."""
    for name in ("val", "cv", "test"):
        if name not in scored:
            continue
        one = scored[name]
        slope, offset = fit_calibration(one.truth, one.found)
        calibrated = [recalibrate(f, slope, offset) for f in one.found]
        points = evaluate_detections(one.truth, calibrated, class_names, draws=0).per_class
        per_class = {c.name: 0.5 if c.point is None else round(c.point.threshold, 5) for c in points}
        return slope, offset, {"per_class": per_class, "protocol": f"best F1 on {name}: {one.evaluation.protocol}"}
    return 1.0, 0.0, {"per_class": dict.fromkeys(class_names, 0.5), "protocol": "not measured"}


def _headline(scored: dict[str, _Scored]) -> dict[str, Any] | None:
    """The score that stands for the run: the test pictures', else cross-validated, else the validation pictures'."""
    for name in ("test", "cv", "val"):
        if name in scored:
            e = scored[name].evaluation
            return {
                "metric": "mAP50",
                "value": e.map50.value,
                "low": e.map50.low,
                "high": e.map50.high,
                "protocol": e.protocol,
                "num_samples": e.num_samples,
            }
    return None


def _write_bundle(road: DetectRoad, bench: DetectBench, run: DetectRun, graph: Any, thresholds: dict[str, Any]) -> None:
    from headstart.workflow.embedding import _card_json

    train = road.split.where("train")
    meta = {
        "strategy": run.plan.strategy,
        "sizes": road.sizes.to_json(),
        "parity": None,
    }
    write_detector_bundle(
        road.folder / "bundle",
        graph_path=graph,
        graph_meta=_card_json(bench.backbone.card),
        spec=road.spec,
        class_names=road.samples.class_names,
        decoding=run.decoding,
        thresholds=thresholds,
        meta=meta,
        trained_on=[road.digests[i] for i in train],
    )


def _write(
    road: DetectRoad,
    run: DetectRun,
    scored: dict[str, _Scored],
    calibration: tuple[float, float],
    parity: dict[str, Any],
) -> None:
    samples, settings = road.samples, road.resolved.settings
    write_split(road.folder / "split.csv", as_samples(samples), road.split)
    _write_predictions(road, scored, calibration)
    health = road.health
    value = {
        "num_pictures": health.num_pictures,
        "num_boxes": health.num_boxes,
        "num_empty": health.num_empty,
        "layout": health.layout,
        "problems": [asdict(p) for p in health.problems],
        "unreadable": [asdict(p) for p in health.pictures.unreadable],
        "findings": [finding_to_json(f) for f in health.findings],
        "leaking": [samples.names[i] for i in sorted(road.leaking)],
    }
    write_json(road.folder / "health.json", value)
    road.write_settings()
    road.duration_s["total"] = time.monotonic() - road.started
    blocks: dict[str, Any] = {
        name: detection_to_json(scored[name].evaluation) if name in scored else None for name in ("cv", "val", "test")
    }
    for name in ("val", "test"):
        as_given = scored[name].as_given if name in scored else None
        if as_given is not None:
            blocks[f"{name}_as_given"] = detection_to_json(as_given)
    groups = road.split.groups
    write_json(
        road.folder / "metrics.json",
        {
            "schema": 1,
            "task": "detect",
            "strategy": run.plan.strategy,
            "backbone": settings.backbone,
            "num_samples": len(samples),
            "num_boxes": samples.num_boxes,
            "num_groups": None if groups is None else len(np.unique(groups)),
            "num_classes": len(samples.class_names),
            "class_names": list(samples.class_names),
            "duration_s": {name: round(value, 3) for name, value in road.duration_s.items()},
            "headline": _headline(scored),
            **blocks,
            "sizes": road.sizes.to_json(),
            "calibration": {"slope": calibration[0], "offset": calibration[1]},
            "parity": parity,
            "tuning": {
                "plan": run.plan.to_json(),
                "epochs_done": run.num_epochs,
                "is_stopped_early": run.is_stopped,
            },
        },
    )


def _write_predictions(road: DetectRoad, scored: dict[str, _Scored], calibration: tuple[float, float]) -> None:
    """`predictions.csv`: one row a detection in scored pictures, by a detector that had not seen them.

    Columns: `file, split, label, score, xmin, ymin, xmax, ymax, how`; scores are calibrated.
    """
    names = road.samples.class_names
    rows = []
    for block, one in scored.items():
        part = "train" if block == "cv" else block
        for sample, raw in [*zip(one.samples, one.found, strict=True), *one.leaking]:
            found = recalibrate(raw, *calibration)
            for box, score, kind in zip(found.xyxy, found.scores, found.class_ids, strict=True):
                edges = [f"{v:.1f}" for v in box]
                cells = (road.samples.names[sample], part, names[kind], f"{score:.4f}", *edges)
                rows.append([guard_cell(str(cell)) for cell in (*cells, one.evaluation.protocol)])
    columns = ("file", "split", "label", "score", "xmin", "ymin", "xmax", "ymax", "how")
    write_csv(road.folder / "predictions.csv", columns, rows)


def _close(road: DetectRoad, scored: dict[str, _Scored]) -> None:
    """The report, the closing words, the log, and the mark that the run is whole."""
    talk = road.talk
    shown = report_detector_run(road.folder, road.samples, talk, has_pictures=road.resolved.settings.pictures)
    head = _headline(scored)
    name = next((n for n in ("test", "cv", "val") if n in scored), None)
    if head is None or name is None:
        talk.say("No picture was held out, so how good the detector is cannot be said.")
    else:
        e = scored[name].evaluation
        for c in e.per_class:
            value = "not measured" if c.ap50.value is None else f"{100 * c.ap50.value:.1f} %"
            talk.say(f"  {c.name}: AP50 {value} on {c.num_boxes:,} boxes in {c.num_pictures:,} pictures")
        value = "cannot be measured" if e.map50.value is None else f"{100 * e.map50.value:.1f} %"
        interval = "" if e.map50.low is None else f" (95 %: {100 * e.map50.low:.1f}-{100 * (e.map50.high or 0):.1f})"
        talk.say(
            f"mAP50 {value}{interval}, {e.protocol}, {e.num_samples:,} pictures (mean over the classes of average "
            "precision: how much is found, and how little else, where half of two boxes must overlap)"
        )
    minutes = (time.monotonic() - road.started) / 60
    talk.say(f"The run is in {road.folder}, after {minutes:.1f} minutes.")
    if shown is not None:
        talk.say(report_line(shown, road.folder))
    talk.say(f"Next: headstart predict {road.folder} NEW_PICTURES")
    shutil.rmtree(road.workshop, ignore_errors=True)
    road.end()
