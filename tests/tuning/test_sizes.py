"""Training views at one size, scores at another, and the head that is fitted again in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tuning_toys import PLAN, MemorySource, Owner, make_net, make_task

from headstart.tuning.loop import Training, normalised_rows
from headstart.tuning.network import blend
from headstart.tuning.safety import SHARES, compare
from headstart.tuning.sources import SizedSource


class Recording:
    """A source that remembers what it was asked for."""

    def __init__(self, name: str) -> None:
        self.name, self.announced, self.asked = name, [], []  # type: ignore[var-annotated]

    def announce(self, pairs: Any) -> None:
        self.announced += list(pairs)

    def batch(self, samples: Any, views: Any) -> Any:
        self.asked += [(int(s), int(v)) for s, v in zip(samples, views, strict=True)]
        return (torch.zeros(len(samples), 1),), {}


def test_views_come_from_one_size_and_the_pictures_themselves_from_another() -> None:
    small, large = Recording("small"), Recording("large")
    source = SizedSource(small, large)  # type: ignore[arg-type]
    source.announce([(0, 1), (1, 0), (2, 3)])
    source.batch(np.array([0, 2]), np.array([3, 3]))
    source.batch(np.array([1]), np.array([0]))
    assert small.announced == [(0, 1), (2, 3)]
    assert large.announced == [(1, 0)]
    assert small.asked == [(0, 3), (2, 3)]
    assert large.asked == [(1, 0)]


def test_a_blend_moves_only_the_head() -> None:
    start = {"head.weight": torch.zeros(2, 2), "backbone.w": torch.zeros(3)}
    end = {"head.weight": torch.ones(2, 2), "backbone.w": torch.ones(3)}
    refit = {"head.weight": torch.full((2, 2), 3.0)}
    half = blend(start, end, 1.0, refit, 0.5)
    assert half["head.weight"].tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert torch.equal(half["backbone.w"], end["backbone.w"])
    assert torch.equal(blend(start, end, 0.0, refit, 0.0)["head.weight"], start["head.weight"])
    assert end["head.weight"].eq(1.0).all()


def test_rows_are_those_that_the_head_sees() -> None:
    owner = Owner()
    pixels, ids = make_task()
    states = owner.state(pixels)
    train = np.arange(len(ids))
    net, head = make_net(owner, states, ids, train)
    rows = normalised_rows(net, MemorySource(states), train, device=torch.device("cpu"))
    with torch.no_grad():
        logits = net((states,), {}).numpy()
    weight, bias = head.folded()
    np.testing.assert_allclose(rows @ weight.T + bias, logits, atol=1e-4)


def test_the_verdict_says_how_much_of_the_refitted_head_it_took() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, 150)
    probe = rng.normal(size=(150, 3)) + np.eye(3)[ids]
    tuned = [probe + rng.normal(size=probe.shape) for _ in SHARES]
    better = [probe + 0.5 * np.eye(3)[ids], probe + 2.0 * np.eye(3)[ids]]
    shares, refits = (*SHARES, 1.0, 1.0), (0.0,) * len(SHARES) + (0.5, 1.0)
    verdict = compare(probe, np.stack([*tuned, *better]), ids, np.arange(150) % 3, shares=shares, refits=refits)
    assert (verdict.share, verdict.refit, verdict.is_better) == (1.0, 1.0, True)
    plain = compare(probe, np.stack(tuned), ids, np.arange(150) % 3)
    assert plain.refit == 0.0


@pytest.mark.parametrize("arms", [1, 4])
def test_the_best_of_several_ways_on_one_fold_is_rarely_accepted_by_chance(arms: int) -> None:
    """Every way is the probe, which is the truth, and noise: whatever is accepted is accepted wrongly."""
    accepted = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        truth = 1.5 * rng.normal(size=(60, 3))
        p = np.exp(truth) / np.exp(truth).sum(axis=1, keepdims=True)
        ids = (p.cumsum(axis=1) < rng.random((60, 1))).sum(axis=1).clip(max=2)
        folds = np.arange(60) % 3
        ends = truth + 0.2 * rng.normal(size=(arms, 60, 3))
        ways = [np.stack([truth + s * (end - truth) for s in SHARES]) for end in ends]
        first = folds == 0
        gains = [compare(truth[first], w[:, first], ids[first], folds[first], seed=trial).best_gain for w in ways]
        best = ways[int(np.argmax(gains))]
        accepted += max(gains) > 0 and compare(truth, best, ids, folds, seed=trial).is_better
    assert accepted <= 40


def test_a_training_with_two_sizes_goes_on_exactly() -> None:
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
