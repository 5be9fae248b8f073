"""Select a bounded, seeded set of images for a report, by position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.runs.scores import ScoredImages

__all__ = ["choose_cells", "choose_errors", "choose_samples", "choose_unsure"]

_SAMPLES = 96  # sample images of all classes
_SAMPLES_A_CLASS = 6
_CELL = 6  # images per cell of the confusion matrix
_CELLS = 120  # ... of all cells
_ERRORS, _UNSURE = 24, 12


def choose_samples(scored: ScoredImages, num_classes: int, seed: int = 0) -> list[list[int]]:
    """Return random images as one list of positions per class."""
    each = max(1, min(_SAMPLES_A_CLASS, _SAMPLES // max(1, num_classes)))
    rng = np.random.default_rng(seed)
    chosen: list[list[int]] = []
    left = _SAMPLES
    for k in range(num_classes):
        members = np.flatnonzero(scored.class_ids == k)
        take = min(each, len(members), left)
        chosen.append(sorted(int(i) for i in rng.choice(members, size=take, replace=False)) if take else [])
        left -= take
    return chosen


def choose_errors(scored: ScoredImages, where: NDArray[np.int64]) -> list[int]:
    """Return the most confident errors, most confident first."""
    wrong = where[~scored.is_correct[where]]
    return [int(i) for i in wrong[np.argsort(-scored.confidence[wrong], kind="stable")][:_ERRORS]]


def choose_unsure(scored: ScoredImages, where: NDArray[np.int64]) -> list[int]:
    """Return the least confident correct predictions, least confident first."""
    correct = where[scored.is_correct[where]]
    return [int(i) for i in correct[np.argsort(scored.confidence[correct], kind="stable")][:_UNSURE]]


def choose_cells(scored: ScoredImages, where: NDArray[np.int64]) -> dict[tuple[int, int], list[int]]:
    """Return images of off-diagonal cells, largest cells first and most confident first, up to the limit."""
    wrong = where[~scored.is_correct[where]]
    cells: dict[tuple[int, int], list[int]] = {}
    for i in wrong[np.argsort(-scored.confidence[wrong], kind="stable")]:
        cells.setdefault((int(scored.class_ids[i]), int(scored.predicted[i])), []).append(int(i))
    left = _CELLS
    chosen: dict[tuple[int, int], list[int]] = {}
    for cell, members in sorted(cells.items(), key=lambda item: (-len(item[1]), item[0])):
        take = min(_CELL, len(members), left)
        if take == 0:
            break
        chosen[cell] = members[:take]
        left -= take
    return chosen
