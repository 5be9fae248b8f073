"""Extract features: find or export the backbone graph, run the engine, cache the results.

Torch and timm are imported only to export a graph or to use a GPU.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.cards import Card, find_card
from headstart.data.image_scan import ImageScanner
from headstart.data.problem_findings import unreadable_findings
from headstart.errors import DataError, MissingExtraError
from headstart.events import EventStream, Stage
from headstart.features.backbone_graph import FrozenGraph, find_graph, graph_folder, prepare_graph
from headstart.features.device_choice import check_device
from headstart.features.engines import Engine, FlippedEngine, OnnxEngine, TorchEngine
from headstart.features.extraction import embed_files
from headstart.messages.file_list import list_files
from headstart.preprocessing.image_spec import ImageSpec
from headstart.store.arrays import ArrayRows
from headstart.store.cache import Cache
from headstart.types.codes import JsonValue, NoteKind
from headstart.types.records import Features
from headstart.utils.limits import MAX_PIXELS
from headstart.utils.system import cache_root, file_digest

if TYPE_CHECKING:
    from headstart.config.settings import TrainSettings

__all__ = [
    "Extraction",
    "ExtractorOptions",
    "FeatureExtractor",
    "averaged_blocks",
    "open_embedder",
    "open_graph",
    "raise_if_all_unreadable",
    "report_unreadable",
]

_DEPTHS = 3  # last stages whose pooled features are used with the embedding


@dataclass(frozen=True)
class ExtractorOptions:
    """What to open; the fields are those of `TrainSettings`."""

    backbone: str
    image_size: int | None = None
    resize_mode: str = "crop"
    intensity_range: tuple[float, float] | None = None
    max_pixels: int = MAX_PIXELS
    pages: str | None = None
    weights: str | None = None
    device: str = "auto"
    num_threads: int | None = None
    offline: bool = False
    cache: bool = True

    @classmethod
    def of(
        cls, settings: TrainSettings, *, resize_mode: str, intensity_range: tuple[float, float] | None
    ) -> ExtractorOptions:
        """Return the options of a run, with the chosen resize mode and intensity range."""
        given = {f.name: getattr(settings, f.name) for f in fields(cls)}
        return cls(**{**given, "resize_mode": resize_mode, "intensity_range": intensity_range})


@dataclass(frozen=True)
class Extraction:
    """Features of N images; `num_computed` of them were not cached, and the extraction took `seconds`."""

    features: Features
    num_computed: int
    seconds: float

    @property
    def second_pass_s(self) -> float:
        """Return the expected seconds of a second pass over the images; 0 where all were cached."""
        return self.seconds * len(self.features.is_ok) / self.num_computed if self.num_computed else 0.0


@dataclass
class FeatureExtractor:
    """A backbone ready to extract features from files.

    Attributes:
        graph: The frozen network.
        spec: The image spec of this run.
        engine: The inference engine.
        cache: The feature cache, or None.
        num_threads: Worker threads; None for one per core.
    """

    graph: FrozenGraph
    spec: ImageSpec
    engine: Engine
    cache: Cache | None
    num_threads: int | None
    _opened: dict[str, ArrayRows] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        """Return a digest of network and preprocessing."""
        return f"{self.graph.digest}-{self.spec.digest}"

    def num_known(self) -> int:
        """Return the number of cached images, from any dataset."""
        if self.cache is None:
            return 0
        self._opened["plain"] = self._rows("plain")
        return len(self._opened["plain"])

    def embed(
        self,
        paths: Sequence[str | bytes],
        names: Sequence[str],
        events: EventStream,
        *,
        is_flipped: bool = False,
        scanner: ImageScanner | None = None,
    ) -> Extraction:
        """Extract features; a scanner scans each file in the same pass."""
        started = time.monotonic()
        rows = self._rows("flipped" if is_flipped else "plain") if self.cache is not None else None
        features, computed = embed_files(
            paths,
            FlippedEngine(self.engine) if is_flipped else self.engine,
            self.spec,
            names=names,
            rows=rows,
            num_threads=self.num_threads,
            progress=events.progress(Stage.FLIPPED_FEATURES if is_flipped else Stage.FEATURES),
            scanner=scanner,
        )
        if rows is not None and rows.write_error:
            events.warn_once(NoteKind.CACHE_NOT_WRITTEN, what="features", reason=rows.write_error)
        return Extraction(features, computed, time.monotonic() - started)

    def evidence(self, extraction: Extraction) -> dict[str, JsonValue]:
        """Return the evidence of the finished feature-extraction stage."""
        features, computed = extraction.features, extraction.num_computed
        height, width = self.spec.size_hw
        return {
            "backbone": self.graph.backbone,
            "width": width,
            "height": height,
            "num_computed": computed,
            "num_cached": len(features.is_ok) - computed - len(features.problems),
            "is_cached": self.cache is not None,
        }

    def _rows(self, view: str) -> ArrayRows:
        """Return the cached features of a view; reuses those opened by `num_known`."""
        if self.cache is None:
            raise ValueError("there is no cache")
        identity = (self.graph.digest, self.spec.digest, view)
        return self._opened.pop(view, None) or ArrayRows.open(self.cache, "features", self.graph.layout, *identity)


def open_embedder(options: ExtractorOptions, events: EventStream, *, root: Path | None = None) -> FeatureExtractor:
    """Open a backbone for feature extraction; `root`: the cache folder.

    Raises:
        UsageError: The network or the device does not exist.
        WeightsError: The weights are not available or have the wrong digest.
    """
    device, weights, offline = options.device, options.weights, options.offline
    check_device(device)
    root = root or cache_root()
    graph = open_graph(
        options.backbone, events, image_size=options.image_size, weights=weights, offline=offline, root=root
    )
    spec = graph.spec.with_(
        resize_mode=options.resize_mode,
        intensity_range=options.intensity_range,
        max_pixels=options.max_pixels,
        pages=options.pages,
    )
    engine: Engine
    if device in ("auto", "cpu"):
        engine = OnnxEngine(graph.path)
    else:
        from headstart.backbones import load_backbone, pooled_outputs

        network = load_backbone(options.backbone, weights=weights, offline=offline)
        engine = TorchEngine(pooled_outputs(network, tuple(graph.blocks)), tuple(graph.blocks), device)
    return FeatureExtractor(graph, spec, engine, Cache(root) if options.cache else None, options.num_threads)


def report_unreadable(features: Features, events: EventStream) -> None:
    """Report unreadable files as findings.

    Raises:
        DataError: No image can be read.
    """
    if not features.problems:
        return
    raise_if_all_unreadable(features)
    events.report(*unreadable_findings(features.problems))


def raise_if_all_unreadable(features: Features) -> None:
    """Raise an error with the first unreadable files if no image can be read.

    Raises:
        DataError: No image can be read.
    """
    if features.problems and not features.is_ok.any():
        raise DataError(
            "cannot read any of the images:\n" + "\n".join(list_files(features.problems)),
            hint="check the path; `headstart check` lists every unreadable file",
        )


def averaged_blocks(
    plain: Mapping[str, NDArray[np.float32]], flipped: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return the mean of (N, D) blocks of images and of flipped images."""
    return {name: np.float32(0.5) * (block + flipped[name]) for name, block in plain.items()}


def open_graph(
    backbone: str,
    events: EventStream,
    *,
    image_size: int | None = None,
    weights: str | None = None,
    offline: bool = False,
    root: Path | None = None,
    is_direct: bool = False,
) -> FrozenGraph:
    """Return the frozen graph of a network; exported once, then cached.

    Args:
        backbone: Name of the network.
        events: The event stream.
        size: Input size in pixels; that of the card by default.
        weights: A weights tag or file.
        offline: Never download.
        root: The cache folder.
        is_direct: Whether the graph ends in the network's own classifier (outputs `logits`, `embedding`)
            instead of the pooled features of its last stages.
    """
    card = find_card(backbone)
    spec = card.image_spec(image_size)
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
    """Return a cache key of the weights: the digest of a file, else tag and digest."""
    if weights is not None and Path(weights).is_file():
        return file_digest(weights)
    return f"{weights or card.weights_tag}/{card.digest}"


def default_blocks(network: Any) -> tuple[str, ...]:
    """Return the last stages and the embedding; a last stage equal to the embedding is left out."""
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
