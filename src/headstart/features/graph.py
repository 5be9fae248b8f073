"""The frozen graph: a pretrained network as one ONNX file that gives pooled features, made once.

The one decision: after the graph is there, nothing on the probe's road imports torch.  So a graph lies
in the cache with a JSON sidecar that holds all that later steps need: blocks, digests, the card and the
pixel spec of its weights.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import CacheError, WeightsError
from headstart.machine import atomic_folder, private_folder
from headstart.pixels.spec import PixelSpec

__all__ = ["FrozenGraph", "find_graph", "graph_folder", "prepare_graph"]

_VERSION = 1  # of what is exported and how; a change makes every graph anew
_TOLERANCE = 1e-4  # largest difference from torch, relative to the largest feature


@dataclass(frozen=True, slots=True)
class FrozenGraph:
    """A network ready to embed.

    Attributes:
        path: The ONNX file: input `pixels` float32 (B, 3, H, W), one (B, D) output a block.
        backbone: Name of the network.
        blocks: Width D of each block, in order of depth; the last is `embedding`.
        spec: The pixel contract that its weights were trained with, at this graph's size.
        digest: sha256 of the ONNX file, hex.
        card: The card of the weights (licence, source, digest ...), JSON-able.
        notes: How it was made: seconds, exporter, difference from torch.
    """

    path: str
    backbone: str
    blocks: dict[str, int]
    spec: PixelSpec
    digest: str
    card: dict[str, Any]
    notes: dict[str, Any]


def graph_folder(cache: Path, backbone: str, weights_digest: str, size_hw: tuple[int, int], kind: str) -> Path:
    """Where a graph lies; its name says what it is and its key what it depends on."""
    key = hashlib.sha256(f"{backbone}/{weights_digest}/{size_hw}/{kind}/{_VERSION}".encode()).hexdigest()[:16]
    return cache / "graphs" / f"{backbone.replace('/', '_').replace(':', '_')}-{size_hw[0]}x{size_hw[1]}-{kind}-{key}"


def find_graph(folder: Path) -> FrozenGraph | None:
    """Reads a graph from its folder; None where it is not there or does not fit its sidecar."""
    try:
        meta = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
        path = folder / "graph.onnx"
        if path.stat().st_size != meta["size_bytes"]:
            return None
        return FrozenGraph(
            path=str(path),
            backbone=meta["backbone"],
            blocks=meta["blocks"],
            spec=PixelSpec.from_json(meta["pixels"]),
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
    spec: PixelSpec,
    card: dict[str, Any],
    say: Callable[[str], None] | None = None,
) -> FrozenGraph:
    """Finds the graph, or exports it once and checks it against torch.

    Args:
        folder: From `graph_folder`.
        load: Gives the torch module (pixels to a tuple of (B, D) tensors) and the width of each block.
            Called only where the graph has to be made: it is what imports torch.
        backbone: Name of the network.
        spec: Pixel contract at this size.
        card: The card of the weights, JSON-able.
        say: Told that a one-off is under way.

    Raises:
        WeightsError: The graph does not give what the torch network gives.
        CacheError: The graph cannot be written.
    """
    found = find_graph(folder)
    if found is not None:
        return found
    if say:
        say(f"Preparing {backbone} for this machine; this is done once and takes some seconds.")
    started = time.monotonic()
    module, blocks = load()
    private_folder(folder.parent)
    try:
        with atomic_folder(folder) as temporary:
            path = temporary / "graph.onnx"
            notes = _export(module, tuple(blocks), spec.size_hw, path)
            notes["duration_s"] = round(time.monotonic() - started, 2)
            meta = {
                "backbone": backbone,
                "blocks": blocks,
                "pixels": spec.to_json(),
                "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
                "size_bytes": path.stat().st_size,
                "card": card,
                "notes": notes,
            }
            (temporary / "graph.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
            if folder.is_dir():  # there, but not usable: make room
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise CacheError(
            f"the prepared network cannot be written to `{folder.parent}` ({error.strerror or error}).",
            hint="free some space, or name another folder: HEADSTART_CACHE=/some/folder",
        ) from error
    made = find_graph(folder)
    if made is None:
        raise CacheError(f"the prepared network in `{folder}` cannot be read back.", hint="headstart cache clear")
    return made


def _export(module: Any, blocks: tuple[str, ...], size_hw: tuple[int, int], path: Path) -> dict[str, Any]:
    """Writes the graph and returns how far it is from torch."""
    import contextlib
    import io
    import logging
    import warnings

    import numpy as np
    import torch

    from headstart.features.engine import OnnxEngine

    generator = torch.Generator().manual_seed(0)
    example = torch.randn((2, 3, *size_hw), generator=generator)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        module.eval()
        torch.onnx.export(
            module,
            (example,),
            str(path),
            input_names=["pixels"],
            output_names=list(blocks),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        reference = [tensor.numpy() for tensor in module(example)]
    got = OnnxEngine(str(path)).run(example.numpy())
    worst = 0.0
    for name, expected in zip(blocks, reference, strict=True):
        scale = max(float(np.abs(expected).max()), 1e-6)
        worst = max(worst, float(np.abs(got[name] - expected).max()) / scale)
    if not worst <= _TOLERANCE:
        raise WeightsError(
            f"the prepared network differs from the original by {worst:.1e} (relative), more than {_TOLERANCE:.0e}.",
            hint="please report this with your versions of torch and onnxruntime (headstart doctor)",
        )
    return {"exporter": "torch.onnx dynamo", "torch": torch.__version__, "difference": worst}
