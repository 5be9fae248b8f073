"""Test vector scaling per class: applied where it pays, with consistent head and scores."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.evaluation.class_calibration import scale_classes
from headstart.evaluation.softmax import log_softmax, softmax
from headstart.probe.probe import ProbeFit, fit_probe

BLOCKS = {"embedding": np.random.default_rng(0).normal(size=(600, 12)).astype(np.float32)}
IDS = (BLOCKS["embedding"][:, :3] + np.random.default_rng(1).normal(size=(600, 3))).argmax(axis=1)


@pytest.fixture(scope="module")
def fit() -> ProbeFit:
    return fit_probe(BLOCKS, IDS, 3)


def test_calibrated_head_is_unchanged(fit: ProbeFit) -> None:
    scaled, _ = scale_classes(fit, IDS, None)
    assert scaled is fit


def test_miscalibrated_classes_are_rescaled(fit: ProbeFit) -> None:
    """One class is made twice as confident and another is shifted; scaling undoes both, also in the head."""
    from dataclasses import replace

    scale, shift = np.array([2.0, 1.0, 0.6], np.float32), np.array([0.0, 1.5, -0.5], np.float32)
    t = np.float32(fit.head.temperature)
    miscalibrated = replace(
        fit,
        oof_logits=fit.oof_logits * scale + shift,
        head=replace(fit.head, weight=fit.head.weight * scale[:, None], bias=fit.head.bias * scale + shift * t),
    )
    scaled, decision = scale_classes(miscalibrated, IDS, None)
    assert decision is not None
    assert decision.value == "vector_scaling"
    rows = np.arange(600)
    loss = {
        name: -log_softmax(f.oof_logits)[rows, IDS].mean()
        for name, f in (("before", miscalibrated), ("after", scaled), ("sound", fit))
    }
    assert loss["after"] < loss["before"] - 0.05
    assert loss["after"] == pytest.approx(loss["sound"], abs=0.02)
    np.testing.assert_allclose(
        softmax(scaled.head.logits(BLOCKS)), softmax(fit.head.logits(BLOCKS)), atol=0.12, err_msg="the head itself"
    )
    assert scaled.candidate_names[-1] == "final"
    assert len(scaled.candidate_names) == len(scaled.candidate_losses) == len(scaled.candidate_hits)
    np.testing.assert_allclose(scaled.candidate_losses[-1].mean(), loss["after"], rtol=1e-5)


def test_too_few_images_skip_scaling() -> None:
    few = {"embedding": BLOCKS["embedding"][:100]}
    fit = fit_probe(few, IDS[:100], 3)
    assert scale_classes(fit, IDS[:100], None) == (fit, None)
