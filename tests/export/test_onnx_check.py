from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.errors import BundleError
from headstart.inference.onnx_check import check_model


@pytest.fixture
def model(graph_path: Path) -> Any:
    return onnx.load(str(graph_path))


def test_valid_model_passes(model: Any) -> None:
    model.graph.node[0].domain = "ai.onnx"
    check_model(model.SerializeToString())


def test_external_weights_raise(model: Any, tmp_path: Path) -> None:
    onnx.save(model, str(tmp_path / "m.onnx"), save_as_external_data=True, size_threshold=0, location="weights.bin")
    with pytest.raises(BundleError, match="external files"):
        check_model((tmp_path / "m.onnx").read_bytes())


@pytest.mark.parametrize("field", ["external_data", "data_location"])
def test_each_external_data_field_raises(model: Any, field: str) -> None:
    tensor = model.graph.initializer[0]
    if field == "external_data":
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
    else:
        tensor.data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(BundleError, match="external files"):
        check_model(model.SerializeToString())


def test_external_data_in_constant_raises(model: Any) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(2, np.float32), "c")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["c"], value=tensor))
    with pytest.raises(BundleError, match="external files"):
        check_model(model.SerializeToString())


@pytest.mark.parametrize("where", ["node", "opset"])
def test_foreign_operators_raise(model: Any, where: str) -> None:
    if where == "node":
        model.graph.node[0].domain = "com.microsoft"
    else:
        model.opset_import.append(onnx.helper.make_opsetid("my.company", 1))
    with pytest.raises(BundleError, match="non-standard operators"):
        check_model(model.SerializeToString())


def test_functions_branches_and_training_raise(model: Any) -> None:
    def modified(change: Any) -> bytes:
        other = onnx.ModelProto()
        other.CopyFrom(model)
        change(other)
        return bytes(other.SerializeToString())

    def add_function(m: Any) -> None:
        m.functions.add().name = "f"

    def add_training(m: Any) -> None:
        m.training_info.add()

    def add_loop(m: Any) -> None:
        m.graph.node.append(onnx.helper.make_node("Loop", ["n", "c"], ["y"], body=m.graph))

    def add_sparse(m: Any) -> None:
        m.graph.sparse_initializer.add().dims.append(3)

    for change, words in [
        (add_function, "local functions"),
        (add_training, "training graph"),
        (add_loop, "subgraph"),
        (add_sparse, "sparse weights"),
    ]:
        with pytest.raises(BundleError, match=words):
            check_model(modified(change))


def test_malformed_wire_format_raises(model: Any) -> None:
    data = model.SerializeToString()
    # Field 25 (functions), with extra bits that a 32-bit reader drops.
    hidden = bytes([0xCA, 0x81, 0x80, 0x80, 0x10]) + b"\x00"
    # The same model twice: protobuf would merge the graphs.
    for trick in (data + hidden, data + data, data + b"\x00\x00", b"\x3b" + data, b"\x4a\x06..ORTM" + data):
        with pytest.raises(BundleError):
            check_model(trick)


def test_truncated_model_raises_or_is_complete(model: Any) -> None:
    """Truncation raises, or leaves a complete model if the cut is between two fields after the graph."""
    data = model.SerializeToString()
    accepted = []
    for length in range(len(data)):
        try:
            check_model(data[:length])
        except BundleError:
            continue
        accepted.append(length)
    graph_end = data.index(model.graph.SerializeToString()) + len(model.graph.SerializeToString())
    assert all(length >= graph_end for length in accepted)


@given(st.binary(max_size=200))
def test_random_bytes_raise_own_error(noise: bytes) -> None:
    with pytest.raises(BundleError):
        check_model(noise)


@given(st.data())
def test_flipped_bytes_raise_own_error_or_pass(data: st.DataObject) -> None:
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    raw = bytearray(onnx.helper.make_model(graph).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BundleError):
        check_model(bytes(raw))
