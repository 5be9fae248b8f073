"""Test mixup, CutMix, stochastic depth, balanced sampling, gradient accumulation and bfloat16."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_networks import PLAN, MemorySource, Owner, make_net, make_task

from headstart.training.batch_sources import epoch_order
from headstart.training.loop import Training
from headstart.training.mixup import mix_batch
from headstart.training.network import FinetunedNetwork, HeadModule


def make_training(**changes: Any) -> Training:
    owner = Owner()
    pixels, ids = make_task()
    states = owner.state(pixels)
    net, _ = make_net(owner, states, ids, np.arange(45))
    plan = replace(PLAN, swa_fraction=0.0, **changes)
    return Training(net, MemorySource(states), ids, plan, np.arange(45), np.arange(45, 60))


def batch() -> tuple[tuple[Any, ...], dict[str, Any]]:
    states = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 2, 8, 8).contiguous()
    return (states,), {"low": torch.arange(6.0).reshape(6, 1)}


class TestMixing:
    def test_mixing_off_returns_batch(self) -> None:
        states, early = batch()
        mixed = mix_batch((states, early), 0.0, 0.0, np.random.default_rng(0))
        assert mixed.states[0] is states[0]
        assert mixed.mates is None

    def test_mixup_blends_states_and_features(self) -> None:
        mixed = mix_batch(batch(), 0.5, 0.0, np.random.default_rng(1))
        own, other = torch.arange(6.0), mixed.mates.float()
        expected = mixed.lam * own + (1 - mixed.lam) * other
        torch.testing.assert_close(mixed.states[0][:, 0, 3, 3], expected)
        torch.testing.assert_close(mixed.early["low"][:, 0], expected)

    def test_cutmix_rectangle_matches_lambda(self) -> None:
        shares = []
        for seed in range(40):
            mixed = mix_batch(batch(), 0.0, 1.0, np.random.default_rng(seed))
            moved = int((mixed.mates != torch.arange(6)).nonzero()[0])
            one = mixed.states[0][moved, 0]
            assert set(one.unique().tolist()) <= {float(moved), float(mixed.mates[moved])}
            assert float((one == moved).float().mean()) == pytest.approx(mixed.lam)
            rows, columns = (one != moved).any(1), (one != moved).any(0)
            assert int((one != moved).sum()) == int(rows.sum()) * int(columns.sum())
            shares.append(mixed.lam)
        assert np.std(shares) > 0.15

    def test_mixing_leaves_batch_unchanged(self) -> None:
        states, early = batch()
        before = states[0].clone()
        mix_batch((states, early), 1.0, 1.0, np.random.default_rng(2))
        assert torch.equal(states[0], before)

    @pytest.mark.parametrize("changes", [{"cutmix": 1.0}, {"mixup": 0.3, "cutmix": 0.3}])
    def test_resumed_training_matches(self, changes: dict[str, Any]) -> None:
        whole, first, second = (make_training(**changes) for _ in range(3))
        list(whole.run())
        steps = first.run()
        for _ in range(5):
            next(steps)
        second.restore(first.snapshot())
        list(second.run())
        assert all(torch.equal(t, second.net.trained()[n]) for n, t in whole.net.trained().items())


class TestSummedGradients:
    def test_accumulated_gradients_match_one_batch(self) -> None:
        one, two = make_training(batch_size=16), make_training(batch_size=8, grad_accum_steps=2)
        list(one.run())
        list(two.run())
        assert one.step == two.step == one.num_steps
        for name, tensor in one.net.trained().items():
            torch.testing.assert_close(tensor, two.net.trained()[name], atol=2e-5, rtol=1e-3)

    def test_non_finite_loss_leaves_no_gradient(self) -> None:
        training = make_training(batch_size=8, grad_accum_steps=2)
        steps = training.run()
        next(steps)
        training.source.states[40:] = float("nan")  # type: ignore[attr-defined]
        list(steps)
        assert training.is_diverged
        assert all(p.grad is None for p in training.net.parameters())


def test_non_finite_last_step_is_discarded() -> None:
    training = make_training(epochs=2)
    steps = training.run()
    while next(steps) is None:
        pass
    good = training.net.copy_trained()
    step = training._stepper.step

    def spoiling() -> None:
        step()
        if training.step == training.num_steps - 1:
            training.net.head.bias.data[0] = float("inf")

    training._stepper.step = spoiling  # type: ignore[method-assign]
    list(steps)
    assert training.is_diverged
    assert len(training.records) == 1
    assert all(torch.equal(t, good[n]) for n, t in training.net.trained().items())


class TestBalancedSampling:
    def test_classes_are_equally_frequent(self) -> None:
        labels = np.array([0] * 40 + [1] * 6 + [2] * 14)
        train = np.arange(100, 160)
        counts = np.zeros(3)
        drawn: set[int] = set()
        for epoch in range(4):
            order = epoch_order(train, epoch, 3, labels)
            assert len(order) == 60
            own = np.bincount(labels[order - 100], minlength=3)
            assert own.tolist() == [20, 20, 20]
            counts += own
            drawn |= set(order.tolist())
            assert np.array_equal(order, epoch_order(train, epoch, 3, labels))
        assert len(drawn) > 55  # images of the large class take turns

    def test_balanced_sampling_favors_small_class(self) -> None:
        pixels, ids = make_task(120)
        rng = np.random.default_rng(0)
        pixels += torch.from_numpy(rng.normal(0, 1.0, pixels.shape).astype(np.float32))
        train = np.concatenate([np.flatnonzero(ids == 0), np.flatnonzero(ids == 1), np.flatnonzero(ids == 2)[:4]])
        predicted = []
        for sampling in ("natural", "balanced"):
            owner = Owner()
            states = owner.state(pixels)
            net, _ = make_net(owner, states, ids, train)
            plan = replace(PLAN, epochs=15, sampling=sampling)
            list(Training(net, MemorySource(states), ids, plan, train).run())
            with torch.no_grad():
                predicted.append(int((net((states,), {}).argmax(1) == 2).sum()))
        assert predicted[1] > predicted[0]


class Residual(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.drop_path = torch.nn.Identity()

    def forward(self, x: Any) -> Any:
        return x + self.drop_path(self.layer(x))


class TestStochasticDepth:
    def make(self) -> FinetunedNetwork:
        _, head = make_net(Owner(), Owner().state(make_task()[0]), make_task()[1], np.arange(60))
        owner = torch.nn.Sequential(Residual(), Residual(), Residual())
        stage_of = {name: int(name[0]) for name, _ in owner.named_parameters()}
        return FinetunedNetwork(
            HeadModule(head), owner, ("embedding",), owner=owner, stage_of=stage_of, trainable=[1, 2]
        )

    def test_drop_rate_grows_with_depth(self) -> None:
        net = self.make()
        assert net.set_drop_path(0.6) == 2
        assert [b.drop_path.rate for b in net.suffix] == [0.0, pytest.approx(0.3), pytest.approx(0.6)]
        net.set_training(True)
        x = torch.ones(4000, 4)
        block = net.suffix[2]
        left_out = float((block(x) == x).all(1).float().mean())
        assert left_out == pytest.approx(0.6, abs=0.03)
        mean = (block(x) - x).mean(0)
        torch.testing.assert_close(mean, block.layer(x).mean(0), atol=0.08, rtol=0.1)

    def test_prediction_drops_no_block(self) -> None:
        net = self.make()
        x = torch.randn(5, 4)
        before = net.suffix(x)
        net.set_drop_path(0.9)
        net.set_training(False)
        assert torch.equal(net.suffix(x), before)

    def test_network_without_residual_blocks(self) -> None:
        net, _ = make_net(Owner(), Owner().state(make_task()[0]), make_task()[1], np.arange(60))
        assert net.set_drop_path(0.5) == 0


def test_bfloat16_matches_float32() -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        training = make_training(precision=precision, epochs=6)
        records = [r for r in training.run() if r is not None]
        assert all(t.dtype == torch.float32 for t in training.net.trained().values())
        losses.append(records[-1].train_loss)
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert losses[1] != losses[0]
