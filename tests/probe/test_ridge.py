"""Test ridge: leave-one-out equals a refit to 1e-6 in both decompositions."""

from __future__ import annotations

import numpy as np
import pytest
from _spectra import NUM_CLASSES, by_gram, by_kernel, folds_of, toy

from headstart.probe.leave_one_out import out_of_fold
from headstart.probe.ridge import ridge_coefficients

RELATIVE = np.logspace(-6, 1, 5)
FORMS = [
    pytest.param(by_kernel, (40, 90), id="N<D, kernel"),
    pytest.param(by_kernel, (90, 25), id="N>D, kernel"),
    pytest.param(by_gram, (90, 25), id="N>D, Gram"),
]


def refit(rows, class_ids, weights, penalty, keep):
    """Return weighted ridge coefficients on +-1 targets with an unpenalized intercept, from the kept samples."""
    targets = 2.0 * np.eye(NUM_CLASSES)[class_ids] - 1.0
    x = np.column_stack([rows[keep], np.ones(keep.sum())])
    w = weights[keep][:, None]
    penalise = penalty * np.eye(x.shape[1])
    penalise[-1, -1] = 0.0
    return np.linalg.solve(x.T @ (w * x) + penalise, x.T @ (w * targets[keep]))


@pytest.mark.parametrize(("decompose", "shape"), FORMS)
@pytest.mark.parametrize("num_groups", [0, 2, 9, 30])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_leave_one_out_scores_equal_refit(decompose, shape, num_groups, is_weighted):
    rows, class_ids, weights = toy(*shape, is_weighted)
    groups = np.random.default_rng(1).integers(0, num_groups, shape[0]) if num_groups else np.arange(shape[0])
    spectrum, _, _ = decompose(rows, class_ids, weights)
    penalties = spectrum.trace * RELATIVE
    folds = folds_of(groups)
    all_scores, _ = out_of_fold(spectrum, penalties, folds if num_groups else None)
    for penalty, scores in zip(penalties, all_scores, strict=True):
        for fold in folds:
            keep = np.ones(shape[0], dtype=bool)
            keep[fold] = False
            coefficients = refit(rows, class_ids, weights, penalty, keep)
            expected = np.column_stack([rows[fold], np.ones(len(fold))]) @ coefficients
            np.testing.assert_allclose(scores[fold], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("decompose", [by_kernel, by_gram])
@pytest.mark.parametrize("shape", [(40, 90), (90, 25)], ids=["N<D", "N>D"])
def test_coefficients_match_normal_equations(decompose, shape):
    rows, class_ids, weights = toy(*shape, True)
    spectrum, directions, mean = decompose(rows, class_ids, weights)
    penalty = 0.01 * spectrum.trace
    weight, bias = ridge_coefficients(spectrum, penalty)
    weight = weight @ directions.T
    expected = refit(rows, class_ids, weights, penalty, np.ones(len(rows), dtype=bool))
    np.testing.assert_allclose(np.column_stack([weight, bias - weight @ mean]).T, expected, atol=1e-8)
