"""Train and score detectors on one dataset: cached views, any number of trainings.

Cached views persist, so a killed run restarts with every view that it had made.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.boxes.records import Detections, DetectionSamples
from headstart.detection.augmentation import BOX_IMAGES, ViewBoxes, check_augment, make_box_view, view_boxes
from headstart.detection.backbone import DetectorBackbone
from headstart.detection.decoding import DecodingSettings, decode, scoring_limit
from headstart.detection.image_frames import plain_frame
from headstart.detection.plan import DetectPlan
from headstart.detection.reference import detect_from_pixels
from headstart.events import EventStream, Stage
from headstart.features.decoded_cache import DecodedCache, DecodedImages
from headstart.features.engines import OnnxEngine
from headstart.features.view_activations import ViewActivations, ViewSet
from headstart.preprocessing.augmentation import parse_augment
from headstart.store.arrays import ArrayRows
from headstart.store.cache import Cache
from headstart.types.arrays import Ids
from headstart.types.codes import NoteKind
from headstart.utils.system import Clock, cache_root

if TYPE_CHECKING:
    from pathlib import Path

    from headstart.detection.loop import DetectNetwork, DetectTraining
    from headstart.detection.schedule import StepSchedule

__all__ = ["DetectorTrainer"]

_SCORE_BATCH = 8
_WAIT_BATCH = 8  # views awaited together
_VIEW_BATCH = 2  # feature maps of a few large images already fill CPU caches and memory


class DetectorTrainer:
    """Trains and scores detectors on one dataset.

    Args:
        samples: The images with their boxes.
        digests: SHA-256 of each file, hex.
        backbone: The backbone.
        events: Receives the progress of views, and failures to write a cache.
        num_threads: Threads of torch and of the view workers.
        view_folder: Folder of the views of this run only; None keeps views and decoded images in the cache.
        clock: Clock in seconds.
    """

    def __init__(
        self,
        samples: DetectionSamples,
        digests: Sequence[str],
        backbone: DetectorBackbone,
        events: EventStream,
        *,
        num_threads: int,
        view_folder: Path | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.samples, self.backbone, self.num_threads = samples, backbone, num_threads
        self._digests, self._events, self._view_folder, self._clock = list(digests), events, view_folder, clock
        self._paths = [str(path) for path in samples.paths]
        self._sizes_hw = [(int(h), int(w)) for h, w in samples.sizes_hw]
        self._cache = Cache(cache_root())
        self._decoded: DecodedCache | None = None  # opened by a training on images
        self._sources: dict[tuple[Any, ...], Any] = {}
        self.set_torch_threads(num_threads)

    def set_torch_threads(self, count: int) -> None:
        """Set the number of torch threads."""
        import torch

        torch.set_num_threads(count)

    def training(self, plan: DetectPlan, train: Ids, schedule: StepSchedule | None = None) -> DetectTraining:
        """Return a new training; without a schedule it runs the epochs of the plan."""
        from headstart.detection.loop import DetectTraining

        net, sizes_hw = self.backbone.build(plan), self.backbone.taps(plan.min_stride).sizes_hw
        return DetectTraining(net, self._source(plan), plan, train, sizes_hw, schedule=schedule, clock=self._clock)

    def detect(self, net: DetectNetwork, plan: DetectPlan, index: Ids, decoding: DecodingSettings) -> list[Detections]:
        """Return the detections in unaugmented images, from cached views where there are some."""
        import torch

        source = self._source(plan)
        net.set_training(False)
        detections: list[Detections] = []
        source.announce([(int(s), 0) for s in index])
        with torch.no_grad():
            for start in range(0, len(index), _SCORE_BATCH):
                part = index[start : start + _SCORE_BATCH]
                states, _ = source.batch(part, np.zeros(len(part), dtype=np.int64))
                logits, boxes = net(states)
                for row, sample in enumerate(part):
                    size = self._sizes_hw[int(sample)]
                    frame = plain_frame(size, self.backbone.spec)
                    detections.append(decode(logits[row].numpy(), boxes[row].numpy(), decoding, frame, size))
        return detections

    def is_cached(self, plan: DetectPlan, sample: int, view: int) -> bool:
        """Return whether a view is cached; True where views are not cached."""
        return not plan.is_cached or self._source(plan).views.is_there(sample, view)

    def make_views(self, plan: DetectPlan, pairs: Sequence[tuple[int, int]], until: float) -> None:
        """Cache views in this order until clock time `until`."""
        source = self._source(plan)
        source.announce(pairs)
        for start in range(0, len(pairs), _WAIT_BATCH):
            part = pairs[start : start + _WAIT_BATCH]
            source.views.rows([sample for sample, _ in part], [view for _, view in part])
            if self._clock() >= until:
                source.close()  # views not yet started are skipped; the source stays usable
                return

    def time_images(self, plan: DetectPlan, index: Ids) -> float:
        """Return the CPU seconds of torch inference per image, after warm-up."""
        decoding = DecodingSettings().limited(scoring_limit(max(len(boxes) for boxes in self.samples.boxes)))
        detector = self.backbone.detector(self.backbone.build(plan), plan)
        detect_from_pixels(detector, self.samples, index[:1], self.backbone.spec, decoding)
        began = time.process_time()
        detect_from_pixels(detector, self.samples, index, self.backbone.spec, decoding)
        return (time.process_time() - began) / len(index)

    def export_cpu_s(self, plan: DetectPlan) -> float | None:
        """Return the CPU seconds of exporting the frozen prefix; None if not measured."""
        return self.backbone.prefix(plan.train_from, plan.min_stride).export_cpu_s if plan.is_cached else None

    def close(self) -> None:
        """Stop the workers and release memory; cached views are kept, write failures become warnings."""
        from headstart.detection.batch_sources import CachedSource

        failures = {}
        sources, self._sources = self._sources, {}
        for source in sources.values():
            source.close()
            if isinstance(source, CachedSource):
                failures["augmented views"] = source.views.space.write_error
        decoded, self._decoded = self._decoded, None
        if decoded is not None:
            decoded.rows.flush()
            failures["decoded images"] = decoded.rows.write_error
        for cache, reason in failures.items():
            if reason:
                self._events.warn_once(NoteKind.CACHE_NOT_WRITTEN, what=cache, reason=reason)

    def _source(self, plan: DetectPlan) -> Any:
        """Return the batch source of a plan; plans with the same views share it."""
        key = (plan.is_cached, plan.train_from, plan.min_stride, plan.augment, plan.seed)
        if key not in self._sources:
            self._sources[key] = self._open_source(plan)
        return self._sources[key]

    def _open_source(self, plan: DetectPlan) -> Any:
        from headstart.detection.batch_sources import CachedSource, ImageSource

        augment, spec = check_augment(parse_augment(plan.augment)), self.backbone.spec
        images = ViewSet(self._paths, self._digests, self.samples.names, augment, plan.seed)
        keys = [bytes.fromhex(d) for d in self._digests]

        def find(sample: int, view: int) -> ViewBoxes:
            size = self._sizes_hw[sample]
            return view_boxes(self.samples.boxes[sample], size, keys[sample], spec, augment, view, plan.seed)

        if not plan.is_cached:
            if self._decoded is None and self._view_folder is None:
                self._decoded = DecodedCache(self._cache)
            decoded = DecodedImages(images, spec, self._decoded, cutting=BOX_IMAGES)
            return ImageSource(decoded.make, find, self.num_threads)
        prefix = self.backbone.prefix(plan.train_from, plan.min_stride)
        if self._view_folder is None:
            space = ArrayRows.open(self._cache, "activations", prefix.layout, prefix.digest, spec.digest)
        else:
            space = ArrayRows(self._view_folder / prefix.digest[:16], prefix.layout)
        views = ViewActivations(
            images, OnnxEngine(prefix.path), spec, space,
            num_threads=self.num_threads, progress=self._events.progress(Stage.VIEWS, "view"),
            make=make_box_view, batch=_VIEW_BATCH,
        )  # fmt: skip
        return CachedSource(views, find)
