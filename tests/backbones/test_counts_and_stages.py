"""Test published parameter counts of every listed network, and the stage tables of twelve."""

from __future__ import annotations

import pytest
import torch

from headstart.backbones.build import build_empty
from headstart.backbones.cards import find_card, list_cards
from headstart.backbones.library import library_table
from headstart.backbones.loading import Backbone
from headstart.backbones.rules import AUXILIARY, NoStagesError, map_stages
from headstart.backbones.stages import StagedNetwork

# Source: `num_params` in the metadata of torchvision's weights, which its documentation prints.
TORCHVISION = {
    "alexnet": 61100840, "googlenet": 6624904, "vgg16": 138357544, "vgg16_bn": 138365992, "vgg19": 143667240,
    "vgg19_bn": 143678248, "resnet18": 11689512, "resnet34": 21797672, "resnet50": 25557032, "resnet101": 44549160,
    "resnet152": 60192808, "wide_resnet50_2": 68883240, "resnext50": 25028904, "resnext101": 88791336,
    "resnext101_64x4d": 83455272, "mnasnet": 4383312, "densenet121": 7978856, "densenet169": 14149480,
    "densenet201": 20013928, "mobilenetv2": 3504872, "mobilenetv3_large": 5483032, "mobilenetv3_small": 2542856,
    "efficientnet_b0": 5288548, "efficientnet_b1": 7794184, "efficientnet_b2": 9109994, "efficientnet_b3": 12233232,
    "efficientnet_b4": 19341616, "convnext_tiny": 28589128, "convnext_small": 50223688, "convnext_base": 88591464,
    "squeezenet1_0": 1248424, "squeezenet1_1": 1235496, "shufflenet_v2_x0_5": 1366792, "shufflenet_v2_x1_0": 2278604,
    "shufflenet_v2_x1_5": 3503624, "shufflenet_v2_x2_0": 7393996,
}  # fmt: skip
# Source: `param_count` (million) of timm's results-imagenet, 2026-08.
TIMM_MILLIONS = {
    "efficientnet_lite0": 4.65, "efficientnet_lite1": 5.42, "efficientnet_lite2": 6.09, "efficientnet_lite3": 8.20,
    "efficientnet_lite4": 13.01, "inception_v3": 23.83, "inception_v4": 42.68, "inception_resnet_v2": 55.84,
    "nasnet": 88.75, "pnasnet5_large": 86.06, "xception": 22.86, "mobilenetv1": 4.23, "mobilenetv4_small": 3.77,
    "mobilenetv4_medium": 9.72, "mobilenetv4_large": 32.59, "convnext_atto": 3.70, "convnext_femto": 5.22,
    "convnext_pico": 9.05, "convnext_nano": 15.59, "regnetx_008": 7.26, "regnety_008": 6.26, "regnety_016": 11.20,
    "regnety_032": 19.44, "regnety_080": 39.18,
}  # fmt: skip
# Source: papers and repositories of the networks.
EXACT = {
    "alexnet": 61_100_840, "vgg16": 138_357_544, "resnet50": 25_557_032, "resnet101": 44_549_160,
    "mobilenetv2": 3_504_872, "pnasnet5_large": 86_057_668, "efficientnet_lite0": 4_652_008,
}  # fmt: skip

# Output (channels, side) of stem, stage1 .. stageN and neck at the card's own size; None is an empty neck.
GOLDEN = {
    "alexnet": [(64, 27), (192, 13), (384, 13), (256, 13), (256, 6), (4096, 0)],
    "vgg16": [(64, 224), (64, 112), (128, 56), (256, 28), (512, 14), (512, 7), (4096, 1)],
    "resnet50": [(64, 56), (256, 56), (512, 28), (1024, 14), (2048, 7), None],
    "mobilenetv2": [(32, 112), (16, 112), (24, 56), (32, 28), (64, 14), (96, 14), (160, 7), (320, 7), (1280, 7)],
    "efficientnet_lite0": [
        (32, 112), (16, 112), (24, 56), (40, 28), (80, 14), (112, 14), (192, 7), (320, 7), (1280, 7)
    ],
    "densenet121": [(64, 56), (128, 28), (256, 14), (512, 7), (1024, 7), (1024, 7)],
    "inception_v3": [(192, 35), (288, 35), (768, 17), (2048, 8), None],
    "googlenet": [(192, 28), (480, 14), (832, 7), (1024, 7), None],
    "convnext_tiny": [(96, 56), (96, 56), (192, 28), (384, 14), (768, 7), (768, 1)],
    "squeezenet1_1": [(64, 55), (128, 27), (256, 13), (512, 13), None],
    "shufflenet_v2_x1_0": [(24, 56), (116, 28), (232, 14), (464, 7), (1024, 7)],
    "mobilenetv3_large": [(16, 112), (16, 112), (24, 56), (40, 28), (80, 14), (112, 14), (160, 7), (960, 7), (1280, 1)],
}  # fmt: skip


def test_parameter_counts_match_publications():
    for card in list_cards():
        assert card.stages_size == card.image_spec().size_hw[0], card.name
        if card.name in TORCHVISION:
            assert card.num_params == TORCHVISION[card.name], card.name
        elif card.name != "zfnet":
            assert card.num_params / 1e6 == pytest.approx(TIMM_MILLIONS[card.name], abs=0.0051), card.name
        if card.name in EXACT:
            assert card.num_params == EXACT[card.name]


@pytest.mark.parametrize("name", GOLDEN)
def test_stage_table(name):
    stages = find_card(name).stages
    expected = GOLDEN[name]
    assert [s["name"] for s in stages] == ["stem", *(f"stage{k}" for k in range(1, len(expected) - 1)), "neck", "head"]
    for stage, golden in zip(stages, expected, strict=False):
        if golden is None:
            assert not stage["output_shapes"]
            assert stage["num_params"] == 0
        else:
            shape = stage["output_shapes"][-1]
            assert (shape[0], shape[1] if len(shape) == 3 else 0) == golden
    assert stages[-1]["output_shapes"] == [[1000]]


def check_card_against_library(name):
    """Check that the card's table matches the installed library and accounts for every parameter."""
    card = find_card(name)
    table = Backbone(build_empty(card.library, card.arch), card).network.table
    assert [s["num_params"] for s in card.stages] == [i.num_params for i in table]
    assert [s["output_shapes"] for s in card.stages] == [[list(o) for o in i.output_shapes] for i in table]
    assert sum(i.num_params for i in table) == card.num_params
    assert sum(i.num_macs for i in table) == card.num_macs


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "zfnet"])
def test_card_matches_library(name):
    check_card_against_library(name)


@pytest.mark.long
@pytest.mark.parametrize("name", [c.name for c in list_cards()])
def test_every_card_matches_library(name):
    check_card_against_library(name)


@pytest.mark.long
def test_two_input_cells_output_both_tensors():
    card = find_card("pnasnet5_large")
    staged = Backbone(build_empty(card.library, card.arch), card).network
    assert staged.state_shapes("stage2") == ((1080, 42, 42), (1080, 42, 42))
    assert staged.state_shapes("head") == ((4320, 11, 11),)


@pytest.mark.parametrize(("name", "aux"), [("inception_v3", 3_326_696), ("googlenet", 6_379_984)])
def test_auxiliary_heads_are_counted_separately(name, aux):
    card = find_card(name)
    whole = build_empty(card.library, card.arch, aux_logits=True)
    counts = {n: p.numel() for n, p in whole.named_parameters()}
    assert sum(c for n, c in counts.items() if n.startswith(AUXILIARY)) == aux == card.num_aux_params
    assert sum(c for n, c in counts.items() if not n.startswith(AUXILIARY)) == card.num_params
    assert all(n.startswith(AUXILIARY) or s is not None for n, s in map_stages(whole).stage_of.items())


def test_multiply_adds_match_literature():
    for name, thousand_million in {"resnet50": 4.09, "vgg16": 15.47, "mobilenetv2": 0.30, "densenet121": 2.83}.items():
        assert find_card(name).num_macs / 1e9 == pytest.approx(thousand_million, abs=0.02)


def test_unknown_cut_lists_stages():
    from headstart.errors import UsageError

    card = find_card("resnet18")
    backbone = Backbone(build_empty(card.library, card.arch), card)
    assert backbone.network.position("last-2") == backbone.network.position("stage3")
    for cut in ("stage5", "layer4", "last-9", "last-0"):
        with pytest.raises(UsageError, match="no stage") as failure:
            backbone.prefix(cut)
        assert "stem, stage1, stage2, stage3, stage4, neck, head" in failure.value.hint


def test_network_without_stages_states_reason():
    from headstart.errors import UsageError

    card = find_card("timm:resnet50_clip")
    with pytest.raises(UsageError, match="cannot be cut into stages: its forward pass cannot be traced") as failure:
        _ = Backbone(build_empty(card.library, card.arch), card).stages
    assert "\n" not in failure.value.message
    assert card.no_stages


def test_stages_out_of_order_raise():
    class Twisted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1)
            self.fc = torch.nn.Linear(3, 5)

        def forward(self, x):
            return self.fc(self.first(self.second(self.first(x))).mean((2, 3)))

    from headstart.backbones.rules import StageMap

    stage_of = {"first.weight": 1, "first.bias": 1, "second.weight": 2, "second.bias": 2, "fc.weight": 4, "fc.bias": 4}
    with pytest.raises(NoStagesError, match="in order"):
        StagedNetwork(Twisted().eval(), StageMap(stage_of, 2, ("fc",)), (8, 8))


def test_too_small_image_raises():
    from headstart.errors import UsageError

    card = find_card("alexnet")
    staged = StagedNetwork(network := build_empty(card.library, card.arch), map_stages(network), (24, 24))
    with pytest.raises(UsageError, match="24 x 24"):
        _ = staged.table


@pytest.mark.long
def test_stages_are_detected_for_95_percent_of_timm():
    import random

    networks = sorted(key for key in library_table() if key.startswith("timm:"))
    names = [key.removeprefix("timm:") for key in random.Random(0).sample(networks, 160)]
    failed = {}
    for name in names:
        network = build_empty("timm", name)
        size = network.pretrained_cfg["input_size"][1]
        try:
            staged = StagedNetwork(network, map_stages(network), (size, size))
            table = staged.table
        except NoStagesError as error:
            failed[name] = str(error)
            continue
        own = sum(p.numel() for p in network.parameters())
        assert sum(i.num_params for i in table) == own, name  # every parameter in exactly one stage
        sides = [
            min(s[1] for s in i.output_shapes if len(s) == 3)
            for i in table
            if any(len(s) == 3 for s in i.output_shapes)
        ]
        assert sides == sorted(sides, reverse=True), name  # resolution only falls
    print(f"{len(names) - len(failed)} of {len(names)}", failed)
    assert len(failed) <= 0.05 * len(names)
    assert all(reason and "\n" not in reason for reason in failed.values())
