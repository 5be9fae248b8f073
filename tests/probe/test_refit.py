"""Test that refitting on the same rows gives the probe."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.probe import fit_probe
from headstart.probe.refit import refit_head


def toy(num=60, num_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.arange(num) % num_classes
    center = rng.normal(size=(num_classes, 16))
    return {"embedding": (center[ids] + rng.normal(size=(num, 16))).astype(np.float32)}, ids


@pytest.mark.parametrize("factors", [None, np.array([1.0, 3.0, 0.5])], ids=["plain", "weighted"])
@pytest.mark.parametrize("num", [12, 60], ids=["N<D", "N>D"])
def test_refit_on_same_rows_is_the_probe(num, factors):
    blocks, ids = toy(num)
    fit = fit_probe(blocks, ids, 3, class_weights=factors, logistic=False)
    weight, bias = refit_head(fit.head, fit.head.normalizer(blocks), ids, fit.choice, class_weights=factors)
    expected, constant = fit.head.folded()
    np.testing.assert_allclose(weight, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(bias - bias.mean(), constant - constant.mean(), atol=1e-4 * np.abs(constant).max())


def test_refit_follows_changed_features():
    blocks, ids = toy()
    fit = fit_probe(blocks, ids, 3, logistic=False)
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0].astype(np.float32)
    rows = fit.head.normalizer(blocks) @ turned
    old_weight, old_bias = fit.head.folded()
    weight, bias = refit_head(fit.head, rows, ids, fit.choice)
    assert ((rows @ weight.T + bias).argmax(1) == ids).mean() > 0.9
    assert ((rows @ old_weight.T + old_bias).argmax(1) == ids).mean() < 0.7


def test_class_without_images_keeps_its_index():
    blocks, ids = toy()
    fit = fit_probe(blocks, ids, 4, logistic=False)
    weight, bias = refit_head(fit.head, fit.head.normalizer(blocks), ids, fit.choice)
    assert weight.shape == (4, 16)
    assert (fit.head.normalizer(blocks) @ weight.T + bias).argmax(1).max() < 3
