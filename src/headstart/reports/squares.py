"""The four squares of size and similarity that the field teaches: which one these data are in, by measurement.

The one decision: similarity is not judged by eye but by how much the network's earlier, more general
features add to its last ones: where the pictures are like the photographs it learnt from, the last suffice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headstart.messages.numbers import percent, pluralize, signed_points
from headstart.reports.situation import Situation

__all__ = ["SQUARES", "find_square"]

SQUARES = {
    ("small", "similar"): "a new head on the last features of the frozen network",
    ("large", "similar"): "fine-tune the network; there are pictures enough that it does not overfit",
    ("small", "different"): "a new head on features of earlier stages: the last ones are too special",
    ("large", "different"): "fine-tune all of it from the pretrained weights; even training from nothing may do",
}
"""What the field advises by (size, similarity). Source: Stanford CS231n, notes on transfer learning."""

_LARGE = 500  # training pictures a class (median): the field gives no number
_FLAT = 0.01  # a doubling that brings less than this says that there are enough pictures
_DIFFERENT = 0.20  # fall of the log-loss by earlier stages from which on the pictures are called different


def find_square(s: Situation) -> dict[str, Any]:
    """Size and similarity of the data with the measurement behind each; None where nothing was measured."""
    counts = [n for n in s.train_counts if n]
    median = float(np.median(counts)) if counts else 0.0
    if s.curve is not None:
        size = "large" if (s.curve.high if s.curve.high is not None else s.curve.gain) < _FLAT else "small"
        why_size = (
            f"twice as many pictures would bring {signed_points(s.curve.gain)} points; below {100 * _FLAT:.0f} is large"
        )
    else:
        size = "large" if median >= _LARGE else "small"
        why_size = f"{pluralize(int(median), 'training image')} a class (median); the line is drawn at {_LARGE}"
    similarity, why = None, "how similar the pictures are to those the network learnt from was not measured"
    if s.block_losses is not None:
        alone, best = s.block_losses
        fall = 1.0 - best / alone if alone > 0 else 0.0
        similarity = "different" if fall >= _DIFFERENT else "similar"
        why = (
            f"features of earlier stages beside the last ones lower the log-loss of left-out pictures by "
            f"{percent(fall, 0)} (from {alone:.3f} to {best:.3f}); from {100 * _DIFFERENT:.0f} % on we say different"
        )
    return {
        "size": size,
        "size_reason": why_size,
        "similarity": similarity,
        "similarity_reason": why,
        "advice": None if similarity is None else SQUARES[(size, similarity)],
        "all": [{"size": a, "similarity": b, "advice": text} for (a, b), text in SQUARES.items()],
    }
