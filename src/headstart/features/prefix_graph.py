"""Build the frozen prefix as an ONNX graph: images to the state at a cut and the pooled features before it.

If the graph of pooled features already holds the state as one of its tensors, the prefix is cut out of it in
milliseconds instead of being exported again; either way it is compared with torch before use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.errors import WeightsError
from headstart.features.backbone_graph import FrozenGraph, export_network, graph_folder
from headstart.features.graph_export import TOLERANCE, difference_of, make_atomically, read_sidecar, write_sidecar
from headstart.store.arrays import RowLayout

__all__ = ["PrefixGraph", "extract_part", "find_part", "prepare_prefix", "write_part"]


@dataclass(frozen=True, slots=True)
class PrefixGraph:
    """A prefix ready to run.

    Attributes:
        path: The ONNX file: input `pixels`, one output per part.
        digest: sha256 of the file, hex: identifies weights, cut and size.
        layout: Names and shapes of the parts, `state0 ..` first.
        export_cpu_s: CPU seconds of the export when the file was made, or None if unknown.
    """

    path: str
    digest: str
    layout: RowLayout
    export_cpu_s: float | None = None


def prepare_prefix(
    graph: FrozenGraph,
    cache: Path,
    cut: str,
    early: Sequence[str],
    load: Callable[[], Any],
    *,
    state_block: str | None = None,
) -> PrefixGraph:
    """Load or create the graph of the prefix.

    Args:
        graph: The graph of pooled features.
        cache: The cache folder.
        cut: The first stage after the cut.
        early: Pooled features before the cut; blocks of `graph`.
        load: Returns a torch module from images to the tuple (state tensors ..., early features ...); called
            only if the graph has to be exported.
        state_block: The block of `graph` that is the pooled state, if the state is one tensor.

    Raises:
        WeightsError: The outputs of the graph differ from torch.
        CacheError: Cannot write the graph.
    """
    kind = f"front-{cut}-{'-'.join(early)}"
    folder = graph_folder(cache, graph.backbone, graph.digest, graph.spec.size_hw, kind)
    return make_atomically(
        folder, find_part, lambda temporary: _make(graph, temporary, early, load(), state_block), "prefix"
    )


def find_part(folder: Path) -> PrefixGraph | None:
    """Load a part of a network from its folder; None if it is missing or does not match its sidecar."""
    try:
        path, meta = read_sidecar(folder)
        layout = RowLayout(tuple(meta["names"]), tuple(tuple(s) for s in meta["shapes"]), meta["dtype"])
        return PrefixGraph(path, meta["digest"], layout, meta.get("export_cpu_s"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _make(graph: FrozenGraph, folder: Path, early: Sequence[str], module: Any, state_block: str | None) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    example = torch.randn((2, 3, *graph.spec.size_hw), generator=generator)
    with torch.no_grad():
        expected = [t.numpy() for t in module(example)]
    num_states = len(expected) - len(early)
    names = (*(f"state{i}" for i in range(num_states)), *early)
    path = folder / "graph.onnx"
    inputs = {"pixels": example.numpy()}
    is_cut_out = num_states == 1 and state_block is not None and extract_part(graph.path, state_block, early, path)
    export_cpu_s: float | None = None
    if not (is_cut_out and difference_of(path, inputs, names, expected) <= TOLERANCE):
        started = time.process_time()
        export_network(module, names, graph.spec.size_hw, path)
        export_cpu_s = round(time.process_time() - started, 3)
    write_part(path, inputs, names, expected, export_cpu_s=export_cpu_s)


def write_part(
    path: Path,
    inputs: dict[str, Any],
    names: Sequence[str],
    expected: Sequence[Any],
    *,
    export_cpu_s: float | None = None,
) -> None:
    """Compare a written graph with torch and write its sidecar.

    Args:
        path: The graph.
        inputs: An example.
        names: Names of its outputs.
        expected: Outputs of torch for the example.
        export_cpu_s: CPU seconds of the export, stored in the sidecar.

    Raises:
        WeightsError: The outputs of the graph differ from torch.
    """
    difference = difference_of(path, inputs, names, expected)
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"the exported prefix differs from torch by {difference:.1e} (relative).",
            hint="please report this with your versions of torch and onnxruntime (`headstart doctor`)",
        )
    largest = max(float(np.abs(e).max()) for e in expected)
    meta = {
        "names": names,
        "shapes": [e.shape[1:] for e in expected],
        "dtype": "float16" if largest < 4096 else "float32",  # random pixels give larger values than images
        "export_cpu_s": export_cpu_s,
    }
    write_sidecar(path, meta)


def extract_part(source: str, state_block: str, early: Sequence[str], target: Path, *, begin_block: str = "") -> bool:
    """Write the part of the graph that ends where `state_block` is pooled; False if that cannot be located.

    Args:
        source: A graph of pooled features with input `pixels`; "" if there is none.
        state_block: The block that is the pooled state at the end.
        early: Blocks that the part outputs besides the state.
        target: The file to write.
        begin_block: The block that is the pooled state at the beginning, which is then the input `from0`; without it
            the part begins with the images.
    """
    import onnx
    import onnx.helper

    if not source:
        return False
    model = onnx.load(source)
    state = _pooled_tensor(model.graph, state_block)
    begin = _pooled_tensor(model.graph, begin_block) if begin_block else ""
    if state is None or begin is None:
        return False
    outputs = {"state0": state, **{name: name for name in early}}
    alive, kept = set(outputs.values()), []
    for node in reversed(model.graph.node):
        if alive.intersection(node.output) and begin not in node.output:
            kept.append(node)
            alive.update(node.input)
    if begin and "pixels" in alive:  # another tensor from before the state is needed
        return False
    kept.reverse()
    weights = [t for t in model.graph.initializer if t.name in alive]
    del model.graph.node[:], model.graph.initializer[:], model.graph.output[:], model.graph.value_info[:]
    if begin:
        del model.graph.input[:]
        model.graph.input.append(onnx.helper.make_tensor_value_info("from0", onnx.TensorProto.FLOAT, None))
        model.graph.node.append(onnx.helper.make_node("Identity", ["from0"], [begin], name="from0"))
    model.graph.node.extend(kept)
    model.graph.node.append(onnx.helper.make_node("Identity", [state], ["state0"], name="state0"))
    model.graph.initializer.extend(weights)
    for name in outputs:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    onnx.save(model, str(target))
    return True


def _pooled_tensor(graph: Any, block: str) -> str | None:
    """Return the name of the tensor whose mean a block is; None if that cannot be located."""
    made_by = {name: node for node in graph.node for name in node.output}
    pooling = made_by.get(block)
    while pooling is not None and pooling.op_type in ("Identity", "Flatten", "Squeeze", "Reshape"):
        pooling = made_by.get(pooling.input[0])
    if pooling is None or pooling.op_type not in ("ReduceMean", "GlobalAveragePool"):
        return None
    name: str = pooling.input[0]
    return name
