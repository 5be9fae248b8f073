"""Compute activations at a later cut from cached ones at an earlier cut, with the stages in between as an ONNX graph.

Images are decoded and the prefix is run once only; missing rows of the earlier cut are computed (or awaited) first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.backbone_graph import FrozenGraph, graph_folder
from headstart.features.engines import OnnxEngine
from headstart.features.graph_export import TOLERANCE, difference_of, export, make_atomically
from headstart.features.prefix_graph import PrefixGraph, extract_part, find_part, write_part
from headstart.features.view_activations import ViewActivations, ViewJob
from headstart.store.arrays import ArrayRows, RowLayout

__all__ = ["DerivedViews", "derived_layout", "prepare_segment"]


def prepare_segment(
    graph: FrozenGraph,
    cache: Path,
    cuts: tuple[str, str],
    pooled: Sequence[str],
    load: Callable[[], tuple[Any, Any]],
    *,
    blocks: tuple[str, str] | None = None,
) -> PrefixGraph:
    """Load or create the graph between two cuts, with inputs `from0 ..` and outputs like a prefix.

    Args:
        graph: The graph of pooled features.
        cache: The cache folder.
        cuts: The first stage inside, and the first stage after it.
        pooled: Pooled features between the cuts; blocks of `graph`.
        load: Returns a torch module from the states at the first cut to the tuple (state tensors at the second ...,
            pooled features ...), and a tuple of example states of two images; called only if the graph has
            to be exported.
        blocks: The blocks of `graph` that are the pooled states at the two cuts, if each is one tensor.

    Raises:
        WeightsError: The outputs of the graph differ from torch.
        CacheError: Cannot write the graph.
    """
    kind = f"between-{'-'.join(cuts)}-{'-'.join(pooled)}"
    folder = graph_folder(cache, graph.backbone, graph.digest, graph.spec.size_hw, kind)

    def make(temporary: Path) -> None:
        _make(graph, temporary / "graph.onnx", pooled, load(), blocks)

    return make_atomically(folder, find_part, make, "prefix")


def derived_layout(base: RowLayout, part: RowLayout) -> RowLayout:
    """Return the layout of a derived row: the outputs of the segment, and the pooled features of the base row."""
    kept = [i for i, name in enumerate(base.names) if not name.startswith("state")]
    dtype = "float32" if "float32" in (base.dtype, part.dtype) else "float16"
    return RowLayout(
        (*part.names, *(base.names[i] for i in kept)), (*part.shapes, *(base.shapes[i] for i in kept)), dtype
    )


class DerivedViews(ViewActivations):
    """Rows computed from rows of other views.

    Args:
        base: Views of the same images at an earlier cut.
        engine: From states `from0 ..` at that cut to the parts of a row here.
        space: Cache of the rows.
    """

    def __init__(self, base: ViewActivations, engine: OnnxEngine, space: ArrayRows) -> None:
        super().__init__(base.images, base._engine, base.spec, space, num_threads=1)
        self._base, self._segment = base, engine

    def prepare(self, pairs: Sequence[tuple[int, int]]) -> int:
        """Start making rows, and the rows of the base that they need; see `ViewActivations`."""
        self._base.prepare([pair for pair in pairs if not self.is_there(*pair)])
        return super().prepare(pairs)

    def _make(self, jobs: Sequence[ViewJob]) -> NDArray[np.floating]:
        base = self._base.rows([job.sample for job in jobs], [job.view for job in jobs])
        parts = {name: part.astype(np.float32) for name, part in self._base.space.layout.unpack(base).items()}
        states = {f"from{name[5:]}": parts.pop(name) for name in list(parts) if name.startswith("state")}
        return self.space.layout.pack(parts | self._segment.feed(states))


def _make(
    graph: FrozenGraph, path: Path, pooled: Sequence[str], loaded: tuple[Any, Any], blocks: tuple[str, str] | None
) -> None:
    import torch

    module, states = loaded
    with torch.no_grad():
        expected = [t.numpy() for t in module(*states)]
    names = (*(f"state{i}" for i in range(len(expected) - len(pooled))), *pooled)
    inputs = {f"from{i}": np.ascontiguousarray(s.numpy()) for i, s in enumerate(states)}
    is_cut_out = (
        blocks is not None
        and (len(states), len(expected) - len(pooled)) == (1, 1)
        and extract_part(graph.path, blocks[1], pooled, path, begin_block=blocks[0])
        and difference_of(path, inputs, names, expected) <= TOLERANCE
    )
    if not is_cut_out:
        export(module, {f"from{i}": s for i, s in enumerate(states)}, names, path, is_listed=True)
    write_part(path, inputs, names, expected)
