"""Train and score detectors: backbone, cached views, any number of trainings.

Cached views persist, so a killed run restarts with every view that it had made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.build import draw_weights
from headstart.config.settings import TrainSettings
from headstart.data.boxes.records import Boxes, Detections
from headstart.detection.augmentation import BOX_IMAGES, ViewBoxes, check_augment, make_box_view, view_boxes
from headstart.detection.decoding import DecodingSettings, decode, scoring_limit
from headstart.detection.image_frames import plain_frame
from headstart.detection.plan import DetectPlan
from headstart.events import Stage
from headstart.features.backbone_graph import FrozenGraph, export_network
from headstart.features.decoded_cache import DecodedCache, DecodedImages
from headstart.features.engines import OnnxEngine
from headstart.features.prefix_graph import PrefixGraph, prepare_prefix
from headstart.features.view_activations import ViewActivations
from headstart.preprocessing.augmentation import parse_augment
from headstart.preprocessing.image_spec import ImageSpec, normalize, read_image
from headstart.store.activation_cache import ActivationCache, ActivationPartition
from headstart.training.jobs import check_frozen
from headstart.types.codes import NoteKind
from headstart.utils.system import Clock, cache_root

if TYPE_CHECKING:
    from pathlib import Path

    from headstart.detection.feature_taps import FeatureTaps
    from headstart.detection.loop import DetectEpoch, DetectNetwork, DetectTraining
    from headstart.detection.schedule import StepSchedule
    from headstart.events import EventStream

__all__ = ["DetectorTrainer"]

Ids = NDArray[np.int64]
_SCORE_BATCH = 8
_WAIT_BATCH = 8  # views awaited together
_VIEW_BATCH = 2  # feature maps of a few large images already fill CPU caches and memory


class DetectorTrainer:
    """Trains and scores detectors on one dataset.

    Args:
        paths, names: Files, and their names in messages.
        boxes: Boxes of each image.
        sizes_hw: (N, 2) sizes of the upright images.
        digests: SHA-256 of each file, hex.
        num_classes: K.
        spec: The image spec.
        settings: Settings of the run.
        events: The event stream.
        view_folder: Folder of the views if the cache is off.
        num_threads: Threads of torch and of the view workers.
        clock: Clock in seconds.
    """

    def __init__(
        self,
        *,
        paths: Sequence[str],
        names: Sequence[str],
        boxes: Sequence[Boxes],
        sizes_hw: NDArray[np.int64],
        digests: Sequence[str],
        num_classes: int,
        spec: ImageSpec,
        settings: TrainSettings,
        events: EventStream,
        view_folder: Path,
        num_threads: int,
        clock: Clock = time.monotonic,
    ) -> None:
        import torch

        from headstart.backbones import load_backbone

        torch.set_num_threads(num_threads)
        self.paths, self.names, self.boxes, self.digests = list(paths), list(names), list(boxes), list(digests)
        self.sizes_hw = [(int(h), int(w)) for h, w in sizes_hw]
        self.num_classes, self.spec, self.settings, self.events = num_classes, spec, settings, events
        self.view_folder, self.num_threads, self.clock = view_folder, num_threads, clock
        self.backbone = load_backbone(
            settings.backbone,
            weights=settings.weights,
            offline=settings.offline,
            image_size=spec.size_hw,
            events=events,
        )
        self.network = self.backbone.network
        self._pretrained = {n: t.clone() for n, t in self.backbone.module.state_dict().items()}
        self._cache = ActivationCache(cache_root())
        self._decoded: DecodedCache | None = None  # opened by a training on images
        self._sources: dict[tuple[Any, ...], Any] = {}

    # -- parts

    def cut(self, text: str) -> str:
        """Return the name of the first stage after a cut, given as `last`, `last-2` or a stage name.

        Raises:
            UsageError: The cut does not exist.
        """
        name: str = self.network.names[self.network.position(text)]
        return name

    def taps(self, plan: DetectPlan) -> FeatureTaps:
        """Return the stages that feed the pyramid."""
        from headstart.detection.feature_taps import choose_taps

        return choose_taps(self.network, plan.min_stride)

    def row_bytes(self, plan: DetectPlan) -> int:
        """Return the bytes of one cached view; 0 where views are not cached."""
        return 0 if plan.strategy in ("full", "scratch") else self._prefix(plan).layout.row_bytes

    def source(self, plan: DetectPlan) -> Any:
        """Return the batch source of a plan."""
        key = (plan.strategy in ("full", "scratch"), plan.train_from, plan.min_stride, plan.augment, plan.seed)
        if key not in self._sources:
            self._sources[key] = self._open_source(plan)
        return self._sources[key]

    def _open_source(self, plan: DetectPlan) -> Any:
        from headstart.detection.batch_sources import CachedSource, ImageSource

        augment = check_augment(parse_augment(plan.augment))
        keys = [bytes.fromhex(d) for d in self.digests]

        def find(sample: int, view: int) -> ViewBoxes:
            size = self.sizes_hw[sample]
            return view_boxes(self.boxes[sample], size, keys[sample], self.spec, augment, view, plan.seed)

        if plan.strategy in ("full", "scratch"):
            if self._decoded is None and self.settings.cache:
                self._decoded = DecodedCache(cache_root())
            images = DecodedImages(
                self.paths, self.digests, self.names, self.spec, augment, plan.seed, self._decoded, cutting=BOX_IMAGES
            )
            return ImageSource(images.make, find, self.num_threads)
        prefix = self._prefix(plan)
        views = ViewActivations(
            self.paths, self.digests, self.names, OnnxEngine(prefix.path), self.spec, self._space(prefix), augment,
            plan.seed, num_threads=self.num_threads, progress=self.events.progress(Stage.VIEWS, "view"),
            make=make_box_view, batch=_VIEW_BATCH,
        )  # fmt: skip
        return CachedSource(views, find)

    def _space(self, prefix: PrefixGraph) -> ActivationPartition:
        if self.settings.cache:
            return self._cache.space(prefix.digest, self.spec.digest, prefix.layout)
        return ActivationPartition(self.view_folder / prefix.digest[:16], prefix.layout)

    def _prefix(self, plan: DetectPlan) -> PrefixGraph:
        from headstart.backbones.freeze import tensors_digest
        from headstart.detection.feature_taps import tap_prefix

        stages = self.taps(plan).stages
        card = self.backbone.card
        # Random weights have no digest of their own; compute one, so that other random weights are not reused.
        digest = card.digest or tensors_digest(self._pretrained)
        graph = FrozenGraph("", card.name, {}, self.spec, f"{card.weights_tag}/{digest}", {}, {})

        def load() -> Any:
            with self.events.stage(Stage.EXPORT_BACKBONE, backbone=card.name):
                self.reset()
                return tap_prefix(self.network, plan.train_from, stages).eval()

        return prepare_prefix(graph, cache_root(), f"maps-{plan.train_from}-{'-'.join(stages)}", (), load)

    def reset(self) -> None:
        """Restore the pretrained weights."""
        self.backbone.module.load_state_dict(self._pretrained)

    def build(self, plan: DetectPlan) -> DetectNetwork:
        """Build a network: pretrained (or random, for scratch) backbone, new pyramid and head."""
        import torch

        from headstart.detection.feature_taps import FeatureTapsSuffix, tap_maps, tap_suffix
        from headstart.detection.loop import DetectNetwork
        from headstart.detection.network import DetectorHead

        self.reset()
        taps = self.taps(plan)
        head = DetectorHead(
            taps.channels,
            taps.strides,
            self.num_classes,
            width=plan.fpn_channels,
            depth=plan.head_depth,
            seed=plan.seed,
        ).to(memory_format=torch.channels_last)
        if plan.strategy == "scratch":
            draw_weights(self.backbone.module, plan.seed)
        if plan.strategy in ("full", "scratch"):
            suffix = FeatureTapsSuffix(tap_maps(self.network, taps.stages), 1, 0, ())
        else:
            suffix = tap_suffix(self.network, plan.train_from, taps.stages)
        suffix = suffix.to(memory_format=torch.channels_last)
        inside = {id(p) for p in suffix.parameters()}
        stages: dict[int, list[tuple[str, Any]]] = {}
        for name, parameter in self.backbone.module.named_parameters():
            if id(parameter) in inside:
                stages.setdefault(self.network.map.stage_of[name], []).append((name, parameter))
        rows = [stages[k] for k in sorted(stages, reverse=True)] if plan.strategy != "head" else []
        return DetectNetwork(suffix, head, self.backbone.module, rows, is_bn_live=plan.strategy == "scratch")

    # -- trainings

    def training(self, plan: DetectPlan, train: Ids, schedule: StepSchedule | None = None) -> DetectTraining:
        """Return a new training; without a schedule it runs the epochs of the plan."""
        from headstart.detection.loop import DetectTraining

        net, sizes_hw = self.build(plan), self.taps(plan).sizes_hw
        return DetectTraining(net, self.source(plan), plan, train, sizes_hw, schedule=schedule, clock=self.clock)

    def train(
        self,
        plan: DetectPlan,
        train: Ids,
        *,
        schedule: StepSchedule | None = None,
        stop: Callable[[], bool] | None = None,
        on_epoch: Callable[[DetectEpoch, DetectTraining], None] | None = None,
    ) -> DetectNetwork:
        """Train to the end (or until `stop`) and return the network with its averaged weights.

        Raises:
            HeadstartError: Frozen tensors have changed, or the loss was not finite from the start.
        """
        training = self.training(plan, train, schedule)
        before = training.net.frozen_digest()
        for record in training.run(stop=stop):
            if on_epoch:
                on_epoch(record, training)
        if training.is_diverged:
            epoch = len(training.records) + 1
            self.events.warn(NoteKind.TRAINING_DIVERGED, phase="training", epoch=epoch, setting="lr", lr=plan.lr / 3)
        check_frozen(before, training.net.frozen_digest())
        return training.net

    def detect(
        self, net: DetectNetwork, plan: DetectPlan, samples: Ids, decoding: DecodingSettings
    ) -> list[Detections]:
        """Return what a network finds in images as they are, from the cache where there is one."""
        import torch

        source = self.source(plan)
        net.set_training(False)
        detections: list[Detections] = []
        source.announce([(int(s), 0) for s in samples])
        with torch.no_grad():
            for start in range(0, len(samples), _SCORE_BATCH):
                part = samples[start : start + _SCORE_BATCH]
                states, _ = source.batch(part, np.zeros(len(part), dtype=np.int64))
                logits, boxes = net(states)
                for row, sample in enumerate(part):
                    size = self.sizes_hw[int(sample)]
                    frame = plain_frame(size, self.spec)
                    detections.append(decode(logits[row].numpy(), boxes[row].numpy(), decoding, frame, size))
        return detections

    # -- used by a budget

    def set_torch_threads(self, count: int) -> None:
        """Set the number of torch threads."""
        import torch

        torch.set_num_threads(count)

    def is_cached(self, plan: DetectPlan, sample: int, view: int) -> bool:
        """Return whether a view is cached; True where views are not cached."""
        from headstart.detection.batch_sources import CachedSource

        source = self.source(plan)
        return source.views.is_there(sample, view) if isinstance(source, CachedSource) else True

    def make_views(self, plan: DetectPlan, pairs: Sequence[tuple[int, int]], until: float) -> None:
        """Cache views in this order until clock time `until`."""
        source = self.source(plan)
        source.announce(pairs)
        for start in range(0, len(pairs), _WAIT_BATCH):
            part = pairs[start : start + _WAIT_BATCH]
            source.views.rows([sample for sample, _ in part], [view for _, view in part])
            if self.clock() >= until:
                source.close()  # views not yet started are skipped; the source stays usable
                return

    def time_images(self, plan: DetectPlan, samples: Ids) -> float:
        """Return the CPU seconds of detecting objects in one image with torch, after warm-up."""
        net, decoding = (
            self.build(plan),
            DecodingSettings().limited(scoring_limit(max(len(boxes) for boxes in self.boxes))),
        )
        self.detect_from_pixels(net, plan, samples[:1], decoding)
        began = time.process_time()
        self.detect_from_pixels(net, plan, samples, decoding)
        return (time.process_time() - began) / len(samples)

    def export_cpu_s(self, plan: DetectPlan) -> float | None:
        """Return the CPU seconds of exporting the frozen prefix; None where not measured."""
        is_stored = plan.strategy in ("head", "finetune")
        return self._prefix(plan).export_cpu_s if is_stored else None

    # -- export

    def whole(self, net: DetectNetwork, plan: DetectPlan) -> Any:
        """Return the torch network from pixels to (logits, boxes); it shares its weights with `net`."""
        from headstart.detection.feature_taps import tap_maps
        from headstart.detection.network import Detector

        taps = self.taps(plan)
        has_flip_tta = self.settings.detect.flip_tta
        return Detector(tap_maps(self.network, taps.stages), net.head, taps.sizes_hw, has_flip_tta=has_flip_tta).eval()

    def export(self, net: DetectNetwork, plan: DetectPlan, path: Path) -> None:
        """Export the whole detector to ONNX and compare it with torch.

        Raises:
            WeightsError: The outputs differ.
        """
        export_network(self.whole(net, plan), ("logits", "boxes"), self.spec.size_hw, path)

    def detect_from_pixels(
        self, net: DetectNetwork, plan: DetectPlan, samples: Ids, decoding: DecodingSettings
    ) -> list[Detections]:
        """Detect objects in files with torch, without any cache: the reference of the export."""
        import torch

        whole, detections = self.whole(net, plan), []
        with torch.no_grad():
            for sample in samples:
                size = self.sizes_hw[int(sample)]
                pixels = normalize(read_image(self.paths[int(sample)], self.spec)[None], self.spec)
                logits, boxes = whole(torch.from_numpy(pixels))
                frame = plain_frame(size, self.spec)
                detections.append(decode(logits[0].numpy(), boxes[0].numpy(), decoding, frame, size))
        return detections

    def close(self) -> None:
        """Stop the workers and release memory; cached views are kept, write failures become warnings."""
        from headstart.detection.batch_sources import CachedSource

        failures = {}
        sources, self._sources = self._sources, {}
        for source in sources.values():
            source.close()
            if isinstance(source, CachedSource):
                self._cache.bound(keep=source.views.space)
                failures["augmented views"] = source.views.space.write_error
        decoded, self._decoded = self._decoded, None
        if decoded is not None:
            decoded.flush()
            failures["decoded images"] = decoded.refusal
        for cache, reason in failures.items():
            if reason:
                self.events.warn(NoteKind.CACHE_NOT_WRITTEN, what=cache, reason=reason)
