from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from tiny_models import WIDTHS, make_graph, make_head

from headstart.errors import BundleError
from headstart.export.assemble import assemble_direct, assemble_model, graph_weights
from headstart.inference.session import open_session


def run(model: bytes | Path, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"pixels": pixels}), strict=True))


@pytest.fixture
def pixels() -> NDArray[np.float32]:
    return np.random.default_rng(2).normal(size=(6, 3, 24, 32)).astype(np.float32)


@pytest.mark.parametrize(
    "names", [("stage1",), ("stage2", "stage1"), ("embedding",), ("stage1", "stage2", "embedding")]
)
@pytest.mark.parametrize("has_flip", [False, True])
def test_graph_equals_head(
    graph_path: Path, pixels: NDArray[np.float32], names: tuple[str, ...], has_flip: bool
) -> None:
    head = make_head({name: WIDTHS[name] for name in names})
    blocks = run(graph_path, pixels)
    if has_flip:
        flipped = run(graph_path, np.ascontiguousarray(pixels[..., ::-1]))
        blocks = {name: (block + flipped[name]) / 2 for name, block in blocks.items()}
    outputs = run(assemble_model(graph_path, head, has_flip=has_flip), pixels)
    assert set(outputs) == {"logits", "embedding"}
    assert np.abs(outputs["logits"] - head.logits(blocks)).max() < 2e-5
    assert np.abs(outputs["logits"]).max() > 1
    assert np.allclose(outputs["embedding"], blocks["embedding"], atol=1e-6)


def test_graph_clips_and_handles_constant_rows(graph_path: Path, pixels: NDArray[np.float32]) -> None:
    """Rows far outside the training data, and exactly at its mean."""
    blocks = run(graph_path, pixels * 1000)
    head = make_head()
    expected = head.logits(blocks)
    assert np.allclose(run(assemble_model(graph_path, head), pixels * 1000)["logits"], expected, atol=2e-5)
    zero = run(graph_path, pixels[:1] * 0)  # the tiny network gives zeros
    on_mean = make_head()
    for name, mean in zip(on_mean.normalizer.names, on_mean.normalizer.means, strict=True):
        mean[:] = zero[name][0]
    logits = run(assemble_model(graph_path, on_mean), pixels[:1] * 0)["logits"]
    assert np.allclose(logits, on_mean.bias / on_mean.temperature)


def test_network_without_embedding_block(tmp_path: Path, pixels: NDArray[np.float32]) -> None:
    graph = make_graph(tmp_path / "g.onnx", {"a": 4, "b": 6})
    head = make_head({"a": 4})
    for has_flip in (False, True):
        outputs = run(assemble_model(graph, head, has_flip=has_flip), pixels)
        assert outputs["embedding"].shape == (6, 4)


def test_unused_blocks_are_pruned(graph_path: Path, tmp_path: Path) -> None:
    graph = make_graph(tmp_path / "g.onnx", {"a": 4, "embedding": 6, "c": 99})  # `c` is not needed
    model = onnx.load_from_string(assemble_model(graph, make_head({"a": 4})))
    tensors = {tensor.name for tensor in model.graph.initializer}
    assert "c.weight" not in tensors
    assert {"a.weight", "embedding.weight"} <= tensors
    assert not any("c." in name for node in model.graph.node for name in node.output)


def test_graph_has_no_machine_metadata(graph_path: Path) -> None:
    model = onnx.load(str(graph_path))
    model.doc_string = model.graph.doc_string = "/home/anna/secret"
    for node in model.graph.node:
        node.doc_string = "/home/anna/secret"
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/anna/secret")
    model.metadata_props.add(key="k", value="/home/anna/secret")
    data = assemble_model(model.SerializeToString(), make_head())
    assert b"anna" not in data
    assert data == assemble_model(model.SerializeToString(), make_head())  # the same bytes each time


@pytest.mark.parametrize("has_flip", [False, True])
@pytest.mark.parametrize("num_classes", [2, 5, 100])
def test_same_bits_in_any_batch(tmp_path: Path, has_flip: bool, num_classes: int) -> None:
    """Widths are multiples of 8, as in real networks."""
    widths = {"a": 16, "embedding": 320}
    graph = make_graph(tmp_path / "g.onnx", widths)
    model = assemble_model(graph, make_head(widths, num_classes), has_flip=has_flip)
    pixels = np.random.default_rng(0).normal(size=(13, 3, 24, 32)).astype(np.float32)
    results: list[NDArray[Any]] = []
    for num_threads in (1, 2, 3):
        session = open_session(model, num_threads)
        for batch in (1, 2, 5, 13):
            rows = [session.run(["logits"], {"pixels": pixels[i : i + batch]})[0] for i in range(0, 13, batch)]
            results.append(np.concatenate(rows))
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_direct_model_keeps_network_logits(tmp_path: Path, pixels: NDArray[np.float32]) -> None:
    graph = make_graph(tmp_path / "g.onnx", {"stage1": 4, "embedding": 8, "logits": 9})
    outputs = run(assemble_direct(graph), pixels)
    expected = run(graph, pixels)
    assert set(outputs) == {"logits", "embedding"}
    assert np.array_equal(outputs["logits"], expected["logits"])
    assert set(run(assemble_direct(make_graph(tmp_path / "h.onnx", {"logits": 3})), pixels)) == {"logits"}


def test_mismatch_is_reported(graph_path: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no output stage9"):
        assemble_model(graph_path, make_head({"stage9": 4}))
    with pytest.raises(BundleError, match="expects 4 features of `stage1`, but the graph has 5"):
        assemble_model(graph_path, make_head({"stage1": 4}))
    with pytest.raises(BundleError, match="no output logits"):
        assemble_direct(graph_path)
    model = onnx.load(str(graph_path))
    model.graph.input[0].name = "image"
    with pytest.raises(BundleError, match="expected exactly one, called `pixels`"):
        assemble_model(model.SerializeToString(), make_head())
    model = onnx.load(str(graph_path))
    model.opset_import[0].version = 11
    with pytest.raises(BundleError, match="13 or newer"):
        assemble_model(model.SerializeToString(), make_head())


def test_graph_weights(graph_path: Path) -> None:
    weights = graph_weights(graph_path)
    assert set(weights) == {f"{name}.weight" for name in WIDTHS}  # the axes are a constant, no weight
    assert weights["stage2.weight"].shape == (7, 5, 3, 3)
