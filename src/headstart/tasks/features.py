"""Extract the features of a dataset in the same pass that scans its files."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.advice.resize_mode import ResizeModeChoice, choose_resize_mode
from headstart.backbones.latency import scanning_s
from headstart.events import Stage, StageFinished, StageStarted
from headstart.features.extractor import (
    Extraction,
    ExtractorOptions,
    FeatureExtractor,
    open_embedder,
    raise_if_all_unreadable,
)
from headstart.quality.inspector import DatasetInspector
from headstart.runs.context import RunContext
from headstart.types.codes import DecisionReason, JsonValue, ReadingKind
from headstart.types.records import Decision, Samples
from headstart.utils.system import available_cores

__all__ = ["OpenedBackbone", "extract_features", "open_backbone"]


@dataclass(frozen=True)
class OpenedBackbone:
    """The backbone of a run.

    Attributes:
        extractor: Extracts its features.
        resize_choice: Comparison of the resize modes; None where none was made.
    """

    extractor: FeatureExtractor
    resize_choice: ResizeModeChoice | None


def open_backbone(run: RunContext, samples: Samples, inspector: DatasetInspector) -> OpenedBackbone:
    """Choose intensity range and resize mode, and open the backbone."""
    settings, events = run.resolved.settings, run.events
    intensity_range, decision = inspector.find_range(is_split_later=settings.test_size is not None)
    run.decide([] if decision is None else [decision])
    choice, resize_mode = None, str(settings.resize_mode)
    if resize_mode == "auto":
        choice = choose_resize_mode(samples, settings, intensity_range, events)
        run.decide([] if choice is None else [choice.decision])
        resize_mode = "crop" if choice is None else choice.resize_mode
    options = ExtractorOptions.of(settings, resize_mode=resize_mode, intensity_range=intensity_range)
    extractor = open_embedder(options, events)
    named = [n.evidence for n in samples.notes if n.kind is ReadingKind.NAMES_FROM_FILE]
    run.decide_used(
        Decision("out", str(run.folder), DecisionReason.NEXT_FREE_FOLDER),
        Decision("weights", extractor.graph.card.get("weights_tag"), DecisionReason.DEFAULT_WEIGHTS, "default"),
        Decision("image_size", extractor.spec.size_hw[0], DecisionReason.DEFAULT_INPUT_SIZE, "default"),
        Decision("num_threads", available_cores(), DecisionReason.ONE_THREAD_PER_CORE, "default"),
        Decision("device", "cpu", DecisionReason.FEATURES_ON_CPU, "default"),
        Decision("layout", samples.layout, DecisionReason.LAYOUT_RECOGNIZED),
        *(Decision(name, column, DecisionReason.LAYOUT_RECOGNIZED) for name, column in samples.used_columns.items()),
        *(
            Decision("first_id", e["first_id"], DecisionReason.NAMES_NUMBERED, evidence={"file": e["file"]})
            for e in named
            if e.get("first_id") is not None
        ),
    )
    if choice is None:
        run.decide_used(Decision("resize_mode", resize_mode, DecisionReason.RESIZE_MODES_NOT_COMPARABLE))
    return OpenedBackbone(extractor, choice)


def extract_features(
    run: RunContext, extractor: FeatureExtractor, samples: Samples, inspector: DatasetInspector
) -> Extraction:
    """Return features of all images; the inspector scans each file in the same pass."""
    height, _ = extractor.spec.size_hw
    uncached = len(samples) - extractor.num_known()
    expected = scanning_s(extractor.graph.backbone, height, uncached) if uncached > 0 else None
    evidence: dict[str, JsonValue] = {} if expected is None else {"expected_seconds": expected}
    run.events.emit(StageStarted(Stage.FEATURES, evidence))
    extracted = extractor.embed(samples.paths, samples.names, run.events, scanner=inspector.scanner)
    raise_if_all_unreadable(extracted.features)
    run.duration_s["features"] = extracted.seconds
    run.events.emit(StageFinished(Stage.FEATURES, extracted.seconds, extractor.evidence(extracted)))
    return extracted
