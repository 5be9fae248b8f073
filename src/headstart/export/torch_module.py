"""Rebuild the network of a bundle as a torch module, from `model.onnx`.

The module computes what the bundle computes, from normalized pixels to its outputs: backbone, normalizer, head and
temperature. It needs neither the source of the backbone nor its weights, so that it is the same for every strategy and
task. Batch norm is folded into the convolutions, as in the bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from headstart.errors import BundleError

__all__ = ["BundleModule"]

_WEIGHTED = frozenset(("BatchNormalization", "Conv", "Gemm", "LayerNormalization", "MatMul"))
_Values = Sequence[Any]
_Operator = Callable[[_Values, Mapping[str, Any]], Any]


class BundleModule(nn.Module):  # type: ignore[misc]
    """The network of a bundle, in eval mode; weights of its layers are parameters, statistics and constants buffers.

    Args:
        model: Contents of `model.onnx`.

    Raises:
        BundleError: An operator of the graph is not supported.
    """

    def __init__(self, model: bytes) -> None:
        super().__init__()
        import onnx

        graph = onnx.load_from_string(model).graph
        self.output_names = tuple(value.name for value in graph.output)
        self._input = graph.input[0].name
        self._constants: dict[str, str] = {}
        weights = {name for node in graph.node if node.op_type in _WEIGHTED for name in node.input[1:3]}
        self._weights = {n for n in weights if not n.startswith("head.") or n in ("head.weight", "head.bias")}
        for tensor in graph.initializer:
            self._add(tensor.name, onnx.numpy_helper.to_array(tensor))
        self._nodes: list[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]]] = []
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                self._add(node.output[0], onnx.numpy_helper.to_array(attributes["value"]))
                continue
            if node.op_type not in _OPERATORS:
                raise BundleError(f"the operator `{node.op_type}` of the model has no torch module yet.")
            self._nodes.append((node.op_type, tuple(node.input), tuple(node.output), attributes))
        self.eval()

    def _add(self, name: str, value: np.ndarray[Any, Any]) -> None:
        tensor, own = torch.from_numpy(np.array(value)), name.replace(".", "__") or "constant"
        own = f"tensor_{len(self._constants)}_{own}"
        self._constants[name] = own
        if tensor.is_floating_point() and name in self._weights:
            self.register_parameter(own, nn.Parameter(tensor))
        else:
            self.register_buffer(own, tensor)

    def forward(self, pixels: Any) -> Any:
        """Return the outputs of the bundle, in the order of `output_names`, of pixels (B, 3, H, W)."""
        values: dict[str, Any] = {name: getattr(self, own) for name, own in self._constants.items()}
        values |= {self._input: pixels, "": None}
        for kind, inputs, outputs, attributes in self._nodes:
            result = _OPERATORS[kind]([values[name] for name in inputs], attributes)
            values.update(zip(outputs, result if isinstance(result, tuple) else (result,), strict=False))
        return tuple(values[name] for name in self.output_names)


def _padded(x: Any, attributes: Mapping[str, Any], kernel: Sequence[int], value: float = 0.0) -> Any:
    """Return maps padded as the attributes of a convolution or pooling say."""
    auto = bytes(attributes.get("auto_pad", b"NOTSET")).decode()
    if auto not in ("NOTSET", "VALID"):
        raise BundleError(f"the padding `{auto}` of the model has no torch module yet.")
    pads = list(attributes.get("pads", [0] * (2 * len(kernel))))
    half = len(pads) // 2
    if not any(pads):
        return x
    order = [p for axis in reversed(range(half)) for p in (pads[axis], pads[axis + half])]
    return functional.pad(x, order, value=value)


def _conv(v: _Values, a: Mapping[str, Any]) -> Any:
    x = _padded(v[0], a, v[1].shape[2:])
    bias = v[2] if len(v) > 2 else None
    steps, dilations = tuple(a.get("strides", (1, 1))), tuple(a.get("dilations", (1, 1)))
    return functional.conv2d(x, v[1], bias, steps, 0, dilations, a.get("group", 1))


def _max_pool(v: _Values, a: Mapping[str, Any]) -> Any:
    kernel = tuple(a["kernel_shape"])
    x = _padded(v[0], a, kernel, float("-inf"))
    return functional.max_pool2d(
        x, kernel, tuple(a.get("strides", (1, 1))), 0, tuple(a.get("dilations", (1, 1))), bool(a.get("ceil_mode", 0))
    )


def _average_pool(v: _Values, a: Mapping[str, Any]) -> Any:
    pads, kernel = list(a.get("pads", (0, 0, 0, 0))), tuple(a["kernel_shape"])
    if pads[:2] != pads[2:]:
        raise BundleError("uneven padding of an average pooling has no torch module yet.")
    steps, is_ceil = tuple(a.get("strides", (1, 1))), bool(a.get("ceil_mode", 0))
    return functional.avg_pool2d(v[0], kernel, steps, tuple(pads[:2]), is_ceil, bool(a.get("count_include_pad", 0)))


def _axes(v: _Values, a: Mapping[str, Any]) -> tuple[int, ...] | None:
    given = v[1].tolist() if len(v) > 1 and v[1] is not None else a.get("axes")
    return None if given is None else tuple(given)


def _reduce(function: Callable[..., Any]) -> _Operator:
    def run(v: _Values, a: Mapping[str, Any]) -> Any:
        axes = _axes(v, a)
        return function(v[0], dim=tuple(range(v[0].ndim)) if axes is None else axes, keepdim=bool(a.get("keepdims", 1)))

    return run


def _clip(v: _Values, a: Mapping[str, Any]) -> Any:
    low, high = (v[i] if len(v) > i else None for i in (1, 2))
    return torch.clamp(v[0], low, high)


def _reshape(v: _Values, a: Mapping[str, Any]) -> Any:
    shape = [v[0].shape[i] if n == 0 and not a.get("allowzero") else n for i, n in enumerate(v[1].tolist())]
    return v[0].reshape(shape)


def _unsqueeze(v: _Values, a: Mapping[str, Any]) -> Any:
    x, axes = v[0], _axes(v, a) or ()
    for axis in sorted(i % (v[0].ndim + len(axes)) for i in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(v: _Values, a: Mapping[str, Any]) -> Any:
    axes = _axes(v, a)
    return v[0].squeeze() if axes is None else v[0].squeeze(axes)


def _flatten(v: _Values, a: Mapping[str, Any]) -> Any:
    axis = a.get("axis", 1)
    rows = int(np.prod(v[0].shape[:axis]))
    return v[0].reshape(rows, -1)


def _slice(v: _Values, a: Mapping[str, Any]) -> Any:
    starts, ends = v[1].tolist(), v[2].tolist()
    axes = v[3].tolist() if len(v) > 3 and v[3] is not None else range(len(starts))
    steps = v[4].tolist() if len(v) > 4 else [1] * len(starts)
    x = v[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        wanted = range(x.shape[axis])[slice(start, None if step < 0 and end < -x.shape[axis] else end, step)]
        x = x.index_select(axis, torch.tensor(list(wanted), device=x.device))
    return x


def _gemm(v: _Values, a: Mapping[str, Any]) -> Any:
    left, right = v[0].T if a.get("transA") else v[0], v[1].T if a.get("transB") else v[1]
    product = a.get("alpha", 1.0) * (left @ right)
    return product + a.get("beta", 1.0) * v[2] if len(v) > 2 else product


def _resize(v: _Values, a: Mapping[str, Any]) -> Any:
    if bytes(a.get("mode", b"nearest")) != b"nearest" or bytes(
        a.get("coordinate_transformation_mode", b"half_pixel")
    ) not in (b"asymmetric", b"half_pixel"):
        raise BundleError("the resizing of the model has no torch module yet.")
    sizes = v[3].tolist()[2:] if len(v) > 3 and v[3] is not None else None
    scales = None if sizes is not None else tuple(v[2].tolist()[2:])
    return functional.interpolate(v[0], size=sizes, scale_factor=scales, mode="nearest")


def _batch_norm(v: _Values, a: Mapping[str, Any]) -> Any:
    x, weight, bias, mean, variance = v[:5]
    return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, a.get("epsilon", 1e-5))


def _layer_norm(v: _Values, a: Mapping[str, Any]) -> Any:
    shape = v[0].shape[a.get("axis", -1) % v[0].ndim :]
    return functional.layer_norm(v[0], shape, v[1], v[2] if len(v) > 2 else None, a.get("epsilon", 1e-5))


def _elementwise(function: Callable[..., Any]) -> _Operator:
    return lambda v, a: function(*v)


_OPERATORS: dict[str, _Operator] = {
    **{
        name: _elementwise(function)
        for name, function in {
            "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Pow": torch.pow, "Max": torch.maximum,
            "Min": torch.minimum, "MatMul": torch.matmul, "Sqrt": torch.sqrt, "Exp": torch.exp, "Log": torch.log,
            "Abs": torch.abs, "Neg": torch.neg, "Erf": torch.erf, "Tanh": torch.tanh, "Relu": torch.relu,
            "Sigmoid": torch.sigmoid, "HardSwish": functional.hardswish, "Reciprocal": torch.reciprocal,
            "Softplus": functional.softplus,
        }.items()
    },
    "Div": lambda v, a: torch.div(v[0], v[1], rounding_mode=None if v[0].is_floating_point() else "trunc"),
    "Identity": lambda v, a: v[0],
    "Conv": _conv,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda v, a: v[0].mean((2, 3), keepdim=True),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "ReduceMax": _reduce(torch.amax),
    "Clip": _clip,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": lambda v, a: v[0].permute(tuple(a["perm"])),
    "Concat": lambda v, a: torch.cat(list(v), a["axis"]),
    "Slice": _slice,
    "Gather": lambda v, a: _gather(v, a),
    "GatherND": lambda v, a: _gather_nd(v, a),
    "Split": lambda v, a: _split(v, a),
    "Shape": lambda v, a: torch.tensor(v[0].shape[a.get("start", 0) : a.get("end")]),
    "Range": lambda v, a: torch.arange(*(x.item() for x in v), dtype=v[0].dtype),
    "Expand": lambda v, a: v[0].expand(torch.broadcast_shapes(v[0].shape, tuple(v[1].tolist()))),
    "Softmax": lambda v, a: torch.softmax(v[0], a.get("axis", -1)),
    "Gelu": lambda v, a: functional.gelu(v[0], approximate=bytes(a.get("approximate", b"none")).decode()),
    "HardSigmoid": lambda v, a: torch.clamp(a.get("alpha", 0.2) * v[0] + a.get("beta", 0.5), 0, 1),
    "Gemm": _gemm,
    "Resize": _resize,
}  # fmt: skip


def _gather_nd(v: _Values, a: Mapping[str, Any]) -> Any:
    if a.get("batch_dims", 0):
        raise BundleError("`GatherND` with batch dimensions has no torch module yet.")
    return v[0][tuple(v[1].unbind(-1))]


def _split(v: _Values, a: Mapping[str, Any]) -> Any:
    axis = a.get("axis", 0)
    if len(v) > 1 and v[1] is not None:
        return torch.split(v[0], v[1].tolist(), axis)
    return torch.chunk(v[0], int(a["num_outputs"]), axis)


def _gather(v: _Values, a: Mapping[str, Any]) -> Any:
    axis = a.get("axis", 0) % v[0].ndim
    index = v[1].reshape(-1)
    rows = v[0].index_select(axis, torch.where(index < 0, index + v[0].shape[axis], index))
    return rows.reshape(*v[0].shape[:axis], *v[1].shape, *v[0].shape[axis + 1 :])
