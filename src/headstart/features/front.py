"""The frozen prefix as an ONNX graph: pictures to the state at a cut and the pooled features before it.

The one decision: where the graph of pooled features already holds the state as one of its tensors, the
prefix is cut out of it in milliseconds instead of being exported again; either way it is compared with
torch before it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.errors import CacheError, WeightsError
from headstart.features.boundary import RowLayout
from headstart.features.engine import OnnxEngine
from headstart.features.graph import FrozenGraph, _export, graph_folder
from headstart.machine import atomic_folder, private_folder

__all__ = ["FrontGraph", "prepare_front"]

_TOLERANCE = 1e-4  # largest difference from torch, relative to the largest value


@dataclass(frozen=True, slots=True)
class FrontGraph:
    """A prefix ready to run.

    Attributes:
        path: The ONNX file: input `pixels`, one output a part.
        digest: sha256 of the file, hex: weights, cut and size in one.
        layout: Names and shapes of the parts, `state0 ..` first.
    """

    path: str
    digest: str
    layout: RowLayout


def prepare_front(
    graph: FrozenGraph,
    cache: Path,
    cut: str,
    early: Sequence[str],
    load: Callable[[], Any],
    *,
    state_block: str | None = None,
) -> FrontGraph:
    """Finds the prefix's graph or makes it.

    Args:
        graph: The graph of pooled features.
        cache: The cache folder.
        cut: The first stage after the cut.
        early: Pooled features that are made before the cut; blocks of `graph`.
        load: Gives a torch module from pictures to the tuple (state tensors ..., early features ...); called
            only where the graph has to be made.
        state_block: The block of `graph` that is the pooled state, where the state is one tensor.

    Raises:
        WeightsError: The graph does not give what torch gives.
        CacheError: It cannot be written.
    """
    kind = f"front-{cut}-{'-'.join(early)}"
    folder = graph_folder(cache, graph.backbone, graph.digest, graph.spec.size_hw, kind)
    found = _find(folder)
    if found is not None:
        return found
    private_folder(folder.parent)
    try:
        with atomic_folder(folder) as temporary:
            _make(graph, temporary, early, load(), state_block)
    except OSError as error:
        raise CacheError(
            f"the prepared prefix cannot be written to `{folder.parent}` ({error.strerror or error}).",
            hint="free some space, or name another folder: HEADSTART_CACHE=/some/folder",
        ) from error
    made = _find(folder)
    if made is None:
        raise CacheError(f"the prepared prefix in `{folder}` cannot be read back.", hint="headstart cache clear")
    return made


def _find(folder: Path) -> FrontGraph | None:
    try:
        meta = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
        path = folder / "graph.onnx"
        if path.stat().st_size != meta["size_bytes"]:
            return None
        layout = RowLayout(tuple(meta["names"]), tuple(tuple(s) for s in meta["shapes"]), meta["dtype"])
        return FrontGraph(str(path), meta["digest"], layout)
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
    is_cut_out = num_states == 1 and state_block is not None and _cut_out(graph.path, state_block, early, path)
    if is_cut_out:
        got = OnnxEngine(str(path)).run(example.numpy())
        is_cut_out = got["state0"].shape == expected[0].shape and _difference(got, names, expected) <= _TOLERANCE
    if not is_cut_out:
        _export(module, names, graph.spec.size_hw, path)
        got = OnnxEngine(str(path)).run(example.numpy())
    difference = _difference(got, names, expected)
    if not difference <= _TOLERANCE:
        raise WeightsError(
            f"the prepared prefix differs from the original by {difference:.1e} (relative).",
            hint="please report this with your versions of torch and onnxruntime (headstart doctor)",
        )
    largest = max(float(np.abs(e).max()) for e in expected)
    meta = {
        "names": names,
        "shapes": [e.shape[1:] for e in expected],
        "dtype": "float16" if largest < 4096 else "float32",  # random pixels reach further than pictures do
        "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size_bytes": path.stat().st_size,
    }
    (folder / "graph.json").write_text(json.dumps(meta), encoding="utf-8")


def _difference(got: dict[str, Any], names: Sequence[str], expected: Sequence[Any]) -> float:
    worst = 0.0
    for name, value in zip(names, expected, strict=True):
        worst = max(worst, float(np.abs(got[name] - value).max()) / max(float(np.abs(value).max()), 1e-6))
    return worst


def _cut_out(source: str, state_block: str, early: Sequence[str], target: Path) -> bool:
    """Writes the part of the graph that ends where `state_block` is pooled; False where that is not to be seen."""
    import onnx
    import onnx.helper

    model = onnx.load(source)
    made_by = {name: node for node in model.graph.node for name in node.output}
    pooling = made_by.get(state_block)
    while pooling is not None and pooling.op_type in ("Identity", "Flatten", "Squeeze", "Reshape"):
        pooling = made_by.get(pooling.input[0])
    if pooling is None or pooling.op_type not in ("ReduceMean", "GlobalAveragePool"):
        return False
    state = pooling.input[0]
    outputs = {"state0": state, **{name: name for name in early}}
    alive, kept = set(outputs.values()), []
    for node in reversed(model.graph.node):
        if alive.intersection(node.output):
            kept.append(node)
            alive.update(node.input)
    kept.reverse()
    weights = [t for t in model.graph.initializer if t.name in alive]
    del model.graph.node[:], model.graph.initializer[:], model.graph.output[:], model.graph.value_info[:]
    model.graph.node.extend(kept)
    model.graph.node.append(onnx.helper.make_node("Identity", [state], ["state0"], name="state0"))
    model.graph.initializer.extend(weights)
    for name in outputs:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    onnx.save(model, str(target))
    return True
