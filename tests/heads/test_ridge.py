"""Ridge: left-out scores are those of a refit, to 1e-6, whichever form was decomposed."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.heads.ridge import ridge_coefficients, ridge_out_of_fold, signed_targets
from headstart.heads.spectrum import decompose


def refit(rows, targets, weights, penalty, keep):
    """Weighted ridge with a free intercept, by the normal equations of the samples kept."""
    x = np.column_stack([rows[keep], np.ones(keep.sum())])
    w = weights[keep][:, None]
    penalise = penalty * np.eye(x.shape[1])
    penalise[-1, -1] = 0.0
    return np.linalg.solve(x.T @ (w * x) + penalise, x.T @ (w * targets[keep]))


@pytest.mark.parametrize("shape", [(40, 90), (90, 25)], ids=["N<D", "N>D"])
@pytest.mark.parametrize("is_grouped", [False, True])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_left_out_scores_are_those_of_a_refit(shape, is_grouped, is_weighted):
    rng = np.random.default_rng(0)
    num = shape[0]
    rows = rng.normal(size=shape)
    class_ids = rng.integers(0, 4, num)
    weights = np.array([1.0, 0.3, 2.0, 5.0])[class_ids] if is_weighted else np.ones(num)
    groups = rng.integers(0, 7, num) if is_grouped else np.arange(num)
    folds = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    spectrum = decompose(rows, weights)
    targets = signed_targets(class_ids, 4)
    penalties = spectrum.trace * np.logspace(-6, 1, 5)
    scores = ridge_out_of_fold(spectrum, targets, penalties, folds if is_grouped else None)
    for penalty, found in zip(penalties, scores, strict=True):
        for fold in folds:
            keep = np.ones(num, dtype=bool)
            keep[fold] = False
            coefficients = refit(rows, targets, spectrum.weights, penalty, keep)
            expected = np.column_stack([rows[fold], np.ones(len(fold))]) @ coefficients
            np.testing.assert_allclose(found[fold], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(40, 90), (90, 25)], ids=["N<D", "N>D"])
def test_coefficients_are_those_of_the_normal_equations(shape):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=shape) + 3.0
    class_ids = rng.integers(0, 3, shape[0])
    targets = signed_targets(class_ids, 3)
    spectrum = decompose(rows, np.array([1.0, 2.0, 0.5])[class_ids])
    penalty = 0.01 * spectrum.trace
    weight, bias = ridge_coefficients(spectrum, targets, penalty)
    expected = refit(rows, targets, spectrum.weights, penalty, np.ones(len(rows), dtype=bool))
    np.testing.assert_allclose(np.column_stack([weight, bias]).T, expected, atol=1e-8)
