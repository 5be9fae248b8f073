"""Test the probe: out-of-fold predictions equal refits and generalize."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.errors import DataError, InvalidEvaluationError
from headstart.probe import feature_sets, fit_probe
from headstart.probe.ensemble import leave_out, mixed_coefficients, score_choice
from headstart.probe.feature_sets import PENALTIES, fit_feature_sets
from headstart.probe.feature_space import open_space
from headstart.probe.labels import Labels, check_labels
from headstart.probe.normalize import fit_normalizer
from headstart.types.codes import EvaluationProtocol

SIZES = {"stage5": 8, "stage6": 12, "embedding": 20}


def toy(num, num_classes=3, signal=0.6, seed=0, sizes=SIZES):
    """Return blocks with a mean per class, and class ids with every class at least twice."""
    means = np.random.default_rng(99)
    rng = np.random.default_rng(seed)
    class_ids = np.r_[np.tile(np.arange(num_classes), 2), rng.integers(0, num_classes, num - 2 * num_classes)]
    blocks = {}
    for name, size in sizes.items():
        center = signal * means.normal(size=(num_classes, size))
        blocks[name] = (center[class_ids] + rng.normal(size=(num, size))).astype(np.float32)
    return blocks, class_ids


def take(blocks, index):
    return {name: block[index] for name, block in blocks.items()}


@pytest.mark.parametrize("num", [30, 90], ids=["N<D", "N>D"])
@pytest.mark.parametrize("is_grouped", [False, True])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_out_of_fold_logits_equal_refit(num, is_grouped, is_weighted):
    blocks, class_ids = toy(num, signal=0.3)
    groups = np.arange(num) // 4 if is_grouped else None
    factors = np.array([1.0, 3.0, 0.5]) if is_weighted else None
    labels, _ = check_labels(class_ids, 3, groups, factors)
    normalizer = fit_normalizer(blocks)
    rows = normalizer(blocks)
    chosen, _, _ = fit_feature_sets(normalizer, rows, labels, np.random.default_rng(0))
    rows = chosen.space.normalizer(blocks)
    unit = np.arange(num) if groups is None else groups
    for u in np.unique(unit)[:6]:
        rest, fold = np.flatnonzero(unit != u), np.flatnonzero(unit == u)
        # The weights are fixed: those of the kept samples are not rescaled to mean 1.
        held = Labels(labels.class_ids[rest], 3, labels.weights[rest], None)
        space = open_space(chosen.space.normalizer, rows[rest], held)
        penalties = PENALTIES * chosen.space.totals.trace / space.totals.trace
        weight, bias = space.lift(*mixed_coefficients(space.totals, penalties, chosen.choice))
        expected = rows[fold] @ weight.T + bias
        result = chosen.score.logits[fold]
        expected = expected - expected.mean(1, keepdims=True)
        np.testing.assert_allclose(result - result.mean(1, keepdims=True), expected, atol=1e-6)


def test_chunked_fit_equals_full_fit(monkeypatch):
    blocks, class_ids = toy(700)
    groups = np.arange(700) // 3
    monkeypatch.setattr(feature_sets, "_PATH_ROWS", 512)
    labels, _ = check_labels(class_ids, 3, groups, None)
    normalizer = fit_normalizer(blocks)
    chosen, _, _ = fit_feature_sets(normalizer, normalizer(blocks), labels, np.random.default_rng(0))
    everyone = np.arange(700)
    paths = leave_out(chosen.space.select(everyone), PENALTIES, labels.folds(), labels.unscorable())
    whole = score_choice(paths, chosen.choice)
    np.testing.assert_allclose(chosen.score.logits, whole.logits, atol=1e-6)
    np.testing.assert_allclose(chosen.score.losses, whole.losses, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(chosen.score.hits, whole.hits)


def test_fit_is_consistent():
    blocks, class_ids = toy(80)
    fit = fit_probe(blocks, class_ids, 3)
    num = len(fit.candidate_names)
    assert fit.candidate_losses.shape == fit.candidate_hits.shape == (num, 80)
    assert fit.candidate_names[-1] == "final"
    assert len(set(fit.candidate_names)) == num
    assert fit.setup.protocol is EvaluationProtocol.LEAVE_ONE_OUT
    for array in (fit.oof_logits, fit.candidate_losses, fit.head.weight, fit.head.bias, fit.head.logits(blocks)):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    np.testing.assert_array_equal(fit.oof_logits.argmax(1) == class_ids, fit.candidate_hits[-1])
    logits = fit.oof_logits.astype(np.float64)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(80), class_ids]
    np.testing.assert_allclose(losses, fit.candidate_losses[-1], atol=1e-4)
    weight, bias = fit.head.folded()
    np.testing.assert_allclose(fit.head.normalizer(blocks) @ weight.T + bias, fit.head.logits(blocks), atol=1e-4)
    assert {d.setting for d in fit.decisions} >= {
        "probe.blocks",
        "probe.mixture",
        "probe.temperature",
        "probe.logistic",
    }


def test_seed_determines_fit():
    blocks, class_ids = toy(1500, sizes={"stage": 30, "embedding": 40})
    a, b = (fit_probe(blocks, class_ids, 3, seed=5) for _ in range(2))
    np.testing.assert_array_equal(a.head.weight, b.head.weight)
    np.testing.assert_array_equal(a.oof_logits, b.oof_logits)


@pytest.mark.parametrize("is_noise_early", [True, False])
@pytest.mark.parametrize("num", [400, 1030], ids=["compared on all", "compared on a part"])
def test_noise_stages_are_dropped(num, is_noise_early):
    blocks, class_ids = toy(num, signal=0.15, sizes={"stage": 600, "embedding": 60})
    if is_noise_early:
        noise = np.random.default_rng(1).normal(size=(num, 600)).astype(np.float32)
        blocks = {"stage4": noise, "stage5": noise[::-1].copy(), "embedding": blocks["embedding"]}
    fit = fit_probe(blocks, class_ids, 3)
    assert (fit.head.normalizer.names == ("embedding",)) == is_noise_early
    chosen = next(d for d in fit.decisions if d.setting == "probe.blocks")
    losses = chosen.evidence["log_loss"]
    assert set(losses) == {"all_stages", "all_stages_earlier_half", "last_stage"}
    assert (min(losses, key=losses.get) == "last_stage") == is_noise_early
    assert chosen.evidence["num_compared"] == min(num, 512) if num > 1024 else num


def test_estimate_matches_new_images():
    gaps = []
    for seed in range(30):
        blocks, class_ids = toy(60, signal=0.25, seed=seed)
        fit = fit_probe(blocks, class_ids, 3)
        new_blocks, new_ids = toy(1000, signal=0.25, seed=1000 + seed)
        truth = (fit.head.logits(new_blocks).argmax(1) == new_ids).mean()
        gaps.append(fit.candidate_hits[-1].mean() - truth)
    standard_error = np.std(gaps) / np.sqrt(len(gaps))
    assert abs(np.mean(gaps)) < 0.02 + 2 * standard_error
    assert standard_error < 0.02


def test_shuffled_labels_score_chance():
    blocks, class_ids = toy(300, signal=1.0)
    shares = []
    for seed in range(8):
        shuffled = np.random.default_rng(seed).permutation(class_ids)
        shares.append(fit_probe(blocks, shuffled, 3).candidate_hits[-1].mean())
    assert 0.25 < np.mean(shares) < 0.41


def test_duplicates_help_only_without_groups():
    blocks, class_ids = toy(60, signal=0.0, sizes={"stage": 100, "embedding": 200})
    blocks = {name: np.concatenate([block, block]) for name, block in blocks.items()}
    class_ids, groups = np.r_[class_ids, class_ids], np.r_[np.arange(60), np.arange(60)]
    alone = fit_probe(blocks, class_ids, 3)
    grouped = fit_probe(blocks, class_ids, 3, groups=groups)
    assert grouped.setup.protocol is EvaluationProtocol.LEAVE_ONE_GROUP_OUT
    assert alone.candidate_hits[-1].mean() > 0.9
    assert grouped.candidate_hits[-1].mean() < 0.5
    assert alone.neighbor_hits.all()
    assert grouped.neighbor_hits.mean() < 0.5


def test_single_group_class_counts_as_wrong():
    blocks, class_ids = toy(61, signal=2.0)
    class_ids = np.where(class_ids == 2, 0, class_ids)
    class_ids[7] = 2
    lone = fit_probe(blocks, class_ids, 3)
    assert lone.unscorable.nonzero()[0].tolist() == [7]
    assert not lone.candidate_hits[:, 7].any()
    assert lone.candidate_losses[:, 7].min() >= 5.0
    groups = np.arange(61) // 4
    grouped = fit_probe(blocks, class_ids, 3, groups=groups)
    assert grouped.unscorable.nonzero()[0].tolist() == [7]
    assert not grouped.candidate_hits[:, 7].any()


def test_class_without_samples_is_never_predicted():
    blocks, class_ids = toy(60, num_classes=2)
    fit = fit_probe(blocks, 2 * class_ids, 4)
    everywhere, _ = toy(500, signal=5.0, seed=3)
    logits = fit.head.logits(everywhere)
    assert logits.shape == (500, 4)
    assert fit.oof_logits.shape == (60, 4)
    assert set(logits.argmax(1)) <= {0, 2}
    assert (logits[:, [1, 3]].max(1) < logits.min(1, where=np.array([1, 0, 1, 0], bool), initial=np.inf) - 10).all()


def test_class_weights_shift_errors():
    rng = np.random.default_rng(0)
    class_ids = np.r_[np.zeros(180, dtype=int), np.ones(20, dtype=int)]
    blocks = {"embedding": (0.4 * class_ids[:, None] + rng.normal(size=(200, 10))).astype(np.float32)}
    plain = fit_probe(blocks, class_ids, 2).candidate_hits[-1]
    weighted = fit_probe(blocks, class_ids, 2, class_weights=np.array([1.0, 9.0])).candidate_hits[-1]
    assert weighted[180:].mean() > plain[180:].mean() + 0.2
    assert weighted[:180].mean() < plain[:180].mean()


@pytest.mark.parametrize(
    ("num", "class_ids"),
    [
        (3, [0, 1, 1]),
        (4, [0, 1, 1, 0]),
        (8, [0, 0, 1, 2, 3, 4, 5, 6]),
        (400, np.arange(400) % 200),
    ],
    ids=["3 images", "2 a class", "N<K", "200 classes"],
)
def test_smallest_datasets(num, class_ids):
    blocks, _ = toy(num + 4, num_classes=2)
    class_ids = np.array(class_ids)
    fit = fit_probe(take(blocks, np.arange(num)), class_ids, int(class_ids.max()) + 1)
    assert np.isfinite(fit.oof_logits).all()
    assert np.isfinite(fit.head.logits(blocks)).all()


@pytest.mark.parametrize("num", [40, 200], ids=["N<D", "N>D"])
def test_constant_features_predict_most_frequent_class(num):
    class_ids = np.r_[np.zeros(num - 10, dtype=int), np.ones(10, dtype=int)]
    blocks = {"stage": np.ones((num, 30), dtype=np.float32), "embedding": np.zeros((num, 40), dtype=np.float32)}
    fit = fit_probe(blocks, class_ids, 2)
    assert (fit.head.logits(blocks).argmax(1) == 0).all()
    assert fit.candidate_hits[-1].mean() == pytest.approx((num - 10) / num)


def test_invalid_input_raises():
    blocks, class_ids = toy(30)
    with pytest.raises(InvalidEvaluationError, match="one group"):
        fit_probe(blocks, class_ids, 3, groups=np.zeros(30, dtype=int))
    with pytest.raises(DataError, match="not finite"):
        fit_probe({**blocks, "stage6": np.full((30, 12), np.nan, dtype=np.float32)}, class_ids, 3)


def test_no_heavy_imports(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, numpy as np\nfrom headstart.probe import fit_probe\n"
        "x = np.random.default_rng(0).normal(size=(40, 9)).astype('float32')\n"
        "fit_probe({'embedding': x}, np.arange(40) % 2, 2, logistic=False)\n"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'PIL', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
