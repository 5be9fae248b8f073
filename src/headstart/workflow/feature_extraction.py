"""From samples to cached features: finds the graph (or makes it, once) and runs the engine.

Torch and timm are imported only to make a graph, or where a GPU was asked for.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.cards import Card, find_card
from headstart.data.report_findings import unreadable_findings
from headstart.errors import DataError, MissingExtraError
from headstart.events import EventStream, Stage
from headstart.features.backbone_graph import FrozenGraph, find_graph, graph_folder, prepare_graph
from headstart.features.engines import Engine, OnnxEngine, TorchEngine
from headstart.features.extraction import ScanObserver, embed_files
from headstart.features.feature_cache import FeatureCache, FeatureSpace
from headstart.limits import MAX_PIXELS
from headstart.preprocessing.image_spec import ImageSpec
from headstart.records import Features
from headstart.system import cache_root, file_digest
from headstart.types import JsonValue, NoteKind
from headstart.workflow.devices import check_device
from headstart.workflow.headline import name_files

if TYPE_CHECKING:
    from headstart.config import TrainSettings

__all__ = [
    "FeatureExtractor",
    "averaged_blocks",
    "name_unreadable",
    "open_as_set",
    "open_embedder",
    "open_graph",
    "raise_if_all_unreadable",
]

_DEPTHS = 3  # pooled features of so many last stages stand beside the embedding


@dataclass
class FeatureExtractor:
    """A backbone ready to embed files.

    Attributes:
        graph: The frozen network.
        spec: The pixel contract of this run.
        engine: What runs it.
        cache: Where features are kept, or None.
        threads: Workers, or None for one a core.
    """

    graph: FrozenGraph
    spec: ImageSpec
    engine: Engine
    cache: FeatureCache | None
    threads: int | None
    _opened: dict[str, FeatureSpace] = field(default_factory=dict, repr=False)

    def num_known(self) -> int:
        """Return images that were looked at before, of this data set or of others."""
        if self.cache is None:
            return 0
        self._opened["plain"] = self._space("plain")
        return len(self._opened["plain"])

    def embed(
        self,
        paths: Sequence[str | bytes],
        names: Sequence[str],
        events: EventStream,
        *,
        is_mirrored: bool = False,
        observer: ScanObserver | None = None,
    ) -> tuple[Features, int, float]:
        """Features of files, how many had to be computed, and the seconds it took; an onlooker sees each file too."""
        started = time.monotonic()
        space = self._space("mirrored" if is_mirrored else "plain") if self.cache is not None else None
        features, computed = embed_files(
            paths,
            self.engine,
            self.spec,
            names=names,
            space=space,
            is_mirrored=is_mirrored,
            threads=self.threads,
            progress=events.progress(Stage.MIRRORED_FEATURES if is_mirrored else Stage.FEATURES),
            observer=observer,
        )
        if space is not None and space.write_error:
            events.warn(NoteKind.CACHE_NOT_WRITTEN, what="features", reason=space.write_error)
        if self.cache is not None:
            self.cache.bound(keep=space)
        return features, computed, time.monotonic() - started

    def evidence(self, features: Features, computed: int) -> dict[str, JsonValue]:
        """Return what is reported about a finished stage of feature extraction.

        Args:
            features: Of all images.
            computed: How many of them were not in the cache.
        """
        height, width = self.spec.size_hw
        return {
            "backbone": self.graph.backbone,
            "width": width,
            "height": height,
            "num_computed": computed,
            "num_cached": len(features.is_ok) - computed - len(features.problems),
            "is_cached": self.cache is not None,
        }

    def _space(self, view: str) -> FeatureSpace:
        """Return what the cache knows of one view now; what was opened to be counted is not read again."""
        if self.cache is None:
            raise ValueError("there is no cache")
        return self._opened.pop(view, None) or self.cache.space(self.graph.digest, self.spec.digest, view)


def open_embedder(
    backbone: str,
    events: EventStream,
    *,
    size: int | None = None,
    fit: str = "crop",
    intensity_range: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    weights: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    offline: bool = False,
    use_cache: bool = True,
    root: Path | None = None,
) -> FeatureExtractor:
    """Open a backbone for embedding.

    Raises:
        UsageError: There is no such network, or no such device.
        WeightsError: Its weights cannot be had or are not the ones meant.
    """
    check_device(device)
    root = root or cache_root()
    graph = open_graph(backbone, events, size=size, weights=weights, offline=offline, root=root)
    spec = graph.spec.with_(fit=fit, intensity_range=intensity_range, max_pixels=max_pixels)
    engine: Engine
    if device in ("auto", "cpu"):
        engine = OnnxEngine(graph.path)
    else:
        from headstart.backbones import load_backbone, pooled_outputs

        network = load_backbone(backbone, weights=weights, offline=offline)
        engine = TorchEngine(pooled_outputs(network, tuple(graph.blocks)), tuple(graph.blocks), device)
    return FeatureExtractor(graph, spec, engine, FeatureCache(root) if use_cache else None, threads)


def name_unreadable(features: Features, events: EventStream) -> None:
    """Name the files that cannot be read.

    Raises:
        DataError: None can.
    """
    if not features.problems:
        return
    raise_if_all_unreadable(features)
    events.find(*unreadable_findings(features.problems))


def raise_if_all_unreadable(features: Features) -> None:
    """Raise an error that names the first unreadable files if no image can be read.

    Raises:
        DataError: No image can be read.
    """
    if features.problems and not features.is_ok.any():
        raise DataError(
            "not one image can be read:\n" + "\n".join(name_files(features.problems)),
            hint="is this the right folder? `headstart check` lists every file that cannot be read",
        )


def averaged_blocks(
    plain: Mapping[str, NDArray[np.float32]], mirrored: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return (N, D) blocks of images and of their mirror images, averaged."""
    return {name: np.float32(0.5) * (block + mirrored[name]) for name, block in plain.items()}


def open_as_set(
    settings: TrainSettings, events: EventStream, *, fit: str, intensity_range: tuple[float, float] | None
) -> FeatureExtractor:
    """Open the backbone that the settings name as they say.

    Args:
        settings: The settings.
        events: Told when a one-off is under way.
        fit: What `fit` comes to where that was `auto`.
        intensity_range: The range that was settled on for the data.

    Raises:
        UsageError, WeightsError: As `open_embedder`.
    """
    return open_embedder(
        settings.backbone,
        events,
        size=settings.size,
        fit=fit,
        intensity_range=intensity_range,
        max_pixels=settings.max_pixels,
        weights=settings.weights,
        device=settings.device,
        threads=settings.workers,
        offline=settings.offline,
        use_cache=settings.cache,
    )


def open_graph(
    backbone: str,
    events: EventStream,
    *,
    size: int | None = None,
    weights: str | None = None,
    offline: bool = False,
    root: Path | None = None,
    is_direct: bool = False,
) -> FrozenGraph:
    """Return the frozen graph of a network; exported once, then found.

    Args:
        backbone: Name of the network.
        events: Told when the one-off is under way.
        size: Side in pixels; the card's own by default.
        weights: A weights tag or file.
        offline: Never use the network.
        root: The cache folder.
        is_direct: Whether the graph ends in the network's own classifier (outputs `logits`, `embedding`)
            instead of the pooled features of its last stages.
    """
    card = find_card(backbone)
    spec = card.image_spec(size)
    kind = "direct" if is_direct else "pooled"
    folder = graph_folder(root or cache_root(), card.name, _weights_key(card, weights), spec.size_hw, kind)

    if find_graph(folder) is None and importlib.util.find_spec("torch") is None:
        raise MissingExtraError(f"preparing {card.title or card.name}", "train")

    def load() -> tuple[Any, dict[str, int]]:
        from headstart.backbones import load_backbone, pooled_outputs

        network = load_backbone(card.name, weights=weights, offline=offline, events=events)
        blocks = ("logits", "embedding") if is_direct else default_blocks(network)
        module = pooled_outputs(network, blocks)
        return module, _widths(module, blocks, spec)

    return prepare_graph(folder, load, backbone=card.name, spec=spec, card=_card_json(card), events=events)


def _weights_key(card: Card, weights: str | None) -> str:
    """Return what tells these weights from others: a file by its content, published ones by tag and digest."""
    if weights is not None and Path(weights).is_file():
        return file_digest(weights)
    return f"{weights or card.weights_tag}/{card.digest}"


def default_blocks(network: Any) -> tuple[str, ...]:
    """Return the last stages in order of depth, then the embedding; a last stage that *is* the embedding once only."""
    stages = [s.name for s in network.stages if s.name.startswith("stage")]
    if all(s.is_empty for s in network.stages if s.name == "neck"):
        stages = stages[:-1]
    return (*stages[-_DEPTHS:], "embedding")


def _widths(module: Any, blocks: Sequence[str], spec: ImageSpec) -> dict[str, int]:
    import torch

    with torch.no_grad():
        outputs = module(torch.zeros((1, 3, *spec.size_hw)))
    return {name: int(out.shape[1]) for name, out in zip(blocks, outputs, strict=True)}


def _card_json(card: Card) -> dict[str, Any]:
    value = asdict(card)
    value.pop("stages", None)
    return value
