"""Test training: starts as the probe, keeps frozen weights, resumes to the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_networks import PLAN, MemorySource, Owner, make_net, make_task

from headstart.errors import BundleError, CacheError, SettingError
from headstart.evaluation.metrics import softmax
from headstart.probe.probe import fit_probe
from headstart.training.checkpoint import Checkpoints, load_snapshot, save_snapshot
from headstart.training.folds import make_folds
from headstart.training.loop import Training, predict_logits
from headstart.training.network import interpolate
from headstart.training.optim import OPTIMIZERS, SCHEDULES, factor_at
from headstart.training.plan import parse_unfreeze
from headstart.training.probe_comparison import ALPHAS, PairedLogits, compare_to_probe


def make_training(**changes: Any) -> Training:
    owner = Owner()
    pixels, ids = make_task()
    states = owner.state(pixels)
    train, val = np.arange(45), np.arange(45, 60)
    net, _ = make_net(owner, states, ids, train, dropout=changes.get("dropout", 0.0))
    return Training(net, MemorySource(states), ids, replace(PLAN, **changes), train, val)


@pytest.mark.parametrize("hidden", [(), (8,)])
def test_start_is_probe(hidden: tuple[int, ...]) -> None:
    owner = Owner()
    pixels, ids = make_task()
    states = owner.state(pixels)
    train = np.arange(60)
    net, head = make_net(owner, states, ids, train, hidden=hidden)
    with torch.no_grad():
        blocks = {"embedding": net.suffix(states)[0].numpy()}
    expected = softmax(head.logits(blocks))
    start = net.copy_trained()
    source = MemorySource(states)
    np.testing.assert_allclose(softmax(predict_logits(net, source, train)), expected, atol=1e-5)
    training = Training(net, source, ids, PLAN, train)
    list(training.run())
    end = net.copy_trained()
    changed = softmax(predict_logits(net, source, train))
    assert np.abs(changed - expected).max() > 1e-3
    net.load_trained(interpolate(start, end, 0.0))
    np.testing.assert_allclose(softmax(predict_logits(net, source, train)), expected, atol=1e-5)
    if not hidden:
        net.load_trained(end)
        linear = net.head.to_linear(head)
        with torch.no_grad():
            tuned = {"embedding": net.suffix(states)[0].numpy()}
        np.testing.assert_allclose(softmax(linear.logits(tuned)), changed, atol=1e-5)


def test_frozen_tensors_are_bit_identical() -> None:
    training = make_training(dropout=0.2)
    before = training.net.frozen_digest()
    statistics = training.net.suffix.high[1].running_mean.clone()
    start = training.net.copy_trained()
    list(training.run())
    assert training.net.frozen_digest() == before
    assert torch.equal(training.net.suffix.high[1].running_mean, statistics)
    assert not any(torch.equal(start[n], t) for n, t in training.net.trained().items())
    training.net._owner[0].low[0].weight.data[0, 0, 0, 0] += 1e-7
    assert training.net.frozen_digest() != before


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_resumed_training_matches(optimizer: str, tmp_path: Path) -> None:
    options = {"optimizer": optimizer, "dropout": 0.3, "mixup": 0.2}
    whole = make_training(**options)
    list(whole.run())
    first = make_training(**options)
    for i, _ in enumerate(first.run()):
        if i == 6:  # in the middle of an epoch
            save_snapshot(tmp_path / "state.safetensors", first.snapshot())
            break
    second = make_training(**options)
    second.restore(load_snapshot(tmp_path / "state.safetensors"))
    assert second.step == first.step == 7
    list(second.run())
    assert all(torch.equal(whole.net.trained()[n], t) for n, t in second.net.trained().items())
    for a, b in zip(whole.records, second.records, strict=True):
        assert replace(a, duration_s=0.0) == replace(b, duration_s=0.0)


def test_seed_determines_weights() -> None:
    ends = []
    for seed in (0, 0, 1):
        training = make_training(seed=seed)
        list(training.run())
        ends.append(training.net.copy_trained())
    assert all(torch.equal(ends[0][n], ends[1][n]) for n in ends[0])
    assert not all(torch.equal(ends[0][n], ends[2][n]) for n in ends[0])


def test_checkpoint_of_another_plan_is_refused() -> None:
    snapshot = make_training().snapshot()
    with pytest.raises(ValueError, match="plan"):
        make_training(lr=5e-3).restore(snapshot)


@pytest.mark.parametrize("changes", [{"unfreeze": (("stage1", 0.0),)}, {"hidden": (8,)}])
def test_plan_survives_json(changes: dict[str, Any], tmp_path: Path) -> None:
    save_snapshot(tmp_path / "x.safetensors", make_training(**changes).snapshot())
    training = make_training(**changes)
    training.restore(load_snapshot(tmp_path / "x.safetensors"))
    assert training.step == 0


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "x.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=r"x\.safetensors") as caught:
        load_snapshot(path)
    assert f"headstart resume {tmp_path / 'run'} " in (caught.value.hint or "")


def test_non_finite_loss_keeps_last_good_weights() -> None:
    training = make_training()
    steps = training.run()
    while next(steps) is None:
        pass
    good = training.net.copy_trained()
    training.source.states = torch.full_like(training.source.states, float("nan"))  # type: ignore[attr-defined]
    list(steps)
    assert training.is_diverged
    assert len(training.records) == 1
    assert all(torch.equal(good[n], t) for n, t in training.net.trained().items())


def test_diverging_training_is_stopped() -> None:
    training = make_training(
        head_lr=9.9, weight_decay=1.0, grad_clip_norm=0.0, optimizer="sgd", schedule="constant", epochs=40
    )
    list(training.run())
    assert training.is_diverged
    assert max(r.train_loss for r in training.records) < 1e4
    assert max(r.train_loss for r in training.records) > 3  # some epochs ended in non-finite weights
    logits = predict_logits(training.net, training.source, training.train)
    p = softmax(logits)[np.arange(len(training.train)), training.class_ids[training.train]]
    assert -np.log(p).mean() < 2.0 * np.log(3)


def test_patience_keeps_best_epoch() -> None:
    training = make_training(patience=1, lr=0.5, head_lr=5.0, epochs=30, grad_clip_norm=0.0, warmup=0.0)
    list(training.run())
    assert training.is_stopped_early
    assert len(training.records) < 30
    best = min(training.records, key=lambda r: r.val_loss or 0.0)
    assert training.val is not None
    logits = predict_logits(training.net, training.source, training.val)
    p = softmax(logits)[np.arange(15), training.class_ids[training.val]]
    assert -np.log(p).mean() == pytest.approx(best.val_loss, rel=1e-4)


def test_batch_larger_than_data_is_one_step() -> None:
    training = make_training(batch_size=1000, epochs=2)
    list(training.run())
    assert training.step == training.num_steps == 2


def test_stage_is_frozen_until_unfrozen() -> None:
    training = make_training(unfreeze=(("head", 0.0), ("stage1", 0.5)))
    training.stage_names = ("stage0", "stage1")
    training.__post_init__()
    start = training.net.copy_trained()
    steps = training.run()
    for _ in range(training.num_steps // 2):
        next(steps)
    now = training.net.trained()
    moved = {n for n in now if not torch.equal(start[n], now[n])}
    assert moved == {"head.weight", "head.bias"}
    list(steps)
    assert all(not torch.equal(start[n], t) for n, t in training.net.trained().items())


def test_class_weights_shift_loss() -> None:
    wrong = []
    for factor in (0.05, 20.0):
        training = make_training(lr=0.0, layer_decay=1.0, epochs=6)
        training.class_weights = np.array([factor, 1.0, 1.0])
        training.__post_init__()
        list(training.run())
        predicted = predict_logits(training.net, training.source, np.arange(60)).argmax(1)
        wrong.append(int((predicted == 0).sum()))
    assert wrong[0] < wrong[1]


def test_schedules() -> None:
    for name in SCHEDULES:
        values = [factor_at(name, s, 0.1) for s in np.linspace(0, 1, 101)]
        assert values[0] == 0.0
        assert max(values) <= 1.0
        assert values[5] < values[10] or name == "onecycle"
        assert values[-1] <= (1.0 if name == "constant" else 0.01)


def test_unknown_optimizer_is_named() -> None:
    with pytest.raises(SettingError, match="adamax"):
        make_training(optimizer="adamax")


def test_parse_unfreeze() -> None:
    assert parse_unfreeze("stage7@0, stage6@30%,stage5@.6") == (("stage7", 0.0), ("stage6", 0.3), ("stage5", 0.6))
    for text in ("stage7@x", "stage7@130%", "stage6@30%"):
        with pytest.raises(SettingError):
            parse_unfreeze(text)


def test_folds_keep_groups_and_class_balance() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, 400)
    groups = rng.integers(0, 80, 400)
    folds = make_folds(ids, 5, groups=groups, seed=1)
    assert all(len(np.unique(folds[groups == g])) == 1 for g in np.unique(groups))
    alone = make_folds(ids, 5, seed=1)
    counts = np.array([np.bincount(ids[alone == f], minlength=4) for f in range(5)])
    assert (counts.max(0) - counts.min(0)).max() <= 2
    assert len(np.unique(make_folds(ids[:3], 5))) == 3


def test_journaled_value_is_measured_once(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path / "c")
    assert first.once("speed", lambda: 1.5) == 1.5
    assert Checkpoints(tmp_path / "c").once("speed", lambda: 9.0) == 1.5


def test_full_disk_keeps_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    training = make_training()
    checkpoints.save("job", training.snapshot())
    before = load_snapshot(tmp_path / "c" / "job.safetensors")

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    steps = training.run()
    next(steps)
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CacheError, match="No space left"):
        checkpoints.save("job", training.snapshot())
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(CacheError, match="No space left"):
        checkpoints.write("key", 1)
    monkeypatch.undo()
    after = Checkpoints(tmp_path / "c").load("job")
    assert after is not None
    assert after.values["step"] == before.values["step"] == 0


class TestComparison:
    def test_noise_is_rarely_accepted(self) -> None:
        accepted = 0
        for trial in range(200):
            rng = np.random.default_rng(trial)
            ids = rng.integers(0, 3, 120)
            base = rng.normal(size=(120, 3)) + 1.5 * np.eye(3)[ids]
            one = base + 0.3 * rng.normal(size=base.shape)
            two = base + 0.3 * rng.normal(size=base.shape)
            tuned = np.stack([one + s * (two - one) for s in ALPHAS])
            folds = make_folds(ids, 3, seed=trial)
            # Interpolation averages the noise of two probes, a real gain; compare without it.
            accepted += compare_to_probe(PairedLogits(one, tuned[-1:], ids, folds, alphas=(1.0,)), seed=trial).is_better
        assert accepted <= 40

    def test_real_gain_is_accepted(self) -> None:
        rng = np.random.default_rng(0)
        ids = rng.integers(0, 3, 150)
        probe = rng.normal(size=(150, 3)) + np.eye(3)[ids]
        tuned = np.stack([probe + s * 1.5 * np.eye(3)[ids] for s in ALPHAS])
        verdict = compare_to_probe(PairedLogits(probe, tuned, ids, np.zeros(150, dtype=np.int64)))
        assert verdict.is_better
        assert verdict.alpha == 1.0
        assert verdict.accuracy_gain > 0
        assert 0 < verdict.low < verdict.gain < verdict.high
        assert not verdict.is_worse

    def test_worse_model_falls_back_to_probe(self) -> None:
        rng = np.random.default_rng(0)
        ids = rng.integers(0, 3, 150)
        probe = rng.normal(size=(150, 3)) + 3 * np.eye(3)[ids]
        tuned = np.stack([probe - s * 4 * np.eye(3)[ids] for s in ALPHAS])
        verdict = compare_to_probe(PairedLogits(probe, tuned, ids, make_folds(ids, 3)))
        assert (verdict.is_better, verdict.alpha, verdict.gain) == (False, 0.0, 0.0)
        np.testing.assert_allclose(verdict.logits, probe, rtol=1e-6)
        comparison = compare_to_probe(PairedLogits(probe, tuned, ids, make_folds(ids, 3)), is_probe_allowed=False)
        assert not comparison.is_better
        assert comparison.alpha > 0
        assert comparison.gain < comparison.high < 0
        assert comparison.is_worse
        assert comparison.to_json()["is_worse"] is True
        assert "logits" not in comparison.to_json()

    def test_equal_models_are_undecided(self) -> None:
        rng = np.random.default_rng(0)
        ids = rng.integers(0, 3, 150)
        probe = rng.normal(size=(150, 3)) + np.eye(3)[ids]
        tuned = np.stack([probe] * len(ALPHAS))
        verdict = compare_to_probe(PairedLogits(probe, tuned, ids, make_folds(ids, 3)))
        assert not verdict.is_better
        assert not verdict.is_worse

    def test_best_gain_is_upper_bound(self) -> None:
        for seed in range(20):
            rng = np.random.default_rng(seed)
            ids = rng.integers(0, 3, 40)
            probe = rng.normal(size=(40, 3)) + np.eye(3)[ids]
            end = probe + rng.normal(0, 1.0, size=probe.shape)
            tuned = np.stack([probe + s * (end - probe) for s in ALPHAS])
            verdict = compare_to_probe(PairedLogits(probe, tuned, ids, make_folds(ids, 3)), seed=seed)
            assert verdict.best_gain >= max(0.0, verdict.gain) - 1e-12
            assert (verdict.best_gain > 0) == (verdict.alpha > 0)

    def test_groups_widen_the_interval(self) -> None:
        rng = np.random.default_rng(0)
        groups = np.repeat(np.arange(10), 20)
        ids = rng.integers(0, 2, 200)
        effect = rng.normal(0.3, 1.0, 10)[groups]
        probe = rng.normal(size=(200, 2)) + np.eye(2)[ids]
        tuned = (probe + (effect[:, None] * np.eye(2)[ids]))[None]
        plain = compare_to_probe(PairedLogits(probe, tuned, ids, np.zeros(200), alphas=(1.0,)))
        grouped = compare_to_probe(PairedLogits(probe, tuned, ids, np.zeros(200), groups=groups, alphas=(1.0,)))
        assert grouped.low < plain.low
        assert grouped.accuracy_error > plain.accuracy_error

    def test_permuted_labels_score_chance(self) -> None:
        owner = Owner()
        pixels, ids = make_task(90)
        ids = np.random.default_rng(3).permutation(ids)
        states = owner.state(pixels)
        with torch.no_grad():
            features = owner.high(states).mean((2, 3)).numpy()
        folds = make_folds(ids, 3)
        start = {n: t.clone() for n, t in owner.state_dict().items()}
        probe, tuned, order = [], [], []
        for f in range(3):
            owner.load_state_dict(start)
            train, held = np.flatnonzero(folds != f), np.flatnonzero(folds == f)
            net, _ = make_net(owner, states, ids, train)
            list(Training(net, MemorySource(states), ids, replace(PLAN, epochs=6), train).run())
            probe.append(fit_probe({"e": features[train]}, ids[train], 3).head.logits({"e": features[held]}))
            tuned.append(predict_logits(net, MemorySource(states), held))
            order.append(held)
        index = np.concatenate(order)
        verdict = compare_to_probe(
            PairedLogits(np.concatenate(probe), np.concatenate(tuned)[None], ids[index], folds[index], alphas=(1.0,))
        )
        accuracy = float((np.concatenate(tuned).argmax(1) == ids[index]).mean())
        assert abs(accuracy - 1 / 3) < 3.5 * np.sqrt(2 / 9 / 90)
        assert not verdict.is_better
