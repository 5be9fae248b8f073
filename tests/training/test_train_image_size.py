"""Test training views at another size than prediction, and the head refit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_networks import PLAN, MemorySource, Owner, make_net, make_task

from headstart.training.batch_sources import SizedSource
from headstart.training.loop import Training, normalized_rows
from headstart.training.probe_comparison import ALPHAS, PairedLogits, compare_to_probe


class Recording:
    """Batch source that records requests."""

    def __init__(self, name: str) -> None:
        self.name, self.announced, self.requested = name, [], []  # type: ignore[var-annotated]

    def announce(self, pairs: Any) -> None:
        self.announced += list(pairs)

    def batch(self, samples: Any, views: Any) -> Any:
        self.requested += [(int(s), int(v)) for s, v in zip(samples, views, strict=True)]
        return (torch.zeros(len(samples), 1),), {}


def test_views_and_images_have_separate_sizes() -> None:
    small, large = Recording("small"), Recording("large")
    source = SizedSource(small, large)  # type: ignore[arg-type]
    source.announce([(0, 1), (1, 0), (2, 3)])
    source.batch(np.array([0, 2]), np.array([3, 3]))
    source.batch(np.array([1]), np.array([0]))
    assert small.announced == [(0, 1), (2, 3)]
    assert large.announced == [(1, 0)]
    assert small.requested == [(0, 3), (2, 3)]
    assert large.requested == [(1, 0)]


def test_head_moves_towards_another() -> None:
    owner = Owner()
    pixels, ids = make_task()
    states = owner.state(pixels)
    net, head = make_net(owner, states, ids, np.arange(len(ids)))
    weight, bias = head.folded()
    net.head.move_to(3.0 * weight, -bias, fraction=0.5)
    np.testing.assert_allclose(net.head.weight.detach().numpy(), 2.0 * weight, rtol=1e-6)
    np.testing.assert_allclose(net.head.bias.detach().numpy(), 0.0 * bias, atol=1e-6)


def test_normalized_rows_match_head_input() -> None:
    owner = Owner()
    pixels, ids = make_task()
    states = owner.state(pixels)
    train = np.arange(len(ids))
    net, head = make_net(owner, states, ids, train)
    rows = normalized_rows(net, MemorySource(states), train, device=torch.device("cpu"))
    with torch.no_grad():
        logits = net((states,), {}).numpy()
    weight, bias = head.folded()
    np.testing.assert_allclose(rows @ weight.T + bias, logits, atol=1e-4)


@pytest.mark.parametrize("arms", [1, 4])
def test_best_of_several_plans_is_rarely_accepted_by_chance(arms: int) -> None:
    """Every plan is the probe plus noise, so any acceptance is a false positive."""
    accepted = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        truth = 1.5 * rng.normal(size=(60, 3))
        p = np.exp(truth) / np.exp(truth).sum(axis=1, keepdims=True)
        ids = (p.cumsum(axis=1) < rng.random((60, 1))).sum(axis=1).clip(max=2)
        folds = np.arange(60) % 3
        ends = truth + 0.2 * rng.normal(size=(arms, 60, 3))
        ways = [np.stack([truth + s * (end - truth) for s in ALPHAS]) for end in ends]
        first = folds == 0
        gains = [
            compare_to_probe(PairedLogits(truth[first], w[:, first], ids[first], folds[first]), seed=trial).best_gain
            for w in ways
        ]
        best = ways[int(np.argmax(gains))]
        accepted += max(gains) > 0 and compare_to_probe(PairedLogits(truth, best, ids, folds), seed=trial).is_better
    assert accepted <= 40


def test_training_with_two_sizes_resumes_exactly() -> None:
    pixels, ids = make_task()
    train, val = np.arange(40), np.arange(40, 60)

    def begin() -> Training:
        owner = Owner()
        states = owner.state(pixels)
        small = MemorySource(owner.state(pixels[:, :, ::2, ::2]))
        net, _ = make_net(owner, states, ids, train)
        source = SizedSource(small, MemorySource(states))  # type: ignore[arg-type]
        return Training(net, source, ids, replace(PLAN, epochs=3), train, val)

    whole = begin()
    for _ in whole.run():
        pass
    part = begin()
    steps = part.run()
    for _ in range(4):
        next(steps)
    again = begin()
    again.restore(part.snapshot())
    for _ in again.run():
        pass
    for name, tensor in whole.net.trained().items():
        assert torch.equal(tensor, again.net.trained()[name]), name
    assert whole.records[-1].val_loss is not None
