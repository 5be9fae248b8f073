"""Provide the backbone of a detector: its stages, its frozen prefix as a graph, and new networks on top of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.config.settings import TrainSettings
from headstart.detection.plan import DetectPlan
from headstart.events import EventStream, Stage
from headstart.features.backbone_graph import FrozenGraph
from headstart.features.prefix_graph import PrefixGraph, prepare_prefix
from headstart.preprocessing.image_spec import ImageSpec
from headstart.utils.system import cache_root

if TYPE_CHECKING:
    from headstart.detection.feature_taps import FeatureTaps
    from headstart.detection.loop import DetectNetwork

__all__ = ["DetectorBackbone"]


class DetectorBackbone:
    """Pretrained backbone of a detector.

    Args:
        settings: Settings of the run.
        spec: The image spec.
        num_classes: K.
        events: Receives the steps of loading and export.
    """

    def __init__(self, settings: TrainSettings, spec: ImageSpec, num_classes: int, events: EventStream) -> None:
        from headstart.backbones import load_backbone

        self.spec, self.num_classes, self._events = spec, num_classes, events
        self._has_flip_tta = settings.detect.flip_tta
        loaded = load_backbone(
            settings.backbone,
            weights=settings.weights,
            offline=settings.offline,
            image_size=spec.size_hw,
            events=events,
        )
        self.card, self.network, self._module = loaded.card, loaded.network, loaded.module
        self._pretrained = {n: t.clone() for n, t in self._module.state_dict().items()}

    def cut(self, text: str) -> str:
        """Return the name of the first stage after a cut, given as `last`, `last-2` or a stage name.

        Raises:
            UsageError: The cut does not exist.
        """
        name: str = self.network.names[self.network.position(text)]
        return name

    def taps(self, min_stride: int) -> FeatureTaps:
        """Return the stages that feed a pyramid whose smallest stride is `min_stride`."""
        from headstart.detection.feature_taps import choose_taps

        return choose_taps(self.network, min_stride)

    def frozen_cut(self, min_stride: int) -> str:
        """Return the first stage that no map of the pyramid needs: the cut of a frozen backbone."""
        names = self.network.names
        return str(names[names.index(self.taps(min_stride).stages[-1]) + 1])

    def row_bytes(self, train_from: str, min_stride: int) -> int:
        """Return the bytes of one cached view."""
        return self.prefix(train_from, min_stride).layout.row_bytes

    def prefix(self, train_from: str, min_stride: int) -> PrefixGraph:
        """Return the graph of the frozen prefix; export it where it is not cached.

        Args:
            train_from: First stage after the cut.
            min_stride: Smallest stride of the pyramid.
        """
        from headstart.backbones.freeze import tensors_digest
        from headstart.detection.feature_taps import tap_prefix

        stages, card = self.taps(min_stride).stages, self.card
        # Random weights have no digest of their own; compute one, so that other random weights are not reused.
        digest = card.digest or tensors_digest(self._pretrained)
        graph = FrozenGraph("", card.name, {}, self.spec, f"{card.weights_tag}/{digest}", {}, {})

        def load() -> Any:
            with self._events.stage(Stage.EXPORT_BACKBONE, backbone=card.name):
                self._reset()
                return tap_prefix(self.network, train_from, stages).eval()

        return prepare_prefix(graph, cache_root(), f"maps-{train_from}-{'-'.join(stages)}", (), load)

    def build(self, plan: DetectPlan) -> DetectNetwork:
        """Build a network to train: pretrained (or random, for scratch) backbone, new pyramid and head."""
        import torch

        from headstart.backbones.build import draw_weights
        from headstart.detection.feature_taps import FeatureTapsSuffix, tap_maps, tap_suffix
        from headstart.detection.loop import DetectNetwork
        from headstart.detection.network import DetectorHead

        self._reset()
        taps = self.taps(plan.min_stride)
        head = DetectorHead(
            taps.channels,
            taps.strides,
            self.num_classes,
            width=plan.fpn_channels,
            depth=plan.head_depth,
            seed=plan.seed,
        ).to(memory_format=torch.channels_last)
        if plan.strategy == "scratch":
            draw_weights(self._module, plan.seed)
        if plan.is_cached:
            suffix = tap_suffix(self.network, plan.train_from, taps.stages)
        else:
            suffix = FeatureTapsSuffix(tap_maps(self.network, taps.stages), 1, 0, ())
        suffix = suffix.to(memory_format=torch.channels_last)
        inside = {id(p) for p in suffix.parameters()}
        stages: dict[int, list[tuple[str, Any]]] = {}
        for name, parameter in self._module.named_parameters():
            if id(parameter) in inside:
                stages.setdefault(self.network.map.stage_of[name], []).append((name, parameter))
        rows = [stages[k] for k in sorted(stages, reverse=True)] if plan.strategy != "head" else []
        return DetectNetwork(suffix, head, self._module, rows, is_bn_live=plan.strategy == "scratch")

    def detector(self, net: DetectNetwork, plan: DetectPlan) -> Any:
        """Return the torch network from pixels to (logits, boxes); it shares its weights with `net`."""
        from headstart.detection.feature_taps import tap_maps
        from headstart.detection.network import Detector

        taps = self.taps(plan.min_stride)
        maps = tap_maps(self.network, taps.stages)
        return Detector(maps, net.head, taps.sizes_hw, has_flip_tta=self._has_flip_tta).eval()

    def _reset(self) -> None:
        """Restore the pretrained weights."""
        self._module.load_state_dict(self._pretrained)
