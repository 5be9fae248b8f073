"""Verify a bundle against the trained model on the user's files, from decoding to softmax."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import BundleError
from headstart.evaluation.softmax import softmax
from headstart.inference.decoders import ClassDecoder, RowDecoder
from headstart.inference.runtime import Runtime
from headstart.messages.numbers import pluralize

__all__ = ["Parity", "check_parity"]

_MAX_FILES = 200
_MIN_FILES = 20  # compared even beyond the time budget
_BUDGET_S = 1.5  # 2 s with opening the session and the running batches
_OOD_TOLERANCE = 0.05  # 1/20 of the standard deviation of in-distribution scores
_TOLERANCE = 1e-3  # of a probability; float32 on another engine or processor differs by 1e-6 to 1e-4


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement of a bundle with the trained model.

    Attributes:
        num_files: Compared files.
        num_unreadable: Files that were readable in training but no longer are.
        label_agreement: Fraction of files with the same most probable class, in [0, 1].
        max_difference: Maximum difference of a probability.
        tolerance: Maximum accepted difference.
        max_ood_score_difference: Maximum difference of the OOD score; None without OOD detection.
    """

    num_files: int
    num_unreadable: int
    label_agreement: float
    max_difference: float
    tolerance: float = _TOLERANCE
    max_ood_score_difference: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for `bundle.json` and `metrics.json`."""
        return asdict(self)


def check_parity(
    runtime: Runtime,
    sources: Sequence[Any],
    expected_logits: NDArray[np.floating[Any]],
    *,
    expected_ood_scores: NDArray[np.float64] | None = None,
    max_files: int = _MAX_FILES,
    budget_s: float = _BUDGET_S,
    tolerance: float = _TOLERANCE,
) -> Parity:
    """Compare predictions of a bundle with those of training.

    Args:
        runtime: The bundle.
        sources: Files (or images), compared in this order; shuffle them for a representative sample.
        expected_logits: (N, K) of the training path, temperature applied; rows with NaN are skipped.
        expected_ood_scores: (N,) of the training path, if the bundle has OOD detection.
        max_files: Maximum number of compared files.
        budget_s: Seconds after which the comparison ends, once 20 files are compared.
        tolerance: Maximum accepted difference of a probability.

    Returns:
        The comparison.

    Raises:
        BundleError: A probability differs by more than the tolerance, a label differs that is not a tie
            within it, an OOD score differs by more than 0.05, or no file could be compared.
    """
    usable = np.flatnonzero(np.isfinite(expected_logits).all(axis=1))[:max_files]
    expected = softmax(expected_logits[usable])
    started = time.monotonic()
    differences: list[float] = []
    num_same = num_unreadable = 0
    worst = ""
    decoder = ClassDecoder(runtime.bundle)
    ood_differences: list[float] = []
    with closing(runtime.predict((sources[i] for i in usable), RowDecoder(decoder.outputs))) as outputs:
        for i, (name, row), probabilities in zip(usable, outputs, expected, strict=False):
            if row is None:
                num_unreadable += 1
                continue
            actual = softmax(row[0])
            difference = float(np.abs(actual - probabilities).max())
            if difference >= max(differences, default=0.0):
                worst = name
            differences.append(difference)
            if expected_ood_scores is not None:
                (score,) = decoder.ood_scores(actual[None], [output[None] for output in row])
                ood_differences.append(abs(float(np.nan_to_num(score)) - float(expected_ood_scores[i])))
            # Classes of equal probability may be reordered by rounding errors.
            num_same += bool(probabilities[actual.argmax()] >= probabilities.max() - 2 * tolerance)
            if len(differences) >= _MIN_FILES and time.monotonic() - started > budget_s:
                break
    if not differences:
        raise BundleError(
            f"the saved model could not be compared with the trained one: none of "
            f"{pluralize(len(usable), 'file')} is readable.",
            hint="check whether the images were moved during training",
        )
    agreement = num_same / len(differences)
    furthest = max(ood_differences) if ood_differences else None
    parity = Parity(len(differences), num_unreadable, agreement, max(differences), tolerance, furthest)
    if not parity.max_difference <= tolerance or num_same < len(differences):
        raise BundleError(
            f"the saved model differs from the trained one: on `{worst}` a probability differs by "
            f"{parity.max_difference:.2g} (tolerance {tolerance:g}), and {num_same:,} of "
            f"{pluralize(len(differences), 'label')} agree.",
            hint="please report this with your versions of onnxruntime, Pillow and numpy",
        )
    if furthest is not None and not furthest <= _OOD_TOLERANCE:
        raise BundleError(
            f"the saved model differs from the trained one: an OOD score differs by {furthest:.2g} "
            f"(tolerance {_OOD_TOLERANCE:g}).",
            hint="please report this with your versions of onnxruntime, Pillow and numpy",
        )
    return parity
