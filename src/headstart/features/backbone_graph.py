"""Export a pretrained backbone once as an ONNX graph of pooled features.

After the export, the probe pipeline does not import torch. So the graph is cached with a JSON sidecar that holds
everything later steps need: blocks, digests, the card and the preprocessing of its weights.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart.errors import WeightsError
from headstart.events import EventStream, Stage
from headstart.features.graph_export import (
    TOLERANCE,
    difference_of,
    export,
    make_atomically,
    read_sidecar,
    write_sidecar,
)
from headstart.preprocessing.image_spec import ImageSpec
from headstart.store.arrays import RowLayout

__all__ = ["FrozenGraph", "export_network", "find_graph", "graph_folder", "prepare_graph"]

_VERSION = 2  # of the export; a change exports every graph again


@dataclass(frozen=True, slots=True)
class FrozenGraph:
    """A backbone ready for feature extraction.

    Attributes:
        path: The ONNX file: input `pixels` float32 (B, 3, H, W), one (B, D) output per block; "" if there is none.
        backbone: Name of the network.
        blocks: Width D of each block, in order of depth; the last is `embedding`.
        spec: Preprocessing that its weights were trained with, at this graph's size.
        digest: sha256 of the ONNX file, hex.
        card: The card of the weights (license, source, digest ...), JSON-able.
        notes: Export metadata: seconds, exporter, difference from torch.
    """

    path: str
    backbone: str
    blocks: dict[str, int]
    spec: ImageSpec
    digest: str
    card: dict[str, Any]
    notes: dict[str, Any]

    @property
    def layout(self) -> RowLayout:
        """Return the layout of a row of pooled features."""
        return RowLayout(tuple(self.blocks), tuple((width,) for width in self.blocks.values()), "float32")

    def at(self, spec: ImageSpec) -> FrozenGraph:
        """Return the backbone at another image size; without the ONNX file, whose input size is fixed."""
        return self if spec.size_hw == self.spec.size_hw else replace(self, path="", spec=spec)


def graph_folder(cache: Path, backbone: str, weights_digest: str, size_hw: tuple[int, int], kind: str) -> Path:
    """Return the folder of a graph; its name identifies the backbone and its key everything it depends on."""
    key = hashlib.sha256(f"{backbone}/{weights_digest}/{size_hw}/{kind}/{_VERSION}".encode()).hexdigest()[:16]
    return cache / "graphs" / f"{backbone.replace('/', '_').replace(':', '_')}-{size_hw[0]}x{size_hw[1]}-{kind}-{key}"


def find_graph(folder: Path) -> FrozenGraph | None:
    """Load a graph from its folder; None if it is missing or does not match its sidecar."""
    try:
        path, meta = read_sidecar(folder)
        return FrozenGraph(
            path=path,
            backbone=meta["backbone"],
            blocks=meta["blocks"],
            spec=ImageSpec.from_json(meta["pixels"]),
            digest=meta["digest"],
            card=meta["card"],
            notes=meta["notes"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def prepare_graph(
    folder: Path,
    load: Callable[[], tuple[Any, dict[str, int]]],
    *,
    backbone: str,
    spec: ImageSpec,
    card: dict[str, Any],
    events: EventStream | None = None,
) -> FrozenGraph:
    """Load the graph, or export it once and compare it with torch.

    Args:
        folder: From `graph_folder`.
        load: Returns the torch module (pixels to a tuple of (B, D) tensors) and the width of each block;
            called, and torch imported, only if the graph has to be exported.
        backbone: Name of the network.
        spec: Preprocessing at this size.
        card: The card of the weights, JSON-able.
        events: Receives a stage if the graph has to be exported.

    Raises:
        WeightsError: The outputs of the graph differ from torch.
        CacheError: Cannot write the graph.
    """
    graph = find_graph(folder)
    if graph is not None:
        return graph
    started = time.monotonic()
    module, blocks = load()

    def make(temporary: Path) -> None:
        path = temporary / "graph.onnx"
        notes = export_network(module, tuple(blocks), spec.size_hw, path)
        notes["duration_s"] = round(time.monotonic() - started, 2)
        meta = {"backbone": backbone, "blocks": blocks, "pixels": spec.to_json(), "card": card, "notes": notes}
        write_sidecar(path, meta)

    with (events or EventStream()).stage(Stage.EXPORT_BACKBONE, backbone=backbone):
        return make_atomically(folder, find_graph, make, "network")


def export_network(module: Any, blocks: tuple[str, ...], size_hw: tuple[int, int], path: Path) -> dict[str, Any]:
    """Export the graph from `pixels` to blocks, and return export metadata with the difference from torch.

    Raises:
        WeightsError: The outputs differ from torch.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    example = torch.randn((2, 3, *size_hw), generator=generator)
    module.eval()
    export(module, {"pixels": example}, blocks, path)
    with torch.no_grad():
        reference = [tensor.numpy() for tensor in module(example)]
    worst = difference_of(path, {"pixels": example.numpy()}, blocks, reference)
    if not worst <= TOLERANCE:
        raise WeightsError(
            f"the exported network differs from torch by {worst:.1e} (relative), more than {TOLERANCE:.0e}.",
            hint="please report this with your versions of torch and onnxruntime (`headstart doctor`)",
        )
    return {"exporter": "torch.onnx dynamo", "torch": torch.__version__, "difference": worst}
