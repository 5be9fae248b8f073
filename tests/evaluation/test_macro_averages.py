"""Test effective sample sizes of macro averages against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.evaluation.intervals import wilson_interval
from headstart.evaluation.macro_averages import balanced_accuracy, f1_macro


def test_balanced_classes_keep_sample_size() -> None:
    counts = np.array([[180, 20], [20, 180]])
    share, n = balanced_accuracy(counts)
    assert share == pytest.approx(0.9)
    assert n == pytest.approx(400, rel=0.02)
    share, n = f1_macro(counts)
    assert share == pytest.approx(0.9)
    assert n == pytest.approx(400, rel=0.05)


def test_small_class_reduces_effective_sample_size() -> None:
    _, even = balanced_accuracy(np.array([[90, 10], [10, 90]]))
    _, odd = balanced_accuracy(np.array([[171, 19], [1, 9]]))
    assert odd < 0.4 * even


def test_perfect_score_has_interval() -> None:
    for figure in (balanced_accuracy, f1_macro):
        share, n = figure(np.diag([30, 30, 30]))
        assert share == 1.0
        assert 0.9 < wilson_interval(share, n)[0] < 0.98


def test_classes_without_samples_are_ignored() -> None:
    counts = np.array([[9, 1, 0], [2, 8, 0], [0, 0, 0]])
    assert balanced_accuracy(counts)[0] == pytest.approx(0.85)
    assert f1_macro(counts)[0] == pytest.approx(f1_macro(counts[:2, :2])[0])


@pytest.mark.parametrize("figure", [balanced_accuracy, f1_macro])
def test_interval_coverage(figure) -> None:
    """Coverage over 1,500 draws of ten uneven classes and 100 images is 92 to 98 %."""
    rng = np.random.default_rng(0)
    prior = np.geomspace(1, 5, 10) / np.geomspace(1, 5, 10).sum()
    wrong = rng.dirichlet(np.full(10, 0.5), size=10) * (1 - np.eye(10))
    recall = rng.uniform(0.7, 0.95, 10)
    joint = prior[:, None] * (np.diag(recall) + wrong / wrong.sum(axis=1, keepdims=True) * (1 - recall)[:, None])
    if figure is balanced_accuracy:
        truth = recall.mean()
    else:
        truth = float((2 * np.diag(joint) / (joint.sum(axis=0) + joint.sum(axis=1))).mean())
    held = 0
    for counts in rng.multinomial(100, joint.ravel(), size=1500):
        low, high = wilson_interval(*figure(counts.reshape(10, 10)))
        held += low <= truth <= high
    assert 0.92 <= held / 1500 <= 0.98
