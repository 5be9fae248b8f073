"""Test LDA: leave-one-out equals a refit to 1e-6 in both decompositions."""

from __future__ import annotations

import numpy as np
import pytest
from _spectra import NUM_CLASSES, by_gram, by_kernel, folds_of, toy

from headstart.probe.lda import lda_coefficients, log_class_frequencies
from headstart.probe.leave_one_out import out_of_fold

RELATIVE = np.logspace(-5, 1, 5)
FORMS = [
    pytest.param(by_kernel, (40, 90), id="N<D, kernel"),
    pytest.param(by_kernel, (90, 25), id="N>D, kernel"),
    pytest.param(by_gram, (90, 25), id="N>D, Gram"),
]


def refit(rows, class_ids, weights, penalty, keep, queries):
    """Return discriminants of shrinkage LDA fitted naively on the kept samples."""
    width = rows.shape[1]
    scatter = penalty * np.eye(width)
    means = np.full((NUM_CLASSES, width), np.nan)
    for k in range(NUM_CLASSES):
        index = np.flatnonzero(keep & (class_ids == k))
        if len(index):
            means[k] = np.average(rows[index], axis=0, weights=weights[index])
            centered = rows[index] - means[k]
            scatter += centered.T @ (weights[index, None] * centered)
    out = np.full((len(queries), NUM_CLASSES), -np.inf)
    for k in np.flatnonzero(np.isfinite(means[:, 0])):
        direction = np.linalg.solve(scatter, means[k])
        out[:, k] = queries @ direction - 0.5 * means[k] @ direction
    return out


def center(scores):
    """Subtract the row mean, which softmax ignores."""
    return scores - np.nanmean(np.where(np.isfinite(scores), scores, np.nan), axis=-1, keepdims=True)


def without(fold, num):
    keep = np.ones(num, dtype=bool)
    keep[fold] = False
    return keep


@pytest.mark.parametrize(("decompose", "shape"), FORMS)
@pytest.mark.parametrize("num_groups", [0, 2, 9, 30])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_leave_one_out_equals_refit(decompose, shape, num_groups, is_weighted):
    rows, class_ids, weights = toy(*shape, is_weighted)
    groups = np.random.default_rng(1).integers(0, num_groups, shape[0]) if num_groups else np.arange(shape[0])
    spectrum, _, _ = decompose(rows, class_ids, weights)
    penalties = spectrum.trace * RELATIVE
    folds = folds_of(groups)
    _, all_scores = out_of_fold(spectrum, penalties, folds if num_groups else None)
    for penalty, scores in zip(penalties, all_scores, strict=True):
        for fold in folds:
            keep = without(fold, shape[0])
            expected = center(refit(rows, class_ids, weights, penalty, keep, rows[fold]))
            finite = np.isfinite(expected)
            scale = max(1.0, np.abs(expected[finite]).max())
            np.testing.assert_array_equal(np.isfinite(scores[fold]), finite)
            difference = (center(scores[fold]) - expected)[finite] / scale
            np.testing.assert_allclose(difference, 0.0, atol=1e-6)


@pytest.mark.parametrize("decompose", [by_kernel, by_gram])
@pytest.mark.parametrize("shape", [(40, 90), (90, 12)], ids=["N<D", "N>D"])
@pytest.mark.parametrize("size", [1, 5, 30])
def test_class_within_one_fold_is_never_predicted(decompose, shape, size):
    rows, class_ids, weights = toy(*shape, True)
    class_ids = np.where(class_ids == 3, 0, class_ids)
    class_ids[5] = 3  # a class of one image
    spectrum, _, _ = decompose(rows, class_ids, weights)
    groups = np.where(np.arange(shape[0]) // size == 5 // size, 0, 1 + np.arange(shape[0]) // size)
    folds = folds_of(groups)
    fold = next(f for f in folds if 5 in f)
    result = out_of_fold(spectrum, np.array([2.0]), None if size == 1 else folds)[1][0]
    assert (result[fold, 3] == -np.inf).all()
    assert np.isfinite(np.delete(result, fold, axis=0)).all()
    expected = refit(rows, class_ids, weights, 2.0, without(fold, shape[0]), rows[fold])
    np.testing.assert_allclose(center(result[fold])[:, :3], center(expected)[:, :3], atol=1e-6)


@pytest.mark.parametrize("decompose", [by_kernel, by_gram])
@pytest.mark.parametrize("shape", [(40, 90), (90, 25)], ids=["N<D", "N>D"])
def test_coefficients_match_definition(decompose, shape):
    rows, class_ids, weights = toy(*shape, True)
    spectrum, directions, mean = decompose(rows, class_ids, weights)
    weight, bias = lda_coefficients(spectrum, 0.7)
    result = (rows - mean) @ directions @ weight.T + bias
    expected = refit(rows, class_ids, weights, 0.7, np.ones(len(rows), dtype=bool), rows)
    np.testing.assert_allclose(center(result), center(expected), atol=1e-6)


def test_class_priors_exclude_sample_or_fold():
    class_ids = np.array([0, 0, 1, 1, 1, 2])
    weights = np.array([1.0, 1.0, 2.0, 2.0, 2.0, 1.0])
    masses = np.array([2.0, 6.0, 1.0])
    result = log_class_frequencies(class_ids, masses, weights)
    np.testing.assert_allclose(np.exp(result[0]), [1 / 8, 6 / 8, 1 / 8])
    assert result[5, 2] == -np.inf
    folds = [np.array([0, 2]), np.array([1, 3, 4]), np.array([5])]
    frequencies = np.exp(log_class_frequencies(class_ids, masses, weights, folds)[2])
    np.testing.assert_allclose(frequencies, [1 / 6, 4 / 6, 1 / 6])
