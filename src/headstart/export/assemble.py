"""Join the graph of a frozen network and a head into `model.onnx`.

Flip averaging, normalizer, affine map and temperature are part of the graph, so that a runtime maps pixels to logits.
Needs only the `onnx` package, not torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import BundleError, MissingExtraError
from headstart.evaluation.principal_directions import MIN_RESIDUAL

if TYPE_CHECKING:
    from headstart.probe.linear import LinearHead

__all__ = ["assemble_direct", "assemble_model", "graph_weights"]

INPUT = "pixels"
_NORM_EPS = 1e-12  # keeps a row of zeros at zero
_MIN_OPSET = 13  # ReduceSum takes its axes as an input from here on


def assemble_model(
    graph: str | Path | bytes,
    head: LinearHead,
    *,
    has_flip: bool = False,
    space: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None] | None = None,
) -> bytes:
    """Create `model.onnx` from a graph of pooled features and a head.

    Args:
        graph: ONNX model with input `pixels` (B, 3, H, W) and one (B, D) output per block.
        head: The head; its blocks are outputs of the graph.
        has_flip: Whether features are the mean over the image and its horizontal flip.
        space: For the OOD score: mean (D,) and leading directions (D, r) of the head's normalized rows, and a (D,)
            mask of the features that it uses, or None for all.

    Returns:
        The serialized model: input `pixels` float32 (B, 3, H, W) normalized, outputs `logits` (B, K) with
        the temperature applied, `embedding` (B, D), the block `embedding` or else the head's last block, and with
        `space` also `residual_norm` (B, 1), the squared residual norm of a normalized row.

    Raises:
        BundleError: A block of the head is not in the graph, or its size differs.
        MissingExtraError: The `onnx` package is not installed.
    """
    onnx = _import_onnx()
    model = _load(onnx, graph)
    names, sizes = head.normalizer.names, head.normalizer.sizes
    widths = _check_graph(model, names)
    for name, size in zip(names, sizes, strict=True):
        if widths[name] != size:
            raise BundleError(f"the head expects {size} features of `{name}`, but the graph has {widths[name]}.")
    embedding = "embedding" if "embedding" in widths else names[-1]
    needed = dict.fromkeys([*names, embedding])
    _keep_outputs(model, needed)
    parts = _Parts(onnx, model)
    source = {name: name for name in needed}
    if has_flip:
        source = _average_flip(parts, {name: widths[name] for name in needed})
    elif embedding != "embedding":
        parts.node("Identity", [embedding], "embedding")
    elif "logits" in widths:
        raise BundleError("the feature graph has an output `logits`, which conflicts with that of the head.")
    joined = [_add_block(parts, head, i, source[name]) for i, name in enumerate(names)]
    features = joined[0] if len(joined) == 1 else parts.node("Concat", joined, "head.features", axis=1)
    weight, bias = head.folded()
    kernel = parts.constant("head.weight", weight[:, :, None, None])
    maps = parts.node("Conv", [features, kernel, parts.constant("head.bias", bias)], "head.logits")  # (B, K, 1, 1)
    parts.node("Flatten", [maps], "logits", axis=1)
    if has_flip:
        parts.node("Identity", [source[embedding]], "embedding")
    outputs = {"logits": len(head.bias), "embedding": widths[embedding]}
    if space is not None:
        _add_residual_norm(parts, features, *space)
        outputs["residual_norm"] = 1
    _set_outputs(onnx, model, outputs)
    return _finish(onnx, model)


def assemble_direct(graph: str | Path | bytes) -> bytes:
    """Create `model.onnx` from a network with its own classifier.

    Args:
        graph: ONNX model with input `pixels` and output `logits` (B, K); `embedding` is kept if present.

    Raises:
        BundleError: The graph has no output `logits`.
        MissingExtraError: The `onnx` package is not installed.
    """
    onnx = _import_onnx()
    model = _load(onnx, graph)
    widths = _check_graph(model, ["logits"])
    keep: dict[str, int] = {name: widths[name] for name in ("logits", "embedding") if name in widths}
    _keep_outputs(model, keep)
    _set_outputs(onnx, model, keep)
    return _finish(onnx, model)


def assemble_detector(graph: str | Path) -> bytes:
    """Create `model.onnx` from a detector, whose outputs are kept.

    Raises:
        BundleError: The opsets of the graph are not supported.
        MissingExtraError: The `onnx` package is not installed.
    """
    onnx = _import_onnx()
    return _finish(onnx, _load(onnx, graph))


def graph_weights(graph: str | Path) -> dict[str, NDArray[np.float32]]:
    """Return the float weights of a graph by name, without operator constants."""
    onnx = _import_onnx()
    tensors = onnx.load(str(graph)).graph.initializer
    return {t.name: onnx.numpy_helper.to_array(t) for t in tensors if t.data_type == onnx.TensorProto.FLOAT and t.dims}


class _Parts:
    """Builder that appends uniquely named nodes and constants to a graph."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self._onnx = onnx
        self._graph = model.graph

    def constant(self, name: str, value: NDArray[Any]) -> str:
        array = value if value.dtype == np.int64 else value.astype(np.float32)
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._graph.node.append(self._onnx.helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def prepend(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._graph.node.insert(0, self._onnx.helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def rename(self, names: dict[str, str]) -> None:
        """Rename tensors in all nodes."""
        for node in self._graph.node:
            for tensors in (node.input, node.output):
                for i, name in enumerate(tensors):
                    if name in names:
                        tensors[i] = names[name]


def _add_block(parts: _Parts, head: LinearHead, index: int, source: str) -> str:
    """Add the normalizer of one block, (B, D) to (B, D, 1, 1), as ONNX operators; return the name of its output.

    Sums over features are 1x1 convolutions, which are computed per image. The summation order of ReduceSum and Gemm
    in ONNX Runtime depends on the batch size, so predictions would depend on the other images of a batch.
    """
    norm = head.normalizer
    prefix = f"head.{norm.names[index]}"
    size = norm.sizes[index]
    shape = (1, size, 1, 1)
    axes = parts.constant(f"{prefix}.axes", np.array([2, 3], dtype=np.int64))
    x = parts.node("Unsqueeze", [source, axes], f"{prefix}.x")
    mean = parts.constant(f"{prefix}.mean", norm.means[index].reshape(shape))
    scale = parts.constant(f"{prefix}.scale", norm.scales[index].reshape(shape))
    centered = parts.node("Sub", [x, mean], f"{prefix}.centered")
    scaled = parts.node("Div", [centered, scale], f"{prefix}.scaled")
    low = parts.constant(f"{prefix}.low", np.array(-norm.clip))
    high = parts.constant(f"{prefix}.high", np.array(norm.clip))
    z = parts.node("Clip", [scaled, low, high], f"{prefix}.z")
    squares = parts.node("Mul", [z, z], f"{prefix}.squares")
    ones = parts.constant(f"{prefix}.ones", np.ones(shape))
    total = parts.node("Conv", [squares, ones], f"{prefix}.total")  # (B, 1, 1, 1)
    length = parts.node("Sqrt", [total], f"{prefix}.length")
    floored = parts.node("Max", [length, parts.constant(f"{prefix}.floor", np.array(_NORM_EPS))], f"{prefix}.floored")
    weight = parts.constant(f"{prefix}.block_weight", np.array(norm.weights[index]))
    factor = parts.node("Div", [weight, floored], f"{prefix}.factor")
    return parts.node("Mul", [z, factor], f"{prefix}.weighted")


def _add_residual_norm(
    parts: _Parts,
    rows: str,
    mean: NDArray[np.float32],
    directions: NDArray[np.float32],
    columns: NDArray[np.float32] | None,
) -> None:
    """Add the output `residual_norm`: the squared residual norm of each row (B, D, 1, 1)."""
    width, count = directions.shape
    if columns is not None:
        counted = parts.constant("rest.columns", columns.reshape(1, width, 1, 1))
        rows = parts.node("Mul", [rows, counted], "rest.counted")
    centered = parts.node("Sub", [rows, parts.constant("rest.mean", mean.reshape(1, width, 1, 1))], "rest.centered")
    kernel = parts.constant("rest.directions", directions.T.reshape(count, width, 1, 1))
    lengths = []
    for name, source, size in (
        ("total", centered, width),
        ("inside", parts.node("Conv", [centered, kernel], "rest.along"), count),
    ):
        squares = parts.node("Mul", [source, source], f"rest.{name}.squares")
        ones = parts.constant(f"rest.{name}.ones", np.ones((1, size, 1, 1)))
        lengths.append(parts.node("Conv", [squares, ones], f"rest.{name}"))  # (B, 1, 1, 1)
    off = parts.node("Sub", lengths, "rest.off")
    least = parts.constant("rest.least", np.array(MIN_RESIDUAL))
    parts.node("Flatten", [parts.node("Max", [off, least], "residual_norm.floored")], "residual_norm", axis=1)


def _average_flip(parts: _Parts, widths: dict[str, int]) -> dict[str, str]:
    """Run the network on images and their flips as one batch of 2 B and average each block."""
    parts.rename({INPUT: "flip.both", **{name: f"flip.{name}" for name in widths}})
    minus_one, axis = np.array([-1], dtype=np.int64), np.array([3], dtype=np.int64)
    start = parts.constant("flip.start", minus_one)
    end = parts.constant("flip.end", np.array([np.iinfo(np.int64).min], dtype=np.int64))
    axes = parts.constant("flip.axes", axis)
    step = parts.constant("flip.step", minus_one)
    parts.prepend("Concat", [INPUT, "flip.reversed"], "flip.both", axis=0)
    parts.prepend("Slice", [INPUT, start, end, axes, step], "flip.reversed")
    half = parts.constant("flip.half", np.array(0.5))
    averaged = {}
    axes0 = parts.constant("flip.axes0", np.array([0], dtype=np.int64))
    for name, width in widths.items():
        shape = parts.constant(f"flip.{name}.shape", np.array([2, -1, width], dtype=np.int64))
        paired = parts.node("Reshape", [f"flip.{name}", shape], f"flip.{name}.paired")  # (2, B, D)
        total = parts.node("ReduceSum", [paired, axes0], f"flip.{name}.total", keepdims=0)  # (B, D)
        averaged[name] = parts.node("Mul", [total, half], f"flip.{name}.mean")
    return averaged


def _import_onnx() -> Any:
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise MissingExtraError("writing a bundle", "train") from error
    return onnx


def _load(onnx: Any, graph: str | Path | bytes) -> Any:
    model = onnx.load_from_string(graph) if isinstance(graph, bytes) else onnx.load(str(graph))
    versions = {opset.domain: opset.version for opset in model.opset_import}
    if set(versions) - {"", "ai.onnx"} or max(versions.values(), default=0) < _MIN_OPSET:
        raise BundleError(f"the feature graph has opsets {versions}; expected only ai.onnx, {_MIN_OPSET} or newer.")
    return model


def _check_graph(model: Any, required: Iterable[str]) -> dict[str, int]:
    """Return the widths of the graph outputs; raise if one is missing."""
    inputs = [value.name for value in model.graph.input]
    if inputs != [INPUT]:
        raise BundleError(f"the feature graph has inputs {inputs}; expected exactly one, called `{INPUT}`.")
    widths = {value.name: value.type.tensor_type.shape.dim[-1].dim_value for value in model.graph.output}
    missing = [name for name in required if name not in widths]
    if missing:
        raise BundleError(f"the feature graph has no output {', '.join(missing)}; it has {', '.join(widths)}.")
    return widths


def _keep_outputs(model: Any, needed: Iterable[str]) -> None:
    """Remove unused nodes and weights; the order of nodes is kept."""
    alive, kept = set(needed), []
    for node in reversed(model.graph.node):
        if alive.intersection(node.output):
            kept.append(node)
            alive.update(node.input)
    kept.reverse()
    weights = [tensor for tensor in model.graph.initializer if tensor.name in alive]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(weights)


def _set_outputs(onnx: Any, model: Any, widths: dict[str, int]) -> None:
    """Declare the model's outputs, each float32 (B, width)."""
    del model.graph.output[:]
    for name, width in widths.items():
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", width])
        model.graph.output.append(value)


def _finish(onnx: Any, model: Any) -> bytes:
    """Make the batch size dynamic, remove debug metadata (such as paths), and check the model."""
    graph = model.graph
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "B"
    for holder in (model, graph, *graph.node, *graph.input, *graph.initializer):
        holder.doc_string = ""
        if hasattr(holder, "metadata_props"):
            del holder.metadata_props[:]
    del graph.value_info[:]
    graph.name = "headstart"
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)  # older runtimes refuse newer ones
    model.producer_name, model.producer_version = "headstart", ""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
