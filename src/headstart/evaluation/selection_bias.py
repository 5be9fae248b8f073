"""Estimate the selection bias of the best of several candidates on the same samples.

Selection is repeated in every bootstrap sample; the mean excess of the selected score over its score on all samples
is the bias. No model is refitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["selection_bias"]


def selection_bias(
    losses: NDArray[np.floating[Any]],
    hits: NDArray[np.bool_],
    *,
    groups: NDArray[np.int64] | None = None,
    sample_weights: NDArray[np.float64] | None = None,
    num_draws: int = 200,
    seed: int = 0,
) -> float:
    """Estimate the bias of the accuracy of the candidate with the lowest mean loss; at least 0.

    Args:
        losses: (M, N) out-of-fold log-loss of each candidate on each sample.
        hits: (M, N) whether each candidate is correct.
        groups: (N,) groups, drawn whole; None without groups.
        sample_weights: (N,) sample weights, e.g. 1 / class size for balanced accuracy.
        num_draws: Bootstrap samples.
        seed: Random seed of the bootstrap.

    Source: Tsamardinos, Greasidou and Borboudakis (2018), bootstrap bias corrected cross-validation;
    the form with the full sample in place of the out-of-bag one is Efron's estimate of optimism (1983).
    """
    num_candidates, num = losses.shape
    if num_candidates < 2 or num < 2:
        return 0.0
    loss = np.asarray(losses, dtype=np.float64)
    weight = np.ones(num) if sample_weights is None else sample_weights
    scored = hits * weight  # (M, N)
    full = scored.sum(axis=1) / weight.sum()
    draws = _draw_counts(num, groups, num_draws, np.random.default_rng(seed))  # (B, N)
    chosen = (draws @ loss.T).argmin(axis=1)  # (B,)
    inside = (draws @ scored.T) / (draws @ weight)[:, None]  # (B, M)
    excess = inside - full  # (B, M) score in the bootstrap sample minus that on all samples
    # The excess of one fixed candidate is 0 on average: subtracting it removes most of the noise of the draws.
    fixed = excess[:, loss.mean(axis=1).argmin()]
    return max(0.0, float((excess[np.arange(num_draws), chosen] - fixed).mean()))


def _draw_counts(
    num: int, groups: NDArray[np.int64] | None, num_draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return (B, N) bootstrap counts."""
    if groups is None:
        return rng.multinomial(num, np.full(num, 1.0 / num), size=num_draws).astype(np.float64)
    _, position = np.unique(groups, return_inverse=True)
    num_groups = int(position.max()) + 1
    counts = rng.multinomial(num_groups, np.full(num_groups, 1.0 / num_groups), size=num_draws)
    return counts[:, position].astype(np.float64)
