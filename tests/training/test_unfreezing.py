"""Test gradual unfreezing with cached rows per phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_networks import PLAN, make_task
from torch import nn

from headstart.probe.probe import fit_probe
from headstart.training.loop import Training, predict_logits
from headstart.training.network import FinetunedNetwork, HeadModule
from headstart.training.unfreezing import Phase, Phases, phase_cuts

NAMES = ("stem", "stage1", "stage2", "head")
TRAIN, VAL = np.arange(45), np.arange(45, 60)
# 3 steps per epoch, 12 in total: the earlier stage unfreezes in the middle of the second epoch.
PLAN = replace(PLAN, train_from="stage1", unfreeze=(("stage2", 0.0), ("stage1", 0.4)), batch_size=16)
FIRST = 5
"""The first step of 12 in which the earlier stage trains."""


class Backbone(nn.Module):
    """Three stages with batch norm: `stem` (frozen), `stage1`, `stage2`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        widths = (3, 6, 8, 10)
        for name, a, b in zip(NAMES, widths, widths[1:], strict=False):
            self.add_module(name, nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()))
        self.eval()


class FeatureTapsSuffix(nn.Module):
    def __init__(self, *stages: Any) -> None:
        super().__init__()
        self.stages = nn.Sequential(*stages)

    def forward(self, state: Any) -> tuple[Any]:
        return (self.stages(state).mean((2, 3)),)


class Rows:
    """Fixed states of every (image, view) from frozen stages; records requests."""

    def __init__(self, pixels: Any, stages: Sequence[Any]) -> None:
        generator = torch.Generator().manual_seed(1)
        self.announced: list[tuple[int, int]] = []
        self.requested: list[tuple[int, int]] = []
        with torch.no_grad():
            views = [pixels + 0.1 * i * torch.randn(pixels.shape, generator=generator) for i in range(3)]
            self.states = [nn.Sequential(*stages)(view) for view in views]

    def announce(self, pairs: Sequence[tuple[int, int]]) -> None:
        self.announced += pairs

    def batch(self, samples: Any, views: Any) -> Any:
        self.requested += [(int(s), int(v)) for s, v in zip(samples, views, strict=True)]
        return (self.states[int(views[0])][torch.from_numpy(samples)],), {}


def make(is_phased: bool, **changes: Any) -> Training:
    plan = replace(PLAN, **changes)
    backbone = Backbone()
    pixels, ids = make_task()
    base, later = Rows(pixels, [backbone.stem]), Rows(pixels, [backbone.stem, backbone.stage1])
    suffix = FeatureTapsSuffix(backbone.stage1, backbone.stage2)
    with torch.no_grad():
        features = suffix(base.states[0])[0].numpy()
    head = fit_probe({"embedding": features[TRAIN]}, ids[TRAIN], 3).head
    stage_of = {name: NAMES.index(name.split(".")[0]) for name, _ in backbone.named_parameters()}
    net = FinetunedNetwork(
        HeadModule(head, dropout=0.2), suffix, ("embedding",), owner=backbone, stage_of=stage_of, trainable=[1, 2]
    )
    phases: tuple[Phase, ...] = ()
    if is_phased:
        net.add_cut("stage2", FeatureTapsSuffix(backbone.stage2), ("embedding",))
        phases = (Phase(0.0, "stage2", later), Phase(0.4, "", base))
    return Training(net, base, ids, plan, TRAIN, VAL, None, NAMES, phases=phases)


def weights(training: Training, part: str) -> dict[str, Any]:
    return {n: t.clone() for n, t in training.net.trained().items() if part in n}


@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd", "grad_accum_steps": 2, "batch_size": 8}, {"patience": 2}])
def test_phases_match_single_source(options: dict[str, Any]) -> None:
    phased, plain = make(True, **options), make(False, **options)
    list(phased.run())
    list(plain.run())
    start, end = plain.start, plain.net.trained()
    for name, tensor in phased.net.trained().items():
        assert float((tensor - end[name]).abs().max()) <= 1e-4 * float((end[name] - start[name]).abs().max()) + 1e-7
    for a, b in zip(phased.records, plain.records, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-5)
        assert a.val_loss == pytest.approx(b.val_loss, rel=1e-5)
    samples = np.arange(60)
    later = phased.phases[0].source
    ours = predict_logits(plain.net, plain.source, samples)
    np.testing.assert_allclose(predict_logits(phased.net, phased.source, samples), ours, atol=1e-5)
    # stage1 has trained: rows cached after it used its pretrained weights and must not be requested again
    assert np.abs(predict_logits(phased.net, later, samples, cut="stage2") - ours).max() > 1e-4


def test_steps_use_rows_of_their_phase() -> None:
    training = make(True)
    later, base = (phase.source for phase in training.phases)
    list(training.run())
    train = [[pair for pair in source.requested if pair[0] < 45] for source in (later, base)]  # type: ignore[attr-defined]
    assert [len(pairs) for pairs in train] == [45 + 32, 13 + 45 + 45]
    held = [[pair for pair in source.requested if pair[0] >= 45] for source in (later, base)]  # type: ignore[attr-defined]
    assert held[0] == [(s, 0) for s in VAL]  # after the first epoch
    assert held[1] == [(s, 0) for s in VAL] * 3
    for source in (later, base):
        assert set(source.requested) <= set(source.announced)  # type: ignore[attr-defined]
    assert set(later.announced) == set(later.requested)  # type: ignore[attr-defined]  # no unused rows


def test_temporarily_frozen_stages_are_bit_identical() -> None:
    training = make(True)
    before, frozen = weights(training, "stage1"), training.net.frozen_digest()
    steps = training.run()
    for _ in range(FIRST):
        next(steps)
    assert training.step == FIRST
    now = weights(training, "stage1")
    assert all(torch.equal(before[n], now[n]) for n in before)
    list(steps)
    assert not any(torch.equal(before[n], t) for n, t in weights(training, "stage1").items())
    assert training.net.frozen_digest() == frozen


def test_optimizer_state_carries_over() -> None:
    training = make(True)
    steps = training.run()
    for _ in range(FIRST):
        next(steps)
    optimizer = training._stepper.optimizer
    of = {n: dict(optimizer.state[p]) for k in (1, 2) for n, p in training.net.stage_params[k] if p in optimizer.state}
    assert {n.split(".")[0] for n in of} == {"stage2"}
    squares = of["stage2.0.weight"]["exp_avg_sq"].clone()
    assert squares.max() > 0
    next(steps)
    now = {n: optimizer.state[p] for k in (1, 2) for n, p in training.net.stage_params[k]}
    assert now["stage2.0.weight"]["step"] == FIRST + 1
    assert now["stage1.0.weight"]["step"] == 1
    assert bool((now["stage2.0.weight"]["exp_avg_sq"] >= 0.9989 * squares).all())  # 0.999 of it, and the new one


@pytest.mark.parametrize("steps", [2, FIRST - 1, FIRST, FIRST + 1, 9])
def test_resume_from_any_step_matches(steps: int) -> None:
    whole, first, second = make(True), make(True), make(True)
    list(whole.run())
    run = first.run()
    for _ in range(steps):
        next(run)
    second.restore(first.snapshot())
    assert second.step == steps
    list(second.run())
    assert all(torch.equal(whole.net.trained()[n], t) for n, t in second.net.trained().items())
    assert [replace(a, duration_s=0.0) for a in whole.records] == [replace(b, duration_s=0.0) for b in second.records]
    requested = second.phases[0].source.requested  # type: ignore[attr-defined]
    assert sum(s < 45 for s, _ in requested) == max(0, 77 - 45 * (steps // 3) - 16 * (steps % 3))


def test_head_only_phase_runs_no_stage() -> None:
    phased, plain = make(True, unfreeze=(("stage1", 0.4),), head_only_fraction=0.2), make(False)
    phased.net.add_cut("head", None, ())
    blocks = {"embedding": phased.net.suffix(phased.source.states[0])[0].detach()}  # type: ignore[attr-defined]
    with torch.no_grad():
        phased.net.set_training(False)
        plain.net.set_training(False)
        expected = plain.net((plain.source.states[0],), {})  # type: ignore[attr-defined]
        assert torch.allclose(phased.net((), blocks, "head"), expected, atol=1e-5)


def test_phase_of_step() -> None:
    phases = Phases([Phase(0.0, "c", None), Phase(0.3, "b", None), Phase(0.6, "", None)], 10)  # type: ignore[arg-type]
    assert [phases.at(step).cut for step in range(10)] == ["c"] * 3 + ["b"] * 3 + [""] * 4


STAGES = ("stage5", "stage6", "stage7", "neck")


@pytest.mark.parametrize(
    ("cut", "unfreeze", "head_only_fraction", "expected"),
    [
        ("stage5", {}, 0.2, [(0.0, "stage5")]),
        ("stage5", {"stage7": 0, "stage6": 0.3, "stage5": 0.6}, 0.0, [(0, "stage7"), (0.3, "stage6"), (0.6, "stage5")]),
        (
            "stage5",
            {"stage7": 0, "stage5": 0.6},
            0.0,
            [(0.0, "stage6"), (0.6, "stage5")],
        ),  # stage6 trains from the start
        ("stage6", {"stage6": 0, "stage7": 0.5}, 0.0, [(0.0, "stage6")]),  # a later stage unfreezes: the cut stays
        ("stage6", {"stage7": 0, "stage6": 0.1}, 0.2, [(0.0, "head"), (0.2, "stage6")]),
        ("stage7", {"head": 0, "stage7": 0.5}, 0.0, [(0.0, "neck"), (0.5, "stage7")]),
        ("stem", {"stage7": 0, "stem": 0.5}, 0.0, [(0.0, "stem")]),  # a stem without weights, the rest from the start
    ],
)
def test_phase_cuts(
    cut: str, unfreeze: dict[str, float], head_only_fraction: float, expected: list[tuple[float, str]]
) -> None:
    stages = STAGES[STAGES.index(cut) :] if cut in STAGES else STAGES
    plan = replace(PLAN, train_from=cut, unfreeze=tuple(unfreeze.items()), head_only_fraction=head_only_fraction)
    assert list(phase_cuts(plan, stages, "head")) == expected
