"""Test the coverage of prediction sets on new images."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.evaluation.conformal import fit_prediction_sets
from headstart.evaluation.softmax import softmax


def draw(num: int, rng: np.random.Generator, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    ids = rng.integers(0, classes, num)
    logits = rng.normal(size=(num, classes))
    logits[np.arange(num), ids] += 1.2
    return softmax(logits), ids


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("num", [40, 300])
def test_coverage_on_new_images(coverage: float, num: int) -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(60):
        sets = fit_prediction_sets(*draw(num, rng), coverage=coverage, num_folds=2)
        p, ids = draw(1000, rng)
        held.append(sets.sets(p)[np.arange(1000), ids].mean())
    assert coverage - 0.012 <= np.mean(held) <= coverage + 0.03


def test_coverage_per_class() -> None:
    """A much harder class is covered because it has its own threshold."""
    rng = np.random.default_rng(1)

    def hard(num: int) -> tuple[np.ndarray, np.ndarray]:
        ids = rng.integers(0, 3, num)
        logits = rng.normal(size=(num, 3))
        logits[np.arange(num), ids] += np.array([0.0, 3.0, 3.0])[ids]
        return softmax(logits), ids

    sets = fit_prediction_sets(*hard(900), coverage=0.9)
    p, ids = hard(6000)
    inside = sets.sets(p)[np.arange(6000), ids]
    assert sets.is_per_class.all()
    assert inside[ids == 0].mean() == pytest.approx(0.9, abs=0.05)
    few = fit_prediction_sets(*hard(40), coverage=0.9)
    assert not few.is_per_class.all()


def test_empirical_coverage_has_interval_without_guarantee() -> None:
    rng = np.random.default_rng(2)
    sets = fit_prediction_sets(*draw(500, rng), coverage=0.9)
    assert sets.empirical.low <= 0.9 <= sets.empirical.high
    assert not sets.is_guaranteed
    assert fit_prediction_sets(*draw(500, rng), is_separate_split=True).is_guaranteed
    assert 0 <= sets.empty_fraction + sets.single_fraction <= 1


def test_too_few_images_give_full_sets() -> None:
    rng = np.random.default_rng(3)
    p, ids = draw(8, rng)
    sets = fit_prediction_sets(p, ids, coverage=0.9)
    assert (sets.thresholds == 0).all()
    assert sets.sets(p).all()
    assert sets.empirical.value == 1.0


def test_coverage_of_new_group() -> None:
    """Groups differ in difficulty and size."""
    rng = np.random.default_rng(4)

    def grouped(num_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sizes = rng.integers(1, 30, num_groups)
        groups = np.repeat(np.arange(num_groups), sizes)
        ids = rng.integers(0, 3, len(groups))
        logits = rng.normal(size=(len(groups), 3))
        logits[np.arange(len(groups)), ids] += rng.normal(1.5, 1.0, num_groups)[groups]
        return softmax(logits), ids, groups

    held = []
    for _ in range(60):
        p, ids, groups = grouped(30)
        sets = fit_prediction_sets(p, ids, groups=groups, coverage=0.9, num_folds=2)
        p, ids, groups = grouped(200)
        inside = sets.sets(p)[np.arange(len(ids)), ids]
        held.append(np.mean([inside[groups == g].mean() for g in range(200)]))
    assert 0.89 <= np.mean(held) <= 0.96


def test_set_sizes() -> None:
    rng = np.random.default_rng(5)
    ids = rng.integers(0, 3, 300)
    p = softmax(np.eye(3)[ids] * 6 + rng.normal(size=(300, 3)) * 0.3)
    sets = fit_prediction_sets(p, ids, coverage=0.9)
    assert sets.sets(p).sum(axis=1).max() == 1
    assert not sets.sets(np.full((1, 3), 1 / 3)).any()


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, float("nan")])
def test_invalid_coverage_raises(coverage: float) -> None:
    with pytest.raises(ValueError, match="coverage"):
        fit_prediction_sets(*draw(30, np.random.default_rng(0)), coverage=coverage)
