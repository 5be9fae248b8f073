"""Test ZFNet against the layer table of its paper."""

from __future__ import annotations

import pytest
import torch

from headstart.backbones.zfnet import ZFNet


def test_map_sizes_match_paper():
    with torch.device("meta"):
        network = ZFNet()
        x, sides = torch.empty(1, 3, 224, 224), []
        for layer in network.features:
            x = layer(x)
            if type(layer).__name__ in ("Conv2d", "MaxPool2d"):
                sides.append(x.shape[-1])
    assert sides == [110, 55, 26, 13, 13, 13, 13, 6]


def test_parameters_follow_from_the_layer_table():
    convolutions = [(96, 3, 7), (256, 96, 5), (384, 256, 3), (384, 384, 3), (256, 384, 3)]
    expected = sum(out * (inp * k * k + 1) for out, inp, k in convolutions)
    expected += 4096 * (256 * 36 + 1) + 4096 * (4096 + 1) + 1000 * (4096 + 1)
    with torch.device("meta"):
        assert sum(p.numel() for p in ZFNet().parameters()) == expected == 62_357_608


@pytest.mark.long
def test_learns_toy_data():
    torch.manual_seed(0)
    network = ZFNet(num_classes=2, dropout=0.0)
    x = torch.randn(4, 3, 64, 64)
    y = torch.tensor([0, 1, 0, 1])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(network.train()(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
