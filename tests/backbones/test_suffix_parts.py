"""Test that segments between two cuts match the whole network."""

from __future__ import annotations

import pytest
import torch

from headstart.backbones import load_backbone
from headstart.backbones.suffix_parts import middle
from headstart.errors import UsageError


@pytest.mark.parametrize(("begin", "end"), [("stem", "head"), ("last-1", "head"), ("stage2", "neck")])
def test_middle_maps_one_state_to_the_next(begin: str, end: str) -> None:
    backbone = load_backbone("resnet18", weights="none", image_size=64)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        state = backbone.prefix(begin)(pixels)
        states = tuple(state) if isinstance(state, (tuple, list)) else (state,)
        output = middle(backbone.network, begin, end)(*states)
        expected = backbone.prefix(end)(pixels)
    assert isinstance(output, tuple)
    torch.testing.assert_close(output[0], expected if torch.is_tensor(expected) else expected[0])


def test_empty_segment_raises() -> None:
    network = load_backbone("resnet18", weights="none", image_size=64).network
    with pytest.raises(UsageError, match="no layers between"):
        middle(network, "head", "stage2")


def test_random_weights_are_the_same_every_time() -> None:
    first, second = (load_backbone("shufflenet_v2_x0_5", weights="none", image_size=64) for _ in range(2))
    other = second.module.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in first.module.state_dict().items())
