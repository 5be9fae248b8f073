"""Test classifier heads in every configuration, on the command line and in Python."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstart.backbones import load_backbone
from headstart.backbones.classifier_head import ClassifierHead, HeadSpec, attach_head, head_cut, read_head
from headstart.errors import SettingError


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return load_backbone("shufflenet_v2_x0_5", weights="none", image_size=64)


@pytest.fixture(scope="module")
def alexnet():
    return load_backbone("alexnet", weights="none", image_size=64)


def test_cli_and_python_give_the_same_spec():
    spec = read_head("hidden=256,dropout=0.5,pool=flatten")
    assert spec == HeadSpec(pool="flatten", hidden=(256,), dropout=0.5)
    assert read_head("hidden=[1024,256],batch_norm=yes,output=cosine").hidden == (1024, 256)
    assert read_head("hidden=1024+256").hidden == (1024, 256)
    assert read_head("") == HeadSpec()


@given(
    st.builds(
        HeadSpec,
        pool=st.sampled_from([None, "avg", "max", "gem", "flatten"]),
        hidden=st.lists(st.integers(1, 4096), max_size=3).map(tuple),
        activation=st.sampled_from(["relu", "gelu", "silu", "tanh", "elu"]),
        dropout=st.sampled_from([0.0, 0.25, 0.5]),
        batch_norm=st.booleans(),
        output=st.sampled_from(["linear", "cosine"]),
        neck=st.sampled_from(["auto", "keep", "drop"]),
    )
)
def test_head_spec_round_trips_through_text(spec):
    text = str(spec)
    assert read_head(text) == (spec if text != "pool=avg" else HeadSpec(pool="avg"))


@pytest.mark.parametrize(
    "text", ["hiden=256", "pool=median", "dropout=1", "dropout=much", "hidden=big", "hidden=0", "output=round", "256"]
)
def test_invalid_settings_raise(text):
    with pytest.raises(SettingError):
        read_head(text)


def test_error_suggests_nearest_setting():
    with pytest.raises(SettingError) as failure:
        read_head("hiden=256")
    assert "`hidden=...`" in failure.value.hint


@pytest.mark.parametrize("pool", ["avg", "max", "gem", "flatten"])
@pytest.mark.parametrize("output", ["linear", "cosine"])
def test_every_pooling_and_output_trains(small, pool, output):
    spec = HeadSpec(pool=pool, hidden=(16,), dropout=0.2, batch_norm=True, output=output)
    headed = attach_head(small, 7, spec)
    logits = headed.train()(torch.randn(4, 3, 64, 64))
    assert logits.shape == (4, 7)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in headed.head.output.parameters())
    if pool == "gem":
        assert headed.head.exponent.grad is not None
    headed.body.eval()


def test_default_head_is_pooling_and_one_linear_layer(small):
    head = attach_head(small, 3).head
    assert sum(p.numel() for p in head.parameters()) == (1024 + 1) * 3
    assert len(head.hidden) == 0


def test_flatten_keeps_every_position(small):
    head = attach_head(small, 3, "pool=flatten").head
    assert head.output.in_features == 1024 * 2 * 2


def test_gem_is_between_mean_and_maximum():
    maps = torch.rand(2, 5, 4, 4)
    head = ClassifierHead(HeadSpec(pool="gem"), [(5, 4, 4)], 5)
    pooled = head._pooled(maps)
    assert (pooled >= maps.mean((2, 3)) - 1e-6).all()
    assert (pooled <= maps.amax((2, 3)) + 1e-6).all()
    with torch.no_grad():
        head.exponent.fill_(1.0)
    assert torch.allclose(head._pooled(maps), maps.mean((2, 3)), atol=1e-5)


def test_cosine_output_ignores_vector_length(small):
    head = ClassifierHead(HeadSpec(output="cosine"), [(8,)], 3)
    x = torch.randn(4, 8)
    assert torch.allclose(head(x), head(5 * x), atol=1e-4)
    assert head(x).abs().max() <= head.output.scale + 1e-4


def test_fully_connected_neck_is_dropped_only_with_requested_pooling(alexnet):
    assert head_cut(alexnet, HeadSpec()) == "head"
    assert attach_head(alexnet, 3).head.output.in_features == 4096
    assert head_cut(alexnet, HeadSpec(pool="flatten")) == "neck"
    assert head_cut(alexnet, HeadSpec(pool="avg", neck="keep")) == "head"
    assert head_cut(alexnet, HeadSpec(neck="drop")) == "neck"
    assert attach_head(alexnet, 3, "pool=avg").head.output.in_features == 256


def test_multi_tensor_state_is_pooled_and_concatenated():
    head = ClassifierHead(HeadSpec(), [(5, 4, 4), (3, 2, 2)], 6)
    assert head.output.in_features == 8
    assert head((torch.rand(2, 5, 4, 4), torch.rand(2, 3, 2, 2))).shape == (2, 6)


def test_channels_last_maps_are_pooled_over_positions():
    maps = torch.rand(2, 4, 4, 5)
    head = ClassifierHead(HeadSpec(), [(5, 4, 4)], 6, is_nhwc=True)
    assert torch.allclose(head._pooled(maps), maps.mean((1, 2)), atol=1e-6)
