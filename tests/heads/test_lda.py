"""LDA: left-out discriminants are those of a refit, to 1e-6, whichever form was decomposed."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.heads.lda import lda_coefficients, lda_out_of_fold, log_shares
from headstart.heads.spectrum import decompose


def refit(rows, class_ids, weights, penalty, keep, queries, num_classes):
    """Discriminants of shrinkage LDA fitted on the samples kept, written down naively."""
    width = rows.shape[1]
    scatter = penalty * np.eye(width)
    means = np.full((num_classes, width), np.nan)
    for k in range(num_classes):
        index = np.flatnonzero(keep & (class_ids == k))
        if len(index):
            means[k] = np.average(rows[index], axis=0, weights=weights[index])
            centred = rows[index] - means[k]
            scatter += centred.T @ (weights[index, None] * centred)
    out = np.full((len(queries), num_classes), -np.inf)
    for k in np.flatnonzero(np.isfinite(means[:, 0])):
        direction = np.linalg.solve(scatter, means[k])
        out[:, k] = queries @ direction - 0.5 * means[k] @ direction
    return out


def centre(scores):
    """Takes off what is common to the classes of a row, which no softmax sees."""
    finite = np.where(np.isfinite(scores), scores, np.nan)
    return scores - np.nanmean(finite, axis=-1, keepdims=True)


def make(shape, is_weighted, seed=0):
    rng = np.random.default_rng(seed)
    class_ids = np.r_[np.arange(4), np.arange(4), rng.integers(0, 4, shape[0] - 8)]
    rows = rng.normal(size=shape) + 2.0 * rng.normal(size=(4, shape[1]))[class_ids] + 3.0
    weights = np.array([1.0, 0.3, 2.0, 5.0])[class_ids] if is_weighted else np.ones(shape[0])
    return rng, rows, class_ids, weights


@pytest.mark.parametrize("shape", [(40, 90), (90, 25)], ids=["N<D", "N>D"])
@pytest.mark.parametrize("is_grouped", [False, True])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_left_out_discriminants_are_those_of_a_refit(shape, is_grouped, is_weighted):
    rng, rows, class_ids, weights = make(shape, is_weighted)
    groups = rng.integers(0, 9, shape[0]) if is_grouped else np.arange(shape[0])
    folds = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    spectrum = decompose(rows, weights)
    penalties = spectrum.trace * np.logspace(-5, 1, 5)
    found = lda_out_of_fold(spectrum, class_ids, 4, penalties, folds if is_grouped else None)
    for penalty, scores in zip(penalties, found, strict=True):
        for fold in folds:
            keep = np.ones(shape[0], dtype=bool)
            keep[fold] = False
            expected = refit(rows, class_ids, spectrum.weights, penalty, keep, rows[fold], 4)
            scale = max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(centre(scores[fold]) / scale, centre(expected) / scale, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(40, 90), (90, 25)], ids=["N<D", "N>D"])
def test_a_class_wholly_in_the_left_out_fold_is_impossible_and_the_rest_exact(shape):
    _, rows, class_ids, weights = make(shape, True)
    class_ids[class_ids == 3] = 0
    class_ids[5] = 3  # a class of one picture
    lone = lda_out_of_fold(decompose(rows, weights), class_ids, 4, np.array([2.0]))
    groups = np.where(class_ids == 3, 0, np.arange(shape[0]) // 4)
    folds = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    grouped = lda_out_of_fold(decompose(rows, weights), class_ids, 4, np.array([2.0]), folds)
    assert lone[0, 5, 3] == -np.inf
    assert np.isfinite(np.delete(lone[0], 5, axis=0)).all()
    for found, fold in [(lone, np.array([5])), (grouped, folds[0])]:
        keep = np.ones(shape[0], dtype=bool)
        keep[fold] = False
        expected = refit(rows, class_ids, decompose(rows, weights).weights, 2.0, keep, rows[fold], 4)
        np.testing.assert_allclose(centre(found[0, fold])[:, :3], centre(expected)[:, :3], atol=1e-6)
        assert (found[0, fold, 3] == -np.inf).all()


@pytest.mark.parametrize("shape", [(40, 90), (90, 25)], ids=["N<D", "N>D"])
def test_coefficients_are_those_of_the_definition(shape):
    _, rows, class_ids, weights = make(shape, True)
    spectrum = decompose(rows, weights)
    weight, bias = lda_coefficients(spectrum, class_ids, 4, 0.7)
    everyone = np.ones(shape[0], dtype=bool)
    expected = refit(rows, class_ids, spectrum.weights, 0.7, everyone, rows, 4)
    np.testing.assert_allclose(centre(rows @ weight.T + bias), centre(expected), atol=1e-6)


def test_class_shares_leave_out_the_sample_or_its_fold():
    class_ids = np.array([0, 0, 1, 1, 1, 2])
    weights = np.array([1.0, 1.0, 2.0, 2.0, 2.0, 1.0])
    np.testing.assert_allclose(np.exp(log_shares(class_ids, 3, weights)[0]), [1 / 8, 6 / 8, 1 / 8])
    assert log_shares(class_ids, 3, weights)[5, 2] == -np.inf
    folds = [np.array([0, 2]), np.array([1, 3, 4]), np.array([5])]
    np.testing.assert_allclose(np.exp(log_shares(class_ids, 3, weights, folds)[2]), [1 / 6, 4 / 6, 1 / 6])
