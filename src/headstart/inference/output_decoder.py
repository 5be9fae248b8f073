"""Compute the OOD score, OOD decision and prediction set of an image from the network outputs.

They are None if the bundle does not support them; requesting a rate for one then raises an error.
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
        bundle: Bundle with the OOD and prediction-set rules.
        ood_fpr: Maximum false-positive rate of OOD detection; None uses the value stored in the bundle.
        coverage: Coverage of prediction sets; None uses the value stored in the bundle.

    Raises:
        UsageError: A rate is out of range or not supported by the bundle.

    Attributes:
        outputs: Names of the required network outputs: `logits`, and `residual_norm` if the OOD rule uses it.
        coverage: Coverage of the prediction sets, at least the requested one; None without prediction sets.
    """

    def __init__(self, bundle: Bundle, ood_fpr: float | None = None, coverage: float | None = None) -> None:
        self._names = bundle.class_names
        self._rule = bundle.ood
        if ood_fpr is not None and bundle.ood is None:
            raise UsageError(f"`{bundle.path}` has no OOD detection, so --ood-fpr cannot be used.")
        if coverage is not None and bundle.prediction_sets is None:
            raise UsageError(f"`{bundle.path}` has no prediction sets, so --coverage cannot be used.")
        try:
            self._threshold = math.inf if bundle.ood is None else bundle.ood.threshold(ood_fpr)
            stored = None if bundle.prediction_sets is None else bundle.prediction_sets.at(coverage)
        except ValueError as error:
            raise UsageError(f"{error}.", hint="for example --ood-fpr 5% or --coverage 90%") from error
        if ood_fpr is not None and math.isinf(self._threshold):
            raise UsageError(
                f"the model has too few calibration images for --ood-fpr {100 * ood_fpr:g}%.",
                hint="use a larger value",
            )
        self.coverage: float | None = None if stored is None else stored[0]
        self._thresholds: NDArray[np.float64] | None = None if stored is None else stored[1]
        self.outputs = (
            ("logits", "residual_norm") if self._rule is not None and self._rule.has_residual_norm else ("logits",)
        )

    def ood_score(self, probabilities: NDArray[np.float64], outputs: Sequence[NDArray[Any]]) -> float | None:
        """Return the OOD score of an image from its (K,) probabilities and its row of each network output."""
        if self._rule is None:
            return None
        residual_norm = np.asarray(outputs[1]).reshape(1) if len(self.outputs) > 1 else None
        return float(self._rule.combine(probabilities.max(keepdims=True), residual_norm)[0])

    def is_ood(self, ood_score: float | None) -> bool | None:
        """Return whether an image is OOD; None if unavailable."""
        return None if ood_score is None or math.isinf(self._threshold) else ood_score > self._threshold

    def prediction_set(self, probabilities: NDArray[np.float64]) -> tuple[str, ...] | None:
        """Return the class names of the prediction set, most probable first."""
        if self._thresholds is None:
            return None
        order = np.argsort(-probabilities, kind="stable")
        return tuple(self._names[i] for i in order if probabilities[i] >= self._thresholds[i])
