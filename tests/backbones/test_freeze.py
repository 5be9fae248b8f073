"""Test frozen parts: no gradient, no drift, not in the optimizer, bit-identical after training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from headstart.backbones import load_backbone
from headstart.backbones.freeze import Freezing, read_freeze
from headstart.errors import SettingError, UsageError

NAMES = ("stem", "stage1", "stage2", "stage3", "stage4", "neck", "head")


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return load_backbone("shufflenet_v2_x0_5", weights="none", image_size=64)


def train_a_little(backbone, module=None, steps=2):
    module = module or backbone.module
    module.train()
    parameters = [p for p in backbone.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    for _ in range(steps):
        loss = module(torch.randn(4, 3, 64, 64)).logsumexp(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (None, ()),
        ("none", ()),
        ("all", NAMES[:-1]),
        (0, ()),
        (2, NAMES[:2]),
        ("3", NAMES[:3]),
        (6, NAMES[:6]),
        ("stage3", NAMES[:3]),
        ("head", NAMES[:6]),
        ("last-2", NAMES[:3]),
        ("stem", ()),
        (["stem", "stage2"], ("stem", "stage2")),
        ("[stem, 'stage2']", ("stem", "stage2")),
        ("stage2,stem", ("stem", "stage2")),
    ],
)
def test_spellings_of_freeze(what, expected):
    assert read_freeze(what, NAMES) == expected


@pytest.mark.parametrize("what", ["stage9", 7, -1, ["layer1"], "last-5"])
def test_invalid_freeze_lists_stages(what):
    with pytest.raises(SettingError) as failure:
        read_freeze(what, NAMES)
    assert "stage4" in failure.value.hint


def test_frozen_stages_stay_bit_identical_while_others_change(backbone):
    assert backbone.freeze(below="stage2") == ("stem", "stage1")
    before = backbone.frozen_digest()
    free = {n: t.clone() for n, t in backbone.module.state_dict().items()}
    train_a_little(backbone)
    assert backbone.frozen_digest() == before
    moved = {n for n, t in backbone.module.state_dict().items() if not torch.equal(t, free[n])}
    stage_of = backbone.network.map.stage_of
    assert moved
    assert min(stage_of[n] for n in moved) == 2
    assert not any("running" in n for n in moved)  # BatchNorm of trainable stages keeps its statistics


def test_training_without_freezing_changes_everything(backbone):
    backbone.freeze("none", batch_norm="train")
    before = {n: t.clone() for n, t in backbone.module.state_dict().items()}
    train_a_little(backbone)
    moved = {n for n, t in backbone.module.state_dict().items() if not torch.equal(t, before[n])}
    assert any(n.startswith("conv1") for n in moved)
    assert any("running_mean" in n for n in moved)


def test_freezing_applies_to_suffix_and_new_head(backbone):
    from headstart.backbones.classifier_head import attach_head

    backbone.freeze("last-1")
    headed = attach_head(backbone, 5)
    before = backbone.frozen_digest()
    headed.train()
    optimizer = torch.optim.SGD([p for p in headed.parameters() if p.requires_grad], lr=0.1)
    headed(torch.randn(4, 3, 64, 64)).sum().backward()
    optimizer.step()
    assert backbone.frozen_digest() == before
    assert all(p.requires_grad for p in headed.head.parameters())


def test_live_batch_norm_only_if_requested(backbone):
    backbone.freeze("stage3", batch_norm="train")
    before = {n: t.clone() for n, t in backbone.module.state_dict().items() if "running_mean" in n}
    train_a_little(backbone)
    moved = {n for n, t in backbone.module.state_dict().items() if n in before and not torch.equal(t, before[n])}
    assert moved
    assert {backbone.network.map.stage_of[n] for n in moved} <= {3, 4, 5}
    with pytest.raises(SettingError):
        backbone.freeze("stage3", batch_norm="sometimes")


def training_stages(backbone):
    stage_of = backbone.network.map.stage_of
    trainable = {stage_of.get(n) for n, p in backbone.module.named_parameters() if p.requires_grad}
    return [name for i, name in enumerate(backbone.stage_names) if i in trainable]


def test_unfreeze_lets_a_stage_train_again(backbone):
    assert backbone.freeze(below="head") == ("stem", "stage1", "stage2", "stage3", "neck")
    assert training_stages(backbone) == ["head"]
    assert backbone.unfreeze(from_="stage3") == ("stem", "stage1", "stage2")
    assert training_stages(backbone) == ["stage3", "neck", "head"]
    assert backbone.unfreeze() == ()


def test_dropout_of_frozen_parts_is_off_in_training():
    backbone = load_backbone("alexnet", weights="none", image_size=64)
    backbone.freeze("all")
    backbone.module.train()
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(backbone.module(x), backbone.module(x))
    backbone.unfreeze(from_="neck")
    backbone.module.train()
    assert not torch.equal(backbone.module(x), backbone.module(x))


def test_freeze_needs_exactly_one_of_what_and_below(backbone):
    with pytest.raises(UsageError):
        backbone.freeze()
    with pytest.raises(UsageError):
        backbone.freeze("all", below="stage2")


class Net(nn.Module):
    """Two blocks with BatchNorm and dropout around them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.last = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))

    def forward(self, x):
        return self.last(self.first(x)).mean((2, 3))


LAST = {"last.0.weight", "last.0.bias", "last.1.weight", "last.1.bias"}


def training_modules(net, x):
    net.train()
    net(x)
    return {path for path, module in net.named_modules() if module.training and not list(module.children())}


@pytest.mark.parametrize(("batch_norm", "live"), [("frozen", {"last.2"}), ("train", {"last.2", "last.1", "last.0"})])
def test_only_trainable_modules_are_in_training_mode(batch_norm, live):
    net = Net()
    freezing = Freezing(net, LAST, batch_norm=batch_norm)
    before, x = freezing.digest(), torch.randn(4, 3, 8, 8)
    assert training_modules(net, x) - {"last.0"} == live - {"last.0"}
    assert {n for n, p in net.named_parameters() if p.requires_grad} == LAST
    assert freezing.digest() == before
    with torch.no_grad():
        net.first[1].running_mean[0] += 1e-3
    assert freezing.digest() != before


def test_later_freezing_replaces_earlier_one():
    net, x = Net(), torch.randn(4, 3, 8, 8)
    Freezing(net, ())
    assert not training_modules(net, x)
    Freezing(net, [n for n, _ in net.named_parameters()], batch_norm="train")
    assert {"first.1", "first.2", "last.1", "last.2"} <= training_modules(net, x)


def test_digest_excludes_live_statistics():
    net = Net()
    freezing = Freezing(net, LAST, batch_norm="train")
    before = freezing.digest()
    net.train()
    net(torch.randn(4, 3, 8, 8))
    assert net.last[1].running_mean.any()
    assert not net.first[1].running_mean.any()
    assert freezing.digest() == before
