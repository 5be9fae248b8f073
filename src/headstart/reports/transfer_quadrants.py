"""Classify a dataset by size and similarity to the pretraining data (Stanford CS231n, transfer learning).

Similarity is measured by the log-loss reduction from features of earlier, more general stages: for images similar to
the pretraining data the last features suffice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headstart.messages.sections import ADVICE, similarity_message, size_message
from headstart.reports.result_summary import ResultSummary

__all__ = ["find_quadrant"]

_LARGE = 500  # training images per class (median) of a large dataset
_FLAT = 0.01  # large dataset: doubling the images gains less than this
_DIFFERENT = 0.20  # different images: log-loss reduction by earlier stages of at least this


def find_quadrant(s: ResultSummary) -> dict[str, Any]:
    """Return `size` and `similarity` (None if not measured) with measurement (`_basis`) and text."""
    counts = [n for n in s.train_counts if n]
    size_basis: dict[str, Any]
    if s.curve is not None:
        size = "large" if (s.curve.high if s.curve.high is not None else s.curve.gain) < _FLAT else "small"
        size_basis = {"gain_of_doubling": s.curve.gain, "threshold": _FLAT}
    else:
        median = float(np.median(counts)) if counts else 0.0
        size = "large" if median >= _LARGE else "small"
        size_basis = {"median_count": int(median), "threshold": _LARGE}
    similarity, basis = None, None
    if s.block_losses is not None:
        alone, best = s.block_losses
        fall = 1.0 - best / alone if alone > 0 else 0.0
        similarity = "different" if fall >= _DIFFERENT else "similar"
        basis = {"fall": fall, "log_loss_last_stage": alone, "log_loss_best": best, "threshold": _DIFFERENT}
    return {
        "size": size,
        "size_basis": size_basis,
        "size_reason": size_message(size_basis),
        "similarity": similarity,
        "similarity_basis": basis,
        "similarity_reason": similarity_message(basis),
        "advice": None if similarity is None else ADVICE[(size, similarity)],
        "all": [{"size": a, "similarity": b, "advice": text} for (a, b), text in ADVICE.items()],
    }
