"""The frozen prefix as an ONNX graph: images to the state at a cut and the pooled features before it.

Where the graph of pooled features already holds the state as one of its tensors, the
prefix is cut out of it in milliseconds instead of being exported again; either way it is compared with
torch before it is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.errors import WeightsError
from headstart.features.activation_cache import RowLayout
from headstart.features.backbone_graph import FrozenGraph, export_network, graph_folder
from headstart.features.graph_export import TOLERANCE, difference_of, make_atomically, read_sidecar, write_sidecar

__all__ = ["PrefixGraph", "cut_out", "find_part", "prepare_prefix", "write_part"]


@dataclass(frozen=True, slots=True)
class PrefixGraph:
    """A prefix ready to run.

    Attributes:
        path: The ONNX file: input `pixels`, one output a part.
        digest: sha256 of the file, hex: weights, cut and size in one.
        layout: Names and shapes of the parts, `state0 ..` first.
        export_cpu_s: Processor seconds that the export took when the file was made, or None where that is unknown.
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
    """Find the prefix's graph or makes it.

    Args:
        graph: The graph of pooled features.
        cache: The cache folder.
        cut: The first stage after the cut.
        early: Pooled features that are made before the cut; blocks of `graph`.
        load: Gives a torch module from images to the tuple (state tensors ..., early features ...); called
            only where the graph has to be made.
        state_block: The block of `graph` that is the pooled state, where the state is one tensor.

    Raises:
        WeightsError: The graph does not give what torch gives.
        CacheError: It cannot be written.
    """
    kind = f"front-{cut}-{'-'.join(early)}"
    folder = graph_folder(cache, graph.backbone, graph.digest, graph.spec.size_hw, kind)
    return make_atomically(
        folder, find_part, lambda temporary: _make(graph, temporary, early, load(), state_block), "prefix"
    )


def find_part(folder: Path) -> PrefixGraph | None:
    """Read a part of a network from its folder; None where it is not there or does not fit its sidecar."""
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
    is_cut_out = num_states == 1 and state_block is not None and cut_out(graph.path, state_block, early, path)
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
    """Compare a written graph with torch and says beside it what it gives.

    Args:
        path: The graph.
        inputs: An example.
        names: Names of its outputs.
        expected: What torch makes of the example.
        export_cpu_s: Processor seconds of the export, kept beside the graph.

    Raises:
        WeightsError: The graph does not give what torch gives.
    """
    difference = difference_of(path, inputs, names, expected)
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"the prepared prefix differs from the original by {difference:.1e} (relative).",
            hint="please report this with your versions of torch and onnxruntime (headstart doctor)",
        )
    largest = max(float(np.abs(e).max()) for e in expected)
    meta = {
        "names": names,
        "shapes": [e.shape[1:] for e in expected],
        "dtype": "float16" if largest < 4096 else "float32",  # random pixels reach further than images do
        "export_cpu_s": export_cpu_s,
    }
    write_sidecar(path, meta)


def cut_out(source: str, state_block: str, early: Sequence[str], target: Path, *, begin_block: str = "") -> bool:
    """Write the part of the graph that ends where `state_block` is pooled; False where that is not to be seen.

    Args:
        source: A graph of pooled features, its input `pixels`; "" where there is none.
        state_block: The block that is the pooled state at the end.
        early: Blocks that the part gives beside the state.
        target: The file to write.
        begin_block: The block that is the pooled state at the beginning, which is then the input `from0`; the
            part begins with the images without it.
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
    if begin and "pixels" in alive:  # something beside the state comes from before it
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
    """Name of the tensor that a block is the mean of; None where that is not to be seen."""
    made_by = {name: node for node in graph.node for name in node.output}
    pooling = made_by.get(block)
    while pooling is not None and pooling.op_type in ("Identity", "Flatten", "Squeeze", "Reshape"):
        pooling = made_by.get(pooling.input[0])
    if pooling is None or pooling.op_type not in ("ReduceMean", "GlobalAveragePool"):
        return None
    name: str = pooling.input[0]
    return name
