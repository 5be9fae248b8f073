"""Check an ONNX file before ONNX Runtime opens it, for untrusted models.

Parses the protobuf wire format directly, since `onnx` is not a base dependency and ONNX Runtime would open external
files. Refused are external weights, non-standard operators, model-defined functions, training graphs and subgraphs
(branches, loops).
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
    """Refuse a model that refers to other files or has non-standard operators.

    Args:
        data: The serialized `ModelProto`.
        name: What to call it in the message.

    Raises:
        BundleError: It is not an ONNX model, or it holds something that is refused (see the module).
    """
    try:
        _check(memoryview(data), name)
    except _WireError as error:
        raise BundleError(
            f"`{name}` is not a whole ONNX model ({error}).", hint="copy the bundle again, or train it again"
        ) from error


class _WireError(Exception):
    """The bytes are not the protobuf wire format."""


def _check(data: memoryview, name: str) -> None:
    if bytes(data[4:8]) == b"ORTM":
        raise _refusal(name, "is in ONNX Runtime's own format")
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
            raise _refusal(name, "defines functions of its own")
        elif number == _MODEL_TRAINING:
            raise _refusal(name, "holds a training graph")
    if num_graphs != 1:
        raise _WireError(f"it has {num_graphs} graphs where one is expected")


def _check_graph(graph: memoryview, name: str) -> None:
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            _check_node(_message(value), name)
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(_message(value), name)
        elif number == _GRAPH_SPARSE:
            raise _refusal(name, "holds sparse weights")


def _check_node(node: memoryview, name: str) -> None:
    for number, value in _fields(node):
        if number == _NODE_DOMAIN:
            _check_domain(value, name)
        elif number == _NODE_ATTRIBUTE:
            for inner, content in _fields(_message(value)):
                if inner in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    _check_tensor(_message(content), name)
                elif inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                    raise _refusal(name, "holds a branch or a loop")
                elif inner in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
                    raise _refusal(name, "holds sparse weights")


def _check_tensor(tensor: memoryview, name: str) -> None:
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            raise _refusal(name, "keeps weights in other files")


def _check_domain(value: int | memoryview, name: str) -> None:
    domain = bytes(_message(value)).decode("utf-8", "replace")
    if domain not in _STANDARD_DOMAINS:
        raise _refusal(name, f"uses operators outside of the ONNX standard (`{domain}`)")


def _refusal(name: str, what: str) -> BundleError:
    return BundleError(
        f"`{name}` {what}; headstart opens only self-contained models with standard operators.",
        hint="use a bundle that headstart wrote",
    )


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _WireError("a number where a message is expected")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) of one message: numbers as int, everything with a length as a view."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if number == 0 or tag >> 32:  # other readers may drop the high bits and see another field
            raise _WireError("a field has no possible number")
        if kind == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(data, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise _WireError(f"wire type {kind} is not allowed")
        if length > end - position:
            raise _WireError("it ends too early")
        yield number, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise _WireError("it ends too early")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    raise _WireError("a number is too long")
