"""Test the selection-bias correction against known truth."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.evaluation.selection_bias import selection_bias


def test_one_candidate_has_no_bias() -> None:
    assert selection_bias(np.ones((1, 9)), np.ones((1, 9), bool)) == 0.0


def test_equal_candidates_have_no_bias() -> None:
    rng = np.random.default_rng(0)
    loss = np.repeat(rng.exponential(size=(1, 200)), 8, axis=0)
    assert selection_bias(loss, loss < 0.7) == 0.0


def test_bias_estimate_matches_simulation() -> None:
    """Best of 20 coins with probability 0.7 after 100 throws: the correction removes most of the bias."""
    rng = np.random.default_rng(0)
    plain, corrected = [], []
    for i in range(60):
        hits = rng.random((20, 100)) < 0.7
        losses = 1.0 - hits
        best = hits.mean(axis=1).max()
        plain.append(best)
        corrected.append(best - selection_bias(losses, hits, seed=i, num_draws=100))
    assert np.mean(plain) > 0.76
    assert abs(np.mean(corrected) - 0.7) < 0.5 * (np.mean(plain) - 0.7)


def test_seed_determines_bias_and_groups_are_resampled() -> None:
    rng = np.random.default_rng(3)
    losses = rng.exponential(size=(6, 90))
    hits = losses < 0.7
    groups = np.repeat(np.arange(9), 10)
    assert selection_bias(losses, hits, seed=5) == selection_bias(losses, hits, seed=5)
    alone = selection_bias(losses, hits, seed=5)
    # Ten copies of each sample in one group are as much evidence as the samples once.
    copied = selection_bias(
        np.repeat(losses, 10, axis=1), np.repeat(hits, 10, axis=1), groups=np.repeat(np.arange(90), 10), seed=5
    )
    assert copied == pytest.approx(alone, abs=1e-12)
    assert selection_bias(losses, hits, groups=groups, seed=5) >= 0.0
