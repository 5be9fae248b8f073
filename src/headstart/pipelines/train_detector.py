"""Train a detector: read, check, split, choose the input size, plan, train, calibrate, score, export, verify, report.

The last epoch is kept. Nothing is selected on scored images, so their score is unbiased.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.advice.detector_budget import BudgetImages, BudgetPlanner, PlannedDetector
from headstart.advice.detector_pace import TimeBudget
from headstart.backbones.cards import Card, find_card
from headstart.config.settings import ResolvedConfig, TrainSettings
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.split import as_samples
from headstart.data.image_scan import scan_images
from headstart.detection.augmentation import check_augment
from headstart.detection.backbone import DetectorBackbone
from headstart.detection.box_sizes import choose_finest, choose_spec, measure_sizes
from headstart.detection.decoding import DecodingSettings
from headstart.detection.planning import DetectPlanner
from headstart.detection.reference import detect_from_pixels
from headstart.detection.trainer import DetectorTrainer
from headstart.errors import DeviceError, DeviceProblem
from headstart.events import CheckFinished, EventStream, FileWritten, RunFinished, ScoreMeasured, Stage
from headstart.export.bundle_writer import BundleGraph, amend_bundle, write_detector_bundle
from headstart.export.parity import check_detector_parity
from headstart.features.backbone_graph import export_network
from headstart.features.device_choice import check_device
from headstart.features.extractor import _card_json
from headstart.inference.runtime import Runtime
from headstart.messages.files import shell_path
from headstart.pipelines.detector_outputs import write_detector_files
from headstart.pipelines.detector_scoring import calibrate, detect_held_out, headline, score_held_out, score_summary
from headstart.pipelines.detector_state import DetectorData, ScoredBlock, TrainedDetector
from headstart.preprocessing.augmentation import parse_augment
from headstart.quality.box_inspection import inspect_box_dataset
from headstart.quality.box_split import check_training_boxes, read_box_samples, split_box_dataset
from headstart.quality.dataset_split import note_split
from headstart.quality.report_findings import dataset_findings, report_reading
from headstart.reports.record import DetectorRecord
from headstart.reports.writer import report_run
from headstart.runs.context import RunContext
from headstart.runs.folder import own_run_folder
from headstart.runs.journal import JOURNAL, Journal
from headstart.types.codes import DecisionReason, NoteKind
from headstart.types.records import Decision, Split
from headstart.utils.system import Clock, available_cores, file_digest

__all__ = ["train_detector"]

_TEMPORARY = ".detector.tmp"  # folder of temporary files; removed when the run is complete or resumed
_MAX_COMPARED = 40  # images of the parity check
_SHOWN_OF_BUDGET = ("epochs", "num_views", "budget.num_images")  # settings


def train_detector(
    resolved: ResolvedConfig,
    events: EventStream,
    *,
    started: float | None = None,
    clock: Clock = time.monotonic,
    journal: Mapping[str, Any] | None = None,
) -> Path:
    """Train a detector on images with boxes and write the run folder.

    Args:
        resolved: The settings.
        events: The event stream.
        started: Clock time when the command began.
        clock: Clock in seconds; used for the budget.
        journal: Values from `journal.json` of an earlier run. They are not measured again, so the same journal
            gives the same weights.

    Returns:
        The run folder.

    Raises:
        DataError: The images do not allow a valid detector.
        HeadstartError: Any other known failure.
    """
    started = clock() if started is None else started
    settings = resolved.settings
    _check_settings(settings)
    samples, manifest = read_box_samples(settings)
    with own_run_folder(settings.out, started=time.monotonic() - (clock() - started)) as folder:
        report_reading(samples, events)
        run = RunContext(resolved, events, folder, {"read": clock() - started}, clock, started)
        bundle, temporary = folder / "bundle", folder / _TEMPORARY
        data = _prepare(run, samples, manifest)
        with run.timed("prepare"):
            backbone = DetectorBackbone(settings, data.spec, len(data.samples.class_names), events)
        planned, trained = _fit(run, data, backbone, Journal(folder / JOURNAL, journal))
        detector = backbone.detector(trained.net, planned.plan)
        with run.timed("export"), events.stage(Stage.EXPORT_MODEL):
            temporary.mkdir(parents=True, exist_ok=True)
            export_network(detector, ("logits", "boxes"), data.spec.size_hw, temporary / "detector.onnx")
        with run.timed("score"):
            _write_bundle(bundle, temporary / "detector.onnx", backbone.card, data, planned, trained)
            held_out = detect_held_out(bundle, data, trained, _num_threads(settings))
            calibration = calibrate(data, held_out, settings.detect.max_detections)
            scored = score_held_out(data, held_out, calibration, settings)
            decoding = replace(trained.decoding, slope=calibration.slope, offset=calibration.offset)
            decoding = decoding.limited(settings.detect.max_detections)
            changed = {"thresholds": calibration.thresholds, "score": headline(scored)}
            amend_bundle(bundle, decoding=decoding.to_json(), **changed)
        with run.timed("parity"):
            parity = _verify(bundle, data, detector, decoding, planned, settings)
        run.duration_s["total"] = clock() - started
        record = write_detector_files(run, data, planned, trained, scored, calibration, parity)
        _finish(run, scored, record)
    return folder


def _check_settings(settings: TrainSettings) -> None:
    """Raise an error for a device or an augmentation that detectors do not support."""
    if settings.device not in ("auto", "cpu"):
        check_device(settings.device)
        raise DeviceError(
            DeviceProblem.UNSUPPORTED,
            f"detectors cannot be trained on `{settings.device}`; this version supports the CPU only.",
            hint="use --device cpu, or remove --device",
            device=(settings.device,),
        )
    if settings.augment is not None:
        check_augment(parse_augment(settings.augment))


def _prepare(run: RunContext, samples: DetectionSamples, manifest: Split | None) -> DetectorData:
    """Check and split the images, and choose the input size."""
    settings, events = run.resolved.settings, run.events
    with run.timed("check"):
        scan = scan_images(
            as_samples(samples),
            max_pixels=settings.max_pixels,
            num_threads=settings.num_threads,
            progress=events.progress(Stage.CHECK),
        )
        report = inspect_box_dataset(
            samples,
            scan=scan,
            max_pixels=settings.max_pixels,
            num_threads=settings.num_threads,
            group_from=settings.group_from,
        )
    of_images = dataset_findings(report.images)
    events.report(*of_images, *(finding for finding in report.findings if finding not in of_images))
    events.emit(CheckFinished(settings.data, len(samples)))
    parts = split_box_dataset(samples, report, settings, manifest)
    samples, split = parts.samples, parts.split
    note_split(split, events)
    events.report(*parts.findings)
    check_training_boxes(samples, split)
    train = split.where("train")
    boxes, sizes_hw = [samples.boxes[i] for i in train], samples.sizes_hw[train]
    spec, decisions = choose_spec(settings, boxes, sizes_hw)
    sizes = measure_sizes(boxes, sizes_hw, samples.class_names, spec)
    height, width = spec.size_hw
    events.note(NoteKind.BOX_SIZES, width=width, height=height, num_boxes=sizes.totals())
    events.report(*sizes.findings())
    _decide(run, samples, split, [*parts.decisions, *decisions])
    info = [scan.info[i] for i in parts.index]
    return DetectorData(
        samples=samples,
        digests=tuple(file_digest(p) if f is None else f.digest for p, f in zip(samples.paths, info, strict=True)),
        report=report,
        split=split,
        leaking=parts.leaking,
        findings=(*parts.findings, *sizes.findings()),
        spec=spec,
        sizes=sizes,
    )


def _decide(run: RunContext, samples: DetectionSamples, split: Split, decisions: Sequence[Decision]) -> None:
    """Record the decisions on the data, and the values of settings left open."""
    task = Decision("task", "detect", DecisionReason.BOXES_FOUND, evidence={"layout": samples.layout})
    run.decide([task, *decisions])
    weights = find_card(run.resolved.settings.backbone).weights_tag
    run.decide_used(
        Decision("out", str(run.folder), DecisionReason.NEXT_FREE_FOLDER),
        Decision("weights", weights, DecisionReason.DEFAULT_WEIGHTS, "default"),
        Decision("num_threads", available_cores(), DecisionReason.ONE_THREAD_PER_CORE, "default"),
        Decision("device", "cpu", DecisionReason.DEVICE_OF_TRAINING, "default"),
        Decision("layout", samples.layout, DecisionReason.LAYOUT_RECOGNIZED),
        Decision("detect.box_format", ", ".join(samples.box_formats), DecisionReason.BOX_FORMAT_OF_FILES),
    )
    if split.setup is not None and split.setup.held_out_fraction is not None:
        held_out = split.setup.held_out_fraction
        run.decide_used(Decision("test_size", held_out, DecisionReason.HELD_OUT_BY_DEFAULT, "default"))


def _fit(
    run: RunContext, data: DetectorData, backbone: DetectorBackbone, journal: Journal
) -> tuple[PlannedDetector, TrainedDetector]:
    """Plan the training, within the budget if there is one, and train."""
    from headstart.pipelines.detector_training import train_phases

    settings, train = run.resolved.settings, data.split.where("train")
    with run.timed("prepare"):
        trainer = DetectorTrainer(
            data.samples,
            data.digests,
            backbone,
            run.events,
            num_threads=_num_threads(settings),
            view_folder=None if settings.cache else run.folder / _TEMPORARY,
            clock=run.clock,
        )
    with closing(trainer):
        with run.timed("prepare"):
            boxes = [data.samples.boxes[i] for i in train]
            ids = np.concatenate([b.class_ids[~b.is_crowd] for b in boxes])
            rarest = np.bincount(ids, minlength=backbone.num_classes).min()
            finest = choose_finest(boxes, data.samples.sizes_hw[train], data.spec)
            planner = DetectPlanner(run.resolved, backbone, len(train), float(rarest), finest)
            if settings.time_budget is None:
                planned = PlannedDetector(*planner.plan(), train)
            else:
                budget = TimeBudget(run.started, 60.0 * settings.time_budget, run.clock, (settings.folds or 0) + 1)
                scored = np.concatenate([data.split.where("val"), data.split.where("test")])
                images = BudgetImages(train, data.samples.boxes, backbone.num_classes, scored)
                within = BudgetPlanner(budget, trainer, planner, journal, images, seed=settings.seed)
                planned = within.plan(is_threads_chosen=not settings.num_threads)
        shown = {"strategy", "detect.min_stride", *(() if planned.pace is None else _SHOWN_OF_BUDGET)}
        run.decide([d for d in planned.decisions if d.setting in shown])
        run.decide([d for d in planned.decisions if d.setting not in shown], is_shown=False)
        return planned, train_phases(run, data, trainer, planned)


def _num_threads(settings: TrainSettings) -> int:
    return settings.num_threads or available_cores()


def _write_bundle(
    folder: Path, graph: Path, card: Card, data: DetectorData, planned: PlannedDetector, trained: TrainedDetector
) -> None:
    """Write the bundle without calibration and thresholds, which are measured with it."""
    write_detector_bundle(
        folder,
        BundleGraph(graph, data.spec, _card_json(card)),
        data.samples.class_names,
        trained.decoding,
        thresholds={},
        meta={
            "strategy": planned.plan.strategy,
            "sizes": data.sizes.to_json(),
            "declared_classes": [list(pair) for pair in data.samples.declared],
            "parity": None,
        },
        trained_on=[data.digests[i] for i in planned.train],
    )


def _verify(
    bundle: Path,
    data: DetectorData,
    detector: Any,
    decoding: DecodingSettings,
    planned: PlannedDetector,
    settings: TrainSettings,
) -> dict[str, Any]:
    """Compare the bundle with torch on images from their files, and record the result in the bundle."""
    count = _MAX_COMPARED if planned.pace is None else planned.pace.num_compared(_MAX_COMPARED)
    index = np.random.default_rng(settings.seed).permutation(len(data.samples))[:count]
    runtime = Runtime(bundle, _num_threads(settings))
    expected = detect_from_pixels(detector, data.samples, index, data.spec, decoding)
    parity = check_detector_parity(runtime, [str(data.samples.paths[i]) for i in index], expected).to_json()
    amend_bundle(bundle, parity=parity)
    return parity


def _finish(run: RunContext, scored: Mapping[str, ScoredBlock], record: DetectorRecord) -> None:
    """Write the report, emit score and files, and mark the run as complete."""
    folder, events = run.folder, run.events
    num_images = report_run(folder, record, events)
    events.emit(ScoreMeasured(score_summary(scored)))
    if num_images is not None:
        events.emit(FileWritten("report", str(folder / "report.html"), {"num_images": num_images}))
    predict = (f"headstart predict {shell_path(folder)} NEW_IMAGES", None)
    events.emit(RunFinished(run.clock() - run.started, str(folder), (predict,)))
    shutil.rmtree(folder / _TEMPORARY, ignore_errors=True)
    run.end()
