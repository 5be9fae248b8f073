"""Test logistic regression as a candidate: tried within limits, kept only if it helps, groups together."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from headstart.errors import MissingExtraError
from headstart.probe import fit_probe
from headstart.probe.labels import check_labels
from headstart.probe.logistic import fit_logistic, why_not_tried
from headstart.probe.losses import log_losses
from headstart.types.codes import DecisionReason


def digits(num, skip=0):
    """Return 8 x 8 digits as 64 features, on which logistic regression beats the closed forms."""
    from sklearn.datasets import load_digits

    x, class_ids = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[skip : skip + num]
    return {"embedding": x[order].astype(np.float32)}, class_ids[order]


def decision(fit):
    return next(d for d in fit.decisions if d.setting == "probe.logistic")


def test_logistic_is_tried_within_feature_and_time_limits():
    assert why_not_tried(1_000, 125, 10) is None
    reasons = {
        (3_000, 1_904, 10): DecisionReason.LOGISTIC_TOO_FEW_IMAGES_PER_FEATURE,
        (1_000, 126, 10): DecisionReason.LOGISTIC_TOO_FEW_IMAGES_PER_FEATURE,
        (3_000, 100, 200): DecisionReason.LOGISTIC_TOO_FEW_IMAGES_PER_CLASS,
        (1_000_000, 100, 10): DecisionReason.LOGISTIC_TAKES_TOO_LONG,
        (20_000, 2_000, 200): DecisionReason.LOGISTIC_TAKES_TOO_LONG,
    }
    for numbers, expected in reasons.items():
        reason, evidence = why_not_tried(*numbers)
        assert reason is expected
        assert (evidence["num_samples"], evidence["num_features"], evidence["num_classes"]) == numbers


def test_helpful_logistic_is_mixed_in():
    blocks, class_ids = digits(700)
    plain = fit_probe(blocks, class_ids, 10, logistic=False)
    mixed = fit_probe(blocks, class_ids, 10)
    assert decision(plain).evidence["is_tried"] is False
    assert decision(mixed).value == "on"
    losses = decision(mixed).evidence["log_loss"]
    assert losses["with"] < losses["without"]
    assert mixed.candidate_losses[-1].mean() < plain.candidate_losses[-1].mean() - 0.01
    assert len(mixed.candidate_names) == len(mixed.candidate_losses) > len(plain.candidate_names)
    new_blocks, new_ids = digits(1000, skip=700)
    assert log_losses(mixed.head.logits(new_blocks), new_ids).mean() == pytest.approx(
        mixed.candidate_losses[-1].mean(), abs=0.04
    )
    assert (
        log_losses(plain.head.logits(new_blocks), new_ids).mean()
        > 0.01 + log_losses(mixed.head.logits(new_blocks), new_ids).mean()
    )


def test_logistic_is_dropped_if_it_does_not_help():
    rng = np.random.default_rng(0)
    class_ids = np.arange(120) % 2
    blocks = {"embedding": (0.5 * class_ids[:, None] + rng.normal(size=(120, 100))).astype(np.float32)}
    fit = fit_probe(blocks, class_ids, 2, logistic=True)
    closed = fit_probe(blocks, class_ids, 2, logistic=False)
    if decision(fit).value == "off":
        np.testing.assert_array_equal(fit.oof_logits, closed.oof_logits)
    assert fit.candidate_losses[-1].mean() <= closed.candidate_losses[-1].mean() + 1e-6


def test_grouped_duplicates_do_not_help():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 60)).astype(np.float32)
    rows, ids = np.concatenate([x, x]), np.r_[np.arange(40) % 2, np.arange(40) % 2]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels, _ = check_labels(ids, 2, np.r_[np.arange(40), np.arange(40)], None)
    alone, _ = check_labels(ids, 2, None, None)
    grouped = fit_logistic(rows, labels, 80.0, np.random.default_rng(0))
    single = fit_logistic(rows, alone, 80.0, np.random.default_rng(0))
    assert grouped.hits[-1].mean() < 0.7
    assert single.hits[-1].mean() > grouped.hits[-1].mean() + 0.15


@pytest.mark.parametrize("num_classes", [2, 3])
def test_rare_classes_are_accepted(num_classes):
    blocks, class_ids = digits(81)
    class_ids = np.r_[class_ids[:-1] % 2, num_classes - 1]
    fit = fit_probe(blocks, class_ids, num_classes, logistic=True)
    assert np.isfinite(fit.oof_logits).all()
    assert np.isfinite(fit.candidate_losses).all()
    assert fit.unscorable.sum() == num_classes - 2
    assert not fit.candidate_hits[:, fit.unscorable].any()


def test_missing_scikit_learn(monkeypatch):
    blocks, class_ids = digits(520)
    for name in ("sklearn", "sklearn.linear_model"):
        monkeypatch.setitem(sys.modules, name, None)
    chosen = decision(fit_probe(blocks, class_ids, 10))
    assert (chosen.value, chosen.evidence["is_tried"]) == ("off", False)
    assert chosen.reason is DecisionReason.LOGISTIC_NEEDS_SCIKIT_LEARN
    with pytest.raises(MissingExtraError, match="logistic regression needs"):
        fit_probe(blocks, class_ids, 10, logistic=True)
