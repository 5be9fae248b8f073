"""Validate an untrusted ONNX file before ONNX Runtime opens it.

The protobuf wire format is parsed directly: `onnx` is not a base dependency, and ONNX Runtime would open external
files. External weights, non-standard operators, model-local functions, training graphs and subgraphs (If, Loop) are
rejected.
"""

from __future__ import annotations

from collections.abc import Iterator

from headstart.errors import BundleError

__all__ = ["check_model"]

_STANDARD_DOMAINS = {"", "ai.onnx"}

# Field numbers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (stable since 2017).
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_OPSET_DOMAIN = 1
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 22, 23
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


def check_model(data: bytes | memoryview, name: str = "model.onnx") -> None:
    """Raise an error for a model with external weights, non-standard operators or other rejected content.

    Args:
        data: The serialized `ModelProto`.
        name: File name for error messages.

    Raises:
        BundleError: The data are not an ONNX model, or contain something listed in the module docstring.
    """
    try:
        _check(memoryview(data), name)
    except _WireError as error:
        raise BundleError(
            f"`{name}` is not a valid ONNX model ({error}).", hint="copy the bundle again, or train it again"
        ) from error


class _WireError(Exception):
    """The bytes are not valid protobuf wire format."""


def _check(data: memoryview, name: str) -> None:
    if bytes(data[4:8]) == b"ORTM":
        raise _refusal(name, "is in the ORT format")
    num_graphs = 0
    for number, value in _fields(data):
        if number == _MODEL_GRAPH:
            num_graphs += 1
            _check_graph(_message(value), name)
        elif number == _MODEL_OPSET:
            for inner, domain in _fields(_message(value)):
                if inner == _OPSET_DOMAIN:
                    _check_domain(domain, name)
        elif number == _MODEL_FUNCTIONS:
            raise _refusal(name, "defines local functions")
        elif number == _MODEL_TRAINING:
            raise _refusal(name, "contains a training graph")
    if num_graphs != 1:
        raise _WireError(f"expected one graph, got {num_graphs}")


def _check_graph(graph: memoryview, name: str) -> None:
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            _check_node(_message(value), name)
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(_message(value), name)
        elif number == _GRAPH_SPARSE:
            raise _refusal(name, "contains sparse weights")


def _check_node(node: memoryview, name: str) -> None:
    for number, value in _fields(node):
        if number == _NODE_DOMAIN:
            _check_domain(value, name)
        elif number == _NODE_ATTRIBUTE:
            for inner, content in _fields(_message(value)):
                if inner in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    _check_tensor(_message(content), name)
                elif inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                    raise _refusal(name, "contains a subgraph (If, Loop or Scan)")
                elif inner in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
                    raise _refusal(name, "contains sparse weights")


def _check_tensor(tensor: memoryview, name: str) -> None:
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            raise _refusal(name, "stores weights in external files")


def _check_domain(value: int | memoryview, name: str) -> None:
    domain = bytes(_message(value)).decode("utf-8", "replace")
    if domain not in _STANDARD_DOMAINS:
        raise _refusal(name, f"uses non-standard operators (domain `{domain}`)")


def _refusal(name: str, what: str) -> BundleError:
    return BundleError(
        f"`{name}` {what}; headstart opens only self-contained models with standard ONNX operators.",
        hint="use a bundle written by headstart",
    )


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _WireError("expected a message, got a number")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) of one message: varints as int, everything else as a memoryview."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if number == 0 or tag >> 32:  # other parsers may drop the high bits and read another field
            raise _WireError("invalid field number")
        if wire_type == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire_type == 2:
            length, position = _varint(data, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise _WireError(f"unsupported wire type {wire_type}")
        if length > end - position:
            raise _WireError("unexpected end of data")
        yield number, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise _WireError("unexpected end of data")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    raise _WireError("varint longer than 10 bytes")
