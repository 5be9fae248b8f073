"""Refit the closed-form head on features of a fine-tuned network.

Fine-tuned features have memorized the training images, so leave-one-out would be biased: feature set, normalization,
penalties and ensemble weights of the original probe are reused, with updated means and deviations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.probe.ensemble import PenaltyChoice, mixed_coefficients
from headstart.probe.feature_sets import PENALTIES
from headstart.probe.feature_space import open_space
from headstart.probe.labels import check_labels
from headstart.probe.linear import LinearHead

__all__ = ["refit_head"]


def refit_head(
    head: LinearHead,
    rows: NDArray[np.float32],
    class_ids: NDArray[np.integer[Any]],
    choice: PenaltyChoice,
    *,
    class_weights: NDArray[np.floating[Any]] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Refit ridge and LDA with the probe's ensemble weights on other features of the same images.

    Args:
        head: The probe's head, whose normalizer produced the rows.
        rows: (N, D) float32 normalized features of the fine-tuned network.
        class_ids: (N,) in 0..K-1.
        choice: Penalties and mixture of the probe.
        class_weights: (K,) positive factors on the samples of each class.

    Returns:
        (K, D) weight and (K,) bias at temperature 1; a class without samples keeps those of `head`.
    """
    labels, present = check_labels(class_ids, head.num_classes, None, class_weights)
    space = open_space(head.normalizer, rows, labels)
    coefficients, constant = space.lift(*mixed_coefficients(space.totals, PENALTIES, choice))
    weight, bias = (part.copy() for part in head.folded())
    weight[present], bias[present] = coefficients, constant
    return weight, bias
