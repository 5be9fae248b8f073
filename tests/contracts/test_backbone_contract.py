"""Test that `suffix(prefix(x)) == network(x)` at every cut, and that the ONNX prefix matches torch."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import pytest
import torch

from headstart.backbones import list_cards, load_backbone, pooled_outputs
from headstart.backbones.loading import Backbone

FAST = [
    "timm:hrnet_w18_small", "timm:mambaout_femto", "efficientnet_lite0", "squeezenet1_1", "googlenet", "resnet18",
]  # fmt: skip
ALL_CUTS_AS_ONNX = ["efficientnet_lite0", "resnet18", "mobilenetv2", "googlenet", "timm:hrnet_w18_small", "nasnet"]


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return load_backbone("EfficientNet-Lite0", offline=True)


@lru_cache(maxsize=1)
def random_backbone(name: str, size: int | None = None) -> Backbone:
    """Return a network with seeded weights and BatchNorm statistics, so that a missing layer changes the output."""
    torch.manual_seed(0)
    backbone = load_backbone(name, weights="none", image_size=size)
    generator = torch.Generator().manual_seed(1)
    for module in backbone.module.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.1, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
    return backbone


def small_size(name: str) -> int:
    from headstart.backbones.cards import find_card

    card = find_card(name)
    return card.image_spec().size_hw[0] if card.is_fixed_size else max(64, card.min_size)


def check_all_cuts(backbone: Backbone, size: int) -> None:
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = backbone.module(x)
        assert expected.abs().max() > 0
        for cut in backbone.stage_names:
            state = backbone.prefix(cut)(x)
            parts = state if isinstance(state, tuple) else (state,)
            before = [t.clone() for t in parts]
            outputs = backbone.suffix(cut)(state)
            assert all(torch.equal(a, b) for a, b in zip(before, parts, strict=True))  # a cached state is unchanged
            worst = (outputs - expected).abs().max() / expected.abs().max()
            assert worst <= 1e-5, f"{backbone.card.name} at {cut}: {worst}"


def test_state_of_branching_network_is_complete():
    backbone = random_backbone("timm:hrnet_w18_small", 64)
    state = backbone.prefix("stage4")(torch.randn(1, 3, 64, 64))
    assert [tuple(t.shape[1:]) for t in state] == [(16, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert backbone.suffix("stage4")(state).shape == backbone.suffix("stage4")(*state).shape == (1, 1000)


def test_pooled_outputs_are_means_of_the_maps(lite0):
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stage5, embedding, logits = pooled_outputs(lite0, ["stage5", "embedding", "logits"])(x)
        assert torch.allclose(stage5, lite0.prefix("stage6")(x).mean((2, 3)), atol=1e-6)
        assert torch.allclose(embedding, lite0.module.forward_head(lite0.module.forward_features(x), pre_logits=True))
        assert torch.equal(logits, lite0.module(x))
    assert embedding.shape == (2, lite0.num_features) == (2, 1280)


@pytest.mark.parametrize("name", FAST)
def test_suffix_of_prefix_is_the_network_at_every_cut(name):
    check_all_cuts(random_backbone(name, small_size(name)), small_size(name))


@pytest.mark.long
@pytest.mark.parametrize("name", [c.name for c in list_cards() if c.name not in FAST])
def test_suffix_of_prefix_equals_network(name):
    check_all_cuts(random_backbone(name, small_size(name)), small_size(name))


def test_in_place_stage_changes_neither_state_nor_pooled_features():
    from headstart.backbones.rules import StageMap
    from headstart.backbones.stages import StagedNetwork

    class Eager(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.fc = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 5)
            self.second = torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Conv2d(4, 4, 3))

        def forward(self, x):
            return self.fc(self.second(self.first(x)).mean((2, 3)))

    torch.manual_seed(0)
    network = Eager().eval()
    stages = {"first": 1, "second": 2, "fc": 4}
    names = [n for n, _ in network.named_parameters()]
    staged = StagedNetwork(network, StageMap({n: stages[n.split(".")[0]] for n in names}, 2, ("fc",)), (16, 16))
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        state = staged.prefix("stage2")(x)
        before = state.clone()
        assert (before < 0).any()
        assert torch.equal(staged.suffix("stage2")(state), network(x))
        assert torch.equal(state, before)
        pooled, _ = staged.pooled(["stage1", "logits"])(x)
        assert torch.equal(pooled, before.mean((2, 3)))


def test_prefix_and_suffix_share_their_layers_with_the_network(lite0):
    own = {id(p) for p in lite0.module.parameters()}
    prefix = {id(p) for p in lite0.prefix("stage6").parameters()}
    suffix = {id(p) for p in lite0.suffix("stage6").parameters()}
    assert prefix | suffix == own
    assert not prefix & suffix


def check_onnx(backbone: Backbone, cut: str, size: int, tmp_path) -> None:
    import onnxruntime

    prefix = backbone.prefix(cut)
    x = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = tmp_path / f"{cut}.onnx"
        batch = torch.export.Dim("batch", min=1, max=64)
        torch.onnx.export(
            prefix, (x[:2],), str(path), dynamo=True, verbose=False, external_data=False, dynamic_shapes=({0: batch},)
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = prefix(x)
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert len(outputs) == len(expected)
    for got, tensor in zip(outputs, expected, strict=True):
        scale = max(float(tensor.abs().max()), 1e-6)
        assert float(np.abs(got - tensor.numpy()).max()) <= 1e-4 * scale


@pytest.mark.filterwarnings("ignore")
def test_onnx_prefix_equals_the_torch_prefix(tmp_path):
    check_onnx(random_backbone("shufflenet_v2_x0_5", 64), "stage2", 64, tmp_path)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALL_CUTS_AS_ONNX)
def test_onnx_prefix_equals_the_torch_prefix_at_every_cut(name, tmp_path):
    backbone = random_backbone(name, small_size(name))
    for cut in backbone.stage_names[1:]:
        check_onnx(backbone, cut, small_size(name), tmp_path)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [c.name for c in list_cards() if c.name not in ALL_CUTS_AS_ONNX])
def test_onnx_prefix_equals_the_torch_prefix_at_one_cut(name, tmp_path):
    backbone = random_backbone(name, small_size(name))
    check_onnx(backbone, "last-1", small_size(name), tmp_path)
