"""Train a detector: read, inspect, split, choose the input size, cache views, train, score, save.

The last epoch is kept. Nothing is selected on scored images, so their score is unbiased.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.config.settings import ResolvedConfig
from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.split import as_samples, split_boxes
from headstart.data.image_scan import scan_images
from headstart.data.split import read_split
from headstart.detection.augmentation import check_augment
from headstart.detection.box_sizes import BoxSizes, choose_finest, choose_size, measure_sizes
from headstart.detection.context import DetectorRunContext
from headstart.errors import DataError, DeviceError, DeviceProblem
from headstart.events import CheckFinished, EventStream, Stage
from headstart.features.device_choice import check_device
from headstart.preprocessing.augmentation import parse_augment
from headstart.preprocessing.image_spec import ImageSpec
from headstart.quality.box_inspection import BoxReport, apply_box_report, inspect_box_dataset
from headstart.quality.dataset_split import note_split
from headstart.quality.reading_events import report_box_reading
from headstart.quality.report_findings import dataset_findings
from headstart.runs.folder import own_run_folder
from headstart.runs.journal import JOURNAL, Journal
from headstart.types.codes import DecisionReason, Evidence, Finding, FindingKind, NoteKind, Severity, SplitReason
from headstart.types.records import Decision, Split, SplitName
from headstart.utils.system import Clock, available_cores, file_digest

if TYPE_CHECKING:
    from headstart.advice.detector_budget import DetectBudget
    from headstart.detection.plan import DetectPlan
    from headstart.detection.trainer import DetectorTrainer

__all__ = ["train_detector"]

Ids = NDArray[np.int64]
_SCORED: tuple[SplitName, ...] = ("val", "test")
_PAIRS_KEPT = 10  # leaking pairs in the evidence of a finding


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
    samples = read_boxes(
        settings.data,
        allow_external_paths=settings.allow_external_paths,
        max_pixels=settings.max_pixels,
        box_format=settings.detect.box_format,
    )
    samples, manifest = _with_manifest(samples, settings.split)
    with own_run_folder(settings.out, started=time.monotonic() - (clock() - started)) as folder:
        context = _prepare(resolved, events, folder, samples, started, manifest, clock)
        _run(context, Journal(folder / JOURNAL, journal))
    return folder


def _with_manifest(samples: DetectionSamples, path: str | None) -> tuple[DetectionSamples, Split | None]:
    """Return the images of a split file with its splits and groups, and the split; all images without a file."""
    if path is None:
        return samples, None
    split = read_split(path, as_samples(samples))
    keep = np.flatnonzero(split.assignment != "")
    groups = samples.group if split.groups is None else tuple(str(g) for g in split.groups)
    named = replace(samples, split=tuple(str(s) for s in split.assignment), group=groups)
    return named.take(keep), split


def _prepare(
    resolved: ResolvedConfig,
    events: EventStream,
    folder: Path,
    samples: DetectionSamples,
    started: float,
    manifest: Split | None = None,
    clock: Clock = time.monotonic,
) -> DetectorRunContext:
    """Inspect and split the samples, choose the input size, and return the run context."""
    from headstart.backbones.cards import find_card

    settings = resolved.settings
    report_box_reading(samples, events)
    durations = {"read": clock() - started}
    begun = clock()
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
    durations["check"] = clock() - begun
    of_images = dataset_findings(report.images)
    events.report(*of_images, *(finding for finding in report.findings if finding not in of_images))
    events.emit(CheckFinished(settings.data, len(samples)))
    applied = apply_box_report(samples, report, group_from=settings.group_from)
    split = _split(resolved, samples, applied.groups, applied.excluded, manifest)
    keep = np.flatnonzero(split.assignment != "")
    is_leaking = (applied.test_including_leaks & ~applied.test & (split.source != "made"))[keep]
    groups = None if split.groups is None else split.groups[keep]
    samples = samples.take(keep)
    split = replace(split, assignment=split.assignment[keep], groups=groups)
    note_split(split, events)
    leaking, findings = _find_leaks(split, is_leaking, report, events)
    _check(samples, split)
    spec, decisions = _spec(resolved, samples, split)
    train = split.where("train")
    boxes = [samples.boxes[i] for i in train]
    sizes = measure_sizes(boxes, samples.sizes_hw[train], samples.class_names, spec)
    _report_sizes(sizes, events)
    facts_of = [scan.info[i] for i in keep]
    digests = tuple(
        file_digest(p) if facts is None else facts.digest for p, facts in zip(samples.paths, facts_of, strict=True)
    )
    context = DetectorRunContext(
        resolved,
        events,
        folder,
        durations,
        clock,
        started=started,
        samples=samples,
        dataset_report=report,
        split=split,
        sizes=sizes,
        spec=spec,
        digests=digests,
        leaking=leaking,
        findings=findings,
    )
    task = Decision("task", "detect", DecisionReason.BOXES_FOUND, evidence={"layout": samples.layout})
    context.decide([task, *applied.decisions, *decisions])
    weights = find_card(settings.backbone).weights_tag
    context.decide_used(
        Decision("out", str(folder), DecisionReason.NEXT_FREE_FOLDER),
        Decision("weights", weights, DecisionReason.DEFAULT_WEIGHTS, "default"),
        Decision("num_threads", available_cores(), DecisionReason.ONE_THREAD_PER_CORE, "default"),
        Decision("device", "cpu", DecisionReason.DEVICE_OF_TRAINING, "default"),
        Decision("layout", samples.layout, DecisionReason.LAYOUT_RECOGNIZED),
        Decision("detect.box_format", ", ".join(samples.box_formats), DecisionReason.BOX_FORMAT_OF_FILES),
    )
    if split.setup is not None and split.setup.held_out_fraction is not None:
        held_out = split.setup.held_out_fraction
        context.decide_used(Decision("test_size", held_out, DecisionReason.HELD_OUT_BY_DEFAULT, "default"))
    return context


def _report_sizes(sizes: BoxSizes, events: EventStream) -> None:
    """Emit the box sizes at the input size, and a better input size where many boxes are too small."""
    height, width = sizes.size_hw
    events.note(NoteKind.BOX_SIZES, width=width, height=height, num_boxes=sizes.totals())
    if sizes.better_size is not None:
        events.warn(
            NoteKind.SMALL_BOXES,
            tiny_fraction=sizes.tiny_fraction,
            size=max(sizes.size_hw),
            better_size=sizes.better_size,
            time_factor=sizes.time_factor,
        )


def _split(
    resolved: ResolvedConfig,
    samples: DetectionSamples,
    groups: NDArray[np.int64] | None,
    excluded: NDArray[np.bool_],
    manifest: Split | None,
) -> Split:
    settings = resolved.settings
    if manifest is not None:
        made = split_boxes(samples, groups=groups, leave_out=excluded)
        return replace(manifest, assignment=made.assignment, groups=made.groups, seed=made.seed)
    if settings.folds is not None and settings.test_size is None and not any(samples.split):
        assignment = np.where(excluded, "", "train").astype("<U5")
        evidence: Evidence = {"folds": settings.folds}
        return Split(assignment, groups, "made", None, settings.seed, SplitReason.FOLDS, evidence)
    return split_boxes(samples, groups=groups, test_size=settings.test_size, seed=settings.seed, leave_out=excluded)


def _find_leaks(
    split: Split, is_leaking: NDArray[np.bool_], report: BoxReport, events: EventStream
) -> tuple[frozenset[int], tuple[Finding, ...]]:
    """Return the scored images excluded from the headline, and a finding per split in which every image leaks.

    A split in which every image leaks keeps its images and is marked as leaky.
    """
    excluded = np.zeros(len(is_leaking), dtype=bool)
    findings = []
    pairs = [[p.a, p.b] for p in report.images.leaks[:_PAIRS_KEPT]]
    for name in _SCORED:
        index = np.flatnonzero(split.assignment == name)
        if len(index) and is_leaking[index].all():
            evidence: Evidence = {"split": name, "num_images": len(index), "pairs": pairs}
            findings.append(Finding(FindingKind.ALL_SCORED_IMAGES_LEAK, Severity.ERROR, evidence))
            events.report(findings[-1])
        else:
            excluded[index] = is_leaking[index]
    return frozenset(np.flatnonzero(excluded).tolist()), tuple(findings)


def _check(samples: DetectionSamples, split: Split) -> None:
    """Raise an error if the training images do not allow a valid detector."""
    train = split.where("train")
    counts = np.zeros(len(samples.class_names), dtype=np.int64)
    for i in train:
        boxes = samples.boxes[i]
        counts += np.bincount(boxes.class_ids[~boxes.is_crowd], minlength=len(counts))
    if not counts.sum():
        raise DataError("no training image has a box.", hint="check the annotations with `headstart check`")
    empty = [n for n, c in zip(samples.class_names, counts, strict=True) if not c]
    if empty:
        shown = ", ".join(f"`{n}`" for n in empty[:10])
        raise DataError(
            f"no training boxes for {shown}; every class needs at least one.",
            hint="remove the class from the annotations, or use another split (--seed)",
        )


def _spec(resolved: ResolvedConfig, samples: DetectionSamples, split: Split) -> tuple[ImageSpec, list[Decision]]:
    """Return the image spec; an unset size is chosen from the boxes and rounded up to a multiple of 32."""
    from headstart.backbones.cards import find_card

    settings = resolved.settings
    card = find_card(settings.backbone)
    base = card.image_spec(max(card.min_size, 320) if not card.is_fixed_size else None)
    is_explicit = resolved.is_explicit("resize_mode") and settings.resize_mode in ("squash", "pad")
    resize_mode = settings.resize_mode if is_explicit else "squash"
    own: dict[str, Any] = {"resize_mode": resize_mode, "max_pixels": settings.max_pixels}
    own["intensity_range"] = settings.intensity_range
    base = base.with_(**own)
    train = split.where("train")
    decisions = [] if is_explicit else [Decision("resize_mode", "squash", DecisionReason.WHOLE_IMAGE_FOR_BOXES)]
    if settings.image_size is not None:
        size = settings.image_size
        if size % 32:
            size = -(-size // 32) * 32
            evidence: Evidence = {"asked": settings.image_size, "multiple": 32}
            decisions.append(Decision("image_size", size, DecisionReason.SIZE_ROUNDED_UP, evidence=evidence))
    else:
        size, sides = choose_size([samples.boxes[i] for i in train], samples.sizes_hw[train], base)
        decisions.append(Decision("image_size", size, DecisionReason.BOX_SIZES, evidence=sides))
    return card.image_spec(size).with_(**own), decisions


def _run(context: DetectorRunContext, journal: Journal) -> None:
    """Train, score and save the detector."""
    from headstart.detection.trainer import DetectorTrainer
    from headstart.pipelines.detector_outputs import write_detector_outputs
    from headstart.pipelines.detector_training import DetectRun

    samples, settings = context.samples, context.resolved.settings
    begun = context.clock()
    trainer = DetectorTrainer(
        paths=[str(p) for p in samples.paths],
        names=samples.names,
        boxes=samples.boxes,
        sizes_hw=samples.sizes_hw,
        digests=context.digests,
        num_classes=len(samples.class_names),
        spec=context.spec,
        settings=settings,
        events=context.events,
        view_folder=context.temporary_folder,
        num_threads=settings.num_threads or available_cores(),
        clock=context.clock,
    )
    try:
        plan, train, budget = _plan(context, trainer, journal)
        context.duration_s["prepare"] = context.clock() - begun
        run = DetectRun(context, trainer, plan, train, budget)
        run.run()
        trainer.close()  # frees the memory of the view engine
        write_detector_outputs(context, trainer, run)
    finally:
        trainer.close()


def _plan(
    context: DetectorRunContext, trainer: DetectorTrainer, journal: Journal
) -> tuple[DetectPlan, Ids, DetectBudget | None]:
    """Return the plan, the positions of the training images, and the budget (None without one)."""
    from headstart.advice.detector_budget import DetectBudget, Scored
    from headstart.advice.resources import measure_threads
    from headstart.detection.planning import budget_strategies, make_detect_plan

    samples, settings = context.samples, context.resolved.settings
    train = context.split.where("train")
    boxes = [samples.boxes[i] for i in train]
    ids = np.concatenate([b.class_ids for b in boxes])
    rarest = float(np.bincount(ids, minlength=len(samples.class_names)).min())
    finest = choose_finest(boxes, samples.sizes_hw[train], context.spec)

    def make_plan(strategy: str | None = None) -> tuple[DetectPlan, list[Decision]]:
        return make_detect_plan(
            context.resolved,
            trainer,
            num_train=len(train),
            boxes_per_class=rarest,
            min_stride=finest,
            strategy=strategy,
        )

    budget = None
    if settings.time_budget is None:
        plan, decisions = make_plan()
    else:
        scored = np.concatenate([context.split.where(name) for name in _SCORED])
        budget = DetectBudget(
            started=context.started,
            budget_s=60.0 * settings.time_budget,
            trainer=trainer,
            journal=journal,
            clock=context.clock,
            scored=Scored(len(scored), sum(len(samples.boxes[i]) for i in scored)),
            num_folds=settings.folds or 0,
        )
        plan, train, decisions = budget.plan_training(
            budget_strategies(settings.strategy, rarest),
            make_plan,
            train,
            samples.boxes,
            len(samples.class_names),
            seed=settings.seed,
            torch_threads=None if settings.num_threads else lambda: measure_threads(available_cores()),
        )
    shown = {"strategy", "detect.min_stride"}
    if budget is not None:
        shown |= {"epochs", "num_views", "budget.num_images"}
    context.decide([d for d in decisions if d.setting in shown])
    context.decide([d for d in decisions if d.setting not in shown], is_shown=False)
    return plan, train, budget
