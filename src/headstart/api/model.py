"""Provide saved models as Python objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.softmax import softmax
from headstart.events import Cancel, Event, EventStream, Stage
from headstart.inference.decoders import BoxDecoder, ClassDecoder, Decoder, ImageDetections
from headstart.inference.image_inputs import is_stream
from headstart.inference.inputs import expand_sources
from headstart.inference.runtime import ChannelOrder, Runtime
from headstart.inference.writers import open_output, write_boxes
from headstart.messages.numbers import pluralize
from headstart.results import (
    DetectionResult,
    EvaluationResult,
    ImageResults,
    Predictions,
    html_table,
    import_pandas,
    score_text,
)

__all__ = ["DetectedObjects", "Detector", "Model", "open_model"]

Result = TypeVar("Result")

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def open_model(path: str | os.PathLike[str], num_threads: int | None = None) -> Any:
    """Open a run folder, a bundle folder or its zip.

    Raises:
        UsageError: The path does not exist or has no model.
        BundleError: The bundle is damaged, has another schema, or has an unsafe model.
    """
    runtime = Runtime(os.fspath(path), num_threads)
    from headstart.tasks.registry import find_task

    open_own = getattr(find_task(runtime.bundle.task), "open", None)
    if open_own is not None:
        model: Any = open_own(runtime)
        return model
    return Detector(runtime) if runtime.bundle.has_boxes else Model(runtime)


class _LoadedModel:
    """A saved model and its runtime.

    Args:
        runtime: Inference runtime.
    """

    kind: ClassVar[str]

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.runtime.class_names

    def _results(
        self, images: object, decoder: Decoder[Result], channel_order: ChannelOrder, events: EventStream
    ) -> Iterable[Result]:
        """Return the results of all images, or an iterator over them for an iterator of images."""
        sources = expand_sources(images)
        results = self.runtime.predict(sources, decoder, channel_order=channel_order)
        if is_stream(images):
            return _until_cancelled(results, events)
        total = len(sources) if isinstance(sources, Sized) and not isinstance(sources, (str, bytes)) else 1
        with events.stage(Stage.PREDICT, num_images=total):
            progress, kept = events.progress(Stage.PREDICT), []
            for result in results:
                kept.append(result)
                progress(len(kept), total)
        return kept

    def __repr__(self) -> str:
        score = self.runtime.bundle.info.get("score") or {}
        classes = pluralize(len(self.class_names), "class", "classes")
        text = f"headstart {self.kind} of {classes}: {', '.join(self.class_names[:8])}"
        text += " ..." if len(self.class_names) > 8 else ""
        return text if score.get("value") is None else f"{text}\n{score_text(score)}"


def _until_cancelled(results: Iterable[Result], events: EventStream) -> Iterator[Result]:
    for result in results:
        events.raise_if_cancelled()
        yield result


def _listen(on_progress: Callable[[Event], None] | None, cancel: Cancel | None) -> EventStream:
    return EventStream([] if on_progress is None else [on_progress], cancel=cancel)


class Model(_LoadedModel):
    """A loaded classifier.

    Args:
        runtime: Inference runtime.
    """

    kind = "model"

    def predict(
        self,
        images: object,
        *,
        top: int = 1,
        channel_order: ChannelOrder = "rgb",
        ood_fpr: float | None = None,
        coverage: float | None = None,
        on_progress: Callable[[Event], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Predictions:
        """Predict one or many: paths, folders, globs, containers, PIL images, arrays; see `headstart.predict`.

        For an iterator, e.g. a generator of camera frames, results are made while you iterate over them.

        Args:
            images: Images to predict.
            top: Number of most probable classes per image.
            channel_order: Channel order of arrays: `rgb`, or `bgr` as in OpenCV.
            ood_fpr: Target false-positive rate of OOD detection; None: as in training.
            coverage: Target coverage of prediction sets; None: as in training.
            on_progress: Called with every event.
            cancel: `CancelToken` or `threading.Event` that stops the prediction.

        Raises:
            CancelledError: `cancel` was set.
        """
        decoder = ClassDecoder(self.runtime.bundle, top, ood_fpr=ood_fpr, coverage=coverage)
        return Predictions(self._results(images, decoder, channel_order, _listen(on_progress, cancel)))

    def predict_proba(self, images: object, *, channel_order: ChannelOrder = "rgb") -> NDArray[np.float64]:
        """Return (N, K) probabilities in the order of `class_names`; NaN rows for unreadable images."""
        return softmax(self.runtime.tables(expand_sources(images), ("logits",), channel_order=channel_order)[0])

    def embed(self, images: object, *, channel_order: ChannelOrder = "rgb") -> NDArray[np.float32]:
        """Return (N, D) pooled features of the network; NaN rows for unreadable images."""
        return self.runtime.tables(expand_sources(images), ("embedding",), channel_order=channel_order)[0]

    def evaluate(self, data: Any, **options: Any) -> EvaluationResult:
        """Evaluate on labeled images; see `headstart.evaluate`."""
        from headstart.data.objects import as_data_path
        from headstart.tasks.classify.evaluate import evaluate_classifier
        from headstart.tasks.options import EvaluateOptions

        return evaluate_classifier(self.runtime, as_data_path(data), EvaluateOptions(**options), EventStream())


class DetectedObjects(ImageResults[ImageDetections]):
    """Detections, one entry per image.

    Args:
        images: Detections per image.
        class_names: Names by class id.
    """

    def __init__(self, images: Iterable[ImageDetections], class_names: tuple[str, ...]) -> None:
        super().__init__(images)
        self.class_names = class_names

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per object: `file, label, score, xmin, ymin, xmax, ymax` in pixels of the upright image."""
        return [
            {
                "file": image.file,
                "label": self.class_names[kind],
                "score": round(float(score), 6),
                **{edge: round(float(v), 1) for edge, v in zip(_CORNERS, box, strict=True)},
            }
            for image in self
            for box, score, kind in zip(
                image.detections.xyxy, image.detections.scores, image.detections.class_ids, strict=True
            )
        ]

    def to_pandas(self) -> Any:
        """Return the rows as a DataFrame."""
        return import_pandas().DataFrame(self.rows(), columns=["file", "label", "score", *_CORNERS])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV, including unreadable images and images without objects."""
        with open_output(path) as stream:
            write_boxes(stream, self, self.class_names)

    def _repr_html_(self) -> str:
        return html_table(self.rows()[:50], f"{len(self.rows()):,} objects in {len(self):,} images")


class Detector(_LoadedModel):
    """A loaded detector.

    Args:
        runtime: Inference runtime.
    """

    kind = "detector"

    @property
    def thresholds(self) -> dict[str, float]:
        """Minimum score of reported objects, by class."""
        limits = self.runtime.bundle.class_thresholds
        return {name: float(limit) for name, limit in zip(self.class_names, limits, strict=True)}

    def predict(
        self,
        images: object,
        *,
        min_score: float | None = None,
        max_detections: int | None = None,
        nms_iou: float | None = None,
        class_agnostic_nms: bool | None = None,
        channel_order: ChannelOrder = "rgb",
        on_progress: Callable[[Event], None] | None = None,
        cancel: Cancel | None = None,
    ) -> DetectedObjects:
        """Detect objects in one or many images: paths, folders, globs, PIL images, (H, W, 3) uint8 arrays.

        For an iterator, e.g. a generator of camera frames, results are made while you iterate over them.

        Args:
            images: Images to process.
            min_score: Minimum score in [0, 1]; None: the threshold of each class.
            max_detections: Maximum detections per image; None: the limit of the bundle. Entries that reach it have
                `is_limited` set.
            nms_iou: IoU threshold of non-maximum suppression, in (0, 1]; None: that of the bundle.
            class_agnostic_nms: Whether boxes of different classes suppress each other; None: as the bundle says.
            channel_order: Channel order of arrays: `rgb`, or `bgr` as in OpenCV.
            on_progress, cancel: See `Model.predict`.
        """
        decoder = BoxDecoder(
            self.runtime.bundle,
            min_score=min_score,
            max_detections=max_detections,
            nms_iou=nms_iou,
            class_agnostic_nms=class_agnostic_nms,
        )
        events = _listen(on_progress, cancel)
        return DetectedObjects(self._results(images, decoder, channel_order, events), self.class_names)

    def evaluate(self, data: str | os.PathLike[str]) -> DetectionResult:
        """Evaluate on images with boxes; see `headstart.evaluate`."""
        from headstart.tasks.detect.evaluate import evaluate_detector
        from headstart.tasks.options import EvaluateOptions

        return evaluate_detector(self.runtime, os.fspath(data), EvaluateOptions(), EventStream())
