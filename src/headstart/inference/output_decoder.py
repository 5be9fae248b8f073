"""Decode OOD score, OOD decision and prediction set of an image.

Outputs that the bundle does not support are None; requesting them is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import UsageError

if TYPE_CHECKING:
    from headstart.inference.bundle import Bundle

__all__ = ["OutputDecoder"]


class OutputDecoder:
    """Decoder of OOD scores and prediction sets at the requested rates.

    Args:
        bundle: The model.
        ood_fpr: Fraction of known images that may be called unknown at most; None as the model was trained.
        coverage: Fraction of images whose set shall hold the true class; None as the model was trained.

    Raises:
        UsageError: A share does not fit, or the model holds nothing of the kind.

    Attributes:
        outputs: The network's outputs that are needed: `logits` and perhaps `residual_norm`.
        coverage: Coverage of the sets, at least the requested one; None without sets.
    """

    def __init__(self, bundle: Bundle, ood_fpr: float | None = None, coverage: float | None = None) -> None:
        self._names = bundle.class_names
        self._rule = bundle.ood
        if ood_fpr is not None and bundle.ood is None:
            raise UsageError(f"`{bundle.path}` cannot tell unknown images: it holds nothing for --ood-fpr.")
        if coverage is not None and bundle.prediction_sets is None:
            raise UsageError(f"`{bundle.path}` kept no sets of classes: it holds nothing for --coverage.")
        try:
            self._threshold = math.inf if bundle.ood is None else bundle.ood.threshold(ood_fpr)
            stored = None if bundle.prediction_sets is None else bundle.prediction_sets.at(coverage)
        except ValueError as error:
            raise UsageError(f"{error}.", hint="for example --ood-fpr 5% or --coverage 90%") from error
        if ood_fpr is not None and math.isinf(self._threshold):
            raise UsageError(
                f"too few known images for an OOD threshold at --ood-fpr {100 * ood_fpr:g}%.",
                hint="ask for a larger share",
            )
        self.coverage: float | None = None if stored is None else stored[0]
        self._thresholds: NDArray[np.float64] | None = None if stored is None else stored[1]
        self.outputs = (
            ("logits", "residual_norm") if self._rule is not None and self._rule.has_residual_norm else ("logits",)
        )

    def ood_score(self, probabilities: NDArray[np.float64], outputs: Sequence[NDArray[Any]]) -> float | None:
        """Return the OOD score of one image from its (K,) probabilities and its row of each of the `outputs`."""
        if self._rule is None:
            return None
        rest = np.asarray(outputs[1]).reshape(1) if len(self.outputs) > 1 else None
        return float(self._rule.combine(probabilities.max(keepdims=True), rest)[0])

    def is_ood(self, ood_score: float | None) -> bool | None:
        """Return whether an image is OOD; None if unavailable."""
        return None if ood_score is None or math.isinf(self._threshold) else ood_score > self._threshold

    def prediction_set(self, probabilities: NDArray[np.float64]) -> tuple[str, ...] | None:
        """Return the class names of the prediction set, most probable first."""
        if self._thresholds is None:
            return None
        order = np.argsort(-probabilities, kind="stable")
        return tuple(self._names[i] for i in order if probabilities[i] >= self._thresholds[i])
