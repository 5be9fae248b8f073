"""Test the coverage of out-of-fold intervals on real digits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from headstart.evaluation.metrics import evaluate
from headstart.probe import fit_probe


@pytest.mark.long
@pytest.mark.parametrize("copies", [0, 40])
def test_interval_covers_accuracy_on_other_images(copies: int) -> None:
    """Coverage over 150 draws of 120 digits, without and with duplicates as groups, is 90 to 99 %."""
    pixels, ids = load_digits(return_X_y=True)
    pixels = pixels.astype(np.float32)
    held, bias = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        drawn = rng.choice(len(ids), 120 - copies, replace=False)
        index = np.concatenate([drawn, rng.choice(drawn, copies)])
        rows = pixels[index].copy()
        rows[len(drawn) :] += rng.normal(size=(copies, 64)).astype(np.float32) * 0.2
        groups = index if copies else None
        fit = fit_probe({"embedding": rows}, ids[index], 10, groups=groups, logistic=False)
        score = evaluate(
            fit.oof_logits,
            ids[index],
            [str(k) for k in range(10)],
            setup=fit.setup,
            is_logits=True,
            groups=groups,
            candidates=(fit.candidate_losses, fit.candidate_hits),
            unscorable=fit.unscorable,
            seed=seed,
        ).accuracy
        rest = np.setdiff1d(np.arange(len(ids)), index)
        truth = (fit.head.logits({"embedding": pixels[rest]}).argmax(axis=1) == ids[rest]).mean()
        held.append(score.low <= truth <= score.high)
        bias.append(score.value - truth)
    assert 0.90 <= np.mean(held) <= 0.99
    assert abs(np.mean(bias)) < 0.02
