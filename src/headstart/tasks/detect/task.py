"""Object detection as a task: boxes with a class and a score.

The last epoch is kept. Nothing is selected on scored images, so their score is unbiased.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.config.effects import has_detector_effect, validate_detector_combination
from headstart.data.boxes.endings import holds_only_images
from headstart.data.options import ReadOptions
from headstart.errors import UsageError
from headstart.events import EventStream, Stage
from headstart.messages.files import shell_path
from headstart.tasks.contract import Outcome
from headstart.tasks.detect import NAME
from headstart.tasks.options import CheckOptions, EvaluateOptions, ShowOptions, refuse_image_options
from headstart.utils.system import release_idle_threads

if TYPE_CHECKING:
    from PIL.Image import Image

    from headstart.advice.detector_budget import PlannedDetector
    from headstart.config.settings import ResolvedConfig, TrainSettings
    from headstart.data.boxes.records import DetectionSamples
    from headstart.detection.backbone import DetectorBackbone
    from headstart.detection.decoding import DecodingSettings
    from headstart.inference.runtime import Runtime
    from headstart.reports.comparison_text import Comparison
    from headstart.reports.record import DetectorRecord, RunRecord
    from headstart.results import DetectionResult
    from headstart.runs.context import RunContext
    from headstart.tasks.detect.check import BoxCheckResult
    from headstart.tasks.detect.state import Calibration, DetectorData, ScoredBlock, TrainedDetector
    from headstart.types.records import Split

__all__ = ["TASK", "DetectTask", "FittedDetector", "ScoredDetector"]


@dataclass(frozen=True)
class FittedDetector:
    """A trained detector with its backbone and plan."""

    backbone: DetectorBackbone
    planned: PlannedDetector
    trained: TrainedDetector


@dataclass(frozen=True)
class ScoredDetector:
    """The saved detector of a run.

    Attributes:
        fitted: The trained detector.
        network: The network of the bundle, with decoded boxes.
        decoding: How candidates become detections, calibrated.
        calibration: Calibration of scores and the thresholds of the classes.
        blocks: Detections in held-out images with their evaluation.
    """

    fitted: FittedDetector
    network: Any
    decoding: DecodingSettings
    calibration: Calibration
    blocks: Mapping[str, ScoredBlock]


class DetectTask:
    """See `Task`."""

    name = NAME
    needs_pyramid = True

    def recognizes(self, data: str, options: ReadOptions) -> bool:
        """See `Task`; boxes that cannot be read count too, since the reader says why."""
        if holds_only_images(data):  # the readers of all formats take longer to import than most folders to check
            return False
        from headstart.data.boxes.reader import has_boxes

        return has_boxes(
            data,
            allow_external_paths=options.allow_external_paths,
            exclude=options.exclude,
            name_encoding=options.name_encoding,
        )

    def check(self, data: str, options: CheckOptions, events: EventStream) -> BoxCheckResult:
        """See `Task`."""
        from headstart.tasks.detect.check import check_boxes

        refuse_image_options(options)
        return check_boxes(data, options, events)

    def show(self, data: str, options: ShowOptions, events: EventStream) -> Image:
        """See `Task`."""
        from headstart.data.boxes.read_options import read_boxes_with
        from headstart.quality.box_contact_sheet import draw_box_sheet
        from headstart.quality.report_findings import report_reading

        refuse_image_options(options)
        samples = read_boxes_with(data, options)
        report_reading(samples, events)
        return draw_box_sheet(samples, per_class=options.per_class, seed=options.seed)

    def validate(self, values: Mapping[str, Any]) -> None:
        """See `Task`."""
        validate_detector_combination(values)

    def has_effect(self, name: str, strategy: str) -> bool:
        """See `Task`."""
        return has_detector_effect(name)

    def check_settings(self, resolved: ResolvedConfig) -> ResolvedConfig:
        """See `Task`."""
        from headstart.tasks.detect.prepare import check_training_settings

        release_idle_threads()
        check_training_settings(resolved.settings)
        return resolved

    def read(self, settings: TrainSettings) -> tuple[DetectionSamples, Split | None]:
        """See `Task`."""
        from headstart.quality.box_split import read_box_samples

        return read_box_samples(settings)

    def prepare(self, run: RunContext, source: tuple[DetectionSamples, Split | None]) -> DetectorData:
        """See `Task`; also chooses the input size."""
        from headstart.quality.report_findings import report_reading
        from headstart.tasks.detect.prepare import prepare_data

        samples, manifest = source
        report_reading(samples, run.events)
        return prepare_data(run, samples, manifest)

    def fit(self, run: RunContext, data: DetectorData) -> FittedDetector:
        """See `Task`."""
        from headstart.detection.backbone import DetectorBackbone
        from headstart.tasks.detect.training_phases import plan_and_train

        with run.timed("prepare"):
            num_classes = len(data.samples.class_names)
            backbone = DetectorBackbone(run.resolved.settings, data.spec, num_classes, run.events)
        return FittedDetector(backbone, *plan_and_train(run, data, backbone))

    def score(self, run: RunContext, data: DetectorData, model: FittedDetector) -> ScoredDetector:
        """See `Task`; held-out images are scored from their files with the saved bundle."""
        from headstart.export.bundle_writer import amend_bundle
        from headstart.features.backbone_graph import export_network
        from headstart.tasks.detect.bundle import write_run_bundle
        from headstart.tasks.detect.scoring import calibrate, detect_held_out, headline, score_held_out
        from headstart.tasks.detect.training_phases import TEMPORARY, num_threads_of

        settings, trained, planned = run.resolved.settings, model.trained, model.planned
        bundle, graph = run.folder / "bundle", run.folder / TEMPORARY / "detector.onnx"
        network = model.backbone.detector(trained.net, planned.plan)
        with run.timed("export"), run.events.stage(Stage.EXPORT_MODEL):
            graph.parent.mkdir(parents=True, exist_ok=True)
            export_network(network, ("logits", "boxes"), data.spec.size_hw, graph)
        with run.timed("score"):
            write_run_bundle(bundle, graph, model.backbone.card, data, planned, trained)
            held_out = detect_held_out(bundle, data, trained, num_threads_of(settings))
            calibration = calibrate(data, held_out, settings.detect.max_detections)
            blocks = score_held_out(data, held_out, calibration, settings)
            decoding = replace(trained.decoding, slope=calibration.slope, offset=calibration.offset)
            decoding = decoding.limited(settings.detect.max_detections)
            changed = {"thresholds": calibration.thresholds, "score": headline(blocks)}
            amend_bundle(bundle, decoding=decoding.to_json(), **changed)
        return ScoredDetector(model, network, decoding, calibration, blocks)

    def verify(self, run: RunContext, data: DetectorData, scored: ScoredDetector) -> dict[str, Any]:
        """See `Task`; the differences are recorded in the bundle."""
        from headstart.tasks.detect.bundle import verify_bundle

        planned = scored.fitted.planned
        return verify_bundle(
            run.folder / "bundle", data, scored.network, scored.decoding, planned, run.resolved.settings
        )

    def write(
        self, run: RunContext, data: DetectorData, scored: ScoredDetector, parity: dict[str, Any]
    ) -> DetectorRecord:
        """See `Task`."""
        from headstart.tasks.detect.run_files import write_detector_files
        from headstart.tasks.detect.training_phases import TEMPORARY

        run.duration_s["total"] = run.clock() - run.started
        planned, trained = scored.fitted.planned, scored.fitted.trained
        shutil.rmtree(run.folder / TEMPORARY, ignore_errors=True)
        for checkpoint in (run.folder / "checkpoints").glob("*.safetensors"):
            checkpoint.unlink(missing_ok=True)
        return write_detector_files(run, data, planned, trained, scored.blocks, scored.calibration, parity)

    def outcome(self, run: RunContext, scored: ScoredDetector) -> Outcome:
        """See `Task`."""
        from headstart.tasks.detect.scoring import score_summary

        predict = (f"headstart predict {shell_path(run.folder)} NEW_IMAGES", None)
        return Outcome(score_summary(scored.blocks), next_commands=(predict,))

    def evaluate(self, runtime: Runtime, data: str, options: EvaluateOptions, events: EventStream) -> DetectionResult:
        """See `Task`."""
        from headstart.tasks.detect.evaluate import evaluate_detector

        refuse_image_options(options)
        return evaluate_detector(runtime, data, options, events)

    def read_record(self, folder: Path, *, data: str | None, has_paths: bool) -> RunRecord:
        """See `Task`."""
        from headstart.reports.record import read_record

        return read_record(folder, data=data, has_paths=has_paths)

    def compare(self, runs: Sequence[Path], data: str | None, options: ReadOptions, events: EventStream) -> Comparison:
        """See `Task`; not supported."""
        raise UsageError(
            "detector runs cannot be compared; compare supports classifiers only.",
            hint="score each on the same images with headstart evaluate",
        )


TASK = DetectTask()
