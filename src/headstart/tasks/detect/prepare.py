"""Check and split images with boxes for training, and choose the input size."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.backbones.cards import find_card
from headstart.config.settings import TrainSettings
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.split import as_samples
from headstart.data.image_scan import scan_images
from headstart.detection.augmentation import check_augment
from headstart.detection.box_sizes import choose_spec, measure_sizes
from headstart.errors import DeviceError, DeviceProblem
from headstart.events import CheckFinished, Stage
from headstart.features.device_choice import check_device
from headstart.preprocessing.augmentation import parse_augment
from headstart.quality.box_inspection import inspect_box_dataset
from headstart.quality.box_split import check_training_boxes, split_box_dataset
from headstart.quality.dataset_split import note_split
from headstart.quality.report_findings import dataset_findings
from headstart.runs.context import RunContext
from headstart.tasks.detect.state import DetectorData
from headstart.types.codes import DecisionReason, NoteKind
from headstart.types.records import Decision, Split
from headstart.utils.system import available_cores, file_digest

__all__ = ["check_training_settings", "prepare_data"]


def check_training_settings(settings: TrainSettings) -> None:
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


def prepare_data(run: RunContext, samples: DetectionSamples, manifest: Split | None) -> DetectorData:
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
