"""Test temperatures and mixtures against grid search, and on separable data."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.probe.losses import best_mixture, best_multipliers, log_losses


def toy(num=200, num_classes=4, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    class_ids = rng.integers(0, num_classes, num)
    scores = np.eye(num_classes)[class_ids] + noise * rng.normal(size=(3, num, num_classes))
    return scores, class_ids, rng.uniform(0.5, 2.0, num)


def mean_loss(logits, class_ids, weights):
    return log_losses(logits, class_ids) @ weights / weights.sum()


@pytest.mark.parametrize("has_offset", [False, True])
def test_multipliers_match_grid_search(has_offset):
    scores, class_ids, weights = toy()
    offset = np.log(np.full((200, 4), [0.1, 0.2, 0.3, 0.4])) if has_offset else None
    multipliers = best_multipliers(scores, class_ids, weights, offset)
    grid = np.geomspace(0.01, 100, 4001)
    for i in range(3):
        added = 0.0 if offset is None else offset
        losses = [mean_loss(t * scores[i] + added, class_ids, weights) for t in grid]
        assert multipliers[i] == pytest.approx(grid[np.argmin(losses)], rel=0.03)  # targets are softened by 1/202


def test_multipliers_do_not_depend_on_scale():
    scores, class_ids, weights = toy()
    multipliers = best_multipliers(scores, class_ids, weights)
    for factor in (1e-3, 20.0):
        np.testing.assert_allclose(
            best_multipliers(factor * scores, class_ids, weights) * factor, multipliers, rtol=1e-3
        )


def test_separable_scores_have_finite_multiplier():
    class_ids = np.arange(60) % 3
    scores = np.eye(3)[class_ids][None]
    multiplier = best_multipliers(scores, class_ids, np.ones(60))
    confidence = np.exp(-log_losses(multiplier[:, None, None] * scores, class_ids)).mean()
    assert 0.97 < confidence < 1.0 - 1e-4


def test_uninformative_scores_get_zero_weight():
    _, class_ids, weights = toy()
    multipliers = best_multipliers(np.zeros((2, 200, 4)), class_ids, weights)
    assert np.isfinite(multipliers).all()


def test_mixture_matches_grid_search():
    scores, class_ids, weights = toy(noise=1.5)
    parts = scores[:2]
    mix = best_mixture(parts, class_ids, weights, np.array([0.5, 0.5]))
    loss = mean_loss(np.tensordot(mix, parts, 1), class_ids, weights)
    axis = np.linspace(0, 1.5, 61)
    grid = [mean_loss(a * parts[0] + b * parts[1], class_ids, weights) for a in axis for b in axis]
    assert loss <= min(grid) + 1e-4
    assert (mix > 0.05).all()


def test_harmful_part_gets_zero_weight():
    scores, class_ids, weights = toy(noise=0.5)
    parts = np.stack([scores[0], -scores[1]])
    mix = best_mixture(parts, class_ids, weights, np.array([0.5, 0.5]))
    assert mix[1] == 0.0
    assert mix[0] > 0.5


def test_samples_of_weight_zero_are_ignored():
    scores, class_ids, weights = toy()
    weights[150:] = 0.0
    changed = scores.copy()
    changed[:, 150:] = 1e3 * np.roll(scores[:, 150:], 1, axis=2)
    expected = best_multipliers(scores[:, :150], class_ids[:150], weights[:150])
    np.testing.assert_allclose(best_multipliers(changed, class_ids, weights), expected, rtol=1e-2)
    mixed = best_mixture(changed, class_ids, weights, np.ones(3))
    np.testing.assert_allclose(
        mixed, best_mixture(scores[:, :150], class_ids[:150], weights[:150], np.ones(3)), atol=1e-3
    )
