"""Test feature maps of backbone stages, whole and split at a cut."""

from __future__ import annotations

import pytest
import torch

from headstart.backbones import Backbone, load_backbone
from headstart.detection.feature_taps import choose_taps, split_taps, tap_maps, tap_prefix, tap_suffix
from headstart.detection.network import Detector, DetectorHead

SIZE = 96


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("efficientnet_lite0", image_size=SIZE)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn((2, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))


def test_taps_are_last_stages_per_stride(backbone: Backbone) -> None:
    taps = choose_taps(backbone.network, 8)
    assert taps.stages == ("stage3", "stage5", "stage7")
    assert taps.strides == (8, 16, 32)
    assert taps.channels == (40, 112, 320)
    assert taps.sizes_hw == ((12, 12), (6, 6), (3, 3))
    assert choose_taps(backbone.network, 16).stages == ("stage5", "stage7")


@pytest.mark.parametrize("cut", ["stage2", "stage4", "stage5", "stage6", "stage7", "neck"])
def test_prefix_and_suffix_match_whole(backbone: Backbone, pixels: torch.Tensor, cut: str) -> None:
    network, stages = backbone.network, choose_taps(backbone.network, 8).stages
    with torch.no_grad():
        whole = tap_maps(network, stages)(pixels)
        halves = tap_suffix(network, cut, stages)(*tap_prefix(network, cut, stages)(pixels))
    assert len(halves) == len(whole) == 3
    for a, b in zip(halves, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_state_map_is_stored_once(backbone: Backbone, pixels: torch.Tensor) -> None:
    network, stages = backbone.network, choose_taps(backbone.network, 8).stages
    assert split_taps(network, "stage6", stages) == (("stage3", "stage5"), ("stage7",))
    with torch.no_grad():
        assert len(tap_prefix(network, "stage6", stages)(pixels)) == 2  # the map of stage 5 is what crosses the cut
        assert len(tap_prefix(network, "stage5", stages)(pixels)) == 2
        assert len(tap_prefix(network, "neck", stages)(pixels)) == 3


def test_flipped_images_give_flipped_boxes(backbone: Backbone, pixels: torch.Tensor) -> None:
    taps = choose_taps(backbone.network, 8)
    head = DetectorHead(taps.channels, taps.strides, 2, width=16, depth=1).eval()
    torch.nn.init.normal_(head.box_out.weight, std=0.3)
    both = Detector(tap_maps(backbone.network, taps.stages), head, taps.sizes_hw, has_flip_tta=True).eval()
    with torch.no_grad():
        logits, boxes = both(pixels)
        other_logits, other = both(pixels.flip(-1))
    assert torch.sigmoid(logits).shape == (2, 144 + 36 + 9, 2)
    torch.testing.assert_close(other_logits[:, both.order], logits, rtol=1e-4, atol=1e-4)
    turned = torch.stack((SIZE - other[..., 2], other[..., 1], SIZE - other[..., 0], other[..., 3]), -1)
    torch.testing.assert_close(turned[:, both.order], boxes, rtol=1e-3, atol=1e-2)


def test_suffix_gradients_match_whole(backbone: Backbone, pixels: torch.Tensor) -> None:
    network, stages = backbone.network, choose_taps(backbone.network, 16).stages
    stage6 = [p for n, p in network.network.named_parameters() if network.map.stage_of[n] >= network.position("stage6")]

    def gradients(maps: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        loss = torch.stack([m.square().mean() for m in maps]).sum()
        return list(torch.autograd.grad(loss, [p for p in stage6 if p.requires_grad], allow_unused=True))

    with torch.no_grad():
        row = tap_prefix(network, "stage6", stages)(pixels)
    cached = gradients(tap_suffix(network, "stage6", stages)(*row))
    whole = gradients(tap_maps(network, stages)(pixels))
    assert sum(g is not None for g in cached) > 10
    for a, b in zip(cached, whole, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
