"""The closed-form head again, on features of a network that has been tuned since.

The one decision: nothing is chosen here.  A tuned network has learnt its own pictures, so leaving one of them out
of the head would say nothing honest; block set, normalisation, penalties and mixture are those that the probe
chose on the features of the untuned network.  The means and spreads are moved to the tuned features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.heads.labels import check_labels
from headstart.heads.linear import LinearHead
from headstart.heads.sets import PENALTIES
from headstart.heads.space import open_space
from headstart.heads.stack import Choice, mixed_coefficients

__all__ = ["refit_head"]


def refit_head(
    head: LinearHead,
    rows: NDArray[np.float32],
    class_ids: NDArray[np.integer[Any]],
    choice: Choice,
    *,
    class_weights: NDArray[np.floating[Any]] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ridge and LDA as the probe mixed them, fitted on other rows of the same pictures.

    Args:
        head: The probe's, whose normalisation made the rows.
        rows: (N, D) float32 normalised features of the tuned network.
        class_ids: (N,) in 0..K-1.
        choice: The penalties and the mixture that the probe chose.
        class_weights: (K,) positive factors on the samples of each class.

    Returns:
        (K, D) weight and (K,) bias at temperature 1; a class without samples keeps those of `head`.
    """
    labels, present = check_labels(class_ids, head.num_classes, None, class_weights)
    space = open_space(head.normaliser, rows, labels)
    found, constant = space.lift(*mixed_coefficients(space.totals, PENALTIES, choice))
    weight, bias = (part.copy() for part in head.folded())
    weight[present], bias[present] = found, constant
    return weight, bias
