"""Turn a trained detector into a complete run: export, calibration, scores, bundle, parity check, records.

Test images are scored with the saved bundle, from files to boxes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Detections
from headstart.data.boxes.split import as_samples
from headstart.data.split import write_split
from headstart.detection.calibration import fit_calibration, recalibrate
from headstart.detection.metrics import DetectionEvaluation, detection_to_json, evaluate_detections
from headstart.evaluation.score_summary import summarize_detections
from headstart.events import FileWritten, RunFinished, ScoreMeasured, Stage
from headstart.export.bundle_writer import amend_bundle
from headstart.export.detector_bundle_writer import check_detector_parity, write_detector_bundle
from headstart.inference.detector_runtime import DetectorRuntime
from headstart.messages.files import shell_path
from headstart.messages.findings import finding_to_json
from headstart.messages.reading import reading_to_json
from headstart.reports.detection_report import BLOCKS
from headstart.reports.detector_report import report_detector_run
from headstart.runs.files import write_csv, write_json
from headstart.types.codes import USER_TEST_SPLIT, USER_VALIDATION_SPLIT, EvaluationProtocol, EvaluationSetup
from headstart.utils.csv_cells import escape_formula
from headstart.utils.system import atomic_file

if TYPE_CHECKING:
    from headstart.detection.context import DetectorRunContext
    from headstart.detection.trainer import DetectorTrainer
    from headstart.pipelines.detector_training import DetectRun

__all__ = ["write_detector_outputs"]

Ids = NDArray[np.int64]
_MOST_COMPARED = 40


def write_detector_outputs(context: DetectorRunContext, trainer: DetectorTrainer, run: DetectRun) -> None:
    """Write all files of the run."""
    net, plan = run.net, run.plan
    assert net is not None
    with context.timed("export"), context.events.stage(Stage.EXPORT_MODEL):
        context.temporary_folder.mkdir(parents=True, exist_ok=True)
        graph = context.temporary_folder / "detector.onnx"
        trainer.export(net, plan, graph)
    with context.timed("score"):
        _write_bundle(context, trainer, run, graph, {})
        blocks = _find(context, trainer, run)
        slope, offset, thresholds = _calibrate(context, blocks)
        scored = _score(context, blocks, (slope, offset), thresholds["per_class"])
        most = context.resolved.settings.detect.max_detections
        decoding = replace(run.decoding, slope=slope, offset=offset).limited(most)
        changed = {"decoding": decoding.to_json(), "thresholds": thresholds, "score": _headline(scored)}
        amend_bundle(context.folder / "bundle", **changed)
    with context.timed("parity"):
        count = _MOST_COMPARED if run.budget is None else run.budget.num_compared(_MOST_COMPARED)
        order = np.random.default_rng(context.resolved.settings.seed).permutation(len(context.samples))[:count]
        runtime = DetectorRuntime(str(context.folder), num_threads=trainer.num_threads)
        expected = trainer.detect_from_pixels(net, plan, order, decoding)
        parity = check_detector_parity(runtime, [trainer.paths[i] for i in order], expected).to_json()
        amend_bundle(context.folder / "bundle", parity=parity)
    _write(context, run, scored, (slope, offset), parity)
    _close(context, scored)


@dataclass(frozen=True)
class _Block:
    """Raw detections in held-out images.

    Attributes:
        samples: (N,) sample indices.
        detections: N detections with raw scores.
        is_clean: (N,) False for images with a near-duplicate in training; they are not scored.
        setup: The evaluation setup.
        is_leaky: Whether every image has a near-duplicate in training; all are scored then.
    """

    samples: Ids
    detections: list[Detections]
    is_clean: NDArray[np.bool_]
    setup: EvaluationSetup
    is_leaky: bool = False


@dataclass(frozen=True)
class _Scored:
    """Calibrated detections of one block, and their evaluation at the thresholds of the bundle.

    Attributes:
        samples: (N,) sample indices, leaking images included.
        detections: N detections with calibrated scores.
        evaluation: Of the images without a leak.
        including_leaks: Of all images; None where none leaks.
        is_leaky: Whether every image has a near-duplicate in training.
    """

    samples: Ids
    detections: list[Detections]
    evaluation: DetectionEvaluation
    including_leaks: DetectionEvaluation | None
    is_leaky: bool


def _find(context: DetectorRunContext, trainer: DetectorTrainer, run: DetectRun) -> dict[str, _Block]:
    """Detect objects in the images of the existing blocks among `cv`, `val` and `test`."""
    split = context.split
    blocks: dict[str, _Block] = {}
    if run.oof is not None:
        all_clean = np.ones(len(run.oof.samples), dtype=bool)
        setup = EvaluationSetup(EvaluationProtocol.K_FOLD, num_folds=run.oof.num_folds)
        blocks["cv"] = _Block(run.oof.samples, run.oof.detections, all_clean, setup)
    runtime = DetectorRuntime(str(context.folder), num_threads=trainer.num_threads)
    for name in ("val", "test"):
        index = split.where(name)
        if len(index):
            answers = runtime.iter_predict([trainer.paths[i] for i in index], min_score=0.0)
            is_clean = np.array([int(i) not in context.leaking for i in index], dtype=bool)
            is_leaky = name in context.leaky_splits
            setup = (split.setup or USER_TEST_SPLIT) if name == "test" else USER_VALIDATION_SPLIT
            setup = replace(setup, includes_leaks=is_leaky)
            blocks[name] = _Block(index, [a.detections for a in answers], is_clean, setup, is_leaky)
    return blocks


def _calibrate(context: DetectorRunContext, blocks: dict[str, _Block]) -> tuple[float, float, dict[str, Any]]:
    """Fit slope, offset and thresholds on held-out images; the test split is used last."""
    class_names = context.samples.class_names
    for name in _leaky_last(blocks, ("val", "cv", "test")):
        if not blocks[name].is_clean.any():
            continue
        block = blocks[name]
        ground_truth = [context.samples.boxes[i] for i in block.samples[block.is_clean]]
        detections = [f for f, clean in zip(block.detections, block.is_clean, strict=True) if clean]
        slope, offset = fit_calibration(ground_truth, detections)
        calibrated = [recalibrate(f, slope, offset) for f in detections]
        points = evaluate_detections(ground_truth, calibrated, class_names, draws=0, setup=block.setup).per_class
        per_class = {c.name: 0.5 if c.point is None else c.point.threshold for c in points}
        return slope, offset, {"per_class": per_class, "chosen_on": name, **block.setup.to_json()}
    return 1.0, 0.0, {"per_class": dict.fromkeys(class_names, 0.5), "chosen_on": None}


def _score(
    context: DetectorRunContext,
    blocks: dict[str, _Block],
    calibration: tuple[float, float],
    thresholds: dict[str, float],
) -> dict[str, _Scored]:
    """Evaluate every block with calibrated scores and the bundle's thresholds."""
    samples, groups, names = context.samples, context.split.groups, context.samples.class_names

    def evaluate(
        block: _Block, detections: list[Detections], which: NDArray[np.bool_], setup: EvaluationSetup
    ) -> DetectionEvaluation:
        index = block.samples[which]
        return evaluate_detections(
            [samples.boxes[i] for i in index],
            [f for f, is_in in zip(detections, which, strict=True) if is_in],
            names,
            groups=None if groups is None else groups[index],
            seed=context.resolved.settings.seed,
            setup=setup,
            thresholds=[thresholds[name] for name in names],
            max_detections=context.resolved.settings.detect.max_detections,
        )

    scored = {}
    for name, block in blocks.items():
        detections = [recalibrate(f, *calibration) for f in block.detections]
        every = np.ones(len(detections), dtype=bool)
        with_leaks = replace(block.setup, includes_leaks=True)
        including_leaks = None if block.is_clean.all() else evaluate(block, detections, every, with_leaks)
        evaluation = evaluate(block, detections, block.is_clean, block.setup)
        scored[name] = _Scored(block.samples, detections, evaluation, including_leaks, block.is_leaky)
    return scored


def _headline(scored: dict[str, _Scored]) -> dict[str, Any] | None:
    """Return the headline score: test, cross-validated, else validation images; leaky splits last."""
    for name in _leaky_last(scored, tuple(BLOCKS)):
        e = scored[name].evaluation
        return {
            "metric": "mAP50",
            "value": e.map50.value,
            "low": e.map50.low,
            "high": e.map50.high,
            **e.setup.to_json(),
            "num_samples": e.num_samples,
            "block": name,
            "is_leaky": scored[name].is_leaky,
        }
    return None


def _leaky_last(blocks: Mapping[str, _Block] | Mapping[str, _Scored], order: Sequence[str]) -> list[str]:
    """Return the names of existing blocks in the given order, with fully leaking blocks last."""
    return sorted((name for name in order if name in blocks), key=lambda name: blocks[name].is_leaky)


def _write_bundle(
    context: DetectorRunContext, trainer: DetectorTrainer, run: DetectRun, graph: Any, thresholds: dict[str, Any]
) -> None:
    from headstart.features.extractor import _card_json

    meta = {
        "strategy": run.plan.strategy,
        "sizes": context.sizes.to_json(),
        "parity": None,
    }
    write_detector_bundle(
        context.folder / "bundle",
        graph_path=graph,
        graph_meta=_card_json(trainer.backbone.card),
        spec=context.spec,
        class_names=context.samples.class_names,
        decoding=run.decoding,
        thresholds=thresholds,
        meta=meta,
        trained_on=[context.digests[i] for i in run.train],
    )


def _write(
    context: DetectorRunContext,
    run: DetectRun,
    scored: dict[str, _Scored],
    calibration: tuple[float, float],
    parity: dict[str, Any],
) -> None:
    samples, settings = context.samples, context.resolved.settings
    write_split(context.folder / "split.csv", as_samples(samples), context.split)
    _write_predictions(context, scored)
    _write_detections(context, scored)
    report = context.dataset_report
    value = {
        "num_images": report.num_images,
        "num_boxes": report.num_boxes,
        "num_empty": report.num_empty,
        "layout": report.layout,
        "problems": [asdict(p) for p in report.problems],
        "unreadable": [asdict(p) for p in report.images.unreadable],
        "findings": [finding_to_json(f) for f in (*context.findings, *report.findings)],
        **reading_to_json(report.notes),
        "leaking": [samples.names[i] for i in sorted(context.leaking)],
    }
    write_json(context.folder / "dataset_report.json", value)
    context.write_settings()
    context.duration_s["total"] = context.clock() - context.started
    blocks: dict[str, Any] = dict.fromkeys(("cv", "val", "test"))
    for name, one in scored.items():
        blocks[name] = detection_to_json(one.evaluation) | {"is_leaky": one.is_leaky}
    for name in ("val", "test"):
        including_leaks = scored[name].including_leaks if name in scored else None
        if including_leaks is not None:
            blocks[f"{name}_including_leaks"] = detection_to_json(including_leaks)
    groups = context.split.groups
    write_json(
        context.folder / "metrics.json",
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
            "duration_s": {name: round(value, 3) for name, value in context.duration_s.items()},
            "headline": _headline(scored),
            **blocks,
            "sizes": context.sizes.to_json(),
            "calibration": {"slope": calibration[0], "offset": calibration[1]},
            "parity": parity,
            "finetune": {
                "plan": run.plan.to_json(),
                "epochs_done": run.num_epochs,
                "num_steps": run.num_steps,
                "num_images": len(run.train),
                "is_stopped_early": run.is_stopped,
            },
            "budget": None if run.budget is None else run.budget.to_json(),
        },
    )


def _write_predictions(context: DetectorRunContext, scored: dict[str, _Scored]) -> None:
    """Write `predictions.csv`: one row per detection in held-out images.

    Columns: `file, split, label, score, xmin, ymin, xmax, ymax, how`; scores are calibrated. Scores and edges
    are rounded; `scores.npz` holds the full values.
    """
    names = context.samples.class_names
    rows = []
    for block, one in scored.items():
        for sample, detected in zip(one.samples, one.detections, strict=True):
            for box, score, kind in zip(detected.xyxy, detected.scores, detected.class_ids, strict=True):
                edges = [f"{v:.1f}" for v in box]
                cells = (context.samples.names[sample], _part(block), names[kind], f"{score:.4f}", *edges)
                rows.append([escape_formula(str(cell)) for cell in (*cells, one.evaluation.setup.protocol.value)])
    columns = ("file", "split", "label", "score", "xmin", "ymin", "xmax", "ymax", "protocol")
    write_csv(context.folder / "predictions.csv", columns, rows)


def _write_detections(context: DetectorRunContext, scored: dict[str, _Scored]) -> None:
    """Write `scores.npz`: the detections behind `metrics.json`; no pickle.

    Keys: `paths` (N,) str, `split` (N,) str and `num_found` (N,) int64 of each scored image; then, image by
    image, `xyxy` (M, 4) float32 pixels, `scores` (M,) float32 calibrated and `class_ids` (M,) int64.
    """
    paths = [context.samples.names[i] for one in scored.values() for i in one.samples]
    every = [d for one in scored.values() for d in one.detections]
    empty = Detections.of([])
    with atomic_file(context.folder / "scores.npz") as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            paths=np.array([p.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for p in paths], dtype=str),
            split=np.array([_part(block) for block, one in scored.items() for _ in one.samples], dtype=str),
            num_found=np.array([len(d) for d in every], dtype=np.int64),
            xyxy=np.concatenate([empty.xyxy, *(f.xyxy for f in every)]),
            scores=np.concatenate([empty.scores, *(f.scores for f in every)]),
            class_ids=np.concatenate([empty.class_ids, *(f.class_ids for f in every)]),
        )


def _part(block: str) -> str:
    """Return the split that contains the images of a block."""
    return "train" if block == "cv" else block


def _close(context: DetectorRunContext, scored: dict[str, _Scored]) -> None:
    """Write the report, emit score and files, and mark the run as complete."""
    events = context.events
    num_images = report_detector_run(
        context.folder, context.samples, events, has_images=context.resolved.settings.include_images
    )
    events.emit(ScoreMeasured(_summary(scored)))
    if num_images is not None:
        events.emit(FileWritten("report", str(context.folder / "report.html"), {"num_images": num_images}))
    predict = (f"headstart predict {shell_path(context.folder)} NEW_IMAGES", None)
    events.emit(RunFinished(context.clock() - context.started, str(context.folder), (predict, *context.next_commands)))
    shutil.rmtree(context.temporary_folder, ignore_errors=True)
    context.end()


def _summary(scored: dict[str, _Scored]) -> dict[str, Any]:
    """Return the headline score for the screen; its value is None without held-out images."""
    head = _headline(scored)
    if head is None:
        return {"task": "detect", "metric": "map50", "value": None, "low": None, "high": None}
    one = scored[head["block"]]
    score = {**summarize_detections(detection_to_json(one.evaluation)), "is_leaky": one.is_leaky, "leaky": None}
    if one.including_leaks is not None:
        given = one.including_leaks.map50
        num_leaks = one.including_leaks.num_samples - one.evaluation.num_samples
        score["leaky"] = {"value": given.value, "low": given.low, "high": given.high, "num_leaks": num_leaks}
    return score
