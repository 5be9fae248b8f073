"""Test a described, randomly initialized head: training, batch norm, resuming."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_networks import PLAN, MemorySource, Owner, make_task

from headstart.backbones.classifier_head import read_head
from headstart.training.loop import Training
from headstart.training.network import FinetunedNetwork, RandomHead, SelfContainedNetwork

HEAD = "hidden=8,batch_norm=true,dropout=0.2,pool=gem"


def make_training(text: str = HEAD, *, num: int = 45, has_suffix: bool = True, **changes: Any) -> Training:
    owner = Owner()
    pixels, ids = make_task()
    states = owner.state(pixels)
    head = RandomHead(read_head(text), [(10 if has_suffix else 6, 8, 8)], 3, seed=1)
    stage_of = {name: 0 if name.startswith("low") else 1 for name, _ in owner.named_parameters()}
    suffix = Map(owner) if has_suffix else None
    net = FinetunedNetwork(
        head,
        suffix,
        head.names,
        owner=owner if has_suffix else None,
        stage_of=stage_of,
        trainable=[1] if has_suffix else (),
    )
    plan = replace(PLAN, head=text, **changes)
    return Training(net, MemorySource(states), ids, plan, np.arange(num), np.arange(45, 60), None, ("stage0", "stage1"))


class Map(torch.nn.Module):
    """Maps the state to the input of the head."""

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self.high = owner.high

    def forward(self, state: Any) -> tuple[Any]:
        return (self.high(state),)


@pytest.mark.parametrize("has_suffix", [True, False])
@pytest.mark.parametrize("text", ["pool=flatten,output=cosine", "pool=flatten,hidden=[16,8],batch_norm=true"])
def test_described_head_learns(text: str, has_suffix: bool) -> None:
    training = make_training(text, has_suffix=has_suffix, epochs=15)
    records = [r for r in training.run() if r is not None]
    assert records[-1].train_loss < 0.7 * records[0].train_loss
    assert records[-1].train_accuracy > 0.8


def test_resumed_training_matches() -> None:
    whole, first, second = make_training(), make_training(), make_training()
    list(whole.run())
    steps = first.run()
    for _ in range(7):
        next(steps)
    second.restore(first.snapshot())
    list(second.run())
    now = second.net.trained()
    assert {n for n in now if "running" in n}
    assert all(torch.equal(t, now[n]) for n, t in whole.net.trained().items())


def test_only_head_batch_norm_is_updated() -> None:
    training = make_training()
    frozen = training.net.frozen_digest()
    before = training.net.copy_trained()
    list(training.run())
    moved = {n for n, t in training.net.trained().items() if not torch.equal(t, before[n])}
    assert any("running_mean" in n for n in moved)
    assert training.net.frozen_digest() == frozen


def test_last_batch_of_one_image() -> None:
    training = make_training(num=33, batch_size=16)
    assert len(list(training.run())) == 3 * PLAN.epochs


def test_head_trains_alone_first() -> None:
    training = make_training(head_only_fraction=0.5)
    before = training.net.copy_trained()
    steps = training.run()
    for _ in range(training.num_steps // 2):
        next(steps)
    moved = {n for n, t in training.net.trained().items() if not torch.equal(t, before[n])}
    assert all(n.startswith("head.") for n in moved)
    list(steps)
    assert any(not torch.equal(t, before[n]) for n, t in training.net.trained().items() if n.startswith("backbone."))


def test_weight_decay_targets() -> None:
    norms = []
    for decay in (0.0, 5.0):
        training = make_training("pool=avg", weight_decay=decay, lr=1e-2, head_lr=1e-2, epochs=20, swa_fraction=0.0)
        start = training.net.copy_trained()
        list(training.run())
        now = training.net.trained()
        head = float(now["head.layers.output.weight"].norm())
        backbone = sum(float((now[n] - start[n]).norm()) for n in now if n.startswith("backbone."))
        norms.append((head, backbone))
    assert norms[1][0] < 0.7 * norms[0][0]
    assert norms[1][1] < 0.7 * norms[0][1]


def test_same_seed_gives_same_head() -> None:
    torch.manual_seed(5)
    one = RandomHead(read_head(HEAD), [(6, 8, 8)], 3, seed=1)
    torch.manual_seed(6)
    two = RandomHead(read_head(HEAD), [(6, 8, 8)], 3, seed=1)
    other = RandomHead(read_head(HEAD), [(6, 8, 8)], 3, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert not torch.equal(one.layers.output.weight, other.layers.output.weight)


def test_exported_head_includes_temperature() -> None:
    owner = Owner()
    pixels, _ = make_task(6)
    body = torch.nn.Sequential(owner.low, owner.high)
    head = RandomHead(read_head("pool=flatten"), [(10, 8, 8)], 3)
    sealed = SelfContainedNetwork(body, head.layers, 2.0).eval()
    with torch.no_grad():
        logits, embedding = sealed(pixels)
        state = body(pixels)
        torch.testing.assert_close(logits, head({"state0": state}) / 2.0)
        torch.testing.assert_close(embedding, state.mean((2, 3)))
