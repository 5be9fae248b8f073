"""Test attribution: analytic gradient, Grad-CAM equality, shuffled control."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from headstart.probe.linear import LinearHead
from headstart.probe.normalize import Normalizer, fit_normalizer
from headstart.reports.attribution import Mapper, head_gradient, mean_similarity, paint, rank_correlation

onnx = pytest.importorskip("onnx")

WIDTHS = {"stage1": 5, "embedding": 7}


def random_head(rng: np.random.Generator, num_classes: int = 3) -> tuple[LinearHead, Normalizer]:
    blocks = {n: rng.gamma(2.0, size=(50, d)).astype(np.float32) for n, d in WIDTHS.items()}
    normalizer = fit_normalizer(blocks).restrict(tuple(WIDTHS), (1.0, 0.5))
    weight = rng.normal(size=(num_classes, sum(WIDTHS.values()))).astype(np.float32)
    return LinearHead(normalizer, weight, rng.normal(size=num_classes).astype(np.float32), 0.7), normalizer


def network(rng: np.random.Generator) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Export two convolutions, pooled to `stage1` (5) and, through a Reshape, to `embedding` (7)."""
    helper, kinds = onnx.helper, onnx.TensorProto
    first = rng.normal(size=(5, 3, 3, 3)).astype(np.float32)
    second = rng.normal(size=(7, 5, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixels", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["map1"]),
        helper.make_node("ReduceMean", ["map1", "axes"], ["stage1"], keepdims=0),
        helper.make_node("Conv", ["map1", "second"], ["b"], strides=[2, 2]),
        helper.make_node("Relu", ["b"], ["map2"]),
        helper.make_node("ReduceMean", ["map2", "axes"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "shape"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("pixels", kinds.FLOAT, ["B", 3, 8, 8])],
        [helper.make_tensor_value_info(n, kinds.FLOAT, ["B", d]) for n, d in WIDTHS.items()],
        [
            onnx.numpy_helper.from_array(first, "first"),
            onnx.numpy_helper.from_array(second, "second"),
            onnx.numpy_helper.from_array(np.array([2, 3]), "axes"),
            onnx.numpy_helper.from_array(np.array([-1, 7]), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString()), first, second


def log_odds(head: LinearHead, blocks: dict[str, np.ndarray], k: int) -> np.ndarray:
    logits = head.normalizer.transform(blocks) @ head.weight.T.astype(np.float64) + head.bias
    logits = logits / head.temperature
    others = np.delete(logits, k, axis=1)
    return np.asarray(logits[:, k] - np.log(np.exp(others).sum(axis=1)))


@pytest.mark.parametrize("num_classes", [2, 3, 6])
def test_analytic_gradient_matches_autograd(num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    head, _ = random_head(rng, num_classes)
    blocks = {n: rng.gamma(2.0, size=(4, d)).astype(np.float64) for n, d in WIDTHS.items()}
    blocks["stage1"][0, 0] = 500.0  # beyond the clip: no gradient there
    for k in range(num_classes):
        gradient = head_gradient(head, blocks, np.full(4, k))  # type: ignore[arg-type]
        for name, width in WIDTHS.items():
            for d in range(width):
                up, down = ({n: v.copy() for n, v in blocks.items()} for _ in range(2))
                up[name][:, d] += 1e-5
                down[name][:, d] -= 1e-5
                expected = (log_odds(head, up, k) - log_odds(head, down, k)) / 2e-5
                np.testing.assert_allclose(gradient[name][:, d], expected, atol=1e-6, rtol=1e-4)


def test_map_locates_class_evidence() -> None:
    rng = np.random.default_rng(1)
    head, _ = random_head(rng)
    model, _, _ = network(rng)
    mapper = Mapper.open(model, head)
    assert mapper.names == ("stage1", "embedding")
    pixels = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    maps = mapper.maps(pixels, np.array([0, 2]))
    assert maps.shape == (2, 8, 8)
    assert maps.min() == 0.0
    assert maps.max() > 0.0
    alone = mapper.maps(pixels[:1], np.array([0]))
    np.testing.assert_allclose(alone[0], maps[0], atol=1e-5)


def test_control_shuffles_weights() -> None:
    rng = np.random.default_rng(2)
    head, _ = random_head(rng)
    model, _, _ = network(rng)
    pixels = rng.normal(size=(24, 3, 8, 8)).astype(np.float32)
    ids = rng.integers(0, 3, 24)
    real, again = Mapper.open(model, head).maps(pixels, ids), Mapper.open(model, head).maps(pixels, ids)
    control = Mapper.open(model, head, is_control=True).maps(pixels, ids)
    assert mean_similarity(list(real), list(again)) == pytest.approx(1.0)
    assert mean_similarity(list(real), list(control)) < 0.5


def test_network_without_maps_raises() -> None:
    head, _ = random_head(np.random.default_rng(3))
    helper, kinds = onnx.helper, onnx.TensorProto
    names = list(WIDTHS)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["pixels"], [n]) for n in names],
        "flat",
        [helper.make_tensor_value_info("pixels", kinds.FLOAT, ["B", 3, 8, 8])],
        [helper.make_tensor_value_info(n, kinds.FLOAT, None) for n in names],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(ValueError, match="no block"):
        Mapper.open(model.SerializeToString(), head)


def test_rank_correlation_of_flat_and_equal_maps() -> None:
    ramp = np.arange(12.0).reshape(3, 4)
    assert rank_correlation(ramp, ramp**3) == pytest.approx(1.0)
    assert rank_correlation(ramp, -ramp) == pytest.approx(-1.0)
    assert rank_correlation(ramp, np.zeros((3, 4))) == 0.0


def test_overlay_is_bright_at_map_maximum() -> None:
    image = np.full((80, 60, 3), 120, dtype=np.uint8)
    attribution = np.zeros((7, 7))
    attribution[1, 5] = 1.0
    painted = np.asarray(Image.open(io.BytesIO(paint(image, attribution))).convert("RGB"), dtype=float)
    assert painted.shape == (144, 108, 3)
    warmth = painted[..., 0] - painted[..., 2]
    row, column = np.unravel_index(warmth.argmax(), warmth.shape)
    assert row < 72
    assert column > 54


@pytest.mark.long
def test_map_matches_captum_grad_cam() -> None:
    import torch
    from captum.attr import LayerGradCam

    rng = np.random.default_rng(4)
    head, normalizer = random_head(rng)
    only = LinearHead(normalizer.restrict(("embedding",), (1.0,)), head.weight[:, 5:], head.bias, head.temperature)
    model, first, second = network(rng)

    class Network(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.nn.ReLU()

        def forward(self, x):  # type: ignore[no-untyped-def]
            x = torch.relu(torch.nn.functional.conv2d(x, torch.from_numpy(first), padding=1))
            x = self.last(torch.nn.functional.conv2d(x, torch.from_numpy(second), stride=2)).mean(dim=(2, 3))
            mean, scale = (torch.from_numpy(v[0]) for v in (only.normalizer.means, only.normalizer.scales))
            z = ((x - mean) / scale).clamp(-5, 5)
            z = z / z.norm(dim=1, keepdim=True)
            logits = (z @ torch.from_numpy(only.weight).T + torch.from_numpy(only.bias)) / only.temperature
            own = logits[:, 1]
            return (own - torch.logsumexp(logits[:, [0, 2]], dim=1))[:, None]

    net = Network()
    pixels = rng.normal(size=(3, 3, 8, 8)).astype(np.float32)
    expected = LayerGradCam(net, net.last).attribute(torch.from_numpy(pixels), target=0)
    expected = expected.detach().numpy()[:, 0] * 16  # captum averages the gradient over the 4 x 4 positions
    expected = np.maximum(expected - expected.mean(axis=(1, 2), keepdims=True), 0.0)
    result = Mapper.open(model, only).maps(pixels, np.array([1, 1, 1]))
    np.testing.assert_allclose(result, expected, atol=1e-4)
