"""Test that a graph with replaced weights matches the network, or reports that it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headstart.features.backbone_graph import export_network
from headstart.features.engines import OnnxEngine
from headstart.features.graph_weights import refill_graph

SIZE = (16, 16)


class Small(nn.Module):
    """Convolutions with and without batch norm and bias, and a linear layer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.norm_a = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.b, self.norm_b = nn.Conv2d(6, 8, 3, groups=2), nn.BatchNorm2d(8)
        self.c, self.d = nn.Conv2d(8, 4, 1), nn.Linear(4, 5)
        for norm in (self.norm_a, self.norm_b):
            for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
                tensor.uniform_(0.5, 1.5)
        self.eval()

    def forward(self, x: Any) -> Any:
        low = self.norm_a(self.a(x)).relu()
        high = self.c(self.norm_b(self.b(low)).relu()).mean((2, 3))
        return low.mean((2, 3)), self.d(high)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "small.onnx"
    export_network(Small(0), ("low", "high"), SIZE, path)
    return path


def test_matches_torch(graph: Path, tmp_path: Path) -> None:
    other = Small(1)
    assert refill_graph(graph, other, ("low", "high"), SIZE, tmp_path / "new.onnx")
    pixels = np.random.default_rng(0).normal(size=(3, 3, *SIZE)).astype(np.float32)
    got = OnnxEngine(str(tmp_path / "new.onnx")).run(pixels)
    old = OnnxEngine(str(graph)).run(pixels)
    with torch.no_grad():
        low, high = other(torch.from_numpy(pixels))
    np.testing.assert_allclose(got["low"], low.numpy(), atol=1e-4)
    np.testing.assert_allclose(got["high"], high.numpy(), atol=1e-4)
    assert np.abs(old["high"] - high.numpy()).max() > 1e-2


def test_mismatch_returns_false(graph: Path, tmp_path: Path) -> None:
    class Another(Small):
        def forward(self, x: Any) -> Any:
            low, high = super().forward(x)
            return low, high + 0.01

    assert not refill_graph(graph, Another(1), ("low", "high"), SIZE, tmp_path / "new.onnx")
    assert not refill_graph(graph, Small(1), ("low", "elsewhere"), SIZE, tmp_path / "new.onnx")
    wider = Small(1)
    wider.d = nn.Linear(4, 7)
    assert not refill_graph(graph, wider, ("low", "high"), SIZE, tmp_path / "new.onnx")
